#include "converter/readers/packed_weights.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

#include "converter/readers/packed_rows.h"
#include "runtime/core/strings.h"

namespace linnet::convert {

// Looks through the tensors of a checkpoint.
class PackedFinder {
 public:
  PackedFinder(const Checkpoint& checkpoint, const StoredScales& stored, const std::string& where)
      : checkpoint_(checkpoint), stored_(stored), where_(where) {}

  Result<PackedWeights> run() {
    for (const auto& [name, tensor] : checkpoint_.tensors()) {
      const auto base_of = [&, own = std::string_view(name)](std::string_view end) {
        return own.ends_with(end) ? std::optional(std::string(own.substr(0, own.size() - end.size())))
                                  : std::nullopt;
      };
      if (const auto base = base_of(".weight_packed")) LINNET_TRY(compressed(*base, tensor));
      if (const auto base = base_of(".qweight"))
        LINNET_TRY(tensor.encoding == Encoding::kU8 ? fp_quant(*base, tensor) : integers(*base, tensor));
      if (const auto base = base_of(".weight_scale_2")) LINNET_TRY(model_opt(*base));
      if (const auto base = base_of(".weight.absmax")) LINNET_TRY(bits_and_bytes(*base, tensor));
      if (const auto base = base_of("_blocks")) LINNET_TRY(mx_experts(*base, tensor));
    }
    if (found_.matrices_.empty() && !stored_.packed_by.empty() && !has_row_maxima())
      return fail(ErrorCode::kInvalidFile,
                  strf("'{}' says that its weights are packed by '{}', and none of its tensors is: take "
                       "quantization_config out of config.json if the weights are plain",
                       where_, stored_.packed_by));
    return std::move(found_);
  }

 private:
  // bitsandbytes' 8 bits, which stored_scales.h reads.
  bool has_row_maxima() const {
    return std::any_of(checkpoint_.tensors().begin(), checkpoint_.tensors().end(),
                       [](const auto& tensor) { return tensor.first.ends_with(".SCB"); });
  }
  const TensorInfo* part(const std::string& name) {
    const TensorInfo* tensor = checkpoint_.find(name);
    if (tensor) found_.parts_.insert(name);
    return tensor;
  }
  std::unexpected<Error> misfit(const std::string& tensor, const std::string& what) const {
    return fail(ErrorCode::kInvalidFile, strf("'{}': the packed weight '{}' {}", where_, tensor, what));
  }
  void add(const std::string& name, std::string method, std::vector<int64_t> shape,
           std::function<Result<Rows>()> rows) {
    found_.matrices_[name] = {std::move(method), std::move(shape), std::move(rows)};
  }
  static bool is_matrix(const TensorInfo& tensor) {
    return tensor.shape.size() == 2 && tensor.elements() > 0;
  }
  Result<float> number(const TensorInfo& tensor) const {
    float value = 0;
    if (tensor.elements() != 1)
      return misfit(tensor.name, strf("is {}, expected one number", shape_name(tensor.shape)));
    LINNET_TRY(checkpoint_.read_f32(tensor, 0, 1, &value));
    return value;
  }

  // Codes [rows, K / 2] and scales [at least rows, at least K / group].
  Result<void> fp4(const std::string& base, std::string method, const TensorInfo& codes,
                   const TensorInfo* scales, int64_t group, float row_scale) {
    const std::string name = base + ".weight";
    found_.parts_.insert(codes.name);
    if (!scales || !is_matrix(codes) || !is_matrix(*scales))
      return misfit(name, strf("has no matrix of scales beside '{}'", codes.name));
    Fp4Matrix m{&codes, scales, codes.shape[0], codes.shape[1] * 2, group, scales->shape[1], row_scale};
    if (encoding_info(scales->encoding).block_bytes != 1)
      return misfit(name,
                    strf("has scales of type {}, expected 8 bits", encoding_info(scales->encoding).name));
    if (scales->shape[0] < m.rows || scales->shape[1] * group < m.columns)
      return misfit(name, strf("{} has scales {}, expected one for each {} values",
                               shape_name({{m.rows, m.columns}}), shape_name(scales->shape), group));
    add(name, std::move(method), {m.rows, m.columns},
        [this_checkpoint = &checkpoint_, name, m]() -> Result<Rows> {
          return fp4_rows(*this_checkpoint, name, m);
        });
    return {};
  }

