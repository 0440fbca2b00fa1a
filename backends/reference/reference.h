// The reference backend: plain loops that define what each op means. Slow on purpose; every other backend is
// held to it, and it is held to the official PyTorch code.
#pragma once

#include "runtime/engine/backend_factory.h"

namespace linnet {

// One thread whatever is asked. Stateless: one instance may serve any number of sessions.
const Backend& reference_backend();
const BackendFactory& reference_factory();

}  // namespace linnet
