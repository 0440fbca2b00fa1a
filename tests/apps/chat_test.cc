// The chat command through pipes: answers only on stdout, JSON for programs, save and load.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/apps/command.h"

namespace linnet::test {
namespace {

std::vector<nlohmann::json> json_lines(const std::string& text) {
  std::vector<nlohmann::json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

}  // namespace

TEST_CASE("one prompt a line: one answer each, nothing else on stdout") {
  const Outcome quiet =
      linnet_command({"chat", tiny_model(), "--max-tokens", "6", "--temperature", "0"}, "Hello\nAnd again\n");
  INFO(quiet.err);
  CHECK(quiet.code == 0);
  CHECK(quiet.err.empty());
  CHECK(std::count(quiet.out.begin(), quiet.out.end(), '\n') >= 2);
  const Outcome stats = linnet_command(
      {"chat", tiny_model(), "--max-tokens", "6", "--temperature", "0", "--stats"}, "Hello\nAnd again\n");
  CHECK(stats.out == quiet.out);
  CHECK(stats.err.find("re-used") != std::string::npos);
  CHECK(stats.err.find("memory: weights") != std::string::npos);
}

TEST_CASE("JSON lines: pieces add up to the answer, each turn re-uses the state") {
  const Outcome outcome = linnet_command(
      {"chat", tiny_model(), "--max-tokens", "12", "--temperature", "1", "--seed", "3", "--json"},
      "One\nTwo\nThree\n");
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  std::string answer;
  int turns = 0;
  int64_t position = 0;
  for (const auto& line : json_lines(outcome.out)) {
    if (line["event"] == "token") {
      answer += line["text"].get<std::string>();
    } else {
      REQUIRE(line["event"] == "done");
      CHECK(line["answer"] == answer);
      CHECK(line["stats"]["answer_tokens"].get<int64_t>() <= 12);
      if (turns > 0) CHECK(line["stats"]["reused_tokens"].get<int64_t>() == position);
      CHECK(line["stats"]["rerun_tokens"] == 0);
      CHECK(line["stats"]["bytes_per_token"].get<int64_t>() > 0);
      position = line["stats"]["position"].get<int64_t>();
      answer.clear();
      ++turns;
    }
  }
  CHECK(turns == 3);
}

TEST_CASE("JSON commands: undo, regenerate, edit and reset, and what they re-use") {
  const Outcome outcome =
      linnet_command({"chat", tiny_model(), "--max-tokens", "8", "--temperature", "0", "--json"},
                     "One\nTwo\n{\"command\": \"regenerate\"}\n{\"command\": \"undo\"}\nTwo\n"
                     "{\"command\": \"edit\", \"messages\": [{\"role\": \"user\", \"content\": \"One\"}]}\n"
                     "{\"command\": \"regenerate\"}\n{\"command\": \"reset\"}\n{\"not\": \"a command\"}\n");
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  std::vector<std::string> answers;
  std::vector<int64_t> rerun, messages;
  for (const auto& line : json_lines(outcome.out)) {
    if (line["event"] == "done") {
      answers.push_back(line["answer"].get<std::string>());
      rerun.push_back(line["stats"]["rerun_tokens"].get<int64_t>());
    } else if (line["event"] == "history") {
      messages.push_back(line["messages"].get<int64_t>());
    }
  }
  CHECK(messages == std::vector<int64_t>{2, 1, 0});
  REQUIRE(answers.size() == 6);
  CHECK(answers[2] == answers[1]);  // the most likely answer again
  CHECK(answers[3] == answers[1]);
  CHECK(answers[4] == answers[0]);
  for (const int64_t n : rerun) CHECK(n == 0);
  for (const char* line :
       {"{\"command\": \"fly\"}\n", "{\"command\": \"edit\", \"messages\": [5]}\n",
        "{\"command\": \"edit\"}\n", "{\"command\": \"undo\"}\n",
        R"({"command": "edit", "messages": [{"role": "user"}]})",
        R"({"command": "edit", "messages": [{"role": "user", "content": null}]})",
        R"({"command": "edit", "messages": [{"role": "user", "content": 5}]})",
        R"({"command": "edit", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
        R"({"command": "edit", "messages": [{"role": "user", "content": "x", "tool_calls": []}]})"}) {
    const Outcome wrong = linnet_command({"chat", tiny_model(), "--json"}, line);
    CHECK(wrong.code == 2);
    CHECK(wrong.out.find("\"error\"") != std::string::npos);
  }
}

TEST_CASE("edit takes content as a text or as parts, with the same result") {
  const auto answer = [](const std::string& content) {
    const Outcome outcome =
        linnet_command({"chat", tiny_model(), "--max-tokens", "8", "--temperature", "0", "--json"},
                       "{\"command\": \"edit\", \"messages\": [{\"role\": \"user\", \"content\": " + content +
                           ", \"name\": null}]}\n{\"command\": \"regenerate\"}\n");
    INFO(outcome.err);
    CHECK(outcome.code == 0);
    return outcome.code == 0 ? json_lines(outcome.out).back()["answer"].get<std::string>() : std::string();
  };
  const std::string text = answer("\"One two\"");
  CHECK(answer("[{\"type\": \"text\", \"text\": \"One \"}, {\"type\": \"text\", \"text\": \"two\"}]") ==
        text);
}

TEST_CASE("the same seed gives the same answer for one and two threads, another seed another") {
  const auto answer = [](const char* threads, const char* seed) {
    return linnet_command({"chat", tiny_model(), "--prompt", "Hello", "--max-tokens", "40", "--temperature",
                           "1", "--seed", seed, "--threads", threads})
        .out;
  };
  const std::string one = answer("1", "5");
  CHECK_FALSE(one.empty());
  CHECK(answer("2", "5") == one);
  CHECK(answer("1", "6") != one);
}

TEST_CASE("a saved conversation goes on as if it had not been interrupted") {
  const auto state = (scratch() / "saved.state").string();
  const std::vector<std::string> common = {"chat",          tiny_model(), "--max-tokens", "10",
                                           "--temperature", "1",          "--seed",       "9"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> args = common;
    args.insert(args.end(), more.begin(), more.end());
    return args;
  };
  const Outcome whole = linnet_command(common, "First\nSecond\n");
  const Outcome first = linnet_command(with({"--save", state}), "First\n");
  const Outcome second = linnet_command(with({"--load", state, "--json"}), "Second\n");
  REQUIRE(second.code == 0);
  CHECK(first.out.size() < whole.out.size());
  CHECK(whole.out.substr(0, first.out.size()) == first.out);
  const auto last = json_lines(second.out).back();
  CHECK(whole.out.substr(first.out.size()) == last["answer"].get<std::string>() + "\n");
  CHECK(last["stats"]["rerun_tokens"] == 0);
  CHECK(last["stats"]["reused_tokens"].get<int64_t>() > 10);
}

TEST_CASE("the prefix cache is written once and read afterwards") {
  const auto cache = (scratch() / "prefix.state").string();
  const std::vector<std::string> args = {
      "chat",          tiny_model(), "--system", "Speak like a linnet.", "--prefix-cache",
      cache,           "--prompt",   "Hi",       "--max-tokens",         "5",
      "--temperature", "0",          "--json"};
  const auto first = json_lines(linnet_command(args).out), second = json_lines(linnet_command(args).out);
  REQUIRE_FALSE(first.empty());
  REQUIRE_FALSE(second.empty());
  CHECK(first.back()["answer"] == second.back()["answer"]);
  CHECK(first.back()["stats"]["reason"].get<std::string>().find("prefix cache was written") !=
        std::string::npos);
  CHECK(second.back()["stats"]["reason"] == "");
  CHECK(second.back()["stats"]["reused_tokens"].get<int64_t>() > 10);
  CHECK(second.back()["stats"]["new_tokens"].get<int64_t>() < 15);
  std::vector<std::string> other = args;
  other[3] = "Speak like a lark.";
  const auto third = json_lines(linnet_command(other).out);
  REQUIRE_FALSE(third.empty());
  CHECK(third.back()["stats"]["reason"].get<std::string>().find("differs from token") != std::string::npos);
}

TEST_CASE("what going back takes is shown, taken at once and within its budget") {
  for (const char* budget : {"3M", "40M", "0"}) {
    const Outcome outcome = linnet_command({"chat", tiny_model(), "--json", "--max-tokens", "3",
                                            "--checkpoint-budget", budget, "--window", "64", "--chunk", "16"},
                                           "One\nTwo\nThree\n");
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    int64_t before = -1;
    for (const auto& line : json_lines(outcome.out)) {
      if (line["event"] != "done") continue;
      const auto& memory = line["stats"]["memory"];
      const auto taken = memory["history_bytes"].get<int64_t>() + memory["checkpoint_bytes"].get<int64_t>();
      CHECK(taken <= std::stoi(budget) * (int64_t{1} << 20));
      CHECK((taken > 0) == (budget[0] != '0'));
      if (before >= 0) CHECK(taken == before);
      before = taken;
    }
    CHECK(before >= 0);
  }
}

TEST_CASE("Ctrl-C ends an endless answer with code 130") {
  const Outcome outcome = linnet_command({"chat", endless_model(), "--raw", "--prompt", "Once",
                                          "--temperature", "1", "--max-tokens", "100000000"},
                                         "", 400);
  CHECK(outcome.code == 130);
  CHECK_FALSE(outcome.out.empty());
}

TEST_CASE("--raw goes on with the text, without template") {
  const Outcome outcome = linnet_command({"chat", tiny_model(), "--raw", "--prompt", "abc", "--temperature",
                                          "0", "--max-tokens", "3", "--json"});
  REQUIRE(outcome.code == 0);
  CHECK(json_lines(outcome.out).back()["stats"]["new_tokens"].get<int64_t>() <= 3);
}

}  // namespace linnet::test
