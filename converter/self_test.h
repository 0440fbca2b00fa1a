// Does the file say what the checkpoint said? The converted file's logits against the checkpoint's own
// weights in f32, on one short input.
#pragma once

#include <span>
#include <vector>

#include "converter/architectures/graph_builder.h"
#include "linnet/result.h"

namespace linnet::host {
class HostBackend;
}

namespace linnet::convert {

// Runs method "forward" of `model` over `ids` with f32 weights streamed from their sources, node by node, so
// that memory holds one node's weights at a time (tables and heads in blocks of rows). Returns logits
// [ids, vocabulary]. `backend` supplies the kernels.
Result<std::vector<float>> streamed_logits(const fb::ModelT& model, std::span<const WeightPlan> weights,
                                           const host::HostBackend& backend, std::span<const int32_t> ids,
                                           int threads);

// Nats a token that rows of logits [ids, vocabulary] leave of the ids that follow: ln(vocabulary) is chance.
double mean_loss(std::span<const float> logits, std::span<const int32_t> ids);

struct Comparison {
  double mean_kl = 0;        // nats per token, of the second distribution from the first
  double largest_error = 0;  // absolute
  double agreement = 0;      // share of rows with the same largest entry
};
Comparison compare_logits(std::span<const float> expected, std::span<const float> found, int64_t rows);

}  // namespace linnet::convert
