// The byte map of a Linnet model file (.lnt) and its reader.
//
//   offset 0       file header, 64 bytes (little-endian):
//                     0  8 bytes  magic "LNNT\r\n\x1a\n" (a transfer that rewrites line ends breaks it
//                     visibly) 8  u32      format version
//                    12  u32      0x01020304, so that a file of the other byte order is told apart
//                    16  u64      bytes of the whole file, so that truncation is told apart
//                    24  u64      offset of the head, a multiple of 64
//                    32  u64      bytes of the head
//                    40  u64      XXH3-64 of the head
//                    48  16 bytes zero
//   offset 16 KiB  weight segments: each starts on a 16 KiB page (the page of Apple's and recent Android
//                  machines, so that a segment can be mapped, shared and dropped by itself), tensors in it on
//                  64 bytes. At least 64 zero bytes follow each segment: kernels may read past a tensor.
//   at the end     the head: the FlatBuffer of model.fbs, which lists segments and weights.
//
// The head comes last because the writer streams weights before it knows them all; the header is written last
// of all. A model without weights has its head at offset 64.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "linnet/result.h"

namespace linnet::fb {
struct ModelT;  // format/model_generated.h
}

namespace linnet::format {

inline constexpr uint32_t kFormatVersion = 1;
inline constexpr uint64_t kFileHeaderBytes = 64;
inline constexpr uint64_t kPageBytes = 16384;
inline constexpr uint64_t kTensorAlignment = 64;
inline constexpr uint64_t kOverRead = 64;
// The largest tokenizers take about 20 MB; the bound keeps a hostile file from asking for gigabytes.
inline constexpr uint64_t kMaxHeadBytes = uint64_t{256} << 20;

struct FileHeader {
  uint32_t version = kFormatVersion;
  uint64_t file_bytes = 0;
  uint64_t head_offset = 0;
  uint64_t head_bytes = 0;
  uint64_t head_checksum = 0;
};

std::array<std::byte, kFileHeaderBytes> encode_header(const FileHeader& header);
// Reads and checks the header of a file of `file` bytes. A foreign, truncated, damaged, newer or other-endian
// file each has its own message.
Result<FileHeader> decode_header(std::span<const std::byte> file);

// XXH3-64, the file's checksum.
uint64_t checksum(std::span<const std::byte> bytes);

// An open, verified model. Movable; the addresses behind it do not move. Immutable: const members may be
// called from any thread. Closing it while a weight span is in use is the caller's error.
class ModelFile {
 public:
  // Maps the file and checks everything but the segments' checksums: header, checksum and structure of the
  // head, every index and extent (format/verify.h). Weights are not read, so this costs milliseconds.
  // Errors: kNotFound, kIo, kInvalidFile, kUnsupported (newer version), kOutOfMemory; all name the path.
  // Files up to kReadWhole bytes (format/file.h) are read instead of mapped.
  static Result<ModelFile> open(const std::filesystem::path& path);
  // The same over a copy of bytes in memory.
  static Result<ModelFile> from_memory(std::span<const std::byte> bytes);

  ModelFile(ModelFile&&) noexcept;
  ModelFile& operator=(ModelFile&&) noexcept;
  ~ModelFile();

  const fb::ModelT& model() const;
  // The stored bytes of weight `index` (< model().weights.size()), aligned to 64. At least 64 bytes after the
  // end may be read; what they hold is unspecified.
  std::span<const std::byte> weight_bytes(size_t index) const;
  std::span<const std::byte> segment_bytes(size_t index) const;

  // Identifies structure and weights (it covers the segments' checksums): a saved state belongs to one id.
  uint64_t model_id() const;
  uint64_t file_bytes() const;
  // The path as opened, for messages; "memory" for from_memory.
  const std::string& name() const;
  // MappedFile::check_unchanged(), naming the model: to be asked before weights are read. Errors: kIo.
  Result<void> check_unchanged() const;

  // Called with bytes checked so far and in all; returns false to stop.
  using Progress = std::function<bool(uint64_t done, uint64_t total)>;
  // Reads every weight once and compares the segments' checksums. Errors: kInvalidFile naming the segment,
  // kCancelled.
  Result<void> verify_checksums(const Progress& progress = {}) const;

  // Hints to the operating system: read a segment ahead, or give its pages back (it is re-read when touched).
  void prefetch_segment(size_t index) const;
  void drop_segment(size_t index) const;
  void drop_weight(size_t index) const;

 private:
  struct Impl;
  explicit ModelFile(std::unique_ptr<Impl> impl);
  static Result<ModelFile> read(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet::format
