#include "linnet/session.h"

#include <algorithm>
#include <cmath>

#include "format/names.h"
#include "runtime/core/guard.h"
#include "runtime/core/strings.h"
#include "runtime/engine/engine.h"
#include "runtime/session/precision.h"
#include "runtime/session/state_file.h"

namespace linnet {
namespace {

Result<EngineOptions> engine_options(const SessionOptions& options) {
  if (options.chunk < 1 || options.chunk > 65536)
    return fail(ErrorCode::kInvalidArgument,
                strf("a chunk of {} tokens was asked for, expected 1 to 65536", options.chunk));
  EngineOptions engine;
  engine.symbols = {
      {names::kTokens, options.chunk}, {names::kLogitTokens, 1}, {names::kContext, options.context}};
  engine.attention = {options.full_attention, options.window, options.sinks};
  engine.cache_dtype = dtype_of(options.cache);
  engine.state_dtype = dtype_of(options.recurrent);
  engine.threads = options.threads;
  engine.work = options.work;
  engine.state = options.state;
  engine.history_bytes = options.history_bytes;
  engine.memory_limit = options.memory_limit;
  return engine;
}

SessionMemory to_session(const MemoryRequired& m) {
  return {m.weights_bytes, m.state_bytes, m.work_bytes, m.backend_bytes, m.history_bytes};
}

}  // namespace

Session::Session() = default;
Session::~Session() = default;

Result<SessionMemory> Session::memory_required(const Model& model, const Backend& backend,
                                               const SessionOptions& options) {
  return guarded([&]() -> Result<SessionMemory> {
    LINNET_ASSIGN(const EngineOptions engine, engine_options(options));
    LINNET_ASSIGN(const MemoryRequired memory, Engine::memory_required(model.file(), backend, engine));
    return to_session(memory);
  });
}

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Model> model, const Backend& backend,
                                                 const SessionOptions& options) {
  return guarded([&] { return make(std::move(model), backend, options); });
}

Result<std::unique_ptr<Session>> Session::make(std::shared_ptr<const Model> model, const Backend& backend,
                                               const SessionOptions& options) {
  std::unique_ptr<Session> session(new Session);
  LINNET_ASSIGN(const EngineOptions engine, engine_options(options));
  LINNET_ASSIGN(session->engine_, Engine::create(model->shared_file(), backend, engine));
  session->model_ = std::move(model);
  session->backend_ = &backend;
  session->options_ = options;
  const fb::ModelT& m = session->engine_->model();
  const int method = graph::find_method(m, names::kForward);
  session->tokens_symbol_ = graph::find_symbol(m, names::kTokens);
  session->logit_tokens_symbol_ = graph::find_symbol(m, names::kLogitTokens);
  if (method < 0 || session->tokens_symbol_ < 0 || session->logit_tokens_symbol_ < 0 ||
      session->model_->vocabulary() < 1)
    return fail(ErrorCode::kUnsupported,
                "the file has no method 'forward' from input_ids to logits: it is not a language model");
  session->method_ = static_cast<size_t>(method);
  session->ids_ = static_cast<size_t>(m.methods[session->method_]->inputs[0]);
  session->logits_ = static_cast<size_t>(m.methods[session->method_]->outputs[0]);
  session->symbols_ = session->engine_->bounds().symbols;
  return session;
}

Result<void> Session::check_tokens(std::span<const int32_t> tokens) const {
  if (tokens.empty())
    return fail(ErrorCode::kInvalidArgument, "no tokens were given: a run needs at least one");
  const int64_t vocabulary = model_->vocabulary();
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= vocabulary)
      return fail(ErrorCode::kInvalidArgument,
                  strf("token {} of the input is {}, the vocabulary has {}", i, tokens[i], vocabulary));
  const auto total = static_cast<int64_t>(tokens.size());
  if (const int64_t left = remaining(); left >= 0 && total > left && !poisoned())
    return fail(
        ErrorCode::kInvalidArgument,
        strf("{} tokens do not fit: the context of {} holds {} already; start with a larger --context or use "
             "the bounded window (--attention window)",
             total, options_.context, position()));
  return {};
}

Result<void> Session::write_tokens(std::span<const int32_t> tokens, bool with_logits) {
  symbols_[static_cast<size_t>(tokens_symbol_)] = static_cast<int64_t>(tokens.size());
  symbols_[static_cast<size_t>(logit_tokens_symbol_)] = with_logits ? 1 : 0;
  return engine_->write_value(method_, ids_, std::as_bytes(tokens));
}

Result<std::span<const float>> Session::prefill(std::span<const int32_t> tokens, const Progress& progress) {
  return guarded([&] { return feed(tokens, progress); });
}

