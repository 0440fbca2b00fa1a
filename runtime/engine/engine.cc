#include "runtime/engine/engine.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "format/file.h"
#include "format/names.h"
#include "runtime/core/checked.h"
#include "runtime/core/guard.h"
#include "runtime/core/hash.h"
#include "runtime/core/memory.h"
#include "runtime/core/strings.h"

namespace linnet {
namespace {

Result<plan::Bounds> bind(const fb::ModelT& model, const Backend& backend, const EngineOptions& options) {
  plan::Bounds bounds;
  bounds.symbols.assign(model.symbols.size(), 1);
  for (const auto& [name, value] : options.symbols) {
    const int symbol = graph::find_symbol(model, name);
    if (symbol >= 0) bounds.symbols[static_cast<size_t>(symbol)] = value;
  }
  bounds.attention = options.attention;
  bounds.cache_dtype = options.cache_dtype;
  bounds.state_dtype = options.state_dtype;
  if (backend.runs_in_bands()) bounds.band_bytes = options.band_bytes;
  return bounds;
}

Result<plan::Plan> plan_for(const fb::ModelT& model, const Backend& backend, const plan::Bounds& bounds,
                            int threads) {
  for (const auto& method : model.methods) {
    for (const auto& node : method->nodes) {
      const graph::OpKind kind = graph::op_kind(node->args.type);
      if (!backend.supports(kind))
        return fail(ErrorCode::kUnsupported,
                    strf("backend '{}' has no kernel for the op '{}' (node '{}'): choose another backend",
                         backend.name(), graph::op_info(kind).name, node->name));
    }
  }
  return plan::make_plan(model, bounds, [&](size_t method, size_t node, const plan::Plan& partial) {
    return backend.scratch_bytes(model, bounds, method, node, partial, threads);
  });
}

// A block is interchangeable when the model and the layout of its states are the same.
uint64_t key_of(uint64_t model_id, const fb::ModelT& model, const plan::Plan& plan,
                const plan::Bounds& bounds) {
  uint64_t key = mix(model_id, 1);
  for (const plan::StatePlan& state : plan.states) {
    key = mix(key, static_cast<uint64_t>(state.dtype));
    for (const int64_t n : state.shape) key = mix(key, static_cast<uint64_t>(n));
  }
  for (const auto& method : model.methods) {
    for (const auto& node : method->nodes) {
      const std::optional<plan::Ring> ring = plan::ring_of(*node, model, bounds);
      if (!ring) continue;
      key = mix(mix(mix(key, static_cast<uint64_t>(ring->capacity)), static_cast<uint64_t>(ring->window)),
                static_cast<uint64_t>(ring->sinks));
    }
  }
  return key;
}

// By method and value: the rows of the smallest table that its ids look up; 0: it holds no ids.
std::vector<std::vector<int64_t>> id_limits(const fb::ModelT& model) {
  std::vector<std::vector<int64_t>> limits;
  for (const auto& method : model.methods) {
    std::vector<int64_t>& of_method = limits.emplace_back(method->values.size(), 0);
    for (const auto& node : method->nodes) {
      for (size_t w = 0; w < node->weights.size(); ++w) {
        if (node->weights[w] < 0) continue;
        const graph::WeightRead read = graph::weight_read(*node, w);
        if (read.use != graph::WeightUse::kTable) continue;
        const int64_t rows = model.weights[static_cast<size_t>(node->weights[w])]->shape[0];
        int64_t& limit = of_method[static_cast<size_t>(node->inputs[static_cast<size_t>(read.ids)])];
        limit = limit == 0 ? rows : std::min(limit, rows);
      }
    }
  }
  return limits;
}

// By method: the rows that nodes which score the vocabulary write and those that they choose them from.
std::vector<std::vector<Engine::LogitRows>> logit_rows(const fb::ModelT& model) {
  std::vector<std::vector<Engine::LogitRows>> rows(model.methods.size());
  for (size_t m = 0; m < rows.size(); ++m) {
    const fb::MethodT& method = *model.methods[m];
    for (const auto& node : method.nodes)
      if (graph::gives_logits(*node))
        rows[m].push_back({method.values[static_cast<size_t>(node->outputs[0])]->shape[0],
                           method.values[static_cast<size_t>(node->inputs[0])]->shape[0]});
  }
  return rows;
}

// True if all states are keys and values of causal layers that keep every position up to the context.
bool keeps_every_row(const fb::ModelT& model, const plan::Plan& plan, const plan::Bounds& bounds) {
  const int context = graph::find_symbol(model, names::kContext);
  if (!bounds.attention.full || context < 0 || model.states.empty()) return false;
  const int64_t longest = bounds.symbols[static_cast<size_t>(context)];
  return std::ranges::all_of(plan.states, [longest](const plan::StatePlan& state) {
    return state.ring && state.ring->capacity >= longest;
  });
}

size_t weights_bytes(const fb::ModelT& model) {
  size_t bytes = 0;
  for (const auto& weight : model.weights) bytes += weight->bytes;
  return bytes;
}

// Tokens that any state can have seen: the sum with those of a run stays a number.
constexpr int64_t kMaxPosition = int64_t{1} << 48;

// States and activations are walked through again and again: in pages of 2 MiB, where the system grants them,
// the processor finds its way without reading page tables. Only whole such pages are asked for, so the memory
// taken is what was planned.
constexpr size_t kHugePage = size_t{2} << 20;

std::align_val_t alignment_for(size_t bytes) {
  return std::align_val_t{bytes >= 2 * kHugePage ? kHugePage : plan::kAlignment};
}

std::byte* allocate(size_t bytes) {
  auto* p = static_cast<std::byte*>(::operator new[](bytes, alignment_for(bytes), std::nothrow));
  if (p && bytes >= 2 * kHugePage) format::MappedFile::huge_pages({p, bytes / kHugePage * kHugePage});
  return p;
}

MemoryRequired required(const fb::ModelT& model, const Backend& backend, const plan::Plan& plan,
                        const EngineOptions& options) {
  return {weights_bytes(model),
          plan.state_bytes,
          plan.work_bytes,
          backend.overhead_bytes(model, plan, options.threads),
          RowHistory::bytes_required(plan, options.history_bytes),
          options.vectors.bytes()};
}

// Before anything is allocated: systems promise more memory than they have and end the process that touches
// it.
Result<void> check_limit(const MemoryRequired& need, size_t limit) {
  if (limit == 0) limit = default_memory_limit();
  const CheckedSize sum = CheckedSize(need.state_bytes) + need.work_bytes + need.history_bytes +
                          need.backend_bytes + need.vectors_bytes;
  if (sum.within(limit)) return {};
  return fail(
      ErrorCode::kOutOfMemory,
      strf("this needs {} bytes of memory (states {}, work {}, history {}, backend {}, vectors {}) and the "
           "limit is "
           "{}: lower the context, window, chunk or size, or raise the limit (--memory-limit)",
           sum.within(SIZE_MAX) ? std::to_string(*sum.within(SIZE_MAX)) : "more than 2^64", need.state_bytes,
           need.work_bytes, need.history_bytes, need.backend_bytes, need.vectors_bytes, limit));
}

}  // namespace

void Engine::Free::operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{alignment}); }

