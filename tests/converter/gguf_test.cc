#include "converter/readers/gguf.h"

#include <doctest/doctest.h>

#include <cmath>

#include "converter/readers/safetensors.h"
#include "format/panel.h"
#include "tests/compare.h"
#include "tests/converter/files.h"

using namespace linnet;
using namespace linnet::convert;
using namespace linnet::testing;

namespace {

Result<GgufDirectory> parse(const GgufBytes& file) {
  const std::string bytes = file.bytes();
  auto parsed = parse_gguf(as_bytes(bytes), "x.gguf");
  if (parsed)
    for (TensorInfo& t : parsed->tensors) t.bytes = {};  // they are spans of `bytes`
  return parsed;
}

}  // namespace

TEST_CASE("every encoding reads back as the gguf package dequantizes it") {
  const auto file = Gguf::open(golden("blocks.gguf"));
  REQUIRE_MESSAGE(file, message(file));
  Checkpoint expected;
  REQUIRE(read_safetensors(golden("blocks.safetensors"), expected));
  REQUIRE(expected.tensors().size() == 20);
  CHECK(file->checkpoint().tensors().size() == 20);
  for (const auto& [name, tensor] : expected.tensors()) {
    CAPTURE(name);
    const TensorInfo* found = file->checkpoint().find(name);
    REQUIRE(found);
    CHECK(found->shape == tensor.shape);
    const std::vector<float> want = values(expected, tensor), got = values(file->checkpoint(), *found);
    check_truth(name, want);
    CHECK(largest_magnitude(want) > 0.01);
    // Bit for bit: the same products, and one sum where there is a minimum.
    CHECK(got == want);
  }
}

TEST_CASE("rows are read in any portion") {
  const auto file = Gguf::open(golden("blocks.gguf"));
  REQUIRE(file);
  const TensorInfo& tensor = *file->checkpoint().find("t.Q6_K");
  const std::vector<float> all = values(file->checkpoint(), tensor);
  std::vector<float> row(512);
  for (int64_t r = 0; r < 3; ++r) {
    REQUIRE(file->checkpoint().read_f32(tensor, r, 1, row.data()));
    CHECK(std::equal(row.begin(), row.end(), all.begin() + r * 512));
  }
  CHECK_FALSE(file->checkpoint().read_f32(tensor, 3, 1, row.data()));
  CHECK_FALSE(file->checkpoint().read_f32(tensor, -1, 1, row.data()));
}

TEST_CASE("every block encoding packs into panels that hold the same values in as many bytes") {
  const auto file = Gguf::open(golden("blocks.gguf"));
  REQUIRE(file);
  size_t seen = 0;
  for (const auto& [name, tensor] : file->checkpoint().tensors()) {
    CAPTURE(name);
    if (encoding_info(tensor.encoding).block_values == 1) {
      CHECK_FALSE(Checkpoint::lossless_dtype(tensor));
      std::vector<format::BlockGroup> none(64);
      CHECK_FALSE(file->checkpoint().read_groups(tensor, 0, 1, none.data()));
      continue;
    }
    ++seen;
    const auto dtype = Checkpoint::lossless_dtype(tensor);
    REQUIRE(dtype);
    const int64_t columns = tensor.columns(), rows = tensor.rows();
    std::vector<format::BlockGroup> groups(static_cast<size_t>(rows * columns / 32));
    std::vector<std::byte> panel(format::panel_bytes(*dtype, columns));
    REQUIRE(file->checkpoint().read_groups(tensor, 0, rows, groups.data()));
    format::pack_panel_from_groups(*dtype, groups.data(), rows, columns, panel.data());
    const std::vector<float> want = values(file->checkpoint(), tensor);
    std::vector<float> row(static_cast<size_t>(columns));
    for (int64_t r = 0; r < rows; ++r) {
      format::unpack_panel_row(*dtype, panel.data(), r, columns, row.data());
      CHECK(std::equal(row.begin(), row.end(), want.begin() + r * columns));
    }
    // Bytes of a whole panel beside those of 16 such rows; ternary digits take two bits instead of 1.6.
    const double source = static_cast<double>(tensor.bytes.size()) / static_cast<double>(rows) * 16;
    const double most = tensor.encoding == Encoding::kTQ1_0 ? 1.23 : 1.02;
    CHECK(static_cast<double>(panel.size()) <= most * source);
  }
  CHECK(seen == 16);
}

