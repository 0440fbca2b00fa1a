#include "converter/readers/safetensors.h"
#include "converter/readers/weights_folder.h"

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <limits>

#include <cmath>

#include "converter/readers/json.h"
#include "tests/compare.h"
#include "tests/converter/files.h"

using namespace linnet;
using namespace linnet::convert;
using namespace linnet::testing;

namespace {

bool same(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

std::string refusal(std::string_view header, std::string_view data) {
  const std::string file = safetensors(header, data);
  return message(parse_safetensors(as_bytes(file), "x.safetensors"));
}

}  // namespace

TEST_CASE("every dtype reads back as torch converts it") {
  Checkpoint stored, expected;
  REQUIRE(read_safetensors(golden("dtypes.safetensors"), stored));
  REQUIRE(read_safetensors(golden("dtypes_f32.safetensors"), expected));
  REQUIRE(stored.tensors().size() == 17);
  for (const auto& [name, tensor] : stored.tensors()) {
    CAPTURE(name);
    const TensorInfo* other = expected.find(name);
    REQUIRE(other);
    CHECK(other->shape == tensor.shape);
    const std::vector<float> got = values(stored, tensor), want = values(expected, *other);
    REQUIRE(got.size() == want.size());
    for (size_t i = 0; i < got.size(); ++i) CHECK(same(got[i], want[i]));
  }
  CHECK(stored.find("scalar")->shape.empty());
  CHECK(stored.find("scalar")->rows() == 1);
  CHECK(stored.find("empty")->rows() == 0);
  CHECK(stored.find("f8_e4m3")->encoding == Encoding::kF8E4M3);
}

TEST_CASE("damaged and hostile headers are refused with the reason") {
  const std::string four = std::string(4, '\0');
  CHECK(refusal(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", four) == "");
  CHECK(refusal(R"({"__metadata__":{"format":"pt"}})", "") == "");
  const auto entry = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  const std::tuple<std::string, std::string, const char*> cases[] = {
      {"[]", "", "not an object"},
      {"{", "", "not valid JSON"},
      {R"({"a":1})", "", "'a' is not described by an object"},
      {R"({"a":{}})", "", "no proper dtype"},
      {entry("7", "[1]", "[0,4]"), four, "no proper dtype"},
      {entry(R"("F32")", "[1]", "[0,-4]"), four, "no proper dtype"},
      {entry(R"("F32")", "[1]", "[0,4,8]"), four, "no proper dtype"},
      {entry(R"("F4")", "[1]", "[0,4]"), four, "dtype \"F4\""},
      {entry(R"("Q8_0")", "[1]", "[0,4]"), four, "dtype \"Q8_0\""},
      {entry(R"("F32")", "[-1]", "[0,4]"), four, "shape [-1]"},
      {entry(R"("F32")", "[1.5]", "[0,4]"), four, "shape [1.5]"},
      {entry(R"("F32")", "[18446744073709551615]", "[0,4]"), four, "shape"},
      {entry(R"("F32")", "[1099511627776,1099511627776]", "[0,4]"), four, "too large"},
      {entry(R"("F32")", "[0,1099511627776,1099511627776]", "[0,0]"), "", "too large"},
      {entry(R"("F32")", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), four, "9 dimensions"},
      {entry(R"("F32")", "[2]", "[0,4]"), four, "has 4 bytes, expected 8 for [2] of F32"},
      {entry(R"("F32")", "[1]", "[0,8]"), four, "truncated"},
      {entry(R"("F32")", "[1]", "[4,0]"), four, "lies at bytes 4 to 0"},
      {entry(R"("F32")", "[1]", "[4,8]"), four + four, "hole"},
      {entry(R"("F32")", "[1]", "[0,4]"), four + four, "8 bytes of data, its tensors have 4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       four, "overlap"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
       four, "'a' is there twice"},
      {R"({"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}})", four,
       "'dtype' is there twice"},
  };
  for (const auto& [header, data, why] : cases) {
    CAPTURE(header);
    const std::string text = refusal(header, data);
    CHECK(contains(text, "x.safetensors"));
    CHECK_MESSAGE(contains(text, why), text);
  }
  std::string deep = R"({"a":)";
  for (int i = 0; i < 100000; ++i) deep += '[';
  CHECK(contains(refusal(deep, ""), "deeper than"));
}

