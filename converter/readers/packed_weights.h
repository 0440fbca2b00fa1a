// Matrices that a quantiser packed into several tensors (codes, scales, zero points): GPTQ, AWQ,
// bitsandbytes, compressed-tensors, ModelOpt, FP-Quant, gpt-oss. They are told by the names and shapes of
// their tensors; what these cannot say is read from quantization_config.
//
// Facts (repositories read): AutoGPTQ / GPTQModel (qlinear), AutoAWQ (packing order), vllm-project/
// compressed-tensors (pack_to_int32, nvfp4 and mxfp4 compressors), NVIDIA ModelOpt's documentation,
// IST-DASLab/ FP-Quant, transformers' integrations of bitsandbytes and MXFP4.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "converter/architectures/row_source.h"
#include "converter/readers/checkpoint.h"
#include "converter/readers/stored_scales.h"

namespace linnet::convert {

class PackedWeights {
 public:
  struct Matrix {
    std::string method;  // "GPTQ, 4 bits"
    std::vector<int64_t> shape;
    std::function<Result<Rows>()> rows;
  };

  // What `checkpoint` has of such matrices; it must outlive the rows. `where` is its folder, for messages.
  // Errors: kInvalidFile where the tensors of a matrix do not fit each other, kUnsupported for a form that
  // cannot be read; both name the tensor.
  static Result<PackedWeights> find(const Checkpoint& checkpoint, const StoredScales& stored,
                                    const std::string& where);

  // By the name the unpacked tensor has ("model.layers.0.mlp.up_proj.weight").
  const std::map<std::string, Matrix>& matrices() const { return matrices_; }
  // Whether `tensor` of the checkpoint is a part of one.
  bool is_part(const std::string& tensor) const { return parts_.contains(tensor); }

 private:
  friend class PackedFinder;
  std::map<std::string, Matrix> matrices_;
  std::set<std::string> parts_;
};

}  // namespace linnet::convert
