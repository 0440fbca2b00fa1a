#include "converter/transforms/combine.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <set>

#include "converter/readers/checkpoint.h"
#include "converter/readers/json.h"
#include "converter/transforms/quantize.h"
#include "converter/write_weights.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

std::optional<std::vector<double>> numbers_of(const Json& list, size_t count) {
  if (!list.is_array() || list.size() != count) return std::nullopt;
  std::vector<double> numbers;
  for (const Json& item : list) {
    if (!item.is_number() || !std::isfinite(item.get<double>())) return std::nullopt;
    numbers.push_back(item.get<double>());
  }
  return numbers;
}

const std::vector<double>* coefficients_of(const Coefficients& all, const std::string& tensor) {
  for (auto it = all.rbegin(); it != all.rend(); ++it)
    if (matches(it->first, tensor)) return &it->second;
  return nullptr;
}

class CombinedRows final : public RowSource {
 public:
  CombinedRows(std::vector<Rows> sources, std::vector<double> coefficients)
      : sources_(std::move(sources)), coefficients_(std::move(coefficients)) {
    rows = sources_.front()->rows;
    columns = sources_.front()->columns;
    name = sources_.front()->name + " (combined)";
  }
  // The codes of several checkpoints are no code of their combination.
  std::optional<DType> stored() const override {
    const auto first = sources_.front()->stored();
    return first && is_quantized(*first) ? DType::kQ8 : first;
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    const auto size = static_cast<size_t>(count * columns);
    std::vector<double> sum(size);
    std::vector<float> values(size);
    for (size_t i = 0; i < sources_.size(); ++i) {
      LINNET_TRY(sources_[i]->read(begin, count, values.data()));
      for (size_t j = 0; j < size; ++j) sum[j] += coefficients_[i] * static_cast<double>(values[j]);
    }
    // Variances of a normalisation have no sign: coefficients below 0 can give them one.
    const bool variance = name.find("running_var") != std::string::npos;
    for (size_t j = 0; j < size; ++j) {
      out[j] = static_cast<float>(sum[j]);
      if (variance && out[j] < 0)
        return fail(
            ErrorCode::kNumeric,
            strf("'{}': the variance number {} becomes {}: give this tensor coefficients of its own in a "
                 "JSON file, such as those of one checkpoint alone",
                 name, begin * columns + static_cast<int64_t>(j), out[j]));
    }
    return {};
  }

 private:
  std::vector<Rows> sources_;
  std::vector<double> coefficients_;
};

class CombinedTensors final : public TensorSet {
 public:
  CombinedTensors(std::vector<std::unique_ptr<TensorSet>> sets, Coefficients coefficients)
      : sets_(std::move(sets)), coefficients_(std::move(coefficients)) {
    origin_ = strf("{} and {} more", sets_.front()->origin(), sets_.size() - 1);
  }
  bool has(const std::string& name) const override { return sets_.front()->has(name); }
  std::vector<int64_t> shape(const std::string& name) const override { return sets_.front()->shape(name); }
  std::vector<std::string> names() const override { return sets_.front()->names(); }
  const std::string& origin() const override { return origin_; }
  Result<Rows> rows(const std::string& name) const override {
    std::vector<Rows> sources;
    for (const auto& set : sets_) {
      LINNET_ASSIGN(Rows rows, set->rows(name));
      if (!sources.empty() &&
          (rows->rows != sources.front()->rows || rows->columns != sources.front()->columns))
        return fail(ErrorCode::kInvalidArgument, strf("'{}' has another shape in '{}'", name, set->origin()));
      sources.push_back(std::move(rows));
    }
    return std::make_shared<CombinedRows>(std::move(sources), *coefficients_of(coefficients_, name));
  }

 private:
  std::vector<std::unique_ptr<TensorSet>> sets_;
  Coefficients coefficients_;
  std::string origin_;
};

}  // namespace

Result<Coefficients> read_coefficients(const std::string& text, size_t count) {
  std::error_code ignored;
  if (!std::filesystem::exists(text, ignored)) {
    auto list = parse_json("[" + text + "]", "--combine");
    if (list) {
      const JsonRelease released(*list);
      if (auto numbers = numbers_of(*list, count)) return Coefficients{{"*", std::move(*numbers)}};
    }
    return fail(
        ErrorCode::kInvalidArgument,
        strf("--combine '{}' is neither a file nor {} numbers with commas between, one for each checkpoint",
             text, count));
  }
  LINNET_ASSIGN(Json json, read_json(text));
  const JsonRelease released(json);
  Coefficients coefficients;
  const auto add = [&](const std::string& pattern, const Json& list) -> Result<void> {
    auto numbers = numbers_of(list, count);
    if (!numbers)
      return fail(ErrorCode::kInvalidArgument,
                  strf("'{}': '{}' has {}, expected {} numbers, one for each checkpoint", text, pattern,
                       json_text(list, 100), count));
    coefficients.emplace_back(pattern, std::move(*numbers));
    return {};
  };
  if (!json.is_object()) {
    LINNET_TRY(add("*", json));
    return coefficients;
  }
  for (const auto& [pattern, list] : json.items()) LINNET_TRY(add(pattern, list));
  // An object has no order that can be relied on: the shortest patterns, which fit most, come first.
  std::stable_sort(coefficients.begin(), coefficients.end(),
                   [](const auto& a, const auto& b) { return a.first.size() < b.first.size(); });
  return coefficients;
}

Result<std::unique_ptr<TensorSet>> combined_tensors(std::vector<std::unique_ptr<TensorSet>> sets,
                                                    Coefficients coefficients) {
  std::set<std::string> names;
  for (const auto& set : sets)
    for (std::string& name : set->names()) names.insert(std::move(name));
  std::vector<std::string> differences;
  for (const std::string& name : names) {
    for (const auto& set : sets) {
      if (!set->has(name))
        differences.push_back(strf("'{}' is not in {}", name, set->origin()));
      else if (sets.front()->has(name) && set->shape(name) != sets.front()->shape(name))
        differences.push_back(strf("'{}' is {} in {} and {} in {}", name,
                                   shape_name(sets.front()->shape(name)), sets.front()->origin(),
                                   shape_name(set->shape(name)), set->origin()));
    }
    if (!coefficients_of(coefficients, name))
      differences.push_back(
          strf("'{}' has no coefficients: add a pattern that fits it, such as \"*\"", name));
  }
  if (!differences.empty())
    return fail(ErrorCode::kInvalidArgument,
                strf("these checkpoints cannot be combined:{}", listed(std::move(differences))));
  return std::make_unique<CombinedTensors>(std::move(sets), std::move(coefficients));
}

}  // namespace linnet::convert
