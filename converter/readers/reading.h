// Where a file is read by code that throws (the file system, access to JSON), the exception becomes an error
// that names the file.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <system_error>
#include <type_traits>

#include "linnet/result.h"
#include "runtime/core/guard.h"
#include "runtime/core/strings.h"

namespace linnet::convert {

// Runs body(), which returns a Result. "'PATH' cannot be READ: ..." as kInvalidFile for what it throws, but
// for want of memory, which is thrown on: public functions make kOutOfMemory of it (guard.h).
template <typename Body>
std::invoke_result_t<const Body&> reading(const std::string& path, const char* read, const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    if (const auto* error = dynamic_cast<const std::system_error*>(&e); error && wants_memory(*error)) throw;
    return fail(ErrorCode::kInvalidFile, strf("'{}' cannot be {}: {}", path, read, e.what()));
  }
}

}  // namespace linnet::convert
