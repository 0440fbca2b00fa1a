#include <array>
#include <memory>
#include <string>

#include "backends/cpu/cpu.h"
#include "backends/cpu/kernels.h"
#include "backends/host/host_backend.h"
#include "runtime/core/strings.h"

namespace linnet {
namespace {

// Everything about one target; immutable once made.
struct TargetBackend {
  explicit TargetBackend(cpu::CpuTarget target)
      : constants{target, &cpu::matmul_kernels(target)},
        backend(strf("cpu ({})", cpu::target_name(target)),
                host::KernelTable{{
#define LINNET_OP(pascal, snake, equation) cpu::kernel_##snake(target),
#include "runtime/graph/ops.def"
#undef LINNET_OP
                }},
                &constants, true) {
  }
  cpu::CpuConstants constants;
  host::HostBackend backend;
};

struct Backends {
  Backends() {
    for (const cpu::CpuTarget target : cpu::supported_targets())
      by_target[static_cast<size_t>(target)] = std::make_unique<TargetBackend>(target);
  }
  std::array<std::unique_ptr<TargetBackend>, cpu::kCpuTargetCount> by_target;
};

}  // namespace

const Backend& cpu_backend(cpu::CpuTarget target) {
  static const Backends backends;
  return backends.by_target[static_cast<size_t>(target)]->backend;
}

Result<const Backend*> cpu_backend() {
  LINNET_ASSIGN(const cpu::CpuTarget target, cpu::target_from_environment());
  return &cpu_backend(target);
}

const BackendFactory& cpu_factory() {
  static const BackendFactory factory{"cpu", "this machine's processor", BackendKind::kHost,
                                      [](const BackendOptions&) -> Result<std::shared_ptr<const Backend>> {
                                        LINNET_ASSIGN(const Backend* backend, cpu_backend());
                                        return borrowed(*backend);
                                      },
                                      [] {
                                        std::vector<const Backend*> forms;
                                        for (const cpu::CpuTarget target : cpu::supported_targets())
                                          forms.push_back(&cpu_backend(target));
                                        return forms;
                                      }};
  return factory;
}

}  // namespace linnet
