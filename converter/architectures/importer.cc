#include "converter/architectures/importer.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>

#include "runtime/core/strings.h"
#include "runtime/graph/ops.h"

namespace linnet::convert {

#define LINNET_ARCHITECTURE(model_type, function) void function(Importer&);
#include "converter/architectures/architectures.def"
#undef LINNET_ARCHITECTURE

namespace {
struct Entry {
  std::string_view model_type;
  ImportFunction function;
};
constexpr Entry kArchitectures[] = {
#define LINNET_ARCHITECTURE(model_type, function) {model_type, function},
#include "converter/architectures/architectures.def"
#undef LINNET_ARCHITECTURE
};

constexpr size_t kMostErrors = 1000;

// The largest value of a key: importers loop over layers and heads, and 2^31 keeps every product of two in
// range.
int64_t most_of(const std::string& key) {
  if (key.ends_with("layers")) return 4096;
  if (key.find("head") != std::string::npos || key.ends_with("rotary_dim") ||
      key.find("expert") != std::string::npos)
    return 65536;
  return int64_t{1} << 31;
}

std::vector<int64_t> without_ones(const std::vector<int64_t>& shape) {
  std::vector<int64_t> result;
  for (const int64_t n : shape)
    if (n != 1) result.push_back(n);
  return result;
}

// Whether two tensors hold the same values.
Result<bool> same_rows(const TensorSet& tensors, const std::string& one, const std::string& other) {
  LINNET_ASSIGN(const Rows a, tensors.rows(one));
  LINNET_ASSIGN(const Rows b, tensors.rows(other));
  if (a->rows != b->rows || a->columns != b->columns) return false;
  const int64_t block = std::max<int64_t>(1, (1 << 18) / std::max<int64_t>(1, a->columns));
  std::vector<float> x(static_cast<size_t>(block * a->columns)), y(x.size());
  for (int64_t begin = 0; begin < a->rows; begin += block) {
    const int64_t count = std::min(block, a->rows - begin);
    LINNET_TRY(a->read(begin, count, x.data()));
    LINNET_TRY(b->read(begin, count, y.data()));
    if (std::memcmp(x.data(), y.data(), static_cast<size_t>(count * a->columns) * sizeof(float)) != 0)
      return false;
  }
  return true;
}
}  // namespace

ImportFunction find_architecture(const std::string& model_type) {
  for (const Entry& e : kArchitectures)
    if (e.model_type == model_type) return e.function;
  return nullptr;
}

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  for (const Entry& e : kArchitectures) names.emplace_back(e.model_type);
  return names;
}

const Json* Importer::find(const std::string& key) const {
  const auto it = config_.find(key);
  return it == config_.end() || it->is_null() ? nullptr : &*it;
}

bool Importer::has_key(const std::string& key) const { return find(key) != nullptr; }

void Importer::enter(const std::string& key) {
  const Json* inner = find(key);
  if (!inner) return;
  if (!inner->is_object())
    return fail(strf("config.json: '{}' is {}, expected an object", key, json_text(*inner)));
  Json config = *inner;
  const JsonRelease released(config);
  if (const Json* tied = find("tie_word_embeddings"); tied && !config.contains("tie_word_embeddings"))
    config["tie_word_embeddings"] = *tied;
  config_ = std::move(config);
}

void Importer::skip(const std::string& prefix, const std::string& what) {
  int count = 0;
  for (const std::string& name : tensors_.names())
    if (name.starts_with(prefix)) ignore(name), ++count;
  if (count > 0) notes_.push_back(strf("skipped {} tensors '{}*' ({})", count, prefix, what));
}

void Importer::fail(std::string message) {
  if (said_.insert(message).second) errors_.push_back(std::move(message));
  // A configuration that has nothing to do with its tensors could go on for ever.
  if (errors_.size() > kMostErrors)
    throw std::runtime_error(
        strf("there are more than {} errors in it, the first of them: {}", kMostErrors, errors_[0]));
}

int64_t Importer::integer(const std::string& key) {
  if (!has_key(key)) {
    fail(strf("config.json has no '{}', which this architecture needs", key));
    return 1;
  }
  return integer(key, 1);
}

int64_t Importer::integer(const std::string& key, int64_t absent) {
  const Json* value = find(key);
  if (!value) return absent;
  const int64_t most = most_of(key), least = key.ends_with("layers") ? 0 : -1;
  const auto n = integer_of(*value, least, most);
  if (!n) {
    fail(strf("config.json: '{}' is {}, expected an integer from 0 to {}", key, json_text(*value), most));
    return absent > 0 ? absent : 1;
  }
  return *n;
}

int64_t Importer::layer_count() {
  const int64_t n = integer("num_hidden_layers");
  if (n >= 1 && n <= 4096) return n;
  fail(strf("config.json: 'num_hidden_layers' is {}, expected 1 to 4096", n));
  return 1;
}

double Importer::number(const std::string& key) {
  if (!has_key(key)) fail(strf("config.json has no '{}', which this architecture needs", key));
  return number(key, 1.0);
}

double Importer::number(const std::string& key, double absent) {
  const Json* value = find(key);
  if (!value) return absent;
  const auto d = number_of(*value);
  if (!d) {
    fail(strf("config.json: '{}' is {}, expected a number", key, json_text(*value)));
    return absent;
  }
  return *d;
}

bool Importer::flag(const std::string& key, bool absent) {
  const Json* value = find(key);
  if (!value) return absent;
  if (!value->is_boolean()) {
    fail(strf("config.json: '{}' is {}, expected true or false", key, json_text(*value)));
    return absent;
  }
  return value->get<bool>();
}

