// What a checkpoint brings for its chat template, and whether the template can be rendered at all.
#pragma once

#include <string>

#include "converter/source.h"
#include "linnet/result.h"

namespace linnet::convert {

// The tokens that tokenizer_config.json and special_tokens_map.json name (bos_token, pad_token, image_token,
// ...) become metadata: a template may ask for them.
Result<void> read_template_tokens(const std::string& folder, Source& source);

// Errors: kUnsupported with the template's line and what it has that Linnet does not render.
Result<void> check_chat_template(const Source& source, const std::string& path);

}  // namespace linnet::convert
