#include <cmath>
#include <cstring>
#include <initializer_list>
#include <new>
#include <utility>

#include "linnet/chat.h"
#include "linnet/linnet.h"
#include "runtime/core/guard.h"
#include "runtime/core/strings.h"
#include "runtime/session/precision.h"

struct linnet_model {
  std::shared_ptr<const linnet::Model> model;
};
struct linnet_chat {
  std::unique_ptr<linnet::Chat> chat;
  std::string answer;
};

namespace {

using linnet::Error;
using linnet::ErrorCode;
using linnet::Result;

linnet_status status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return LINNET_INVALID_ARGUMENT;
    case ErrorCode::kInvalidFile:
      return LINNET_INVALID_FILE;
    case ErrorCode::kUnsupported:
      return LINNET_UNSUPPORTED;
    case ErrorCode::kNotFound:
      return LINNET_NOT_FOUND;
    case ErrorCode::kIo:
      return LINNET_IO;
    case ErrorCode::kOutOfMemory:
      return LINNET_OUT_OF_MEMORY;
    case ErrorCode::kPoisoned:
      return LINNET_POISONED;
    case ErrorCode::kNumeric:
      return LINNET_NUMERIC;
    case ErrorCode::kCancelled:
      return LINNET_CANCELLED;
    case ErrorCode::kInternal:
      return LINNET_INTERNAL;
  }
  return LINNET_INTERNAL;
}

linnet_status report(const Error& error, linnet_error* out) {
  const linnet_status status = status_of(error.code);
  if (!out) return status;
  out->status = status;
  size_t bytes = std::min(error.message.size(), sizeof(out->message) - 1);
  // Cut between characters.
  while (bytes > 0 && bytes < error.message.size() && (error.message[bytes] & 0xC0) == 0x80) --bytes;
  std::memcpy(out->message, error.message.data(), bytes);
  out->message[bytes] = '\0';
  return status;
}

template <typename F>
linnet_status guarded(linnet_error* error, const F& body) {
  const Result<void> result = linnet::guarded([&]() -> Result<void> { return body(); });
  if (!result) return report(result.error(), error);
  if (error) *error = {LINNET_OK, ""};
  return LINNET_OK;
}

// 0 bits leave what it is.
Result<void> set_precision(int bits, linnet::DTypeUse use, const char* what,
                           linnet::CachePrecision& precision) {
  if (bits == 0) return {};
  const auto found = linnet::find_precision(
      use, [&](linnet::DType dtype) { return linnet::info_of(dtype).bits == static_cast<size_t>(bits); });
  if (!found)
    return linnet::fail(ErrorCode::kInvalidArgument,
                        linnet::strf("{} is {}: it must be {}", what, bits,
                                     use == linnet::kStates ? "32 or 16" : "32, 16 or 8"));
  precision = *found;
  return {};
}

// `pointers` are name and pointer of what must not be NULL.
Result<void> required(std::initializer_list<std::pair<const char*, const void*>> pointers) {
  for (const auto& [name, pointer] : pointers)
    if (!pointer) return linnet::fail(ErrorCode::kInvalidArgument, std::string(name) + " is NULL");
  return {};
}

Result<linnet::SessionOptions> session_options(const linnet_chat_options& from) {
  const std::pair<const char*, int64_t> counts[] = {{"threads", from.threads},
                                                    {"chunk", from.chunk},
                                                    {"window", from.window},
                                                    {"context", from.context},
                                                    {"sinks", from.sinks + int64_t{from.sinks == -1}}};
  for (const auto& [name, count] : counts)
    if (count < 0)
      return linnet::fail(
          ErrorCode::kInvalidArgument,
          std::string(name) + " is negative; linnet_chat_options_init() fills in the defaults");
  linnet::SessionOptions options;
  if (from.threads > 0) options.threads = from.threads;
  if (from.chunk > 0) options.chunk = from.chunk;
  if (from.window > 0) options.window = from.window;
  if (from.sinks >= 0) options.sinks = from.sinks;
  if (from.context > 0) options.context = from.context;
  options.full_attention = from.full_attention != 0;
  options.memory_limit = from.memory_limit;
  LINNET_TRY(set_precision(from.cache_bits, linnet::kCaches, "cache_bits", options.cache));
  LINNET_TRY(set_precision(from.state_bits, linnet::kStates, "state_bits", options.recurrent));
  return options;
}