Result<MemoryRequired> Engine::memory_required(const format::ModelFile& file, const Backend& backend,
                                               const EngineOptions& options) {
  LINNET_TRY(graph::check_model(file.model()));
  LINNET_ASSIGN(const plan::Bounds bounds, bind(file.model(), backend, options));
  LINNET_ASSIGN(const plan::Plan plan, plan_for(file.model(), backend, bounds, options.threads));
  return required(file.model(), backend, plan, options);
}

MemoryRequired Engine::memory() const {
  return {weights_bytes(model()),
          plan_.state_bytes,
          plan_.work_bytes,
          backend_.overhead_bytes(model(), plan_, threads_),
          history_ ? history_->bytes() : 0,
          vectors_.bytes()};
}

Result<std::unique_ptr<Engine>> Engine::create(std::shared_ptr<const format::ModelFile> file,
                                               const Backend& backend, const EngineOptions& options) {
  if (options.threads < 1 || options.threads > 1024)
    return fail(ErrorCode::kInvalidArgument,
                strf("{} threads asked for, expected 1 to 1024", options.threads));
  LINNET_TRY(graph::check_model(file->model()));
  std::unique_ptr<Engine> engine(new Engine(std::move(file), backend));
  engine->threads_ = options.threads;
  engine->vectors_ = options.vectors;
  LINNET_ASSIGN(engine->bounds_, bind(engine->model(), backend, options));
  LINNET_ASSIGN(engine->plan_, plan_for(engine->model(), backend, engine->bounds_, options.threads));
  const plan::Plan& plan = engine->plan_;
  LINNET_TRY(check_limit(required(engine->model(), backend, plan, options), options.memory_limit));
  const auto take = [](std::span<std::byte> given, size_t need, const char* what,
                       std::unique_ptr<std::byte[], Free>& owned) -> Result<std::span<std::byte>> {
    if (given.empty()) {
      const size_t bytes = std::max<size_t>(need, plan::kAlignment);
      owned = {allocate(bytes), Free{static_cast<size_t>(alignment_for(bytes))}};
      if (!owned)
        return fail(
            ErrorCode::kOutOfMemory,
            strf("the system has no {} bytes for the {} memory: lower the window or the chunk", need, what));
      return std::span<std::byte>(owned.get(), need);
    }
    if (given.size() < need || reinterpret_cast<uintptr_t>(given.data()) % plan::kAlignment != 0)
      return fail(
          ErrorCode::kOutOfMemory,
          strf("{} bytes of {} memory given, {} bytes aligned to 64 are needed", given.size(), what, need));
    return given.first(need);
  };
  LINNET_ASSIGN(engine->work_, take(options.work, plan.work_bytes, "work", engine->owned_work_));
  LINNET_ASSIGN(engine->state_, take(options.state, plan.state_bytes, "state", engine->owned_state_));
  // Work is zeroed once so that over-reads and padding are never NaN, and its pages are resident from the
  // start.
  if (!engine->work_.empty()) std::memset(engine->work_.data(), 0, engine->work_.size());
  LINNET_ASSIGN(engine->executable_,
                backend.compile({*engine->file_, engine->bounds_, engine->plan_, options.threads,
                                 engine->work_, engine->state_, engine->vectors_}));
  engine->id_limits_ = id_limits(engine->model());
  engine->state_key_ = key_of(engine->file_->model_id(), engine->model(), plan, engine->bounds_);
  engine->logit_tokens_ = graph::find_symbol(engine->model(), names::kLogitTokens);
  engine->logit_rows_ = logit_rows(engine->model());
  engine->keeps_every_row_ = keeps_every_row(engine->model(), plan, engine->bounds_);
  if (options.history_bytes > 0 && !engine->executable_->host_state().empty())
    engine->history_ = RowHistory::create(plan, options.history_bytes);
  LINNET_TRY(engine->reset());
  return engine;
}

