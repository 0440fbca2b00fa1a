#include "runtime/text/text_steps.h"

#include <utf8proc.h>

#include <charconv>

#include "runtime/core/strings.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/utf8.h"

namespace linnet::text {
namespace {

void strip_spaces(std::string& text, bool left, bool right) {
  if (right)
    for (size_t at = text.size(); at > 0 && is_space(previous_char(text, at));) text.resize(at);
  if (!left) return;
  size_t begin = 0;
  for (size_t at = 0; at < text.size() && is_space(next_char(text, at));) begin = at;
  text.erase(0, begin);
}

std::string without_marks(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(next_char(text, at)));
    if (category != UTF8PROC_CATEGORY_MN && category != UTF8PROC_CATEGORY_MC &&
        category != UTF8PROC_CATEGORY_ME)
      out += text.substr(begin, at - begin);
  }
  return out;
}

// `kept`: the first character stays, or stands for the first alone. (What takes the place of several counts
// as standing where the last of them did.)
Result<std::string> replaced(const Regex& regex, std::string_view text, std::string_view content,
                             bool& kept) {
  std::string out;
  size_t done = 0;
  kept = true;
  LINNET_TRY(regex.each(text, [&](size_t begin, size_t end) {
    if (begin == 0 && end > 0) kept = !content.empty() && end == utf8_length(text[0]);
    out.append(text.substr(done, begin - done)).append(content);
    done = end;
  }));
  return out.append(text.substr(done));
}

// Takes `what` off the ends of a text, so many times at most.
void take_off(std::string& text, std::string_view what, int left, int right) {
  for (; left > 0 && !what.empty() && text.starts_with(what); --left) text.erase(0, what.size());
  for (; right > 0 && !what.empty() && text.ends_with(what); --right) text.resize(text.size() - what.size());
}

}  // namespace

int byte_of_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return -1;
  int value = -1;
  const char* end = piece.data() + 5;
  return std::from_chars(piece.data() + 3, end, value, 16).ptr == end ? value : -1;
}

Result<NormalizerChain> NormalizerChain::create(std::span<const TextStep> steps, const CharsMap& charsmap) {
  NormalizerChain chain;
  chain.charsmap_ = &charsmap;
  for (size_t i = 0; i < steps.size(); ++i) {
    Step step{steps[i], {}, {}, {}};
    if (find_invalid_utf8(step.what.text))
      return fail(ErrorCode::kInvalidFile, strf("the text of normalizer step {} is no UTF-8", i));
    switch (step.what.kind) {
      case TextStepKind::kUnicode: {
        LINNET_ASSIGN(step.form, Normalizer::create(step.what.text));
        if (step.form.identity()) continue;
        break;
      }
      case TextStepKind::kReplace:
        if (!literal_of_pattern(step.what.pattern, step.literal)) {
          LINNET_ASSIGN(step.regex, Regex::compile(step.what.pattern, strf("normalizer step {}", i)));
        }
        break;
      case TextStepKind::kCharsmap:
        if (charsmap.empty()) continue;
        break;
      case TextStepKind::kStrip:
      case TextStepKind::kStripAccents:
      case TextStepKind::kPrepend:
      case TextStepKind::kByteLevel:
        break;
      default:
        return fail(ErrorCode::kInvalidFile, strf("normalizer step {} is of the kind {}, which is none", i,
                                                  static_cast<int>(step.what.kind)));
    }
    chain.steps_.push_back(std::move(step));
  }
  return chain;
}