TEST_CASE("a wrong header length is refused") {
  for (const uint64_t length :
       {uint64_t{0}, uint64_t{1}, uint64_t{3}, uint64_t{1} << 40, UINT64_MAX, UINT64_MAX - 7}) {
    const std::string file = raw(length) + "{}";
    CHECK_FALSE(parse_safetensors(as_bytes(file), "x"));
  }
  CHECK_FALSE(parse_safetensors(as_bytes("\1\0\0"), "x"));
  const std::string whole = read_file(golden("dtypes.safetensors"));
  for (size_t length = 0; length < whole.size(); ++length)
    CHECK_FALSE(parse_safetensors(as_bytes(std::string_view(whole).substr(0, length)), "x"));
  CHECK(parse_safetensors(as_bytes(whole), "x"));
}

TEST_CASE("shards are found through the index") {
  const TempFolder folder;
  const auto tensor = [](const std::string& name, float value) {
    return safetensors(R"({")" + name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", raw(value));
  };
  folder.write("model-1.safetensors", tensor("a", 1));
  folder.write("model-2.safetensors", tensor("b", 2));
  const auto read = [&](const std::string& index) {
    folder.write("model.safetensors.index.json", index);
    Checkpoint checkpoint;
    const auto result = read_weights_folder(folder.path(), "model", checkpoint);
    if (result) CHECK(checkpoint.tensors().size() == 2);
    return message(result);
  };
  CHECK(read(R"({"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}})") == "");
  CHECK(contains(read(R"({"weight_map":{"a":"model-1.safetensors","c":"model-2.safetensors"}})"), "'c'"));
  CHECK(contains(read(R"({"weight_map":{"a":"model-3.safetensors"}})"), "model-3.safetensors"));
  CHECK(contains(read(R"({"weight_map":{"a":"../model-1.safetensors"}})"), "file of the same folder"));
  CHECK(contains(read(R"({"weight_map":{"a":"/etc/passwd"}})"), "file of the same folder"));
  CHECK(contains(read(R"({"weight_map":{"a":7}})"), "file of the same folder"));
  CHECK(contains(read(R"({"weight_map":[]})"), "no weight_map"));
  CHECK(contains(read("[]"), "no weight_map"));
  folder.write("model-2.safetensors", tensor("a", 2));
  CHECK(contains(read(R"({"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}})"),
                 "tensor 'a' is in"));
}

TEST_CASE("a folder without weights says what was looked for") {
  const TempFolder folder;
  Checkpoint checkpoint;
  const std::string nothing = message(read_weights_folder(folder.path(), "model", checkpoint));
  CHECK(contains(nothing, "neither model.safetensors nor"));
  CHECK(contains(nothing, "pytorch_model.bin"));
}

