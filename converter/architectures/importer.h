// What an architecture's importer works with: the checkpoint's configuration, its tensors under their Hugging
// Face names, and the graph under construction.
//
// Errors are collected, not returned: a missing tensor is replaced by zeros of the expected shape so that the
// importer runs on and a person sees every missing tensor and wrong shape at once. Nothing is written if
// there was any error.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "converter/architectures/graph_builder.h"
#include "converter/readers/json.h"
#include "linnet/result.h"

namespace linnet::convert {

using Projection = GraphBuilder::Projection;

// A checkpoint's tensors under Hugging Face names, whatever the file calls them.
class TensorSet {
 public:
  virtual ~TensorSet() = default;
  virtual bool has(const std::string& name) const = 0;
  // Shape as PyTorch has it, outermost first; empty if absent.
  virtual std::vector<int64_t> shape(const std::string& name) const = 0;
  // All but the last dimension flattened into rows; a vector is one row. Error: the reader's.
  virtual Result<Rows> rows(const std::string& name) const = 0;
  virtual std::vector<std::string> names() const = 0;
  virtual const std::string& origin() const = 0;  // file or folder, for messages
};

class Importer {
 public:
  Importer(const Json& config, const TensorSet& tensors, GraphBuilder& graph)
      : graph(graph), config_(config), tensors_(tensors) {}

  GraphBuilder& graph;

  ~Importer() { release(config_); }
  Importer(const Importer&) = delete;
  Importer& operator=(const Importer&) = delete;

  // ---- configuration: a missing required key, or one of the wrong type, is an error naming it ----
  bool has_key(const std::string& key) const;  // present and not null
  int64_t integer(const std::string& key);
  int64_t integer(const std::string& key, int64_t absent);
  // num_hidden_layers, from 1 to 4096; 1 after an error.
  int64_t layer_count();
  double number(const std::string& key);
  double number(const std::string& key, double absent);
  bool flag(const std::string& key, bool absent);
  std::string text(const std::string& key, const std::string& absent);
  // Element i of the list under `key`: a string as it is, anything else as JSON writes it; "null" if there is
  // none.
  std::string element(const std::string& key, int64_t i) const;
  const Json& config() const { return config_; }
  // Reads on in the object under `key` alone (config.json of a multimodal model nests the text part), if
  // there is one. Of the outer keys only tie_word_embeddings stays, as it concerns both.
  void enter(const std::string& key);
  // Refuses a value that this importer would otherwise ignore, naming key, value and what is supported.
  void expect(const std::string& key, const Json& supported, const std::string& why = "");
  fb::Activation activation(const std::string& key, const std::string& absent);
  // Whether the embedding table is the head too: there is no `head`, or tie_word_embeddings says so and
  // `head` is not another matrix than `table`. As transformers 5 does, a head of its own is used whatever the
  // flag says; both contradictions are noted.
  bool tied(const std::string& table, bool absent = false, const std::string& head = "lm_head.weight");

  // ---- tensors ----
  bool has(const std::string& name) const { return tensors_.has(name); }
  std::vector<int64_t> shape(const std::string& name) const { return tensors_.shape(name); }
  // Marks a tensor as known and not needed.
  void ignore(const std::string& name) { used_.insert(name); }
  // Leaves out every tensor whose name starts with `prefix`, and says so in the report of the conversion.
  void skip(const std::string& prefix, const std::string& what);
  const std::vector<std::string>& notes() const { return notes_; }
  // The tensor's rows, its shape checked first (dimensions of 1 may be missing or extra, as in [D, 1, W]).
  Rows rows(const std::string& name, std::vector<int64_t> expected);
  Weight matrix(const std::string& name, int64_t n, int64_t k, WeightRole role = WeightRole::kMatrix);
  Weight vector(const std::string& name, int64_t n);
  // prefix.weight [n, k], and prefix.bias [n] when `bias`.
  Projection projection(const std::string& prefix, int64_t n, int64_t k, bool bias = false,
                        WeightRole role = WeightRole::kMatrix);
  Weight constant(const std::string& name, std::vector<int64_t> shape, std::vector<float> values);

  // Throws when there are absurdly many.
  void fail(std::string message);
  const std::vector<std::string>& errors() const { return errors_; }
  // Tensors of the checkpoint that no importer asked for.
  std::vector<std::string> unused() const;
  const std::string& origin() const { return tensors_.origin(); }

 private:
  const Json* find(const std::string& key) const;
  Json config_;
  const TensorSet& tensors_;
  std::set<std::string> used_, said_;
  std::vector<std::string> errors_, notes_;
};

using ImportFunction = void (*)(Importer&);
// By `model_type` of config.json; null if Linnet has no importer for it.
ImportFunction find_architecture(const std::string& model_type);
std::vector<std::string> architecture_names();

}  // namespace linnet::convert
