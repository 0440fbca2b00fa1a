// What a file's image pipeline says, checked: its methods and what they take, its samplers.
#pragma once

#include <string>

#include "format/model_generated.h"
#include "linnet/result.h"

namespace linnet::image {

struct Denoiser {
  size_t method = 0, latents = 0, timestep = 0, output = 0;
  int text = -1, mask = -1, label = -1, guidance = -1;
  int64_t channels = 0, outputs = 0, patch = 1;
};
Result<Denoiser> find_denoiser(const fb::ModelT& model);

// `method` is -1 where the denoiser works on pixels.
struct Decoder {
  int method = -1;
  size_t input = 0, output = 0;
};
Result<Decoder> find_decoder(const fb::ModelT& model, const Denoiser& denoiser);

// The published sampler under another name; "" is its own. `variance`: the denoiser predicts one.
Result<fb::SchedulerT> choose_sampler(const fb::SchedulerT& published, const std::string& name,
                                      bool variance);
// The most that Scheduler::clean_vectors() of a sampler chosen so can be.
size_t most_clean_vectors(const fb::SchedulerT& published);

// Bytes of the weights that a method reads. Of a table that only looks up ids, the panels that so many ids
// can touch at most: the others stay on disk.
size_t weights_of(const fb::ModelT& model, size_t method, int64_t ids);

}  // namespace linnet::image
