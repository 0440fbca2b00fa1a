#include "backends/host/host_backend.h"
#include "backends/reference/kernels.h"
#include "backends/reference/reference.h"

namespace linnet {

const Backend& reference_backend() {
  static const host::HostBackend backend("reference",
                                         host::KernelTable{{
#define LINNET_OP(pascal, snake, equation) reference::kernel_##snake(),
#include "runtime/graph/ops.def"
#undef LINNET_OP
                                         }},
                                         nullptr, false);
  return backend;
}

const BackendFactory& reference_factory() {
  static const BackendFactory factory{"reference", "slow, defines the truth", BackendKind::kTruth,
                                      [](const BackendOptions&) -> Result<std::shared_ptr<const Backend>> {
                                        return borrowed(reference_backend());
                                      },
                                      nullptr};
  return factory;
}

}  // namespace linnet
