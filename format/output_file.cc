#include "format/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "runtime/core/strings.h"

namespace linnet::format {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

// A name beside `path` that nothing has; the process id keeps two conversions to one path apart.
std::filesystem::path temporary_name(const std::filesystem::path& path, int attempt) {
  const std::string name = "." + path.filename().string() + strf(".{}.{}.partial", getpid(), attempt);
  return folder_of(path) / name;
}
constexpr int kAttempts = 100;

}  // namespace

Result<OutputFile> OutputFile::create(const std::filesystem::path& path, uint64_t expected_bytes,
                                      bool unnamed) {
  const std::filesystem::path folder = folder_of(path);
  std::error_code error;
  if (!path.has_filename() || std::filesystem::is_directory(path, error))
    return fail(ErrorCode::kInvalidArgument, strf("cannot write to '{}': it is a folder", path.string()));
  // Renaming would put a file in the place of a device or a pipe.
  if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error))
    return fail(ErrorCode::kInvalidArgument,
                strf("cannot write to '{}': it is not a regular file", path.string()));
  if (!std::filesystem::is_directory(folder, error))
    return fail(ErrorCode::kNotFound,
                strf("cannot write '{}': the folder '{}' does not exist", path.string(), folder.string()));
  if (expected_bytes > 0) {
    const auto space = std::filesystem::space(folder, error);
    if (!error && space.available < expected_bytes)
      return fail(ErrorCode::kIo,
                  strf("cannot write '{}': it needs {} bytes, and the disk has {} free; free some or "
                       "choose another folder",
                       path.string(), expected_bytes, space.available));
  }
#ifdef O_TMPFILE
  if (unnamed) {
    UniqueFd fd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666));
    if (fd) return OutputFile(std::move(fd), path, {}, expected_bytes);
  }
#else
  (void)unnamed;
#endif
  int last_error = 0;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::filesystem::path temporary = temporary_name(path, attempt);
    UniqueFd fd(::open(temporary.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666));
    if (fd) return OutputFile(std::move(fd), path, std::move(temporary), expected_bytes);
    last_error = errno;
    if (last_error != EEXIST) break;
  }
  return fail(ErrorCode::kIo, strf("cannot write '{}': {}", path.string(), system_message(last_error)));
}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

std::unexpected<Error> OutputFile::io_error(const char* doing, int error) const {
  std::string message = strf("cannot {} '{}': {}", doing, path_.string(), system_message(error));
  if (error == ENOSPC || error == EDQUOT || error == EFBIG)
    message += strf("; it needs at least {} bytes: free some or choose another folder",
                    std::max(expected_bytes_, size_));
  return fail(ErrorCode::kIo, message + " (nothing was left behind)");
}

Result<void> OutputFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  size_ = std::max(size_, offset + bytes.size());
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return io_error("write", n < 0 ? errno : ENOSPC);
    offset += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Result<void> OutputFile::publish() {
  if (fsync(fd_.get()) != 0) return io_error("write", errno);
#ifdef POSIX_FADV_DONTNEED
  // What was written lies in the page cache in small pages, and pages that are there are mapped as they are:
  // a decode then reads a quarter slower. Dropped, the file comes back in huge pages where the system has
  // them.
  posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED);
#endif
  if (temporary_.empty()) {
    // A file without a name gets a temporary one first: linking cannot replace what is there, renaming can.
    const std::string self = strf("/proc/self/fd/{}", fd_.get());
    for (int attempt = 0; temporary_.empty(); ++attempt) {
      std::filesystem::path name = temporary_name(path_, attempt);
      if (linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0)
        temporary_ = std::move(name);
      else if (errno != EEXIST || attempt == kAttempts)
        return io_error("name", errno);
    }
  }
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return io_error("rename", errno);
  temporary_.clear();
  // The name itself is on the disk only when its folder is.
  const UniqueFd folder(::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder) fsync(folder.get());
  return {};
}

}  // namespace linnet::format
