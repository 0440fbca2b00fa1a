// The directory of a ZIP file whose members are stored as they are, as torch.save writes it.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

#include "linnet/result.h"

namespace linnet::convert {

// The members' bytes by name, spans of `file`; `name` is for messages. Reads ZIP64 too. Errors: kInvalidFile
// for what is truncated, damaged or compressed.
Result<std::map<std::string, std::span<const std::byte>>> read_stored_zip(std::span<const std::byte> file,
                                                                          const std::string& name);

}  // namespace linnet::convert
