// Linear attention without decay in flash-linear-attention's format, alone or with softmax attention in some
// layers: the form in which models like Linear-Llama3 (LASP-2H) are published for inference. Follows
// fla/layers/linear_attn.py and fla/modules/feature_map.py. Feature maps that are linear before their
// activation are multiplied into the projections.
#include <algorithm>
#include <cmath>

#include "converter/architectures/fla.h"
#include "converter/architectures/mixers.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// For each head of `in` rows of the source, `out` rows: map [out, in] times them.
class MappedHeads final : public RowSource {
 public:
  MappedHeads(Rows source, std::vector<float> map, int64_t out)
      : source_(std::move(source)), map_(std::move(map)), out_(out) {
    in_ = static_cast<int64_t>(map_.size()) / out;
    rows = source_->rows / in_ * out;
    columns = source_->columns;
    name = source_->name;
  }
  Result<void> read(int64_t begin, int64_t count, float* out) const override {
    std::vector<float> head(static_cast<size_t>(in_ * columns));
    std::vector<double> sum(static_cast<size_t>(columns));
    int64_t loaded = -1;
    for (int64_t r = begin; r < begin + count; ++r) {
      if (r / out_ != loaded) {
        loaded = r / out_;
        LINNET_TRY(source_->read(loaded * in_, in_, head.data()));
      }
      std::fill(sum.begin(), sum.end(), 0.0);
      for (int64_t i = 0; i < in_; ++i) {
        const auto w = static_cast<double>(map_[static_cast<size_t>(r % out_ * in_ + i)]);
        for (int64_t c = 0; c < columns; ++c)
          sum[static_cast<size_t>(c)] += w * static_cast<double>(head[static_cast<size_t>(i * columns + c)]);
      }
      for (int64_t c = 0; c < columns; ++c)
        out[(r - begin) * columns + c] = static_cast<float>(sum[static_cast<size_t>(c)]);
    }
    return {};
  }

 private:
  Rows source_;
  std::vector<float> map_;
  int64_t in_ = 1, out_;
};

enum class Feature { kPlain, kProduct, kHedgehog, kRelu, kRolled };
constexpr int64_t kRolls = 4;  // of DPFP

struct LinearModel {
  int64_t heads = 1, kv_heads = 1, key_dim = 1, value_dim = 1;
  int64_t features() const {
    return key_dim * (feature == Feature::kHedgehog ? 2 : feature == Feature::kRolled ? 2 * kRolls : 1);
  }
  Feature feature = Feature::kPlain;
  fb::Activation activation = fb::Activation::None;
};

std::vector<float> small_tensor(Importer& in, const std::string& name, std::vector<int64_t> shape) {
  auto values = read_all(*in.rows(name, std::move(shape)));
  if (!values) return in.fail(values.error().message), std::vector<float>();
  return std::move(*values);
}

// The projection p of q or k through the linear layer of its heads, times `signs` in turn.
Value project(Importer& in, const FlaModel& m, const std::string& p, const std::string& layer_name,
              int64_t heads, int64_t d, Value h, std::vector<float> signs, bool bias) {
  const std::vector<float> layer = small_tensor(in, layer_name + ".weight", {d, d});
  const std::vector<float> shift = bias ? small_tensor(in, layer_name + ".bias", {d}) : std::vector<float>();
  if (!in.errors().empty()) return h;
  std::vector<float> all, shifts;
  for (const float sign : signs)
    for (const float v : layer) all.push_back(sign * v);
  for (int64_t head = 0; bias && head < heads; ++head)
    for (const float sign : signs)
      for (const float v : shift) shifts.push_back(sign * v);
  const std::string name = p + layer_name.substr(layer_name.rfind('.'));
  const int64_t out = d * static_cast<int64_t>(signs.size());
  const Rows rows =
      std::make_shared<MappedHeads>(in.rows(p + ".weight", {heads * d, m.hidden}), std::move(all), out);
  const Weight weight = in.graph.matrix(name + ".weight", WeightRole::kMatrix, rows);
  const Weight offset = bias ? in.constant(name + ".bias", {heads * out}, std::move(shifts)) : kAbsent;
  return in.graph.linear(name, h, {weight, offset});
}

// DPFP (Schlag et al. 2021): with y = (relu x, -relu x), y times y rolled by 1 to 4 places. Signs are left
// out: q and k have the same ones, and only their products are used. Both factors are projections with rows
// repeated.
Value rolled_products(Importer& in, const FlaModel& m, const std::string& p, int64_t heads, int64_t d,
                      Value h) {
  const int64_t twice = 2 * d, out = twice * kRolls;
  const auto factor = [&](const char* name, bool rolled, fb::Activation activation) {
    std::vector<float> map(static_cast<size_t>(out * d));
    for (int64_t i = 0; i < out; ++i) {
      const int64_t place = (i % twice + (rolled ? twice - (i / twice + 1) % twice : 0)) % twice;
      map[static_cast<size_t>(i * d + place % d)] = 1;
    }
    const Rows rows =
        std::make_shared<MappedHeads>(in.rows(p + ".weight", {heads * d, m.hidden}), std::move(map), out);
    const Weight weight = in.graph.matrix(p + name, WeightRole::kMatrix, rows);
    return in.graph.linear(p + name, h, Projection{weight}, activation);
  };
  const Value a = factor(".features", false, fb::Activation::None);
  const Value b = factor(".rolled", true, fb::Activation::Relu);
  return in.graph.pointwise(p + ".product", fb::PointwiseKind::ActivateMultiply, a, b, fb::Activation::Relu);
}

// phi(x) but for its activation: x = q or k.
Value features(Importer& in, const FlaModel& m, const LinearModel& l, const std::string& p, const char* which,
               bool tied, int64_t heads, Value h) {
  const std::string projection = p + "." + which + "_proj";
  // Of a map that both share, a file may have either name, or both.
  const bool under_q =
      in.has(p + ".feature_map_q.layer.weight") || in.has(p + ".feature_map_q.layer1.weight");
  const std::string own = !tied ? which : under_q ? "q" : "k";
  const std::string map = p + ".feature_map_" + own;
  if (tied && own != which)
    for (const char* part :
         {".layer.weight", ".layer.bias", ".layer1.weight", ".layer1.bias", ".layer2.weight", ".layer2.bias"})
      in.ignore(p + ".feature_map_" + which + part);
  switch (l.feature) {
    case Feature::kPlain:
      return in.graph.linear(p + "." + which, h, in.projection(projection, heads * l.key_dim, m.hidden));
    case Feature::kProduct: {
      const Value a = project(in, m, projection, map + ".layer1", heads, l.key_dim, h, {1}, true);
      const Value b = project(in, m, projection, map + ".layer2", heads, l.key_dim, h, {1}, true);
      return in.graph.pointwise(p + "." + which + ".product", fb::PointwiseKind::Multiply, a, b);
    }
    case Feature::kHedgehog:
      return project(in, m, projection, map + ".layer", heads, l.key_dim, h, {2, -2}, true);
    case Feature::kRelu:
      return project(in, m, projection, map + ".layer", heads, l.key_dim, h, {1}, false);
    case Feature::kRolled:
      return rolled_products(in, m, projection, heads, l.key_dim, h);
  }
  return h;
}

}  // namespace

void import_linear_attn(Importer& in) {
  const FlaModel m = read_fla(in);
  LinearModel l;
  l.heads = in.integer("num_heads", 4);
  l.kv_heads = in.integer("num_kv_heads", l.heads);
  l.key_dim = expanded(in, "expand_k", 1, m.hidden, l.heads) / std::max<int64_t>(l.heads, 1);
  l.value_dim = expanded(in, "expand_v", 1, m.hidden, l.heads) / std::max<int64_t>(l.heads, 1);
  if (l.heads <= 0 || l.kv_heads <= 0 || l.heads % l.kv_heads != 0)
    in.fail(strf("config.json: num_heads {} is no multiple of num_kv_heads {}", l.heads, l.kv_heads));
  const std::string name = in.text("feature_map", "elementwise_product");
  if (name == "elementwise_product")
    l.feature = Feature::kProduct;
  else if (name == "hedgehog")
    l.feature = Feature::kHedgehog;
  else if (name == "t2r")
    l.feature = Feature::kRelu, l.activation = fb::Activation::Relu;
  else if (name == "relu")
    l.activation = fb::Activation::Relu;
  else if (name == "elu")
    l.activation = fb::Activation::Elu1;
  else if (name == "dpfp")
    l.feature = Feature::kRolled;
  else if (name != "identity")
    in.fail(
        strf("config.json: 'feature_map' is '{}'; Linnet has elementwise_product, hedgehog, t2r, dpfp, relu, "
             "elu and identity",
             name));
  const bool tied = in.flag("tie_feature_map_qk", false), normalized = in.flag("norm_feature_map", false);
  const bool sum_q = in.flag("norm_q", false), sum_k = in.flag("norm_k", false);
  if (l.feature == Feature::kRolled && (sum_q || sum_k))
    in.fail("config.json: norm_q and norm_k are not supported beside dpfp");
  // Features of hedgehog sum to one already, so that dividing by their sum + 1e-4 is a factor.
  const double sums =
      l.feature == Feature::kHedgehog ? std::pow(1 + 1e-4, -(sum_q ? 1 : 0) - (sum_k ? 1 : 0)) : 1;
  const auto map_of = [&](bool sum) {
    if (l.feature == Feature::kHedgehog) return head_map(fb::Activation::None, fb::HeadNorm::Softmax);
    return head_map(l.activation, sum ? fb::HeadNorm::Sum : fb::HeadNorm::None, sum ? 1e-4f : 0.0f);
  };
  build_fla(in, m, [&](const std::string& p, Value h, Value residual, int64_t) {
    const int64_t values = l.kv_heads * l.value_dim, d = l.features();
    const Value q = features(in, m, l, p, "q", tied, l.heads, h);
    const Value k = features(in, m, l, p, "k", tied, l.kv_heads, h);
    const Value v = in.graph.linear(p + ".v", h, in.projection(p + ".v_proj", values, m.hidden));
    fb::GatedLinearAttentionT args;
    args.query_heads = static_cast<int>(l.heads);
    args.key_heads = args.value_heads = static_cast<int>(l.kv_heads);
    args.key_dim = static_cast<int>(d);
    args.value_dim = static_cast<int>(l.value_dim);
    args.scale = static_cast<float>(sums / std::sqrt(static_cast<double>(d)));
    args.query_map = map_of(sum_q);
    args.key_map = map_of(sum_k);
    args.normalized = normalized;
    args.normalizer_epsilon = 1e-10f;
    const Value o = gated_linear_attention(in, p + ".mixer", std::move(args), q, k, v, kAbsent);
    const Value y = in.graph.rms_norm(p + ".norm", o, fla_norm_weight(in, p + ".norm.weight", l.value_dim),
                                      m.epsilon, 0, static_cast<int>(l.value_dim));
    return in.graph.linear(p + ".output", y, in.projection(p + ".o_proj", m.hidden, l.heads * l.value_dim),
                           fb::Activation::None, residual);
  });
}

}  // namespace linnet::convert