  // A factor g for which code * g is code / divisor in f32 for every scale of 8 bits, or the nearest to that.
  static float inverse_of(float divisor) {
    const float nearest = 1 / divisor;
    for (const float g : {nearest, std::nextafter(nearest, 0.0f), std::nextafter(nearest, INFINITY)}) {
      bool same = true;  // of the eight mantissas: powers of two change nothing
      for (int m = 8; m < 16; ++m) same &= static_cast<float>(m) * g == static_cast<float>(m) / divisor;
      if (same) return g;
    }
    return nearest;
  }

  Result<void> compressed(const std::string& base, const TensorInfo& codes) {
    const TensorInfo* scales = part(base + ".weight_scale");
    const TensorInfo* global = part(base + ".weight_global_scale");
    for (const char* other :
         {".input_global_scale", ".weight_shape", ".weight_zero_point", ".weight_g_idx", ".input_scale"})
      part(base + other);
    if (codes.encoding == Encoding::kU8) {
      if (!global) return fp4(base, "compressed-tensors MXFP4", codes, scales, 32, 1);
      LINNET_ASSIGN(const float divisor, number(*global));
      if (!(divisor > 0) || std::isinf(divisor))
        return misfit(base + ".weight", strf("has the global scale {}", divisor));
      return fp4(base, "compressed-tensors NVFP4", codes, scales, 16, inverse_of(divisor));
    }
    return packed_integers(base, codes, scales);
  }

  Result<void> packed_integers(const std::string& base, const TensorInfo& codes, const TensorInfo* scales) {
    const std::string name = base + ".weight";
    found_.parts_.insert(codes.name);
    const TensorInfo* shape = checkpoint_.find(base + ".weight_shape");
    float sizes[2] = {};
    if (!scales || !shape || shape->elements() != 2 || codes.encoding != Encoding::kI32 || !is_matrix(codes))
      return misfit(name, "lacks its scales or its shape");
    LINNET_TRY(checkpoint_.read_f32(*shape, 0, shape->rows(), sizes));
    // Of any type: also no number, or more than an integer holds.
    constexpr auto kMost = static_cast<float>(1 << 30);
    if (!(sizes[0] >= 0 && sizes[0] < kMost && sizes[1] >= 0 && sizes[1] < kMost))
      return misfit(name, "has a weight_shape that is none");
    IntegerMatrix m;
    m.packing = IntegerMatrix::Packing::kInputsAlong;
    m.codes = &codes;
    m.scales = scales;
    m.scales_by_row = true;
    m.rows = static_cast<int64_t>(sizes[0]);
    m.columns = static_cast<int64_t>(sizes[1]);
    m.bits = 0;
    for (const int64_t bits : {4, 8})
      if (codes.shape[0] == m.rows && codes.shape[1] == (m.columns * bits + 31) / 32) m.bits = bits;
    if (m.bits == 0)
      return misfit(name, strf("has codes {} for a matrix of {} x {}: only 4 and 8 bits are read",
                               shape_name(codes.shape), m.rows, m.columns));
    m.zero = 1 << (m.bits - 1);
    m.zeros = checkpoint_.find(base + ".weight_zero_point");
    return add_integers(name, strf("compressed-tensors, {} bits", m.bits), std::move(m),
                        checkpoint_.find(base + ".weight_g_idx"), 0);
  }

