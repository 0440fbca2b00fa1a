// linnet convert --calibrate, --budget and --bits: smaller errors at equal bytes, and refusals by name.
#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/apps/command.h"

namespace linnet::test {
namespace {

constexpr const char* kModel = LINNET_GOLDEN "/language/llama/model";

// Sentences that are never twice the same.
std::string text_of(int begin, int count, const char* name) {
  std::string text;
  for (int i = begin; i < begin + count; ++i)
    text += "The linnet number " + std::to_string(i * i) + " sings from bush " + std::to_string(i % 17) +
            (i % 3 == 0 ? " at dawn.\n" : ", and a stonechat answers it.\n");
  const auto path = scratch() / name;
  write_file(path, text);
  return path.string();
}
std::string calibration_text() { return text_of(0, 200, "calibration.txt"); }

struct Made {
  std::string path, notes;
  uintmax_t bytes = 0;
};
Made made(const std::string& name, std::vector<std::string> args) {
  Made m;
  m.path = (scratch() / name).string();
  args.insert(args.begin(), {"convert", kModel, "-o", m.path, "--force", "--no-self-test"});
  const Outcome outcome = linnet_command(args);
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  m.notes = outcome.err;
  m.bytes = std::filesystem::file_size(m.path);
  return m;
}

// On a text that was not calibrated on.
double kl(const Made& of, const Made& from) {
  const Outcome outcome = linnet_command({"eval", of.path, "--text", text_of(1000, 60, "held.txt"),
                                          "--against", from.path, "--context", "256", "--json"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  return nlohmann::json::parse(outcome.out)["against"]["mean_kl"].get<double>();
}

void refused(std::vector<std::string> args, const char* what) {
  CAPTURE(what);
  const auto output = scratch() / "calibrate-refused.lnt";
  args.insert(args.begin(), {"convert", kModel, "-o", output.string()});
  const Outcome outcome = linnet_command(args);
  CHECK(outcome.code != 0);
  INFO(outcome.err);
  CHECK(contains(outcome.err, what));
  CHECK_FALSE(std::filesystem::exists(output));
}

}  // namespace

TEST_CASE("a calibrated file is as large as a plain one and answers more like the checkpoint") {
  const Made whole = made("calibrate-f32.lnt", {"--quantize", "f32"});
  const Made plain = made("calibrate-q3k.lnt", {"--quantize", "q3k"});
  const Made energies = made("calibrate-q3k-e.lnt",
                             {"--quantize", "q3k", "--calibrate", calibration_text(), "--no-error-feedback"});
  const Made fed = made("calibrate-q3k-f.lnt", {"--quantize", "q3k", "--calibrate", calibration_text()});
  CHECK(contains(fed.notes, "calibrated on"));
  CHECK(plain.bytes == energies.bytes);
  CHECK(plain.bytes == fed.bytes);
  const double first = kl(plain, whole), second = kl(energies, whole), third = kl(fed, whole);
  CAPTURE(first);
  CAPTURE(second);
  CAPTURE(third);
  CHECK(second < first);
  CHECK(third < second);
  // The same again, on another number of threads.
  const Made again =
      made("calibrate-q3k-g.lnt", {"--quantize", "q3k", "--calibrate", calibration_text(), "--threads", "1"});
  CHECK(read_file(again.path) == read_file(fed.path));
}

TEST_CASE("a budget is kept, bits go where they are worth most, and exceptions hold") {
  const Made whole = made("calibrate-f32.lnt", {"--quantize", "f32"});
  const Made mixed = made("calibrate-bits.lnt", {"--bits", "5.6", "--calibrate", calibration_text(), "--keep",
                                                 "model.layers.1.mlp.*=q3k"});
  CHECK(contains(mixed.notes, "types chosen"));
  CHECK(contains(mixed.notes, " q3k"));
  const Made large = made("calibrate-large.lnt", {"--budget", "1G", "--calibrate", calibration_text()});
  const double few = kl(mixed, whole), many = kl(large, whole);
  CAPTURE(few);
  CAPTURE(many);
  CHECK(many < few);
  CHECK(mixed.bytes < large.bytes);
  // Of two budgets, the files differ by no more than the budgets do: each is filled, and kept.
  const auto budget = [&](const char* bytes) {
    return made("calibrate-budget.lnt", {"--budget", bytes, "--calibrate", calibration_text()}).bytes;
  };
  const uintmax_t small = budget("110000"), larger = budget("140000");
  CHECK(small + 20000 < larger);
  CHECK(larger < small + 40000);
}

TEST_CASE("calibrations that cannot be are refused by name, and nothing is written") {
  const std::string text = calibration_text();
  refused({"--bits", "4"}, "--calibrate");
  refused({"--budget", "1M"}, "--calibrate");
  refused({"--bits", "4", "--quantize", "q4k", "--calibrate", text}, "--quantize");
  refused({"--bits", "4", "--budget", "1M", "--calibrate", text}, "give one");
  refused({"--quantize", "q4k", "--calibrate", text_of(0, 3, "short.txt")}, "at least 1024");
  refused({"--quantize", "q4k", "--calibrate", "/no/such/text.txt"}, "/no/such/text.txt");
  refused({"--budget", "1K", "--calibrate", text}, "at least");
  refused({"--calibrate", text, "--quantize", "f16"}, "rounds nothing");
  refused({"--calibrate", text, "--bits", "0.1"}, "--bits");
}

}  // namespace linnet::test
