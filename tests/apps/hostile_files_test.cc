// Files that are damaged or made to do harm, and disks that fill up: a clear sentence, exit code 2 (1 where
// the machine is at fault), nothing written, nothing left behind.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "converter/readers/safetensors.h"
#include "format/container.h"
#include "format/file.h"
#include "tests/apps/command.h"
#include "tests/converter/files.h"

namespace linnet::test {
namespace {

using testing::contains;
using testing::GgufBytes;
using testing::raw;

// Runs the command with all its files in an own folder, and requires that nothing appears there.
void refused(std::vector<std::string> args, const std::filesystem::path& folder,
             const std::vector<std::string>& said) {
  size_t before = 0, after = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) before += entry.is_regular_file();
  const Outcome outcome = linnet_command(args);
  for (const auto& entry : std::filesystem::directory_iterator(folder)) after += entry.is_regular_file();
  INFO(args[0]);
  INFO(outcome.err);
  CHECK(outcome.code == 2);
  CHECK(outcome.out.empty());
  CHECK(outcome.err.starts_with("linnet: "));
  for (const std::string& part : said) CHECK(contains(outcome.err, part));
  CHECK(before == after);
}

std::filesystem::path fresh_folder(const std::string& name) {
  const auto folder = scratch() / name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

// The golden Llama's folder, to be spoiled.
std::filesystem::path llama_folder() {
  const auto folder = fresh_folder("llama");
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"})
    std::filesystem::copy_file(std::filesystem::path(LINNET_GOLDEN "/language/llama/model") / name,
                               folder / name);
  return folder;
}

// A model file of the given head bytes, with a header that fits them.
std::string with_header(std::string file, const std::function<void(format::FileHeader&)>& change) {
  auto header = *format::decode_header(std::as_bytes(std::span(file)));
  change(header);
  const auto bytes = format::encode_header(header);
  std::memcpy(file.data(), bytes.data(), bytes.size());
  return file;
}

}  // namespace

TEST_CASE("a model file that is damaged anywhere is refused, or its weights fail --verify") {
  const auto folder = fresh_folder("lnt");
  const std::string whole = read_file(tiny_model());
  const auto bad = (folder / "bad.lnt").string();
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{4096}, whole.size() / 3, whole.size() - 1}) {
    write_file(bad, whole.substr(0, size));
    for (const char* command : {"inspect", "chat"}) refused({command, bad}, folder, {"bad.lnt"});
    refused({"run", bad, "--inputs", bad, "--outputs", (folder / "out").string()}, folder, {"bad.lnt"});
  }
  int refusals = 0;
  for (size_t i = 0; i < 48; ++i) {
    std::string flipped = whole;
    const size_t at = i < 16 ? i * 4 : i * whole.size() / 48;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << i % 8));
    write_file(bad, flipped);
    const Outcome outcome = linnet_command({"inspect", bad, "--verify"});
    CAPTURE(at);
    INFO(outcome.err);
    // Only the padding between segments belongs to nothing.
    CHECK((outcome.code == 2 || outcome.code == 0));
    if (outcome.code == 2) {
      ++refusals;
      CHECK(contains(outcome.err, "bad.lnt"));
    }
  }
  CHECK(refusals >= 40);
}

TEST_CASE("model files of another version or byte order say so") {
  const auto folder = fresh_folder("lnt");
  const std::string whole = read_file(tiny_model());
  const auto bad = (folder / "bad.lnt").string();
  write_file(bad, with_header(whole, [](format::FileHeader& h) { h.version = 99; }));
  refused({"inspect", bad}, folder, {"bad.lnt", "version", "99"});
  std::string swapped = whole;
  std::reverse(swapped.begin(), swapped.begin() + 4);
  write_file(bad, swapped);
  refused({"inspect", bad}, folder, {"bad.lnt"});
  write_file(bad, with_header(whole, [](format::FileHeader& h) { h.head_bytes = uint64_t{1} << 62; }));
  refused({"inspect", bad}, folder, {"bad.lnt"});
  write_file(bad, with_header(whole, [](format::FileHeader& h) { h.head_offset = ~uint64_t{0} - 8; }));
  refused({"chat", bad}, folder, {"bad.lnt"});
}

