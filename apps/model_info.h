// Facts about a model's graph that inspect and bench print.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "format/container.h"
#include "runtime/engine/engine.h"

namespace linnet::app {

struct TypeTotals {
  int64_t tensors = 0, parameters = 0;
  uint64_t bytes = 0;
};

int64_t parameter_count(const fb::ModelT& model);
std::map<std::string, TypeTotals> weights_by_type(const fb::ModelT& model);
std::map<std::string, int64_t> ops_of(const fb::MethodT& method);

// What one token of a decode must read from memory.
struct TokenTraffic {
  // Every matrix and vector of the method once; of an embedding one row, of experts those that a token meets.
  uint64_t weight_bytes = 0;
  uint64_t state_bytes = 0;  // recurrent states, and the keys and values that a query at `position` sees
};
TokenTraffic token_traffic(const Engine& engine, size_t method, int64_t position);

}  // namespace linnet::app
