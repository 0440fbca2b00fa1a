// Names and maths: BlinkDL's RWKV-LM, RWKV-v7/rwkv_v7_demo.py; the names they become are
// flash-linear-attention's (utils/convert_from_rwkv7.py).
#include "converter/rwkv_source.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "converter/readers/rows.h"
#include "converter/readers/torch_zip.h"
#include "converter/rwkv_vocab.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

namespace fs = std::filesystem;

// A tensor of the file under the name that the importer asks for.
struct Renamed {
  std::string stored;
  std::vector<int64_t> shape;
  bool transposed = false;
};

class RenamedTensors final : public TensorSet {
 public:
  RenamedTensors(std::shared_ptr<const Checkpoint> checkpoint, std::map<std::string, Renamed> names,
                 std::vector<std::string> others, std::string origin)
      : checkpoint_(std::move(checkpoint)),
        names_(std::move(names)),
        others_(std::move(others)),
        origin_(std::move(origin)) {}
  bool has(const std::string& name) const override { return names_.contains(name); }
  std::vector<int64_t> shape(const std::string& name) const override {
    if (const auto it = names_.find(name); it != names_.end()) return it->second.shape;
    const TensorInfo* tensor = checkpoint_->find(name);
    return tensor ? tensor->shape : std::vector<int64_t>{};
  }
  Result<Rows> rows(const std::string& name) const override {
    const auto it = names_.find(name);
    if (it == names_.end()) return fail(ErrorCode::kNotFound, strf("'{}' has no tensor '{}'", origin_, name));
    Rows rows = checkpoint_rows(*checkpoint_, *checkpoint_->find(it->second.stored));
    if (it->second.transposed) return transpose(std::move(rows));
    return rows;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> all = others_;  // what no name stands for, so that it is told
    for (const auto& [name, tensor] : names_) all.push_back(name);
    return all;
  }
  const std::string& origin() const override { return origin_; }

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::map<std::string, Renamed> names_;
  std::vector<std::string> others_;
  std::string origin_;
};

// Puts every tensor that is there under its other name.
class Renamer {
 public:
  explicit Renamer(const Checkpoint& checkpoint) {
    for (const auto& [name, tensor] : checkpoint.tensors()) left_[name] = &tensor;
  }
  void map(const std::string& to, const std::string& from, bool transposed = false) {
    const auto found = left_.find(from);
    if (found == left_.end()) return;
    // Vectors are stored as [1, 1, channels].
    std::vector<int64_t> shape = found->second->shape;
    while (shape.size() > 1 && shape.front() == 1) shape.erase(shape.begin());
    if (transposed && shape.size() == 2) std::swap(shape[0], shape[1]);
    names_[to] = {from, std::move(shape), transposed && found->second->shape.size() == 2};
    left_.erase(found);
  }
  void ignore(const std::string& name) { left_.erase(name); }

  std::map<std::string, Renamed> names() && { return std::move(names_); }
  std::vector<std::string> left() const {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : left_) names.push_back(name);
    return names;
  }

 private:
  std::map<std::string, const TensorInfo*> left_;
  std::map<std::string, Renamed> names_;
};

void map_layer(Renamer& names, int64_t i) {
  const std::string from = strf("blocks.{}.", i), to = strf("model.layers.{}.", i);
  const auto both = [&](const std::string& hf, const std::string& own) {
    for (const char* part : {".weight", ".bias"}) names.map(to + hf + part, from + own + part);
  };
  if (i == 0) both("pre_norm", "ln0");
  both("attn_norm", "ln1");
  both("ffn_norm", "ln2");
  both("attn.g_norm", "att.ln_x");
  for (const char* part : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "k_k", "k_a", "r_k"})
    names.map(strf("{}attn.{}", to, part), strf("{}att.{}", from, part));
  for (const auto& [hf, own] : {std::pair("r", "receptance"), {"k", "key"}, {"v", "value"}, {"o", "output"}})
    names.map(strf("{}attn.{}_proj.weight", to, hf), strf("{}att.{}.weight", from, own));
  for (const char* part : {"w", "a", "v", "g"}) {
    const std::string own = strf("{}att.{}", from, part), lora = strf("{}attn.{}_lora.lora.", to, part);
    if (i == 0 &&
        *part == 'v') {  // stored, and used by no computation: the first layer's values are mixed with none
      for (int n = 0; n < 3; ++n) names.ignore(strf("{}{}", own, n));
      continue;
    }
    names.map(lora + "2.bias", own + "0");
    names.map(lora + "0.weight", own + "1", true);
    names.map(lora + "2.weight", own + "2", true);
  }
  names.map(to + "ffn.x_k", from + "ffn.x_k");
  names.map(to + "ffn.key.weight", from + "ffn.key.weight");
  names.map(to + "ffn.value.weight", from + "ffn.value.weight");
}

