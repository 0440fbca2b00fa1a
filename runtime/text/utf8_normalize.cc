#include "runtime/text/utf8_normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "runtime/core/strings.h"
#include "runtime/text/utf8.h"

namespace linnet::text {
namespace {

enum class Nmt { kKeep, kDrop, kSpace };

// What sentencepiece's nmt_nfkc does beyond NFKC: control characters go, whatever looks like a space is one.
Nmt nmt_rule(char32_t c) {
  if (c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D) return Nmt::kSpace;
  if ((c >= 0x01 && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F) return Nmt::kDrop;
  switch (c) {
    case 0x1680:
    case 0x200B:
    case 0x200C:
    case 0x200D:
    case 0x200E:
    case 0x200F:
    case 0x2028:
    case 0x2029:
    case 0x2581:
    case 0xFEFF:
    case 0xFFFD:
      return Nmt::kSpace;
    default:
      return Nmt::kKeep;
  }
}

// What Unicode 9 did not know yet of characters that decompose or are marks, up to Unicode 18. Hugging Face
// tokenizers normalises with tables of Unicode 9: to it these are letters that stay as and where they are,
// and models were trained on the ids this gives.
constexpr char32_t kNewer[][2] = {
    {0x558, 0x558},     {0x58B, 0x58C},     {0x5C8, 0x5C9},     {0x7FD, 0x7FD},     {0x897, 0x89F},
    {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},
    {0x1715, 0x1715},   {0x1ABF, 0x1AF0},   {0x1DF6, 0x1DFA},   {0x209D, 0x209F},   {0x32FF, 0x32FF},
    {0xA7F1, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x105C9, 0x105C9}, {0x105E4, 0x105E4},
    {0x10781, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BF}, {0x10D24, 0x10D27}, {0x10D69, 0x10D6D},
    {0x10EAB, 0x10EAC}, {0x10ECB, 0x10ECF}, {0x10EF0, 0x10EFB}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x11383, 0x11383}, {0x11385, 0x11385},
    {0x1138E, 0x1138E}, {0x11391, 0x11391}, {0x113C5, 0x113C5}, {0x113C7, 0x113C8}, {0x113CE, 0x113D0},
    {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42},
    {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16121, 0x16128}, {0x1612F, 0x1612F},
    {0x16D68, 0x16D6A}, {0x16FF0, 0x16FF1}, {0x1B123, 0x1B126}, {0x1CCD6, 0x1CCF9}, {0x1D127, 0x1D128},
    {0x1D250, 0x1D252}, {0x1D25B, 0x1D25C}, {0x1D25F, 0x1D25F}, {0x1D280, 0x1D281}, {0x1D6A6, 0x1D6A6},
    {0x1DF95, 0x1DF95}, {0x1DFCD, 0x1DFFF}, {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1E5EE, 0x1E5EF}, {0x1E6E3, 0x1E6E3},
    {0x1E6E6, 0x1E6E6}, {0x1E6EE, 0x1E6EF}, {0x1E6F5, 0x1E6F5}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

bool newer_than_unicode_9(char32_t c) {
  if (c < kNewer[0][0]) return false;
  const auto after = std::upper_bound(std::begin(kNewer), std::end(kNewer), c,
                                      [](char32_t value, const auto& range) { return value < range[0]; });
  return c <= (*std::prev(after))[1];
}

}  // namespace

bool Normalizer::drops(std::string_view text) const {
  size_t at = 0;
  return nmt_ && nmt_rule(next_char(text, at)) == Nmt::kDrop;
}

std::string Normalizer::character_by_character(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    char32_t c = next_char(text, at);
    const Nmt rule = nmt_ ? nmt_rule(c) : Nmt::kKeep;
    if (rule == Nmt::kDrop) continue;
    if (rule == Nmt::kSpace) c = ' ';
    if (lower_)
      append_lower(out, c);
    else
      append_utf8(out, c);
  }
  return out;
}

Result<Normalizer> Normalizer::create(std::string_view name) {
  Normalizer n;
  if (name.empty() || name == "identity") return n;
  if (name == "nmt" || name == "lower") {
    (name == "nmt" ? n.nmt_ : n.lower_) = true;
    return n;
  }
  std::string_view rest = name;
  if (rest.starts_with("nmt_nfkc")) {
    n.nmt_ = true;
    rest.remove_prefix(4);
  }
  if (rest == "nfkc_cf") {
    n.fold_case_ = true;
    rest = "nfkc";
  }
  n.decompose_ = true;
  n.compose_ = rest == "nfc" || rest == "nfkc";
  n.compatibility_ = rest == "nfkc" || rest == "nfkd";
  if (!n.compose_ && !n.compatibility_ && rest != "nfd")
    return fail(ErrorCode::kUnsupported,
                strf("the tokenizer's normalisation '{}' is not known (nfc, nfd, "
                     "nfkc, nfkd, nmt_nfkc, nfkc_cf, nmt_nfkc_cf, nmt and lower are)",
                     name));
  return n;
}

std::string Normalizer::apply(std::string_view text) const {
  if (!decompose_) return character_by_character(text);
  // No form changes ASCII, unless case or control characters are to be changed too.
  const bool ascii =
      std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (ascii && !fold_case_ && !nmt_) return std::string(text);

  int options = UTF8PROC_STABLE | (compose_ ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
  if (compatibility_) options |= UTF8PROC_COMPAT;
  if (fold_case_) options |= UTF8PROC_CASEFOLD;
  const auto option_bits = static_cast<utf8proc_option_t>(options);
  std::vector<utf8proc_int32_t> out;
  out.reserve(text.size() + 16);
  utf8proc_int32_t parts[64];
  for (size_t at = 0; at < text.size();) {
    char32_t c = next_char(text, at);
    if (nmt_) {
      const Nmt rule = nmt_rule(c);
      if (rule == Nmt::kDrop) continue;
      if (rule == Nmt::kSpace) c = ' ';
    }
    if (newer_than_unicode_9(c)) {
      out.push_back(static_cast<utf8proc_int32_t>(c));
      continue;
    }
    int boundary = 0;
    // The longest decomposition has 18 characters.
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, std::size(parts),
                                               option_bits, &boundary);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(std::size(parts)) || (nmt_ && c == 0xFF5E)) {
      out.push_back(static_cast<utf8proc_int32_t>(c));
    } else {
      out.insert(out.end(), parts, parts + count);
    }
  }
  // Canonical order: marks by class. utf8proc's own sort is quadratic in the length of a run of marks.
  const auto combining = [](utf8proc_int32_t c) {
    if (c < 0x300 || newer_than_unicode_9(static_cast<char32_t>(c))) return 0;
    return static_cast<int>(utf8proc_get_property(c)->combining_class);
  };
  for (size_t i = 0; i < out.size();) {
    if (combining(out[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < out.size() && combining(out[end]) != 0) ++end;
    std::stable_sort(out.begin() + static_cast<std::ptrdiff_t>(i),
                     out.begin() + static_cast<std::ptrdiff_t>(end),
                     [&](utf8proc_int32_t a, utf8proc_int32_t b) { return combining(a) < combining(b); });
    i = end;
  }
  if (compose_ && !out.empty()) {
    const auto count =
        utf8proc_normalize_utf32(out.data(), static_cast<utf8proc_ssize_t>(out.size()), option_bits);
    if (count >= 0) out.resize(static_cast<size_t>(count));
  }
  std::string bytes;
  bytes.reserve(text.size() + 16);
  for (const utf8proc_int32_t c : out) append_utf8(bytes, static_cast<char32_t>(c));
  return bytes;
}

}  // namespace linnet::text
