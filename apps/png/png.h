// Pictures as PNG files with text chunks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "linnet/result.h"

namespace linnet::app {

// 8-bit pixels, row by row, channels interleaved: 1 (grey) or 3 (RGB).
struct Picture {
  int width = 0, height = 0, channels = 3;
  std::vector<uint8_t> pixels;
};

// From planes in [-1, 1], [channels, height, width], as diffusers rounds: clamp(x / 2 + 1/2) * 255, to
// nearest.
Picture to_picture(std::span<const float> planes, int channels, int height, int width);

using TextChunks = std::vector<std::pair<std::string, std::string>>;

// As format::OutputFile writes: whole or not at all; a pipe or a character device takes it too; without
// `replace` a file that is there is refused. Text is UTF-8 (iTXt); keys of 1 to 79 Latin-1 characters.
// Errors: those of the output, kInvalidArgument, kOutOfMemory.
Result<void> write_png(const std::string& path, const Picture& picture, const TextChunks& text,
                       bool replace = true);
// For tests and for reading back what a picture was made with. Grey or RGB of 8 bits as write_png writes
// them.
Result<Picture> read_png(const std::string& path, TextChunks* text = nullptr);

}  // namespace linnet::app
