#include "runtime/text/pretokenizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "runtime/core/strings.h"
#include "runtime/text/regex.h"
#include "runtime/text/utf8.h"

namespace linnet::text {
namespace {

struct Range {
  size_t begin, end;
  bool match;
};

// As NormalizedString::split of Hugging Face tokenizers, on ranges that cover the text without gaps.
void apply_behavior(SplitBehavior behavior, std::vector<Range>& ranges) {
  const auto merge = [](auto first, auto last, std::vector<Range>& out, auto&& joins) {
    bool previous = false;
    for (; first != last; ++first) {
      if (joins(first->match, previous) && !out.empty()) {
        out.back().begin = std::min(out.back().begin, first->begin);
        out.back().end = std::max(out.back().end, first->end);
      } else {
        out.push_back({first->begin, first->end, false});
      }
      previous = first->match;
    }
  };
  const auto after_text = [](bool match, bool previous) { return match && !previous; };
  std::vector<Range> out;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return;
    case SplitBehavior::kRemoved:
      std::erase_if(ranges, [](const Range& r) { return r.match; });
      return;
    case SplitBehavior::kContiguous:
      merge(ranges.begin(), ranges.end(), out, [](bool match, bool previous) { return match == previous; });
      break;
    case SplitBehavior::kMergedWithPrevious:
      merge(ranges.begin(), ranges.end(), out, after_text);
      break;
    case SplitBehavior::kMergedWithNext:
      merge(ranges.rbegin(), ranges.rend(), out, after_text);
      out = {out.rbegin(), out.rend()};
      break;
  }
  ranges = std::move(out);
}

// The character for each byte: printable bytes stand for themselves, the other 68 are U+0100 and up, in
// order.
constexpr std::array<char32_t, 256> kCharacters = [] {
  std::array<char32_t, 256> table = {};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    table[byte] = printable ? byte : next++;
  }
  return table;
}();
constexpr size_t kMostCharacter = 0x100 + 68;
constexpr std::array<int16_t, kMostCharacter> kBytes = [] {
  std::array<int16_t, kMostCharacter> table = {};
  for (int16_t& byte : table) byte = -1;
  for (size_t byte = 0; byte < 256; ++byte) table[kCharacters[byte]] = static_cast<int16_t>(byte);
  return table;
}();

}  // namespace

std::string byte_level_text(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 2);
  for (const char c : bytes) append_utf8(out, kCharacters[static_cast<unsigned char>(c)]);
  return out;
}

bool bytes_of_byte_level(std::string_view text, std::string& bytes) {
  bytes.clear();
  if (find_invalid_utf8(text)) return false;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_char(text, at);
    if (c >= kBytes.size() || kBytes[c] < 0) return false;
    bytes += static_cast<char>(kBytes[c]);
  }
  return true;
}

struct PreTokenizer::Step {
  PreTokenizerStep what;
  std::optional<Regex> regex;
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

Result<PreTokenizer> PreTokenizer::create(std::span<const PreTokenizerStep> steps) {
  PreTokenizer out;
  for (size_t i = 0; i < steps.size(); ++i) {
    const PreTokenizerStep& step = steps[i];
    const auto bad = [i](const std::string& why) {
      return fail(ErrorCode::kInvalidFile, strf("pre-tokenizer step {} {}", i, why));
    };
    if (step.behavior > SplitBehavior::kContiguous)
      return bad(strf("has the unknown split behaviour {}", static_cast<int>(step.behavior)));
    if (step.kind > PreTokenizerKind::kMetaspace)
      return bad(strf("is of the unknown kind {}", static_cast<int>(step.kind)));
    if (step.scheme > PrefixScheme::kNever)
      return bad(strf("has the unknown prefix scheme {}", static_cast<int>(step.scheme)));
    if (find_invalid_utf8(step.text)) return bad("has a text that is no UTF-8");
    if (step.kind == PreTokenizerKind::kMetaspace && step.text.empty()) return bad("has no text for a space");
    out.steps_.push_back({step, std::nullopt});
    if (step.kind == PreTokenizerKind::kSplit) {
      LINNET_ASSIGN(out.steps_.back().regex, Regex::compile(step.pattern, strf("pre-tokenizer step {}", i)));
    }
  }
  return out;
}

Result<void> PreTokenizer::split(std::string_view text, bool first, Parts& parts) const {
  parts.views.clear();
  parts.changed.clear();
  if (text.empty()) return {};
  parts.views.push_back(text);
  std::vector<std::string_view> next;
  std::vector<Range> ranges;
  for (const Step& step : steps_) {
    next.clear();
    bool leads = first;  // the next part begins where the whole text does
    for (std::string_view part : parts.views) {
      const bool leading = std::exchange(leads, false);
      switch (step.what.kind) {
        case PreTokenizerKind::kPrefix:
          if (!part.starts_with(step.what.text))
            part = parts.changed.emplace_back(step.what.text).append(part);
          break;
        case PreTokenizerKind::kByteLevel:
          part = parts.changed.emplace_back(byte_level_text(part));
          break;
        case PreTokenizerKind::kMetaspace: {
          std::string& changed = parts.changed.emplace_back(part);
          replace_all(changed, " ", step.what.text);
          const PrefixScheme scheme = step.what.scheme;
          const bool wanted = scheme == PrefixScheme::kAlways || (scheme == PrefixScheme::kFirst && leading);
          if (wanted && !changed.starts_with(step.what.text)) changed.insert(0, step.what.text);
          part = changed;
          for (size_t at = step.what.split ? part.find(step.what.text, 1) : part.npos; at != part.npos;
               at = part.find(step.what.text, 1)) {
            next.push_back(part.substr(0, at));
            part.remove_prefix(at);
          }
          break;
        }
        case PreTokenizerKind::kSplit: {
          ranges.clear();
          size_t begin = 0;  // of what is not in a range yet
          LINNET_TRY(step.regex->each(part, [&](size_t from, size_t to) {
            if (begin < from) ranges.push_back({begin, from, step.what.invert});
            ranges.push_back({from, to, !step.what.invert});
            begin = to;
          }));
          if (begin < part.size()) ranges.push_back({begin, part.size(), step.what.invert});
          apply_behavior(step.what.behavior, ranges);
          for (const Range& r : ranges)
            if (r.begin < r.end) next.push_back(part.substr(r.begin, r.end - r.begin));
          // What led the text may be cut away.
          if (leading && (ranges.empty() || ranges.front().begin > 0)) first = false;
          continue;
        }
      }
      next.push_back(part);
    }
    parts.views.swap(next);
  }
  return {};
}

}  // namespace linnet::text
