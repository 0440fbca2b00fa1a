#include "converter/gguf_layout.h"

#include <algorithm>

#include "converter/readers/rows.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// Empty if there is no such order; the importer's check of shapes then names the tensor.
std::vector<int64_t> unturned_order(int64_t n, int64_t heads) {
  std::vector<int64_t> order;
  if (heads < 1 || n % (2 * heads) != 0) return order;
  const int64_t dim = n / heads;
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t side = 0; side < 2; ++side)
      for (int64_t i = 0; i < dim / 2; ++i) order.push_back(h * dim + 2 * i + side);
  return order;
}

}  // namespace

int64_t GgufKeys::integer(const std::string& key) {
  const auto* value = gguf.find<int64_t>(prefix + key);
  if (!value && missing.empty()) missing = prefix + key;
  return value ? *value : 1;
}
int64_t GgufKeys::integer(const std::string& key, int64_t absent) const {
  const auto* value = gguf.find<int64_t>(prefix + key);
  return value ? *value : absent;
}
double GgufKeys::number(const std::string& key) {
  const auto* value = gguf.find<double>(prefix + key);
  if (!value && missing.empty()) missing = prefix + key;
  return value ? *value : 1;
}
double GgufKeys::number(const std::string& key, double absent) const {
  const auto* value = gguf.find<double>(prefix + key);
  return value ? *value : absent;
}
int64_t GgufKeys::largest(const std::string& key, int64_t absent) const {
  if (const auto* list = gguf.find<std::vector<int64_t>>(prefix + key); list && !list->empty())
    return *std::max_element(list->begin(), list->end());
  return integer(key, absent);
}

void GgufLayout::map(const std::string& hf, const std::string& tensor, std::vector<int64_t> shape,
                     Change change) {
  const TensorInfo* info = gguf_.checkpoint().find(tensor);
  if (!info) return;
  used_.insert(tensor);
  Join join;
  if (change)
    join = [change = std::move(change)](std::vector<Rows> sources) { return change(std::move(sources[0])); };
  entries_[hf] = {{tensor}, shape.empty() ? info->shape : std::move(shape), std::move(join)};
}

void GgufLayout::join(const std::string& hf, const std::vector<std::string>& tensors,
                      std::vector<int64_t> shape, Join join) {
  for (const std::string& tensor : tensors)
    if (!gguf_.checkpoint().find(tensor)) return;
  used_.insert(tensors.begin(), tensors.end());
  entries_[hf] = {tensors, std::move(shape), std::move(join)};
}

void GgufLayout::finish(int64_t layers) {
  for (const auto& [name, info] : gguf_.checkpoint().tensors()) {
    if (used_.contains(name)) continue;
    int64_t block = -1;
    if (name.starts_with("blk.")) {
      block = 0;
      for (size_t i = 4; i < name.size() && name[i] >= '0' && name[i] <= '9' && block < (1 << 20); ++i)
        block = block * 10 + (name[i] - '0');
    }
    entries_[block >= layers ? "mtp." + name : name] = {{name}, info.shape, {}};
  }
}

Rows unturned(Rows source, int64_t heads) {
  auto order = unturned_order(source->rows, heads);
  return order.empty() ? source : permute_rows(std::move(source), std::move(order));
}
Rows unturned_columns(Rows source, int64_t heads) {
  auto order = unturned_order(source->columns, heads);
  return order.empty() ? source : permute_columns(std::move(source), std::move(order));
}

GgufLayout::Change each_value(double (*f)(double)) {
  return [f](Rows source) -> Result<Rows> {
    return map_rows(source, [f, n = source->columns](int64_t, float* row) {
      for (int64_t i = 0; i < n; ++i) row[i] = static_cast<float>(f(static_cast<double>(row[i])));
    });
  };
}

}  // namespace linnet::convert