Result<void> Engine::check_usable() const {
  if (poisoned_)
    return fail(ErrorCode::kPoisoned,
                "the session failed earlier and its state is undefined: reset or restore it");
  return {};
}

Result<void> Engine::check_run(size_t method, std::span<const int64_t> symbols) const {
  LINNET_TRY(check_usable());
  LINNET_TRY(file_->check_unchanged());
  if (method >= plan_.methods.size() || symbols.size() != bounds_.symbols.size())
    return fail(ErrorCode::kInvalidArgument, "no such method, or a wrong number of symbol values");
  for (size_t i = 0; i < symbols.size(); ++i) {
    const int64_t least = static_cast<int>(i) == logit_tokens_ ? 0 : 1;
    if (symbols[i] < least || symbols[i] > bounds_.symbols[i])
      return fail(ErrorCode::kInvalidArgument,
                  strf("'{}' is {}, the session was created for {} to {}", model().symbols[i]->name,
                       symbols[i], least, bounds_.symbols[i]));
  }
  for (const LogitRows& rows : logit_rows_[method])
    if (const int64_t wanted = graph::dim_value(rows.wanted, symbols),
        there = graph::dim_value(rows.there, symbols);
        wanted > there)
      return fail(ErrorCode::kInvalidArgument,
                  strf("the logits of the last {} tokens were asked for, and the run has {}", wanted, there));
  return {};
}