Result<linnet::ChatOptions> chat_options(const linnet_chat_options& from) {
  const std::pair<const char*, float> numbers[] = {{"temperature", from.temperature},
                                                   {"top_p", from.top_p},
                                                   {"min_p", from.min_p},
                                                   {"repetition_penalty", from.repetition_penalty}};
  for (const auto& [name, number] : numbers)
    if (!std::isfinite(number))
      return linnet::fail(ErrorCode::kInvalidArgument, std::string(name) + " is not a finite number");
  if (from.max_tokens < -1)
    return linnet::fail(ErrorCode::kInvalidArgument, "max_tokens is below -1, which is no limit");
  linnet::ChatOptions options;
  if (from.system) options.system = from.system;
  if (from.temperature >= 0) options.sampling.temperature = from.temperature;
  if (from.top_k >= 0) options.sampling.top_k = from.top_k;
  if (from.top_p >= 0) options.sampling.top_p = from.top_p;
  if (from.min_p >= 0) options.sampling.min_p = from.min_p;
  if (from.repetition_penalty >= 0) options.sampling.repetition_penalty = from.repetition_penalty;
  options.sampling.seed = from.seed;
  options.max_tokens = from.max_tokens;
  options.raw = from.raw != 0;
  options.checkpoint_bytes = from.checkpoint_bytes;
  return options;
}

const linnet::Backend& backend_of(const linnet_backend* backend) {
  return *reinterpret_cast<const linnet::Backend*>(backend);
}

// What undo, reset and load leave as the last answer.
std::string last_answer(const linnet::Chat& chat) {
  const auto& messages = chat.messages();
  for (size_t i = messages.size(); i-- > 0;)
    if (messages[i].role == "assistant") return messages[i].content;
  return "";
}

linnet_status run_turn(linnet_chat* chat, linnet_on_text on_text, void* context, linnet_turn* out,
                       linnet_error* error, const auto& run) {
  return guarded(error, [&]() -> Result<void> {
    LINNET_TRY(required({{"chat", chat}}));
    std::string zero_ended;
    const auto pass = [&](std::string_view text) {
      if (!on_text) return true;
      zero_ended = text;
      return on_text(context, zero_ended.c_str(), zero_ended.size()) != 0;
    };
    LINNET_ASSIGN(linnet::Turn turn, run(*chat->chat, linnet::Chat::OnText(pass)));
    chat->answer = std::move(turn.answer);
    if (out) {
      const linnet::TurnStats& s = turn.stats;
      *out = {s.reused_tokens,       s.rerun_tokens,
              s.new_tokens,          s.answer_tokens,
              s.first_token_seconds, s.prefill_rate(),
              s.decode_rate(),       turn.stop == linnet::StopReason::kEndOfAnswer};
    }
    return {};
  });
}

}  // namespace

