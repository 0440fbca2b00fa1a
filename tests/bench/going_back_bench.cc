// How long undo, regenerate and an edit take in a long conversation, until the first new token is computed.
//
// usage: linnet_going_back_bench MODEL.lnt [tokens, 4000] [budget in MiB, 128] [exact|f16]
#include <cstdio>
#include <cstdlib>
#include <string>

#include "backends/cpu/cpu.h"
#include "linnet/chat.h"
#include "tests/bench/bench.h"

namespace {

using namespace linnet;
using bench::must;

// The answer anew, and what this process computed until its first character: on a busy machine the clock says
// less.
Turn regenerated(Chat& chat) {
  const double start = bench::seconds(CLOCK_PROCESS_CPUTIME_ID);
  double first = -1;
  Turn turn = must(chat.regenerate([&](std::string_view) {
    if (first < 0) first = bench::seconds(CLOCK_PROCESS_CPUTIME_ID) - start;
    return true;
  }));
  if (first >= 0) std::printf("%.2f ms of processor time until the first character: ", 1e3 * first);
  return turn;
}

void print(const char* what, const Turn& turn) {
  const TurnStats& s = turn.stats;
  std::printf("%-44s %7.2f ms before the first new token; re-used %lld, re-ran %lld, new %lld; %s\n", what,
              1e3 * (s.first_token_seconds - s.prefill_seconds), static_cast<long long>(s.reused_tokens),
              static_cast<long long>(s.rerun_tokens), static_cast<long long>(s.new_tokens), s.reason.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s MODEL.lnt [tokens] [budget in MiB] [exact|f16]\n", argv[0]);
    return 2;
  }
  const int64_t tokens = argc > 2 ? std::atoll(argv[2]) : 4000;
  const size_t budget = static_cast<size_t>(argc > 3 ? std::atoll(argv[3]) : 128) << 20;
  const auto model = must(Model::open(argv[1]));
  ChatOptions options;
  options.checkpoint_bytes = budget;
  options.half_checkpoints = argc > 4 && std::string(argv[4]) == "f16";
  options.max_tokens = 12;
  options.raw = model->chat_template() == nullptr;
  const auto chat = must(Chat::create(model, *must(cpu_backend()), {}, options));
  const Session& session = chat->session();
  std::printf("state %.1f MiB, history %.1f MiB", static_cast<double>(session.state_bytes()) / 1048576.0,
              static_cast<double>(session.memory().history_bytes) / 1048576.0);
  std::printf(", checkpoints %.1f MiB\n", static_cast<double>(chat->checkpoint_bytes()) / 1048576.0);
  std::string page = "This is one page of a long story about a small brown bird.";
  for (int i = 0; i < 14; ++i) page += " It flew over the hills and sang until the evening came.";
  while (chat->session().position() < tokens) must(chat->send(page));
  std::printf("conversation of %lld tokens, %zu messages, can go back to token %lld without a checkpoint\n",
              static_cast<long long>(chat->session().position()), chat->messages().size(),
              static_cast<long long>(chat->session().rewind_floor()));
  print("regenerate", regenerated(*chat));
  print("regenerate again", regenerated(*chat));
  must(chat->undo());
  print("undo, then another message", must(chat->send("What sang?")));
  must(chat->undo());
  must(chat->undo());
  print("undo of two exchanges, then another message", must(chat->send("Who sang?")));
  for (const size_t back : {size_t{3}, size_t{5}}) {
    std::vector<Message> history = chat->messages();
    if (history.size() <= back) break;
    history.resize(history.size() - back);
    history.back().content = "Another page.";
    must(chat->edit(std::move(history)));
    print(back == 3 ? "edit of the message before the last" : "edit of one further back",
          must(chat->regenerate()));
  }
  return 0;
}