TEST_CASE("safetensors that are damaged or hostile are refused by convert") {
  const auto folder = llama_folder();
  const auto weights = folder / "model.safetensors";
  const std::string whole = read_file(weights), out = (folder / "out.lnt").string();
  uint64_t length = 0;
  std::memcpy(&length, whole.data(), 8);
  const auto header = nlohmann::json::parse(whole.substr(8, length));
  const std::string data = whole.substr(8 + length);
  const auto with = [&](const std::function<void(nlohmann::json&)>& change) {
    auto changed = header;
    change(changed);
    return testing::safetensors(changed.dump(), data);
  };
  const auto convert_refuses = [&](const std::string& bytes, const std::vector<std::string>& said) {
    write_file(weights, bytes);
    refused({"convert", folder.string(), "-o", out}, folder, said);
  };
  const std::string norm = "model.norm.weight", embed = "model.embed_tokens.weight";
  REQUIRE(header.contains(norm));
  convert_refuses(whole.substr(0, 5), {"model.safetensors", "5 bytes"});
  convert_refuses(whole.substr(0, whole.size() - 7), {"model.safetensors", "truncated"});
  convert_refuses(raw(~uint64_t{0}) + whole.substr(8), {"model.safetensors", "header"});
  convert_refuses(with([&](auto& h) { h[norm]["data_offsets"] = h[embed]["data_offsets"]; }), {norm});
  convert_refuses(with([&](auto& h) { h[norm]["data_offsets"][1] = uint64_t{1} << 60; }), {norm});
  convert_refuses(with([&](auto& h) {
                    h[norm]["shape"] = {uint64_t{1} << 33, uint64_t{1} << 33};
                  }),
                  {norm, "too large"});
  convert_refuses(with([&](auto& h) { h[norm]["shape"] = {-4}; }), {norm});
  convert_refuses(with([&](auto& h) { h[norm]["dtype"] = "F4"; }), {norm, "F4"});
  convert_refuses(with([&](auto& h) { h.erase(norm); }), {"the file is damaged"});
  convert_refuses(
      testing::safetensors(header.dump().substr(0, header.dump().size() - 1) + ",\"" + norm + "\":{}}", data),
      {"twice", norm});
  convert_refuses(
      testing::safetensors("{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}", data),
      {"deeper"});
  convert_refuses(with([&](auto& h) {
                    h["other.weight"] = h[norm];
                    h.erase(norm);
                  }),
                  {norm});
}

TEST_CASE("folders whose other files are wrong are refused by convert") {
  const auto refuses = [](const char* file, const std::string& text, const std::vector<std::string>& said) {
    const auto folder = llama_folder();
    write_file(folder / file, text);
    refused({"convert", folder.string(), "-o", (folder / "out.lnt").string()}, folder, said);
  };
  refuses("config.json", "", {"config.json"});
  refuses("config.json", "[1]", {"config.json"});
  refuses("config.json", "{\"model_type\": 7}", {});
  refuses("config.json", "{\"model_type\": \"llama\", \"hidden_size\": \"big\"}", {"hidden_size"});
  auto config = nlohmann::json::parse(read_file(LINNET_GOLDEN "/language/llama/model/config.json"));
  for (const int64_t size : {int64_t{-64}, int64_t{0}, int64_t{1} << 40, INT64_MAX}) {
    config["hidden_size"] = size;
    refuses("config.json", config.dump(), {});
  }
  config = nlohmann::json::parse(read_file(LINNET_GOLDEN "/language/llama/model/config.json"));
  config["num_hidden_layers"] = 1000000000;
  refuses("config.json", config.dump(), {});
  refuses("tokenizer.json", "{\"model\": {\"vocab\": {\"a\": 4000000000}}}", {"tokenizer.json"});
  refuses("tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}}",
          {"tokenizer.json", "merge"});
  refuses("tokenizer.json", "{\"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}}}",
          {"tokenizer.json", "WordLevel"});
  refuses("tokenizer_config.json", "{", {"tokenizer_config.json"});
}

