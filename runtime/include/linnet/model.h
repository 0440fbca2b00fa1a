// A model file, opened and verified. Include linnet/session.h to run it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "linnet/result.h"

namespace linnet {

namespace format {
class ModelFile;
}
namespace text {
class Tokenizer;
class ChatTemplate;
}  // namespace text

// Immutable and safe to share between threads and sessions. The weights stay mapped from the file while any
// Model or session lives; the file must not be changed meanwhile.
class Model {
 public:
  // Verifies the file completely (structure, extents, shapes) but not the checksums of the weights: see
  // `linnet inspect --verify`. Errors: kNotFound, kIo, kInvalidFile, kUnsupported (a newer format version).
  static Result<std::shared_ptr<const Model>> open(const std::string& path);
  ~Model();

  std::string_view metadata(std::string_view key) const;  // "" if absent
  int64_t vocabulary() const { return vocabulary_; }      // columns of the logits; 0 if not a language model
  // Models that keep keys and values of all tokens somewhere: attention mode and window apply to them.
  bool has_softmax_attention() const { return has_softmax_; }

  const format::ModelFile& file() const { return *file_; }
  std::shared_ptr<const format::ModelFile> shared_file() const { return file_; }
  // Null if the file carries none.
  const text::Tokenizer* tokenizer() const { return tokenizer_.get(); }
  const text::ChatTemplate* chat_template() const { return template_.get(); }

 private:
  Model();
  static Result<std::shared_ptr<const Model>> read(const std::string& path);
  std::shared_ptr<const format::ModelFile> file_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::unique_ptr<text::ChatTemplate> template_;
  int64_t vocabulary_ = 0;
  bool has_softmax_ = false;
};

}  // namespace linnet
