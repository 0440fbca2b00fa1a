#include "format/verify.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <unordered_set>
#include <vector>

#include "format/container.h"
#include "format/names.h"
#include "format/panel.h"
#include "runtime/core/strings.h"

namespace linnet::format {
namespace {

// model.fbs and dtypes.def name the same types by the same numbers.
static_assert(static_cast<int>(fb::DType::MAX) + 1 == kDTypeCount);
#define LINNET_PLAIN(pascal, ...) static_assert(to_dtype(fb::DType::pascal) == DType::k##pascal);
#define LINNET_BLOCKS LINNET_PLAIN
#include "runtime/core/dtypes.def"

constexpr int64_t kMaxSymbolicTerm = int64_t{1} << 31;
constexpr size_t kMaxNameBytes = 512;

// Names reach terminals and messages: no control bytes.
Result<void> check_name(std::string_view name, std::string_view what, size_t index) {
  if (name.empty()) return invalid(strf("{} {} has no name", what, index));
  if (name.size() > kMaxNameBytes)
    return invalid(
        strf("the name of {} {} has {} bytes, more than {}", what, index, name.size(), kMaxNameBytes));
  for (const char c : name)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
      return invalid(strf("the name of {} {} has a control character", what, index));
  return {};
}

// Every item is there, has a sound name, and (if unique) no other of its kind has it.
template <typename T>
Result<void> check_names(const std::vector<std::unique_ptr<T>>& items, std::string_view what,
                         bool unique = true) {
  std::unordered_set<std::string_view> seen;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i]) return invalid(strf("{} {} is missing", what, i));
    LINNET_TRY(check_name(items[i]->name, what, i));
    if (unique && !seen.insert(items[i]->name).second)
      return invalid(strf("two {}s have the name '{}'", what, items[i]->name));
  }
  return {};
}

// Multiplies into `product` and tells whether it stays within kMaxElements.
bool multiply(int64_t& product, int64_t factor) {
  return !__builtin_mul_overflow(product, factor, &product) && product <= kMaxElements;
}

// The least value of a symbol in a run: no logits are wanted in the middle of a prompt, and of everything
// else there is one.
int64_t least(const fb::SymbolT& symbol) { return symbol.name == names::kLogitTokens ? 0 : 1; }

Result<void> check_dims(const std::vector<fb::Dim>& shape, const fb::ModelT& model, std::string_view what,
                        std::string_view name) {
  if (shape.size() > kMaxRank)
    return invalid(strf("{} '{}' has {} dimensions, more than {}", what, name, shape.size(), kMaxRank));
  int64_t elements = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    const fb::Dim& dim = shape[i];
    const std::string where = strf("dimension {} of {} '{}'", i, what, name);
    if (dim.symbol() < 0) {
      if (dim.symbol() != -1) return invalid(strf("{} refers to symbol {}", where, dim.symbol()));
      if (dim.add() < 1 || dim.add() > kMaxDim || !multiply(elements, dim.add()))
        return invalid(strf("{} is {}: it must be positive, and a tensor may have {} elements at most", where,
                            dim.add(), kMaxElements));
      continue;
    }
    if (static_cast<size_t>(dim.symbol()) >= model.symbols.size())
      return invalid(
          strf("{} refers to symbol {}, and there are {}", where, dim.symbol(), model.symbols.size()));
    if (dim.mul() < 1 || dim.div() < 1)
      return invalid(
          strf("{} is a symbol times {} divided by {}: both must be positive", where, dim.mul(), dim.div()));
    if (dim.add() < -kMaxSymbolicTerm || dim.add() > kMaxSymbolicTerm)
      return invalid(strf("{} adds {}, beyond {}", where, dim.add(), kMaxSymbolicTerm));
    // It grows with its symbol, so that what holds at the least value holds at every one.
    const fb::SymbolT& symbol = *model.symbols[static_cast<size_t>(dim.symbol())];
    const int64_t smallest = least(symbol) * dim.mul() / dim.div() + dim.add();
    if (smallest < least(symbol))
      return invalid(strf("{} is {} where '{}' is {}: it must be {} at least", where, smallest, symbol.name,
                          least(symbol), least(symbol)));
  }
  return {};
}

