// What a person can get wrong: a clear sentence on stderr, nothing on stdout, exit code 2.
#include <doctest/doctest.h>
#include <unistd.h>

#include "runtime/core/strings.h"
#include "tests/apps/command.h"

namespace linnet::test {
namespace {

void refused(const std::vector<std::string>& args, const std::vector<std::string>& said,
             const std::string& input = "") {
  const Outcome outcome = linnet_command(args, input);
  std::string line;
  for (const std::string& arg : args) line += arg + " ";
  INFO(line);
  INFO(outcome.err);
  CHECK(outcome.code == 2);
  CHECK(outcome.out.empty());
  CHECK(outcome.err.starts_with("linnet: "));
  for (const std::string& part : said) CHECK(contains(outcome.err, part));
}

}  // namespace

TEST_CASE("command lines that mean nothing") {
  refused({"chat", tiny_model(), "--temprature", "1"},
          {"unknown option '--temprature'", "did you mean '--temperature'"});
  refused({"chatt", tiny_model()}, {"unknown command 'chatt'", "did you mean 'chat'"});
  refused({"bench", tiny_model(), "--repeats", "many"}, {"repeats"});
  refused({"bench", tiny_model(), "--repeats", "0"}, {"repeats"});
  refused({"chat", tiny_model(), "--cache", "f64"}, {"cache", "f16"});
  refused({"chat", tiny_model(), "--min-p", "2"}, {"min-p"});
  refused({"chat", tiny_model(), "--context", "128"}, {"--attention full"});
  refused({"chat", tiny_model(), "--attention", "full", "--window", "128"}, {"--window"});
  refused({"chat"}, {"MODEL"});
  refused({"inspect", tiny_model(), "extra"}, {"unexpected argument 'extra'"});
  refused({"inspect", tiny_model(), "--symbol", "tokens"}, {"NAME=VALUE"});
  refused({"chat", tiny_model(), "--backend", "vulkan", "--device", "no such GPU", "--prompt", "x"},
          {"ulkan"});
  refused({"chat", tiny_model(), "--device", "0", "--prompt", "x"}, {"--backend vulkan"});
}

TEST_CASE("numbers that do not fit, or are none") {
  for (const char* seed : {"-1", "18446744073709551616", "1.5", "1e3", "0x", "", "seven"})
    refused({"chat", tiny_model(), "--seed", seed}, {"--seed", "18446744073709551615"});
  refused({"image", tiny_model(), "-o", "x.png", "--seed", "-1"}, {"--seed"});
  for (const char* size : {"-1", "-64M", "1Q", "99999999999G", "M", ""}) {
    refused({"chat", tiny_model(), "--memory-limit", size}, {"--memory-limit"});
    refused({"chat", tiny_model(), "--checkpoint-budget", size}, {"--checkpoint-budget"});
  }
  refused({"chat", tiny_model(), "--memory-limit", "0"}, {"--memory-limit", "1 at least"});
  for (const char* threads : {"-1", "0", "99999999999999999999", "3x", "1.5", "nan"})
    refused({"chat", tiny_model(), "--threads", threads}, {"--threads", "1 to 1024"});
  for (const char* number : {"-1", "inf", "1e400", "hot"})
    refused({"chat", tiny_model(), "--temperature", number}, {"--temperature"});
  // One form, whatever the option: no other base, no sign that says nothing, no blanks, no nan within a
  // range.
  const std::vector<std::vector<std::string>> numbers = {
      {"chat", tiny_model(), "--threads"},      {"chat", tiny_model(), "--top-k"},
      {"chat", tiny_model(), "--top-p"},        {"chat", tiny_model(), "--min-p"},
      {"chat", tiny_model(), "--temperature"},  {"chat", tiny_model(), "--repetition-penalty"},
      {"chat", tiny_model(), "--seed"},         {"chat", tiny_model(), "--max-tokens"},
      {"chat", tiny_model(), "--window"},       {"chat", tiny_model(), "--sinks"},
      {"chat", tiny_model(), "--context"},      {"chat", tiny_model(), "--chunk"},
      {"chat", tiny_model(), "--memory-limit"}, {"chat", tiny_model(), "--checkpoint-budget"},
      {"image", tiny_model(), "--steps"},       {"image", tiny_model(), "--guidance"},
      {"image", tiny_model(), "--count"},       {"image", tiny_model(), "--size"},
      {"image", tiny_model(), "--seed"},        {"image", tiny_model(), "--scale"},
      {"image", tiny_model(), "--threads"},     {"image", tiny_model(), "--guidance-channels"},
      {"bench", tiny_model(), "--repeats"},     {"bench", tiny_model(), "--minutes"},
      {"bench", tiny_model(), "--depth"},       {"bench", tiny_model(), "--prompt-tokens"},
      {"bench", tiny_model(), "--seed"},        {"bench", tiny_model(), "--decode-tokens"}};
  for (std::vector<std::string> args : numbers) {
    const std::string name = args.back();
    args.emplace_back();
    for (const char* wrong :
         {"-2", "0x10", "+3", " 3", "3 ", "nan", "inf", "1e400", "3x", "", "1'0", "1_0"}) {
      args.back() = wrong;
      if (wrong == std::string("3x") && (name == "--memory-limit" || name == "--checkpoint-budget")) continue;
      refused(args, {name, strf("'{}' is no ", wrong)});
    }
  }
  // Leading zeros are decimal, too.
  refused({"chat", tiny_model(), "--threads", "02000"}, {"'02000' is no whole number from 1 to 1024"});
  CHECK(
      linnet_command({"chat", tiny_model(), "--threads", "08", "--prompt", "x", "--max-tokens", "1"}).code ==
      0);
  refused({"chat", tiny_model(), "--max-tokens", "18446744073709551617"}, {"--max-tokens"});
}

TEST_CASE("messages show control characters instead of obeying them") {
  const Outcome outcome = linnet_command({"inspect", "no\x1b[2Jsuch\xE2\x80\xAE\xFF.lnt"});
  CHECK(outcome.code == 2);
  CHECK(contains(outcome.err, "no\\x1b[2Jsuch\\u{202e}\\xff.lnt"));
  CHECK_FALSE(contains(outcome.err, "\x1b"));
  CHECK_FALSE(contains(outcome.err, "\xFF"));
}

TEST_CASE("a bare command explains itself") {
  const Outcome nothing = linnet_command({});
  CHECK(nothing.code == 2);
  CHECK(nothing.out.empty());
  CHECK(contains(nothing.err, "chat"));
  const Outcome help = linnet_command({"--help"});
  CHECK(help.code == 0);
  CHECK(contains(help.out, "convert"));
  CHECK(linnet_command({"chat", "--help"}).code == 0);
  CHECK(linnet_command({"--version"}).code == 0);
}

TEST_CASE("model files that are none") {
  const auto bad = (scratch() / "bad.lnt").string();
  for (const char* command : {"chat", "inspect", "bench"}) {
    refused({command, (scratch() / "missing.lnt").string()}, {"missing.lnt"});
    refused({command, scratch().string()}, {scratch().string()});
    write_file(bad, "");
    refused({command, bad}, {"bad.lnt"});
    write_file(
        bad,
        "this is not a model, but it is long enough to hold a header of sixty-four bytes and some more text");
    refused({command, bad}, {"bad.lnt"});
  }
  const std::string whole = read_file(tiny_model());
  write_file(bad, whole.substr(0, whole.size() / 2));
  refused({"inspect", bad}, {"bad.lnt"});
  for (const size_t at : {size_t{8}, size_t{12}, whole.size() - 100, whole.size() - 2000}) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    write_file(bad, flipped);
    refused({"inspect", bad}, {"bad.lnt"});
  }
  if (geteuid() != 0) {
    write_file(bad, whole);
    std::filesystem::permissions(bad, std::filesystem::perms::none);
    refused({"inspect", bad}, {"bad.lnt"});
    std::filesystem::permissions(bad, std::filesystem::perms::owner_all);
  }
}