TEST_CASE("GGUF files that are damaged or hostile are refused by convert") {
  const auto folder = fresh_folder("gguf");
  const auto source = (folder / "model.gguf").string(), out = (folder / "out.lnt").string();
  const auto convert_refuses = [&](const std::string& bytes, const std::vector<std::string>& said) {
    write_file(source, bytes);
    refused({"convert", source, "-o", out}, folder, said);
  };
  const auto text = [](std::string_view value) { return GgufBytes::text(value); };
  const auto model = [&] {
    GgufBytes file;
    file.key("general.architecture", 8, text("llama"));
    for (const char* key : {"embedding_length", "attention.head_count", "feed_forward_length"})
      file.key(std::string("llama.") + key, 4, raw<uint32_t>(4));
    file.key("llama.block_count", 4, raw<uint32_t>(1))
        .key("llama.attention.layer_norm_rms_epsilon", 6, raw(1e-5f));
    return file;
  };
  convert_refuses("GGUF", {"model.gguf", "truncated"});
  convert_refuses("FUGG" + std::string(100, '\0'), {"model.gguf", "GGUF"});
  GgufBytes file = model();
  file.version = 1;
  convert_refuses(file.bytes(), {"version 1"});
  file.version = 0x03000000;
  convert_refuses(file.bytes(), {"big-endian"});
  convert_refuses(model().bytes(), {"token_embd.weight"});
  file = model();
  file.tensor("token_embd.weight", {4, 2}, 0, 0);
  convert_refuses(file.bytes(), {"token_embd.weight", "truncated"});  // no data
  file = model();
  file.tensor("token_embd.weight", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0);
  convert_refuses(file.bytes(), {"token_embd.weight", "damaged"});
  file = model();
  file.tensor("token_embd.weight", {4, 2}, 0, ~uint64_t{31});
  convert_refuses(file.bytes(), {"token_embd.weight"});
  file = model();
  file.tensor("token_embd.weight", {4, 2}, 0, 0).tensor("output_norm.weight", {4}, 0, 0);
  file.data = std::string(64, '\0');
  convert_refuses(file.bytes(), {"overlap"});
  file = model();
  file.tensor("token_embd.weight", {4, 2}, 0, 0).tensor("token_embd.weight", {4, 2}, 0, 32);
  file.data = std::string(64, '\0');
  convert_refuses(file.bytes(), {"token_embd.weight"});
  file = model();
  file.key("general.architecture", 8, text("llama"));
  convert_refuses(file.bytes(), {"twice"});
  file = model();
  file.key("x", 9, raw<uint32_t>(8) + raw(~uint64_t{0}));
  convert_refuses(file.bytes(), {"claims"});
  file = model();
  file.key("x", 9, raw<uint32_t>(9) + raw<uint64_t>(1));
  convert_refuses(file.bytes(), {"arrays"});
  file = model();
  file.key_count = uint64_t{1} << 40;
  convert_refuses(file.bytes(), {"claims"});
  file = model();
  file.tensor("token_embd.weight", {4, 2}, 99, 0);
  convert_refuses(file.bytes(), {"unknown type 99"});
}

TEST_CASE("inputs of run that do not fit are refused") {
  const auto folder = fresh_folder("run");
  const auto in = (folder / "in.safetensors").string(), out = (folder / "out.safetensors").string();
  const auto run_refuses = [&](const std::string& bytes, const std::vector<std::string>& said) {
    write_file(in, bytes);
    refused({"run", tiny_model(), "--inputs", in, "--outputs", out}, folder, said);
  };
  const auto ids = [](const std::string& name, const std::string& dtype, const std::string& shape,
                      const std::string& data) {
    return testing::safetensors("{\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
                                    ",\"data_offsets\":[0," + std::to_string(data.size()) + "]}}",
                                data);
  };
  run_refuses("", {"in.safetensors"});
  run_refuses(ids("input_ids", "I32", "[2]", std::string(7, '\0')), {"input_ids"});
  run_refuses(ids("ids", "I32", "[2]", std::string(8, '\0')), {"input_ids"});
  run_refuses(ids("input_ids", "F32", "[2]", std::string(8, '\0')), {"input_ids"});
  run_refuses(ids("input_ids", "I32", "[0]", ""), {"input_ids", "empty"});
  run_refuses(ids("input_ids", "I32", "[1099511627776,0]", ""), {"input_ids"});
  run_refuses(ids("input_ids", "I32", "[1,2,2]", std::string(16, '\0')), {"input_ids"});
  for (const int32_t id : {-1, 320, INT32_MAX, INT32_MIN})
    run_refuses(ids("input_ids", "I32", "[2]", raw<int32_t>(1) + raw(id)), {"input_ids", std::to_string(id)});
  run_refuses(ids("input_ids", "I64", "[1]", raw(int64_t{1} << 40)), {"input_ids"});
}

TEST_CASE("a disk that is full leaves no half file") {
  const auto folder = fresh_folder("full");
  const auto out = (folder / "out.lnt").string();
  for (const rlim_t bytes : {rlim_t{0}, rlim_t{1000}, rlim_t{100000}, rlim_t{500000}}) {
    CAPTURE(bytes);
    const Outcome outcome = linnet_command(
        {"convert", LINNET_GOLDEN "/language/llama/model", "-o", out, "--quantize", "f32"}, "", -1, bytes);
    INFO(outcome.err);
    CHECK(outcome.code == 1);
    if (bytes >= 1000) CHECK(contains(outcome.err, "out.lnt"));  // what it says goes to a file, too
    CHECK(std::filesystem::is_empty(folder));
  }
  // A file that was there stays as it was.
  write_file(out, "precious");
  CHECK(
      linnet_command({"convert", LINNET_GOLDEN "/language/llama/model", "-o", out, "--force"}, "", -1, 100000)
          .code == 1);
  CHECK(read_file(out) == "precious");
}

