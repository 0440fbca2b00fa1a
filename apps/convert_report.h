// linnet convert --report: one page, whole in itself, on what a conversion made.
#pragma once

#include <string>

#include "converter/convert.h"

namespace linnet::app {

// Errors: those of the output file.
Result<void> write_report(const std::string& path, bool replace, const convert::ConvertOptions& options,
                          const convert::ConvertReport& report);

}  // namespace linnet::app
