#include "apps/model_info.h"

#include <algorithm>
#include <set>

#include "format/verify.h"

namespace linnet::app {
namespace {

int64_t elements(std::span<const int64_t> shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

}  // namespace

int64_t parameter_count(const fb::ModelT& model) {
  int64_t n = 0;
  for (const auto& weight : model.weights) n += elements(weight->shape);
  return n;
}

std::map<std::string, TypeTotals> weights_by_type(const fb::ModelT& model) {
  std::map<std::string, TypeTotals> types;
  for (const auto& weight : model.weights) {
    TypeTotals& totals = types[std::string(dtype_name(format::to_dtype(weight->dtype)))];
    ++totals.tensors;
    totals.parameters += elements(weight->shape);
    totals.bytes += weight->bytes;
  }
  return types;
}

std::map<std::string, int64_t> ops_of(const fb::MethodT& method) {
  std::map<std::string, int64_t> ops;
  for (const auto& node : method.nodes)
    ++ops[std::string(graph::op_info(graph::op_kind(node->args.type)).name)];
  return ops;
}

TokenTraffic token_traffic(const Engine& engine, size_t method, int64_t position) {
  const fb::ModelT& model = engine.model();
  TokenTraffic traffic;
  std::set<int> weights, states;
  for (const auto& node : model.methods[method]->nodes) {
    if (node->args.type == fb::OpArgs::Embedding) {
      const fb::WeightT& table = *model.weights[static_cast<size_t>(node->weights[0])];
      traffic.weight_bytes += table.bytes / static_cast<uint64_t>(std::max<int64_t>(1, table.shape[0]));
      continue;
    }
    weights.insert(node->weights.begin(), node->weights.end());
    const auto* attention = node->args.AsSoftmaxAttention();
    for (const int state : node->states) {
      if (state < 0 || !states.insert(state).second) continue;
      const plan::StatePlan& planned = engine.plan().states[static_cast<size_t>(state)];
      if (!attention) {
        traffic.state_bytes += planned.bytes;
        continue;
      }
      const plan::Ring ring = plan::attention_ring(*attention, model, engine.bounds());
      const int64_t seen = std::min(position + 1, std::min(ring.window + ring.sinks, ring.capacity));
      traffic.state_bytes += planned.bytes / static_cast<uint64_t>(std::max<int64_t>(1, ring.capacity)) *
                             static_cast<uint64_t>(seen);
    }
  }
  for (const int weight : weights)
    if (weight >= 0) traffic.weight_bytes += model.weights[static_cast<size_t>(weight)]->bytes;
  return traffic;
}

}  // namespace linnet::app
