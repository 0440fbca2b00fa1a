// A diffusers folder as one Linnet file.
#pragma once

#include "converter/convert.h"

namespace linnet::convert {

// True for a folder with model_index.json, or with a transformer/, vae/ or text_encoder/ folder.
bool is_image_folder(const std::string& path);

// Converts what the folder has. With model_index.json, every component that the pipeline names must be there.
Result<ConvertReport> convert_image(const ConvertOptions& options);

}  // namespace linnet::convert
