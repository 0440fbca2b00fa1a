#pragma once

#include "converter/architectures/row_source.h"
#include "converter/readers/checkpoint.h"

namespace linnet::convert {

// A checkpoint's tensor as rows. The checkpoint must outlive it.
Rows checkpoint_rows(const Checkpoint& checkpoint, const TensorInfo& tensor);

}  // namespace linnet::convert
