#include "format/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <system_error>

#include "runtime/core/strings.h"

namespace linnet::format {
namespace {

// `inward`: only pages that lie wholly in the range, so that neighbours keep theirs.
void advise(std::span<const std::byte> range, int advice, bool inward) {
  if (range.empty()) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  auto first = reinterpret_cast<uintptr_t>(range.data());
  uintptr_t last = first + range.size();
  first = inward ? (first + page - 1) / page * page : first / page * page;
  if (inward) last = last / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, advice);
}

}  // namespace

std::string system_message(int error_number) { return std::generic_category().message(error_number); }

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) close(fd_);
}

Result<MappedFile> MappedFile::open(const std::filesystem::path& path, size_t read_whole) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    const int error = errno;
    return fail(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                strf("cannot open '{}': {}", path.string(), system_message(error)));
  }
  struct stat info = {};
  if (fstat(fd.get(), &info) != 0)
    return fail(ErrorCode::kIo, strf("cannot read '{}': {}", path.string(), system_message(errno)));
  if (!S_ISREG(info.st_mode))
    return fail(ErrorCode::kInvalidFile, strf("'{}' is not a regular file{}", path.string(),
                                              S_ISDIR(info.st_mode) ? " but a folder" : ""));
  if (info.st_size == 0) return fail(ErrorCode::kInvalidFile, strf("'{}' is empty", path.string()));
  if (static_cast<uint64_t>(info.st_size) > std::numeric_limits<size_t>::max() / 2)
    return fail(ErrorCode::kOutOfMemory,
                strf("'{}' has {} bytes, more than this machine can address", path.string(), info.st_size));
  const auto size = static_cast<size_t>(info.st_size);
  const bool copied = size <= read_whole;
  void* data = copied ? mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                      : mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED)
    return fail(errno == ENOMEM ? ErrorCode::kOutOfMemory : ErrorCode::kIo,
                strf("cannot map '{}' ({} bytes): {}", path.string(), size, system_message(errno)));
  MappedFile file;
  file.bytes_ = std::span(static_cast<const std::byte*>(data), size);
  if (copied) {
    for (size_t done = 0; done < size;) {
      const ssize_t n =
          pread(fd.get(), static_cast<std::byte*>(data) + done, size - done, static_cast<off_t>(done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0)
        return fail(ErrorCode::kIo, strf("cannot read '{}': {}", path.string(),
                                         n < 0 ? system_message(errno) : "it became shorter meanwhile"));
      done += static_cast<size_t>(n);
    }
    mprotect(data, size, PROT_READ);
    return file;
  }
  file.seconds_ = info.st_mtim.tv_sec;
  file.nanoseconds_ = info.st_mtim.tv_nsec;
  file.fd_ = std::move(fd);
  return file;
}

Result<void> MappedFile::check_unchanged() const {
  if (!fd_) return {};
  struct stat info = {};
  if (fstat(fd_.get(), &info) != 0)
    return fail(ErrorCode::kIo, strf("its file can no longer be read: {}", system_message(errno)));
  if (static_cast<size_t>(info.st_size) != bytes_.size())
    return fail(ErrorCode::kIo, strf("its file was changed by another program: it has {} bytes and had {}",
                                     info.st_size, bytes_.size()));
  if (info.st_mtim.tv_sec != seconds_ || info.st_mtim.tv_nsec != nanoseconds_)
    return fail(ErrorCode::kIo, "its file was written to by another program");
  return {};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::will_need(std::span<const std::byte> range) { advise(range, MADV_WILLNEED, false); }
void MappedFile::drop(std::span<const std::byte> range) { advise(range, MADV_DONTNEED, true); }
void MappedFile::huge_pages(std::span<const std::byte> range) {
#ifdef MADV_HUGEPAGE
  advise(range, MADV_HUGEPAGE, true);
#else
  (void)range;
#endif
}

}  // namespace linnet::format
