// Types as people read and write them.
#pragma once

#include <string>
#include <vector>

#include "runtime/core/dtype.h"

namespace linnet {

std::vector<std::string> names_of(const DTypeList& types);
// "f32, f16 or q8": for messages.
std::string one_of(const DTypeList& types);

}  // namespace linnet