TEST_CASE("a flipped bit in the weights is found by --verify") {
  std::string bytes = read_file(tiny_model());
  bytes[32768] = static_cast<char>(bytes[32768] ^ 1);
  const auto bad = (scratch() / "flipped.lnt").string();
  write_file(bad, bytes);
  CHECK(linnet_command({"inspect", bad}).code == 0);
  refused({"inspect", bad, "--verify"}, {"flipped.lnt"});
  CHECK(linnet_command({"inspect", tiny_model(), "--verify"}).code == 0);
}

TEST_CASE("prompts that cannot be answered") {
  refused({"chat", tiny_model(), "--prompt", ""}, {"the prompt is empty"});
  refused({"chat", tiny_model(), "--prompt", "ab\xff"}, {"UTF-8", "offset 2"});
  refused({"chat", tiny_model()}, {"standard input holds no prompt"}, "\n \n");
  refused({"chat", tiny_model()}, {"line 1", "UTF-8", "offset 0"}, "\x80\n");
  refused({"chat", tiny_model(), "--system", "\xc3("}, {"system message", "offset 0"}, "hello\n");
  // Full attention: refused with the numbers.
  refused({"chat", tiny_model(), "--attention", "full", "--context", "16", "--prompt",
           "A message of more than sixteen tokens."},
          {"16", "--context"});
}

TEST_CASE("conversions that cannot be") {
  const auto out = (scratch() / "never.lnt").string();
  const std::string source = LINNET_GOLDEN "/language/llama/model";
  refused({"convert", (scratch() / "nowhere").string(), "-o", out}, {"nowhere"});
  refused({"convert", source, "-o", scratch().string()}, {"folder"});
  refused({"convert", source, "-o", (scratch() / "no/such/folder.lnt").string()}, {"does not exist"});
  refused({"convert", source, "-o", tiny_model()}, {"--force"});
  refused({"convert", source, "-o", out, "--quantize", "q7"}, {"quantize", "q4a"});
  refused({"convert", source, "-o", out, "--keep", "mlp"}, {"PATTERN=TYPE"});
  refused({"convert", tiny_model(), "-o", out}, {"tiny.lnt"});
  write_file(scratch() / "cut.gguf", "GGUF\x03");
  refused({"convert", (scratch() / "cut.gguf").string(), "-o", out}, {"cut.gguf"});
  CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("state files that do not belong") {
  const auto state = (scratch() / "state").string();
  write_file(state, "not a state");
  refused({"chat", tiny_model(), "--load", state, "--prompt", "x"}, {"state"});
  refused({"chat", tiny_model(), "--load", (scratch() / "none").string(), "--prompt", "x"}, {"none"});
  // A file of the user's is not replaced by a prefix cache.
  refused({"chat", tiny_model(), "--prefix-cache", state, "--prompt", "x"}, {"state"});
  CHECK(read_file(state) == "not a state");
  const Outcome saved = linnet_command(
      {"chat", tiny_model(), "--prompt", "x", "--max-tokens", "4", "--save", state, "--force"});
  CHECK(saved.code == 0);
  refused({"chat", tiny_model(), "--load", state, "--prompt", "y", "--window", "77"}, {"window"});
  std::string bytes = read_file(state);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  write_file(state, bytes);
  refused({"chat", tiny_model(), "--load", state, "--prompt", "y"}, {"damaged"});
}

}  // namespace linnet::test
