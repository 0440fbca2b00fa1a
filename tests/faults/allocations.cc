#include "tests/faults/allocations.h"

#include <dlfcn.h>
#include <doctest/doctest.h>
#include <execinfo.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <string_view>

#include "tests/sanitized.h"

namespace linnet::test {
namespace {

// Constant-initialised: used before any constructor runs.
constinit std::atomic<int64_t> g_count{0}, g_live{0}, g_first{0}, g_last{0};
constinit std::atomic<bool> g_failed{false};

bool refused() {
  const int64_t now = g_count.fetch_add(1, std::memory_order_relaxed) + 1;
  const int64_t first = g_first.load(std::memory_order_relaxed);
  if (first == 0 || now < first || now > g_last.load(std::memory_order_relaxed)) return false;
  g_failed.store(true, std::memory_order_relaxed);
  return true;
}

void* counted(void* p) {
  if (p) g_live.fetch_add(1, std::memory_order_relaxed);
  return p;
}
[[maybe_unused]] void* no_memory() {
  errno = ENOMEM;
  return nullptr;
}

}  // namespace

void fail_from(int64_t nth, Failing failing) {
  g_failed = false;
  g_last = failing == Failing::kOne ? g_count + nth : INT64_MAX;
  g_first = g_count + nth;
}
void fail_never() { g_first = 0; }
bool has_failed() { return g_failed; }
int64_t allocations() { return g_count; }
int64_t live_allocations() { return g_live; }

namespace {

struct Attempt {
  bool failed = false, succeeded = false;  // an allocation was refused; the body went well all the same
  std::string wrong;                       // what is not as it must be; empty: nothing
  bool in_library = false;                 // the process ended where a library cannot tell (end_of_child)
};

// One run of the body with its nth allocation failing, between prepare and check.
Attempt attempt(const Trial& trial, int64_t nth, Failing failing) {
  Attempt out;
  const int64_t live = live_allocations();
  trial.prepare();
  {
    fail_from(nth, failing);
    const Result<void> result = trial.body();
    fail_never();
    out.failed = has_failed();
    out.succeeded = result.has_value();
    const bool speaks_of_memory = out.succeeded || result.error().code == ErrorCode::kOutOfMemory ||
                                  result.error().code == ErrorCode::kIo;
    if (!speaks_of_memory || (!out.succeeded && result.error().message.empty()))
      out.wrong = "the error does not speak of memory: " + result.error().message;
  }
  trial.check(out.succeeded);
  // out.wrong is short where all is well, and allocates nothing.
  if (out.wrong.empty() && live_allocations() != live)
    out.wrong = std::to_string(live_allocations() - live) + " allocations were not freed";
  return out;
}

enum : int { kError = 0, kSuccess = 1, kNoFailure = 2, kWrong = 3, kInLibrary = 4 };

// Two libraries take memory where they cannot tell that there is none: nlohmann's JSON values in their
// destructor, libstdc++'s directory_iterator when it goes on. Whether that is where the process ends is asked
// of addr2line, which comes with every compiler: dladdr does not know the functions that GCC cuts out of
// others.
bool is_known_end(std::string_view function) {
  function = function.substr(0, function.find('('));  // its parameters may be of these types in any function
  return function.find("nlohmann") != function.npos || function.find("directory_iterator") != function.npos;
}

void end_of_child() {
  fail_never();
  void* frames[24];
  const int count = backtrace(frames, 24);
  for (int i = 0; i < count; ++i) {
    Dl_info info = {};
    if (dladdr(frames[i], &info) == 0 || !info.dli_fname) continue;
    char command[512], line[512];
    std::snprintf(command, sizeof command, "addr2line -Cfe '%s' %#tx", info.dli_fname,
                  static_cast<char*>(frames[i]) - static_cast<char*>(info.dli_fbase) - 1);
    FILE* answer = popen(command, "r");
    const bool known = answer && std::fgets(line, sizeof line, answer) && is_known_end(line);
    if (answer) pclose(answer);
    if (known || (info.dli_sname && std::strstr(info.dli_sname, "directory_iterator"))) _exit(kInLibrary);
  }
  backtrace_symbols_fd(frames, count, STDERR_FILENO);
  std::abort();
}

// The same in a process of its own, for what may end the process.
Attempt attempt_in_child(const Trial& trial, int64_t nth, Failing failing) {
  std::fflush(nullptr);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::set_terminate(end_of_child);
    std::signal(SIGABRT, SIG_DFL);
    const Attempt made = attempt(trial, nth, failing);
    if (!made.wrong.empty()) std::fprintf(stderr, "%s\n", made.wrong.c_str());
    std::fflush(nullptr);
    _exit(!made.wrong.empty() ? kWrong : !made.failed ? kNoFailure : made.succeeded ? kSuccess : kError);
  }
  int status = 0;
  waitpid(child, &status, 0);
  Attempt out;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : kWrong;
  out.failed = code != kNoFailure;
  out.succeeded = code == kSuccess || code == kNoFailure;
  out.in_library = code == kInLibrary;
  if (code == kWrong || code > kInLibrary)
    out.wrong = WIFSIGNALED(status) ? "the process ended" : "see above";
  return out;
}

}  // namespace

