// From a published checkpoint to a Linnet file.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "linnet/result.h"
#include "runtime/core/dtype.h"

namespace linnet {
class Backend;
}

namespace linnet::convert {

struct ConvertOptions {
  std::string source;  // a Hugging Face or diffusers folder, or a GGUF file
  // More checkpoints of the same architecture, and the coefficients of all (transforms/combine.h).
  // Configuration and tokenizer are the first's. Empty: none.
  std::vector<std::string> others;
  std::string combine;
  std::string output;
  bool replace = true;  // false: an output that is there is refused
  // Precision of matrices. Empty: as stored, when that is one of Linnet's block formats or f16/bf16, else
  // f32.
  std::string quantize;
  // Exceptions by name, the last match wins: {"*.down_proj.*", kQ8}.
  std::vector<std::pair<std::string, DType>> keep;
  // Recurrent form to give a softmax model, and folders with trained weights for it (or for the model as it
  // is), each with the weight of what it adds; see transforms/linearize.h. Empty: none.
  std::string linearize;
  std::vector<std::pair<std::string, double>> lora;
  std::string name;  // metadata; empty: the source's own
  // Path of a chat template that takes the place of the source's; an empty file leaves it out.
  std::string chat_template;
  // DiT and PixArt: a safetensors file of trained linear attention, whose tensors take the places of the
  // folder's (LiT's weight inheritance). Empty: none.
  std::string linear_attention;
  // A text file like what the model will be used for: it decides how weights are rounded
  // (converter/calibration). Empty: none. Language models with a tokenizer.
  std::string calibrate;
  int64_t calibration_tokens = 16384;  // of the text, from its beginning
  // Every matrix gets the type that a measurement on the text says its bits are worth, so that all weights
  // take at most so many bytes, or bits a weight. 0: `quantize` says. Not both, and only with `calibrate`.
  uint64_t budget = 0;
  double bits = 0;
  bool error_feedback = true;  // false: by the energies of the inputs alone
  int threads = 2;             // of rounding, calibration and self test
  // Writes nothing: the report says what each tensor would become (ConvertReport::tensors).
  bool dry_run = false;
  // Loads the result and compares it with the unquantised weights on a fixed input. Needs both backends.
  bool self_test = true;
  const Backend* reference = nullptr;  // runs the unquantised weights
  const Backend* backend = nullptr;    // runs the converted file
  // Called with bytes done and bytes in all; false stops the conversion (kCancelled), leaving no file.
  std::function<bool(const std::string& stage, uint64_t done, uint64_t total)> progress;
  std::function<void(const std::string& message)> warn;
};

struct ConvertReport {
  std::string architecture;
  uint64_t file_bytes = 0;
  int64_t parameters = 0;
  std::vector<std::string>
      details;  // where what stands around the weights was read: "eos: '</s>' (2), from ..."
  std::vector<std::string> notes;  // such as "120 tensors imported without loss (q4a)"
  // Every tensor, as it was or (in a dry run) would be written.
  struct Tensor {
    std::string name;
    DType dtype;
    uint64_t bytes = 0;
    // Of the rounding, squared, as a share of the tensor's square, both weighted where a calibration weighs
    // them; 0 for what comes over without loss.
    double error = 0;
  };
  std::vector<Tensor> tensors;
  // On the text of a calibration, as far as the errors of single tensors add up: nats a token; 0: not
  // measured.
  double expected_kl = 0;
  // Self test: logits of the file against the unquantised weights over the test input.
  bool tested = false;
  double mean_kl = 0;        // nats per token
  double largest_error = 0;  // absolute, of any logit
  double agreement = 0;      // share of positions with the same most likely token
};

// Errors: what the readers say; kUnsupported for an architecture or configuration value Linnet lacks;
// kInvalidFile with every missing, unexpected or misshapen tensor; kIo. No file is left behind on error.
Result<ConvertReport> convert(const ConvertOptions& options);

}  // namespace linnet::convert
