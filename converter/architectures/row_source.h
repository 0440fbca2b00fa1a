// A matrix (or vector, or stack of matrices) of a checkpoint, read row by row and possibly rearranged on the
// way, so that no importer ever holds a whole tensor. Leading dimensions are flattened into rows.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "format/block_group.h"
#include "linnet/result.h"
#include "runtime/core/dtype.h"

namespace linnet::convert {

class RowSource {
 public:
  virtual ~RowSource() = default;
  int64_t rows = 0, columns = 0;
  std::string name;  // for messages: the checkpoint's tensor

  // Rows [begin, begin + count) as f32, row-major [count, columns].
  virtual Result<void> read(int64_t begin, int64_t count, float* out) const = 0;
  // The block format these rows are stored in already, if they can be imported without loss.
  virtual std::optional<DType> lossless() const { return std::nullopt; }
  // The type the rows are stored in, if Linnet has it: what "as stored" means.
  virtual std::optional<DType> stored() const { return lossless(); }
  // The rows' groups as format::pack_panel_from_groups takes them. Only if lossless() has a value.
  virtual Result<void> read_groups(int64_t begin, int64_t count, format::BlockGroup* out) const;
};

using Rows = std::shared_ptr<const RowSource>;

// Rows [begin, begin + count) of a source. Lossless stays lossless. No list of rows is made, whatever `count`
// is: a config may ask for any number before the shapes are found to be wrong.
Rows slice_rows(Rows source, int64_t begin, int64_t count);
// Rows [first, first + count) of each of `groups` groups of equally many rows, group after group.
Rows grouped_rows(Rows source, int64_t groups, int64_t first, int64_t count);
// Row i of the result is row order[i] of the source. Lossless stays lossless.
Rows permute_rows(Rows source, std::vector<int64_t> order);
// All rows of the first source, then all of the next. Lossless if all are, in the same format.
Rows concat_rows(std::vector<Rows> sources);
// Column j of the result is column order[j] of the source. Lossless if whole groups of columns move, or whole
// super-blocks where the format has those.
Rows permute_columns(Rows source, std::vector<int64_t> order);
// The transpose, held in memory: at most 2^26 elements.
Result<Rows> transpose(Rows source);
// Values held in memory.
Rows constant_rows(std::string name, int64_t rows, int64_t columns, std::vector<float> values);
// The same values as `rows` longer rows, each of as many of the source's. Not lossless.
Rows joined_rows(Rows source, int64_t rows);
// f applied to every row: f(row index, columns values in place). Not lossless.
Rows map_rows(Rows source, std::function<void(int64_t, float*)> f);

// The whole source as f32.
Result<std::vector<float>> read_all(const RowSource& source);

}  // namespace linnet::convert
