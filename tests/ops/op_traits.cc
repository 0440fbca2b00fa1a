#include "tests/ops/op_traits.h"

#include <doctest/doctest.h>

namespace linnet::testing {
namespace {

void check_states(const graph::NodeView& view) {
  const graph::StateTraits& traits = graph::traits_of(*view.node).states;
  const size_t count = view.node->states.size();
  const bool ring = traits.change == graph::StateChange::kRingRows;
  // Attention without a cache has no states; all others that change any have some.
  CHECK((ring || (traits.change == graph::StateChange::kNothing) == (count == 0)));
  CHECK(graph::cache_of(*view.node).has_value() == (ring && count > 0));
  for (size_t i = 0; i < count; ++i) {
    const fb::StateRole role = view.state(i)->role;
    CHECK(ring == (role == fb::StateRole::KeyCache || role == fb::StateRole::ValueCache));
    if (traits.half >> i & 1) CHECK(role == fb::StateRole::Recurrent);
  }
}

void check_weights(const graph::NodeView& view) {
  std::vector<bool> holds_ids(view.input_count(), false);
  for (size_t i = 0; i < view.weight_count(); ++i) {
    const fb::WeightT* weight = view.weight(i);
    if (!weight) continue;
    CAPTURE(i);
    const graph::WeightRead read = graph::weight_read(*view.node, i);
    const bool panel = weight->layout == fb::Layout::Panel;
    const size_t rank = weight->shape.size();
    CHECK(read.share > 0);
    CHECK(read.share <= 1);
    switch (read.use) {
      case graph::WeightUse::kVector:
        CHECK_FALSE(panel);
        break;
      case graph::WeightUse::kTable:
        CHECK((panel && rank == 2));
        REQUIRE(read.ids >= 0);
        REQUIRE(static_cast<size_t>(read.ids) < holds_ids.size());
        holds_ids[static_cast<size_t>(read.ids)] = true;
        break;
      case graph::WeightUse::kMatrix:
        CHECK((panel && rank == 2));
        break;
      case graph::WeightUse::kExperts:
        CHECK((panel && rank == 3));
        break;
      case graph::WeightUse::kKernel:
        CHECK((panel || rank == 3));
        break;
      case graph::WeightUse::kHead:
        CHECK((panel && rank == 2));
        CHECK(i == 0);
        CHECK(view.output(0)->shape.back().add() == weight->shape[0]);
        break;
    }
  }
  for (size_t i = 0; i < view.input_count(); ++i)
    if (view.input(i)) CHECK(holds_ids[i] == (view.input(i)->dtype == fb::DType::I32));
}

bool is_image(const fb::ValueT& value) { return value.shape.size() == 3; }

// Rows of the whole output come from rows of the whole inputs, and bands of it from bands that move down.
void check_rows(const graph::NodeView& view, std::span<const int64_t> symbols) {
  const graph::RowTraits* rows = graph::traits_of(*view.node).rows;
  if (!rows || !rows->able(*view.node) || !view.input(0) || !is_image(*view.output(0))) return;
  for (size_t i = 0; i < view.input_count(); ++i) {
    if (!view.input(i)) continue;
    CAPTURE(i);
    const bool image = rows->images >> i & 1;
    CHECK(is_image(*view.input(i)) >= image);
    // What is no image is the same for all rows.
    if (!image)
      for (size_t axis = 0; axis + 1 < view.input(i)->shape.size(); ++axis)
        CHECK(graph::dim_value(view.input(i)->shape[axis], symbols) == 1);
  }
  if (!is_image(*view.input(0))) return;
  const int64_t height = graph::dim_value(view.input(0)->shape[0], symbols);
  const int64_t out = graph::dim_value(view.output(0)->shape[0], symbols);
  const int64_t unit = rows->unit(*view.node);
  REQUIRE(unit > 0);
  const graph::Rows all = rows->input_rows(*view.node, {0, out}, height);
  CHECK(all.begin == 0);
  CHECK(all.end == height);
  int64_t begin = 0, end = 0;
  for (int64_t first = 0; first < out; first += unit) {
    const graph::Rows in = rows->input_rows(*view.node, {first, std::min(first + unit, out)}, height);
    CHECK(in.begin >= begin);
    CHECK(in.end >= end);
    CHECK(in.end <= height);
    begin = in.begin;
    end = in.end;
  }
}

}  // namespace

void check_traits(const fb::ModelT& model, std::span<const int64_t> symbols) {
  for (const auto& method : model.methods) {
    for (const auto& node : method->nodes) {
      const graph::NodeView view{&model, method.get(), node.get()};
      const std::string op(graph::op_info(view.kind()).name);
      CAPTURE(op);
      check_states(view);
      check_weights(view);
      check_rows(view, symbols);
    }
  }
}

}  // namespace linnet::testing
