#include "apps/scorer.h"

#include <cmath>

#include "format/names.h"
#include "runtime/core/strings.h"
#include "runtime/graph/ops.h"

namespace linnet::app {

Result<Scorer> Scorer::create(const std::string& path, const Backend& backend, const BoundsOptions& bounds) {
  Scorer s;
  LINNET_ASSIGN(s.model_, Model::open(path));
  const fb::ModelT& m = s.model_->file().model();
  const int method = graph::find_method(m, names::kForward);
  if (method < 0 || s.model_->vocabulary() < 1 || !s.model_->tokenizer())
    return fail(
        ErrorCode::kUnsupported,
        strf("'{}' is no language model with a tokenizer: there is no text that it could predict", path));
  s.method_ = static_cast<size_t>(method);
  const fb::MethodT& forward = *m.methods[s.method_];
  s.ids_ = static_cast<size_t>(forward.inputs[0]);
  s.logits_ = static_cast<size_t>(forward.outputs[0]);
  s.chunk_ = std::min(bounds.chunk, kMostRows);
  EngineOptions options =
      engine_options(bounds, {{names::kTokens, s.chunk_}, {names::kLogitTokens, s.chunk_}});
  LINNET_ASSIGN(s.engine_, Engine::create(s.model_->shared_file(), backend, options));
  s.symbols_ = s.engine_->bounds().symbols;
  return s;
}

Result<std::span<const float>> Scorer::run(std::span<const int32_t> tokens) {
  const auto count = static_cast<int64_t>(tokens.size());
  for (const char* name : {names::kTokens, names::kLogitTokens})
    if (const int symbol = graph::find_symbol(engine_->model(), name); symbol >= 0)
      symbols_[static_cast<size_t>(symbol)] = count;
  rows_.resize(static_cast<size_t>(count * vocabulary()));
  LINNET_TRY(engine_->write_value(method_, ids_, std::as_bytes(tokens)));
  LINNET_TRY(engine_->run(method_, symbols_, count));
  LINNET_TRY(engine_->read_value(method_, logits_, std::as_writable_bytes(std::span(rows_))));
  return std::span<const float>(rows_);
}

// log(sum(exp(row))), and where the largest is.
double log_sum(std::span<const float> row, size_t& largest) {
  largest = static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
  const auto most = static_cast<double>(row[largest]);
  double sum = 0;
  for (const float v : row) sum += std::exp(static_cast<double>(v) - most);
  return most + std::log(sum);
}

}  // namespace linnet::app
