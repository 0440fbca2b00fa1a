#include "runtime/text/pretokenizer.h"

#include <pcre2.h>

#include <algorithm>

#include "runtime/core/strings.h"
#include "runtime/text/pattern.h"

namespace linnet::text {

// Not in the unnamed namespace: a field of PreTokenizer::Step, which others can name, has this type.
template <auto free>
struct Freed {
  template <typename T>
  void operator()(T* p) const {
    free(p);
  }
};
using Code = std::unique_ptr<pcre2_code, Freed<pcre2_code_free>>;

namespace {

using MatchData = std::unique_ptr<pcre2_match_data, Freed<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freed<pcre2_match_context_free>>;

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof(buffer)) < 0) return strf("error {}", code);
  return reinterpret_cast<const char*>(buffer);
}

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

}  // namespace

struct PreTokenizer::Step {
  Code code;
  bool invert = false;
  SplitBehavior behavior = SplitBehavior::kIsolated;
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

Result<PreTokenizer> PreTokenizer::create(std::span<const PreTokenizerStep> steps) {
  PreTokenizer out;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].behavior > SplitBehavior::kContiguous)
      return fail(ErrorCode::kInvalidFile, strf("pre-tokenizer step {} has the unknown split behaviour {}", i,
                                                static_cast<int>(steps[i].behavior)));
    const std::string pattern = portable_pattern(steps[i].pattern);
    int error = 0;
    PCRE2_SIZE where = 0;
    Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &where, nullptr));
    if (!code)
      return fail(error == PCRE2_ERROR_HEAP_FAILED ? ErrorCode::kOutOfMemory : ErrorCode::kInvalidFile,
                  strf("the pattern of pre-tokenizer step {} does not compile: {} at byte {} of '{}'", i,
                       pcre2_message(error), where, pattern));
    // Where there is no JIT the interpreter gives the same matches, slower.
    pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
    out.steps_.push_back({std::move(code), steps[i].invert, steps[i].behavior});
  }
  return out;
}

Result<void> PreTokenizer::split(std::string_view text, std::vector<std::string_view>& parts) const {
  parts.clear();
  if (text.empty()) return {};
  parts.push_back(text);
  if (steps_.empty()) return {};
  const MatchContext context(pcre2_match_context_create(nullptr));
  const MatchData data(pcre2_match_data_create(16, nullptr));
  if (!context || !data) return fail(ErrorCode::kOutOfMemory, "no memory to cut the text for the tokenizer");
  std::vector<std::string_view> next;
  std::vector<Range> ranges;
  for (const Step& step : steps_) {
    next.clear();
    for (const std::string_view part : parts) {
      const auto* subject = reinterpret_cast<PCRE2_SPTR>(part.data());
      // One match may walk back over all of the text, a few times, but not over all pairs of places in it.
      const size_t limit = 1000000 + 32 * part.size();
      pcre2_set_match_limit(context.get(), static_cast<uint32_t>(std::min<size_t>(limit, UINT32_MAX)));
      ranges.clear();
      size_t begin = 0, at = 0;  // of what is not in a range yet; where to look next
      while (at < part.size()) {
        int rc = pcre2_match(step.code.get(), subject, part.size(), at, PCRE2_NO_UTF_CHECK, data.get(),
                             context.get());
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
          rc = pcre2_match(step.code.get(), subject, part.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                           data.get(), context.get());
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc < 0)
          return fail(
              rc == PCRE2_ERROR_NOMEMORY ? ErrorCode::kOutOfMemory : ErrorCode::kUnsupported,
              strf("the tokenizer's pattern gave up {} bytes into a part of {} bytes: {}; shorten the text",
                   at, part.size(), pcre2_message(rc)));
        const PCRE2_SIZE* found = pcre2_get_ovector_pointer(data.get());
        // \K can put the start of a match behind its end, or before the place where the search began.
        const size_t match_begin = std::max<size_t>(found[0], begin), match_end = found[1];
        if (match_end <= match_begin) {
          at = std::max(at, match_end);
          if (at < part.size()) at += utf8_length(part[at]);
          continue;
        }
        if (begin < match_begin) ranges.push_back({begin, match_begin, step.invert});
        ranges.push_back({match_begin, match_end, !step.invert});
        begin = at = match_end;
      }
      if (begin < part.size()) ranges.push_back({begin, part.size(), step.invert});
      apply_behavior(step.behavior, ranges);
      for (const Range& r : ranges) next.push_back(part.substr(r.begin, r.end - r.begin));
    }
    parts.swap(next);
  }
  return {};
}

}  // namespace linnet::text
