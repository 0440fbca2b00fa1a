#include "converter/readers/weights_folder.h"

#include <filesystem>
#include <set>

#include "converter/readers/json.h"
#include "converter/readers/safetensors.h"
#include "converter/readers/torch_zip.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

namespace fs = std::filesystem;

// A file name of the index, which must lie beside it.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && fs::path(name).filename().string() == name;
}

using ReadFile = Result<void> (*)(const std::string& path, Checkpoint& checkpoint);

// The files that an index lists, each once.
Result<void> read_shards(const fs::path& folder, const fs::path& index, ReadFile read,
                         Checkpoint& checkpoint) {
  LINNET_ASSIGN(Json json, read_json(index.string()));
  const JsonRelease released(json);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object() || map->empty())
    return fail(ErrorCode::kInvalidFile, strf("'{}' has no weight_map", index.string()));
  std::set<std::string> files;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !is_plain_name(file.get<std::string>()))
      return fail(ErrorCode::kInvalidFile,
                  strf("'{}': tensor '{}' is said to be in {}, expected a file of the same folder",
                       index.string(), tensor, json_text(file, 200)));
    files.insert(file.get<std::string>());
  }
  for (const std::string& file : files) LINNET_TRY(read((folder / file).string(), checkpoint));
  for (const auto& [tensor, file] : map->items())
    if (!checkpoint.find(tensor))
      return fail(ErrorCode::kInvalidFile, strf("'{}' lists tensor '{}' in {}, which does not have it",
                                                index.string(), tensor, json_text(file, 200)));
  return {};
}

}  // namespace

Result<void> read_weights_folder(const std::string& path, const std::string& name, Checkpoint& checkpoint) {
  const fs::path folder(path);
  // In this order: a folder often has both forms of the same weights.
  const std::pair<std::string, ReadFile> forms[] = {
      {name + ".safetensors", &read_safetensors},
      {name == "model" ? "pytorch_model.bin" : name + ".bin", &read_torch}};
  std::error_code ignored;
  std::string looked_for;
  for (const auto& [file, read] : forms) {
    const fs::path single = folder / file, index = folder / (file + ".index.json");
    if (fs::exists(single, ignored)) return read(single.string(), checkpoint);
    if (fs::exists(index, ignored)) return read_shards(folder, index, read, checkpoint);
    looked_for += strf("{}{} nor {}", looked_for.empty() ? "" : " nor ", file, index.filename().string());
  }
  return fail(ErrorCode::kNotFound, strf("'{}' has neither {}", path, looked_for));
}

}  // namespace linnet::convert
