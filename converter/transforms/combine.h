// Linear combinations of checkpoints: averages of a fine-tune's last checkpoints, "soups", task arithmetic,
// and LCSC (Liu et al. 2024, "Linear Combination of Saved Checkpoints"): theta = sum of alpha_i theta_i with
// coefficients of either sign. Sums are in f64, rounded once.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "converter/architectures/importer.h"
#include "linnet/result.h"

namespace linnet::convert {

// A coefficient for each checkpoint, by patterns of tensors' names (with * and ?); the last that fits counts.
using Coefficients = std::vector<std::pair<std::string, std::vector<double>>>;

// `text`: numbers with commas between ("1.9,-1.4,0.5"), or the path of a JSON file: a list of numbers, or an
// object from patterns to lists. Errors: kInvalidArgument for what is no such list, or not of `count` finite
// numbers.
Result<Coefficients> read_coefficients(const std::string& text, size_t count);

// The combination of `sets`, which have the same tensors. Errors: kInvalidArgument with every tensor that is
// not in all of them or not of one shape, a tensor that no pattern fits.
Result<std::unique_ptr<TensorSet>> combined_tensors(std::vector<std::unique_ptr<TensorSet>> sets,
                                                    Coefficients coefficients);

}  // namespace linnet::convert
