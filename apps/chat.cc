// linnet chat: a conversation at a terminal, through a pipe, or one prompt.
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "apps/bounds_options.h"
#include "apps/chat_output.h"
#include "apps/common.h"
#include "apps/line_editor.h"
#include "format/output_file.h"
#include "linnet/chat.h"
#include "runtime/core/strings.h"
#include "runtime/text/printable.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace linnet::app {
namespace {

struct ChatArguments {
  std::string path;
  std::optional<std::string> prompt, system, save, load;
  ChatOptions chat;
  std::vector<std::string> variables;
  std::optional<uint64_t> checkpoint_budget;
  std::string checkpoint_precision = "exact";
  bool json = false, stats = false, force = false;
  BoundsOptions bounds;
};

constexpr const char* kHelp =
    "/help           this text\n"
    "/reset          forget the conversation, keep the system message\n"
    "/undo           take back the last message and its answer\n"
    "/regen          answer the last message anew\n"
    "/system [TEXT]  show or change the system message\n"
    "/save FILE      keep the conversation with its state (/save! FILE: in the place of another file)\n"
    "/load FILE      go on with a kept one (same model, same options)\n"
    "/stats          memory of this conversation\n"
    "/exit           leave, as does Ctrl-D\n"
    "Ctrl-C stops an answer and keeps what was said. A line that ends in \\ goes on in the next.\n";

// What is typed while an answer is written is not shown in the midst of it; it waits for the prompt.
class QuietTerminal {
 public:
  QuietTerminal() {
    if (!stdin_is_terminal() || tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    changed_ = tcsetattr(STDIN_FILENO, TCSANOW, &quiet) == 0;
  }
  ~QuietTerminal() {
    if (changed_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  QuietTerminal(const QuietTerminal&) = delete;
  QuietTerminal& operator=(const QuietTerminal&) = delete;

 private:
  termios before_ = {};
  bool changed_ = false;
};

class Conversation {
 public:
  Conversation(std::unique_ptr<Chat> chat, ChatOutput output) : chat_(std::move(chat)), output_(output) {}

  // Both return an exit code; after kCancelled the answer was cut short and stays in the conversation.
  int send(std::string_view text, std::string_view where = {}) {
    return turn(
        [&](const auto& on_text, const auto& on_prompt) { return chat_->send(text, on_text, on_prompt); },
        where);
  }
  int regenerate(std::string_view where = {}) {
    return turn(
        [&](const auto& on_text, const auto& on_prompt) { return chat_->regenerate(on_text, on_prompt); },
        where);
  }
  // A file that this conversation came from or went to is its own; another one makes room only by `force`.
  Result<void> load(const std::string& path) {
    LINNET_TRY(chat_->load(path));
    file_ = path;
    return {};
  }
  Result<void> save(const std::string& path, bool force) {
    LINNET_TRY(chat_->save(path, force || is_own(path)));
    file_ = path;
    return {};
  }
  bool is_own(const std::string& path) const {
    std::error_code none;
    return !file_.empty() && std::filesystem::equivalent(path, file_, none);
  }
  Chat& chat() { return *chat_; }
  ChatOutput& output() { return output_; }

 private:
  template <typename F>
  int turn(const F& run, std::string_view where) {
    const QuietTerminal quiet;
    ProgressBar bar;
    const auto on_text = [&](std::string_view piece) {
      bar.clear();
      return output_.piece(piece) && !interrupted();
    };
    const auto on_prompt = [&](int64_t done, int64_t total) {
      bar.show("reading the prompt", static_cast<uint64_t>(done), static_cast<uint64_t>(total));
      return !interrupted();
    };
    const auto turn = run(Chat::OnText(on_text), Chat::OnPrompt(on_prompt));
    bar.clear();
    if (!turn) return output_.failed(turn.error(), where);
    output_.done(*turn, *chat_);
    if (auto written = flush_stdout(); !written) return complain(written.error());
    return turn->stop == StopReason::kStopped ? kCancelled : kOk;
  }

  std::unique_ptr<Chat> chat_;
  ChatOutput output_;
  std::string file_;
};

void say(const Result<void>& result, const std::string& done) {
  if (!result)
    complain(result.error());
  else if (!done.empty())
    std::fprintf(stderr, "%s\n", dim(done).c_str());
}

// False to leave.
bool command(Conversation& conversation, const std::string& line) {
  const size_t space = line.find_first_of(" \t");
  const std::string name = line.substr(0, space);
  std::string argument = space == std::string::npos ? "" : line.substr(space);
  if (const size_t first = argument.find_first_not_of(" \t"); first != std::string::npos)
    argument.erase(0, first);
  else
    argument.clear();
  Chat& chat = conversation.chat();
  if (name == "/exit" || name == "/quit") return false;
  if (name == "/help") {
    std::fputs(kHelp, stderr);
  } else if (name == "/reset") {
    say(chat.reset(), "forgotten");
  } else if (name == "/undo") {
    const auto undone = chat.undo();
    say(undone, strf("taken back; {} messages are left", chat.messages().size()));
  } else if (name == "/regen") {
    conversation.regenerate();
  } else if (name == "/stats") {
    conversation.output().memory(chat);
    std::fprintf(
        stderr, "%s\n",
        dim(strf("{} messages, {} tokens seen", chat.messages().size(), chat.session().position())).c_str());
  } else if (name == "/system" && argument.empty()) {
    const bool set = !chat.messages().empty() && chat.messages()[0].role == "system";
    std::fprintf(stderr, "%s\n",
                 set ? text::printable(chat.messages()[0].content).c_str()
                     : dim("the template's own system message").c_str());
  } else if (name == "/system") {
    say(chat.set_system(argument), "changed; the next turn runs the conversation anew with it");
  } else if (name == "/save" || name == "/save!" || name == "/load") {
    std::error_code none;
    if (argument.empty())
      std::fprintf(stderr, "linnet: %s needs a file name\n", name.c_str());
    else if (name == "/load")
      say(conversation.load(argument), strf("loaded {}", argument));
    else if (name == "/save" && std::filesystem::is_regular_file(argument, none) &&
             !conversation.is_own(argument))
      std::fprintf(stderr, "linnet: '%s' exists already: /save! replaces it\n",
                   text::printable(argument).c_str());
    else
      say(conversation.save(argument, name == "/save!"), strf("saved to {}", argument));
  } else {
    std::fprintf(stderr, "linnet: there is no command %s; /help lists them\n", text::printable(name).c_str());
  }
  return true;
}

int at_terminal(Conversation& conversation) {
  std::fprintf(stderr, "%s\n",
               dim("/help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves").c_str());
  LineEditor editor;
  std::string line;
  for (;;) {
    const auto outcome = editor.read("> ", line);
    if (outcome == LineEditor::Outcome::kEnd) break;
    if (outcome == LineEditor::Outcome::kInterrupted) {
      std::fputs("\n", stderr);
      continue;
    }
    if (line.find_first_not_of(" \t\n") == std::string::npos) continue;
    if (line[0] == '/') {
      if (!command(conversation, line)) return kOk;
    } else {
      conversation.send(line);
    }
    clear_interrupt();
  }
  std::fputs("\n", stderr);
  return kOk;
}

// A text, or parts of type "text" as OpenAI's form has them, which are put together as they are.
Result<std::string> read_content(const nlohmann::json& content, size_t number) {
  if (content.is_string()) return content.get<std::string>();
  const auto refuse = [&](const std::string& what) {
    return fail(ErrorCode::kInvalidArgument,
                strf("message {} of \"edit\" has {}: content is a text, or a list of {\"type\": \"text\", "
                     "\"text\": ...}",
                     number, what));
  };
  if (!content.is_array())
    return refuse(content.is_null() ? "no content" : "a content that is " + content.dump().substr(0, 80));
  std::string text;
  for (const auto& part : content) {
    const bool is_text = part.is_object() && part.value("type", "") == "text" && part.contains("text") &&
                         part["text"].is_string();
    if (!is_text) return refuse("the part " + part.dump().substr(0, 80));
    text += part["text"].get<std::string>();
  }
  return text;
}

// The history of an edit: a list of {"role": ..., "content": ...}. What else a message says would be lost,
// and is refused; null says nothing.
Result<std::vector<Message>> read_messages(const nlohmann::json& list) {
  std::vector<Message> messages;
  if (!list.is_array())
    return fail(ErrorCode::kInvalidArgument, "\"edit\" needs \"messages\", a list of roles and contents");
  for (const auto& one : list) {
    const size_t number = messages.size();
    if (!one.is_object() || !one.contains("role") || !one["role"].is_string() || one["role"] == "")
      return fail(ErrorCode::kInvalidArgument,
                  strf("message {} of \"edit\" is {}, expected a role and a content", number,
                       one.dump().substr(0, 80)));
    for (const auto& [key, value] : one.items())
      if (key != "role" && key != "content" && !value.is_null())
        return fail(
            ErrorCode::kInvalidArgument,
            strf("message {} of \"edit\" has '{}', which a conversation here does not keep: it has roles "
                 "and contents",
                 number, key));
    LINNET_ASSIGN(std::string content,
                  read_content(one.contains("content") ? one["content"] : nlohmann::json(), number));
    messages.push_back({one["role"].get<std::string>(), std::move(content)});
  }
  return messages;
}

// With --json a line may be an object that names a command; any other line is a prompt.
int json_command(Conversation& conversation, const nlohmann::json& line, std::string_view where) {
  const auto name = line["command"].get<std::string>();
  Chat& chat = conversation.chat();
  Result<void> done;
  if (name == "regenerate") {
    return conversation.regenerate(where);
  } else if (name == "undo") {
    done = chat.undo();
  } else if (name == "reset") {
    done = chat.reset();
  } else if (name == "edit") {
    auto messages = read_messages(line.value("messages", nlohmann::json()));
    done = messages ? chat.edit(std::move(*messages)) : Result<void>(std::unexpected(messages.error()));
  } else {
    done = fail(ErrorCode::kInvalidArgument,
                strf("there is no command '{}'; there are undo, regenerate, edit and reset", name));
  }
  if (!done) return conversation.output().failed(done.error(), where);
  conversation.output().history(chat);
  return kOk;
}

std::optional<nlohmann::json> as_command(const std::string& line) {
  if (line[0] != '{') return std::nullopt;
  auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object() || !json.contains("command") || !json["command"].is_string()) return std::nullopt;
  return json;
}

// Reads a line of any length; false at the end or after Ctrl-C.
bool read_line(std::string& line) {
  line.clear();
  for (int c; (c = std::getc(stdin)) != EOF;) {
    if (c == '\n') return true;
    line.push_back(static_cast<char>(c));
  }
  return !line.empty() && !interrupted();
}

int from_pipe(Conversation& conversation, bool json) {
  std::string line;
  int64_t number = 0, answered = 0;
  while (read_line(line)) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    ++answered;
    const std::string where = strf("line {}", number);
    const auto wanted = json ? as_command(line) : std::nullopt;
    const int code = wanted ? json_command(conversation, *wanted, where) : conversation.send(line, where);
    if (code != kOk) return code;
  }
  if (interrupted()) return kCancelled;
  if (answered == 0)
    return conversation.output().failed(
        {ErrorCode::kInvalidArgument, "standard input holds no prompt: write one a line, or use --prompt"});
  return kOk;
}

// `backend` outlives the chat.
Result<std::unique_ptr<Chat>> open(const ChatArguments& options, bool one_prompt,
                                   std::shared_ptr<const Backend>& backend) {
  LINNET_TRY(check_bounds(options.bounds));
  LINNET_ASSIGN(backend, find_backend(options.bounds));
  LINNET_ASSIGN(std::shared_ptr<const Model> model, Model::open(options.path));
  ChatOptions chat = options.chat;
  // Nothing goes back in a conversation of one turn.
  chat.checkpoint_bytes = options.checkpoint_budget.value_or(one_prompt ? 0 : chat.checkpoint_bytes);
  chat.half_checkpoints = options.checkpoint_precision == "f16";
  chat.system = options.system;
  for (const std::string& variable : options.variables) {
    const size_t equals = variable.find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(ErrorCode::kInvalidArgument, strf("--template-variable '{}' is not NAME=VALUE", variable));
    chat.template_variables.emplace_back(variable.substr(0, equals), variable.substr(equals + 1));
  }
  return Chat::create(std::move(model), *backend, session_options(options.bounds), std::move(chat));
}

// The copies of a long conversation that a turn makes in passing (its rendering) go back to the system at
// once instead of widening the heap.
void return_large_blocks() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
  mallopt(M_TRIM_THRESHOLD, 64 << 10);
#endif
}

int chat(const ChatArguments& options) {
  return_large_blocks();
  const bool terminal = !options.prompt && stdin_is_terminal() && !options.json;
  std::shared_ptr<const Backend> backend;
  auto opened = open(options, options.prompt.has_value(), backend);
  if (!opened) return complain_input(opened.error());
  Conversation conversation(std::move(*opened), ChatOutput(options.json, terminal, options.stats));
  if (options.load)
    if (auto loaded = conversation.load(*options.load); !loaded) return complain_input(loaded.error());
  if (options.save)
    if (auto checked = format::check_output(
            *options.save, {.replace = options.force || conversation.is_own(*options.save), .stream = true});
        !checked)
      return complain_input(checked.error());
  catch_interrupts();
  if (options.stats) conversation.output().memory(conversation.chat());
  const int code = options.prompt ? conversation.send(*options.prompt)
                   : terminal     ? at_terminal(conversation)
                                  : from_pipe(conversation, options.json);
  if (options.save)
    if (auto saved = conversation.save(*options.save, options.force); !saved) return complain(saved.error());
  return code;
}

void add_sampling_options(Command command, SamplingOptions& sampling) {
  const std::string group =
      "Sampling (without any of them: the model file's; if it has none, 0.7, top-p 0.9, min-p 0.05, penalty "
      "1.1)";
  command.option("--temperature", sampling.temperature, "0: always the most likely token")
      .between(0.0, 100.0)
      .group(group);
  command.option("--top-k", sampling.top_k, "choose among the k most likely; 0: off")
      .between(0, 1 << 24)
      .group(group);
  command.option("--top-p", sampling.top_p, "choose among the likeliest that make up this share; 1: off")
      .between(0.0, 1.0)
      .group(group);
  command.option("--min-p", sampling.min_p, "leave out what is less likely than this times the best; 0: off")
      .between(0.0, 1.0)
      .group(group);
  command.option("--repetition-penalty", sampling.repetition_penalty, "over 1: avoid tokens seen; 1: off")
      .between(0.01, 100.0)
      .group(group);
  command.option("--seed", sampling.seed, "same seed, same answers").shows_default().group(group);
}

}  // namespace

