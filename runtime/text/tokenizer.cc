#include "runtime/text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "runtime/core/strings.h"
#include "runtime/text/tokenizer_impl.h"

namespace linnet::text {
namespace {

constexpr size_t kMostText = size_t{1} << 30;

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::create(TokenizerSpec spec) {
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
  if (options.add_special && spec.add_bos && spec.bos_id >= 0) call.ids.push_back(spec.bos_id);
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
  if (options.add_special && spec.add_eos && spec.eos_id >= 0) call.ids.push_back(spec.eos_id);
  return std::move(call.ids);
}

std::string_view Tokenizer::piece(int32_t id, bool with_special) const {
  if (id < 0 || static_cast<size_t>(id) >= size()) return {};
  const auto index = static_cast<size_t>(id);
  if (impl_->hidden[index] && !with_special) return {};
  return impl_->printed.empty() ? impl_->spec.pieces[index] : impl_->printed[index];
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool with_special) const {
  std::string out;
  for (const int32_t id : ids) out += piece(id, with_special);
  const TokenizerSpec& spec = impl_->spec;
  const bool prefixed = impl_->sentence_piece() && spec.add_dummy_prefix;
  if (prefixed && out.starts_with(' ')) out.erase(0, 1);
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
