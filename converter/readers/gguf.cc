#include "converter/readers/gguf.h"

#include <array>
#include <cstdio>

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr int64_t kMostFiles = 1000;

std::string type_name(const GgufValue& value) {
  static constexpr const char* kNames[] = {"an integer",
                                           "a number",
                                           "a boolean",
                                           "a string",
                                           "an array of integers",
                                           "an array of numbers",
                                           "an array of booleans",
                                           "an array of strings"};
  static_assert(std::size(kNames) == std::variant_size_v<GgufValue>);
  return kNames[value.index()];
}

// "NAME-00002-of-00005.gguf" -> "NAME-", if `path` is a part of `count`.
Result<std::string> split_prefix(const std::string& path, int64_t count) {
  std::array<char, 32> suffix;
  std::snprintf(suffix.data(), suffix.size(), "-of-%05lld.gguf", static_cast<long long>(count));
  constexpr size_t kDigits = 5;
  const std::string_view end(suffix.data());
  if (path.ends_with(end) && path.size() > end.size() + kDigits)
    return path.substr(0, path.size() - end.size() - kDigits);
  return fail(ErrorCode::kInvalidFile,
              strf("'{}' is one of {} files of a split model, but is not named NAME-00001{}: give "
                   "the files their original names",
                   path, count, end));
}

std::string split_name(const std::string& prefix, int64_t index, int64_t count) {
  std::array<char, 48> suffix;
  std::snprintf(suffix.data(), suffix.size(), "%05lld-of-%05lld.gguf", static_cast<long long>(index + 1),
                static_cast<long long>(count));
  return prefix + suffix.data();
}

}  // namespace

template <typename T>
Result<T> Gguf::get(const std::string& key) const {
  const GgufValue expected = T();
  const auto it = metadata_.find(key);
  if (it == metadata_.end())
    return fail(ErrorCode::kInvalidFile,
                strf("'{}' has no metadata key '{}', expected {}", path_, key, type_name(expected)));
  if (const T* value = std::get_if<T>(&it->second)) return *value;
  if constexpr (std::is_same_v<T, double>)
    if (const auto* integer = std::get_if<int64_t>(&it->second)) return static_cast<double>(*integer);
  return fail(ErrorCode::kInvalidFile, strf("'{}': the metadata key '{}' is {}, expected {}", path_, key,
                                            type_name(it->second), type_name(expected)));
}
template Result<int64_t> Gguf::get(const std::string&) const;
template Result<double> Gguf::get(const std::string&) const;
template Result<bool> Gguf::get(const std::string&) const;
template Result<std::string> Gguf::get(const std::string&) const;
template Result<std::vector<int64_t>> Gguf::get(const std::string&) const;
template Result<std::vector<double>> Gguf::get(const std::string&) const;
template Result<std::vector<bool>> Gguf::get(const std::string&) const;
template Result<std::vector<std::string>> Gguf::get(const std::string&) const;

Result<Gguf> Gguf::open(const std::string& path) {
  Gguf gguf;
  gguf.path_ = path;
  const auto add = [&gguf](const std::string& name) -> Result<void> {
    LINNET_ASSIGN(format::MappedFile file, format::MappedFile::open(name));
    LINNET_ASSIGN(GgufDirectory directory, parse_gguf(file.bytes(), name));
    if (gguf.metadata_.empty()) gguf.metadata_ = std::move(directory.metadata);
    return gguf.checkpoint_.add_file(name, std::move(file), std::move(directory.tensors));
  };
  LINNET_TRY(add(path));
  LINNET_ASSIGN(const int64_t count, gguf.get_or<int64_t>("split.count", 1));
  if (count <= 1) return gguf;
  if (count > kMostFiles)
    return fail(ErrorCode::kInvalidFile,
                strf("'{}' says it is one of {} files, at most {} are read", path, count, kMostFiles));
  LINNET_ASSIGN(const std::string prefix, split_prefix(path, count));
  // The metadata proper are in the first part, whichever was given.
  gguf = Gguf();
  gguf.path_ = split_name(prefix, 0, count);
  for (int64_t i = 0; i < count; ++i) LINNET_TRY(add(split_name(prefix, i, count)));
  LINNET_ASSIGN(const int64_t tensors, gguf.get_or<int64_t>("split.tensors.count", 0));
  if (tensors > 0 && static_cast<size_t>(tensors) != gguf.checkpoint_.tensors().size())
    return fail(ErrorCode::kInvalidFile,
                strf("'{}' and the files that follow it have {} tensors, expected {}", gguf.path_,
                     gguf.checkpoint_.tensors().size(), tensors));
  return gguf;
}

}  // namespace linnet::convert
