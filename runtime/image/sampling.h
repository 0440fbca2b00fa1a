// The steps of a picture: runs of the denoiser, and what guidance and the sampler do between them to vectors
// that stay where the model runs.
#pragma once

#include <chrono>

#include "linnet/image.h"
#include "runtime/engine/engine.h"
#include "runtime/image/noise.h"
#include "runtime/image/pipeline.h"
#include "runtime/image/prompt.h"
#include "runtime/image/scheduler.h"

namespace linnet::image {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What the denoiser is told a picture is of.
struct Guided {
  const Conditioning *text = nullptr, *without = nullptr;
  int label = -1;
  float guidance = 1;
  size_t channels = 0;  // that guidance changes, times their area
  bool twice = false;   // the denoiser also runs without an instruction
};

// Allocates nothing after it is made. Not thread safe.
class Sampling {
 public:
  // For pictures with up to `area` latents in a channel: what the engine keeps, and floats of the host's own.
  static VectorPlan vectors(const fb::ModelT& model, const Denoiser& denoiser, const Decoder& decoder,
                            size_t area);
  static size_t host_floats(const Denoiser& denoiser, size_t area);

  // The engine was made with vectors() and outlives this.
  Sampling(Engine& engine, const Denoiser& denoiser, const Decoder& decoder, size_t area);

  // From the first noise to the last sample, of `area` latents in a channel. `symbols` are the picture's;
  // those of the text are set here.
  Result<void> run(const Guided& guided, const Scheduler& scheduler, const ImageRequest& request, size_t area,
                   std::vector<int64_t>& symbols, const OnImageStep& on_step);
  // Of the last run: its sample for the host, and as the decoder takes it.
  Result<void> read_sample(std::span<float> sample);
  Result<void> give_to_decoder();

 private:
  struct Trajectory;
  Result<void> start(Trajectory& t, const ImageRequest& request);
  Result<void> step(Trajectory& t, int i);
  Result<void> call(Trajectory& t, const Conditioning* text, int label, float timestep, float guidance);
  Result<void> apply(const Trajectory& t);

  const fb::ImagePipelineT& pipeline() const { return *engine_.model().image; }

  Engine& engine_;
  Denoiser denoiser_;
  Decoder decoder_;
  int text_symbol_;
  SamplerVectors vectors_;
  VectorSlice input_, output_;                  // the denoiser's
  std::vector<float> drawn_, shown_, preview_;  // noise; what a callback sees
  std::vector<float> mask_;                     // of a text's tokens: all count
  std::vector<VectorOp> ops_;
};

}  // namespace linnet::image
