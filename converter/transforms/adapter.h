// Trained additions to a checkpoint: LoRA pairs, merged into the matrices they belong to in f32 before
// anything is quantised, and whole tensors, which replace the checkpoint's or join them. Two formats:
//   PEFT: adapter_config.json, adapter_model.safetensors, tensors base_model.model.MODULE.lora_A.weight
//     and, of DoRA (arXiv 2402.09353), MODULE.lora_magnitude_vector: the norms of the merged rows
//   Linnet's trainers: config.json, adapter.safetensors, tensors layers.N.MODULE.lora_A (models/)
#pragma once

#include <map>
#include <string>
#include <vector>

#include "converter/architectures/importer.h"
#include "converter/readers/checkpoint.h"

namespace linnet::convert {

struct Adapter {
  Adapter() = default;
  Adapter(Adapter&&) = default;
  Adapter& operator=(Adapter&&) = default;
  ~Adapter() { release(config); }

  // W + scale * B A for matrix `name` [n, k]; A [rank, k], B [n, rank].
  struct Pair {
    std::vector<float> a, b;
    int64_t rank = 0, n = 0, k = 0;
    double scale = 1;
    std::vector<float> magnitude;  // [n]: norms that the rows are given after; empty: none
  };
  std::string origin;
  Json config = Json::object();              // config.json of the folder; empty without one
  std::map<std::string, Pair> pairs;         // by name of the matrix
  std::map<std::string, std::string> whole;  // name as the importers know it -> name in the file
  std::shared_ptr<const Checkpoint> checkpoint;

  bool has_tensor(const std::string& part) const;  // of a whole tensor's name
};

// Errors: kNotFound (no adapter in the folder), kUnsupported (a PEFT option that Linnet does not merge, by
// name), kInvalidFile (a pair that is not one, shapes, config values).
// `weight` multiplies what the pairs add. Where it is not 1, tensors that replace others and magnitudes are
// refused: nothing says what a part of them is.
Result<Adapter> read_adapter(const std::string& folder, double weight = 1);

// The checkpoint with the adapter in it. Errors: kInvalidFile for a pair whose matrix the checkpoint lacks or
// has in another shape.
Result<std::unique_ptr<TensorSet>> adapt(std::unique_ptr<TensorSet> base, Adapter adapter);

}  // namespace linnet::convert
