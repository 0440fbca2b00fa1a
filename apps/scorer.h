// Runs a language model over tokens and gives the logits of every one: what `linnet eval` measures with.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/bounds_options.h"
#include "linnet/model.h"

namespace linnet::app {

// One conversation after another; not thread safe.
class Scorer {
 public:
  // `bounds`: context and chunk, among others. Errors: those of opening a model; kUnsupported for one that is
  // no language model with a tokenizer.
  static Result<Scorer> create(const std::string& path, const Backend& backend, const BoundsOptions& bounds);

  const Model& model() const { return *model_; }
  int64_t chunk() const { return chunk_; }
  int64_t vocabulary() const { return model_->vocabulary(); }
  Result<void> begin() { return engine_->reset(); }

  // Logits after each of at most chunk() tokens, [tokens, vocabulary], valid until the next call.
  Result<std::span<const float>> run(std::span<const int32_t> tokens);

 private:
  static constexpr int64_t kMostRows = 64;  // of logits held at once: a vocabulary of 150,000 takes 38 MiB
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Engine> engine_;
  size_t method_ = 0, ids_ = 0, logits_ = 0;
  int64_t chunk_ = 1;
  std::vector<int64_t> symbols_;
  std::vector<float> rows_;
};

// log(sum(exp(row))), and where the largest is.
double log_sum(std::span<const float> row, size_t& largest);

}  // namespace linnet::app