Result<std::string> NormalizerChain::apply(std::string_view source, bool* begins) const {
  std::string text(source);
  bool kept = true, start = true;
  for (const Step& step : steps_) {
    kept = true;
    switch (step.what.kind) {
      case TextStepKind::kUnicode:
        kept = text.empty() || !step.form.drops(text);
        text = step.form.apply(text);
        break;
      case TextStepKind::kStrip: {
        size_t first = 0;
        kept = step.what.left == 0 || text.empty() || !is_space(next_char(text, first));
        strip_spaces(text, step.what.left != 0, step.what.right != 0);
        break;
      }
      case TextStepKind::kStripAccents: {
        std::string stripped = without_marks(text);
        kept = text.empty() || stripped.starts_with(std::string_view(text).substr(0, utf8_length(text[0])));
        text = std::move(stripped);
        break;
      }
      case TextStepKind::kCharsmap:
        text = charsmap_->apply_by_grapheme(text);
        break;
      case TextStepKind::kPrepend:
        if (!text.empty()) text.insert(0, step.what.text);
        start = start || !step.what.text.empty();
        break;
      case TextStepKind::kReplace:
        if (step.regex) {
          LINNET_ASSIGN(text, replaced(*step.regex, text, step.what.text, kept));
        } else {
          kept = !text.starts_with(step.literal) ||
                 (!step.what.text.empty() && step.literal.size() == utf8_length(step.literal[0]));
          replace_all(text, step.literal, step.what.text);
        }
        break;
      default:
        text = byte_level_text(text);
    }
    start = start && kept;
  }
  if (begins) *begins = start;
  return text;
}

Result<TokenPrinter> TokenPrinter::create(std::span<const TextStep> steps) {
  TokenPrinter printer;
  bool fused = false, bytes = false;
  for (size_t i = 0; i < steps.size(); ++i) {
    const TextStep& step = steps[i];
    const auto refuse = [i](std::string_view why) {
      return fail(ErrorCode::kUnsupported, strf("decoder step {} {}", i, why));
    };
    if (printer.trim_) return refuse("comes behind one that cuts the whole text's ends");
    switch (step.kind) {
      case TextStepKind::kFuse:
        fused = true;
        continue;
      case TextStepKind::kStrip:
        if (fused) {
          printer.trim_ = step;
          continue;
        }
        if (bytes && (step.left > 0 || step.right > 0))
          return refuse("cuts the ends of tokens behind ByteFallback, which joins them");
        break;
      case TextStepKind::kReplace:
        if (step.pattern.empty()) return refuse("replaces nothing");
        if (fused && step.pattern.size() != utf8_length(step.pattern[0]))
          return refuse("replaces a text that may lie across tokens");
        break;
      case TextStepKind::kByteLevel:
      case TextStepKind::kByteFallback:
        if (fused) return refuse("works on tokens, which are joined already");
        break;
      case TextStepKind::kMetaspace:
      case TextStepKind::kWordEnd:
      case TextStepKind::kWordStart:
        if (fused || step.pattern.empty()) return refuse("works on tokens, which are joined already");
        printer.depends_on_place_ = true;
        break;
      default:
        return fail(ErrorCode::kInvalidFile,
                    strf("decoder step {} is of the kind {}, which is none", i, static_cast<int>(step.kind)));
    }
    printer.steps_.push_back(step);
    bytes = bytes || step.kind == TextStepKind::kByteFallback;
    // The bytes are one text from here on.
    if (step.kind == TextStepKind::kByteLevel) fused = true;
  }
  return printer;
}

std::string TokenPrinter::print(std::string_view piece, bool plain, bool first, bool last) const {
  std::string text(piece);
  if (plain) return text;
  for (const TextStep& step : steps_) {
    switch (step.kind) {
      case TextStepKind::kByteLevel:
        if (std::string bytes; bytes_of_byte_level(text, bytes)) text = std::move(bytes);
        break;
      case TextStepKind::kByteFallback:
        if (const int byte = byte_of_piece(text); byte >= 0) text = std::string(1, static_cast<char>(byte));
        break;
      case TextStepKind::kReplace:
        replace_all(text, step.pattern, step.text);
        break;
      case TextStepKind::kStrip:
        take_off(text, step.text, step.left, step.right);
        break;
      case TextStepKind::kMetaspace:
        replace_all(text, step.pattern, first && step.left != 0 ? "" : " ");
        break;
      case TextStepKind::kWordEnd:
        replace_all(text, step.pattern, last ? "" : " ");
        break;
      default:  // WordStart
        if (first) break;
        if (text.starts_with(step.pattern))
          text.erase(0, step.pattern.size());
        else
          text.insert(0, " ");
    }
  }
  return text;
}

void TokenPrinter::trim(std::string& text) const {
  if (trim_) take_off(text, trim_->text, trim_->left, trim_->right);
}

}  // namespace linnet::text
