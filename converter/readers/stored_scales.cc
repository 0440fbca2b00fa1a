#include "converter/readers/stored_scales.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string_view>

#include "converter/readers/json.h"
#include "converter/readers/rows.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr int64_t kUsualBlock = 128;  // DeepSeek-V3's, which everyone took over

bool holds_codes(const TensorInfo* tensor) {
  return tensor && (tensor->encoding == Encoding::kF8E4M3 || tensor->encoding == Encoding::kF8E5M2 ||
                    tensor->encoding == Encoding::kI8);
}

// "x.weight" -> "x.SCB".
std::string row_maxima_name(const std::string& weight) {
  constexpr std::string_view kEnd = ".weight";
  return weight.ends_with(kEnd) ? weight.substr(0, weight.size() - kEnd.size()) + ".SCB" : std::string();
}

// How many of n rows (columns) share each of m scales.
std::optional<int64_t> block_size(int64_t n, int64_t m, int64_t said) {
  const auto fits = [&](int64_t block) { return block > 0 && (n + block - 1) / block == m; };
  if (n < 1 || m < 1) return std::nullopt;
  if (m == 1) return n;
  if (m == n) return 1;
  if (said > 0) return fits(said) ? std::optional(said) : std::nullopt;
  if (fits(kUsualBlock)) return kUsualBlock;
  return n % m == 0 ? std::optional(n / m) : std::nullopt;
}

// A stack of matrices [stack, rows, columns] with scales [stack, down, across].
struct Grid {
  int64_t rows = 1, down = 1, across = 1, block_rows = 1, block_columns = 1;
};

class ScaledRows final : public RowSource {
 public:
  ScaledRows(Rows codes, Grid grid, std::vector<float> scales)
      : codes_(std::move(codes)), grid_(grid), scales_(std::move(scales)) {
    rows = codes_->rows;
    columns = codes_->columns;
    name = codes_->name;
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    LINNET_TRY(codes_->read(begin, count, out));
    for (int64_t i = 0; i < count; ++i, out += columns) {
      const int64_t matrix = (begin + i) / grid_.rows, row = (begin + i) % grid_.rows;
      const float* scale = scales_.data() + (matrix * grid_.down + row / grid_.block_rows) * grid_.across;
      for (int64_t c = 0; c < columns; c += grid_.block_columns, ++scale) {
        const int64_t end = std::min(columns, c + grid_.block_columns);
        for (int64_t j = c; j < end; ++j) out[j] *= *scale;
      }
    }
    return {};
  }
  // No format of Linnet's holds the product exactly; bf16 has one bit more than FP8 needs.
  std::optional<DType> stored() const override { return DType::kBF16; }

 private:
  Rows codes_;
  Grid grid_;
  std::vector<float> scales_;
};

std::optional<Grid> fit(const TensorInfo& tensor, const TensorInfo& scale, const StoredScales& stored) {
  std::vector<int64_t> shape = tensor.shape, scales = scale.shape;
  while (shape.size() < 2) shape.insert(shape.begin(), 1);
  if (scale.elements() == 1) scales.assign(shape.size(), 1);
  // Per row without a last dimension; per matrix of a stack without two.
  while (scales.size() < shape.size()) scales.push_back(1);
  if (scales.size() != shape.size()) return std::nullopt;
  const size_t r = shape.size() - 2, c = shape.size() - 1;
  const bool one_for_all = scale.elements() == 1 && tensor.elements() != 1;
  for (size_t i = 0; i < r; ++i)
    if (scales[i] != shape[i] && !one_for_all) return std::nullopt;
  Grid grid;
  const auto block_rows = block_size(shape[r], scales[r], stored.block_rows);
  const auto block_columns = block_size(shape[c], scales[c], stored.block_columns);
  if (!block_rows || !block_columns) return std::nullopt;
  grid.rows = one_for_all ? tensor.rows() : shape[r];
  grid.block_rows = one_for_all ? tensor.rows() : *block_rows;
  grid.block_columns = *block_columns;
  grid.down = scales[r];
  grid.across = scales[c];
  return grid;
}