TEST_CASE("metadata of every type") {
  const auto file = Gguf::open(golden("blocks.gguf"));
  REQUIRE(file);
  CHECK(file->get<int64_t>("test.u8") == 200);
  CHECK(file->get<int64_t>("test.i8") == -100);
  CHECK(file->get<int64_t>("test.u16") == 60000);
  CHECK(file->get<int64_t>("test.i16") == -30000);
  CHECK(file->get<int64_t>("test.u32") == 4000000000);
  CHECK(file->get<int64_t>("test.i32") == -2000000000);
  CHECK(file->get<int64_t>("test.u64") == int64_t{1} << 62);
  CHECK(file->get<int64_t>("test.i64") == -(int64_t{1} << 62));
  CHECK(file->get<double>("test.f32") == static_cast<double>(0.1f));
  CHECK(file->get<double>("test.f64") == 0.1);
  CHECK(file->get<bool>("test.bool") == true);
  CHECK(file->get<std::string>("test.string") == "linnet \xE2\x96\x81 \xF0\x9F\x90\xA6");
  CHECK(file->get<std::vector<int64_t>>("test.integers") == std::vector<int64_t>{1, -2, 3});
  CHECK(file->get<std::vector<double>>("test.numbers") == std::vector<double>{0.5, -0.25});
  CHECK(file->get<std::vector<bool>>("test.flags") == std::vector<bool>{true, false, true});
  CHECK(file->get<std::vector<std::string>>("test.strings") == std::vector<std::string>{"a", "", "ccc"});
  CHECK(file->get<double>("test.u8") == 200.0);
  CHECK(file->get_or<int64_t>("absent", 7) == 7);

  const auto wrong = file->get<int64_t>("test.string");
  REQUIRE_FALSE(wrong);
  CHECK(contains(wrong.error().message, "blocks.gguf"));
  CHECK(contains(wrong.error().message, "'test.string' is a string, expected an integer"));
  CHECK(
      contains(message(file->get_or<bool>("test.f32", false)), "'test.f32' is a number, expected a boolean"));
  CHECK(contains(message(file->get<std::vector<std::string>>("absent")), "no metadata key 'absent'"));
}

TEST_CASE("a file made by hand is read") {
  GgufBytes file;
  file.key("general.alignment", 4, raw<uint32_t>(64)).tensor("a", {2, 3}, 0, 0).tensor("b", {1}, 0, 64);
  file.alignment = 64;
  file.data = std::string(68, '\0');
  const auto parsed = parse(file);
  REQUIRE_MESSAGE(parsed, message(parsed));
  CHECK(parsed->tensors[0].shape == std::vector<int64_t>{3, 2});
  file.version = 2;
  CHECK(parse(file));
}

