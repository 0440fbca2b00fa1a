#include "runtime/text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "runtime/core/strings.h"
#include "runtime/text/tokenizer_impl.h"

namespace linnet::text {
namespace {

constexpr size_t kMostText = size_t{1} << 30;

// What the flags of files from before the steps say, as steps.
void spell_out_steps(TokenizerSpec& spec) {
  const std::string block(kBlock), space(" ");
  const auto normalize = [&spec](TextStep step) { spec.normalizer.push_back(std::move(step)); };
  if (spec.charsmap.empty() && !spec.normalization.empty())
    normalize({TextStepKind::kUnicode, {}, spec.normalization});
  if (spec.add_prefix_space && spec.kind == TokenizerKind::kByteLevelBpe)
    spec.pre_tokenizer.insert(spec.pre_tokenizer.begin(), {{}, false, {}, PreTokenizerKind::kPrefix, space});
  if (spec.kind != TokenizerKind::kSentencePieceBpe && spec.kind != TokenizerKind::kUnigram) return;
  spec.decoder = {{TextStepKind::kReplace, block, space}, {TextStepKind::kByteFallback}};
  if (spec.add_dummy_prefix) {
    spec.decoder.push_back({TextStepKind::kFuse});
    spec.decoder.push_back({TextStepKind::kStrip, {}, space, 1, 0});
  }
  if (!spec.hugging_face) return;
  normalize({TextStepKind::kCharsmap});
  if (spec.remove_extra_whitespaces) {
    normalize({TextStepKind::kStrip, {}, {}, 0, 1});
    normalize({TextStepKind::kReplace, " {2,}", space});
  }
  if (spec.metaspace) {
    const PrefixScheme scheme = !spec.add_dummy_prefix ? PrefixScheme::kNever
                                : spec.prefix_first    ? PrefixScheme::kFirst
                                                       : PrefixScheme::kAlways;
    spec.pre_tokenizer.push_back(
        {{}, false, {}, PreTokenizerKind::kMetaspace, block, scheme, spec.metaspace_split});
    return;
  }
  if (spec.add_dummy_prefix) normalize({TextStepKind::kPrepend, {}, block});
  if (spec.escape_whitespaces) normalize({TextStepKind::kReplace, space, block});
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::create(TokenizerSpec spec) {
  if (!spec.steps) spell_out_steps(spec);
  LINNET_ASSIGN(PreTokenizer pre, PreTokenizer::create(spec.pre_tokenizer));
  auto impl = std::make_unique<Impl>(std::move(pre));
  impl->spec = std::move(spec);
  LINNET_TRY(impl->check());
  LINNET_TRY(impl->build());
  return Tokenizer(std::move(impl));
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const TokenizerSpec& spec = impl_->spec;
  if (text.size() > kMostText)
    return fail(ErrorCode::kInvalidArgument,
                strf("the text has {} bytes; at most {} are encoded at once", text.size(), kMostText));
  if (const auto bad = find_invalid_utf8(text))
    return fail(ErrorCode::kInvalidArgument, strf("the text is not valid UTF-8: the byte at offset {} starts "
                                                  "no character; convert the text to UTF-8",
                                                  *bad));
  if (find_invalid_utf8(options.guard))
    return fail(ErrorCode::kInvalidArgument, "the guard is not valid UTF-8");
  Impl::Call call;
  call.parse_special = options.parse_special;
  call.ids.reserve(text.size() / 3 + 8);
  const bool listed = !spec.prefix_ids.empty() || !spec.suffix_ids.empty();
  if (options.add_special) {
    call.ids = spec.prefix_ids;
    if (!listed && spec.add_bos && spec.bos_id >= 0) call.ids.push_back(spec.bos_id);
  }
  std::vector<Segment> segments;
  impl_->raw_added.split(text, options.parse_special, segments);
  for (const Segment& segment : segments) {
    if (segment.id >= 0) {
      call.ids.push_back(segment.id);
      call.at_start = false;
    } else {
      LINNET_TRY(impl_->encode_segment(segment.text, options.guard, call));
    }
  }
  if (options.add_special) {
    call.ids.insert(call.ids.end(), spec.suffix_ids.begin(), spec.suffix_ids.end());
    if (!listed && spec.add_eos && spec.eos_id >= 0) call.ids.push_back(spec.eos_id);
  }
  return std::move(call.ids);
}

std::string_view Tokenizer::piece(int32_t id, bool with_special) const {
  if (id < 0 || static_cast<size_t>(id) >= size()) return {};
  const auto index = static_cast<size_t>(id);
  if (impl_->hidden[index] && !with_special) return {};
  return impl_->printed.empty() ? impl_->spec.pieces[index] : impl_->printed[index];
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool with_special) const {
  std::vector<int32_t> shown;
  for (const int32_t id : ids)
    if (id >= 0 && static_cast<size_t>(id) < size() && (with_special || !is_special(id))) shown.push_back(id);
  std::string out;
  for (size_t i = 0; i < shown.size(); ++i) {
    const bool first = i == 0, last = i + 1 == shown.size();
    if ((first || last) && impl_->printer.depends_on_place())
      out += impl_->print(static_cast<size_t>(shown[i]), first, last);
    else
      out += piece(shown[i], true);
  }
  impl_->printer.trim(out);
  return out;
}

bool Tokenizer::is_stop(int32_t id) const {
  const auto& stops = impl_->spec.stop_ids;
  return std::find(stops.begin(), stops.end(), id) != stops.end();
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < size() && impl_->hidden[static_cast<size_t>(id)];
}

std::optional<int32_t> Tokenizer::token_id(std::string_view text) const {
  for (const AddedToken& token : impl_->spec.added_tokens)
    if (token.text == text) return static_cast<int32_t>(token.id);
  if (const int32_t id = impl_->map.find(text); id >= 0) return id;
  if (const int32_t id = impl_->hidden_map.find(text); id >= 0) return id;
  return std::nullopt;
}

size_t Tokenizer::size() const { return impl_->spec.pieces.size(); }
int32_t Tokenizer::bos_id() const { return impl_->spec.bos_id; }
int32_t Tokenizer::eos_id() const { return impl_->spec.eos_id; }
int32_t Tokenizer::pad_id() const { return impl_->spec.pad_id; }
std::span<const int32_t> Tokenizer::stop_ids() const { return impl_->spec.stop_ids; }
std::span<const AddedToken> Tokenizer::added_tokens() const { return impl_->spec.added_tokens; }

}  // namespace linnet::text
