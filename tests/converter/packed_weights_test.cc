#include "converter/readers/packed_weights.h"

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

std::vector<float> read_in_portions(const RowSource& rows) {
  std::vector<float> values(static_cast<size_t>(rows.rows * rows.columns));
  for (int64_t r = 0; r < rows.rows; r += 16)
    REQUIRE(rows.read(r, std::min<int64_t>(16, rows.rows - r), values.data() + r * rows.columns));
  return values;
}

// The values of the groups that a lossless source hands over, through a panel.
std::vector<float> through_panels(const RowSource& rows) {
  const DType dtype = *rows.lossless();
  std::vector<float> values(static_cast<size_t>(rows.rows * rows.columns));
  std::vector<std::byte> panel(format::panel_bytes(dtype, rows.columns));
  for (int64_t first = 0; first < rows.rows; first += 16) {
    const int64_t count = std::min<int64_t>(16, rows.rows - first);
    std::vector<format::BlockGroup> groups(static_cast<size_t>(count * rows.columns / 32));
    REQUIRE(rows.read_groups(first, count, groups.data()));
    format::pack_panel_from_groups(dtype, groups.data(), count, rows.columns, panel.data());
    CHECK(format::panel_is_finite(dtype, panel.data(), rows.columns));
    for (int64_t r = 0; r < count; ++r)
      format::unpack_panel_row(dtype, panel.data(), r, rows.columns,
                               values.data() + (first + r) * rows.columns);
  }
  return values;
}

struct Expected {
  std::optional<DType> lossless;
  double most = 0;  // relative difference of the values
};

}  // namespace

TEST_CASE("packed matrices of every quantiser stand for what their own code says") {
  Checkpoint stored, expected;
  REQUIRE(read_safetensors(golden("packed/stored.safetensors"), stored));
  REQUIRE(read_safetensors(golden("packed/values.safetensors"), expected));
  StoredScales scales;
  scales.bits = 4;
  const auto packed = PackedWeights::find(stored, scales, "folder");
  REQUIRE_MESSAGE(packed, message(packed));
  const std::map<std::string, Expected> wanted = {{"gptq.weight", {DType::kQ4}},
                                                  {"gptq_zeros.weight", {DType::kQ4A}},
                                                  {"gptq_order.weight", {}},
                                                  {"awq.weight", {DType::kQ4A}},
                                                  {"ct4.weight", {DType::kQ4}},
                                                  {"ct4_bf16.weight", {DType::kQ4}},
                                                  {"ct4_zeros.weight", {DType::kQ4A}},
                                                  {"ct8.weight", {DType::kQ8}},
                                                  {"bnb_nested.weight", {std::nullopt, 1e-6}},
                                                  {"bnb_plain.weight", {}},
                                                  {"bnb_fp4.weight", {}},
                                                  {"ct_nvfp4.weight", {DType::kNVFP4, 1.3e-7}},
                                                  {"ct_mxfp4.weight", {DType::kMXFP4}},
                                                  {"modelopt.weight", {DType::kNVFP4}},
                                                  {"quest32.weight", {std::nullopt, 3e-7}},
                                                  {"absmax128.weight", {std::nullopt, 6e-7}},
                                                  {"nv16.weight", {std::nullopt, 3e-7}},
                                                  {"experts.gate_up_proj", {DType::kMXFP4}}};
  CHECK(packed->matrices().size() == wanted.size());
  for (const auto& [name, want] : wanted) {
    CAPTURE(name);
    const auto matrix = packed->matrices().find(name);
    REQUIRE(matrix != packed->matrices().end());
    const TensorInfo& truth = *expected.find(name);
    CHECK(matrix->second.shape == truth.shape);
    const auto rows = matrix->second.rows();
    REQUIRE_MESSAGE(rows, message(rows));
    CHECK((*rows)->lossless() == want.lossless);
    const std::vector<float> values_wanted = values(expected, truth), got = read_in_portions(**rows);
    check_below(name, relative_difference(got, values_wanted), want.most);
    if (!want.lossless) continue;
    // Through the panels the same bits, but for minima that are rounded to f16.
    const std::vector<float> panels = through_panels(**rows);
    if (*want.lossless == DType::kQ4A)
      check_below(name + ", panels", relative_difference(panels, got), 5e-4);
    else
      CHECK(panels == got);
  }
  int weights = 0;
  for (const auto& [name, tensor] : stored.tensors())
    weights += !packed->is_part(name) && !is_stored_scale(stored, name) && !packed->matrices().contains(name);
  CHECK(weights == 2);  // of 8 bits: bnb_int8, mxfp8
  for (const char* name : {"bnb_int8.weight", "mxfp8.weight"}) {
    CAPTURE(name);
    const auto rows = scaled_rows(stored, *stored.find(name), scales);
    REQUIRE_MESSAGE(rows, message(rows));
    check_below(name, relative_difference(read_in_portions(**rows), values(expected, *expected.find(name))),
                1e-7);
  }
}

