// Components of image models, each as one method of the file. Names of inputs and outputs are those people
// know from diffusers.
#pragma once

#include "converter/architectures/importer.h"

namespace linnet::convert {

// What a pipeline must know of the components it strings together.
struct ImageFacts {
  int64_t latent_channels = 0, latent_size = 0, patch = 1;
  double timestep_scale = 1, guidance_input = 0;
  int64_t classes = 0;  // 0: text to image
  int64_t guidance_channels = 0;
  int64_t pixels_per_latent = 1;
  double latent_scale = 1, latent_shift = 0;
  bool decodes = false;
};

// Method "denoise": latents [channels, height, width], timestep [1], then class_labels [1] or
// encoder_hidden_states [text_tokens, width] and encoder_attention_mask [text_tokens], and guidance [1] where
// the model takes it; output [channels, height, width].
void import_sana(Importer& in, ImageFacts& facts);
void import_pixart(Importer& in, ImageFacts& facts);
// Softmax DiT, and LiT where the configuration has linear_attention_heads. diffusers' or the original names.
void import_dit(Importer& in, ImageFacts& facts);

// Method "decode_image": latents [channels, height, width]; image [3, height * k, width * k].
void import_dc_decoder(Importer& in, ImageFacts& facts);
void import_kl_decoder(Importer& in, ImageFacts& facts);

// Method "encode_text": input_ids; hidden_states [tokens, width] after the last norm. T5 also takes
// attention_mask, since its tokens see those after them.
void import_gemma2_encoder(Importer& in);
void import_t5_encoder(Importer& in);

}  // namespace linnet::convert
