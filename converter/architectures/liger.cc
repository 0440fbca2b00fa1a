// Liger (Lan et al. 2025): a Llama, Mistral, Qwen2.5 or Qwen3 checkpoint whose attention became half a
// recurrent mixer without new weights and half softmax attention over a short window. Follows
// OpenSparseLLMs/Linearization, liger/models/liger_*. The library's own cached decode forgets the window's
// keys; Linnet keeps them, so that a token gets the same result as in a prompt.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "converter/architectures/llama.h"
#include "converter/architectures/mixers.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// The code passes 64 to transformers' flash attention, which kept the 64 keys before the token until release
// 4.55 and has kept 63 since. The config's transformers_version says which; without it 64 keys in all are
// seen.
int64_t liger_window(Importer& in) {
  const std::string version = in.text("transformers_version", "");
  char* end = nullptr;
  const long major = std::strtol(version.c_str(), &end, 10);
  const long minor = end && *end == '.' ? std::strtol(end + 1, nullptr, 10) : 0;
  const bool exact = version.empty() || major > 4 || (major == 4 && minor >= 55);
  const int64_t window = in.integer("liger_window", exact ? 64 : 65);
  if (window < 1) in.fail(strf("config.json: 'liger_window' is {}, expected a positive integer", window));
  return window;
}

LlamaShape read_liger(Importer& in) {
  LlamaShape s = read_llama(in);
  s.mlp_bias = in.flag("mlp_bias", false);
  // Where they are given, the code uses no other value.
  in.expect("expand_k", 1);
  in.expect("expand_v", 1);
  in.expect("attention_bias", false);
  return s;
}

fb::GatedLinearAttentionT liger_args(const LlamaShape& s) {
  fb::GatedLinearAttentionT a;
  a.query_heads = static_cast<int>(s.heads);
  a.key_heads = a.value_heads = static_cast<int>(s.kv_heads);
  a.key_dim = a.value_dim = static_cast<int>(s.head_dim);
  a.decay = decay(fb::DecayKind::LogSigmoid);
  a.decay->divisor = 16;
  return a;
}

// linear(layer) gives the recurrent half.
void build_liger(Importer& in, const LlamaShape& s, const LlamaMixer& linear) {
  const int64_t window = liger_window(in);
  if (!in.errors().empty()) return;
  build_llama(in, s, [&](const LlamaLayer& l) {
    const Value far = linear(l);
    const Value near = llama_attention(in, s, l.name, l.q, l.k, l.v, window);
    return in.graph.pointwise(l.name + ".halves", fb::PointwiseKind::ScaledAdd, near, far,
                              fb::Activation::None, 0.5f, 0.5f);
  });
}

// The gate is k itself: a pooling over as many bins as there are channels.
void import_gla_form(Importer& in, const LlamaShape& s) {
  build_liger(in, s, [&](const LlamaLayer& l) {
    auto args = liger_args(s);
    args.query_map = head_map(fb::Activation::None, fb::HeadNorm::Softmax);
    args.key_map = head_map(fb::Activation::None, fb::HeadNorm::Softmax);
    return gated_linear_attention(in, l.name + ".mixer", std::move(args), l.q, l.k, l.v, l.k);
  });
}

// Row i is the mean of the source's rows [i n / bins, (i + 1) n / bins), the last one rounded up, as
// AdaptiveAvgPool1d has it.
class PooledRows final : public RowSource {
 public:
  PooledRows(Rows source, int64_t bins) : source_(std::move(source)) {
    rows = bins;
    columns = source_->columns;
    name = source_->name + " (pooled)";
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    const int64_t n = source_->rows;
    std::vector<float> row(static_cast<size_t>(columns));
    std::vector<double> sum(row.size());
    for (int64_t i = begin; i < begin + count; ++i) {
      const int64_t first = i * n / rows, last = ((i + 1) * n + rows - 1) / rows;
      std::fill(sum.begin(), sum.end(), 0.0);
      for (int64_t r = first; r < last; ++r) {
        LINNET_TRY(source_->read(r, 1, row.data()));
        for (size_t c = 0; c < row.size(); ++c) sum[c] += static_cast<double>(row[c]);
      }
      for (size_t c = 0; c < row.size(); ++c)
        out[(i - begin) * columns + static_cast<int64_t>(c)] =
            static_cast<float>(sum[c] / static_cast<double>(last - first));
    }
    return {};
  }

 private:
  Rows source_;
};

}  // namespace

void import_liger_gla(Importer& in) { import_gla_form(in, read_liger(in)); }
void import_liger_mistral_gla(Importer& in) { import_gla_form(in, read_liger(in)); }

// Qwen2.5 and, without its norms of q and k, Qwen3: the code gives both biases.
void import_liger_qwen_gla(Importer& in) {
  LlamaShape s = read_liger(in);
  s.qkv_bias = true;
  import_gla_form(in, s);
}

// Gated slots (Zhang et al. 2024): S_k <- S_k diag(exp g) + k s^T, S_v <- diag(exp g) S_v + s v^T, s = 1 -
// exp(g); o = S_v^T softmax(S_k^T q), with a slot for every bin of the pooled k.
void import_liger_gsa(Importer& in) {
  const LlamaShape s = read_liger(in);
  const int64_t slots = in.integer("pool_size", 64), keys = s.kv_heads * s.head_dim;
  if (slots < 1 || slots > 4096)
    in.fail(strf("config.json: 'pool_size' is {}; Linnet has 1 to 4096 slots", slots));
  build_liger(in, s, [&](const LlamaLayer& l) {
    Value gate = l.k;
    if (slots != s.head_dim) {
      const Rows k = in.rows(l.name + ".k_proj.weight", {keys, s.hidden});
      const Weight pooled = in.graph.matrix(l.name + ".gate.weight", WeightRole::kMatrix,
                                            std::make_shared<PooledRows>(k, s.kv_heads * slots));
      gate = in.graph.linear(l.name + ".gate", l.h, Projection{pooled});
    }
    auto write = liger_args(s);  // channels of k by slots
    write.value_dim = static_cast<int>(slots);
    write.decay_values = true;
    const Value seen =
        gated_linear_attention(in, l.name + ".slots", std::move(write), l.q, l.k, kAbsent, gate);
    auto read = liger_args(s);  // slots by channels of v
    read.key_dim = static_cast<int>(slots);
    read.query_map = head_map(fb::Activation::None, fb::HeadNorm::Softmax);
    return gated_linear_attention(in, l.name + ".mixer", std::move(read), seen, kAbsent, l.v, gate);
  });
}

// HGRN2's gates: exp(g) = sigmoid(k), and what is forgotten is written: 1 - exp(g).
void import_liger_hgrn2(Importer& in) {
  const LlamaShape s = read_liger(in);
  build_liger(in, s, [&](const LlamaLayer& l) {
    auto args = liger_args(s);
    args.decay->divisor = 1;
    args.query_map = head_map(fb::Activation::None, fb::HeadNorm::Softmax);
    return gated_linear_attention(in, l.name + ".mixer", std::move(args), l.q, kAbsent, l.v, l.k);
  });
}

}  // namespace linnet::convert
