// Files as the format layer needs them: an owned descriptor and a read-only mapping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "linnet/result.h"

namespace linnet::format {

// The operating system's words for `error_number`.
std::string system_message(int error_number);

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd();

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Files up to this size are read into memory, where a change of the file no longer reaches them.
inline constexpr size_t kReadWhole = size_t{16} << 20;

// A whole regular file: read, or mapped read-only and shared with every process that maps it. A mapping
// outlives a rename or an unlink of the path; a file that another program truncates in place is lost to its
// readers (SIGBUS), which is why Linnet's writer always renames a new file into place, and why
// check_unchanged() is there. Thread safety: const members may be called from any thread.
class MappedFile {
 public:
  // Errors: kNotFound, kIo (path and the operating system's reason), kInvalidFile (empty, not a regular
  // file), kOutOfMemory.
  static Result<MappedFile> open(const std::filesystem::path& path, size_t read_whole = kReadWhole);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(fd_, other.fd_);
    std::swap(seconds_, other.seconds_);
    std::swap(nanoseconds_, other.nanoseconds_);
    return *this;
  }
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }
  bool is_mapped() const { return static_cast<bool>(fd_); }

  // Whether a mapped file still has the size and the time of change that it had when it was opened: what
  // reads its bytes after another program wrote into it reads something else, and past a new end ends the
  // process. Costs a microsecond, allocates nothing unless it fails. Errors: kIo.
  Result<void> check_unchanged() const;

  // Hints for a range inside bytes() (huge_pages: for any memory); what the system cannot do is skipped in
  // silence.
  static void will_need(std::span<const std::byte> range);  // start reading it from the disk now
  static void drop(std::span<const std::byte> range);  // give its pages back; a later read re-reads the file
  static void huge_pages(std::span<const std::byte> range);  // fewer TLB misses where the system allows it

 private:
  std::span<const std::byte> bytes_;
  UniqueFd fd_;                            // of a mapped file
  int64_t seconds_ = 0, nanoseconds_ = 0;  // of its last change
};

}  // namespace linnet::format
