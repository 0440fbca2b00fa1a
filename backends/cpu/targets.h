// The instruction sets the CPU backend has kernels for. A build without any -march flag carries all that its
// architecture has and chooses when a session is created.
#pragma once

#include <span>
#include <string_view>

#include "backends/cpu/targets_enum.h"
#include "linnet/result.h"

namespace linnet::cpu {

// As targets.def has it: "portable", "avx2" and so on.
std::string_view target_name(CpuTarget target);

// What this machine and this build can run, slowest first; never empty. Constant for the process.
std::span<const CpuTarget> supported_targets();

// The last of supported_targets().
CpuTarget detect_best_target();

// The target called `name`. kInvalidArgument for an unknown name, kUnsupported for one this machine or this
// build lacks; both messages list what there is.
Result<CpuTarget> target_from_name(std::string_view name);

// The target named by the environment variable LINNET_CPU_TARGET, or the best one where it is unset or empty.
Result<CpuTarget> target_from_environment();

}  // namespace linnet::cpu
