// linnet eval --choices: how many questions with several answers a model answers rightly.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/scorer.h"

namespace linnet::app {

// A question is a line of JSON: prompt (or question, or context), choices (or endings), answer (or label,
// gold): the place of the right one, from 0, or its letter. A choice is scored by the sum of its tokens' log
// probabilities after the prompt, and by that sum over its bytes (what others call acc and acc_norm).
// `progress`: false stops. Errors: kInvalidFile, with the line; kInvalidArgument for a question longer than
// the context; kCancelled.
Result<nlohmann::ordered_json> evaluate_choices(
    const std::string& path, Scorer& scorer, int64_t context,
    const std::function<bool(uint64_t done, uint64_t total)>& progress);
void print_choices(const nlohmann::ordered_json& report);

}  // namespace linnet::app
