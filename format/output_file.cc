#include "format/output_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <optional>
#include <system_error>

#include "runtime/core/strings.h"

namespace linnet::format {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// A name beside `path` that nothing has: it is made with O_EXCL, which also follows no link. The process id
// keeps two savers apart.
fs::path temporary_name(const fs::path& path, int attempt) {
  return folder_of(path) / strf(".linnet.{}.{}.partial", getpid(), attempt);
}
constexpr int kAttempts = 100;

std::string process_link(int fd) { return strf("/proc/self/fd/{}", fd); }

// The descriptor that a path of the system's own names. Opened anew, a file behind it would be overwritten
// from its beginning.
std::optional<int> descriptor_named(const fs::path& path) {
  const std::string text = path.lexically_normal().string();
  if (text == "/dev/stdout") return STDOUT_FILENO;
  if (text == "/dev/stderr") return STDERR_FILENO;
  for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!text.starts_with(folder)) continue;
    int fd = -1;
    const char* const begin = text.data() + folder.size();
    const char* const end = text.data() + text.size();
    if (const auto parsed = std::from_chars(begin, end, fd);
        parsed.ec == std::errc() && parsed.ptr == end && fd >= 0)
      return fd;
  }
  return std::nullopt;
}

// What is known of a path before anything is opened.
struct Target {
  fs::path path;                  // behind symbolic links
  bool stream = false;            // a pipe or a character device
  std::optional<int> descriptor;  // a stream that this process has open
  mode_t permissions = 0666;      // at most
};

std::unexpected<Error> refuse(const fs::path& path, std::string_view why) {
  return fail(ErrorCode::kInvalidArgument, strf("cannot write to '{}': {}", path.string(), why));
}

std::unexpected<Error> exists_already(const fs::path& path) {
  return fail(ErrorCode::kInvalidArgument,
              strf("'{}' exists already: --force replaces it, or name another file", path.string()));
}

std::string advice(int error) {
  if (error == EACCES || error == EPERM || error == EROFS) return "; choose a folder you may write to";
  return "";
}

Result<Target> file_there(Target target, const fs::path& path, const struct stat& info,
                          const OutputOptions& options) {
  if (S_ISDIR(info.st_mode)) return refuse(path, "it is a folder");
  if (S_ISREG(info.st_mode)) {
    if (!options.replace) return exists_already(path);
    if (access(target.path.c_str(), W_OK) != 0)
      return fail(ErrorCode::kIo,
                  strf("cannot write '{}': it is there and read-only ({}); change its permissions, or name "
                       "another file",
                       path.string(), system_message(errno)));
    target.permissions = info.st_mode & 0777;
    return target;
  }
  target.stream = S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode);
  if (!target.stream || !options.stream)
    return refuse(path, strf("it is not a regular file but a {}, which this cannot be written to",
                             S_ISFIFO(info.st_mode)   ? "pipe"
                             : S_ISSOCK(info.st_mode) ? "socket"
                                                      : "device"));
  return target;
}

Result<Target> find_target(const fs::path& path, const OutputOptions& options) {
  Target target;
  target.path = path;
  if (!path.has_filename()) return refuse(path, "it is a folder");
  if ((target.descriptor = descriptor_named(path))) {
    if (!options.stream) return refuse(path, "it is a stream, and this needs a file of its own: name one");
    target.stream = true;
    return target;
  }
  std::error_code error;
  const fs::path folder = folder_of(path);
  if (!fs::is_directory(folder, error))
    return fail(ErrorCode::kNotFound,
                strf("cannot write '{}': the folder '{}' does not exist", path.string(), folder.string()));
  if (fs::is_symlink(path, error)) {
    target.path = fs::canonical(path, error);
    if (error)
      return refuse(path, strf("it is a link that leads nowhere ({}); remove it, or name the file itself",
                               error.message()));
  }
  struct stat info = {};
  if (stat(target.path.c_str(), &info) == 0) return file_there(std::move(target), path, info, options);
  if (errno != ENOENT)
    return fail(ErrorCode::kIo,
                strf("cannot write '{}': {}{}", path.string(), system_message(errno), advice(errno)));
  return target;
}

