#include "tests/apps/command.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

namespace linnet::test {
namespace {

struct Scratch {
  std::filesystem::path path;
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "linnet-apps-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

const std::filesystem::path& scratch() {
  static const Scratch folder;
  return folder.path;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

Outcome linnet_command(const std::vector<std::string>& args, const std::string& input, int interrupt_after_ms,
                       rlim_t file_bytes) {
  const auto in = scratch() / "stdin", out = scratch() / "stdout", err = scratch() / "stderr";
  write_file(in, input);
  // A Ctrl-C that comes before exec must not run this process's handlers in the child.
  sigset_t interrupt, before;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  sigprocmask(SIG_BLOCK, &interrupt, &before);
  const pid_t child = fork();
  if (child == 0) {
    ::signal(SIGINT, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    const int i = open(in.c_str(), O_RDONLY);
    const int o = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int e = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(i, 0);
    dup2(o, 1);
    dup2(e, 2);
    const rlimit limit = {file_bytes, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &limit);
    std::string program = LINNET_COMMAND;
    std::vector<char*> argv = {program.data()};
    std::vector<std::string> copy = args;
    for (std::string& arg : copy) argv.push_back(arg.data());
    argv.push_back(nullptr);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  sigprocmask(SIG_SETMASK, &before, nullptr);
  REQUIRE(child >= 0);
  if (interrupt_after_ms >= 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(interrupt_after_ms));
    kill(child, SIGINT);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  Outcome outcome;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = read_file(out);
  outcome.err = read_file(err);
  return outcome;
}

const std::string& tiny_model() {
  static const std::string path = [] {
    const std::string file = (scratch() / "tiny.lnt").string();
    const Outcome done =
        linnet_command({"convert", LINNET_GOLDEN "/language/llama/model", "-o", file, "--quantize", "f32"});
    INFO(done.err);
    REQUIRE(done.code == 0);
    return file;
  }();
  return path;
}

const std::string& endless_model() {
  static const std::string path = [] {
    const auto folder = scratch() / "endless";
    std::filesystem::copy(LINNET_GOLDEN "/language/llama/model", folder);
    const auto drop = [&](const char* name, const std::string& line) {
      std::string text = read_file(folder / name);
      const size_t at = text.find(line);
      REQUIRE(at != std::string::npos);
      write_file(folder / name, text.erase(at, line.size()));
    };
    drop("config.json", " \"eos_token_id\": 2,\n");
    drop("tokenizer_config.json", " \"eos_token\": \"<|im_end|>\",\n");
    // Texts that end an answer whatever the metadata says become others; the template's is then plain text.
    const auto rename = [&](const char* name, const std::string& token) {
      std::string text = read_file(folder / name);
      for (size_t at = 0; (at = text.find(token, at)) != std::string::npos;) text.replace(at, 3, "<|-");
      write_file(folder / name, text);
    };
    rename("tokenizer.json", "<|im_end|>");
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) rename(name, "<|endoftext|>");
    const std::string file = (scratch() / "endless.lnt").string();
    const Outcome done = linnet_command({"convert", folder.string(), "-o", file, "--quantize", "f32"});
    INFO(done.err);
    REQUIRE(done.code == 0);
    return file;
  }();
  return path;
}

}  // namespace linnet::test
