// What the commands write: existing files, streams, and a standard output that takes nothing.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "tests/apps/command.h"

namespace linnet::test {
namespace {

namespace fs = std::filesystem;

const std::string kFull = "/dev/full";

// Through a shell, with its redirections.
Outcome shell(const std::string& command) {
  const auto err = scratch() / "shell.err";
  const int status = std::system((command + " 2> " + err.string()).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), "", read_file(err)};
}

std::string ids() {
  const std::string path = (scratch() / "ids.safetensors").string();
  const std::string header = R"({"input_ids":{"dtype":"I32","shape":[3],"data_offsets":[0,12]}})";
  const uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes += header;
  for (const int32_t id : {5, 6, 7}) bytes.append(reinterpret_cast<const char*>(&id), sizeof(id));
  write_file(path, bytes);
  return path;
}

std::vector<std::string> chat_saving(const std::string& file, const std::vector<std::string>& more = {}) {
  std::vector<std::string> args = {"chat", tiny_model(),    "--prompt", "Hi",     "--max-tokens",
                                   "3",    "--temperature", "0",        "--save", file};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

void refused_as_existing(const std::vector<std::string>& args, const fs::path& file) {
  const Outcome outcome = linnet_command(args);
  INFO(outcome.err);
  CHECK(outcome.code == 2);
  CHECK(contains(outcome.err, file.filename().string()));
  CHECK(contains(outcome.err, "--force"));
  CHECK(read_file(file) == "precious");
}

}  // namespace

TEST_CASE("a file that is there is replaced with --force only") {
  const fs::path file = scratch() / "kept";
  write_file(file, "precious");
  const std::vector<std::string> run = {"run", tiny_model(), "--inputs", ids(), "--outputs", file.string()};
  refused_as_existing(run, file);
  refused_as_existing(chat_saving(file.string()), file);
  std::vector<std::string> forced = run;
  forced.push_back("--force");
  CHECK(linnet_command(forced).code == 0);
  CHECK(read_file(file) != "precious");
  CHECK(linnet_command(chat_saving(file.string(), {"--force"})).code == 0);
  // The conversation's own file is written anew, by whatever name.
  const auto first = read_file(file);
  fs::create_symlink(file, scratch() / "alias");
  const Outcome on = linnet_command(chat_saving((scratch() / "alias").string(), {"--load", file.string()}));
  INFO(on.err);
  CHECK(on.code == 0);
  CHECK(read_file(file).size() > first.size());
  CHECK(fs::is_symlink(scratch() / "alias"));
  const Outcome cache = linnet_command(
      {"chat", tiny_model(), "--prompt", "Hi", "--max-tokens", "1", "--prefix-cache", scratch().string()});
  CHECK(cache.code == 2);
  CHECK(contains(cache.err, "it is a folder"));
}

TEST_CASE("pipes and devices are written to, or refused by name") {
  const fs::path pipe = scratch() / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  const fs::path file = scratch() / "by-name.safetensors";
  REQUIRE(linnet_command({"run", tiny_model(), "--inputs", ids(), "--outputs", file.string()}).code == 0);
  std::string arrived;
  std::thread reader([&] { arrived = read_file(pipe); });
  CHECK(linnet_command({"run", tiny_model(), "--inputs", ids(), "--outputs", pipe.string()}).code == 0);
  reader.join();
  CHECK(arrived == read_file(file));
  CHECK(fs::is_fifo(pipe));
  const Outcome out = linnet_command({"run", tiny_model(), "--inputs", ids(), "--outputs", "/dev/stdout"});
  CHECK(out.code == 0);
  CHECK(out.out == arrived);

  const Outcome model = linnet_command({"convert", LINNET_GOLDEN "/language/llama/model", "-o", pipe.string(),
                                        "--quantize", "f32", "--force"});
  CHECK(model.code == 2);
  CHECK(contains(model.err, "not a regular file but a pipe"));
  CHECK(fs::is_fifo(pipe));
  for (const char* option : {"--prefix-cache"}) {
    const Outcome cache = linnet_command({"chat", tiny_model(), "--prompt", "Hi", option, pipe.string()});
    CHECK(cache.code == 2);
    CHECK(contains(cache.err, "pipe"));
  }
  for (const std::vector<std::string>& args :
       {chat_saving(kFull), {"run", tiny_model(), "--inputs", ids(), "--outputs", kFull}}) {
    const Outcome full = linnet_command(args);
    INFO(full.err);
    CHECK(full.code == 1);
    CHECK(contains(full.err, "'/dev/full': No space left"));
  }
  CHECK(fs::is_character_file(kFull));
}

TEST_CASE("a standard output that takes nothing ends every command with an error") {
  const std::string linnet = LINNET_COMMAND, model = " " + tiny_model();
  const std::vector<std::string> commands = {
      "--help",
      "--version",
      "chat" + model + " --prompt Hi --max-tokens 3",
      "chat" + model + " --prompt Hi --max-tokens 3 --json",
      "inspect" + model,
      "inspect" + model + " --json --memory",
      "bench" + model + " --prompt-tokens 8 --decode-tokens 2 --repeats 1",
      "run" + model + " --inputs " + ids() + " --outputs /dev/stdout",
  };
  for (const std::string& command : commands) {
    CAPTURE(command);
    const Outcome good = shell(linnet + " " + command + " > /dev/null");
    INFO(good.err);
    CHECK(good.code == 0);
    const Outcome full = shell(linnet + " " + command + " > /dev/full");
    CHECK(full.code == 1);
    CHECK(contains(full.err, "linnet: "));
    const Outcome closed = shell(linnet + " " + command + " >&-");
    CHECK(closed.code == 1);
    // A pipe whose reader has left.
    int ends[2] = {-1, -1};
    REQUIRE(pipe(ends) == 0);
    REQUIRE(dup2(ends[1], 9) == 9);
    ::close(ends[0]);
    ::close(ends[1]);
    const Outcome left = shell(linnet + " " + command + " >&9");
    ::close(9);
    CHECK(left.code == 1);
    CHECK(contains(left.err, "linnet: "));
    CHECK((contains(left.err, "standard output") || contains(left.err, "/dev/stdout")));
  }
  // An answer without end stops when nobody can read it.
  CHECK(shell(linnet + " chat " + endless_model() +
              " --raw --prompt Once --temperature 1 --max-tokens 100000000 > /dev/full")
            .code == 1);
}

}  // namespace linnet::test
