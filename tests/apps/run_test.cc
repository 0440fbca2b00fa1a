// run, inspect and bench against the official outputs and against each other.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "converter/readers/safetensors.h"
#include "tests/apps/command.h"
#include "tests/compare.h"

namespace linnet::test {
namespace {

const std::string kReference = LINNET_GOLDEN "/language/llama/reference.safetensors";

std::vector<float> tensor(const std::string& path, const std::string& name) {
  convert::Checkpoint checkpoint;
  const auto read = convert::read_safetensors(path, checkpoint);
  INFO((read ? std::string() : read.error().message));
  REQUIRE(read);
  const auto* info = checkpoint.find(name);
  REQUIRE(info != nullptr);
  std::vector<float> values(static_cast<size_t>(info->elements()));
  REQUIRE(checkpoint.read_f32(*info, 0, info->rows(), values.data()));
  return values;
}

// The reference's input_ids as [1, tokens] int64 or [tokens] int32, alone in a file.
std::string ids_file(bool batched, size_t tokens, int32_t change = 0) {
  std::vector<float> ids = tensor(kReference, "input_ids");
  ids.resize(std::min(ids.size(), tokens));
  std::vector<int64_t> wide(ids.begin(), ids.end());
  std::vector<int32_t> narrow(ids.begin(), ids.end());
  wide[0] += change;
  narrow[0] += change;
  const auto path = (scratch() / "ids.safetensors").string();
  const auto n = static_cast<int64_t>(ids.size());
  const std::vector<convert::OutputTensor> out = {
      {"input_ids", batched ? "I64" : "I32", batched ? std::vector<int64_t>{1, n} : std::vector<int64_t>{n},
       batched ? std::as_bytes(std::span(wide)) : std::as_bytes(std::span(narrow))}};
  REQUIRE(convert::write_safetensors(path, out));
  return path;
}

std::vector<float> run(const std::string& inputs, std::vector<std::string> more) {
  const auto out = (scratch() / "logits.safetensors").string();
  std::filesystem::remove(out);
  std::vector<std::string> args = {"run", tiny_model(), "--inputs", inputs, "--outputs", out};
  args.insert(args.end(), more.begin(), more.end());
  const Outcome outcome = linnet_command(args);
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(outcome.out.empty());
  return tensor(out, "logits");
}

}  // namespace

TEST_CASE("run gives the official logits, for every backend, chunk and way to write the ids") {
  const std::vector<float> official = tensor(kReference, "logits");
  testing::check_truth("logits", official);
  for (const char* backend : {"reference", "cpu"}) {
    for (const char* chunk : {"1", "7", "64", "256"}) {
      INFO(backend << " chunk " << chunk);
      const auto logits = run(ids_file(chunk[0] != '7', 1000), {"--backend", backend, "--chunk", chunk});
      testing::check_below(backend, testing::largest_difference(logits, official), 2.1e-4);
    }
  }
}

TEST_CASE("one and two threads give the same bits") {
  const std::string ids = ids_file(true, 1000);
  CHECK(run(ids, {"--threads", "1"}) == run(ids, {"--threads", "2"}));
}

TEST_CASE("run refuses what does not fit") {
  const auto out = (scratch() / "none.safetensors").string();
  const auto refused = [&](std::vector<std::string> args, const std::string& said) {
    std::vector<std::string> all = {"run", tiny_model(), "--outputs", out};
    all.insert(all.end(), args.begin(), args.end());
    const Outcome outcome = linnet_command(all);
    INFO(outcome.err);
    CHECK(outcome.code == 2);
    CHECK(outcome.err.find(said) != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(out));
  };
  refused({"--inputs", kReference}, "does not take");  // holds logits too
  refused({"--inputs", ids_file(true, 9), "--method", "backward"}, "'forward'");
  refused({"--inputs", ids_file(true, 9, 320)}, "320");
  refused({"--inputs", ids_file(true, 9, -400)}, "-");
  refused({"--inputs", ids_file(true, 9), "--attention", "full", "--context", "8"}, "--context");
  refused({"--inputs", (scratch() / "absent.safetensors").string()}, "absent.safetensors");
  write_file(scratch() / "text.safetensors", "no tensors here");
  refused({"--inputs", (scratch() / "text.safetensors").string()}, "text.safetensors");
}

TEST_CASE("inspect: what it prints as JSON is what is in the file") {
  const Outcome outcome =
      linnet_command({"inspect", tiny_model(), "--json", "--tensors", "--nodes", "--attention", "full",
                      "--context", "100", "--chunk", "10", "--cache", "f32"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const auto json = nlohmann::json::parse(outcome.out);
  CHECK(json["file_bytes"].get<uint64_t>() == std::filesystem::file_size(tiny_model()));
  int64_t parameters = 0;
  for (const auto& t : json["tensors"]) {
    int64_t n = 1;
    for (const auto& d : t["shape"]) n *= d.get<int64_t>();
    parameters += n;
  }
  CHECK(json["parameters"].get<int64_t>() == parameters);
  // Embedding and head 320 x 64; each of 3 layers: q 96x64, k, v 48x64, o 64x96, three MLP matrices 160x64,
  // two norms.
  CHECK(parameters == 2 * 320 * 64 + 3 * (96 * 64 + 2 * 48 * 64 + 64 * 96 + 3 * 160 * 64 + 2 * 64) + 64);
  CHECK(json["methods"][0]["name"] == "forward");
  CHECK(json["methods"][0]["inputs"][0]["name"] == "input_ids");
  CHECK(json["methods"][0]["outputs"][0]["name"] == "logits");
  CHECK(json["states"].size() == 6);
  // 6 caches of 100 tokens, 48 channels, 4 bytes; each is followed by up to 128 bytes of padding.
  const auto state = json["memory"]["state_bytes"].get<int64_t>();
  CHECK(state >= 6 * 100 * 48 * 4);
  CHECK(state <= 6 * (100 * 48 * 4 + 128) + 64);
  const Outcome text = linnet_command({"inspect", tiny_model()});
  CHECK(text.code == 0);
  CHECK(text.out.find("method forward") != std::string::npos);
}

TEST_CASE("bench reports consistent numbers") {
  const Outcome outcome =
      linnet_command({"bench", tiny_model(), "--json", "--prompt-tokens", "32", "--decode-tokens", "16",
                      "--repeats", "3", "--threads", "1", "--depth", "20", "--minutes", "0.01"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const auto json = nlohmann::json::parse(outcome.out);
  for (const char* key : {"prefill_tokens_per_second", "decode_tokens_per_second", "read_bandwidth_gbps",
                          "decode_gbps", "decode_bandwidth_percent", "prefill_gops", "int8_peak_gops",
                          "f32_peak_gops", "prefill_arithmetic_percent"}) {
    INFO(key);
    CHECK(json["rounds"][key].size() == 3);
    CHECK(json[key].get<double>() > 0);
    CHECK(json[std::string(key) + "_best"].get<double>() >= json[key].get<double>());
  }
  const double bytes =
      json["weight_bytes_per_token"].get<double>() + json["state_bytes_per_token"].get<double>();
  // The tiny model is f32: a share of the f32 peak, which nothing exceeds.
  CHECK(json["prefill_arithmetic_percent"].get<double>() ==
        doctest::Approx(100 * json["prefill_gops"].get<double>() / json["f32_peak_gops"].get<double>())
            .epsilon(0.5));
  CHECK(json["prefill_arithmetic_percent_best"].get<double>() < 100);
  double before = 0;
  REQUIRE(json["sustained"].size() > 1);
  for (const auto& stretch : json["sustained"]) {
    CHECK(stretch["seconds"].get<double>() > before);
    CHECK(stretch["decode_tokens_per_second"].get<double>() > 0);
    before = stretch["seconds"].get<double>();
  }
  CHECK(before >= 0.6);
  const double rate = json["rounds"]["decode_tokens_per_second"][0].get<double>();
  CHECK(json["rounds"]["decode_gbps"][0].get<double>() == doctest::Approx(rate * bytes / 1e9));
}

}  // namespace linnet::test