TEST_CASE("what is written is read back, and what cannot be written leaves nothing") {
  const TempFolder folder;
  const std::vector<float> a = {1, 2, 3, 4, 5, 6};
  const std::vector<int64_t> b = {-7};
  const std::pair<std::string, std::string> metadata[] = {{"made by", "linnet"}};
  std::vector<OutputTensor> tensors = {{"z", "F32", {2, 3}, std::as_bytes(std::span(a))},
                                       {"a", "I64", {}, std::as_bytes(std::span(b))},
                                       {"empty", "F16", {0, 5}, {}}};
  REQUIRE(write_safetensors(folder / "a.safetensors", tensors, metadata));
  Checkpoint checkpoint;
  REQUIRE(read_safetensors(folder / "a.safetensors", checkpoint));
  CHECK(values(checkpoint, *checkpoint.find("z")) == a);
  CHECK(values(checkpoint, *checkpoint.find("a"))[0] == -7.0f);
  CHECK(checkpoint.find("empty")->shape == std::vector<int64_t>{0, 5});
  CHECK(read_file(folder / "a.safetensors").substr(8).starts_with(R"({"__metadata__":{"made by":"linnet"})"));

  tensors[0].shape = {7};
  CHECK(contains(message(write_safetensors(folder / "b.safetensors", tensors)), "'z'"));
  tensors[0] = tensors[1];
  CHECK(contains(message(write_safetensors(folder / "b.safetensors", tensors)), "two tensors named 'a'"));
  CHECK_FALSE(write_safetensors(folder / "absent/b.safetensors", {}));
  CHECK_FALSE(std::filesystem::exists(folder / "b.safetensors"));
  tensors.pop_back();
  tensors[0].name = "b";
  const auto kept = read_file(folder / "a.safetensors");
  CHECK(contains(message(write_safetensors(folder / "a.safetensors", tensors, {}, false)), "--force"));
  CHECK(read_file(folder / "a.safetensors") == kept);
}

TEST_CASE("a checkpoint is read through without staying in memory") {
  const TempFolder folder;
  constexpr int64_t kRows = 4096, kColumns = 8192;  // 128 MiB, of which the disk has none
  const std::string head =
      safetensors(R"({"t":{"dtype":"F32","shape":[4096,8192],"data_offsets":[0,134217728]}})", "");
  folder.write("a.safetensors", head);
  std::filesystem::resize_file(folder / "a.safetensors", head.size() + kRows * kColumns * sizeof(float));
  Checkpoint checkpoint;
  REQUIRE(read_safetensors(folder / "a.safetensors", checkpoint));
  const auto resident = [] {
    long pages = 0, skipped = 0;
    std::ifstream("/proc/self/statm") >> skipped >> pages;
    return pages * sysconf(_SC_PAGESIZE);
  };
  if (resident() == 0) {
    skipped("there is no /proc/self/statm to read the resident memory from");
    return;
  }
  const long before = resident();
  std::vector<float> row(kColumns);
  long most = 0;
  float sum = 0;
  for (int64_t r = 0; r < kRows; ++r) {
    REQUIRE(checkpoint.read_f32(*checkpoint.find("t"), r, 1, row.data()));
    sum += row[static_cast<size_t>(r)];
    if (r % 64 == 0) most = std::max(most, resident() - before);
  }
  CHECK(sum == 0.0f);
  CHECK(most < 64l << 20);
}

TEST_CASE("JSON as Python writes it, bounded") {
  const auto json =
      parse_json(R"({"limit": [0.0, Infinity, -Infinity, NaN], "text": "NaN \" Infinity"})", "c", true);
  REQUIRE(json);
  CHECK((*json)["limit"][1] == std::numeric_limits<double>::infinity());
  CHECK((*json)["limit"][2] == -std::numeric_limits<double>::infinity());
  CHECK((*json)["limit"][3].is_number_float());
  CHECK_FALSE(number_of((*json)["limit"][3], true));
  CHECK((*json)["text"] == "NaN \" Infinity");
  CHECK_FALSE(parse_json("[NaN]", "c"));
  CHECK_FALSE(parse_json("[1e999]", "c"));
  CHECK_FALSE(parse_json("\"\xFF\"", "c"));
  CHECK_FALSE(parse_json("", "c"));
  CHECK_FALSE(parse_json("{} {}", "c"));
  CHECK(contains(message(parse_json(R"({"a":{"b":1,"b":2}})", "config.json")), "config.json"));
  const TempFolder folder;
  CHECK(contains(message(read_text(folder.path())), "not a regular file"));
  CHECK(read_text(folder / "absent").error().code == ErrorCode::kNotFound);
  CHECK(contains(message(read_text(folder.write("long", "12345"), 4)), "at most 4"));
}