  // GPTQ and AWQ: codes, zeros and scales of the same names, packed along other sides.
  Result<void> integers(const std::string& base, const TensorInfo& codes) {
    const std::string name = base + ".weight";
    const TensorInfo *scales = part(base + ".scales"), *zeros = part(base + ".qzeros"),
                     *order = part(base + ".g_idx");
    found_.parts_.insert(codes.name);
    if (!scales || !zeros || !is_matrix(codes) || !is_matrix(*scales) || codes.encoding != Encoding::kI32)
      return misfit(name, "lacks its scales or its zero points");
    IntegerMatrix m;
    m.codes = &codes;
    m.scales = scales;
    m.zeros = zeros;
    m.rows = scales->shape[1];
    const int64_t bits = stored_.bits > 0 ? stored_.bits : 4;
    if (bits != 2 && bits != 4 && bits != 8)
      return fail(
          ErrorCode::kUnsupported,
          strf("'{}': the packed weight '{}' has codes of {} bits; 2, 4 and 8 are read", where_, name, bits));
    m.bits = bits;
    if (codes.shape[1] == m.rows) {
      m.packing = IntegerMatrix::Packing::kInputsDown;
      m.columns = codes.shape[0] * 32 / bits;
      m.zero_more = stored_.zeros_as_stored ? 0 : 1;
    } else if (codes.shape[1] * 8 == m.rows && bits == 4) {
      m.packing = IntegerMatrix::Packing::kOutputsInTurn;
      m.columns = codes.shape[0];
    } else {
      return misfit(name, strf("has codes {} and scales {}, which fit neither GPTQ nor AWQ",
                               shape_name(codes.shape), shape_name(scales->shape)));
    }
    const bool gptq = m.packing == IntegerMatrix::Packing::kInputsDown;
    return add_integers(name, strf("{}, {} bits", gptq ? "GPTQ" : "AWQ", bits), std::move(m),
                        gptq ? order : nullptr, stored_.group_size);
  }

  Result<void> add_integers(const std::string& name, std::string method, IntegerMatrix m,
                            const TensorInfo* order, int64_t group_size) {
    m.groups = m.scales_by_row ? m.scales->columns() : m.scales->shape[0];
    if (m.scales->elements() != m.rows * m.groups || m.groups < 1 || m.groups > m.columns)
      return misfit(name, strf("has scales {} for {} rows", shape_name(m.scales->shape), m.rows));
    const int64_t words = (m.rows * m.bits + 31) / 32;  // of the zero points of a group
    if (m.zeros && (m.zeros->encoding != Encoding::kI32 || m.zeros->elements() != words * m.groups))
      return misfit(name, strf("has zero points {} and scales {}", shape_name(m.zeros->shape),
                               shape_name(m.scales->shape)));
    int64_t size = (m.columns + m.groups - 1) / m.groups;
    if (group_size > 0 && (m.columns + group_size - 1) / group_size == m.groups) size = group_size;
    m.group_of.resize(static_cast<size_t>(m.columns));
    for (int64_t c = 0; c < m.columns; ++c)
      m.group_of[static_cast<size_t>(c)] = static_cast<int32_t>(c / size);
    if (order && order->elements() > 0) {
      if (order->elements() != m.columns)
        return misfit(name, strf("has a group for {} inputs, expected {}", order->elements(), m.columns));
      std::vector<float> groups(static_cast<size_t>(m.columns));
      LINNET_TRY(checkpoint_.read_f32(*order, 0, order->rows(), groups.data()));
      const bool unset = groups[0] == -1;  // compressed-tensors writes -1 for "in order"
      for (size_t c = 0; c < groups.size() && !unset; ++c) {
        if (!(groups[c] >= 0 && groups[c] < static_cast<float>(m.groups)))
          return misfit(name, strf("puts input {} into group {} of {}", c, groups[c], m.groups));
        m.group_of[c] = static_cast<int32_t>(groups[c]);
      }
    }
    std::vector<int64_t> shape = {m.rows, m.columns};
    add(name, std::move(method), std::move(shape),
        [checkpoint = &checkpoint_, name, m = std::move(m)]() { return integer_rows(*checkpoint, name, m); });
    return {};
  }

  Result<void> model_opt(const std::string& base) {
    const TensorInfo *codes = checkpoint_.find(base + ".weight"), *factor = part(base + ".weight_scale_2");
    const TensorInfo* scales = part(base + ".weight_scale");
    part(base + ".input_scale");
    if (!codes || codes->encoding != Encoding::kU8) return misfit(base + ".weight", "has no codes of 4 bits");
    LINNET_ASSIGN(const float global, number(*factor));
    return fp4(base, "ModelOpt NVFP4", *codes, scales, 16, global);
  }

