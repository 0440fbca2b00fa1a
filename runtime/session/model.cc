#include "linnet/model.h"

#include "format/container.h"
#include "format/names.h"
#include "runtime/core/guard.h"
#include "runtime/core/strings.h"
#include "runtime/graph/op_traits.h"
#include "runtime/session/tokenizer_io.h"
#include "runtime/text/template.h"
#include "runtime/text/tokenizer.h"

namespace linnet {

Model::Model() = default;
Model::~Model() = default;

Result<std::shared_ptr<const Model>> Model::open(const std::string& path) {
  return guarded([&] { return read(path); });
}

Result<std::shared_ptr<const Model>> Model::read(const std::string& path) {
  LINNET_ASSIGN(format::ModelFile file, format::ModelFile::open(path));
  const auto in_file = [&](Error error) {
    error.message = strf("'{}': {}", path, error.message);
    return std::unexpected(std::move(error));
  };
  if (auto checked = graph::check_model(file.model()); !checked) return in_file(checked.error());
  std::shared_ptr<Model> model(new Model);
  model->file_ = std::make_shared<const format::ModelFile>(std::move(file));
  const fb::ModelT& m = model->file_->model();
  if (m.tokenizer) {
    auto tokenizer = text::Tokenizer::create(text::from_fb(*m.tokenizer));
    if (!tokenizer) return in_file(tokenizer.error());
    model->tokenizer_ = std::make_unique<text::Tokenizer>(std::move(*tokenizer));
  }
  if (!m.chat_template.empty()) {
    auto parsed = text::ChatTemplate::parse(m.chat_template);
    if (!parsed) return in_file(parsed.error());
    model->template_ = std::make_unique<text::ChatTemplate>(std::move(*parsed));
  }
  if (const int forward = graph::find_method(m, names::kForward); forward >= 0) {
    const fb::MethodT& method = *m.methods[static_cast<size_t>(forward)];
    const bool language = method.inputs.size() == 1 && method.outputs.size() == 1;
    if (language) {
      const fb::ValueT& logits = *method.values[static_cast<size_t>(method.outputs[0])];
      if (logits.name == names::kLogits && logits.shape.size() == 2 && graph::is_fixed(logits.shape[1]))
        model->vocabulary_ = logits.shape[1].add();
    }
    for (const auto& node : method.nodes)
      model->has_softmax_ = model->has_softmax_ || graph::cache_of(*node).has_value();
  }
  return std::shared_ptr<const Model>(std::move(model));
}

std::string_view Model::metadata(std::string_view key) const {
  for (const auto& entry : file_->model().metadata)
    if (entry->key == key) return entry->value;
  return {};
}

}  // namespace linnet
