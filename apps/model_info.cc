#include "apps/model_info.h"

#include <algorithm>
#include <set>

#include "format/verify.h"
#include "runtime/graph/op_traits.h"

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
  std::map<int, double> shares;  // of weights, by index: the most that any node reads
  std::set<int> states;
  for (const auto& node : model.methods[method]->nodes) {
    for (size_t i = 0; i < node->weights.size(); ++i) {
      const int index = node->weights[i];
      if (index < 0) continue;
      const graph::WeightRead read = graph::weight_read(*node, i);
      const fb::WeightT& weight = *model.weights[static_cast<size_t>(index)];
      if (read.use == graph::WeightUse::kTable)
        traffic.weight_bytes += weight.bytes / static_cast<uint64_t>(std::max<int64_t>(1, weight.shape[0]));
      else
        shares[index] = std::max(shares[index], read.share);
    }
    for (const int state : node->states) {
      if (state < 0 || !states.insert(state).second) continue;
      const plan::StatePlan& planned = engine.plan().states[static_cast<size_t>(state)];
      if (!planned.ring) {
        traffic.state_bytes += planned.bytes;
        continue;
      }
      const plan::Ring& ring = *planned.ring;
      const int64_t seen = std::min(position + 1, std::min(ring.window + ring.sinks, ring.capacity));
      traffic.state_bytes += planned.bytes / static_cast<uint64_t>(std::max<int64_t>(1, ring.capacity)) *
                             static_cast<uint64_t>(seen);
    }
  }
  for (const auto& [index, share] : shares)
    traffic.weight_bytes +=
        static_cast<uint64_t>(static_cast<double>(model.weights[static_cast<size_t>(index)]->bytes) * share);
  return traffic;
}

}  // namespace linnet::app
