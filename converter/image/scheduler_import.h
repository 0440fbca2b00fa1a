// A diffusers scheduler_config.json as the file's sampler.
#pragma once

#include <string>

#include "converter/readers/json.h"
#include "format/model_generated.h"

namespace linnet::convert {

// DDPM, DDIM, DPMSolverMultistep, FlowMatchEulerDiscrete and SCM schedulers. `what` names the file. Errors:
// kUnsupported for another class or for a value that would change the pictures and that Linnet lacks, by
// name.
Result<fb::SchedulerT> import_scheduler(const Json& config, const std::string& what);

}  // namespace linnet::convert
