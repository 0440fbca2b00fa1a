// What a processor must offer to run a planned model. Apps and tests name a concrete backend and pass it in.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "format/container.h"
#include "linnet/ranked.h"
#include "linnet/result.h"
#include "runtime/engine/vectors.h"
#include "runtime/plan/plan.h"

namespace linnet {

// Everything a backend needs to prepare a session. All references outlive the executable.
struct Compilation {
  const format::ModelFile& file;  // file.model() and file.weight_bytes(i)
  const plan::Bounds& bounds;
  const plan::Plan& plan;
  int threads = 1;
  // Host memory of the plan's sizes, 64-byte aligned; a device backend may leave `work` unused.
  std::span<std::byte> work;
  std::span<std::byte> state;
  const VectorPlan& vectors;
};

// A model prepared for one session. Not thread safe: one run at a time. Allocates nothing after creation.
class Executable {
 public:
  virtual ~Executable() = default;

  // Runs a method with actual symbol values (each <= its bound). `position`: tokens the state has seen.
  // An error leaves values and states undefined: the session is poisoned.
  virtual Result<void> run(size_t method, std::span<const int64_t> symbols, int64_t position) = 0;

  // As run(), and gives the largest of the first `elements` of the f32 output `value`, in order: as many as
  // `best` has, at least one and at most kMostRanked or `elements`. False if one of the elements is not
  // finite. The rest of the value may stay where it is: host_value() is then empty until the next run, and
  // read_value() fetches it. This default needs host_value().
  virtual Result<bool> run_for_largest(size_t method, std::span<const int64_t> symbols, int64_t position,
                                       size_t value, size_t elements, std::span<Ranked> best);

  // After a run whose output was not finite: runs again with the same arguments and returns the index of the
  // first node with a non-finite f32 output, or -1. Upstream of the source every state is still finite, so
  // the first such node is the source or the mixer that kept its damage. Values and states stay undefined.
  virtual Result<int> first_non_finite(size_t method, std::span<const int64_t> symbols, int64_t position) = 0;

  // Copies a whole input or output value; `bytes` is at most its planned size.
  virtual Result<void> write_value(size_t method, size_t value, std::span<const std::byte> bytes) = 0;
  virtual Result<void> read_value(size_t method, size_t value, std::span<std::byte> bytes) = 0;
  // The value's memory if the host can address it, else empty: saves a copy of the logits.
  virtual std::span<const std::byte> host_value(size_t method, size_t value) = 0;

  // Copies the first elements of a vector of the plan's.
  virtual Result<void> write_vector(size_t vector, std::span<const float> values) = 0;
  virtual Result<void> read_vector(size_t vector, std::span<float> values) = 0;
  // Does the operations in order. False, and nothing done, if a watched element is not finite. The engine has
  // seen to it that slices are within what was planned.
  virtual Result<bool> apply(std::span<const VectorOp> ops, const Watched& watched) = 0;

  // The state block, in the plan's layout whatever the backend, so that a conversation can move between them.
  virtual Result<void> write_state(std::span<const std::byte> block) = 0;
  virtual Result<void> read_state(std::span<std::byte> block) = 0;
  // The live block if the host can address it, else empty.
  virtual std::span<std::byte> host_state() { return {}; }
};

class DeviceMeter;

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;
  // True if the op has a kernel here. A missing one makes session creation fail, naming the op.
  virtual bool supports(graph::OpKind kind) const = 0;
  // True if it runs the plan's row segments (plan/rows.h); otherwise no plan has any.
  virtual bool runs_in_bands() const { return false; }
  // True if states of recurrent layers can be kept in this type (one of kStateTypes) here.
  virtual bool keeps_states_in(DType) const { return true; }
  // What a device of its own counts and measures (runtime/engine/device_meter.h); null: it has none.
  virtual const DeviceMeter* meter() const { return nullptr; }
  // Scratch of one node at the bounds; `partial` has the states planned already.
  virtual size_t scratch_bytes(const fb::ModelT& model, const plan::Bounds& bounds, size_t method,
                               size_t node, const plan::Plan& partial, int threads) const = 0;
  virtual Result<std::unique_ptr<Executable>> compile(const Compilation& compilation) const = 0;
  // Memory the backend itself will take outside the plan (thread pool, device copies), in bytes, for the
  // print.
  virtual size_t overhead_bytes(const fb::ModelT& model, const plan::Plan& plan, int threads) const = 0;
};

}  // namespace linnet