void Engine::finish_run(bool ran, int64_t advance) {
  if (!ran) {
    poisoned_ = true;
    return;
  }
  if (history_) history_->follow(executable_->host_state(), position_, position_ + advance);
  position_ += advance;
}

Result<void> Engine::run(size_t method, std::span<const int64_t> symbols, int64_t advance) {
  LINNET_TRY(check_run(method, symbols));
  auto ran = guarded([&] { return executable_->run(method, symbols, position_); });
  finish_run(ran.has_value(), advance);
  return ran;
}

Result<bool> Engine::run_for_largest(size_t method, std::span<const int64_t> symbols, int64_t advance,
                                     size_t value, size_t elements, std::span<Ranked> best) {
  LINNET_TRY(check_run(method, symbols));
  auto ran = guarded(
      [&] { return executable_->run_for_largest(method, symbols, position_, value, elements, best); });
  finish_run(ran.has_value(), advance);
  return ran;
}

Error Engine::diagnose_non_finite(size_t method, std::span<const int64_t> symbols, int64_t position) {
  poisoned_ = true;
  const auto node = executable_->first_non_finite(method, symbols, position);
  const fb::MethodT& source = *model().methods[method];
  std::string where = "a node that a second run could not find";
  if (node && *node >= 0) {
    const fb::NodeT& n = *source.nodes[static_cast<size_t>(*node)];
    where = strf("node '{}' ({})", n.name, graph::op_info(graph::op_kind(n.args.type)).name);
  }
  return {ErrorCode::kNumeric,
          strf("{} of method '{}' gave a value that is not finite at position {}: the weights or "
               "inputs are damaged, or a precision is too small; reset the session to go on",
               where, source.name, position)};
}

Result<void> Engine::write_value(size_t method, size_t value, std::span<const std::byte> bytes) {
  if (const int64_t limit = id_limits_[method][value]; limit > 0) {
    for (size_t i = 0; i < bytes.size() / sizeof(int32_t); ++i) {
      int32_t id;
      std::memcpy(&id, bytes.data() + i * sizeof(id), sizeof(id));
      if (id < 0 || id >= limit)
        return fail(ErrorCode::kInvalidArgument,
                    strf("'{}' holds the id {} at {}, the vocabulary has {}: ids are 0 to {}",
                         model().methods[method]->values[value]->name, id, i, limit, limit - 1));
    }
  }
  return executable_->write_value(method, value, bytes);
}
Result<void> Engine::read_value(size_t method, size_t value, std::span<std::byte> bytes) {
  return executable_->read_value(method, value, bytes);
}

Result<void> Engine::check_slice(const VectorSlice& slice, size_t elements) const {
  std::optional<size_t> planned;
  if (slice.method < 0) {
    if (slice.index < vectors_.elements.size()) planned = vectors_.elements[slice.index];
  } else {
    for (const VectorSlice& value : vectors_.values)
      if (value.method == slice.method && value.index == slice.index)
        planned = plan_.methods[static_cast<size_t>(slice.method)].values[slice.index].bytes / sizeof(float);
  }
  if (!planned)
    return fail(ErrorCode::kInvalidArgument,
                "a vector or value was asked for that the session was not created with");
  if (slice.first <= *planned && elements <= *planned - slice.first) return {};
  return fail(ErrorCode::kInvalidArgument,
              strf("{} elements from {} on were asked for of a vector or value for which {} were planned",
                   elements, slice.first, *planned));
}

Result<void> Engine::check_vector_op(const VectorOp& op) const {
  Result<void> checked;
  const VectorSlice* value = nullptr;
  for_each_slice(op, [&](const VectorSlice& slice) {
    if (checked) checked = check_slice(slice, op.elements);
    if (checked && slice.method >= 0 && value &&
        (slice.method != value->method || slice.index != value->index))
      checked = fail(ErrorCode::kInvalidArgument, "an operation on vectors takes one value of a method");
    if (slice.method >= 0) value = &slice;
  });
  return checked;
}

