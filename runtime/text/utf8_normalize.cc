#include "runtime/text/utf8_normalize.h"

#include <utf8proc.h>

#include <algorithm>
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

}  // namespace

Result<Normalizer> Normalizer::create(std::string_view name) {
  Normalizer n;
  if (name.empty() || name == "identity") return n;
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
    return fail(ErrorCode::kUnsupported, strf("the tokenizer's normalisation '{}' is not known (nfc, nfd, "
                                              "nfkc, nfkd, nmt_nfkc, nfkc_cf and nmt_nfkc_cf are)",
                                              name));
  return n;
}

std::string Normalizer::apply(std::string_view text) const {
  if (!decompose_) return std::string(text);
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
    return c < 0x300 ? 0 : utf8proc_get_property(c)->combining_class;
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