int64_t size_of(const Checkpoint& checkpoint, const std::string& name, size_t dimension) {
  const TensorInfo* tensor = checkpoint.find(name);
  return tensor && tensor->shape.size() > dimension ? tensor->shape[dimension] : 0;
}

Result<void> read_vocabulary(const std::string& path, Source& source) {
  const fs::path vocabulary = rwkv_vocabulary(fs::absolute(path).parent_path());
  if (vocabulary.empty()) {
    source.notes.push_back(
        "there is no rwkv_vocab_v20230424.txt beside the file: the result can be run on token ids, but not "
        "chatted with");
    return {};
  }
  LINNET_ASSIGN(const std::string text, read_text(vocabulary.string()));
  LINNET_ASSIGN(fb::TokenizerT tokenizer, import_rwkv_vocab(text, "'" + vocabulary.string() + "'"));
  source.tokenizer = std::make_unique<fb::TokenizerT>(std::move(tokenizer));
  source.chat_template = kRwkvWorldTemplate;
  source.details.push_back(
      strf("tokenizer: {}; chat template: RWKV World's", vocabulary.filename().string()));
  return {};
}

}  // namespace

Result<Source> open_torch_file(const std::string& path) {
  auto checkpoint = std::make_shared<Checkpoint>();
  LINNET_TRY(read_torch(path, *checkpoint));
  const Checkpoint& file = *checkpoint;
  if (!file.find("emb.weight") || !file.find("blocks.0.att.key.weight"))
    return fail(ErrorCode::kUnsupported,
                strf("'{}' is weights alone, and not RWKV's, whose sizes its names tell: give the folder "
                     "that also has "
                     "config.json (weights named pytorch_model.bin or model.safetensors)",
                     path));
  if (!file.find("blocks.0.att.r_k"))
    return fail(ErrorCode::kUnsupported, strf("'{}' is an RWKV of another generation than the seventh (it "
                                              "has no blocks.0.att.r_k), which Linnet "
                                              "does not import",
                                              path));
  Source source;
  source.kind = "RWKV's torch file";
  source.name = fs::path(path).stem().string();
  int64_t layers = 0;
  while (layers < 4096 && file.find(strf("blocks.{}.att.r_k", layers))) ++layers;
  source.config = Json{{"model_type", "rwkv7"},
                       {"vocab_size", size_of(file, "emb.weight", 0)},
                       {"hidden_size", size_of(file, "emb.weight", 1)},
                       {"num_hidden_layers", layers},
                       {"head_dim", size_of(file, "blocks.0.att.r_k", 1)},
                       {"intermediate_size", size_of(file, "blocks.0.ffn.key.weight", 0)},
                       {"norm_first", file.find("blocks.0.ln0.weight") != nullptr},
                       {"norm_eps", 1e-5},
                       {"fuse_norm", false},
                       {"tie_word_embeddings", false}};
  Renamer names(file);
  names.map("model.embeddings.weight", "emb.weight");
  names.map("lm_head.weight", "head.weight");
  for (const char* part : {".weight", ".bias"}) names.map(strf("model.norm{}", part), strf("ln_out{}", part));
  for (int64_t i = 0; i < layers; ++i) map_layer(names, i);
  std::vector<std::string> left = names.left();
  source.tensors = std::make_unique<RenamedTensors>(std::move(checkpoint), std::move(names).names(),
                                                    std::move(left), path);
  LINNET_TRY(read_vocabulary(path, source));
  return source;
}

}  // namespace linnet::convert
