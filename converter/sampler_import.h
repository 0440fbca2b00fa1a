#pragma once

#include <memory>
#include <string>
#include <vector>

#include "converter/readers/json.h"
#include "format/model_generated.h"

namespace linnet::convert {

// How generation_config.json wants tokens drawn; null if it says nothing of that. As transformers reads it:
// do_sample false is greedy; without do_sample, penalties alone are greedy too, while a temperature, top_k,
// top_p or min_p means sampling; do_sample true without a top_k keeps the 50 best, which is what transformers
// leaves out when it saves. Settings that Linnet does not have are noted by name. Errors: kInvalidFile,
// naming key and value.
Result<std::unique_ptr<fb::SamplerDefaultsT>> sampler_defaults(const Json& generation,
                                                               std::vector<std::string>& details,
                                                               std::vector<std::string>& notes);

}  // namespace linnet::convert
