#include "apps/png/png.h"

#include <png.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>

#include "format/output_file.h"
#include "runtime/core/strings.h"

namespace linnet::app {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

// libpng reports errors by a jump over its own frames; the message is kept for the Error.
void on_error(png_structp png, png_const_charp message) {
  auto* text = static_cast<std::string*>(png_get_error_ptr(png));
  try {
    *text = message;
  } catch (...) {  // no memory for it, and no exception may cross libpng
    text->clear();
  }
  png_longjmp(png, 1);
}
void on_warning(png_structp, png_const_charp) {}

// No exception may pass through libpng.
void take_bytes(png_structp png, png_bytep data, size_t bytes) {
  auto* out = static_cast<std::vector<std::byte>*>(png_get_io_ptr(png));
  bool taken = true;
  try {
    const auto* begin = reinterpret_cast<const std::byte*>(data);
    out->insert(out->end(), begin, begin + bytes);
  } catch (const std::bad_alloc&) {
    taken = false;
  }
  if (!taken) png_error(png, "out of memory");
}
void flush_nothing(png_structp) {}

// Only plain values live across the jump: everything with a destructor belongs to the callers.
bool write_all(png_structp png, png_infop info, std::vector<std::byte>& out, const Picture& picture,
               png_textp text, int texts) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_write_fn(png, &out, take_bytes, flush_nothing);
  png_set_IHDR(png, info, static_cast<png_uint_32>(picture.width), static_cast<png_uint_32>(picture.height),
               8, picture.channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (texts > 0) png_set_text(png, info, text, texts);
  png_write_info(png, info);
  for (int y = 0; y < picture.height; ++y)
    png_write_row(png, picture.pixels.data() + static_cast<size_t>(y) * static_cast<size_t>(picture.width) *
                                                   static_cast<size_t>(picture.channels));
  png_write_end(png, nullptr);
  return true;
}

bool read_head(png_structp png, png_infop info, std::FILE* file) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_init_io(png, file);
  png_read_info(png, info);
  return true;
}
bool read_rows(png_structp png, png_infop info, Picture& picture) {
  if (setjmp(png_jmpbuf(png))) return false;
  for (int y = 0; y < picture.height; ++y)
    png_read_row(png,
                 picture.pixels.data() + static_cast<size_t>(y) * static_cast<size_t>(picture.width) *
                                             static_cast<size_t>(picture.channels),
                 nullptr);
  png_read_end(png, info);
  return true;
}

}  // namespace

Picture to_picture(std::span<const float> planes, int channels, int height, int width) {
  Picture picture{width, height, channels, {}};
  const size_t area = static_cast<size_t>(height) * static_cast<size_t>(width);
  picture.pixels.resize(area * static_cast<size_t>(channels));
  for (size_t c = 0; c < static_cast<size_t>(channels); ++c)
    for (size_t i = 0; i < area; ++i) {
      const float x = std::clamp(planes[c * area + i] / 2 + 0.5f, 0.0f, 1.0f);
      picture.pixels[i * static_cast<size_t>(channels) + c] =
          static_cast<uint8_t>(std::nearbyint(x * 255.0f));
    }
  return picture;
}

Result<void> write_png(const std::string& path, const Picture& picture, const TextChunks& text,
                       bool replace) {
  if (picture.width < 1 || picture.height < 1 || (picture.channels != 1 && picture.channels != 3) ||
      picture.pixels.size() != static_cast<size_t>(picture.width) * static_cast<size_t>(picture.height) *
                                   static_cast<size_t>(picture.channels))
    return fail(ErrorCode::kInvalidArgument, "a picture's size and its pixels disagree");
  for (const auto& [key, value] : text)
    if (key.empty() || key.size() > 79)
      return fail(ErrorCode::kInvalidArgument,
                  strf("the PNG text key '{}' must have 1 to 79 characters", key));
  std::vector<png_text> chunks(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    chunks[i].compression = PNG_ITXT_COMPRESSION_NONE;
    chunks[i].key = const_cast<char*>(text[i].first.c_str());
    chunks[i].text = const_cast<char*>(text[i].second.c_str());
    chunks[i].itxt_length = text[i].second.size();
  }
  std::string message = "out of memory";
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &message, on_error, on_warning);
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  std::vector<std::byte> bytes;
  const bool written =
      info && write_all(png, info, bytes, picture, chunks.data(), static_cast<int>(chunks.size()));
  png_destroy_write_struct(&png, &info);
  if (!written)
    return fail(ErrorCode::kOutOfMemory, strf("the picture '{}' could not be compressed: {}", path, message));
  return format::write_file(path, {bytes}, {.replace = replace, .stream = true});
}

Result<Picture> read_png(const std::string& path, TextChunks* text) {
  File file(std::fopen(path.c_str(), "rb"));
  if (!file) return fail(ErrorCode::kNotFound, strf("cannot read '{}': {}", path, std::strerror(errno)));
  std::string message = "out of memory";
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &message, on_error, on_warning);
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  Picture picture;
  bool read = info && read_head(png, info, file.get());
  if (read) {
    picture.width = static_cast<int>(png_get_image_width(png, info));
    picture.height = static_cast<int>(png_get_image_height(png, info));
    picture.channels = png_get_channels(png, info);
    const bool known = png_get_bit_depth(png, info) == 8 &&
                       (picture.channels == 1 || picture.channels == 3) && picture.width <= 1 << 16 &&
                       picture.height <= 1 << 16;
    if (!known) message = "it is not 8-bit grey or RGB of a sane size";
    read = known;
  }
  if (read) {
    picture.pixels.resize(static_cast<size_t>(picture.width) * static_cast<size_t>(picture.height) *
                          static_cast<size_t>(picture.channels));
    read = read_rows(png, info, picture);
  }
  png_textp chunks = nullptr;
  int count = 0;
  if (read && text) png_get_text(png, info, &chunks, &count);
  for (int i = 0; i < count; ++i) text->emplace_back(chunks[i].key, chunks[i].text);
  png_destroy_read_struct(&png, &info, nullptr);
  if (!read) return fail(ErrorCode::kInvalidFile, strf("'{}' cannot be read as PNG: {}", path, message));
  return picture;
}

}  // namespace linnet::app
