// A conversation at a terminal, through a pseudo-terminal: commands, history, Ctrl-C and Ctrl-D.
#include <doctest/doctest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "tests/apps/command.h"

namespace linnet::test {
namespace {

class Terminal {
 public:
  explicit Terminal(std::vector<std::string> args) {
    winsize size = {};
    size.ws_row = 50;
    size.ws_col = 200;
    child_ = forkpty(&terminal_, nullptr, nullptr, &size);
    REQUIRE(child_ >= 0);
    if (child_ == 0) {
      setenv("TERM", "xterm", 1);
      setenv("NO_COLOR", "1", 1);
      std::string program = LINNET_COMMAND;
      std::vector<char*> argv = {program.data()};
      for (std::string& arg : args) argv.push_back(arg.data());
      argv.push_back(nullptr);
      execv(program.c_str(), argv.data());
      _exit(127);
    }
  }
  ~Terminal() {
    if (child_ > 0) {
      kill(child_, SIGKILL);
      waitpid(child_, nullptr, 0);
    }
    ::close(terminal_);
  }

  void type(const std::string& keys) {
    REQUIRE(::write(terminal_, keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
  }
  // Reads until `text` has appeared after what was waited for before.
  bool shows(const std::string& text, int seconds = 20) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    for (;;) {
      if (const size_t at = screen_.find(text, seen_); at != std::string::npos) {
        seen_ = at + text.size();
        return true;
      }
      pollfd ready = {terminal_, POLLIN, 0};
      const auto left = until - std::chrono::steady_clock::now();
      const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(left).count();
      if (ms <= 0 || poll(&ready, 1, static_cast<int>(ms)) <= 0) return false;
      char bytes[4096];
      const ssize_t n = ::read(terminal_, bytes, sizeof(bytes));
      if (n <= 0) return screen_.find(text, seen_) != std::string::npos;
      screen_.append(bytes, static_cast<size_t>(n));
    }
  }
  // The code of a program that `keys` tell to leave. They are typed again every two seconds: between two
  // prompts they are the terminal's own to interpret and may be lost, or leave half a line in which Ctrl-D
  // does not mean the end, so the line is emptied first (Ctrl-U). A program that stays for 20 seconds is
  // ended and has the code of that.
  int exit_code(const std::string& keys) {
    int status = 0;
    pid_t ended = 0;
    for (int tries = 0; tries < 10 && ended == 0; ++tries) {
      const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(2);
      type(tries == 0 ? keys : "\x15" + keys);
      shows("\n\nnever\n", 2);  // until the terminal is closed
      while ((ended = waitpid(child_, &status, WNOHANG)) == 0 && std::chrono::steady_clock::now() < until)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    if (ended == 0) {
      kill(child_, SIGKILL);
      ended = waitpid(child_, &status, 0);
    }
    REQUIRE(ended == child_);
    child_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string rest() const { return screen_.substr(seen_); }

 private:
  int terminal_ = -1;
  pid_t child_ = -1;
  std::string screen_;
  size_t seen_ = 0;
};

}  // namespace

TEST_CASE("at a terminal: commands, history, Ctrl-C keeps the session, Ctrl-D leaves") {
  const auto state = (scratch() / "terminal.state").string();
  Terminal t({"chat", tiny_model(), "--max-tokens", "8", "--temperature", "0", "--threads", "1"});
  const auto says = [&](const std::string& keys, const std::string& text) {
    t.type(keys);
    const bool shown = t.shows(text);
    INFO(keys << " -> " << text << "; the terminal shows: " << t.rest());
    CHECK(shown);
  };
  CHECK(t.shows("> "));
  says("/help\r", "Ctrl-C stops an answer");
  says("/undo\r", "nothing to take back");
  says("Hello\r", "re-used 0 tokens, ran ");
  says("And \xC3\xA4 again\r", "tokens, ran ");
  says("/stats\r", "4 messages, ");
  says("/undo\r", "taken back; 2 messages are left");
  says("/regen\r", "ran 0 new");
  says("\x1b[A\x1b[A\x1b[A\r", "2 messages, ");  // three lines up: /stats
  says("/save " + state + "\r", "saved to ");
  says("/reset\r", "forgotten");
  says("/stats\r", "0 messages, 0 tokens seen");
  says("/load " + state + "\r", "loaded ");
  says("/stats\r", "messages, ");
  says("/load /nonexistent\r", "cannot open the state file");
  says("/system Be brief.\r", "changed; the next turn");
  says("/system\r", "Be brief.");
  says("Hi\r", "because the system message changed");
  says("/nonsense\r", "there is no command /nonsense");
  says("half a line\x03", "\n");
  says("one \\\rand two\r", "tokens, ran ");
  CHECK(t.shows("> "));
  const int code = t.exit_code("\x04");
  INFO("the terminal shows: " << t.rest());
  CHECK(code == 0);
}

TEST_CASE("Ctrl-C stops an endless answer at a terminal; what was typed meanwhile waits") {
  Terminal t({"chat", endless_model(), "--raw", "--max-tokens", "100000000", "--temperature", "1",
              "--threads", "1"});
  CHECK(t.shows("> "));
  t.type("Once\r");
  CHECK(t.shows("\n"));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  t.type("\x03");
  CHECK(t.shows(", stopped"));
  CHECK(t.shows("> "));
  t.type("/stats\r");
  CHECK(t.shows("2 messages, "));
  CHECK(t.exit_code("/exit\r") == 0);
}

}  // namespace linnet::test
