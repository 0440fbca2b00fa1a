// LoRA adapters and the forms they linearise a checkpoint to.
#include "converter/transforms/adapter.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "converter/convert.h"
#include "converter/readers/safetensors.h"
#include "converter/transforms/linearize.h"
#include "format/container.h"
#include "tests/converter/files.h"

using namespace linnet;
using namespace linnet::convert;
namespace fs = std::filesystem;

namespace {

using Folder = testing::TempFolder;

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};
void write_tensors(const std::string& path, const std::vector<Tensor>& tensors) {
  std::vector<OutputTensor> out;
  for (const Tensor& t : tensors) out.push_back({t.name, "F32", t.shape, std::as_bytes(std::span(t.values))});
  REQUIRE(write_safetensors(path, out));
}

// As a file in q4a has it.
class InFourBits final : public RowSource {
 public:
  explicit InFourBits(Rows source) : source_(std::move(source)) {
    rows = source_->rows;
    columns = source_->columns;
    name = source_->name;
  }
  std::optional<DType> stored() const override { return DType::kQ4A; }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    return source_->read(begin, count, out);
  }

 private:
  Rows source_;
};

// One matrix [2, 3] of ones, and a vector.
class Base final : public TensorSet {
 public:
  bool has(const std::string& name) const override { return name == kMatrix || name == "norm.weight"; }
  std::vector<int64_t> shape(const std::string& name) const override {
    if (name == kMatrix) return {2, 3};
    return has(name) ? std::vector<int64_t>{3} : std::vector<int64_t>{};
  }
  Result<Rows> rows(const std::string& name) const override {
    return name == kMatrix ? std::make_shared<InFourBits>(constant_rows(name, 2, 3, {1, 1, 1, 1, 1, 1}))
                           : constant_rows(name, 1, 3, {5, 5, 5});
  }
  std::vector<std::string> names() const override { return {kMatrix, "norm.weight"}; }
  const std::string& origin() const override { return origin_; }
  static constexpr const char* kMatrix = "model.layers.0.self_attn.q_proj.weight";

 private:
  std::string origin_ = "base";
};

constexpr const char* kModule = "base_model.model.model.layers.0.self_attn.q_proj";
std::vector<Tensor> peft_pair() {  // B A = [[1, 0, -2], [3, 0, -6]]
  return {{std::string(kModule) + ".lora_A.weight", {1, 3}, {1, 0, -2}},
          {std::string(kModule) + ".lora_B.weight", {2, 1}, {1, 3}}};
}

std::string error_of(const Folder& folder) {
  auto adapter = read_adapter(folder.path());
  if (!adapter) return adapter.error().message;
  auto tensors = adapt(std::make_unique<Base>(), std::move(*adapter));
  return tensors ? "" : tensors.error().message;
}

std::vector<float> merged(const Folder& folder, const std::string& name = Base::kMatrix) {
  auto adapter = read_adapter(folder.path());
  REQUIRE_MESSAGE(adapter, (adapter ? "" : adapter.error().message));
  auto tensors = adapt(std::make_unique<Base>(), std::move(*adapter));
  REQUIRE(tensors);
  auto rows = (*tensors)->rows(name);
  REQUIRE(rows);
  auto values = read_all(**rows);
  REQUIRE(values);
  return *values;
}

}  // namespace

