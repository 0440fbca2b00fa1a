// linnet inspect --diff: what two model files have in common.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>

#include "linnet/model.h"

namespace linnet::app {

// {"metadata": {key: [a, b]}, "graph": bool (the same computation), "tokenizer": bool, "chat_template": bool,
//  "only_a": [names], "only_b": [names], "shapes": [{name, a, b}], "changed": [{name, a, b (types), bytes_a,
//  bytes_b, difference}], "same": tensors of equal values}
// difference: squared, of the values, as a share of a's square. Error: kCancelled where `progress` returns
// false.
Result<nlohmann::ordered_json> difference(const Model& a, const Model& b,
                                          const std::function<bool(uint64_t done, uint64_t total)>& progress);
void print_difference(const nlohmann::ordered_json& difference, const std::string& a, const std::string& b);

}  // namespace linnet::app
