// The executor that reference and cpu share: walks a method's nodes and calls one kernel each. A backend is a
// table of kernels.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/host/kernel.h"
#include "runtime/engine/backend.h"
#include "runtime/plan/shapes.h"

namespace linnet::host {

using KernelTable = std::array<Kernel, graph::kOpCount>;

// Operands without their addresses.
std::vector<Tensor> tensors(std::span<const plan::TensorShape> shapes);

class HostBackend final : public Backend {
 public:
  // `constants` is handed to every kernel and must outlive the backend's executables.
  HostBackend(std::string name, const KernelTable& table, const void* constants, bool parallel)
      : name_(std::move(name)), table_(table), constants_(constants), parallel_(parallel) {}

  std::string_view name() const override { return name_; }
  bool supports(graph::OpKind kind) const override {
    return table_[static_cast<size_t>(kind)].run != nullptr;
  }
  bool runs_in_bands() const override { return true; }
  size_t scratch_bytes(const fb::ModelT& model, const plan::Bounds& bounds, size_t method, size_t node,
                       const plan::Plan& partial, int threads) const override;
  Result<std::unique_ptr<Executable>> compile(const Compilation& compilation) const override;
  size_t overhead_bytes(const fb::ModelT& model, const plan::Plan& plan, int threads) const override;

  // For running single nodes outside a session (the converter's self test).
  const Kernel& kernel(graph::OpKind kind) const { return table_[static_cast<size_t>(kind)]; }
  const void* constants() const { return constants_; }

 private:
  std::string name_;
  KernelTable table_;
  const void* constants_;
  bool parallel_;  // false: the reference backend, which stays on one thread
};

}  // namespace linnet::host