TEST_CASE("damaged and hostile files are refused with the reason") {
  const auto refused = [](const GgufBytes& file, std::string_view why) {
    const auto parsed = parse(file);
    REQUIRE_FALSE(parsed);
    CHECK(contains(parsed.error().message, "x.gguf"));
    CHECK_MESSAGE(contains(parsed.error().message, why), parsed.error().message);
  };
  const auto with_key = [](uint32_t kind, const std::string& value) {
    GgufBytes file;
    file.key("k", kind, value);
    return file;
  };
  const auto with_tensor = [](std::vector<uint64_t> dims, uint32_t type, uint64_t offset, size_t data) {
    GgufBytes file;
    file.tensor("t", std::move(dims), type, offset);
    file.data = std::string(data, '\0');
    return file;
  };
  CHECK_FALSE(parse_gguf(as_bytes("GGML"), "x"));
  CHECK_FALSE(parse_gguf({}, "x"));
  GgufBytes old;
  old.version = 1;
  refused(old, "version 1");
  GgufBytes swapped;
  swapped.version = 0x03000000;
  refused(swapped, "big-endian");
  GgufBytes future;
  future.version = 4;
  refused(future, "version 4");
  GgufBytes many;
  many.tensor_count = uint64_t{1} << 40;
  refused(many, "claims 1099511627776 tensors");
  GgufBytes cut;
  cut.key_count = 1;
  cut.data = std::string(3, '\0');
  refused(cut, "");

  refused(with_key(8, raw<uint64_t>(UINT64_MAX)), "claims 18446744073709551615 bytes");
  refused(with_key(13, ""), "unknown type 13");
  refused(with_key(9, raw<uint32_t>(9) + raw<uint64_t>(1)), "array of arrays");
  refused(with_key(9, raw<uint32_t>(77) + raw<uint64_t>(1)), "unknown type 77");
  refused(with_key(9, raw<uint32_t>(0) + raw<uint64_t>(UINT64_MAX)), "claims 18446744073709551615 items");
  refused(with_key(9, raw<uint32_t>(10) + raw<uint64_t>(100)), "claims 100 items");
  GgufBytes twice;
  twice.key("k", 7, std::string(1, '\1')).key("k", 7, std::string(1, '\1'));
  refused(twice, "'k' is there twice");
  for (const uint32_t bad : {0u, 4u, 33u, 1u << 30}) {
    GgufBytes file;
    file.key("general.alignment", 4, raw(bad));
    refused(file, "general.alignment");
  }

  refused(with_tensor({2, 2, 2, 2, 2}, 0, 0, 128), "5 dimensions");
  refused(with_tensor({0}, 0, 0, 128), "dimension of 0");
  refused(with_tensor({uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0, 128), "dimension of");
  refused(with_tensor({UINT64_MAX}, 0, 0, 128), "dimension of");
  refused(with_tensor({16}, 8, 0, 128), "rows of 16 values, expected a multiple of 32 for Q8_0");
  refused(with_tensor({32}, 19, 0, 128), "encoded as IQ1_S");
  refused(with_tensor({32}, 1000, 0, 128), "unknown type 1000");
  refused(with_tensor({32}, 0, 4, 132), "multiple of 32");
  refused(with_tensor({32}, 0, 0, 127), "truncated");
  refused(with_tensor({32}, 0, UINT64_MAX - 31, 128), "truncated");
  CHECK(parse(with_tensor({32}, 0, 0, 128)));
}

TEST_CASE("overlapping tensors and names that come twice are refused") {
  const TempFolder folder;
  GgufBytes overlap;
  overlap.tensor("a", {16}, 0, 0).tensor("b", {16}, 0, 32);
  overlap.data = std::string(96, '\0');
  CHECK(contains(message(Gguf::open(folder.write("a.gguf", overlap.bytes()))), "'b' overlaps 'a'"));
  GgufBytes twice;
  twice.tensor("a", {8}, 0, 0).tensor("a", {8}, 0, 32);
  twice.data = std::string(64, '\0');
  CHECK(contains(message(Gguf::open(folder.write("b.gguf", twice.bytes()))), "'a' is there twice"));
  CHECK(Gguf::open(folder / "absent.gguf").error().code == ErrorCode::kNotFound);
  CHECK_FALSE(Gguf::open(folder.path()));
  CHECK_FALSE(Gguf::open(folder.write("empty.gguf", "")));
}

TEST_CASE("every truncation of a file is refused or is a whole file") {
  const std::string whole = read_file(golden("blocks.gguf"));
  REQUIRE(whole.size() > 20000);
  int opened = 0;
  for (size_t length = 0; length < whole.size(); length += length < 3000 ? 1 : 97)
    opened += parse_gguf(as_bytes(std::string_view(whole).substr(0, length)), "x").has_value();
  CHECK(opened == 0);
}

TEST_CASE("a split model is opened through any of its files") {
  const TempFolder folder;
  const auto part = [&](int index, const char* tensor) {
    GgufBytes file;
    file.key("split.no", 4, raw(static_cast<uint32_t>(index))).key("split.count", 4, raw(uint32_t{2}));
    file.key("split.tensors.count", 5, raw(int32_t{2}));
    if (index == 0) file.key("general.architecture", 8, GgufBytes::text("llama"));
    file.tensor(tensor, {1}, 0, 0);
    file.data = raw(static_cast<float>(index + 1)) + std::string(28, '\0');
    return file.bytes();
  };
  const std::string first = folder.write("m-00001-of-00002.gguf", part(0, "a"));
  CHECK(contains(message(Gguf::open(first)), "m-00002-of-00002.gguf"));
  const std::string second = folder.write("m-00002-of-00002.gguf", part(1, "b"));
  for (const std::string& path : {first, second}) {
    const auto file = Gguf::open(path);
    REQUIRE_MESSAGE(file, message(file));
    CHECK(file->get<std::string>("general.architecture") == "llama");
    CHECK(values(file->checkpoint(), *file->checkpoint().find("a"))[0] == 1.0f);
    CHECK(values(file->checkpoint(), *file->checkpoint().find("b"))[0] == 2.0f);
  }
  CHECK(contains(message(Gguf::open(folder.write("renamed.gguf", part(0, "a")))), "original names"));
  folder.write("m-00002-of-00002.gguf", part(1, "a"));
  CHECK(contains(message(Gguf::open(first)), "tensor 'a' is in"));
}
