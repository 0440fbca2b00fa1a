#include "converter/source.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "converter/gguf_source.h"
#include "converter/readers/json.h"
#include "converter/readers/rows.h"
#include "converter/readers/safetensors.h"
#include "converter/tokenizer_import.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

namespace fs = std::filesystem;

class CheckpointTensors final : public TensorSet {
 public:
  CheckpointTensors(std::shared_ptr<const Checkpoint> checkpoint, std::string origin)
      : checkpoint_(std::move(checkpoint)), origin_(std::move(origin)) {}
  bool has(const std::string& name) const override { return checkpoint_->find(name) != nullptr; }
  std::vector<int64_t> shape(const std::string& name) const override {
    const TensorInfo* tensor = checkpoint_->find(name);
    return tensor ? tensor->shape : std::vector<int64_t>{};
  }
  Result<Rows> rows(const std::string& name) const override {
    const TensorInfo* tensor = checkpoint_->find(name);
    if (!tensor) return fail(ErrorCode::kNotFound, strf("'{}' has no tensor '{}'", origin_, name));
    return scaled(checkpoint_rows(*checkpoint_, *tensor), name);
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> result;
    for (const auto& [name, tensor] : checkpoint_->tensors())
      if (!is_scale(name)) result.push_back(name);
    return result;
  }
  const std::string& origin() const override { return origin_; }

 private:
  // FP8 checkpoints keep a scale beside each weight: one number, or one per block of rows and columns.
  static bool is_scale(const std::string& name) { return name.ends_with(".weight_scale_inv") || name.ends_with(".weight_scale"); }
  Result<Rows> scaled(Rows source, const std::string& name) const {
    const TensorInfo* scale = checkpoint_->find(name + "_scale_inv");
    if (!scale) scale = checkpoint_->find(name + "_scale");
    if (!scale) return source;
    std::vector<float> values(static_cast<size_t>(scale->elements()));
    LINNET_TRY(checkpoint_->read_f32(*scale, 0, scale->rows(), values.data()));
    const int64_t down = scale->shape.size() == 2 ? scale->shape[0] : scale->elements(), across = scale->shape.size() == 2 ? scale->shape[1] : 1;
    if (down < 1 || across < 1 || down > source->rows || across > source->columns)
      return fail(ErrorCode::kInvalidFile, strf("'{}': the scales of '{}' have shape {}, which does not fit its {} x {}", origin_, name,
                                                graph_shape(scale->shape), source->rows, source->columns));
    const int64_t block_rows = (source->rows + down - 1) / down, block_columns = (source->columns + across - 1) / across;
    const int64_t columns = source->columns;
    return map_rows(source, [=, values = std::move(values)](int64_t row, float* x) {
      for (int64_t i = 0; i < columns; ++i) x[i] *= values[static_cast<size_t>(row / block_rows * across + i / block_columns)];
    });
  }
  static std::string graph_shape(const std::vector<int64_t>& shape) {
    std::string text;
    for (const int64_t n : shape) text += (text.empty() ? "" : " x ") + std::to_string(n);
    return text;
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  std::string origin_;
};

Result<std::shared_ptr<const Checkpoint>> read_weights(const fs::path& folder) {
  auto checkpoint = std::make_shared<Checkpoint>();
  const fs::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  if (fs::exists(single)) {
    LINNET_TRY(read_safetensors(single.string(), *checkpoint));
    return checkpoint;
  }
  if (!fs::exists(index)) {
    if (fs::exists(folder / "pytorch_model.bin") || fs::exists(folder / "pytorch_model.bin.index.json"))
      return fail(ErrorCode::kUnsupported,
                  strf("'{}' has its weights in pytorch_model.bin, which can run code when it is read: load it with "
                       "transformers and save it with save_pretrained(safe_serialization=True)", folder.string()));
    return fail(ErrorCode::kNotFound, strf("'{}' has neither model.safetensors nor model.safetensors.index.json", folder.string()));
  }
  LINNET_ASSIGN(const Json json, read_json(index.string()));
  if (!json.contains("weight_map") || !json["weight_map"].is_object())
    return fail(ErrorCode::kInvalidFile, strf("'{}' has no weight_map", index.string()));
  std::set<std::string> files;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    if (!file.is_string() || fs::path(file.get<std::string>()).filename() != fs::path(file.get<std::string>()))
      return fail(ErrorCode::kInvalidFile, strf("'{}': tensor '{}' is said to be in {}, expected a file of the same folder", index.string(), tensor, file.dump()));
    files.insert(file.get<std::string>());
  }
  for (const std::string& file : files) LINNET_TRY(read_safetensors((folder / file).string(), *checkpoint));
  for (const auto& [tensor, file] : json["weight_map"].items())
    if (!checkpoint->find(tensor))
      return fail(ErrorCode::kInvalidFile, strf("'{}' lists tensor '{}' in {}, which does not have it", index.string(), tensor, file.dump()));
  return checkpoint;
}

Result<Source> open_folder(const fs::path& folder) {
  Source source;
  source.kind = "Hugging Face folder";
  source.name = fs::weakly_canonical(folder).filename().string();
  if (!fs::exists(folder / "config.json"))
    return fail(ErrorCode::kNotFound, strf("'{}' has no config.json: it is not a Hugging Face model folder", folder.string()));
  LINNET_ASSIGN(source.config, read_json((folder / "config.json").string(), true));
  if (!source.config.is_object()) return fail(ErrorCode::kInvalidFile, strf("'{}' is not an object", (folder / "config.json").string()));
  LINNET_ASSIGN(auto checkpoint, read_weights(folder));
  source.tensors = std::make_unique<CheckpointTensors>(std::move(checkpoint), folder.string());
  LINNET_TRY(import_folder_text(folder.string(), source));
  return source;
}

Result<Source> open_gguf(const std::string& path) {
  LINNET_ASSIGN(Gguf opened, Gguf::open(path));
  const auto gguf = std::make_shared<const Gguf>(std::move(opened));
  Source source;
  source.kind = "GGUF";
  source.name = fs::path(path).stem().string();
  if (const auto* name = gguf->find<std::string>("general.name")) source.name = *name;
  if (const auto* licence = gguf->find<std::string>("general.license")) source.metadata.emplace_back("license", *licence);
  LINNET_ASSIGN(source.config, gguf_config(*gguf, path));
  source.tensors = gguf_tensors(gguf, source.config, path);
  LINNET_TRY(import_gguf_text(*gguf, path, source));
  return source;
}

}  // namespace

Result<Source> open_source(const std::string& path) {
  try {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::is_directory(status)) return open_folder(path);
    if (!fs::exists(status)) return fail(ErrorCode::kNotFound, strf("'{}' does not exist: give a Hugging Face folder or a GGUF file", path));
    if (path.ends_with(".safetensors"))
      return fail(ErrorCode::kInvalidArgument, strf("'{}' is the weights alone: give the folder that also has config.json", path));
    return open_gguf(path);
  } catch (const std::exception& e) {  // file system and JSON access
    return fail(ErrorCode::kInvalidFile, strf("'{}' cannot be read: {}", path, e.what()));
  }
}

}  // namespace linnet::convert