TEST_CASE("PEFT: alpha / r, the square root of r with rslora, patterns by module") {
  struct Case {
    const char* config;
    float scale;
  };
  for (const Case& c :
       {Case{R"({"peft_type": "LORA", "r": 1, "lora_alpha": 4})", 4.0f},
        Case{R"({"r": 1, "lora_alpha": 3, "use_rslora": true, "bias": "none", "use_dora": false})", 3.0f},
        Case{R"({"r": 4, "lora_alpha": 4, "rank_pattern": {"q_proj": 1}, "alpha_pattern": {".*q_proj": 7}})",
             7.0f},
        // A name's end, from a dot on: neither "v" nor "proj" is one.
        Case{R"({"r": 1, "lora_alpha": 2, "alpha_pattern": {"v|proj": 7}})", 2.0f}}) {
    CAPTURE(c.config);
    const Folder folder;
    folder.write("adapter_config.json", c.config);
    write_tensors(folder / "adapter_model.safetensors", peft_pair());
    const std::vector<float> expected = {1 + c.scale,     1, 1 - 2 * c.scale,
                                         1 + 3 * c.scale, 1, 1 - 6 * c.scale};
    CHECK(merged(folder) == expected);
    CHECK(merged(folder, "norm.weight") == std::vector<float>{5, 5, 5});
    auto tensors = adapt(std::make_unique<Base>(), std::move(*read_adapter(folder.path())));
    REQUIRE(tensors);
    CHECK((*(*tensors)->rows(Base::kMatrix))->stored() == DType::kQ8);  // and not the base's four bits
  }
  const Folder folder;  // r 4: alpha over its root
  folder.write("adapter_config.json", R"({"r": 4, "lora_alpha": 6, "use_rslora": true})");
  write_tensors(folder / "adapter_model.safetensors",
                {{std::string(kModule) + ".lora_A.default.weight", {4, 3}, std::vector<float>(12, 1)},
                 {std::string(kModule) + ".lora_B.default.weight", {2, 4}, std::vector<float>(8, 1)}});
  CHECK(merged(folder)[0] == 1 + 3 * 4);
}

TEST_CASE("whole tensors of an adapter replace the checkpoint's; Linnet's own names and scale") {
  const Folder folder;
  folder.write("config.json", R"({"lora": {"r": 1, "scale": 2.0}})");
  write_tensors(folder / "adapter.safetensors", {{"layers.0.q_proj.lora_A", {1, 3}, {1, 0, -2}},
                                                 {"layers.0.q_proj.lora_B", {2, 1}, {1, 3}},
                                                 {"layers.0.feat_q", {1, 1, 1}, {8}},
                                                 {"norm.weight", {3}, {7, 8, 9}}});
  CHECK(merged(folder) == std::vector<float>{3, 1, -3, 7, 1, -11});
  CHECK(merged(folder, "norm.weight") == std::vector<float>{7, 8, 9});
  CHECK(merged(folder, "model.layers.0.self_attn.feature_q") == std::vector<float>{8});
}

// tests/oracles/dora_golden.py: PEFT 0.21.2's own merge.
TEST_CASE("DoRA gives the merged rows their norms, as PEFT merges it") {
  const Folder folder;
  folder.write("adapter_config.json", R"({"r": 1, "lora_alpha": 2, "use_dora": true})");
  auto tensors = peft_pair();
  tensors.push_back({std::string(kModule) + ".lora_magnitude_vector", {2}, {2, 5}});
  write_tensors(folder / "adapter_model.safetensors", tensors);
  const std::vector<float> expected = {1.3764944076538086f, 0.45883145928382874f, -1.3764944076538086f,
                                       2.6765170097351074f, 0.3823595643043518f,  -4.2059550285339355f};
  const std::vector<float> found = merged(folder);
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) CHECK(found[i] == doctest::Approx(expected[i]).epsilon(1e-6));
  CHECK_FALSE(read_adapter(folder.path(), 0.5));
}

TEST_CASE("several adapters add up, each by its weight") {
  const Folder folder;
  folder.write("adapter_config.json", R"({"r": 1, "lora_alpha": 1})");
  write_tensors(folder / "adapter_model.safetensors", peft_pair());
  std::unique_ptr<TensorSet> tensors = std::make_unique<Base>();
  for (const double weight : {0.5, 2.0}) {
    auto adapter = read_adapter(folder.path(), weight);
    REQUIRE(adapter);
    auto adapted = adapt(std::move(tensors), std::move(*adapter));
    REQUIRE(adapted);
    tensors = std::move(*adapted);
  }
  CHECK(*read_all(**tensors->rows(Base::kMatrix)) == std::vector<float>{3.5f, 1, -4, 8.5f, 1, -14});
  const Folder whole;
  whole.write("config.json", R"({"lora": {"r": 1, "scale": 1.0}})");
  write_tensors(whole / "adapter.safetensors", {{"norm.weight", {3}, {7, 8, 9}}});
  CHECK(read_adapter(whole.path()));
  CHECK_FALSE(read_adapter(whole.path(), 0.5));
}

