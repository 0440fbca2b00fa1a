#include "apps/bounds_options.h"

#include <charconv>

#include "apps/common.h"
#include "format/names.h"
#include "runtime/core/dtype_names.h"
#include "runtime/core/strings.h"
#include "runtime/session/precision.h"

namespace linnet::app {

CachePrecision precision_named(const std::string& name) {
  return find_precision(kCaches, [&](DType dtype) { return dtype_name(dtype) == name; })
      .value_or(CachePrecision::kF32);
}

void add_memory_limit(Command command, uint64_t& limit, const std::string& group) {
  const Option option =
      command
          .option("--memory-limit", limit,
                  "most memory to plan, weights not counted, such as 2G (without it: 3/4 of the machine's)")
          .bytes(1);
  if (!group.empty()) Option(option).group(group);
}

void add_bounds_options(Command command, BoundsOptions& bounds) {
  bounds.threads = default_threads();
  const std::string group = "Memory and speed";
  command
      .option("--attention", bounds.attention,
              "softmax layers: a sliding window with sink tokens (bounded memory), or all of the context")
      .one_of({"window", "full"})
      .shows_default()
      .group(group);
  command.option("--window", bounds.window, "tokens a softmax layer sees")
      .between(int64_t{1}, int64_t{1} << 24)
      .shows_default()
      .group(group)
      .tells(bounds.window_given);
  command.option("--sinks", bounds.sinks, "first tokens it sees besides")
      .between(int64_t{0}, int64_t{4096})
      .shows_default()
      .group(group)
      .tells(bounds.window_given);
  command.option("--context", bounds.context, "most tokens with --attention full")
      .between(int64_t{1}, int64_t{1} << 24)
      .shows_default()
      .group(group)
      .tells(bounds.context_given);
  command.option("--cache", bounds.cache, "precision of keys and values")
      .one_of(names_of(kCacheTypes))
      .shows_default()
      .group(group);
  command.option("--state-type", bounds.state_type, "precision of the states of recurrent layers")
      .one_of(names_of(kStateTypes))
      .shows_default()
      .group(group);
  command.option("--chunk", bounds.chunk, "tokens of a prompt processed at once")
      .between(int64_t{1}, int64_t{65536})
      .shows_default()
      .group(group);
  add_memory_limit(command, bounds.memory_limit, group);
  command.option("--threads", bounds.threads, "threads, this one included")
      .between(1, 1024)
      .shows_default()
      .group(group);
  command.option("--backend", bounds.backend, backend_help())
      .one_of(backend_choices())
      .shows_default()
      .group(group);
  command
      .option("--device", bounds.device,
              "which GPU: its number, or part of its name (`linnet inspect --devices`)")
      .group(group);
  command.option("--shader-cache", bounds.shader_cache, "a file that keeps compiled shaders between runs")
      .group(group);
}

Result<void> check_bounds(const BoundsOptions& bounds) {
  if (bounds.attention != "full" && bounds.context_given)
    return fail(
        ErrorCode::kInvalidArgument,
        "--context is the bound of --attention full; with a window the conversation has no length limit: "
        "add --attention full, or leave --context out");
  if (bounds.attention == "full" && bounds.window_given)
    return fail(ErrorCode::kInvalidArgument,
                "--window and --sinks have no meaning with --attention full: leave them out");
  return {};
}

Result<std::shared_ptr<const Backend>> find_backend(const BoundsOptions& bounds, bool profile) {
  BackendOptions options;
  options.device = bounds.device;
  options.compiled_file = bounds.shader_cache;
  options.profile = profile;
  return find_backend(bounds.backend, std::move(options));
}

SessionOptions session_options(const BoundsOptions& bounds) {
  SessionOptions options;
  options.chunk = bounds.chunk;
  options.full_attention = bounds.attention == "full";
  options.window = bounds.window;
  options.sinks = bounds.sinks;
  options.context = bounds.context;
  options.cache = precision_named(bounds.cache);
  options.recurrent = precision_named(bounds.state_type);
  options.threads = bounds.threads;
  options.memory_limit = bounds.memory_limit;
  return options;
}

EngineOptions engine_options(const BoundsOptions& bounds,
                             std::vector<std::pair<std::string, int64_t>> symbols) {
  EngineOptions options;
  options.symbols = {
      {names::kTokens, bounds.chunk}, {names::kLogitTokens, 1}, {names::kContext, bounds.context}};
  options.symbols.insert(options.symbols.end(), std::make_move_iterator(symbols.begin()),
                         std::make_move_iterator(symbols.end()));
  options.attention = {bounds.attention == "full", bounds.window, bounds.sinks};
  options.cache_dtype = dtype_of(precision_named(bounds.cache));
  options.state_dtype = dtype_of(precision_named(bounds.state_type));
  options.threads = bounds.threads;
  options.memory_limit = bounds.memory_limit;
  return options;
}

Result<std::vector<std::pair<std::string, int64_t>>> parse_symbols(const std::vector<std::string>& texts) {
  std::vector<std::pair<std::string, int64_t>> symbols;
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    int64_t value = 0;
    const char* end = text.data() + text.size();
    const char* begin = equals == std::string::npos ? end : text.data() + equals + 1;
    const auto parsed = std::from_chars(begin, end, value);
    if (equals == 0 || begin == end || parsed.ec != std::errc() || parsed.ptr != end || value < 1)
      return fail(ErrorCode::kInvalidArgument,
                  strf("'{}' is not NAME=VALUE with a positive whole number", text));
    symbols.emplace_back(text.substr(0, equals), value);
  }
  return symbols;
}

}  // namespace linnet::app
