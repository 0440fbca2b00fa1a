#include "converter/source.h"

#include <filesystem>

#include "converter/checkpoint_tensors.h"
#include "converter/gguf_source.h"
#include "converter/readers/json.h"
#include "converter/readers/reading.h"
#include "converter/readers/stored_scales.h"
#include "converter/readers/weights_folder.h"
#include "converter/rwkv_source.h"
#include "converter/template_facts.h"
#include "converter/tokenizer_import.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

namespace fs = std::filesystem;

Result<Source> open_folder(const fs::path& folder) {
  Source source;
  source.kind = "Hugging Face folder";
  source.name = fs::weakly_canonical(folder).filename().string();
  if (!fs::exists(folder / "config.json"))
    return fail(ErrorCode::kNotFound,
                strf("'{}' has no config.json: it is not a Hugging Face model folder", folder.string()));
  LINNET_ASSIGN(source.config, read_json((folder / "config.json").string(), true));
  if (!source.config.is_object())
    return fail(ErrorCode::kInvalidFile, strf("'{}' is not an object", (folder / "config.json").string()));
  LINNET_ASSIGN(const StoredScales scales,
                read_stored_scales(source.config, (folder / "config.json").string()));
  LINNET_TRY(refuse_quantised_folder(folder.string()));
  auto checkpoint = std::make_shared<Checkpoint>();
  LINNET_TRY(read_weights_folder(folder.string(), "model", *checkpoint));
  LINNET_TRY(refuse_quantised_tensors(*checkpoint, folder.string()));
  LINNET_ASSIGN(PackedWeights packed, PackedWeights::find(*checkpoint, scales, folder.string()));
  std::map<std::string, int> methods;
  for (const auto& [name, matrix] : packed.matrices()) ++methods[matrix.method];
  for (const auto& [method, count] : methods)
    source.notes.push_back(strf("{} matrices in {}", count, method));
  source.tensors = checkpoint_tensors(std::move(checkpoint), scales, std::move(packed), folder.string());
  LINNET_TRY(import_folder_text(folder.string(), source));
  LINNET_TRY(read_template_tokens(folder.string(), source));
  return source;
}

Result<Source> open_gguf(const std::string& path) {
  LINNET_ASSIGN(Gguf opened, Gguf::open(path));
  const auto gguf = std::make_shared<const Gguf>(std::move(opened));
  Source source;
  source.kind = "GGUF";
  source.name = fs::path(path).stem().string();
  if (const auto* name = gguf->find<std::string>("general.name")) source.name = *name;
  if (const auto* licence = gguf->find<std::string>("general.license"))
    source.metadata.emplace_back("license", *licence);
  LINNET_ASSIGN(source.config, gguf_config(*gguf, path));
  source.tensors = gguf_tensors(gguf, source.config, path);
  LINNET_TRY(import_gguf_text(*gguf, path, source));
  return source;
}

}  // namespace

Result<Source> open_source(const std::string& path) {
  return reading(path, "read", [&]() -> Result<Source> {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::is_directory(status)) return open_folder(path);
    if (!fs::exists(status))
      return fail(
          ErrorCode::kNotFound,
          strf("'{}' does not exist: give a Hugging Face folder, a GGUF file or RWKV's torch file", path));
    if (path.ends_with(".safetensors"))
      return fail(ErrorCode::kInvalidArgument,
                  strf("'{}' is the weights alone: give the folder that also has config.json", path));
    for (const char* end : {".pth", ".pt", ".ckpt", ".bin"})
      if (path.ends_with(end)) return open_torch_file(path);
    return open_gguf(path);
  });
}

}  // namespace linnet::convert