// The one description of quantised weights in `config`, wherever it stands (config.json of a multimodal model
// nests the text part's).
Result<void> find_quantization(const Json& config, const std::string& path, const std::string& where,
                               const Json*& found, std::string& key) {
  if (!config.is_object()) return {};
  for (const auto& [name, value] : config.items()) {
    const std::string inner = path.empty() ? name : path + "." + name;
    if (value.is_null() || value == false) continue;
    if (name == "quantization" || name == "quantization_config" || name == "compression_config") {
      if (value.is_object() && value.contains("group_size") && !value.contains("quant_method"))
        return fail(
            ErrorCode::kUnsupported,
            strf("'{}' says in '{}' that the weights are quantised by MLX (mlx-lm), which Linnet cannot "
                 "read: convert the model's unquantised checkpoint and ask for --quantize",
                 where, inner));
      if (found && *found != value)
        return fail(
            ErrorCode::kUnsupported,
            strf("'{}' says by '{}' and by '{}', differently, how the weights are stored: Linnet reads one",
                 where, key, inner));
      found = &value;
      key = inner;
    } else if (value.is_object()) {
      LINNET_TRY(find_quantization(value, inner, where, found, key));
    }
  }
  return {};
}

}  // namespace

Result<void> refuse_quantised_folder(const std::string& folder) {
  static constexpr const char* kFiles[][2] = {{"quant_strategy.json", "EXL2 or a mixed scheme"},
                                              {"qmap.json", "optimum-quanto"},
                                              {"quantization_map.json", "optimum-quanto"}};
  for (const auto& [file, method] : kFiles) {
    std::error_code error;
    const auto path = std::filesystem::path(folder) / file;
    if (std::filesystem::exists(path, error))
      return fail(
          ErrorCode::kUnsupported,
          strf(
              "'{}' says that the weights are quantised by {}, which Linnet cannot read: convert the model's "
              "unquantised checkpoint and ask for --quantize",
              path.string(), method));
  }
  return {};
}

Result<void> refuse_quantised_tensors(const Checkpoint& checkpoint, const std::string& where) {
  // A matrix packed into integers, its scales beside it under the names each tool gives them.
  static constexpr const char* kMarks[][3] = {
      {".weight", ".biases", "MLX (mlx-lm)"}, {".q_weight", ".q_scale", "EXL2"}, {".W_q", ".meta", "HQQ"}};
  for (const auto& [name, tensor] : checkpoint.tensors())
    for (const auto& [codes, mark, method] : kMarks)
      if (name.ends_with(mark) &&
          checkpoint.find(name.substr(0, name.size() - std::string_view(mark).size()) + codes))
        return fail(
            ErrorCode::kUnsupported,
            strf(
                "'{}': the tensor '{}' shows that the weights are quantised by {}, which Linnet cannot read: "
                "convert the model's unquantised checkpoint and ask for --quantize",
                where, name, method));
  return {};
}

