#include "runtime/graph/ops.h"

#include "runtime/graph/rule.h"

namespace linnet::graph {
namespace {
constexpr std::array<OpInfo, kOpCount> kCatalogue = {{
#define LINNET_OP(pascal, snake, equation) \
  {OpKind::k##pascal, #snake, equation, check_##snake, traits_##snake},
#include "runtime/graph/ops.def"
#undef LINNET_OP
}};

// The enum is used as an index, so the schema's union must have the catalogue's order.
#define LINNET_OP(pascal, snake, equation) \
  static_assert(static_cast<int>(fb::OpArgs::pascal) == static_cast<int>(OpKind::k##pascal) + 1);
#include "runtime/graph/ops.def"
#undef LINNET_OP
static_assert(static_cast<size_t>(fb::OpArgs::MAX) == kOpCount, "an op of model.fbs is missing in ops.def");

template <typename T>
const T* at(const std::vector<std::unique_ptr<T>>& items, int index) {
  return index < 0 ? nullptr : items[static_cast<size_t>(index)].get();
}
}  // namespace

const OpInfo& op_info(OpKind kind) { return kCatalogue[static_cast<size_t>(kind)]; }
OpKind op_kind(fb::OpArgs type) { return static_cast<OpKind>(static_cast<int>(type) - 1); }

const OpTraits& traits_of(const fb::NodeT& node) { return op_info(op_kind(node.args.type)).traits; }
std::optional<KeyValueCache> cache_of(const fb::NodeT& node) {
  const StateTraits& states = traits_of(node).states;
  if (states.change != StateChange::kRingRows || node.states.empty()) return std::nullopt;
  return states.cache(node);
}
bool gives_logits(const fb::NodeT& node) {
  for (size_t i = 0; i < node.weights.size(); ++i)
    if (node.weights[i] >= 0 && weight_read(node, i).use == WeightUse::kHead) return true;
  return false;
}

OpKind NodeView::kind() const { return op_kind(node->args.type); }
const fb::ValueT* NodeView::input(size_t i) const { return at(method->values, node->inputs[i]); }
const fb::ValueT* NodeView::output(size_t i) const { return at(method->values, node->outputs[i]); }
const fb::WeightT* NodeView::weight(size_t i) const { return at(model->weights, node->weights[i]); }
const fb::StateT* NodeView::state(size_t i) const { return at(model->states, node->states[i]); }

Result<void> check_model(const fb::ModelT& model) {
  for (const auto& method : model.methods) {
    for (const auto& node : method->nodes) {
      const NodeView view{&model, method.get(), node.get()};
      if (node->args.type == fb::OpArgs::NONE || node->args.value == nullptr)
        return fail(ErrorCode::kInvalidFile, strf("node '{}' has no operation", node->name));
      LINNET_TRY(op_info(view.kind()).check(view));
    }
  }
  return {};
}

std::string shape_text(const fb::ModelT& model, std::span<const fb::Dim> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i) text += ", ";
    const fb::Dim& dim = shape[i];
    if (is_fixed(dim)) {
      text += std::to_string(dim.add());
      continue;
    }
    text += model.symbols[static_cast<size_t>(dim.symbol())]->name;
    if (dim.mul() != 1) text += "*" + std::to_string(dim.mul());
    if (dim.div() != 1) text += "/" + std::to_string(dim.div());
    if (dim.add() != 0) text += (dim.add() > 0 ? "+" : "") + std::to_string(dim.add());
  }
  return text + "]";
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

int find_symbol(const fb::ModelT& model, std::string_view name) {
  for (size_t i = 0; i < model.symbols.size(); ++i)
    if (model.symbols[i]->name == name) return static_cast<int>(i);
  return -1;
}

int find_method(const fb::ModelT& model, std::string_view name) {
  for (size_t i = 0; i < model.methods.size(); ++i)
    if (model.methods[i]->name == name) return static_cast<int>(i);
  return -1;
}

}  // namespace linnet::graph