std::string Importer::text(const std::string& key, const std::string& absent) {
  const Json* value = find(key);
  if (!value) return absent;
  if (!value->is_string()) {
    fail(strf("config.json: '{}' is {}, expected a string", key, json_text(*value)));
    return absent;
  }
  return value->get<std::string>();
}

std::string Importer::element(const std::string& key, int64_t i) const {
  const Json* list = find(key);
  if (!list || !list->is_array() || i < 0 || static_cast<size_t>(i) >= list->size()) return "null";
  const Json& element = (*list)[static_cast<size_t>(i)];
  return element.is_string() ? element.get<std::string>() : json_text(element);
}

void Importer::expect(const std::string& key, const Json& supported, const std::string& why) {
  const Json* value = find(key);
  if (!value || *value == supported) return;
  fail(strf("config.json: '{}' is {}; Linnet supports {} here{}", key, json_text(*value),
            json_text(supported), why.empty() ? "" : " (" + why + ")"));
}

fb::Activation Importer::activation(const std::string& key, const std::string& absent) {
  static const std::map<std::string, fb::Activation> kNames = {
      {"silu", fb::Activation::Silu},          {"swish", fb::Activation::Silu},
      {"gelu", fb::Activation::Gelu},          {"gelu_pytorch_tanh", fb::Activation::GeluTanh},
      {"gelu_new", fb::Activation::GeluTanh},  {"gelu_tanh", fb::Activation::GeluTanh},
      {"relu", fb::Activation::Relu},          {"relu2", fb::Activation::ReluSquared},
      {"sqrelu", fb::Activation::ReluSquared}, {"sigmoid", fb::Activation::Sigmoid},
      {"tanh", fb::Activation::Tanh},
  };
  const std::string name = text(key, absent);
  const auto it = kNames.find(name);
  if (it != kNames.end()) return it->second;
  fail(strf("config.json: '{}' is '{}', which Linnet does not have", key, name));
  return fb::Activation::Silu;
}

bool Importer::tied(const std::string& table, bool absent, const std::string& head) {
  const bool said = flag("tie_word_embeddings", absent);
  if (!has(head)) {
    if (!said && has_key("tie_word_embeddings"))
      notes_.push_back(
          strf("'tie_word_embeddings' is false, but there is no '{}': '{}' is used", head, table));
    return true;
  }
  if (!said || !has(table)) return false;
  if (shape(head) == shape(table)) {
    const auto same = same_rows(tensors_, head, table);
    if (!same) fail(same.error().message);
    if (!same || *same) return true;
  }
  notes_.push_back(
      strf("'tie_word_embeddings' is true, but '{}' is another matrix than '{}': it is used as the head",
           head, table));
  return false;
}

Rows Importer::rows(const std::string& name, std::vector<int64_t> expected) {
  used_.insert(name);
  const int64_t columns = expected.size() == 1 ? expected[0] : expected.back();
  int64_t count = 1;
  for (size_t i = 0; i + 1 < expected.size(); ++i) count *= expected[i];
  // Only reached after an error was noted, and never written.
  const auto nothing = [&] {
    class Zeros final : public RowSource {
      Result<void> read(int64_t, int64_t n, float* out) const override {
        std::fill_n(out, n * columns, 0.0f);
        return {};
      }
    };
    auto zeros = std::make_shared<Zeros>();
    zeros->rows = count;
    zeros->columns = columns;
    zeros->name = name;
    return zeros;
  };
  if (!tensors_.has(name)) {
    fail(strf("'{}' is missing in {} (expected shape {})", name, tensors_.origin(),
              graph::shape_text(expected)));
    return nothing();
  }
  const std::vector<int64_t> found = tensors_.shape(name);
  if (without_ones(found) != without_ones(expected)) {
    fail(strf("'{}' in {} has shape {}, expected {}", name, tensors_.origin(), graph::shape_text(found),
              graph::shape_text(expected)));
    return nothing();
  }
  auto source = tensors_.rows(name);
  if (!source) {
    fail(source.error().message);
    return nothing();
  }
  if ((*source)->rows == count && (*source)->columns == columns) return *source;
  // Kernels of one pixel: rows of several of the source's.
  if (columns % (*source)->columns == 0) return joined_rows(*source, count);
  // Shapes that differ by ones, such as [D, 1, W] for [D, W] or [1, 1, C] for [C]: same bytes, other rows.
  auto values = read_all(**source);
  if (!values) {
    fail(values.error().message);
    return nothing();
  }
  return constant_rows(name, count, columns, std::move(*values));
}

Weight Importer::matrix(const std::string& name, int64_t n, int64_t k, WeightRole role) {
  return graph.matrix(name, role, rows(name, {n, k}));
}
Weight Importer::vector(const std::string& name, int64_t n) { return graph.vector(name, rows(name, {n})); }

Projection Importer::projection(const std::string& prefix, int64_t n, int64_t k, bool bias, WeightRole role) {
  const Weight weight = matrix(prefix + ".weight", n, k, role);
  return {weight, bias ? vector(prefix + ".bias", n) : kAbsent};
}

Weight Importer::constant(const std::string& name, std::vector<int64_t> shape, std::vector<float> values) {
  const auto n = static_cast<int64_t>(values.size());
  return graph.tensor(name, std::move(shape), constant_rows(name, 1, n, std::move(values)));
}

std::vector<std::string> Importer::unused() const {
  std::vector<std::string> result;
  for (std::string& name : tensors_.names())
    if (!used_.contains(name)) result.push_back(std::move(name));
  return result;
}

}  // namespace linnet::convert
