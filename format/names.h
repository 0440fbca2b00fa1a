// The names in a model file that mean something to the runtime. Every other name is for people.
#pragma once

namespace linnet::names {

// Methods.
inline constexpr char kForward[] = "forward";           // a language model: input_ids to logits
inline constexpr char kEncodeText[] = "encode_text";    // a prompt: input_ids to hidden states
inline constexpr char kDenoise[] = "denoise";           // one call of an image model's denoiser
inline constexpr char kDecodeImage[] = "decode_image";  // latents to an image

// Symbols.
inline constexpr char kTokens[] = "tokens";             // fed in one run
inline constexpr char kLogitTokens[] = "logit_tokens";  // of these, the last ones whose logits are wanted
inline constexpr char kContext[] = "context";           // rows of the rings of keys and values
inline constexpr char kTextTokens[] = "text_tokens";    // of a prompt, without padding
inline constexpr char kHeight[] = "height";             // of an image, in units of the model's coarsest grid
inline constexpr char kWidth[] = "width";

// Inputs and outputs of these methods.
inline constexpr char kInputIds[] = "input_ids";
inline constexpr char kAttentionMask[] = "attention_mask";
inline constexpr char kLogits[] = "logits";
inline constexpr char kLatents[] = "latents";
inline constexpr char kTimestep[] = "timestep";
inline constexpr char kClassLabels[] = "class_labels";
inline constexpr char kGuidance[] = "guidance";
inline constexpr char kEncoderHiddenStates[] = "encoder_hidden_states";
inline constexpr char kEncoderAttentionMask[] = "encoder_attention_mask";

}  // namespace linnet::names
