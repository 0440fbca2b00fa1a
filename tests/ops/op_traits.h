// What an op's traits say against a node of it: every case of every op goes through this (op_check.cc).
#pragma once

#include <span>

#include "runtime/graph/op_traits.h"

namespace linnet::testing {

// Fails the running test where the traits of a node disagree with its states, weights, inputs or rows. The
// model has passed check_model().
void check_traits(const fb::ModelT& model, std::span<const int64_t> symbols);

}  // namespace linnet::testing
