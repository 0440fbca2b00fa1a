// Errors as values. Every fallible public function returns Result<T>; no exception crosses a public
// function. Thread safety: plain values.
#pragma once

#include <expected>
#include <string>
#include <utility>

namespace linnet {

enum class ErrorCode {
  kInvalidArgument,  // the caller asked for something that cannot be
  kInvalidFile,      // a file is damaged, hostile or of another version
  kUnsupported,      // well-formed, but Linnet (or this backend) lacks it
  kNotFound,         // a file, tensor, method or name does not exist
  kIo,               // the operating system refused: message carries its reason
  kOutOfMemory,      // a bound or an allocation was too small; message carries both numbers
  kPoisoned,         // the session failed earlier; reset() or restore() first
  kNumeric,          // NaN or infinity where a finite number is needed
  kCancelled,        // the caller's callback asked to stop
  kInternal,         // a broken invariant of our own
};

// `message` is one sentence for a person: what was wrong, where (file, node, tensor; expected and found),
// and what to do about it.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

template <typename T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(ErrorCode code, std::string message) {
  return std::unexpected<Error>(Error{code, std::move(message)});
}

}  // namespace linnet

// Returns the error of `expr` from the enclosing function, if it has one.
#define LINNET_TRY(expr)                                                              \
  do {                                                                                \
    if (auto linnet_try_result_ = (expr); !linnet_try_result_)                        \
      return std::unexpected<::linnet::Error>(std::move(linnet_try_result_).error()); \
  } while (false)

#define LINNET_CONCAT_INNER(a, b) a##b
#define LINNET_CONCAT(a, b) LINNET_CONCAT_INNER(a, b)

// LINNET_ASSIGN(auto x, f()): declares or assigns x from a Result, or returns its error.
#define LINNET_ASSIGN(lhs, expr) LINNET_ASSIGN_IMPL(LINNET_CONCAT(linnet_result_, __COUNTER__), lhs, expr)
#define LINNET_ASSIGN_IMPL(tmp, lhs, expr)                                   \
  auto tmp = (expr);                                                         \
  if (!tmp) return std::unexpected<::linnet::Error>(std::move(tmp).error()); \
  lhs = std::move(*tmp)