extern "C" {

linnet_model* linnet_model_open(const char* path, linnet_error* error) {
  linnet_model* model = nullptr;
  guarded(error, [&]() -> Result<void> {
    LINNET_TRY(required({{"path", path}}));
    LINNET_ASSIGN(auto opened, linnet::Model::open(path));
    model = new linnet_model{std::move(opened)};
    return {};
  });
  return model;
}

void linnet_model_free(linnet_model* model) { delete model; }

void linnet_chat_options_init(linnet_chat_options* options) {
  if (!options) return;
  const linnet::ChatOptions defaults;
  *options = {};
  options->sinks = -1;
  options->temperature = options->top_p = options->min_p = options->repetition_penalty = -1;
  options->top_k = -1;
  options->max_tokens = defaults.max_tokens;
  options->checkpoint_bytes = defaults.checkpoint_bytes;
}

linnet_status linnet_chat_memory(const linnet_model* model, const linnet_backend* backend,
                                 const linnet_chat_options* options, linnet_memory* memory,
                                 linnet_error* error) {
  return guarded(error, [&]() -> Result<void> {
    LINNET_TRY(required({{"model", model}, {"backend", backend}, {"memory", memory}}));
    linnet_chat_options chosen;
    linnet_chat_options_init(&chosen);
    if (options) chosen = *options;
    LINNET_ASSIGN(const auto session, session_options(chosen));
    LINNET_ASSIGN(const auto rest, chat_options(chosen));
    LINNET_ASSIGN(const auto need,
                  linnet::Chat::memory_required(*model->model, backend_of(backend), session, rest));
    *memory = {need.weights_bytes, need.state_bytes, need.work_bytes, need.backend_bytes, need.history_bytes};
    return {};
  });
}

linnet_chat* linnet_chat_create(const linnet_model* model, const linnet_backend* backend,
                                const linnet_chat_options* options, linnet_error* error) {
  linnet_chat* chat = nullptr;
  guarded(error, [&]() -> Result<void> {
    LINNET_TRY(required({{"model", model}, {"backend", backend}}));
    linnet_chat_options chosen;
    linnet_chat_options_init(&chosen);
    if (options) chosen = *options;
    LINNET_ASSIGN(const auto bounds, session_options(chosen));
    LINNET_ASSIGN(linnet::ChatOptions rest, chat_options(chosen));
    LINNET_ASSIGN(auto created,
                  linnet::Chat::create(model->model, backend_of(backend), bounds, std::move(rest)));
    chat = new linnet_chat{std::move(created), {}};
    return {};
  });
  return chat;
}

void linnet_chat_free(linnet_chat* chat) { delete chat; }

linnet_status linnet_chat_send(linnet_chat* chat, const char* text, linnet_on_text on_text, void* context,
                               linnet_turn* turn, linnet_error* error) {
  return run_turn(chat, on_text, context, turn, error,
                  [&](linnet::Chat& c, const linnet::Chat::OnText& f) -> Result<linnet::Turn> {
                    LINNET_TRY(required({{"text", text}}));
                    return c.send(text, f);
                  });
}

linnet_status linnet_chat_regenerate(linnet_chat* chat, linnet_on_text on_text, void* context,
                                     linnet_turn* turn, linnet_error* error) {
  return run_turn(chat, on_text, context, turn, error,
                  [](linnet::Chat& c, const linnet::Chat::OnText& f) { return c.regenerate(f); });
}

const char* linnet_chat_answer(const linnet_chat* chat) { return chat ? chat->answer.c_str() : ""; }

linnet_status linnet_chat_undo(linnet_chat* chat, linnet_error* error) {
  return guarded(error, [&]() -> Result<void> {
    LINNET_TRY(required({{"chat", chat}}));
    LINNET_TRY(chat->chat->undo());
    chat->answer = last_answer(*chat->chat);
    return {};
  });
}
linnet_status linnet_chat_reset(linnet_chat* chat, linnet_error* error) {
  return guarded(error, [&]() -> Result<void> {
    LINNET_TRY(required({{"chat", chat}}));
    LINNET_TRY(chat->chat->reset());
    chat->answer.clear();
    return {};
  });
}
linnet_status linnet_chat_save(const linnet_chat* chat, const char* path, linnet_error* error) {
  return guarded(error, [&]() -> Result<void> {
    LINNET_TRY(required({{"chat", chat}, {"path", path}}));
    return chat->chat->save(path);
  });
}
linnet_status linnet_chat_load(linnet_chat* chat, const char* path, linnet_error* error) {
  return guarded(error, [&]() -> Result<void> {
    LINNET_TRY(required({{"chat", chat}, {"path", path}}));
    LINNET_TRY(chat->chat->load(path));
    chat->answer = last_answer(*chat->chat);
    return {};
  });
}

}  // extern "C"