TEST_CASE("GPTQ of 8 bits becomes q8 without loss") {
  Checkpoint stored, expected;
  REQUIRE(read_safetensors(golden("packed/stored8.safetensors"), stored));
  REQUIRE(read_safetensors(golden("packed/values8.safetensors"), expected));
  StoredScales scales;
  scales.bits = 8;
  const auto packed = PackedWeights::find(stored, scales, "folder");
  REQUIRE_MESSAGE(packed, message(packed));
  const auto rows = packed->matrices().at("gptq.weight").rows();
  REQUIRE(rows);
  CHECK((*rows)->lossless() == DType::kQ8);
  const std::vector<float> want = values(expected, *expected.find("gptq.weight"));
  CHECK(read_in_portions(**rows) == want);
  CHECK(through_panels(**rows) == want);
}

TEST_CASE("a configuration that speaks of packed weights where there are none is refused") {
  Checkpoint plain;
  REQUIRE(read_safetensors(golden("packed/values.safetensors"), plain));
  StoredScales scales;
  CHECK(PackedWeights::find(plain, scales, "folder"));
  scales.packed_by = "gptq";
  CHECK(contains(message(PackedWeights::find(plain, scales, "folder")), "packed by 'gptq'"));
}

TEST_CASE("packed tensors that do not fit each other are refused by name") {
  const TempFolder folder;
  const std::vector<std::byte> bytes(1 << 14, std::byte{0x22});
  const auto tensor = [&](const char* name, const char* dtype, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t n : shape) count *= n;
    const std::string kind = dtype;
    const size_t size = kind == "I32" || kind == "F32" ? 4 : kind == "I64" ? 8 : kind == "F16" ? 2 : 1;
    return OutputTensor{name, dtype, std::move(shape),
                        std::span(bytes).first(static_cast<size_t>(count) * size)};
  };
  const auto refusal = [&](std::vector<OutputTensor> tensors, int64_t bits = 4) {
    REQUIRE(write_safetensors(folder / "a.safetensors", tensors));
    Checkpoint checkpoint;
    REQUIRE(read_safetensors(folder / "a.safetensors", checkpoint));
    StoredScales scales;
    scales.bits = bits;
    const auto found = PackedWeights::find(checkpoint, scales, "folder");
    return message(found);
  };
  const auto gptq = [&](std::vector<int64_t> codes, std::vector<int64_t> zeros, std::vector<int64_t> scales,
                        std::vector<int64_t> order = {64}) {
    return std::vector<OutputTensor>{tensor("a.g_idx", "I32", order), tensor("a.qweight", "I32", codes),
                                     tensor("a.qzeros", "I32", zeros), tensor("a.scales", "F16", scales)};
  };
  CHECK(contains(refusal(gptq({8, 32}, {2, 4}, {2, 31})), "fit neither GPTQ nor AWQ"));
  CHECK(contains(refusal(gptq({8, 32}, {3, 4}, {2, 32})), "zero points [3, 4]"));
  CHECK(contains(refusal(gptq({8, 32}, {2, 4}, {2, 32}, {63})), "expected 64"));
  // The bytes 22222222 as an index.
  CHECK(contains(refusal(gptq({8, 32}, {2, 4}, {2, 32})), "into group"));
  CHECK(contains(refusal(gptq({8, 32}, {2, 4}, {2, 32}), 3), "codes of 3 bits"));
  CHECK(contains(refusal({tensor("a.qweight", "I32", {8, 32})}), "'a.weight' lacks its scales"));
  CHECK(contains(refusal({tensor("a.weight_packed", "U8", {4, 32})}), "no matrix of scales"));
  CHECK(contains(refusal({tensor("a.weight_packed", "U8", {4, 32}), tensor("a.weight_scale", "U8", {4, 1})}),
                 "one for each 32 values"));
  CHECK(contains(refusal({tensor("a.weight", "U8", {4, 32}), tensor("a.weight_scale", "F8_E4M3", {4, 4}),
                          tensor("a.weight_scale_2", "F32", {2})}),
                 "expected one number"));
  CHECK(contains(refusal({tensor("a.weight_packed", "I32", {4, 8}), tensor("a.weight_scale", "F16", {4, 2}),
                          tensor("a.weight_shape", "U8", {2})}),
                 "only 4 and 8 bits"));
  // Of eight bytes that are the same: more than any matrix has.
  CHECK(contains(refusal({tensor("a.weight_packed", "I32", {4, 8}), tensor("a.weight_scale", "F16", {4, 2}),
                          tensor("a.weight_shape", "I64", {2})}),
                 "a weight_shape that is none"));
  // Scales of four bytes where bytes are read, zero points that are too few, scales of scales that are no
  // codes.
  CHECK(contains(refusal({tensor("a.weight_packed", "U8", {4, 32}), tensor("a.weight_scale", "F32", {4, 2})}),
                 "scales of type F32"));
  const std::vector<int64_t> sizes = {4, 64};
  std::vector<OutputTensor> few = {tensor("a.weight_packed", "I32", {4, 8}),
                                   tensor("a.weight_scale", "F16", {4, 2}),
                                   tensor("a.weight_zero_point", "I32", {1, 1}),
                                   {"a.weight_shape", "I64", {2}, std::as_bytes(std::span(sizes))}};
  CHECK(contains(refusal(few), "zero points [1, 1]"));
  const std::string state = R"({"blocksize":64,"shape":[2,64],"nested_blocksize":256,"nested_offset":0.5})";
  std::vector<OutputTensor> nested = {tensor("a.weight", "U8", {64, 1}),
                                      tensor("a.weight.absmax", "F32", {2}),
                                      tensor("a.weight.nested_absmax", "F32", {1}),
                                      tensor("a.weight.nested_quant_map", "F32", {256}),
                                      tensor("a.weight.quant_map", "F32", {16}),
                                      {"a.weight.quant_state.bitsandbytes__nf4",
                                       "U8",
                                       {static_cast<int64_t>(state.size())},
                                       std::as_bytes(std::span(state))}};
  CHECK(contains(refusal(nested), "scales of scales"));
  CHECK(contains(refusal({tensor("a.weight", "U8", {64, 1}), tensor("a.weight.absmax", "F32", {2})}),
                 "its table"));
  CHECK(contains(refusal({tensor("a_blocks", "U8", {2, 4, 2, 16}), tensor("a_scales", "U8", {2, 4, 3})}),
                 "[2, 4, 3]"));
  CHECK(contains(refusal({tensor("a.forward_hadamard_matrix", "F32", {16, 16}),
                          tensor("a.qweight", "U8", {4, 32}), tensor("a.scales", "U8", {4, 4})}),
                 "not orthogonal"));
}
