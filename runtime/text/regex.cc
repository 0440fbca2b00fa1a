#include "runtime/text/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "runtime/core/strings.h"
#include "runtime/text/pattern.h"
#include "runtime/text/utf8.h"

namespace linnet::text {
namespace {

template <auto free>
struct Freed {
  template <typename T>
  void operator()(T* p) const {
    free(p);
  }
};
using MatchData = std::unique_ptr<pcre2_match_data, Freed<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freed<pcre2_match_context_free>>;

constexpr std::string_view kSpecial = "\\^$.|?*+()[]{}#-&~";

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof(buffer)) < 0) return strf("error {}", code);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

struct Regex::Code {
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  std::unique_ptr<pcre2_code, Free> compiled;
};

Regex::Regex(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Result<Regex> Regex::compile(std::string_view source, const std::string& what) {
  const std::string pattern = portable_pattern(source);
  int error = 0;
  PCRE2_SIZE where = 0;
  auto code = std::make_unique<Code>();
  // Oniguruma's ^ and $ are those of every line.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  code->compiled.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), kOptions,
                                     &error, &where, nullptr));
  if (!code->compiled)
    return fail(error == PCRE2_ERROR_HEAP_FAILED ? ErrorCode::kOutOfMemory : ErrorCode::kInvalidFile,
                strf("the pattern of {} does not compile: {} at byte {} of '{}'", what, pcre2_message(error),
                     where, pattern));
  // Where there is no JIT the interpreter gives the same matches, slower.
  pcre2_jit_compile(code->compiled.get(), PCRE2_JIT_COMPLETE);
  return Regex(std::move(code));
}

Result<void> Regex::each(std::string_view text, const std::function<void(size_t, size_t)>& found) const {
  const MatchContext context(pcre2_match_context_create(nullptr));
  const MatchData data(pcre2_match_data_create(16, nullptr));
  if (!context || !data) return fail(ErrorCode::kOutOfMemory, "no memory to cut the text for the tokenizer");
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  // One match may walk back over all of the text, a few times, but not over all pairs of places in it.
  const size_t limit = 1000000 + 32 * text.size();
  pcre2_set_match_limit(context.get(), static_cast<uint32_t>(std::min<size_t>(limit, UINT32_MAX)));
  constexpr size_t kNone = SIZE_MAX;
  size_t last = kNone;  // where the last match ended
  for (size_t at = 0; at <= text.size();) {
    int rc = pcre2_match(code_->compiled.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK, data.get(),
                         context.get());
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
      rc = pcre2_match(code_->compiled.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       data.get(), context.get());
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0)
      return fail(
          rc == PCRE2_ERROR_NOMEMORY ? ErrorCode::kOutOfMemory : ErrorCode::kUnsupported,
          strf("the tokenizer's pattern gave up {} bytes into a part of {} bytes: {}; shorten the text", at,
               text.size(), pcre2_message(rc)));
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
    // \K can put the start of a match behind its end, or before the end of the match before.
    const size_t end = range[1],
                 begin = std::min(last == kNone ? range[0] : std::max<size_t>(range[0], last), end);
    if (begin == end && (last == end || end < at)) {
      if (at == text.size()) break;
      at = std::max(at, end);
      at += at < text.size() ? utf8_length(text[at]) : 1;
      continue;
    }
    found(begin, end);
    at = last = end;
  }
  return {};
}

std::string quoted_pattern(std::string_view literal) {
  std::string pattern;
  for (const char c : literal) {
    if (kSpecial.find(c) != kSpecial.npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

bool literal_of_pattern(std::string_view pattern, std::string& literal) {
  literal.clear();
  for (size_t at = 0; at < pattern.size(); ++at) {
    const bool special = kSpecial.find(pattern[at]) != kSpecial.npos;
    if (special &&
        (pattern[at] != '\\' || at + 1 == pattern.size() || kSpecial.find(pattern[at + 1]) == kSpecial.npos))
      return false;
    if (special) ++at;
    literal += pattern[at];
  }
  return !literal.empty();
}

}  // namespace linnet::text