TEST_CASE("an adapter that cannot be merged is refused by name") {
  const auto with = [](const std::string& config, const std::vector<Tensor>& tensors) {
    const Folder folder;
    if (!config.empty()) folder.write("adapter_config.json", config);
    write_tensors(folder / "adapter_model.safetensors", tensors);
    return error_of(folder);
  };
  const auto says = [](const std::string& error, const char* what) {
    CHECK_MESSAGE(error.find(what) != std::string::npos, error);
  };
  const std::string plain = R"({"r": 1, "lora_alpha": 1})";
  CHECK(with(plain, peft_pair()) == "");
  says(with(R"({"r": 1, "use_dora": true})", peft_pair()), "use_dora");
  says(with(R"({"peft_type": "IA3"})", peft_pair()), "IA3");
  says(with(R"({"r": 1, "bias": "all"})", peft_pair()), "bias");
  says(with(R"({"r": 2})", peft_pair()), "rank");
  says(with(R"({"r": "one"})", peft_pair()), "'r'");
  says(with(R"({"r": 1, "rank_pattern": {"q_(proj": 1}})", peft_pair()), "a regular expression");
  says(with(R"-({"r": 1, "alpha_pattern": {"((.+)+)+(?<!j)": 1}})-", peft_pair()), "takes too long");
  says(with("", peft_pair()), "adapter_config.json");
  says(with(plain, {peft_pair()[0]}), "lora_B");
  auto other = peft_pair();
  for (Tensor& t : other) t.name.replace(t.name.find("q_proj"), 6, "x_proj");
  says(with(plain, other), "does not have");
  auto wide = peft_pair();
  wide[0].shape = {1, 4};
  wide[0].values.push_back(0);
  says(with(plain, wide), "another model");
  const Folder empty;
  says(error_of(empty), "no adapter folder");
}

TEST_CASE("a plain Llama becomes what its linearised checkpoint is") {
  // The golden's weights under a plain Llama's configuration.
  const Folder llama;
  const fs::path golden = fs::path(LINNET_GOLDEN) / "language" / "liger_gla" / "model";
  for (const auto& entry : fs::directory_iterator(golden))
    fs::copy(entry.path(), fs::path(llama / entry.path().filename().string()));
  std::ifstream in(golden / "config.json");
  Json config = Json::parse(in);
  config["model_type"] = "llama";
  llama.write("config.json", config.dump());
  const auto convert_to = [&](const std::string& source, const std::string& form, const std::string& lora,
                              const std::string& output) {
    ConvertOptions options;
    options.source = source;
    options.output = output;
    options.quantize = "f32";
    options.linearize = form;
    if (!lora.empty()) options.lora = {{lora, 1.0}};
    options.self_test = false;
    const auto report = convert::convert(options);
    return report ? std::string() : report.error().message;
  };
  REQUIRE(convert_to(golden.string(), "", "", llama / "direct.lnt") == "");
  REQUIRE(convert_to(llama.path(), "liger", "", llama / "linearized.lnt") == "");
  const auto a = format::ModelFile::open(llama / "direct.lnt"),
             b = format::ModelFile::open(llama / "linearized.lnt");
  REQUIRE((a && b));
  REQUIRE(a->model().methods[0]->nodes.size() == b->model().methods[0]->nodes.size());
  REQUIRE(a->model().segments.size() == b->model().segments.size());
  for (size_t i = 0; i < a->model().segments.size(); ++i)
    CHECK(a->model().segments[i]->checksum == b->model().segments[i]->checksum);

  CHECK(convert_to(llama.path(), "lolcats", "", llama / "x.lnt").find("feature maps") != std::string::npos);
  CHECK(convert_to(llama.path(), "window", "", llama / "x.lnt").find("--lora") != std::string::npos);
  CHECK(convert_to(golden.string(), "liger", "", llama / "x.lnt").find("not for 'liger_gla'") !=
        std::string::npos);
}
