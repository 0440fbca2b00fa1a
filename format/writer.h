// Writes a Linnet model file. Weights are streamed, so a checkpoint much larger than memory converts: what is
// held is one panel of a matrix and a small buffer.
//
// The file gets its name only when it is complete and on the disk (format/output_file.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/container.h"
#include "format/model_generated.h"
#include "format/panel.h"
#include "linnet/result.h"
#include "runtime/core/dtype.h"

namespace linnet::format {

// As in OutputOptions; `stream` and `mapped` are the writer's own.
struct WriterOptions {
  uint64_t expected_bytes = 0;
  bool replace = true;
  bool unnamed = true;
};

// Use: create, then for each weight (begin_weight, write..., end_weight) or one of the matrix functions, then
// finish. After an error every further call returns that error. One thread at a time.
// Errors: kIo (with the operating system's reason and the bytes needed), kInvalidArgument (a wrong call),
// kNumeric (a value the type cannot hold), and whatever a source returns.
class ModelWriter {
 public:
  static Result<ModelWriter> create(const std::filesystem::path& path, const WriterOptions& options = {});

  ModelWriter(ModelWriter&&) noexcept;
  ModelWriter& operator=(ModelWriter&&) noexcept;
  ~ModelWriter();  // discards the file if finish() did not succeed

  // Starts a segment: a run of weights that is mapped, read ahead and dropped as one (one for each group of
  // methods that run together). Without a call, all weights share one. `alignment` in the file is a power of
  // two of at least kPageBytes; 2 MiB lets the system back it with huge pages.
  Result<void> begin_segment(uint64_t alignment = kPageBytes);

  Result<void> begin_weight(std::string name, DType dtype, fb::Layout layout, std::vector<int64_t> shape);
  // The weight's stored bytes in order, in pieces of any size.
  Result<void> write(std::span<const std::byte> bytes);
  // Returns the index of the weight, for Node::weights.
  Result<int32_t> end_weight();

  // Fills `values` with `rows` rows of K f32 values, row-major, starting at row `first` of the matrix. For a
  // shape [E, N, K] the rows of all matrices are numbered on: first < E * N.
  using RowSource = std::function<Result<void>(int64_t first, int64_t rows, float* values)>;
  // The same as groups: rows * K/32 of them.
  using GroupSource = std::function<Result<void>(int64_t first, int64_t rows, BlockGroup* groups)>;

  // A matrix [N, K] or [E, N, K] in panel layout, packed 16 rows at a time. A value that is not finite, or
  // that the type cannot hold, is refused with the tensor and its rows. Returns the weight's index.
  Result<int32_t> pack_and_write_matrix(std::string name, DType dtype, std::vector<int64_t> shape,
                                        const RowSource& source, ScaleSearch search = ScaleSearch::kNone);
  // Lossless from groups; dtype is a block format and K a multiple of 32.
  Result<int32_t> pack_and_write_groups(std::string name, DType dtype, std::vector<int64_t> shape,
                                        const GroupSource& source);

  // Fills model.weights and model.segments, verifies the model as a reader will, writes the head and the
  // header, waits for the disk and gives the file its name, replacing one that is there. Returns its bytes.
  Result<uint64_t> finish(fb::ModelT&& model);

 private:
  struct Impl;
  explicit ModelWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet::format
