// What tokenizer.json's post-processors put around one text.
#include <algorithm>
#include <limits>

#include "converter/tokenizer_json.h"
#include "runtime/core/strings.h"

namespace linnet::convert {
namespace {

constexpr int64_t kMostId = std::numeric_limits<int32_t>::max();

// Sequences of processors put the later ones outside.
void put_around(TokenizerBuilder& b, std::vector<int32_t> before, const std::vector<int32_t>& behind) {
  before.insert(before.end(), b.out.prefix_ids.begin(), b.out.prefix_ids.end());
  b.out.prefix_ids = std::move(before);
  b.out.suffix_ids.insert(b.out.suffix_ids.end(), behind.begin(), behind.end());
}

void read_template(TokenizerBuilder& b, JsonFields& in) {
  const Json* tokens = in.find("special_tokens");
  in.without_effect("pair");
  std::vector<int32_t> before, behind;
  bool seen_text = false;
  for (const Json& part : in.list("single")) {
    if (!part.is_object() || part.size() != 1 || !part.begin()->is_object())
      return in.refuse(strf("has {}, which is no part of a template", json_text(part)));
    JsonFields inner(b, *part.begin(), in.where() + ": '" + part.begin().key() + "'");
    const std::string id = inner.text("id");
    inner.without_effect("type_id");
    inner.finish();
    if (part.begin().key() == "Sequence" && id == "A" && !seen_text) {
      seen_text = true;
      continue;
    }
    if (part.begin().key() != "SpecialToken" || !tokens || !tokens->is_object() || !tokens->contains(id))
      return in.refuse(strf("has the part {}, which Linnet does not have", json_text(part)));
    JsonFields token(b, (*tokens)[id], in.where() + ": the token '" + id + "'");
    token.without_effect("id");
    token.without_effect("tokens");
    for (const Json& value : token.list("ids")) {
      const auto number = integer_of(value, 0, kMostId);
      if (!number) return token.refuse(strf("has the id {}", json_text(value)));
      (seen_text ? behind : before).push_back(static_cast<int32_t>(*number));
    }
    token.finish();
  }
  if (!seen_text) return in.refuse("has no place for the text");
  put_around(b, std::move(before), behind);
}

int32_t read_pair(JsonFields& in, const char* key) {
  const Json* pair = in.find(key);
  const auto id =
      pair && pair->is_array() && pair->size() == 2 ? integer_of((*pair)[1], 0, kMostId) : std::nullopt;
  if (!id) in.refuse(strf("has '{}' {}, expected a token and its id", key, pair ? json_text(*pair) : "null"));
  return static_cast<int32_t>(id.value_or(0));
}

}  // namespace

void read_post_processor(TokenizerBuilder& b, const Json& json) {
  if (json.is_null()) return;
  JsonFields in(b, json, "its post-processor");
  const std::string type = in.text("type");
  if (type == "Sequence") {
    for (const Json& part : in.list("processors")) read_post_processor(b, part);
  } else if (type == "TemplateProcessing") {
    read_template(b, in);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    const int32_t first = read_pair(in, "cls"), last = read_pair(in, "sep");
    put_around(b, {first}, {last});
    for (const char* key : {"trim_offsets", "add_prefix_space"}) in.without_effect(key);
  } else if (type == "ByteLevel") {
    for (const char* key : {"trim_offsets", "add_prefix_space", "use_regex"}) in.without_effect(key);
  } else {
    return in.refuse(strf("'{}' is not supported: {}", type, json_text(json, 300)));
  }
  in.finish();
  fb::TokenizerT& t = b.out;
  t.add_bos = !t.prefix_ids.empty();
  t.add_eos = !t.suffix_ids.empty();
  if (t.add_bos) t.bos_id = t.prefix_ids.front();
  if (t.add_eos) t.eos_id = t.suffix_ids.back();
}

}  // namespace linnet::convert