Result<Target> checked_target(const fs::path& path, const OutputOptions& options) {
  LINNET_ASSIGN(Target target, find_target(path, options));
  if (target.stream) return target;
  const fs::path folder = folder_of(target.path);
  if (access(folder.c_str(), W_OK) != 0)
    return fail(ErrorCode::kIo, strf("cannot write '{}': the folder '{}': {}{}", path.string(),
                                     folder.string(), system_message(errno), advice(errno)));
  std::error_code error;
  const auto space = fs::space(folder, error);
  if (!error && space.available < options.expected_bytes)
    return fail(ErrorCode::kIo,
                strf("cannot write '{}': it needs {} bytes, and the disk has {} free; free some or "
                     "choose another folder",
                     path.string(), options.expected_bytes, space.available));
  return target;
}

// A pipe waits here for its reader.
Result<UniqueFd> open_stream(const fs::path& path, const Target& target) {
  UniqueFd fd;
  do {
    fd = UniqueFd(target.descriptor ? fcntl(*target.descriptor, F_DUPFD_CLOEXEC, 0)
                                    : ::open(target.path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
  } while (!fd && errno == EINTR);
  if (!fd)
    return fail(ErrorCode::kIo,
                strf("cannot write to '{}': {}{}", path.string(), system_message(errno), advice(errno)));
  struct stat info = {};  // of what was opened: the name may lead elsewhere by now
  if (!target.descriptor &&
      (fstat(fd.get(), &info) != 0 || !(S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode))))
    return refuse(path, "it was replaced while it was opened");
  return fd;
}

// While it lives, a pipe whose reader has gone is an error of write() and not the end of the process.
class PipeSignalHeld {
 public:
  PipeSignalHeld() {
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    pending_before_ = sigismember(&pending, SIGPIPE) == 1;
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~PipeSignalHeld() {
    constexpr timespec kAtOnce = {};
    if (!pending_before_)
      while (sigtimedwait(&pipe_, nullptr, &kAtOnce) > 0) {
      }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  PipeSignalHeld(const PipeSignalHeld&) = delete;
  PipeSignalHeld& operator=(const PipeSignalHeld&) = delete;

 private:
  sigset_t pipe_, before_;
  bool pending_before_ = false;
};

}  // namespace

Result<void> check_output(const fs::path& path, const OutputOptions& options) {
  LINNET_TRY(checked_target(path, options));
  return {};
}

Result<void> check_cache(const fs::path& path) {
  auto checked = check_output(path, {});
  return !checked && checked.error().code == ErrorCode::kIo ? Result<void>() : checked;
}

Result<OutputFile> OutputFile::create(const fs::path& path, const OutputOptions& options) {
  LINNET_ASSIGN(Target target, checked_target(path, options));
  if (target.stream) {
    LINNET_ASSIGN(UniqueFd fd, open_stream(path, target));
    return OutputFile(std::move(fd), path, std::move(target.path), true, options);
  }
  OutputFile file({}, path, std::move(target.path), false, options);
#ifdef O_TMPFILE
  // Such a file gets its name through /proc, which a bare system may lack.
  if (options.unnamed && access("/proc/self/fd", X_OK) == 0)
    file.fd_ = UniqueFd(::open(folder_of(file.target_).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666));
#endif
  int reason = 0;
  for (int attempt = 0; !file.fd_ && attempt < kAttempts; ++attempt) {
    fs::path temporary = temporary_name(file.target_, attempt);
    file.fd_ = UniqueFd(::open(temporary.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666));
    reason = errno;
    if (file.fd_)
      file.temporary_ = std::move(temporary);
    else if (reason != EEXIST)
      break;
  }
  if (!file.fd_)
    return fail(ErrorCode::kIo,
                strf("cannot write '{}': {}{}", path.string(), system_message(reason), advice(reason)));
  struct stat info = {};
  if (fstat(file.fd_.get(), &info) == 0 && (info.st_mode & 0777 & ~target.permissions) != 0)
    fchmod(file.fd_.get(), info.st_mode & target.permissions);
  return file;
}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

std::unexpected<Error> OutputFile::io_error(const char* doing, int error) const {
  std::string message = strf("cannot {} '{}': {}", doing, path_.string(), system_message(error));
  if (stream_) return fail(ErrorCode::kIo, std::move(message));
  if (error == ENOSPC || error == EDQUOT || error == EFBIG)
    message += strf("; it needs at least {} bytes: free some or choose another folder",
                    std::max(options_.expected_bytes, size_));
  return fail(ErrorCode::kIo, message + advice(error) + " (nothing was left behind)");
}

Result<void> OutputFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  if (stream_) {
    if (offset != size_)
      return fail(ErrorCode::kInternal, strf("'{}' cannot be written out of order", path_.string()));
    size_ += bytes.size();
    return write_stream(bytes);
  }
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

Result<void> OutputFile::write_stream(std::span<const std::byte> bytes) {
  const PipeSignalHeld held;
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return io_error("write to", n < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

// Whatever has the name makes room.
Result<void> OutputFile::take_name() {
  // A file without a name gets a temporary one first: linking cannot replace what is there, renaming can.
  for (int attempt = 0; temporary_.empty(); ++attempt) {
    fs::path name = temporary_name(target_, attempt);
    if (linkat(AT_FDCWD, process_link(fd_.get()).c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0)
      temporary_ = std::move(name);
    else if (errno != EEXIST || attempt == kAttempts)
      return io_error("name", errno);
  }
  if (rename(temporary_.c_str(), target_.c_str()) != 0) return io_error("rename", errno);
  temporary_.clear();
  return {};
}

// Unlike renaming, linking fails where the name is taken, so that of two that write at once one is told.
Result<void> OutputFile::take_free_name() {
  const bool unnamed = temporary_.empty();
  const std::string from = unnamed ? process_link(fd_.get()) : temporary_.string();
  if (linkat(AT_FDCWD, from.c_str(), AT_FDCWD, target_.c_str(), unnamed ? AT_SYMLINK_FOLLOW : 0) == 0)
    return {};  // the temporary name goes with this object
  if (errno == EEXIST) return exists_already(path_);
  // Some file systems (FAT) know one name a file only.
  struct stat info = {};
  if (unnamed || (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS)) return io_error("name", errno);
  if (lstat(target_.c_str(), &info) == 0) return exists_already(path_);
  return take_name();
}

Result<void> OutputFile::publish() {
  // A pipe or a terminal has no disk to wait for.
  if (fsync(fd_.get()) != 0 && !(stream_ && (errno == EINVAL || errno == EROFS || errno == ENOTSUP)))
    return io_error("write", errno);
  if (stream_) return {};
#ifdef POSIX_FADV_DONTNEED
  if (options_.mapped) posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED);
#endif
  const fs::path folder_path = folder_of(target_);  // before the file has its name: this may find no memory
  LINNET_TRY(options_.replace ? take_name() : take_free_name());
  // The name itself is on the disk only when its folder is. A folder that cannot be read cannot be waited
  // for.
  const UniqueFd folder(::open(folder_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder && fsync(folder.get()) != 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP)
    return fail(ErrorCode::kIo, strf("'{}' is written, but not yet safe on the disk: its folder: {}",
                                     path_.string(), system_message(errno)));
  return {};
}

Result<void> write_file(const fs::path& path, std::initializer_list<std::span<const std::byte>> pieces,
                        OutputOptions options) {
  options.expected_bytes = 0;
  for (const auto piece : pieces) options.expected_bytes += piece.size();
  LINNET_ASSIGN(OutputFile file, OutputFile::create(path, options));
  for (const auto piece : pieces) LINNET_TRY(file.append(piece));
  return file.publish();
}

}  // namespace linnet::format