  Result<void> fp_quant(const std::string& base, const TensorInfo& codes) {
    const std::string name = base + ".weight";
    const TensorInfo *scales = part(base + ".scales"), *global = part(base + ".weight_global_scale"),
                     *hadamard = part(base + ".forward_hadamard_matrix");
    for (const char* other : {".act_global_scale", ".backward_hadamard_matrix"}) part(base + other);
    if (!scales || !hadamard || !is_matrix(*hadamard) || hadamard->shape[0] != hadamard->shape[1] ||
        !is_matrix(codes))
      return misfit(name, "lacks its scales or its Hadamard matrix");
    const int64_t columns = codes.shape[1] * 2, size = hadamard->shape[0];
    // NVFP4 has a scale for each 16 values; padding may make either look longer.
    const bool nv = stored_.forward_dtype == "nvfp4" ||
                    (stored_.forward_dtype.empty() && scales->shape[1] * 16 == columns);
    constexpr int64_t kMostTurned = 1024;
    if (size > kMostTurned)
      return misfit(name, strf("is turned by {} values at a time, at most {} are read", size, kMostTurned));
    if (columns % size != 0) return misfit(name, strf("has {} inputs, turned by {}", columns, size));
    std::vector<float> signs(static_cast<size_t>(size * size));
    LINNET_TRY(checkpoint_.read_f32(*hadamard, 0, size, signs.data()));
    for (float& s : signs) s = s < 0 ? -1.0f : 1.0f;  // the stored numbers are rounded to bf16
    for (int64_t i = 0; i < size; ++i)
      for (int64_t j = 0; j < i; ++j) {
        float sum = 0;
        for (int64_t k = 0; k < size; ++k)
          sum += signs[static_cast<size_t>(i * size + k)] * signs[static_cast<size_t>(j * size + k)];
        if (sum != 0)
          return misfit(name, strf("has a Hadamard matrix whose rows {} and {} are not orthogonal", j, i));
      }
    float divisor = 1;
    if (global) {
      LINNET_ASSIGN(divisor, number(*global));
      if (!(divisor > 0)) return misfit(name, strf("has the global scale {}", divisor));
    }
    LINNET_TRY(fp4(base, nv ? "FP-Quant NVFP4" : "FP-Quant MXFP4", codes, scales, nv ? 16 : 32, 1));
    PackedWeights::Matrix& matrix = found_.matrices_[name];
    matrix.rows = [inner = matrix.rows, signs = std::move(signs), size, divisor]() -> Result<Rows> {
      LINNET_ASSIGN(Rows rows, inner());
      return turned_rows(std::move(rows), signs, size, divisor);
    };
    return {};
  }

  // gpt-oss: [experts, rows, groups, 16] of codes, [experts, rows, groups] of scales.
  Result<void> mx_experts(const std::string& base, const TensorInfo& codes) {
    const TensorInfo* scales = checkpoint_.find(base + "_scales");
    if (!scales || codes.encoding != Encoding::kU8 || scales->encoding != Encoding::kU8) return {};
    found_.parts_.insert({codes.name, scales->name});
    if (codes.shape.size() != 4 || codes.shape[3] != 16 || scales->shape.size() != 3 ||
        codes.elements() == 0 || !std::equal(scales->shape.begin(), scales->shape.end(), codes.shape.begin()))
      return misfit(base,
                    strf("has codes {} and scales {}", shape_name(codes.shape), shape_name(scales->shape)));
    const Fp4Matrix m{&codes,         scales, codes.shape[0] * codes.shape[1], codes.shape[2] * 32, 32,
                      codes.shape[2], 1};
    add(base, "MXFP4 experts", {codes.shape[0], codes.shape[1], m.columns},
        [checkpoint = &checkpoint_, base, m]() -> Result<Rows> { return fp4_rows(*checkpoint, base, m); });
    return {};
  }

