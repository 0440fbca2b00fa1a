// The backends of this build by name: backends.def.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "runtime/engine/backend_factory.h"

namespace linnet {

// In the order of backends.def. One that this build or machine lacks is there, and says so when it is opened.
std::span<const BackendFactory* const> backends();

// Null if there is none of that name.
const BackendFactory* backend_named(std::string_view name);

// "cpu, vulkan or reference"; of one kind, or of all.
std::string backend_names();
std::string backend_names(BackendKind kind);

// Errors: kInvalidArgument for an unknown name; what the backend's factory says.
Result<std::shared_ptr<const Backend>> open_backend(std::string_view name,
                                                    const BackendOptions& options = {});

}  // namespace linnet
