#include <cstdio>

#include "backends/cpu/cpu.h"
#include "linnet/linnet.h"

extern "C" const linnet_backend* linnet_backend_cpu(linnet_error* error) {
  const auto backend = linnet::cpu_backend();
  if (error) {
    error->status = backend ? LINNET_OK : LINNET_INVALID_ARGUMENT;
    std::snprintf(error->message, sizeof(error->message), "%s",
                  backend ? "" : backend.error().message.c_str());
  }
  return backend ? reinterpret_cast<const linnet_backend*>(*backend) : nullptr;
}
