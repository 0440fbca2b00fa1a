// Pictures from a model file: text to image or class to image, in memory fixed when the session is created.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "linnet/model.h"
#include "linnet/result.h"
#include "linnet/session.h"

namespace linnet {

class Backend;

struct ImageOptions {
  // The largest picture, in pixels; 0: the size the model was trained at.
  int64_t height = 0, width = 0;
  int threads = 1;
  CachePrecision cache = CachePrecision::kF32;  // of the text encoder's keys and values
  int64_t chunk = 128;                          // tokens of a prompt processed at once
  size_t memory_limit = 0;                      // as SessionOptions::memory_limit
};

struct ImageRequest {
  std::string prompt, negative;   // text to image
  int class_label = -1;           // class to image
  int64_t height = 0, width = 0;  // 0: the session's bounds
  int steps = 0;                  // 0: the model's
  float guidance = -1;            // negative: the model's; up to 1: none
  int guidance_channels = -1;     // leading channels that guidance changes; -1: the model's, 0: all
  std::string sampler;            // "": the published one; "ddpm", "ddim", "dpm++", "euler"
  uint64_t seed = 0;
  // The first latents [channels, height, width] of N(0, 1); empty: drawn from the seed as torch.randn draws.
  std::span<const float> latents;
  // Whether ImageStep::latents and preview and ImageResult::latents are filled in. Without them nothing but
  // the picture is read back from a GPU.
  bool with_latents = true;
};

struct ImageStep {
  int step = 0, steps = 0;         // this many are done
  double seconds = 0;              // the last one took
  std::span<const float> latents;  // [channels, height, width], valid during the call
  std::span<const float> preview;  // the clean latents as predicted so far; both empty if not asked for
};
// Return false to stop: generate() then fails with kCancelled.
using OnImageStep = std::function<bool(const ImageStep&)>;

struct ImageResult {
  int channels = 0;
  int64_t height = 0, width = 0;
  std::vector<float> planes;   // [channels, height, width] in [-1, 1]
  std::vector<float> latents;  // what was decoded, before scaling; empty if not asked for
  int64_t prompt_tokens = 0;
  bool truncated = false;  // the prompt had more tokens than the model reads
  double text_seconds = 0, denoise_seconds = 0, decode_seconds = 0;
};

struct ImageMemory {
  size_t weights_bytes = 0;  // mapped; a stage's are given back to the system when it is done
  size_t state_bytes = 0;    // keys and values of the text encoder
  size_t work_bytes = 0;     // one arena for encoder, denoiser and decoder one after another
  size_t buffers_bytes = 0;  // latents, conditioning, sampler, picture
  size_t backend_bytes = 0;
  size_t largest_stage_weights = 0;  // the most of weights_bytes needed at once
};

// Not thread safe. Nothing is allocated between the steps of a picture. The same request gives the same
// picture on any number of threads. Embeddings of the last prompts are kept, and so is what the encoder
// computed for the instruction before them.
class ImageSession {
 public:
  // Errors: kUnsupported for a file that is no image model; kInvalidArgument for a size that is not a
  // multiple of the model's; kOutOfMemory.
  static Result<std::unique_ptr<ImageSession>> create(std::shared_ptr<const Model> model,
                                                      const Backend& backend, const ImageOptions& options);
  static Result<ImageMemory> memory_required(const Model& model, const Backend& backend,
                                             const ImageOptions& options);
  ~ImageSession();

  // Errors: kInvalidArgument (size over the bounds or not a multiple, a class or sampler there is not),
  // kNumeric naming step and node, kCancelled. The session is usable afterwards in any case.
  Result<ImageResult> generate(const ImageRequest& request, const OnImageStep& on_step = {});

  ImageMemory memory() const;
  const Model& model() const;
  const std::vector<std::string>& class_names() const;  // empty: text to image
  int64_t size_multiple() const;
  int64_t default_size() const;  // side in pixels
  int default_steps() const;
  float default_guidance() const;

 private:
  struct Impl;
  explicit ImageSession(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet
