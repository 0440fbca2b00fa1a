#include "apps/inspect_diff.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <type_traits>

#include "apps/common.h"
#include "format/head.h"
#include "format/panel.h"
#include "format/verify.h"
#include "runtime/core/strings.h"
#include "runtime/text/printable.h"

namespace linnet::app {
namespace {

using Json = nlohmann::ordered_json;

// The values of a weight, row by row.
class Values {
 public:
  Values(const format::ModelFile& file, size_t index)
      : weight_(*file.model().weights[index]),
        bytes_(file.weight_bytes(index)),
        dtype_(format::to_dtype(weight_.dtype)) {
    columns_ = weight_.shape.back();
    rows_ = 1;
    for (size_t i = 0; i + 1 < weight_.shape.size(); ++i) rows_ *= weight_.shape[i];
    matrix_rows_ = weight_.shape.size() == 3 ? weight_.shape[1] : rows_;
  }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  DType dtype() const { return dtype_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  void read(int64_t row, float* out) const {
    if (weight_.layout == fb::Layout::RowMajor) {
      std::memcpy(out, bytes_.data() + static_cast<size_t>(row * columns_) * sizeof(float),
                  static_cast<size_t>(columns_) * sizeof(float));
      return;
    }
    const int64_t matrix = row / matrix_rows_, within = row % matrix_rows_;
    const size_t at =
        static_cast<size_t>(matrix) * format::matrix_bytes(dtype_, matrix_rows_, columns_) +
        static_cast<size_t>(within / format::kPanelRows) * format::panel_bytes(dtype_, columns_);
    format::unpack_panel_row(dtype_, bytes_.data() + at, within % format::kPanelRows, columns_, out);
  }

 private:
  const fb::WeightT& weight_;
  std::span<const std::byte> bytes_;
  DType dtype_;
  int64_t rows_, columns_, matrix_rows_;
};

double difference_of(const Values& a, const Values& b) {
  std::vector<float> x(static_cast<size_t>(a.columns())), y(x.size());
  double error = 0, square = 0;
  for (int64_t r = 0; r < a.rows(); ++r) {
    a.read(r, x.data());
    b.read(r, y.data());
    for (size_t c = 0; c < x.size(); ++c) {
      const double v = static_cast<double>(x[c]), e = v - static_cast<double>(y[c]);
      square += v * v;
      error += e * e;
    }
  }
  if (error == 0) return 0;
  return square > 0 ? error / square : 1;
}

// What is computed: the graph over weights that are known by their names alone, of whatever type.
Result<std::vector<std::byte>> packed_graph(const fb::ModelT& model) {
  std::map<std::string, int> places;
  for (const auto& weight : model.weights) places[weight->name] = 0;
  int next = 0;
  for (auto& [name, place] : places) place = next++;
  fb::ModelT graph;
  const auto copy = [](const auto& from, auto& to) {
    for (const auto& item : from) to.push_back(std::make_unique<std::remove_cvref_t<decltype(*item)>>(*item));
  };
  copy(model.symbols, graph.symbols);
  copy(model.states, graph.states);
  copy(model.methods, graph.methods);
  for (const auto& method : graph.methods)
    for (const auto& node : method->nodes)
      for (int& weight : node->weights)
        if (weight >= 0) weight = places[model.weights[static_cast<size_t>(weight)]->name];
  return format::encode_head(graph);
}

Result<std::vector<std::byte>> packed_tokenizer(const fb::ModelT& model) {
  fb::ModelT alone;
  if (model.tokenizer) alone.tokenizer = std::make_unique<fb::TokenizerT>(*model.tokenizer);
  return format::encode_head(alone);
}

}  // namespace

Result<Json> difference(const Model& a, const Model& b,
                        const std::function<bool(uint64_t done, uint64_t total)>& progress) {
  const fb::ModelT &x = a.file().model(), &y = b.file().model();
  Json out;
  out["metadata"] = Json::object();
  std::map<std::string, std::array<std::string, 2>> metadata;
  for (const auto& entry : x.metadata) metadata[entry->key][0] = entry->value;
  for (const auto& entry : y.metadata) metadata[entry->key][1] = entry->value;
  for (const auto& [key, values] : metadata)
    if (values[0] != values[1]) out["metadata"][key] = values;
  for (const auto& [key, packed] : {std::pair("graph", &packed_graph), {"tokenizer", &packed_tokenizer}}) {
    LINNET_ASSIGN(const std::vector<std::byte> p, packed(x));
    LINNET_ASSIGN(const std::vector<std::byte> q, packed(y));
    out[key] = p == q;
  }
  out["chat_template"] = x.chat_template == y.chat_template;
  for (const char* key : {"only_a", "only_b", "shapes", "changed"}) out[key] = Json::array();
  std::map<std::string, size_t> others;
  uint64_t total = 0, done = 0;
  for (size_t i = 0; i < y.weights.size(); ++i) others[y.weights[i]->name] = i;
  for (const auto& weight : x.weights) total += weight->bytes;
  int equal = 0;
  for (size_t i = 0; i < x.weights.size(); ++i) {
    const fb::WeightT& weight = *x.weights[i];
    if (!progress(done, total)) return fail(ErrorCode::kCancelled, "the comparison was stopped");
    done += weight.bytes;
    const auto other = others.find(weight.name);
    if (other == others.end()) {
      out["only_a"].push_back(weight.name);
      continue;
    }
    const size_t j = other->second;
    others.erase(other);
    if (weight.shape != y.weights[j]->shape) {
      out["shapes"].push_back({{"name", weight.name}, {"a", weight.shape}, {"b", y.weights[j]->shape}});
      continue;
    }
    LINNET_TRY(a.file().check_unchanged());
    LINNET_TRY(b.file().check_unchanged());
    const Values p(a.file(), i), q(b.file(), j);
    const bool identical = p.dtype() == q.dtype() && p.bytes().size() == q.bytes().size() &&
                           std::memcmp(p.bytes().data(), q.bytes().data(), p.bytes().size()) == 0;
    if (identical) {
      ++equal;
      continue;
    }
    out["changed"].push_back({{"name", weight.name},
                              {"a", dtype_name(p.dtype())},
                              {"b", dtype_name(q.dtype())},
                              {"bytes_a", p.bytes().size()},
                              {"bytes_b", q.bytes().size()},
                              {"difference", difference_of(p, q)}});
  }
  for (const auto& [name, index] : others) out["only_b"].push_back(name);
  out["same"] = equal;
  return out;
}

void print_difference(const Json& d, const std::string& a, const std::string& b) {
  const auto line = [](const Json& text) { return text::printable_line(text.get<std::string>()); };
  std::printf("a: %s\nb: %s\n", text::printable_line(a).c_str(), text::printable_line(b).c_str());
  for (const auto& [key, values] : d["metadata"].items())
    std::printf("metadata %s: '%s' / '%s'\n", text::printable_line(key).c_str(), line(values[0]).c_str(),
                line(values[1]).c_str());
  for (const auto& [key, name] :
       {std::pair("graph", "computation"), {"tokenizer", "tokenizer"}, {"chat_template", "chat template"}})
    std::printf("%s: %s\n", name, d[key].get<bool>() ? "the same" : "differs");
  for (const auto& [key, name] : {std::pair("only_a", "only in a"), {"only_b", "only in b"}})
    for (const Json& tensor : d[key]) std::printf("%s: %s\n", name, line(tensor).c_str());
  for (const Json& t : d["shapes"])
    std::printf("shapes differ: %s %s / %s\n", line(t["name"]).c_str(), t["a"].dump().c_str(),
                t["b"].dump().c_str());
  std::vector<Json> changed(d["changed"].begin(), d["changed"].end());
  std::stable_sort(changed.begin(), changed.end(), [](const Json& x, const Json& y) {
    return x["difference"].get<double>() > y["difference"].get<double>();
  });
  for (const Json& t : changed)
    std::printf("%-8.3g %s/%s  %s\n", t["difference"].get<double>(), t["a"].get<std::string>().c_str(),
                t["b"].get<std::string>().c_str(), line(t["name"]).c_str());
  std::printf("%d tensors are the same byte for byte, %zu differ%s\n", d["same"].get<int>(), changed.size(),
              changed.empty() ? "" : " (squared difference of the values, as a share of a's square)");
}

}  // namespace linnet::app
