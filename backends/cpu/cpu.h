// The CPU backend: vector kernels for one instruction set, chosen when a session is created.
#pragma once

#include "backends/cpu/targets.h"
#include "linnet/result.h"
#include "runtime/engine/backend_factory.h"

namespace linnet {

// The backend with the kernels of `target`, which must be one of cpu::supported_targets(). Named "cpu
// (avx512vnni)" and so on. Stateless: one instance serves any number of sessions and threads and lives as
// long as the process. Results do not depend on the number of threads, bit for bit; they differ between
// targets by the rounding of sums.
const Backend& cpu_backend(cpu::CpuTarget target);

// The same for the target that the environment variable LINNET_CPU_TARGET names, or the best one this machine
// has. Errors: kInvalidArgument, kUnsupported (a target this machine or build lacks; the message lists those
// it has).
Result<const Backend*> cpu_backend();

// Its forms are the supported targets.
const BackendFactory& cpu_factory();

}  // namespace linnet