Result<StoredScales> read_stored_scales(const Json& config, const std::string& where) {
  StoredScales stored;
  const Json* it = nullptr;
  std::string key;
  LINNET_TRY(find_quantization(config, "", where, it, key));
  if (!it) return stored;
  if (!it->is_object())
    return fail(ErrorCode::kInvalidFile,
                strf("'{}': '{}' is {}, expected an object", where, key, json_text(*it, 100)));
  const auto text = [](const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const std::string method = text(*it, "quant_method"), format = text(*it, "format");
  constexpr std::string_view kMethods[] = {"fp8", "fbgemm_fp8",   "compressed-tensors", "modelopt", "gptq",
                                           "awq", "bitsandbytes", "fp_quant",           "mxfp4"};
  constexpr std::string_view kFormats[] = {"",
                                           "dense",
                                           "float-quantized",
                                           "int-quantized",
                                           "naive-quantized",
                                           "pack-quantized",
                                           "nvfp4-pack-quantized",
                                           "mxfp4-pack-quantized",
                                           "mxfp8-quantized",
                                           "mixed-precision"};
  const auto among = [](const auto& list, std::string_view what) {
    return std::find(std::begin(list), std::end(list), what) != std::end(list);
  };
  const bool known = (method.empty() && it->contains("weight_block_size")) || among(kMethods, method);
  // AWQ's other packings lie in the same tensors.
  const std::string version = text(*it, "version");
  if (method == "awq" && !version.empty() && version != "gemm")
    return fail(
        ErrorCode::kUnsupported,
        strf("'{}' says the weights are packed by AWQ for '{}': Linnet reads 'gemm'", where, version));
  const auto number = [&](const char* key) {
    return it->contains(key) ? integer_of((*it)[key], 1, 1 << 20).value_or(0) : 0;
  };
  if (method == "gptq" || method == "awq" || method == "bitsandbytes") stored.packed_by = method;
  stored.bits = number("bits");
  stored.group_size = number("group_size");
  stored.zeros_as_stored = text(*it, "checkpoint_format") == "gptq_v2";
  stored.forward_dtype = text(*it, "forward_dtype");
  if (!known || (method == "compressed-tensors" && !among(kFormats, format)))
    return fail(
        ErrorCode::kUnsupported,
        strf("'{}' says the weights are stored by '{}'{}, which Linnet cannot read: convert the model's "
             "unquantised checkpoint and ask for --quantize",
             where, method, format.empty() ? std::string() : strf(" in the format '{}'", format)));
  const auto block = it->find("weight_block_size");
  if (block == it->end() || block->is_null()) return stored;
  const auto size = [&](size_t i) { return integer_of((*block)[i], 1, int64_t{1} << 30); };
  if (!block->is_array() || block->size() != 2 || !size(0) || !size(1))
    return fail(ErrorCode::kInvalidFile,
                strf("'{}': weight_block_size is {}, expected two sizes", where, json_text(*block, 100)));
  stored.block_rows = *size(0);
  stored.block_columns = *size(1);
  return stored;
}

bool is_stored_scale(const Checkpoint& checkpoint, const std::string& name) {
  const auto without = [&](std::string_view end) { return name.substr(0, name.size() - end.size()); };
  for (const std::string_view end : {"_scale_inv", "_scale"})
    if (name.ends_with(end) && holds_codes(checkpoint.find(without(end)))) return true;
  for (const std::string_view end : {".SCB", ".weight_format"})
    if (name.ends_with(end) && holds_codes(checkpoint.find(without(end) + ".weight"))) return true;
  // Of activations and caches, which Linnet computes in float.
  for (const std::string_view end : {".input_scale", ".output_scale"})
    if (name.ends_with(end) && holds_codes(checkpoint.find(without(end) + ".weight"))) return true;
  const TensorInfo* tensor = checkpoint.find(name);
  for (const std::string_view end : {".k_scale", ".v_scale", ".q_scale"})
    if (name.ends_with(end) && tensor && tensor->elements() == 1) return true;
  return false;
}

Result<Rows> scaled_rows(const Checkpoint& checkpoint, const TensorInfo& tensor, const StoredScales& stored) {
  Rows codes = checkpoint_rows(checkpoint, tensor);
  if (!holds_codes(&tensor)) return codes;
  const TensorInfo* scale = checkpoint.find(tensor.name + "_scale_inv");
  if (!scale) scale = checkpoint.find(tensor.name + "_scale");
  // bitsandbytes: one for each row, for codes up to 127.
  const TensorInfo* rows127 = scale ? nullptr : checkpoint.find(row_maxima_name(tensor.name));
  if (rows127) scale = rows127;
  if (!scale) return codes;
  // Bytes are powers of two (OCP microscaling).
  TensorInfo powers = *scale;
  if (scale->encoding == Encoding::kU8) {
    powers.encoding = Encoding::kF8E8M0;
    scale = &powers;
  }
  const auto grid = fit(tensor, *scale, stored);
  if (!grid)
    return fail(ErrorCode::kInvalidFile,
                strf("'{}': the scales '{}' {} do not fit the tensor '{}' {}", checkpoint.file_name(*scale),
                     scale->name, shape_name(scale->shape), tensor.name, shape_name(tensor.shape)));
  std::vector<float> scales(static_cast<size_t>(scale->elements()));
  LINNET_TRY(checkpoint.read_f32(*scale, 0, scale->rows(), scales.data()));
  for (float& s : scales)
    if (rows127) s /= 127;
  return std::make_shared<ScaledRows>(std::move(codes), *grid, std::move(scales));
}

}  // namespace linnet::convert
