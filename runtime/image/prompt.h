// From a prompt to conditioning: tokens, the text encoder, and what of its output the denoiser sees.
#pragma once

#include <list>
#include <string>
#include <vector>

#include "linnet/model.h"
#include "runtime/engine/engine.h"

namespace linnet::image {

struct Conditioning {
  int64_t tokens = 0;         // rows; what padding would be is left out, as the mask would leave it out
  std::vector<float> rows;    // [tokens, width]
  int64_t prompt_tokens = 0;  // of the whole text
  bool truncated = false;
};

// The tokens of a text as the pipeline feeds them, and the rows of the encoder's output it keeps.
struct PromptPlan {
  std::vector<int32_t> ids;
  int64_t kept_from = 0;  // row 0 (the beginning token) and rows from here on; 0: all
  bool truncated = false;
};
Result<PromptPlan> plan_prompt(const Model& model, const std::string& prompt, bool negative);

class PromptEncoder {
 public:
  // `model` must have method encode_text and a tokenizer. Allocates what encode() needs.
  static Result<PromptEncoder> create(const Model& model, Engine& engine, int64_t chunk);

  // Kept for the last few texts.
  Result<const Conditioning*> encode(const std::string& prompt, bool negative);
  int64_t width() const { return width_; }

  // Most tokens that a text can have: bounds of the engine's symbols.
  static Result<int64_t> most_tokens(const Model& model);

 private:
  PromptEncoder(const Model& model, Engine& engine) : model_(&model), engine_(&engine) {}
  Result<void> run(const PromptPlan& plan, Conditioning& out);

  struct Entry {
    std::string key;
    Conditioning conditioning;
  };
  const Model* model_;
  Engine* engine_;
  size_t method_ = 0, ids_ = 0, output_ = 0;
  int mask_ = -1, tokens_symbol_ = -1;
  bool causal_ = false;  // fed in chunks, with keys and values kept
  int64_t chunk_ = 0, width_ = 0;
  std::vector<int64_t> symbols_;
  std::vector<float> made_;       // rows of one run
  std::vector<int32_t> fed_;      // what the causal encoder's state holds
  std::vector<float> first_row_;  // its output at position 0
  std::list<Entry> entries_;      // newest first
};

}  // namespace linnet::image