TEST_CASE("a conversion that is interrupted leaves the whole file or none") {
  const auto folder = fresh_folder("interrupted");
  const auto out = (folder / "out.lnt").string();
  int stopped = 0;
  for (int ms = 0; ms <= 24; ms += 2) {
    CAPTURE(ms);
    std::filesystem::remove(out);
    const Outcome outcome = linnet_command(
        {"convert", LINNET_GOLDEN "/language/llama/model", "-o", out, "--quantize", "f32"}, "", ms);
    INFO(outcome.err);
    size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) files += entry.is_regular_file();
    if (outcome.code == 0) {
      CHECK(files == 1);
      CHECK(linnet_command({"inspect", out, "--verify"}).code == 0);
    } else {
      ++stopped;
      // By the handler, or by the signal itself before there was one.
      CHECK((outcome.code == 130 || outcome.code == 128 + SIGINT));
      CHECK(files == 0);
    }
  }
  CHECK(stopped > 0);
}

TEST_CASE("a model that is changed under a chat is an error that names it") {
  // The golden Llama with so many more rows of embeddings that its file is mapped.
  const auto folder = llama_folder();
  const std::string whole = read_file(folder / "model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, whole.data(), 8);
  auto header = nlohmann::json::parse(whole.substr(8, length));
  auto config = nlohmann::json::parse(read_file(folder / "config.json"));
  const auto rows = config["vocab_size"].get<size_t>();
  size_t all_rows = rows;
  std::string data;
  for (auto& [name, tensor] : header.items()) {
    if (!tensor.contains("data_offsets")) continue;
    const auto begin = tensor["data_offsets"][0].get<size_t>(), end = tensor["data_offsets"][1].get<size_t>();
    std::string bytes = whole.substr(8 + length + begin, end - begin);
    if (name == "model.embed_tokens.weight" || name == "lm_head.weight") {
      all_rows = format::kReadWhole / (bytes.size() / rows) * 2;
      bytes.resize(bytes.size() / rows * all_rows);
      tensor["shape"][0] = all_rows;
    }
    tensor["data_offsets"] = {data.size(), data.size() + bytes.size()};
    data += bytes;
  }
  config["vocab_size"] = all_rows;
  write_file(folder / "model.safetensors", testing::safetensors(header.dump(), data));
  write_file(folder / "config.json", config.dump());
  const auto model = (folder / "mapped.lnt").string(), original = (folder / "original.lnt").string();
  const Outcome converted = linnet_command({"convert", folder.string(), "-o", original, "--quantize", "f32"});
  INFO(converted.err);
  REQUIRE(converted.code == 0);
  REQUIRE(std::filesystem::file_size(original) > format::kReadWhole);
  const auto out = (folder / "out").string(), err = (folder / "err").string();
  const std::vector<std::string> changes = {
      "truncate -s 1000 " + model,
      "printf x | dd of=" + model + " bs=1 seek=100000 conv=notrunc status=none",
      "cat " + original + " > " + model,
  };
  for (const std::string& change : changes) {
    CAPTURE(change);
    std::filesystem::copy_file(original, model, std::filesystem::copy_options::overwrite_existing);
    std::filesystem::remove(out);
    // The change comes once the first answer was seen.
    const std::string script = "( echo Hi; for i in $(seq 500); do [ -s " + out +
                               " ] && break; sleep 0.02; " + "done; " + change +
                               "; echo again ) | " LINNET_COMMAND " chat " + model +
                               " --max-tokens 2 --temperature 0 --raw --json > " + out + " 2> " + err;
    const int status = std::system(script.c_str());
    INFO(read_file(err));
    INFO(read_file(out));
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 1);
    const std::string said = read_file(out) + read_file(err);
    CHECK(contains(said, "mapped.lnt"));
    CHECK(contains(said, "open it again"));
  }
  // Cut at any moment of a long read: told by one of the two, never a bare end.
  for (int ms = 0; ms < 40; ms += 4) {
    CAPTURE(ms);
    std::filesystem::copy_file(original, model, std::filesystem::copy_options::overwrite_existing);
    const std::string script = "( sleep 0." + std::string(ms < 10 ? "00" : "0") + std::to_string(ms) +
                               "; truncate -s 1000 " + model + " ) & " LINNET_COMMAND " inspect " + model +
                               " --verify > " + out + " 2> " + err + "; code=$?; wait; exit $code";
    const int status = std::system(script.c_str());
    INFO(read_file(err));
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) <= 2);
    if (WEXITSTATUS(status) != 0) CHECK(contains(read_file(err), "mapped.lnt"));
  }
}

}  // namespace linnet::test