void try_every_allocation(const Trial& trial, int64_t most) {
  INFO(trial.what);
  int64_t total = 0;
  for (int i = 0; i < 2; ++i) {  // the first time fills what is kept for the process
    trial.prepare();
    const int64_t before = allocations();
    const Result<void> plain = trial.body();
    total = allocations() - before;
    INFO((plain ? std::string() : plain.error().message));
    REQUIRE(plain.has_value());
    trial.check(true);
  }
  void* frame;
  (void)backtrace(&frame, 1);  // loads what it needs
  const bool every = std::getenv("LINNET_EVERY_ALLOCATION") != nullptr;
  const int64_t step = every ? 1 : std::max<int64_t>(1, (total + most - 1) / most);
  int64_t errors = 0, successes = 0, wrong = 0, in_library = 0;
  std::string first_wrong;
  for (const Failing failing : {Failing::kOne, Failing::kAllAfter}) {
    for (int64_t n = 1;; n += step) {
      const Attempt made = trial.in_child ? attempt_in_child(trial, n, failing) : attempt(trial, n, failing);
      if (!made.wrong.empty() && wrong++ == 0)
        first_wrong = "allocation " + std::to_string(n) + ": " + made.wrong;
      if (!made.failed) {
        CHECK(made.succeeded);
        break;
      }
      ++(made.in_library ? in_library : made.succeeded ? successes : errors);
    }
  }
  std::printf("%-36s %6lld allocations, every %lld. failing: %lld errors, %lld successes", trial.what.c_str(),
              static_cast<long long>(total), static_cast<long long>(step), static_cast<long long>(errors),
              static_cast<long long>(successes));
  std::printf(in_library > 0 ? ", %lld ends in a library\n" : "\n", static_cast<long long>(in_library));
  INFO(first_wrong);
  CHECK(wrong == 0);
  CHECK(errors > 0);
}

namespace {

[[maybe_unused]] void* try_new(size_t bytes, size_t alignment) noexcept {
  if (refused()) return nullptr;
  return counted(alignment <= alignof(std::max_align_t)
                     ? std::malloc(bytes ? bytes : 1)
                     : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment));
}
[[maybe_unused]] void* must_new(size_t bytes, size_t alignment) {
  void* p = try_new(bytes, alignment);
  if (!p) throw std::bad_alloc();
  return p;
}
[[maybe_unused]] void free_new(void* p) noexcept {
  if (p) g_live.fetch_sub(1, std::memory_order_relaxed);
  std::free(p);
}

}  // namespace
}  // namespace linnet::test

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)

extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* p, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void* p);

void* malloc(size_t bytes) {
  using namespace linnet::test;
  return refused() ? no_memory() : counted(__libc_malloc(bytes));
}
void* calloc(size_t count, size_t bytes) {
  using namespace linnet::test;
  return refused() ? no_memory() : counted(__libc_calloc(count, bytes));
}
void* realloc(void* p, size_t bytes) {
  using namespace linnet::test;
  if (refused()) return no_memory();
  void* moved = __libc_realloc(p, bytes);
  if (!p) return counted(moved);
  if (!moved && bytes == 0) g_live.fetch_sub(1, std::memory_order_relaxed);
  return moved;
}
void* memalign(size_t alignment, size_t bytes) {
  using namespace linnet::test;
  return refused() ? no_memory() : counted(__libc_memalign(alignment, bytes));
}
void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** to, size_t alignment, size_t bytes) {
  void* p = memalign(alignment, bytes);
  if (!p) return ENOMEM;
  *to = p;
  return 0;
}
void free(void* p) {
  if (p) linnet::test::g_live.fetch_sub(1, std::memory_order_relaxed);
  __libc_free(p);
}

// Files are mapped by this name; the C library maps its own memory by another.
void* mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) noexcept {
  using namespace linnet::test;
  if (refused()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  const long mapped = syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
  if (mapped != -1) g_live.fetch_add(1, std::memory_order_relaxed);
  return reinterpret_cast<void*>(mapped);
}
int munmap(void* address, size_t bytes) noexcept {
  const long done = syscall(SYS_munmap, address, bytes);
  if (done == 0) linnet::test::g_live.fetch_sub(1, std::memory_order_relaxed);
  return static_cast<int>(done);
}
}

#else

void* operator new(size_t bytes) { return linnet::test::must_new(bytes, 0); }
void* operator new[](size_t bytes) { return linnet::test::must_new(bytes, 0); }
void* operator new(size_t bytes, std::align_val_t a) {
  return linnet::test::must_new(bytes, static_cast<size_t>(a));
}
void* operator new[](size_t bytes, std::align_val_t a) {
  return linnet::test::must_new(bytes, static_cast<size_t>(a));
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return linnet::test::try_new(bytes, 0); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return linnet::test::try_new(bytes, 0); }
void* operator new(size_t bytes, std::align_val_t a, const std::nothrow_t&) noexcept {
  return linnet::test::try_new(bytes, static_cast<size_t>(a));
}
void* operator new[](size_t bytes, std::align_val_t a, const std::nothrow_t&) noexcept {
  return linnet::test::try_new(bytes, static_cast<size_t>(a));
}
void operator delete(void* p) noexcept { linnet::test::free_new(p); }
void operator delete[](void* p) noexcept { linnet::test::free_new(p); }
void operator delete(void* p, size_t) noexcept { linnet::test::free_new(p); }
void operator delete[](void* p, size_t) noexcept { linnet::test::free_new(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { linnet::test::free_new(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { linnet::test::free_new(p); }
void operator delete(void* p, std::align_val_t) noexcept { linnet::test::free_new(p); }
void operator delete[](void* p, std::align_val_t) noexcept { linnet::test::free_new(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { linnet::test::free_new(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { linnet::test::free_new(p); }

#endif
