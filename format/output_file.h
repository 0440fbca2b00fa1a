// The one way in which Linnet writes a file: it comes into being whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <utility>

#include "format/file.h"
#include "linnet/result.h"

namespace linnet::format {

struct OutputOptions {
  // If known: a disk that is too small is refused before any work is done.
  uint64_t expected_bytes = 0;
  // False: a file that is there already is refused, also one that came while this one was written.
  bool replace = true;
  // The format is written from front to back, so a pipe, a terminal or another character device takes it too.
  // Otherwise those are refused; they are never replaced by a file.
  bool stream = false;
  // The file will be mapped: see publish().
  bool mapped = false;
  // False: always use a temporary name, as file systems without unnamed files must.
  bool unnamed = true;
};

// What can be known to be wrong with an output before the work that makes it. Opens and makes nothing.
// Errors: kInvalidArgument (a folder, a device where a file is needed, a file that is there and may not be
// replaced), kNotFound (no such folder), kIo (too little space, no permission).
Result<void> check_output(const std::filesystem::path& path, const OutputOptions& options);

// The same for a cache that is read where it cannot be written: no refusal for lack of space or permission.
Result<void> check_cache(const std::filesystem::path& path);

// Bytes are written anywhere, and publish() gives the file its name. Until then it has none where the file
// system allows that (so that even a killed process leaves nothing), or a temporary name beside the final one
// that no other process can have, which is removed on destruction. A path that is a symbolic link stays one:
// the file that it leads to is replaced. A new file has the permissions that the umask gives; one that takes
// another's place has no more than that one had.
// A path such as /dev/stdout, a pipe or a character device is written to as the bytes come.
// One thread at a time.
class OutputFile {
 public:
  // Errors: those of check_output(), kIo.
  static Result<OutputFile> create(const std::filesystem::path& path, const OutputOptions& options);

  OutputFile(OutputFile&& other) noexcept
      : fd_(std::move(other.fd_)),
        path_(std::move(other.path_)),
        target_(std::move(other.target_)),
        temporary_(std::exchange(other.temporary_, {})),
        options_(other.options_),
        stream_(other.stream_),
        size_(other.size_) {}
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  // What is never written reads as zero. A stream takes what comes next and nothing else.
  Result<void> write_at(uint64_t offset, std::span<const std::byte> bytes);
  // After all that was written.
  Result<void> append(std::span<const std::byte> bytes) { return write_at(size_, bytes); }
  // Waits for the disk, then names the file, and waits for its folder. With OutputOptions::mapped its pages
  // leave the system's cache, where they lie as small ones: a decode from those reads a quarter slower.
  Result<void> publish();

 private:
  OutputFile(UniqueFd fd, std::filesystem::path path, std::filesystem::path target, bool stream,
             const OutputOptions& options)
      : fd_(std::move(fd)),
        path_(std::move(path)),
        target_(std::move(target)),
        options_(options),
        stream_(stream) {}
  std::unexpected<Error> io_error(const char* doing, int error) const;
  Result<void> write_stream(std::span<const std::byte> bytes);
  Result<void> take_name();
  Result<void> take_free_name();

  UniqueFd fd_;
  std::filesystem::path path_;       // as it was given, for messages
  std::filesystem::path target_;     // the file that path_ leads to
  std::filesystem::path temporary_;  // empty while the file has no name
  OutputOptions options_;
  bool stream_ = false;
  uint64_t size_ = 0;  // where the last write ended, or would have
};

// All of it at once: the pieces one after another.
Result<void> write_file(const std::filesystem::path& path,
                        std::initializer_list<std::span<const std::byte>> pieces, OutputOptions options);

}  // namespace linnet::format
