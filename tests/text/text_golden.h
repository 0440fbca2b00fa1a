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

inline TokenizerSpec read_spec(const std::string& path) {
  const auto json = nlohmann::json::parse(read_bytes(path));
  TokenizerSpec spec;
  spec.kind = static_cast<TokenizerKind>(json.at("kind").get<int>());
  for (const auto& piece : json.at("pieces")) spec.pieces.push_back(from_latin(piece.get<std::string>()));
  spec.scores = json.value("scores", std::vector<float>());
  for (const auto& kind : json.value("kinds", std::vector<int>()))
    spec.kinds.push_back(static_cast<TokenKind>(kind));
  spec.merges = json.value("merges", std::vector<uint32_t>());
  for (const auto& t : json.value("added_tokens", nlohmann::json::array()))
    spec.added_tokens.push_back({t.at("id").get<uint32_t>(), t.at("content").get<std::string>(),
                                 t.value("special", false), t.value("lstrip", false),
                                 t.value("rstrip", false), t.value("single_word", false),
                                 t.value("normalized", false)});
  for (const auto& s : json.value("pre_tokenizer", nlohmann::json::array()))
    spec.pre_tokenizer.push_back({s.at("pattern").get<std::string>(), s.at("invert").get<bool>(),
                                  static_cast<SplitBehavior>(s.at("behavior").get<int>())});
  spec.normalization = json.value("normalization", "");
  spec.add_prefix_space = json.value("add_prefix_space", false);
  spec.add_dummy_prefix = json.value("add_dummy_prefix", false);
  spec.remove_extra_whitespaces = json.value("remove_extra_whitespaces", false);
  spec.escape_whitespaces = json.value("escape_whitespaces", false);
  spec.byte_fallback = json.value("byte_fallback", false);
  spec.ignore_merges = json.value("ignore_merges", false);
  spec.bos_id = json.value("bos_id", -1);
  spec.eos_id = json.value("eos_id", -1);
  spec.unknown_id = json.value("unknown_id", -1);
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
