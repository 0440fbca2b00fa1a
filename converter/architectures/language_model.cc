#include "converter/architectures/language_model.h"

#include "format/names.h"

namespace linnet::convert {

Frame begin_language_model(Importer& in, const std::string& table_name, int64_t vocabulary, int64_t hidden,
                           float scale, bool tied) {
  GraphBuilder& g = in.graph;
  g.begin_method(names::kForward);
  Frame frame;
  frame.tokens = g.dim(names::kTokens);
  frame.ids = g.input(names::kInputIds, DType::kI32, {frame.tokens});
  // A tied table is also the head, which every token reads whole: it takes the head's precision.
  frame.table = in.matrix(table_name, vocabulary, hidden, tied ? WeightRole::kHead : WeightRole::kEmbedding);
  frame.x = g.embedding("embedding", frame.ids, frame.table, scale);
  return frame;
}

void end_language_model(Importer& in, const Frame& frame, Value x, const std::string& head_name,
                        int64_t vocabulary, int64_t hidden, bool tied, float scale, float softcap) {
  if (tied) in.ignore(head_name);
  const Weight head = tied ? frame.table : in.matrix(head_name, vocabulary, hidden, WeightRole::kHead);
  in.graph.output(in.graph.logits(names::kLogits, x, head, scale, softcap));
}

Value gated_mlp(Importer& in, const std::string& prefix, Value x, int64_t hidden, int64_t intermediate,
                fb::Activation activation, bool bias, Value residual) {
  const Projection gate = in.projection(prefix + ".gate_proj", intermediate, hidden, bias);
  const Projection up = in.projection(prefix + ".up_proj", intermediate, hidden, bias);
  const Projection down = in.projection(prefix + ".down_proj", hidden, intermediate, bias);
  const Value h = in.graph.gated_linear(prefix + ".gate_up", x, gate, up, activation);
  return in.graph.linear(prefix + ".down", h, down, fb::Activation::None, residual);
}

}  // namespace linnet::convert