  // bitsandbytes: the codes of a whole matrix one after another, its shape in a text of JSON.
  Result<void> bits_and_bytes(const std::string& base, const TensorInfo& absmax) {
    const std::string name = base + ".weight";
    const TensorInfo *codes = checkpoint_.find(name), *table = part(name + ".quant_map");
    const TensorInfo *nested = part(name + ".nested_absmax"),
                     *nested_table = part(name + ".nested_quant_map");
    found_.parts_.insert(absmax.name);
    const TensorInfo* state = nullptr;
    for (const char* kind : {".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4"})
      if (const TensorInfo* found = part(name + kind)) state = found;
    if (!codes || codes->encoding != Encoding::kU8 || !table || table->elements() != 16 || !state)
      return misfit(name, "lacks its table or its state");
    LINNET_ASSIGN(const auto text, checkpoint_.read_bytes(*state, state->bytes.size()));
    LINNET_ASSIGN(Json json, parse_json({reinterpret_cast<const char*>(text.data()), text.size()},
                                        strf("'{}' of '{}'", state->name, where_)));
    const JsonRelease released(json);
    const auto size = [&](const char* key) {
      return json.is_object() && json.contains(key) ? integer_of(json[key], 1, int64_t{1} << 20)
                                                    : std::nullopt;
    };
    const auto block = size("blocksize"), nested_block = size("nested_blocksize");
    TableMatrix m;
    m.codes = codes;
    if (!block || !json.contains("shape") || !json["shape"].is_array() || json["shape"].size() != 2)
      return misfit(name, "has a state without its shape");
    const auto rows = integer_of(json["shape"][0], 1, int64_t{1} << 31),
               columns = integer_of(json["shape"][1], 1, int64_t{1} << 31);
    if (!rows || !columns || codes->elements() * 2 != *rows * *columns ||
        absmax.elements() != (*rows * *columns + *block - 1) / *block)
      return misfit(name, strf("has codes {} and scales {}, which do not fit its shape",
                               shape_name(codes->shape), shape_name(absmax.shape)));
    m.rows = *rows;
    m.columns = *columns;
    m.block = *block;
    m.table.resize(16);
    LINNET_TRY(checkpoint_.read_f32(*table, 0, table->rows(), m.table.data()));
    m.scales.resize(static_cast<size_t>(absmax.elements()));
    LINNET_TRY(checkpoint_.read_f32(absmax, 0, absmax.rows(), m.scales.data()));
    if (nested) {  // the scales are codes of 8 bits themselves
      if (absmax.encoding != Encoding::kU8 || !nested_table || nested_table->elements() != 256 ||
          !nested_block || !json.contains("nested_offset") || !json["nested_offset"].is_number() ||
          nested->elements() != (absmax.elements() + *nested_block - 1) / *nested_block)
        return misfit(name, "has scales of scales that do not fit");
      std::vector<float> codebook(256), outer(static_cast<size_t>(nested->elements()));
      LINNET_TRY(checkpoint_.read_f32(*nested_table, 0, nested_table->rows(), codebook.data()));
      LINNET_TRY(checkpoint_.read_f32(*nested, 0, nested->rows(), outer.data()));
      const auto offset = json["nested_offset"].get<float>();
      for (size_t i = 0; i < m.scales.size(); ++i)
        m.scales[i] =
            codebook[static_cast<size_t>(m.scales[i])] * outer[i / static_cast<size_t>(*nested_block)] +
            offset;
    }
    std::vector<int64_t> shape = {m.rows, m.columns};
    add(name, "bitsandbytes, 4 bits", std::move(shape),
        [checkpoint = &checkpoint_, name, m]() -> Result<Rows> { return table_rows(*checkpoint, name, m); });
    return {};
  }

  const Checkpoint& checkpoint_;
  const StoredScales& stored_;
  const std::string& where_;
  PackedWeights found_;
};

Result<PackedWeights> PackedWeights::find(const Checkpoint& checkpoint, const StoredScales& stored,
                                          const std::string& where) {
  return PackedFinder(checkpoint, stored, where).run();
}

}  // namespace linnet::convert
