// The options of every command that runs a model: memory bounds, threads, processor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/command_line.h"
#include "linnet/result.h"
#include "linnet/session.h"
#include "runtime/engine/engine.h"

namespace linnet::app {

struct BoundsOptions {
  std::string attention = "window";
  int64_t window = 1024, sinks = 4, context = 4096, chunk = 256;
  std::string cache = "f16", state_type = "f32";
  std::string backend = "cpu", device, shader_cache;
  int threads = 1;
  uint64_t memory_limit = 0;  // 0: the library's own
  bool context_given = false, window_given = false;
};

// By the name of one of kCacheTypes.
CachePrecision precision_named(const std::string& name);

// --memory-limit; `limit` must outlive the parsing of `command`.
void add_memory_limit(Command command, uint64_t& limit, const std::string& group = "");
// `bounds` must outlive the parsing of `command`.
void add_bounds_options(Command command, BoundsOptions& bounds);
// After parsing. Errors: --context with a window, --window or --sinks with full attention.
Result<void> check_bounds(const BoundsOptions& bounds);

// `profile`: measuring the time of every node, where the backend can (Backend::meter()).
Result<std::shared_ptr<const Backend>> find_backend(const BoundsOptions& bounds, bool profile = false);
SessionOptions session_options(const BoundsOptions& bounds);
// `symbols`: bounds beyond tokens, logit_tokens and context; a later entry of a name wins.
EngineOptions engine_options(const BoundsOptions& bounds,
                             std::vector<std::pair<std::string, int64_t>> symbols);

// "height=512" pairs of a repeated --symbol option.
Result<std::vector<std::pair<std::string, int64_t>>> parse_symbols(const std::vector<std::string>& texts);

}  // namespace linnet::app
