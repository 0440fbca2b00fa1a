#include "converter/architectures/row_source.h"

#include <algorithm>
#include <cstring>

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

size_t groups_of_row(const RowSource& source) { return static_cast<size_t>(source.columns / kGroupSize); }

// Runs of consecutive source rows are read together: most permutations keep long runs.
class Permuted final : public RowSource {
 public:
  Permuted(Rows source, std::vector<int64_t> order) : source_(std::move(source)), order_(std::move(order)) {
    rows = static_cast<int64_t>(order_.size());
    columns = source_->columns;
    name = source_->name;
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    return by_runs(begin, count, [&](int64_t from, int64_t n, int64_t to) {
      return source_->read(from, n, out + to * columns);
    });
  }
  std::optional<DType> lossless() const override { return source_->lossless(); }
  std::optional<DType> stored() const override { return source_->stored(); }
  Result<void> read_groups(int64_t begin, int64_t count, format::BlockGroup* out) const override {
    const size_t row = groups_of_row(*this);
    return by_runs(begin, count, [&](int64_t from, int64_t n, int64_t to) {
      return source_->read_groups(from, n, out + static_cast<size_t>(to) * row);
    });
  }

 private:
  template <typename F>
  Result<void> by_runs(int64_t begin, int64_t count, const F& f) const {
    for (int64_t i = 0; i < count;) {
      const int64_t from = order_[static_cast<size_t>(begin + i)];
      int64_t n = 1;
      while (i + n < count && order_[static_cast<size_t>(begin + i + n)] == from + n) ++n;
      LINNET_TRY(f(from, n, i));
      i += n;
    }
    return {};
  }
  Rows source_;
  std::vector<int64_t> order_;
};

class Grouped final : public RowSource {
 public:
  Grouped(Rows source, int64_t groups, int64_t size, int64_t first, int64_t count)
      : source_(std::move(source)), size_(size), first_(first), count_(std::max<int64_t>(count, 1)) {
    rows = groups * count;
    columns = source_->columns;
    name = source_->name;
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    return by_groups(begin, count, [&](int64_t from, int64_t n, int64_t to) {
      return source_->read(from, n, out + to * columns);
    });
  }
  std::optional<DType> lossless() const override { return source_->lossless(); }
  std::optional<DType> stored() const override { return source_->stored(); }
  Result<void> read_groups(int64_t begin, int64_t count, format::BlockGroup* out) const override {
    const size_t row = groups_of_row(*this);
    return by_groups(begin, count, [&](int64_t from, int64_t n, int64_t to) {
      return source_->read_groups(from, n, out + static_cast<size_t>(to) * row);
    });
  }

 private:
  template <typename F>
  Result<void> by_groups(int64_t begin, int64_t count, const F& f) const {
    for (int64_t i = 0; i < count;) {
      const int64_t group = (begin + i) / count_, r = (begin + i) % count_;
      const int64_t n = std::min(count - i, count_ - r);
      LINNET_TRY(f(group * size_ + first_ + r, n, i));
      i += n;
    }
    return {};
  }
  Rows source_;
  int64_t size_, first_, count_;
};

class Concatenated final : public RowSource {
 public:
  explicit Concatenated(std::vector<Rows> sources) : sources_(std::move(sources)) {
    for (const Rows& s : sources_) rows += s->rows;
    columns = sources_.front()->columns;
    name = sources_.front()->name + " and " + std::to_string(sources_.size() - 1) + " more";
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    return by_source(begin, count, [&](const RowSource& s, int64_t from, int64_t n, int64_t to) {
      return s.read(from, n, out + to * columns);
    });
  }
  std::optional<DType> lossless() const override {
    const auto first = sources_.front()->lossless();
    for (const Rows& s : sources_)
      if (s->lossless() != first) return std::nullopt;
    return first;
  }
  std::optional<DType> stored() const override {
    const auto first = sources_.front()->stored();
    for (const Rows& s : sources_)
      if (s->stored() != first) return std::nullopt;
    return first;
  }
  Result<void> read_groups(int64_t begin, int64_t count, format::BlockGroup* out) const override {
    const size_t row = groups_of_row(*this);
    return by_source(begin, count, [&](const RowSource& s, int64_t from, int64_t n, int64_t to) {
      return s.read_groups(from, n, out + static_cast<size_t>(to) * row);
    });
  }

 private:
  template <typename F>
  Result<void> by_source(int64_t begin, int64_t count, const F& f) const {
    int64_t start = 0;
    for (const Rows& s : sources_) {
      const int64_t from = std::max(begin, start), to = std::min(begin + count, start + s->rows);
      if (from < to) LINNET_TRY(f(*s, from - start, to - from, from - begin));
      start += s->rows;
    }
    return {};
  }
  std::vector<Rows> sources_;
};

class Constant final : public RowSource {
 public:
  Constant(std::string n, int64_t r, int64_t c, std::vector<float> values) : values_(std::move(values)) {
    name = std::move(n);
    rows = r;
    columns = c;
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    std::copy_n(values_.begin() + begin * columns, count * columns, out);
    return {};
  }

 private:
  std::vector<float> values_;
};

class Mapped final : public RowSource {
 public:
  Mapped(Rows source, std::function<void(int64_t, float*)> f) : source_(std::move(source)), f_(std::move(f)) {
    rows = source_->rows;
    columns = source_->columns;
    name = source_->name;
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    LINNET_TRY(source_->read(begin, count, out));
    for (int64_t i = 0; i < count; ++i) f_(begin + i, out + i * columns);
    return {};
  }

