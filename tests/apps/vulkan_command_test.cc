// The command on a GPU when something is amiss: no driver, an end by force in the middle.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "tests/apps/command.h"
#include "tests/compare.h"

namespace linnet::test {
namespace {

// Whether the command was built with Vulkan and finds a device.
bool device() {
  const char* value = std::getenv("LINNET_TEST_VULKAN");
  const std::string wish = value ? value : "";
  const Outcome listed = wish == "0" ? Outcome{} : linnet_command({"inspect", "--devices"});
  if (wish != "0" && listed.code == 0) return true;
  if (wish == "1" || wish == "only") FAIL("LINNET_TEST_VULKAN: ", listed.err);
  testing::skipped("no Vulkan: " + (wish == "0" ? "LINNET_TEST_VULKAN=0" : listed.err));
  return false;
}

struct Variable {
  Variable(const char* name, const std::string& value) : name_(name) { setenv(name, value.c_str(), 1); }
  ~Variable() { unsetenv(name_); }
  const char* name_;
};

// Starts the command and ends it by force after `ms`.
void killed(const std::vector<std::string>& args, int ms) {
  const pid_t child = fork();
  if (child == 0) {
    const int nowhere = open("/dev/null", O_RDWR);
    for (const int fd : {0, 1, 2}) dup2(nowhere, fd);
    std::string program = LINNET_COMMAND;
    std::vector<std::string> copy = args;
    std::vector<char*> argv = {program.data()};
    for (std::string& arg : copy) argv.push_back(arg.data());
    argv.push_back(nullptr);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  REQUIRE(child > 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  kill(child, SIGKILL);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
}

}  // namespace

TEST_CASE("a machine without a driver says so and what to do") {
  if (!device()) return;
  const std::string none = (scratch() / "no_driver.json").string();
  const Variable old_name("VK_ICD_FILENAMES", none), new_name("VK_DRIVER_FILES", none);
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"chat", tiny_model(), "--backend", "vulkan", "--prompt", "x"},
        std::vector<std::string>{"inspect", "--devices"}}) {
    const Outcome outcome = linnet_command(args);
    CAPTURE(outcome.err);
    CHECK(outcome.code != 0);
    CHECK(outcome.code < 128);
    CHECK(contains(outcome.err, "Vulkan"));
    CHECK(contains(outcome.err, "--backend cpu"));
  }
}

TEST_CASE("ended by force at any moment, it starts again as if nothing had been") {
  if (!device()) return;
  const std::string cache = (scratch() / "shaders.bin").string();
  const std::vector<std::string> args = {"chat",          tiny_model(), "--backend",      "vulkan",
                                         "--prompt",      "hello",      "--max-tokens",   "3",
                                         "--temperature", "0",          "--shader-cache", cache};
  const Outcome before = linnet_command(args);
  CAPTURE(before.err);
  REQUIRE(before.code == 0);
  for (const int ms : {20, 60, 150, 400}) killed(args, ms);
  const Outcome after = linnet_command(args);
  CHECK(after.code == 0);
  CHECK(after.out == before.out);
}

}  // namespace linnet::test