// The last dimension of a value, where its kernels find their channels.
Result<void> check_channels(const fb::ValueT& value) {
  if (value.shape.empty() || value.shape.back().symbol() >= 0 || value.shape.back().add() <= kMaxChannels)
    return {};
  return invalid(
      strf("value '{}' has {} channels, more than {}", value.name, value.shape.back().add(), kMaxChannels));
}

Result<void> check_count(size_t count, size_t most, std::string_view what) {
  if (count <= most) return {};
  return invalid(strf("it has {} {}, more than {}", count, what, most));
}

// Before anything that takes more time than counting.
Result<void> check_counts(const fb::ModelT& model) {
  LINNET_TRY(check_count(model.symbols.size(), kMaxSymbols, "symbols"));
  LINNET_TRY(check_count(model.segments.size(), kMaxSegments, "segments"));
  LINNET_TRY(check_count(model.weights.size(), kMaxWeights, "weights"));
  LINNET_TRY(check_count(model.states.size(), kMaxStates, "states"));
  LINNET_TRY(check_count(model.methods.size(), kMaxMethods, "methods"));
  size_t nodes = 0, values = 0;
  for (const auto& method : model.methods) {
    if (!method) continue;  // told later
    nodes += method->nodes.size();
    values += method->values.size();
    LINNET_TRY(check_count(method->inputs.size(), kMaxMethodInputs, "inputs of a method"));
    LINNET_TRY(check_count(method->outputs.size(), kMaxMethodInputs, "outputs of a method"));
    for (const auto& node : method->nodes)
      if (node)
        for (const auto* operands : {&node->inputs, &node->weights, &node->states, &node->outputs})
          LINNET_TRY(check_count(operands->size(), kMaxOperands, "operands of one kind at a node"));
  }
  LINNET_TRY(check_count(nodes, kMaxNodes, "nodes"));
  return check_count(values, kMaxValues, "values");
}

Result<void> check_tensor_dtype(fb::DType dtype, std::string_view what, std::string_view name) {
  if (!is_valid(to_dtype(dtype)) || is_quantized(to_dtype(dtype)))
    return invalid(
        strf("{} '{}' has type {}: only weights may be in blocks", what, name, dtype_name(to_dtype(dtype))));
  return {};
}

Result<void> check_segments(const fb::ModelT& model, uint64_t head_offset) {
  uint64_t free_from = kPageBytes;
  for (size_t i = 0; i < model.segments.size(); ++i) {
    if (!model.segments[i]) return invalid(strf("segment {} is missing", i));
    const fb::SegmentT& segment = *model.segments[i];
    if (segment.offset % kPageBytes != 0)
      return invalid(
          strf("segment {} starts at {}, which is no multiple of {}", i, segment.offset, kPageBytes));
    if (segment.offset < free_from)
      return invalid(strf("segment {} starts at {}, inside what ends at {}", i, segment.offset, free_from));
    if (segment.bytes == 0) return invalid(strf("segment {} is empty", i));
    // Written so that no sum can overflow.
    if (segment.offset > head_offset || segment.bytes > head_offset - segment.offset ||
        head_offset - segment.offset - segment.bytes < kOverRead)
      return invalid(
          strf("segment {} ({} bytes at {}) and the {} bytes after it do not end before the head at {}", i,
               segment.bytes, segment.offset, kOverRead, head_offset));
    free_from = segment.offset + segment.bytes + kOverRead;
  }
  return {};
}

