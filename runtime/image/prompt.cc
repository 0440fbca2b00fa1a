#include "runtime/image/prompt.h"

#include <algorithm>
#include <cmath>

#include "format/names.h"
#include "runtime/core/guard.h"
#include "runtime/core/strings.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"
#include "runtime/text/utf8_case.h"

namespace linnet::image {
namespace {

constexpr size_t kKeptPrompts = 8;

// Python's text.lower().strip().
std::string lower_trimmed(const std::string& text) {
  const std::string lower = text::lower_case(text);
  size_t begin = 0;
  while (begin < lower.size()) {
    size_t next = begin;
    if (!text::is_python_space(text::next_char(lower, next))) break;
    begin = next;
  }
  size_t end = lower.size();
  while (end > begin) {
    size_t before = end;
    if (!text::is_python_space(text::previous_char(lower, before))) break;
    end = before;
  }
  return lower.substr(begin, end - begin);
}

}  // namespace

Result<PromptPlan> plan_prompt(const Model& model, const std::string& prompt, bool negative) {
  const fb::ImagePipelineT& pipeline = *model.file().model().image;
  const text::Tokenizer& tokenizer = *model.tokenizer();
  if (text::find_invalid_utf8(prompt)) return fail(ErrorCode::kInvalidArgument, "the prompt is not UTF-8");
  const std::string text = pipeline.lower_case ? lower_trimmed(prompt) : prompt;
  const bool instructed = !negative && !pipeline.instruction.empty();
  PromptPlan plan;
  LINNET_ASSIGN(plan.ids, tokenizer.encode(instructed ? pipeline.instruction + text : text));
  int64_t most = pipeline.text_tokens;
  if (instructed) {
    LINNET_ASSIGN(const auto instruction, tokenizer.encode(pipeline.instruction));
    // The pipelines pad the whole to this length and keep its first and its last text_tokens - 1 rows.
    most += static_cast<int64_t>(instruction.size()) - 2;
    plan.kept_from = most - (pipeline.text_tokens - 1);
  }
  if (static_cast<int64_t>(plan.ids.size()) > most) {
    const int32_t last = plan.ids.back();
    const auto& spec = model.file().model().tokenizer;
    plan.ids.resize(static_cast<size_t>(most));
    if (spec->add_eos && last == spec->eos_id) plan.ids.back() = last;
    plan.truncated = true;
  }
  return plan;
}

Result<int64_t> PromptEncoder::most_tokens(const Model& model) {
  const fb::ImagePipelineT& pipeline = *model.file().model().image;
  int64_t most = pipeline.text_tokens;
  if (!pipeline.instruction.empty()) {
    LINNET_ASSIGN(const auto instruction, model.tokenizer()->encode(pipeline.instruction));
    most += static_cast<int64_t>(instruction.size());
  }
  return most;
}

Result<PromptEncoder> PromptEncoder::create(const Model& model, Engine& engine, int64_t chunk) {
  PromptEncoder encoder(model, engine);
  const fb::ModelT& m = model.file().model();
  const int method = graph::find_method(m, names::kEncodeText);
  if (method < 0 || !model.tokenizer())
    return fail(ErrorCode::kUnsupported,
                "the file has no text encoder with a tokenizer: convert the whole pipeline's folder");
  encoder.method_ = static_cast<size_t>(method);
  const fb::MethodT& text = *m.methods[encoder.method_];
  for (const int input : text.inputs) {
    const fb::ValueT& value = *text.values[static_cast<size_t>(input)];
    if (value.name == names::kInputIds) {
      encoder.ids_ = static_cast<size_t>(input);
      encoder.tokens_symbol_ = value.shape.size() == 1 ? value.shape[0].symbol() : -1;
    } else if (value.name == names::kAttentionMask) {
      encoder.mask_ = input;
    } else {
      return fail(ErrorCode::kUnsupported,
                  strf("the text encoder takes '{}', which a prompt does not give", value.name));
    }
  }
  const fb::ValueT* out =
      text.outputs.empty() ? nullptr : text.values[static_cast<size_t>(text.outputs[0])].get();
  if (encoder.tokens_symbol_ < 0 || !out || out->shape.size() != 2 || !graph::is_fixed(out->shape[1]))
    return fail(ErrorCode::kUnsupported, "the text encoder does not go from input_ids to hidden states");
  encoder.output_ = static_cast<size_t>(text.outputs[0]);
  encoder.width_ = out->shape[1].add();
  encoder.causal_ = std::ranges::any_of(text.nodes, [](const auto& node) { return !node->states.empty(); });
  encoder.symbols_ = engine.bounds().symbols;
  const int64_t bound = encoder.symbols_[static_cast<size_t>(encoder.tokens_symbol_)];
  encoder.chunk_ = encoder.causal_ ? std::min(chunk, bound) : bound;
  encoder.made_.resize(static_cast<size_t>(encoder.chunk_ * encoder.width_));
  return encoder;
}

Result<const Conditioning*> PromptEncoder::encode(const std::string& prompt, bool negative) {
  const std::string key = (negative ? "-" : "+") + prompt;
  for (auto it = entries_.begin(); it != entries_.end(); ++it)
    if (it->key == key) {
      entries_.splice(entries_.begin(), entries_, it);
      return &entries_.front().conditioning;
    }
  LINNET_ASSIGN(const PromptPlan plan, plan_prompt(*model_, prompt, negative));
  Entry entry{key, {}};
  if (auto ran = guarded([&] { return run(plan, entry.conditioning); }); !ran) {
    fed_.clear();
    (void)engine_->reset();
    return std::unexpected(ran.error());
  }
  entry.conditioning.truncated = plan.truncated;
  entry.conditioning.prompt_tokens = static_cast<int64_t>(plan.ids.size());
  entries_.push_front(std::move(entry));
  if (entries_.size() > kKeptPrompts) entries_.pop_back();
  return &entries_.front().conditioning;
}

Result<void> PromptEncoder::run(const PromptPlan& plan, Conditioning& out) {
  const auto total = static_cast<int64_t>(plan.ids.size());
  if (total == 0) return fail(ErrorCode::kInvalidArgument, "the prompt has no tokens");
  // What is in the state already: the tokens before the first row that is needed anew.
  int64_t done = 0;
  if (causal_) {
    while (done < std::min({total - 1, static_cast<int64_t>(fed_.size()), plan.kept_from}) &&
           fed_[static_cast<size_t>(done)] == plan.ids[static_cast<size_t>(done)])
      ++done;
    if (first_row_.empty() || done > engine_->position() || !engine_->can_rewind() ||
        done < engine_->rewind_floor())
      done = 0;
    if (done > 0) {
      LINNET_TRY(engine_->rewind(done));
    } else {
      LINNET_TRY(engine_->reset());
    }
    fed_ = plan.ids;
  }
  out.rows.reserve(static_cast<size_t>((total - plan.kept_from + 1) * width_));
  if (plan.kept_from > 0 && done > 0) out.rows = first_row_;
  for (int64_t at = done; at < total;) {
    const int64_t n = std::min(chunk_, total - at);
    symbols_[static_cast<size_t>(tokens_symbol_)] = n;
    LINNET_TRY(engine_->write_value(
        method_, ids_,
        std::as_bytes(std::span(plan.ids).subspan(static_cast<size_t>(at), static_cast<size_t>(n)))));
    if (mask_ >= 0) {
      const std::vector<float> ones(static_cast<size_t>(n), 1.0f);
      LINNET_TRY(engine_->write_value(method_, static_cast<size_t>(mask_), std::as_bytes(std::span(ones))));
    }
    const int64_t position = engine_->position();
    LINNET_TRY(engine_->run(method_, symbols_, causal_ ? n : 0));
    const std::span<float> rows = std::span(made_).first(static_cast<size_t>(n * width_));
    LINNET_TRY(engine_->read_value(method_, output_, std::as_writable_bytes(rows)));
    if (!std::ranges::all_of(rows, [](float x) { return std::isfinite(x); }))
      return std::unexpected(engine_->diagnose_non_finite(method_, symbols_, position));
    for (int64_t i = 0; i < n; ++i) {
      const auto row = rows.subspan(static_cast<size_t>(i * width_), static_cast<size_t>(width_));
      if (at + i == 0) first_row_.assign(row.begin(), row.end());
      if (at + i == 0 || at + i >= plan.kept_from) out.rows.insert(out.rows.end(), row.begin(), row.end());
    }
    at += n;
  }
  out.tokens = static_cast<int64_t>(out.rows.size()) / width_;
  return {};
}

}  // namespace linnet::image
