// linnet eval --pictures: how far the pictures of one file of an image model are from another's, at equal
// seeds.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "linnet/image.h"

namespace linnet::app {

struct PictureComparison {
  std::string path, against, prompts;  // prompts: a file, a prompt (or the number of a class) a line
  int steps = 0, threads = 1;
  int64_t size = 0;   // side in pixels; 0: the model's
  uint64_t seed = 0;  // of the first prompt; each that follows has the next
};

// PSNR in dB, of pictures as 8 bits a channel store them: mean, least; and how far the latents are, squared,
// as a share of their square. `progress`: false stops. Errors: those of opening and of pictures; kInvalidFile
// for a file without prompts; kInvalidArgument for models of different pictures.
Result<nlohmann::ordered_json> compare_pictures(
    const PictureComparison& options, const Backend& backend,
    const std::function<bool(uint64_t done, uint64_t total)>& progress);
void print_pictures(const nlohmann::ordered_json& report);

}  // namespace linnet::app