Result<std::span<const float>> Session::feed(std::span<const int32_t> tokens, const Progress& progress) {
  LINNET_TRY(check_tokens(tokens));
  const auto total = static_cast<int64_t>(tokens.size());
  for (int64_t done = 0; done < total;) {
    const int64_t n = std::min(options_.chunk, total - done);
    const int64_t start = position();
    LINNET_TRY(
        write_tokens(tokens.subspan(static_cast<size_t>(done), static_cast<size_t>(n)), done + n == total));
    LINNET_TRY(engine_->run(method_, symbols_, n));
    done += n;
    if (done == total) {
      LINNET_ASSIGN(const std::span<const float> logits, read_logits());
      if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }))
        return std::unexpected(engine_->diagnose_non_finite(method_, symbols_, start));
      return logits;
    }
    if (progress && !progress(done, total))
      return fail(ErrorCode::kCancelled, strf("stopped after {} of {} tokens", done, total));
  }
  return fail(ErrorCode::kInternal, "a prefill ended without logits");
}

Result<std::span<const Ranked>> Session::decode_largest(int32_t token, size_t count) {
  return guarded([&] { return feed_for_largest(token, count); });
}

Result<std::span<const Ranked>> Session::feed_for_largest(int32_t token, size_t count) {
  if (count < 1 || count > kMostRanked)
    return fail(ErrorCode::kInvalidArgument,
                strf("{} logits were asked for, expected 1 to {}", count, kMostRanked));
  LINNET_TRY(check_tokens({&token, 1}));
  const int64_t start = position();
  LINNET_TRY(write_tokens({&token, 1}, true));
  const auto vocabulary = static_cast<size_t>(model_->vocabulary());
  const std::span<Ranked> largest = std::span(largest_).first(std::min(count, vocabulary));
  LINNET_ASSIGN(const bool finite,
                engine_->run_for_largest(method_, symbols_, 1, logits_, vocabulary, largest));
  if (!finite) return std::unexpected(engine_->diagnose_non_finite(method_, symbols_, start));
  return largest;
}

Result<std::span<const float>> Session::logits() {
  return guarded([&] { return read_logits(); });
}

Result<std::span<const float>> Session::read_logits() {
  const auto vocabulary = static_cast<size_t>(model_->vocabulary());
  if (const auto bytes = engine_->host_value(method_, logits_); !bytes.empty())
    return std::span(reinterpret_cast<const float*>(bytes.data()), vocabulary);
  row_.resize(vocabulary);
  LINNET_TRY(engine_->read_value(method_, logits_, std::as_writable_bytes(std::span(row_))));
  return std::span<const float>(row_);
}

int64_t Session::position() const { return engine_->position(); }
bool Session::poisoned() const { return engine_->poisoned(); }
Result<void> Session::reset() {
  return guarded([&] { return engine_->reset(); });
}
size_t Session::state_bytes() const { return engine_->state_bytes(); }
Result<void> Session::snapshot(std::span<std::byte> block) const {
  return guarded([&] { return engine_->snapshot(block); });
}
Result<void> Session::restore(std::span<const std::byte> block) {
  return guarded([&] { return engine_->restore(block); });
}
SessionMemory Session::memory() const { return to_session(engine_->memory()); }

int64_t Session::remaining() const {
  if (!options_.full_attention || !model_->has_softmax_attention()) return -1;
  return std::max<int64_t>(0, options_.context - position());
}

bool Session::can_rewind() const { return engine_->can_rewind(); }
int64_t Session::rewind_floor() const { return engine_->rewind_floor(); }

Result<void> Session::rewind(int64_t to) {
  return guarded([&]() -> Result<void> {
    if (to < 0 || to > position())
      return fail(ErrorCode::kInvalidArgument,
                  strf("cannot rewind to token {}: the session stands at {}", to, position()));
    if (to < rewind_floor())
      return fail(
          ErrorCode::kUnsupported,
          strf("this session's state cannot be cut to its first {} tokens (to {} at least): restore a "
               "snapshot instead",
               to, rewind_floor()));
    return engine_->rewind(to);
  });
}

Result<std::unique_ptr<Session>> Session::fork() const {
  return guarded([&]() -> Result<std::unique_ptr<Session>> {
    SessionOptions options = options_;
    options.work = options.state = {};
    LINNET_ASSIGN(auto other, create(model_, *backend_, options));
    std::vector<std::byte> block(state_bytes());
    LINNET_TRY(snapshot(block));
    LINNET_TRY(other->restore(block));
    return other;
  });
}

Result<void> Session::save(const std::string& path, std::span<const std::byte> attachment,
                           bool replace) const {
  return guarded([&]() -> Result<void> {
    std::vector<std::byte> block(state_bytes());
    LINNET_TRY(snapshot(block));
    return write_state_file(path, {engine_->state_key(), model_->file().model_id()}, attachment, block,
                            {.replace = replace, .stream = true});
  });
}

Result<std::vector<std::byte>> Session::load(const std::string& path) {
  return guarded([&]() -> Result<std::vector<std::byte>> {
    LINNET_ASSIGN(StateFile file,
                  read_state_file(path, {engine_->state_key(), model_->file().model_id()}, state_bytes()));
    LINNET_TRY(restore(file.block));
    return std::move(file.attachment);
  });
}

}  // namespace linnet
