// How a GGUF architecture of llama.cpp maps to a Hugging Face checkpoint: the configuration its metadata
// stand for, and for each Hugging Face tensor where it comes from.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "converter/readers/gguf.h"
#include "converter/source.h"

namespace linnet::convert {

// Metadata under the architecture's prefix. A required key that is missing is remembered.
struct GgufKeys {
  const Gguf& gguf;
  std::string prefix;  // "llama."
  std::string missing;

  int64_t integer(const std::string& key);
  int64_t integer(const std::string& key, int64_t absent) const;
  double number(const std::string& key);
  double number(const std::string& key, double absent) const;
  // The largest element of a key that may be a list with one value for each layer.
  int64_t largest(const std::string& key, int64_t absent) const;
  bool has_tensor(const std::string& name) const { return gguf.checkpoint().find(name) != nullptr; }
  template <typename T>
  void copy(Json& config, const char* to, const std::string& key) const {
    if (const T* value = gguf.find<T>(prefix + key)) config[to] = *value;
  }
};

class GgufLayout {
 public:
  explicit GgufLayout(const Gguf& gguf) : gguf_(gguf) {}

  using Change = std::function<Result<Rows>(Rows)>;
  using Join = std::function<Result<Rows>(std::vector<Rows>)>;
  struct Entry {
    std::vector<std::string> sources;  // GGUF tensors
    std::vector<int64_t> shape;
    Join join;
  };
  // `hf` comes from the GGUF tensor, if the file has it. `shape` where it differs from the stored one,
  // `change` where its rows do.
  void map(const std::string& hf, const std::string& tensor, std::vector<int64_t> shape = {},
           Change change = {});
  // From several tensors, if the file has them all; `join` absent: the rows of one after the other.
  void join(const std::string& hf, const std::vector<std::string>& tensors, std::vector<int64_t> shape,
            Join join = {});
  void ignore(const std::string& tensor) { used_.insert(tensor); }
  // Names what no rule named; call last. Tensors of blocks from `layers` on become "mtp.*".
  void finish(int64_t layers);

  const std::map<std::string, Entry>& entries() const { return entries_; }

 private:
  const Gguf& gguf_;
  std::map<std::string, Entry> entries_;
  std::set<std::string> used_;
};

// Recurrent families. False if the architecture is none of them.
bool recurrent_config(const std::string& architecture, GgufKeys& keys, Json& config);
bool recurrent_layout(const std::string& architecture, const GgufKeys& keys, const Json& config,
                      GgufLayout& layout);

// Rows of heads whose two halves llama.cpp interleaves for its pairwise rotation, put back.
Rows unturned(Rows source, int64_t heads);
// The same for one row.
Rows unturned_columns(Rows source, int64_t heads);
// f of every value.
GgufLayout::Change each_value(double (*f)(double));

}  // namespace linnet::convert
