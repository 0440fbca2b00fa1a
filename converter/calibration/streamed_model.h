// Runs a model whose weights are still in their checkpoint: in f32, node by node over all sequences, so that
// memory holds one node's weights at a time (tables and heads in blocks of rows). What a conversion learns of
// a model before and after it rounds it learns here.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "backends/host/host_backend.h"
#include "converter/architectures/graph_builder.h"
#include "linnet/result.h"

namespace linnet::convert {

// Memory as kernels ask for it.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t n) : storage_(n + 2 * plan::kAlignment) {}
  std::byte* data() {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    return storage_.data() + (plan::kAlignment - address % plan::kAlignment) % plan::kAlignment;
  }
  size_t size() const { return storage_.size(); }

 private:
  std::vector<std::byte> storage_;
};

// Values and states of one sequence of tokens under way.
struct StreamedSequence {
  std::vector<int32_t> ids;
  std::vector<std::unique_ptr<AlignedBytes>> values, states;
};

class StreamedModel {
 public:
  // Sequences of `length` tokens. `backend` supplies the kernels. All of it must outlive the model.
  // Error: kUnsupported where there is no method "forward".
  static Result<std::unique_ptr<StreamedModel>> create(const fb::ModelT& model,
                                                       std::span<const WeightPlan> weights,
                                                       const host::HostBackend& backend, int64_t length,
                                                       int threads);

  const fb::MethodT& method() const { return *method_; }
  std::span<const WeightPlan> weights() const { return weights_; }
  host::ThreadPool& pool() { return pool_; }
  const host::HostBackend& backend() const { return backend_; }

  struct Run {
    size_t first = 0;    // node to begin with; all before it have run, and kept their values
    bool keep = false;   // values stay for another run
    bool logits = true;  // false: heads are not computed
    // Called before a node computes, for every sequence, with the node's inputs. May be empty.
    std::function<Result<void>(const fb::NodeT&, std::span<const host::Tensor> in)> observe;
    std::function<Result<void>(size_t node, size_t nodes)> progress;  // may be empty
  };
  Result<void> run(std::span<StreamedSequence> sequences, const Run& run);

  // [length, vocabulary]; of a run that computed them and kept its values.
  std::span<const float> logits(const StreamedSequence& sequence) const;

  // Takes other rows in the place of a weight's until called again with null.
  void replace(size_t weight, Rows rows);
  // The first node that must run again when `node` changes: `node`, or one before it that shares a state with
  // it or a later one.
  size_t restart(size_t node) const;

 private:
  StreamedModel(const fb::ModelT& model, std::span<const WeightPlan> weights,
                const host::HostBackend& backend, int threads);
  struct Operands;
  using Storage = std::vector<std::unique_ptr<AlignedBytes>>;

  Result<void> plan(int64_t length);
  Result<void> run_node(size_t n, std::span<StreamedSequence> sequences, const Run& run);
  Result<void> run_head(Operands& at);
  Result<void> load(const RowSource& rows, host::Tensor& weight, Storage& storage) const;
  Result<void> load_cached(size_t weight, host::Tensor& tensor, Storage& storage);
  void call(const Operands& at);
  const RowSource& rows(size_t weight) const;

  const fb::ModelT model_;
  std::span<const WeightPlan> weights_;
  const host::HostBackend& backend_;
  host::ThreadPool pool_;
  plan::Bounds bounds_;
  plan::Plan plan_;
  size_t method_index_ = 0;
  const fb::MethodT* method_ = nullptr;
  std::vector<size_t> last_use_;                  // of a value, by node
  std::vector<size_t> first_touch_, last_touch_;  // of a state, by node
  std::map<size_t, Rows> replaced_;
  std::map<size_t, std::unique_ptr<AlignedBytes>> cache_;  // packed weights, up to kCacheBytes
  size_t cached_ = 0;
};

}  // namespace linnet::convert
