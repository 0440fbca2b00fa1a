#include <cstdio>

#include "backends/cpu/cpu.h"
#include "linnet/linnet.h"
#include "runtime/core/guard.h"

extern "C" const linnet_backend* linnet_backend_cpu(linnet_error* error) {
  const auto backend = linnet::guarded([] { return linnet::cpu_backend(); });
  if (error) {
    error->status = backend                                                   ? LINNET_OK
                    : backend.error().code == linnet::ErrorCode::kOutOfMemory ? LINNET_OUT_OF_MEMORY
                                                                              : LINNET_INVALID_ARGUMENT;
    std::snprintf(error->message, sizeof(error->message), "%s",
                  backend ? "" : backend.error().message.c_str());
  }
  return backend ? reinterpret_cast<const linnet_backend*>(*backend) : nullptr;
}
