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

// A whole regular file, mapped read-only and shared with every process that maps it. The mapping outlives a
// rename or an unlink of the path; a file that another program truncates in place is lost to its readers
// (SIGBUS), which is why Linnet's writer always renames a new file into place.
// Thread safety: const members may be called from any thread.
class MappedFile {
 public:
  // Errors: kNotFound, kIo (path and the operating system's reason), kInvalidFile (empty, not a regular
  // file).
  static Result<MappedFile> open(const std::filesystem::path& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

  // Hints for a range inside bytes() (huge_pages: for any memory); what the system cannot do is skipped in
  // silence.
  static void will_need(std::span<const std::byte> range);  // start reading it from the disk now
  static void drop(std::span<const std::byte> range);  // give its pages back; a later read re-reads the file
  static void huge_pages(std::span<const std::byte> range);  // fewer TLB misses where the system allows it

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

}  // namespace linnet::format