Result<void> Engine::write_vector(size_t vector, std::span<const float> values) {
  LINNET_TRY(check_slice({-1, vector, 0}, values.size()));
  return executable_->write_vector(vector, values);
}
Result<void> Engine::read_vector(size_t vector, std::span<float> values) {
  LINNET_TRY(check_slice({-1, vector, 0}, values.size()));
  return executable_->read_vector(vector, values);
}

Result<bool> Engine::apply(std::span<const VectorOp> ops, const Watched& watched) {
  LINNET_TRY(check_usable());
  for (const VectorOp& op : ops) LINNET_TRY(check_vector_op(op));
  if (watched.elements > 0) LINNET_TRY(check_slice(watched.slice, watched.elements));
  auto applied = guarded([&] { return executable_->apply(ops, watched); });
  if (!applied) poisoned_ = true;
  return applied;
}

Result<void> Engine::reset() {
  std::memset(state_.data(), 0, state_.size());
  for (size_t i = 0; i < plan_.states.size(); ++i) {
    const plan::StatePlan& state = plan_.states[i];
    const float initial = model().states[i]->initial;
    if (initial == 0.0f) continue;
    std::byte* data = state_.data() + state.offset;
    if (state.dtype == DType::kF32)
      std::fill_n(reinterpret_cast<float*>(data), state.bytes / sizeof(float), initial);
    else if (state.dtype == DType::kF16)
      std::fill_n(reinterpret_cast<uint16_t*>(data), state.bytes / sizeof(uint16_t), f32_to_f16(initial));
  }
  LINNET_TRY(executable_->write_state(state_));
  position_ = 0;
  poisoned_ = false;
  if (history_) history_->restart(state_, 0);
  return {};
}

int64_t Engine::most_position() const {
  const int context = graph::find_symbol(model(), names::kContext);
  const bool bounded =
      bounds_.attention.full && context >= 0 &&
      std::ranges::any_of(plan_.states, [](const plan::StatePlan& s) { return s.ring.has_value(); });
  return bounded ? bounds_.symbols[static_cast<size_t>(context)] : kMaxPosition;
}

int64_t Engine::rewind_floor() const {
  if (poisoned_) return position_;
  if (keeps_every_row_) return 0;
  return history_ ? history_->floor() : position_;
}

Result<void> Engine::rewind(int64_t position) {
  if (position < rewind_floor() || position > position_)
    return fail(ErrorCode::kInvalidArgument,
                strf("cannot go back to token {}: the state at {} can go back to {} at most", position,
                     position_, rewind_floor()));
  if (history_ && position < position_) history_->rewind(executable_->host_state(), position);
  position_ = position;
  return {};
}

Result<void> Engine::snapshot(std::span<std::byte> block) {
  if (poisoned_)
    return fail(ErrorCode::kPoisoned, "a failed session has no state to save: reset or restore it");
  if (block.size() < state_bytes())
    return fail(ErrorCode::kInvalidArgument,
                strf("{} bytes given for a state of {}", block.size(), state_bytes()));
  LINNET_TRY(executable_->read_state(block.first(state_bytes())));
  std::memcpy(block.data(), &position_, sizeof(position_));
  return {};
}

Result<void> Engine::restore(std::span<const std::byte> block) {
  if (block.size() != state_bytes())
    return fail(ErrorCode::kInvalidArgument,
                strf("a state of {} bytes was given, this session's is {}", block.size(), state_bytes()));
  int64_t position;
  std::memcpy(&position, block.data(), sizeof(position));
  if (const int64_t most = most_position(); position < 0 || position > most)
    return fail(ErrorCode::kInvalidFile,
                strf("the state's position is {}, expected 0 to {}: the block is damaged", position, most));
  LINNET_TRY(executable_->write_state(block));
  position_ = position;
  poisoned_ = false;
  if (history_) history_->restart(executable_->host_state(), position);
  return {};
}

}  // namespace linnet
