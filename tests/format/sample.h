// A small valid model for the tests of the format, with one of everything the verifier looks at.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "format/container.h"
#include "format/head.h"
#include "format/model_generated.h"
#include "format/writer.h"
#include "tests/contains.h"

namespace linnet::format::testing {

using linnet::testing::contains;

// A folder that is empty at first and gone with the object.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "linnet_format_XXXXXX").string();
    if (mkdtemp(name.data())) path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code error;
    if (!path_.empty()) std::filesystem::remove_all(path_, error);
  }
  std::filesystem::path operator/(const char* name) const { return path_ / name; }
  size_t entries() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::filesystem::path path_;
};

inline std::vector<std::byte> read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::vector<char> chars((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto* data = reinterpret_cast<const std::byte*>(chars.data());
  return std::vector<std::byte>(data, data + chars.size());
}

inline void write_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

template <typename T>
std::unique_ptr<T> named(std::string name) {
  auto item = std::make_unique<T>();
  item->name = std::move(name);
  return item;
}

inline fb::Dim fixed(int64_t n) { return fb::Dim(-1, 1, 1, n); }
inline fb::Dim symbol(int32_t i) { return fb::Dim(i, 1, 1, 0); }

inline constexpr int64_t kSampleRows = 20;
inline constexpr int64_t kSampleWidth = 32;

// Everything but segments and weights, which the writer fills: weight 0 is a q8 matrix [20, 32], weight 1 an
// f32 vector [32], weight 2 an f16 matrix [3, 32] in a segment of its own.
inline fb::ModelT sample_structure() {
  fb::ModelT model;
  model.metadata.push_back(std::make_unique<fb::KeyValueT>());
  model.metadata[0]->key = "general.name";
  model.metadata[0]->value = "sample";
  model.symbols.push_back(named<fb::SymbolT>("tokens"));

  auto state = named<fb::StateT>("layers.0.keys");
  state->shape = {symbol(0), fixed(kSampleWidth)};
  model.states.push_back(std::move(state));

  auto method = named<fb::MethodT>("forward");
  const std::vector<std::pair<const char*, fb::DType>> values = {{"input_ids", fb::DType::I32},
                                                                 {"hidden", fb::DType::F32},
                                                                 {"normed", fb::DType::F32},
                                                                 {"logits", fb::DType::F32}};
  for (const auto& [name, dtype] : values) {
    auto value = named<fb::ValueT>(name);
    value->dtype = dtype;
    value->shape = {symbol(0)};
    if (dtype == fb::DType::F32)
      value->shape.push_back(fixed(value->name == "logits" ? kSampleRows : kSampleWidth));
    method->values.push_back(std::move(value));
  }
  method->inputs = {0};
  method->outputs = {3};
  auto embedding = named<fb::NodeT>("embedding");
  embedding->args.Set(fb::EmbeddingT());
  embedding->inputs = {0};
  embedding->weights = {0};
  embedding->outputs = {1};
  auto norm = named<fb::NodeT>("norm");
  fb::NormT norm_args;
  norm_args.epsilon = 1e-5f;
  norm->args.Set(std::move(norm_args));
  norm->inputs = {1, -1};
  norm->weights = {1, -1};
  norm->states = {0};
  norm->outputs = {2};
  auto logits = named<fb::NodeT>("logits");
  logits->args.Set(fb::LogitsT());
  logits->inputs = {2};
  logits->weights = {0};
  logits->outputs = {3};
  method->nodes.push_back(std::move(embedding));
  method->nodes.push_back(std::move(norm));
  method->nodes.push_back(std::move(logits));
  model.methods.push_back(std::move(method));

  model.tokenizer = std::make_unique<fb::TokenizerT>();
  model.tokenizer->pieces = {"a", "b", "ab", std::string("\0\xFF", 2)};
  model.tokenizer->scores = {-1, -2, -3, -4};
  model.tokenizer->kinds.assign(4, fb::TokenKind::Normal);
  model.tokenizer->merges = {0, 1};
  model.tokenizer->added_tokens.push_back(std::make_unique<fb::AddedTokenT>());
  model.tokenizer->added_tokens[0]->id = 7;
  model.tokenizer->added_tokens[0]->text = "<|end|>";
  model.tokenizer->pre_tokenizer.push_back(std::make_unique<fb::PreTokenizerStepT>());
  model.tokenizer->eos_id = 7;
  model.tokenizer->stop_ids = {7, 3};
  model.chat_template = "{{ messages[0].content }}";
  model.sampler = std::make_unique<fb::SamplerDefaultsT>();
  return model;
}

inline float sample_value(int64_t row, int64_t column) {
  return static_cast<float>((row * 37 + column * 11) % 255 - 127);
}

inline Result<void> write_sample_weights(ModelWriter& writer) {
  const auto rows = [](int64_t first, int64_t count, float* values) -> Result<void> {
    for (int64_t r = 0; r < count; ++r)
      for (int64_t c = 0; c < kSampleWidth; ++c) *values++ = sample_value(first + r, c);
    return {};
  };
  LINNET_TRY(writer.pack_and_write_matrix("embedding", DType::kQ8, {kSampleRows, kSampleWidth}, rows));
  LINNET_TRY(writer.begin_weight("norm", DType::kF32, fb::Layout::RowMajor, {kSampleWidth}));
  const std::vector<float> ones(kSampleWidth, 1.0f);
  LINNET_TRY(writer.write(std::as_bytes(std::span(ones))));
  LINNET_TRY(writer.end_weight());
  LINNET_TRY(writer.begin_segment());
  LINNET_TRY(writer.pack_and_write_matrix("other", DType::kF16, {3, kSampleWidth}, rows));
  return {};
}

inline Result<uint64_t> write_sample(const std::filesystem::path& path, const WriterOptions& options = {}) {
  LINNET_ASSIGN(ModelWriter writer, ModelWriter::create(path, options));
  LINNET_TRY(write_sample_weights(writer));
  return writer.finish(sample_structure());
}

inline std::vector<std::byte> sample_bytes() {
  const TempFolder folder;
  if (!write_sample(folder / "sample.lnt")) return {};
  return read_file(folder / "sample.lnt");
}

// Makes the header fit what follows it again, so that a change of the head reaches the checks behind the
// checksum.
inline void repair_header(std::vector<std::byte>& file, uint64_t head_offset) {
  const auto head = std::span(file).subspan(static_cast<size_t>(head_offset));
  const auto header = encode_header({.version = kFormatVersion,
                                     .file_bytes = file.size(),
                                     .head_offset = head_offset,
                                     .head_bytes = head.size(),
                                     .head_checksum = checksum(head)});
  std::copy(header.begin(), header.end(), file.begin());
}

}  // namespace linnet::format::testing