Result<void> check_weights(const fb::ModelT& model) {
  LINNET_TRY(check_names(model.weights, "weight"));
  for (const auto& weight : model.weights) {
    const auto size = stored_bytes(to_dtype(weight->dtype), weight->layout, weight->shape);
    if (!size) return invalid(strf("weight '{}': {}", weight->name, size.error().message));
    if (weight->bytes != *size)
      return invalid(strf("weight '{}' has {} bytes, and its type and shape need {}", weight->name,
                          weight->bytes, *size));
    if (weight->segment >= model.segments.size())
      return invalid(strf("weight '{}' is in segment {}, and there are {}", weight->name, weight->segment,
                          model.segments.size()));
    const uint64_t segment_bytes = model.segments[weight->segment]->bytes;
    if (weight->offset % kTensorAlignment != 0)
      return invalid(strf("weight '{}' starts at {}, which is no multiple of {}", weight->name,
                          weight->offset, kTensorAlignment));
    if (weight->offset > segment_bytes || weight->bytes > segment_bytes - weight->offset)
      return invalid(strf("weight '{}' ({} bytes at {}) reaches beyond its segment of {} bytes", weight->name,
                          weight->bytes, weight->offset, segment_bytes));
  }
  std::vector<size_t> order(model.weights.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto place = [&](size_t i) { return std::pair(model.weights[i]->segment, model.weights[i]->offset); };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return place(a) < place(b); });
  for (size_t i = 1; i < order.size(); ++i) {
    const fb::WeightT& a = *model.weights[order[i - 1]];
    const fb::WeightT& b = *model.weights[order[i]];
    if (a.segment == b.segment && b.offset < a.offset + a.bytes)
      return invalid(strf("weights '{}' and '{}' overlap in segment {}", a.name, b.name, a.segment));
  }
  return {};
}

Result<void> check_states(const fb::ModelT& model) {
  LINNET_TRY(check_names(model.states, "state"));
  for (const auto& state : model.states) {
    LINNET_TRY(check_tensor_dtype(state->dtype, "state", state->name));
    LINNET_TRY(check_dims(state->shape, model, "state", state->name));
  }
  return {};
}

// Values, and who writes them when.
class MethodCheck {
 public:
  MethodCheck(const fb::ModelT& model, const fb::MethodT& method)
      : model_(model), method_(method), written_(method.values.size(), false) {}

  Result<void> run() {
    LINNET_TRY(values());
    for (const int32_t input : method_.inputs) {
      LINNET_TRY(in_range(input, "its inputs"));
      if (written_[static_cast<size_t>(input)])
        return broken(strf("value '{}' is twice in its inputs", value_name(input)));
      written_[static_cast<size_t>(input)] = true;
    }
    LINNET_TRY(check_names(method_.nodes, "node", false));
    for (const auto& node : method_.nodes) LINNET_TRY(check_node(*node));
    for (size_t i = 0; i < written_.size(); ++i)
      if (!written_[i]) return broken(strf("value '{}' is written by no node", method_.values[i]->name));
    std::unordered_set<int32_t> outputs;
    for (const int32_t output : method_.outputs) {
      LINNET_TRY(in_range(output, "its outputs"));
      if (std::find(method_.inputs.begin(), method_.inputs.end(), output) != method_.inputs.end())
        return broken(strf("value '{}' is both an input and an output", value_name(output)));
      if (!outputs.insert(output).second)
        return broken(strf("value '{}' is twice in its outputs", value_name(output)));
    }
    return {};
  }

 private:
  std::unexpected<Error> broken(std::string_view what) const {
    return invalid(strf("method '{}': {}", method_.name, what));
  }
  const std::string& value_name(int32_t index) const {
    return method_.values[static_cast<size_t>(index)]->name;
  }

  Result<void> in_range(int32_t value, std::string_view where) const {
    if (value >= 0 && static_cast<size_t>(value) < method_.values.size()) return {};
    return broken(strf("{} refer to value {}, and there are {}", where, value, method_.values.size()));
  }

  Result<void> values() const {
    const auto names = check_names(method_.values, "value");
    if (!names) return broken(names.error().message);
    for (const auto& value : method_.values) {
      LINNET_TRY(check_tensor_dtype(value->dtype, "value", value->name));
      LINNET_TRY(check_dims(value->shape, model_, "value", value->name));
      LINNET_TRY(check_channels(*value));
    }
    return {};
  }

