// No exception leaves a public function. What the standard library throws on the way, nearly always because
// memory is short, becomes an error here: every public function that can fail runs its body through
// guarded().
#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <system_error>
#include <type_traits>
#include <utility>

#include "linnet/result.h"

namespace linnet {

// `brief` has at most 15 characters, which a std::string keeps in itself: where there is no memory for
// `message` either, the error is still told.
inline Error error_without_memory(ErrorCode code, const char* message, const char* brief) noexcept {
  Error error;
  error.code = code;
  try {
    error.message = message;
  } catch (...) {
    error.message = brief;
  }
  return error;
}

inline Error out_of_memory() noexcept {
  return error_without_memory(
      ErrorCode::kOutOfMemory,
      "the system has no memory left: close other programs, or lower the window, the context or the chunk",
      "out of memory");
}

inline bool wants_memory(const std::system_error& e) {
  return e.code() == std::errc::not_enough_memory || e.code() == std::errc::resource_unavailable_try_again;
}

// The error that stands for the exception being handled; call it in a catch block.
inline Error error_of_exception() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::length_error&) {  // more than any memory holds
    return out_of_memory();
  } catch (const std::system_error& e) {
    return wants_memory(e) ? out_of_memory() : error_without_memory(ErrorCode::kIo, e.what(), "system error");
  } catch (const std::exception& e) {
    return error_without_memory(ErrorCode::kInternal, e.what(), "exception");
  } catch (...) {
    return error_without_memory(ErrorCode::kInternal, "an unexpected exception", "exception");
  }
}

// Runs body(), which returns a Result, and returns what it returns; an exception becomes an error.
template <typename Body>
std::invoke_result_t<const Body&> guarded(const Body& body) noexcept {
  try {
    return body();
  } catch (...) {
    return std::unexpected<Error>(error_of_exception());
  }
}

}  // namespace linnet
