#include "converter/sentencepiece_model.h"

#include <cstring>

#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

// Protobuf's wire format, forwards only.
class Fields {
 public:
  explicit Fields(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint32_t number = 0, wire = 0;
  uint64_t value = 0;                 // varint and fixed types
  std::span<const std::byte> inside;  // length-delimited
  bool damaged = false;

  bool next() {
    if (at_ >= bytes_.size()) return false;
    const uint64_t tag = varint();
    number = static_cast<uint32_t>(tag >> 3);
    wire = static_cast<uint32_t>(tag & 7);
    switch (wire) {
      case 0:
        value = varint();
        break;
      case 1:
        value = fixed(8);
        break;
      case 5:
        value = fixed(4);
        break;
      case 2: {
        const uint64_t length = varint();
        if (length > bytes_.size() - at_)
          damaged = true;
        else {
          inside = bytes_.subspan(at_, length);
          at_ += length;
        }
        break;
      }
      default:
        damaged = true;
    }
    return !damaged;
  }
  float number_f32() const { return __builtin_bit_cast(float, static_cast<uint32_t>(value)); }
  std::string text() const {
    return std::string(reinterpret_cast<const char*>(inside.data()), inside.size());
  }

 private:
  uint64_t varint() {
    uint64_t result = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ >= bytes_.size()) break;
      const auto byte = static_cast<uint64_t>(bytes_[at_++]);
      result |= (byte & 0x7F) << shift;
      if (!(byte & 0x80)) return result;
    }
    damaged = true;
    return 0;
  }
  uint64_t fixed(size_t n) {
    uint64_t result = 0;
    if (bytes_.size() - at_ < n) {
      damaged = true;
      return 0;
    }
    std::memcpy(&result, bytes_.data() + at_, n);
    at_ += n;
    return result;
  }
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
};

}  // namespace

Result<fb::TokenizerT> import_sentencepiece(std::span<const std::byte> file, const std::string& what) {
  fb::TokenizerT out;
  uint64_t model_type = 1;
  bool spaces_behind = false;
  out.unknown_id = 0;
  out.bos_id = 1;
  out.eos_id = 2;
  out.add_dummy_prefix = out.remove_extra_whitespaces = out.escape_whitespaces =
      true;  // the proto's defaults
  out.normalization = "nmt_nfkc";
  Fields top(file);
  bool damaged = false;
  while (top.next()) {
    if (top.wire != 2) continue;
    Fields inner(top.inside);
    if (top.number == 1) {
      std::string piece;
      float score = 0;
      uint64_t kind = 1;
      while (inner.next()) {
        if (inner.number == 1 && inner.wire == 2) piece = inner.text();
        if (inner.number == 2 && inner.wire == 5) score = inner.number_f32();
        if (inner.number == 3 && inner.wire == 0) kind = inner.value;
      }
      static constexpr fb::TokenKind kKinds[] = {
          fb::TokenKind::Normal,      fb::TokenKind::Normal, fb::TokenKind::Unknown, fb::TokenKind::Control,
          fb::TokenKind::UserDefined, fb::TokenKind::Unused, fb::TokenKind::Byte};
      if (kind >= std::size(kKinds))
        return fail(ErrorCode::kInvalidFile,
                    strf("{}: piece {} is of unknown kind {}", what, out.pieces.size(), kind));
      out.pieces.push_back(std::move(piece));
      out.scores.push_back(score);
      out.kinds.push_back(kKinds[kind]);
    } else if (top.number == 2) {
      while (inner.next()) {
        if (inner.wire != 0) continue;
        if (inner.number == 3) model_type = inner.value;
        if (inner.number == 24) spaces_behind = inner.value != 0;
        if (inner.number == 35) out.byte_fallback = inner.value != 0;
        if (inner.number == 40) out.unknown_id = static_cast<int>(inner.value);
        if (inner.number == 41) out.bos_id = static_cast<int>(inner.value);
        if (inner.number == 42) out.eos_id = static_cast<int>(inner.value);
        if (inner.number == 43) out.pad_id = static_cast<int>(inner.value);
      }
    } else if (top.number == 3) {
      while (inner.next()) {
        if (inner.number == 1 && inner.wire == 2)
          out.normalization = inner.text() == "identity" ? "" : inner.text();
        if (inner.number == 2 && inner.wire == 2) {
          const auto* map = reinterpret_cast<const uint8_t*>(inner.inside.data());
          out.charsmap.assign(map, map + inner.inside.size());
        }
        if (inner.wire != 0) continue;
        if (inner.number == 3) out.add_dummy_prefix = inner.value != 0;
        if (inner.number == 4) out.remove_extra_whitespaces = inner.value != 0;
        if (inner.number == 5) out.escape_whitespaces = inner.value != 0;
      }
    }
    damaged = damaged || inner.damaged;
  }
  if (damaged || top.damaged || out.pieces.empty())
    return fail(ErrorCode::kInvalidFile, strf("{} is damaged, or no SentencePiece model", what));
  if (model_type != 1 && model_type != 2)
    return fail(
        ErrorCode::kUnsupported,
        strf("{} is of SentencePiece type {}: unigram (1) and BPE (2) are supported", what, model_type));
  if (spaces_behind)
    return fail(
        ErrorCode::kUnsupported,
        strf("{} has its spaces behind the words (treat_whitespace_as_suffix), which is not supported",
             what));
  // A model says what its normalisation does by its map. One without has none, whatever its name.
  if (out.charsmap.empty()) out.normalization.clear();
  out.kind = model_type == 1 ? fb::TokenizerKind::Unigram : fb::TokenizerKind::SentencePieceBpe;
  const auto in_range = [&](int& id) {
    if (id < 0 || static_cast<size_t>(id) >= out.pieces.size()) id = -1;
  };
  in_range(out.unknown_id);
  in_range(out.bos_id);
  in_range(out.eos_id);
  in_range(out.pad_id);
  return out;
}

}  // namespace linnet::convert
