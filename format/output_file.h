// A file that comes into being whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "format/file.h"
#include "linnet/result.h"

namespace linnet::format {

// Bytes are written anywhere, and publish() gives the file its name. Destruction before that removes it.
// One thread at a time.
class OutputFile {
 public:
  static Result<OutputFile> create(const std::filesystem::path& path, uint64_t expected_bytes, bool unnamed);

  OutputFile(OutputFile&& other) noexcept
      : fd_(std::move(other.fd_)),
        path_(std::move(other.path_)),
        temporary_(std::exchange(other.temporary_, {})),
        expected_bytes_(other.expected_bytes_),
        size_(other.size_) {}
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  // What is never written reads as zero.
  Result<void> write_at(uint64_t offset, std::span<const std::byte> bytes);
  // Waits for the disk, then names the file, replacing one that is there.
  Result<void> publish();

 private:
  OutputFile(UniqueFd fd, std::filesystem::path path, std::filesystem::path temporary,
             uint64_t expected_bytes)
      : fd_(std::move(fd)),
        path_(std::move(path)),
        temporary_(std::move(temporary)),
        expected_bytes_(expected_bytes) {}
  std::unexpected<Error> io_error(const char* doing, int error) const;

  UniqueFd fd_;
  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty while the file has no name
  uint64_t expected_bytes_ = 0;
  uint64_t size_ = 0;  // where the last write ended, or would have
};

}  // namespace linnet::format
