#include "runtime/graph/rule.h"

namespace linnet::graph {

void Rule::fail(std::string what) {
  if (ok()) error_ = std::move(what);
}

Result<void> Rule::result() const {
  if (ok()) return {};
  return linnet::fail(ErrorCode::kInvalidFile, strf("node '{}' ({}) of method '{}': {}", view_.node->name,
                                                    op_info(view_.kind()).name, view_.method->name, error_));
}

static std::string range_text(size_t least, size_t most) {
  return least == most ? std::to_string(least) : strf("{} to {}", least, most);
}

Rule& Rule::inputs(size_t least, size_t most) {
  const size_t n = view_.node->inputs.size();
  if (n < least || n > most) fail(strf("{} inputs, expected {}", n, range_text(least, most)));
  return *this;
}
Rule& Rule::weights(size_t least, size_t most) {
  const size_t n = view_.node->weights.size();
  if (n < least || n > most) fail(strf("{} weights, expected {}", n, range_text(least, most)));
  return *this;
}
Rule& Rule::states(size_t least, size_t most) {
  const size_t n = view_.node->states.size();
  if (n < least || n > most) fail(strf("{} states, expected {}", n, range_text(least, most)));
  return *this;
}
Rule& Rule::outputs(size_t least, size_t most) {
  const size_t n = view_.node->outputs.size();
  if (n < least || n > most) fail(strf("{} outputs, expected {}", n, range_text(least, most)));
  return *this;
}
Rule& Rule::require(bool condition, std::string_view what) {
  if (!condition) fail(std::string(what));
  return *this;
}

static bool has_dtype(fb::DType actual, DType wanted) {
  return static_cast<uint8_t>(actual) == static_cast<uint8_t>(wanted);
}

const fb::ValueT* Rule::input(size_t i, DType dtype) {
  const fb::ValueT* value = optional_input(i, dtype);
  if (!value && ok()) fail(strf("input {} is missing", i));
  return value;
}

const fb::ValueT* Rule::optional_input(size_t i, DType dtype) {
  if (!ok() || i >= view_.node->inputs.size()) return nullptr;
  const fb::ValueT* value = view_.input(i);
  if (!value) return nullptr;
  if (!has_dtype(value->dtype, dtype)) {
    fail(strf("input {} '{}' is {}, expected {}", i, value->name,
              dtype_name(static_cast<DType>(value->dtype)), dtype_name(dtype)));
    return nullptr;
  }
  if (value->shape.empty()) {
    fail(strf("input {} '{}' has no dimensions", i, value->name));
    return nullptr;
  }
  return value;
}

const fb::ValueT* Rule::output(size_t i, DType dtype) {
  if (!ok()) return nullptr;
  if (i >= view_.node->outputs.size() || !view_.output(i)) {
    fail(strf("output {} is missing", i));
    return nullptr;
  }
  const fb::ValueT* value = view_.output(i);
  if (!has_dtype(value->dtype, dtype) || value->shape.empty()) {
    fail(strf("output {} '{}' must be a tensor of {}", i, value->name, dtype_name(dtype)));
    return nullptr;
  }
  return value;
}

const fb::WeightT* Rule::matrix(size_t i, int64_t n, int64_t k) {
  const fb::WeightT* weight = optional_matrix(i, n, k);
  if (!weight && ok()) fail(strf("weight {} is missing", i));
  return weight;
}

const fb::WeightT* Rule::optional_matrix(size_t i, int64_t n, int64_t k) {
  if (!ok() || i >= view_.node->weights.size()) return nullptr;
  const fb::WeightT* weight = view_.weight(i);
  if (!weight) return nullptr;
  const auto& shape = weight->shape;
  if (weight->layout != fb::Layout::Panel || shape.size() != 2 || (n >= 0 && shape[0] != n) ||
      (k >= 0 && shape[1] != k)) {
    fail(strf("weight {} '{}' is {}{}, expected a matrix [{}, {}] in panels", i, weight->name,
              weight->layout == fb::Layout::Panel ? "panels " : "row-major ", shape_text(shape),
              n < 0 ? "any" : std::to_string(n), k < 0 ? "any" : std::to_string(k)));
    return nullptr;
  }
  return weight;
}

const fb::WeightT* Rule::tensor(size_t i, std::vector<int64_t> shape) {
  const fb::WeightT* weight = optional_tensor(i, std::move(shape));
  if (!weight && ok()) fail(strf("weight {} is missing", i));
  return weight;
}

const fb::WeightT* Rule::optional_tensor(size_t i, std::vector<int64_t> shape) {
  if (!ok() || i >= view_.node->weights.size()) return nullptr;
  const fb::WeightT* weight = view_.weight(i);
  if (!weight) return nullptr;
  if (weight->layout != fb::Layout::RowMajor || weight->dtype != fb::DType::F32 || weight->shape != shape) {
    fail(strf("weight {} '{}' is {} {}, expected row-major f32 {}", i, weight->name,
              dtype_name(static_cast<DType>(weight->dtype)), shape_text(weight->shape), shape_text(shape)));
    return nullptr;
  }
  return weight;
}

const fb::StateT* Rule::state(size_t i, fb::StateRole role) {
  if (!ok()) return nullptr;
  if (i >= view_.node->states.size()) {
    fail(strf("state {} is missing", i));
    return nullptr;
  }
  const fb::StateT* state = view_.state(i);
  if (state->role != role || state->dtype != fb::DType::F32) {
    fail(strf("state {} '{}' must be f32 of role {}", i, state->name, fb::EnumNameStateRole(role)));
    return nullptr;
  }
  return state;
}

int64_t Rule::channels(const fb::ValueT* value) {
  if (!ok() || !value) return 0;
  if (!is_fixed(value->shape.back())) {
    fail(strf("'{}' needs a fixed last dimension, found {}", value->name,
              shape_text(*view_.model, value->shape)));
    return 0;
  }
  return value->shape.back().add();
}

Rule& Rule::shaped_like(const fb::ValueT* value, const fb::ValueT* like, int64_t channels) {
  if (!ok() || !value || !like) return *this;
  std::vector<fb::Dim> expected = like->shape;
  expected.back() = fixed_dim(channels);
  bool same = value->shape.size() == expected.size();
  for (size_t i = 0; same && i < expected.size(); ++i) same = same_dim(value->shape[i], expected[i]);
  if (!same)
    fail(strf("'{}' has shape {}, expected {}", value->name, shape_text(*view_.model, value->shape),
              shape_text(*view_.model, expected)));
  return *this;
}

Rule& Rule::same_shape(const fb::ValueT* a, const fb::ValueT* b) {
  if (!ok() || !a || !b) return *this;
  bool same = a->shape.size() == b->shape.size();
  for (size_t i = 0; same && i < a->shape.size(); ++i) same = same_dim(a->shape[i], b->shape[i]);
  if (!same)
    fail(strf("'{}' has shape {} but '{}' has {}", a->name, shape_text(*view_.model, a->shape), b->name,
              shape_text(*view_.model, b->shape)));
  return *this;
}

Rule& Rule::parts(const fb::ValueT* value, int64_t channels, int64_t part) {
  const int64_t all = this->channels(value);
  if (!ok()) return *this;
  bool row = all > 0 && channels > 0 && all % channels == 0;
  for (size_t i = 0; row && i + 1 < value->shape.size(); ++i)
    row = is_fixed(value->shape[i]) && value->shape[i].add() == 1;
  if (!row || part < 0 || part >= all / channels)
    fail(strf("'{}' {} has no part {} of {} channels", value->name, shape_text(*view_.model, value->shape),
              part, channels));
  return *this;
}

}  // namespace linnet::graph