void add_chat(CommandLine& line) {
  const auto options = std::make_shared<ChatArguments>();
  options->chat.max_tokens = 2048;
  Command command = line.command("chat", "Talk to a language model");
  command.option("MODEL", options->path, "a Linnet file (.lnt)").required();
  command.option(
      "--prompt", options->prompt,
      "answer this and leave; without it: a conversation, or one prompt a line from standard input");
  command.option("--system", options->system, "system message");
  command
      .option("--max-tokens", options->chat.max_tokens,
              "most tokens of an answer; -1: until the model ends it, which it may never do")
      .between(int64_t{-1}, int64_t{1} << 40)
      .shows_default();
  command.flag("--raw", options->chat.raw, "no chat template: the model goes on with the text as it is");
  command.option("--template-variable", options->variables,
                 "NAME=VALUE for the chat template: true, false, null, a number, JSON, or a text; may be "
                 "repeated");
  command.option(
      "--save", options->save,
      "keep the conversation with its state in this file when leaving (an existing one: only that of "
      "--load, or with --force)");
  command.flag("--force", options->force, "--save replaces a file that is there already");
  command.option("--load", options->load, "go on with a kept conversation");
  command.option("--prefix-cache", options->chat.prefix_cache,
                 "file for the state after the system message; written when missing or outdated");
  command
      .option("--checkpoint-budget", options->checkpoint_budget,
              "most bytes for going back with /undo and /regen, such as 64M; 0: none (without it: 128M)")
      .bytes();
  command
      .option("--checkpoint-precision", options->checkpoint_precision,
              "of f32 states in snapshots; with f16 twice as many fit, and going back is not exact")
      .one_of({"exact", "f16"})
      .shows_default();
  command.flag("--json", options->json, "one JSON object a line: events token, done, history, error");
  command.flag("--stats", options->stats,
               "after each answer: tokens re-used, speed, bytes, memory (on stderr)");
  add_sampling_options(command, options->chat.sampling);
  add_bounds_options(command, options->bounds);
  command.does([options] { return chat(*options); });
}

}  // namespace linnet::app
