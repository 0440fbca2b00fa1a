// The goldens of tests/oracles/text_tokenizers.py.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "converter/readers/json.h"
#include "converter/sentencepiece_model.h"
#include "converter/tokenizer_import.h"
#include "runtime/session/tokenizer_io.h"
#include "runtime/text/tokenizer.h"

namespace linnet::text {

inline std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Bytes that the golden writes as the characters U+0000 to U+00FF.
inline std::string from_latin(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) out += static_cast<char>(next_char(text, at));
  return out;
}

// The tokenizer of `name` in the folder, from the file a checkpoint would hold.
inline Result<TokenizerSpec> read_tokenizer(const std::string& folder, const std::string& name) {
  const std::string path = folder + "/" + name;
  if (std::filesystem::exists(path + ".tokenizer.json")) {
    LINNET_ASSIGN(const convert::Json json, convert::read_json(path + ".tokenizer.json"));
    LINNET_ASSIGN(const fb::TokenizerT table, convert::import_tokenizer_json(json, name));
    return from_fb(table);
  }
  if (std::filesystem::exists(path + ".model")) {
    const std::string bytes = read_bytes(path + ".model");
    LINNET_ASSIGN(const fb::TokenizerT table,
                  convert::import_sentencepiece(std::as_bytes(std::span(bytes)), name));
    return from_fb(table);
  }
  if (std::filesystem::exists(path + ".gguf")) {
    LINNET_ASSIGN(const convert::Gguf gguf, convert::Gguf::open(path + ".gguf"));
    convert::Source source;
    LINNET_TRY(convert::import_gguf_text(gguf, name, source));
    if (source.tokenizer) return from_fb(*source.tokenizer);
  }
  const auto json = nlohmann::json::parse(read_bytes(path + ".spec.json"));
  TokenizerSpec spec;
  spec.kind = static_cast<TokenizerKind>(json.at("kind").get<int>());
  for (const auto& piece : json.at("pieces")) spec.pieces.push_back(from_latin(piece.get<std::string>()));
  for (const auto& kind : json.at("kinds").get<std::vector<int>>())
    spec.kinds.push_back(static_cast<TokenKind>(kind));
  return spec;
}

inline std::vector<std::string> read_strings(const std::string& path) {
  const std::string bytes = read_bytes(path);
  std::vector<std::string> out;
  for (size_t at = 0; at + 2 <= bytes.size();) {
    const size_t size = static_cast<unsigned char>(bytes[at]) |
                        static_cast<size_t>(static_cast<unsigned char>(bytes[at + 1])) << 8;
    out.push_back(bytes.substr(at + 2, size));
    at += 2 + size;
  }
  return out;
}

inline uint32_t crc32(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

inline std::vector<uint32_t> read_checksums(const std::string& path) {
  const std::string bytes = read_bytes(path);
  std::vector<uint32_t> out(bytes.size() / 4);
  for (size_t i = 0; i < out.size(); ++i)
    for (size_t b = 0; b < 4; ++b)
      out[i] |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[4 * i + b])) << 8 * b;
  return out;
}

}  // namespace linnet::text
