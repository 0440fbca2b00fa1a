// linnet eval: figures that agree with each other, and with the file they are said of.
#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/apps/command.h"

namespace linnet::test {
namespace {

std::string text_file() {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "A linnet is a small bird, number " + std::to_string(i * i) + ".\n";
  const auto path = scratch() / "eval.txt";
  write_file(path, text);
  return path.string();
}

nlohmann::json eval(std::vector<std::string> args) {
  args.insert(args.begin(), {"eval"});
  args.emplace_back("--json");
  const Outcome outcome = linnet_command(args);
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  return nlohmann::json::parse(outcome.out);
}

std::string quantised() {
  const auto path = (scratch() / "eval-q4k.lnt").string();
  const Outcome outcome = linnet_command({"convert", LINNET_GOLDEN "/language/llama/model", "-o", path,
                                          "--quantize", "q4k", "--force", "--no-self-test"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  return path;
}

}  // namespace

TEST_CASE("perplexity and bits a byte are of the same sum, and windows score every token but their first") {
  const auto all = eval({tiny_model(), "--text", text_file(), "--context", "100000"});
  const double tokens = all["tokens"], bytes = all["bytes"],
               loss = tokens * std::log(all["perplexity"].get<double>());
  CHECK(all["bits_per_byte"].get<double>() == doctest::Approx(loss / std::log(2.0) / bytes));
  CHECK(bytes == static_cast<double>(read_file(text_file()).size()));
  CHECK(all["perplexity"].get<double>() > 1);
  CHECK_FALSE(all.contains("against"));
  const auto windows = eval({tiny_model(), "--text", text_file(), "--context", "64"});
  const auto count = static_cast<int64_t>(tokens) + 1;
  CHECK(windows["tokens"] == count - (count + 63) / 64);
  // Half a window to go by: every token but the very first is scored.
  const auto sliding = eval({tiny_model(), "--text", text_file(), "--context", "64", "--stride", "32"});
  CHECK(sliding["tokens"] == count - 1);
  // The same on more threads.
  CHECK(eval({tiny_model(), "--text", text_file(), "--context", "64", "--threads", "2"})["perplexity"] ==
        windows["perplexity"]);
  CHECK(eval({tiny_model(), "--text", text_file(), "--context", "64", "--tokens", "50"})["tokens"] == 49);
}

TEST_CASE("a file is no distance from itself, and some from a coarser one") {
  const auto self = eval({tiny_model(), "--text", text_file(), "--against", tiny_model()})["against"];
  CHECK(self["largest_kl"].get<double>() < 1e-12);
  CHECK(self["same_token"] == 1.0);
  const std::string coarse = quantised();
  const auto far = eval({coarse, "--text", text_file(), "--against", tiny_model()});
  const auto& against = far["against"];
  CHECK(against["mean_kl"].get<double>() > 1e-4);
  CHECK(against["largest_kl"].get<double>() >= against["kl_99"].get<double>());
  CHECK(against["kl_99"].get<double>() >= against["median_kl"].get<double>());
  CHECK(against["same_token"].get<double>() < 1.0);
  // Each side's perplexity is what it has alone.
  CHECK(against["perplexity"].get<double>() ==
        doctest::Approx(eval({tiny_model(), "--text", text_file()})["perplexity"].get<double>()));
  CHECK(far["perplexity"].get<double>() ==
        doctest::Approx(eval({coarse, "--text", text_file()})["perplexity"].get<double>()));
}

// A model's own likeliest continuation is the right answer wherever it is told so, and the wrong one
// elsewhere.
TEST_CASE("questions are answered by what the model finds likelier") {
  const auto path = (scratch() / "choices.jsonl").string();
  const auto ask = [&](const std::string& text) {
    write_file(path, text);
    return eval({tiny_model(), "--choices", path});
  };
  const std::string question =
      R"({"prompt": "The linnet is a", "choices": [" bird", " small bird of open country"], )";
  const double first = ask(question + "\"answer\": 0}\n")["accuracy"],
               second = ask(question + "\"answer\": \"B\"}\n")["accuracy"];
  CHECK(first + second == 1.0);
  const auto both = ask(question + "\"answer\": 0}\n\n" + question + "\"label\": 1}\n");
  CHECK(both["questions"] == 2);
  CHECK(both["accuracy"] == 0.5);
  CHECK(both["accuracy_by_bytes"] == 0.5);
  const auto refused = [&](const std::string& text, const std::string& said) {
    write_file(path, text);
    const Outcome outcome = linnet_command({"eval", tiny_model(), "--choices", path, "--context", "16"});
    INFO(outcome.err);
    CHECK(outcome.code == 2);
    CHECK(contains(outcome.err, said));
  };
  refused("", "no questions");
  refused("{\n", "line 1");
  refused(question + "\"answer\": 2}\n", "none of the choices");
  refused(question + "\"answer\": 1}\n", "--context");
  refused(R"({"prompt": "a", "choices": ["b"], "answer": 0})", "choices");
  const Outcome two = linnet_command({"eval", tiny_model(), "--choices", path, "--text", path});
  CHECK(two.code == 2);
  CHECK(contains(two.err, "give one"));
}

TEST_CASE("pictures of a file are its own, and a coarser file's are near them") {
  const auto file = [](const char* name, const char* type) {
    const auto path = (scratch() / name).string();
    const Outcome outcome = linnet_command({"convert", LINNET_GOLDEN "/image/sana_sprint_pipeline/model",
                                            "-o", path, "--quantize", type, "--force", "--no-self-test"});
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    return path;
  };
  const std::string whole = file("pictures-f32.lnt", "f32"), fine = file("pictures-q8.lnt", "q8"),
                    coarse = file("pictures-q3k.lnt", "q3k");
  const auto prompts = (scratch() / "prompts.txt").string();
  write_file(prompts, "a bird\n\na small house by the sea\n");
  const auto compare = [&](const std::string& path) {
    return eval({path, "--pictures", prompts, "--against", whole, "--size", "32", "--seed", "3"});
  };
  const auto same = compare(whole), near = compare(fine), far = compare(coarse);
  CHECK(same["pictures"] == 2);
  CHECK(same["psnr"] == 99);
  CHECK(same["latents"] == 0);
  CHECK(near["psnr"].get<double>() < 99);
  CHECK(far["psnr"].get<double>() < near["psnr"].get<double>());
  CHECK(far["least_psnr"].get<double>() <= far["psnr"].get<double>());
  CHECK(far["latents"].get<double>() > near["latents"].get<double>());
  const Outcome alone = linnet_command({"eval", whole, "--pictures", prompts});
  CHECK(alone.code == 2);
  CHECK(contains(alone.err, "--against"));
  const Outcome text = linnet_command({"eval", tiny_model(), "--text", prompts, "--steps", "3"});
  CHECK(text.code == 2);
  CHECK(contains(text.err, "--pictures"));
  CHECK(linnet_command({"eval", tiny_model(), "--pictures", prompts, "--against", whole}).code == 2);
}

TEST_CASE("the difference of two files names what differs, and how much") {
  const std::string coarse = quantised();
  const auto diff = [](const std::string& a, const std::string& b) {
    const Outcome outcome = linnet_command({"inspect", a, "--diff", b, "--json"});
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    return nlohmann::json::parse(outcome.out);
  };
  const auto same = diff(coarse, coarse);
  CHECK(same["changed"].empty());
  CHECK(same["graph"] == true);
  CHECK(same["same"].get<int>() > 20);
  const auto other = diff(tiny_model(), coarse);
  CHECK(other["graph"] == true);
  CHECK(other["tokenizer"] == true);
  REQUIRE(other["changed"].size() > 20);
  for (const auto& tensor : other["changed"]) {
    CHECK(tensor["difference"].get<double>() > 0);
    CHECK(tensor["difference"].get<double>() < 0.05);
  }
  const Outcome text = linnet_command({"inspect", coarse, "--diff", tiny_model()});
  CHECK(contains(text.out, "q4k/"));
  CHECK(linnet_command({"inspect", coarse, "--diff", "/no/such.lnt"}).code == 2);
}

// tests/oracles/rwkv_golden.py wrote the same weights under the names of their author.
TEST_CASE("RWKV's own torch file is the model that its Hugging Face form is") {
  const auto folder = scratch() / "rwkv";
  std::filesystem::create_directory(folder);
  const auto weights = folder / "RWKV-x070-tiny.pth", out = scratch() / "rwkv-own.lnt",
             other = scratch() / "rwkv-hf.lnt";
  std::filesystem::copy_file(LINNET_GOLDEN "/readers/torch/rwkv7.pth", weights,
                             std::filesystem::copy_options::overwrite_existing);
  std::string vocabulary;
  for (int id = 1; id < 257; ++id) {
    char line[64];
    std::snprintf(line, sizeof line, "%d b'\\x%02x' 1\n", id, id - 1);
    vocabulary += line;
  }
  write_file(folder / "rwkv_vocab_v20230424.txt", vocabulary);
  const Outcome own =
      linnet_command({"convert", weights.string(), "-o", out.string(), "--force", "--quantize", "f32"});
  INFO(own.err);
  REQUIRE(own.code == 0);
  REQUIRE(linnet_command({"convert", LINNET_GOLDEN "/language/fla_rwkv7/model", "-o", other.string(),
                          "--force", "--quantize", "f32", "--no-self-test"})
              .code == 0);
  const auto diff = nlohmann::json::parse(
      linnet_command({"inspect", out.string(), "--diff", other.string(), "--json"}).out);
  CHECK(diff["graph"] == true);
  CHECK(diff["same"] == 102);
  CHECK(diff["changed"].empty());
  CHECK(diff["only_a"].empty());
  CHECK(diff["only_b"].empty());
  const Outcome chat =
      linnet_command({"chat", out.string(), "--prompt", "Hi", "--max-tokens", "3", "--temperature", "0"});
  INFO(chat.err);
  CHECK(chat.code == 0);
  const Outcome foreign =
      linnet_command({"convert", LINNET_GOLDEN "/readers/torch/mmengine.pth", "-o", out.string(), "--force"});
  CHECK(foreign.code == 2);
  CHECK(contains(foreign.err, "config.json"));
}

TEST_CASE("a report is one page with every tensor, and refuses to be the model") {
  const auto page = scratch() / "report.html", out = scratch() / "reported.lnt";
  const std::string model = LINNET_GOLDEN "/language/llama/model";
  const Outcome made = linnet_command(
      {"convert", model, "-o", out.string(), "--quantize", "q4k", "--report", page.string(), "--force"});
  INFO(made.err);
  REQUIRE(made.code == 0);
  const std::string html = read_file(page);
  CHECK(contains(html, "<!doctype html>"));
  CHECK(contains(html, "model.layers.2.mlp.down_proj.weight"));
  CHECK(contains(html, "<svg"));
  CHECK(contains(html, "Memory of one conversation"));
  CHECK_FALSE(contains(html, "http"));  // nothing is fetched
  const Outcome same =
      linnet_command({"convert", model, "-o", out.string(), "--report", out.string(), "--force"});
  CHECK(same.code == 2);
  CHECK(contains(same.err, "same file"));
  const Outcome there = linnet_command({"convert", model, "--dry-run", "--report", page.string()});
  CHECK(there.code == 2);
  CHECK(contains(there.err, "--force"));
}

TEST_CASE("evaluations that cannot be are refused") {
  const auto refused = [](const std::vector<std::string>& args, const std::string& said) {
    const Outcome outcome = linnet_command(args);
    INFO(outcome.err);
    CHECK(outcome.code == 2);
    CHECK(outcome.out.empty());
    CHECK(contains(outcome.err, said));
  };
  const auto empty = (scratch() / "empty.txt").string();
  write_file(empty, "");
  refused({"eval", tiny_model(), "--text", empty}, "too short");
  refused({"eval", tiny_model(), "--text", "/no/such/text"}, "/no/such/text");
  refused({"eval", tiny_model()}, "--text");
  refused({"eval", tiny_model(), "--text", text_file(), "--context", "64", "--stride", "65"}, "--stride 65");
  const auto binary = (scratch() / "binary.txt").string();
  write_file(binary, "\xff\xfe");
  refused({"eval", tiny_model(), "--text", binary}, "UTF-8");
  refused({"convert", LINNET_GOLDEN "/language/llama/model", LINNET_GOLDEN "/language/llama/model", "-o",
           (scratch() / "two.lnt").string()},
          "--combine says how");
  refused({"convert", LINNET_GOLDEN "/language/llama/model", "--combine", "1", "-o",
           (scratch() / "one.lnt").string()},
          "needs several checkpoints");
}

// The golden's weights are random: no text is likely to it.
TEST_CASE("weights that no training made are told, and converted as they are") {
  const auto out = (scratch() / "junk.lnt").string();
  const Outcome outcome =
      linnet_command({"convert", LINNET_GOLDEN "/language/llama/model", "-o", out, "--force"});
  CHECK(outcome.code == 0);
  CHECK(contains(outcome.err, "less likely than chance"));
  CHECK(contains(outcome.err, "damaged or untrained"));
}

TEST_CASE("a dry run says what would be written, and writes nothing") {
  const auto out = scratch() / "dry.lnt";
  const std::string model = LINNET_GOLDEN "/language/llama/model";
  const Outcome dry =
      linnet_command({"convert", model, "--dry-run", "--quantize", "q4k", "-o", out.string()});
  INFO(dry.err);
  REQUIRE(dry.code == 0);
  CHECK_FALSE(std::filesystem::exists(out));
  CHECK(contains(dry.out, "nothing was written"));
  CHECK(contains(dry.out, "  q4k "));
  CHECK(contains(dry.out, "those that lose most"));
  const Outcome all = linnet_command({"convert", model, "--dry-run", "--quantize", "q4k", "--verbose"});
  REQUIRE(all.code == 0);
  CHECK(contains(all.out, "model.layers.0.self_attn.q_proj.weight"));
  // The bits a weight that a conversion says.
  const std::string real =
      linnet_command({"convert", model, "--quantize", "q4k", "-o", out.string(), "--no-self-test"}).err;
  const size_t at = real.find(" bits a weight"), begin = real.rfind(' ', at - 1) + 1;
  REQUIRE(at != std::string::npos);
  CHECK(contains(dry.out, " " + real.substr(begin, at - begin)));
  const Outcome missing = linnet_command({"convert", model});
  CHECK(missing.code == 2);
  CHECK(contains(missing.err, "--output"));
}

TEST_CASE("a checkpoint combined with itself is itself") {
  const std::string model = LINNET_GOLDEN "/language/llama/model",
                    out = (scratch() / "combined.lnt").string();
  const Outcome outcome =
      linnet_command({"convert", model, model, "--combine", "0.75,0.25", "-o", out, "--quantize", "f32"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(contains(outcome.err, "2 checkpoints combined; the coefficients sum to 1"));
  const auto distance = eval({out, "--text", text_file(), "--against", tiny_model()})["against"];
  CHECK(distance["largest_kl"].get<double>() < 1e-9);
}

}  // namespace linnet::test
