#include "runtime/core/memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <limits>

namespace linnet {
namespace {

constexpr size_t kUnlimited = std::numeric_limits<size_t>::max();

// A file with one number; kUnlimited where there is none ("max", or no such file).
size_t number_in(const char* path) {
  std::FILE* file = std::fopen(path, "re");
  if (!file) return kUnlimited;
  unsigned long long value = 0;
  const bool read = std::fscanf(file, "%llu", &value) == 1;
  std::fclose(file);
  return read && value > 0 ? static_cast<size_t>(value) : kUnlimited;
}

}  // namespace

size_t memory_of_system() {
  size_t bytes = kUnlimited;
#ifdef _SC_PHYS_PAGES
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0) bytes = static_cast<size_t>(pages) * static_cast<size_t>(page);
#endif
  struct rlimit limit = {};
  for (const auto resource : {RLIMIT_AS, RLIMIT_DATA})
    if (getrlimit(resource, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
      bytes = std::min(bytes, static_cast<size_t>(limit.rlim_cur));
  bytes = std::min(bytes, number_in("/sys/fs/cgroup/memory.max"));
  return std::min(bytes, number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
}

size_t default_memory_limit() {
  const size_t all = memory_of_system();
  return all / 4 * 3;
}

}  // namespace linnet
