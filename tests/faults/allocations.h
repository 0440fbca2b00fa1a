// Allocations of the whole process that can be counted and made to fail. allocations.cc replaces the system's
// functions in this executable: malloc and its relatives and mmap, so that operator new, FlatBuffers, PCRE2,
// libpng and the C library are covered alike; under AddressSanitizer, which has its own malloc, operator new
// alone.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "linnet/result.h"

namespace linnet::test {

enum class Failing {
  kOne,       // one allocation fails, the next succeed: what follows the first error is reached
  kAllAfter,  // none succeeds from there on: neither does that of an error's message
};

void fail_from(int64_t nth, Failing failing);  // the nth allocation from now on, counted from 1
void fail_never();
bool has_failed();           // an allocation was refused since fail_from()
int64_t allocations();       // since the process began
int64_t live_allocations();  // not freed yet

// Runs body() with each of its allocations failing, one after another, until it no longer meets the one that
// would fail. Each must give an error that speaks of memory (kOutOfMemory, or kIo where the C library reports
// it so) or success, and leave nothing allocated. `prepare` comes before each time and `check` after it, with
// all allocations succeeding; what prepare makes, check frees. Without LINNET_EVERY_ALLOCATION in the
// environment at most `most` places are tried, spread evenly.
struct Trial {
  std::string what;
  std::function<Result<void>()> body;
  std::function<void()> prepare = [] {};
  std::function<void(bool succeeded)> check = [](bool) {};
  // Each time in a process of its own. For conversions: the destructor of a JSON value (nlohmann's) and a
  // directory's iterator take memory, and where there is none the process ends. That is counted and allowed;
  // every other end is not.
  bool in_child = false;
};
void try_every_allocation(const Trial& trial, int64_t most = 3000);

// Whether it went well, without its value.
template <typename T>
Result<void> done(Result<T> result) {
  if (!result) return std::unexpected(std::move(result.error()));
  return {};
}

}  // namespace linnet::test
