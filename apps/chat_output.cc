#include "apps/chat_output.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/common.h"
#include "apps/model_info.h"
#include "format/names.h"
#include "runtime/core/strings.h"

namespace linnet::app {
namespace {

using Json = nlohmann::ordered_json;

void print_json(const Json& object) {
  std::printf("%s\n", object.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
  std::fflush(stdout);
}

const char* stop_name(StopReason stop) {
  switch (stop) {
    case StopReason::kEndOfAnswer:
      return "end";
    case StopReason::kMaxTokens:
      return "max_tokens";
    case StopReason::kStopped:
      return "stopped";
    case StopReason::kContextFull:
      return "context_full";
  }
  return "?";
}

TokenTraffic traffic_of(const Chat& chat) {
  const Engine& engine = chat.session().engine();
  const int method = graph::find_method(engine.model(), names::kForward);
  return token_traffic(engine, static_cast<size_t>(method), chat.session().position());
}

Json memory_json(const Chat& chat) {
  const SessionMemory memory = chat.session().memory();
  return {{"weights_bytes", memory.weights_bytes},
          {"state_bytes", memory.state_bytes},
          {"work_bytes", memory.work_bytes},
          {"backend_bytes", memory.backend_bytes},
          {"checkpoints", chat.checkpoint_count()},
          {"checkpoint_bytes", chat.checkpoint_bytes()},
          {"history_bytes", memory.history_bytes},
          {"rewind_floor", chat.session().rewind_floor()},
          {"conversation_bytes", chat.conversation_bytes()}};
}

Json stats_json(const Turn& turn, const Chat& chat) {
  const TurnStats& s = turn.stats;
  const TokenTraffic traffic = traffic_of(chat);
  return {{"reused_tokens", s.reused_tokens},
          {"rerun_tokens", s.rerun_tokens},
          {"new_tokens", s.new_tokens},
          {"reason", s.reason},
          {"answer_tokens", s.answer_tokens},
          {"first_token_seconds", s.first_token_seconds},
          {"prefill_tokens_per_second", s.prefill_rate()},
          {"decode_tokens_per_second", s.decode_rate()},
          {"position", chat.session().position()},
          {"bytes_per_token", traffic.weight_bytes + traffic.state_bytes},
          {"memory", memory_json(chat)}};
}

std::string memory_text(const Chat& chat) {
  const SessionMemory memory = chat.session().memory();
  std::string text = strf("memory: weights {} (mapped), state {}, work {}, backend {}",
                          human_bytes(memory.weights_bytes), human_bytes(memory.state_bytes),
                          human_bytes(memory.work_bytes), human_bytes(memory.backend_bytes));
  if (memory.history_bytes > 0)
    text += strf(", history {} (back to token {} of {})", human_bytes(memory.history_bytes),
                 human_count(chat.session().rewind_floor()), human_count(chat.session().position()));
  if (chat.checkpoint_bytes() > 0)
    text +=
        strf(", checkpoints {} ({} in use)", human_bytes(chat.checkpoint_bytes()), chat.checkpoint_count());
  return text + strf(", conversation {}", human_bytes(chat.conversation_bytes()));
}

}  // namespace

bool ChatOutput::piece(std::string_view text) {
  if (json_) {
    print_json({{"event", "token"}, {"text", text}});
  } else {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  return std::ferror(stdout) == 0;
}

void ChatOutput::done(const Turn& turn, const Chat& chat) {
  if (json_) {
    print_json({{"event", "done"},
                {"answer", turn.answer},
                {"stop", stop_name(turn.stop)},
                {"stats", stats_json(turn, chat)}});
    return;
  }
  std::fputs("\n", stdout);
  std::fflush(stdout);
  if (turn.stop == StopReason::kContextFull)
    std::fprintf(stderr,
                 "linnet: the context is full: /undo, /reset, a larger --context, or --attention window\n");
  if (!notes_ && !stats_) return;
  const TurnStats& s = turn.stats;
  std::string line = strf("re-used {} tokens", human_count(s.reused_tokens));
  if (s.rerun_tokens > 0) line += strf(", re-ran {}", human_count(s.rerun_tokens));
  line += strf(", ran {} new", human_count(s.new_tokens));
  if (!s.reason.empty())
    line += s.rerun_tokens > 0 ? strf(", because {}", s.reason) : strf(" ({})", s.reason);
  line += strf(" | first token {} s, prefill {} tok/s, decode {} tok/s", fixed(s.first_token_seconds, 2),
               fixed(s.prefill_rate(), 0), fixed(s.decode_rate(), 1));
  if (turn.stop == StopReason::kStopped) line += ", stopped";
  if (turn.stop == StopReason::kMaxTokens) line += strf(", ended at {} tokens", s.answer_tokens);
  std::fprintf(stderr, "%s\n", dim(line).c_str());
  if (!stats_) return;
  const TokenTraffic traffic = traffic_of(chat);
  std::fprintf(stderr, "%s\n",
               dim(strf("answer {} tokens, position {}; a token reads {} of weights and {} of state",
                        human_count(s.answer_tokens), human_count(chat.session().position()),
                        human_bytes(traffic.weight_bytes), human_bytes(traffic.state_bytes)))
                   .c_str());
  std::fprintf(stderr, "%s\n", dim(memory_text(chat)).c_str());
}

int ChatOutput::failed(const Error& error, std::string_view where) {
  Error placed = error;
  if (!where.empty()) placed.message = strf("{}: {}", where, error.message);
  if (json_) print_json({{"event", "error"}, {"message", placed.message}});
  return complain(placed);
}

void ChatOutput::history(const Chat& chat) {
  print_json({{"event", "history"}, {"messages", chat.messages().size()}});
}

void ChatOutput::memory(const Chat& chat) {
  if (json_)
    print_json({{"event", "memory"}, {"memory", memory_json(chat)}});
  else
    std::fprintf(stderr, "%s\n", dim(memory_text(chat)).c_str());
}

}  // namespace linnet::app
