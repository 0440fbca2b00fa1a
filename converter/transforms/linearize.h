// Turns a softmax checkpoint into a recurrent form by its configuration: the importers of those forms do the
// rest. What was trained for the form comes as an adapter (transforms/adapter.h).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "converter/source.h"

namespace linnet::convert {

// form: "liger" (half GLA, half window: no new weights, a LoRA recovers the quality), "lolcats" (window and
// feature maps under one normaliser; the adapter has the maps), "window" (window, sinks and a gated state
// under one normaliser; the adapter has its parameters), or empty: merge the adapter and leave the form.
// adapters: folders and the weights of what they add (1: as they were trained), merged one after another; the
// first may belong to the form. Errors: kInvalidArgument for two that replace the same tensor: kUnsupported
// for a model or a form that needs an adapter; those of read_adapter() and adapt().
using AdapterFolders = std::vector<std::pair<std::string, double>>;
Result<void> linearize(Source& source, const std::string& form, const AdapterFolders& adapters);

}  // namespace linnet::convert