  Result<void> check_node(const fb::NodeT& node) {
    const std::string where = strf("node '{}'", node.name);
    if (!node.args.value) return broken(strf("{} has no operation", where));
    for (const int32_t input : node.inputs) {
      if (input == -1) continue;
      LINNET_TRY(in_range(input, where + ": its inputs"));
      if (!written_[static_cast<size_t>(input)])
        return broken(strf("{} reads value '{}' before it is written", where, value_name(input)));
    }
    LINNET_TRY(references(node.weights, model_.weights.size(), -1, where, "weight"));
    LINNET_TRY(references(node.states, model_.states.size(), 0, where, "state"));
    for (const int32_t output : node.outputs) {
      LINNET_TRY(in_range(output, where + ": its outputs"));
      if (written_[static_cast<size_t>(output)])
        return broken(
            strf("{} writes value '{}', which is an input or was written before", where, value_name(output)));
      written_[static_cast<size_t>(output)] = true;
    }
    return {};
  }

  Result<void> references(const std::vector<int32_t>& indices, size_t count, int32_t least,
                          std::string_view where, std::string_view what) const {
    for (const int32_t index : indices)
      if (index < least || (index >= 0 && static_cast<size_t>(index) >= count))
        return broken(strf("{} refers to {} {}, and there are {}", where, what, index, count));
    return {};
  }

  const fb::ModelT& model_;
  const fb::MethodT& method_;
  std::vector<bool> written_;
};

}  // namespace

Result<uint64_t> stored_bytes(DType dtype, fb::Layout layout, std::span<const int64_t> shape) {
  if (!is_valid(dtype)) return invalid(strf("type {} is unknown", static_cast<int>(dtype)));
  if (shape.size() > kMaxRank) return invalid(strf("{} dimensions, more than {}", shape.size(), kMaxRank));
  const bool panel = layout == fb::Layout::Panel;
  if (!panel && is_quantized(dtype))
    return invalid(strf("type {} is stored in panels only", dtype_name(dtype)));
  if (panel && !can_be_used_as(dtype, kWeights))
    return invalid(strf("type {} is not stored in panels", dtype_name(dtype)));
  if (panel && shape.size() != 2 && shape.size() != 3)
    return invalid(strf("a matrix in panels has 2 or 3 dimensions, not {}", shape.size()));
  int64_t elements = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    const int64_t most = panel && i + 2 >= shape.size() ? kMaxMatrixDim : kMaxDim;
    if (shape[i] < 1 || shape[i] > most)
      return invalid(strf("dimension {} is {}, not 1 to {}", i, shape[i], most));
    if (!multiply(elements, shape[i])) return invalid(strf("it has more than {} elements", kMaxElements));
  }
  if (!panel) return static_cast<uint64_t>(elements) * element_bytes(dtype);
  // At most 2^48 elements, and padding takes less than 16 * 34 bytes for each: no overflow.
  const uint64_t matrices = shape.size() == 3 ? static_cast<uint64_t>(shape[0]) : 1;
  return matrices * matrix_bytes(dtype, shape[shape.size() - 2], shape[shape.size() - 1]);
}

Result<void> verify_model(const fb::ModelT& model, uint64_t head_offset) {
  LINNET_TRY(check_counts(model));
  LINNET_TRY(check_names(model.symbols, "symbol"));
  LINNET_TRY(check_segments(model, head_offset));
  LINNET_TRY(check_weights(model));
  LINNET_TRY(check_states(model));
  LINNET_TRY(check_names(model.methods, "method"));
  for (const auto& method : model.methods) LINNET_TRY(MethodCheck(model, *method).run());
  for (size_t i = 0; i < model.metadata.size(); ++i) {
    if (!model.metadata[i]) return invalid(strf("metadata entry {} is missing", i));
    LINNET_TRY(check_name(model.metadata[i]->key, "metadata entry", i));
  }
  return verify_text(model);
}

}  // namespace linnet::format