 private:
  Rows source_;
  std::function<void(int64_t, float*)> f_;
};

class Joined final : public RowSource {
 public:
  Joined(Rows source, int64_t count) : source_(std::move(source)), lines_(source_->rows / count) {
    rows = count;
    columns = source_->columns * lines_;
    name = source_->name;
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    return source_->read(begin * lines_, count * lines_, out);
  }
  std::optional<DType> stored() const override {
    const auto type = source_->stored();
    return type && is_quantized(*type) ? std::optional<DType>(DType::kF16) : type;
  }

 private:
  Rows source_;
  int64_t lines_;
};

class PermutedColumns final : public RowSource {
 public:
  PermutedColumns(Rows source, std::vector<int64_t> order)
      : source_(std::move(source)), order_(std::move(order)) {
    rows = source_->rows;
    columns = static_cast<int64_t>(order_.size());
    name = source_->name;
    whole_groups_ = moves_whole(kGroupSize);
    whole_super_blocks_ = moves_whole(kSuperBlock);
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    std::vector<float> row(static_cast<size_t>(source_->columns));
    for (int64_t i = 0; i < count; ++i) {
      LINNET_TRY(source_->read(begin + i, 1, row.data()));
      for (int64_t j = 0; j < columns; ++j)
        out[i * columns + j] = row[static_cast<size_t>(order_[static_cast<size_t>(j)])];
    }
    return {};
  }
  // Whole groups that move together keep their block format, and super-blocks one that has such.
  std::optional<DType> lossless() const override {
    const auto own = source_->lossless();
    const bool whole = own && super_halves(*own) > 0 ? whole_super_blocks_ : whole_groups_;
    return whole ? own : std::nullopt;
  }
  std::optional<DType> stored() const override { return source_->stored(); }
  Result<void> read_groups(int64_t begin, int64_t count, format::BlockGroup* out) const override {
    std::vector<format::BlockGroup> row(groups_of_row(*source_));
    for (int64_t i = 0; i < count; ++i) {
      LINNET_TRY(source_->read_groups(begin + i, 1, row.data()));
      for (int64_t j = 0; j < columns; j += kGroupSize)
        *out++ = row[static_cast<size_t>(order_[static_cast<size_t>(j)] / kGroupSize)];
    }
    return {};
  }

 private:
  bool moves_whole(int64_t size) const {
    if (columns % size != 0 && size != kSuperBlock) return false;
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t from = order_[static_cast<size_t>(j)], first = order_[static_cast<size_t>(j - j % size)];
      if (first % size != 0 || from != first + j % size) return false;
    }
    return true;
  }
  Rows source_;
  std::vector<int64_t> order_;
  bool whole_groups_ = false, whole_super_blocks_ = false;
};

}  // namespace

Result<void> RowSource::read_groups(int64_t, int64_t, format::BlockGroup*) const {
  return fail(ErrorCode::kInternal, strf("'{}' has no block format to read", name));
}

Rows slice_rows(Rows source, int64_t begin, int64_t count) {
  return std::make_shared<Grouped>(std::move(source), 1, count, begin, count);
}
Rows grouped_rows(Rows source, int64_t groups, int64_t first, int64_t count) {
  const int64_t size = source->rows / std::max<int64_t>(groups, 1);
  return std::make_shared<Grouped>(std::move(source), groups, size, first, count);
}
Rows permute_rows(Rows source, std::vector<int64_t> order) {
  return std::make_shared<Permuted>(std::move(source), std::move(order));
}
Rows concat_rows(std::vector<Rows> sources) { return std::make_shared<Concatenated>(std::move(sources)); }
Rows permute_columns(Rows source, std::vector<int64_t> order) {
  return std::make_shared<PermutedColumns>(std::move(source), std::move(order));
}
Rows constant_rows(std::string name, int64_t rows, int64_t columns, std::vector<float> values) {
  return std::make_shared<Constant>(std::move(name), rows, columns, std::move(values));
}
Rows joined_rows(Rows source, int64_t rows) { return std::make_shared<Joined>(std::move(source), rows); }
Rows map_rows(Rows source, std::function<void(int64_t, float*)> f) {
  return std::make_shared<Mapped>(std::move(source), std::move(f));
}

Result<std::vector<float>> read_all(const RowSource& source) {
  std::vector<float> values(static_cast<size_t>(source.rows * source.columns));
  LINNET_TRY(source.read(0, source.rows, values.data()));
  return values;
}

Result<Rows> transpose(Rows source) {
  constexpr int64_t kMost = int64_t{1} << 26;
  if (source->rows < 0 || source->columns < 0 || source->rows > kMost / std::max<int64_t>(source->columns, 1))
    return fail(ErrorCode::kInvalidFile, strf("'{}' is too large to be turned: [{}, {}]", source->name,
                                              source->rows, source->columns));
  LINNET_ASSIGN(const std::vector<float> values, read_all(*source));
  std::vector<float> turned(values.size());
  for (int64_t r = 0; r < source->rows; ++r)
    for (int64_t c = 0; c < source->columns; ++c)
      turned[static_cast<size_t>(c * source->rows + r)] =
          values[static_cast<size_t>(r * source->columns + c)];
  return constant_rows(source->name, source->columns, source->rows, std::move(turned));
}

}  // namespace linnet::convert
