// What a chat makes of a model's template: the form of the content, tokens as variables, special tokens that
// a message holds, and what is refused at conversion.
#include <algorithm>
#include <fstream>

#include "tests/runtime/tiny_model.h"

namespace linnet::test {
namespace {

// The tiny model with another template, and with a tokenizer_config.json if it is given.
Result<std::shared_ptr<const Model>> model_with(const std::string& source, const std::string& config = {}) {
  static int number = 0;
  const auto folder = scratch() / ("template" + std::to_string(number++));
  std::filesystem::copy(LINNET_GOLDEN "/language/llama/model", folder,
                        std::filesystem::copy_options::recursive);
  std::ofstream(folder / "own.jinja") << source;
  if (!config.empty()) std::ofstream(folder / "tokenizer_config.json") << config;
  convert::ConvertOptions options;
  options.source = folder.string();
  options.output = (folder / "out.lnt").string();
  options.quantize = "f32";
  options.self_test = false;
  options.chat_template = (folder / "own.jinja").string();
  if (auto converted = convert::convert(options); !converted) return std::unexpected(converted.error());
  return Model::open(options.output);
}

Result<std::unique_ptr<Chat>> chat_with(const std::string& source, const std::string& config = {}) {
  auto model = model_with(source, config);
  if (!model) return std::unexpected(model.error());
  auto session = Session::create(std::move(*model), cpu(), {});
  if (!session) return std::unexpected(session.error());
  ChatOptions options;
  options.max_tokens = 1;
  options.sampling.temperature = 0.0f;
  return Chat::create(std::move(*session), std::move(options));
}

std::string rendered(const std::string& source, std::vector<Message> history,
                     const std::string& config = {}) {
  const auto chat = must(chat_with(source, config));
  must(chat->edit(std::move(history)));
  return must(chat->render());
}

const std::vector<Message> kHistory = {
    {"system", "S"}, {"user", "one"}, {"assistant", "two"}, {"user", "three"}};

}  // namespace

TEST_CASE("content is given in the form that the template reads, role by role") {
  const std::string parts =
      "{% for m in messages %}[{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% endif %}{% "
      "endfor %}]{% endfor %}";
  CHECK(rendered(parts, kHistory) == "[S][one][two][three]");
  CHECK(rendered("{% for m in messages %}[{{ m.content }}]{% endfor %}", kHistory) == "[S][one][two][three]");
  CHECK(rendered("{% for m in messages %}[{{ m.content[0].text if m.role == 'user' else m.content|trim }}]{% "
                 "endfor %}",
                 kHistory) == "[S][one][two][three]");
  CHECK(rendered("{% for m in messages %}[{% if m.content is string %}{{ m.content }}{% else %}{{ "
                 "raise_exception('no') }}{% endif %}]{% endfor %}",
                 kHistory) == "[S][one][two][three]");
  CHECK(rendered("{% if messages|length > 1 %}{{ raise_exception('one') }}{% endif %}{{ "
                 "messages[0].content[0].text }}",
                 {{"user", "one"}}) == "one");
  const auto silent = chat_with("{{ bos_token }}hello{% for m in messages %}{{ m.role }}{% endfor %}");
  REQUIRE_FALSE(silent);
  CHECK(silent.error().message.find("never writes what the user says") != std::string::npos);
}

TEST_CASE("tokens that the checkpoint names are variables, others are undefined") {
  const std::string source =
      "{{ messages[0].content }} {{ pad_token }} {{ image_token }} {{ bos_token is defined }} {{ eos_token "
      "}}";
  CHECK(
      rendered(
          source, {{"user", "x"}},
          R"({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": {"content": "<|endoftext|>"}, "eos_token": "<|im_end|>",
                    "extra_special_tokens": {"image_token": "<image>"}, "add_bos_token": false, "bos_token": null})") ==
      "x <|endoftext|> <image> False <|im_end|>");
}

TEST_CASE("a template sees special tokens in messages, and they never become tokens") {
  const std::string source =
      "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content.split('<|im_end|>')[-1]|trim "
      "}}<|im_end|>{% endfor %}";
  // The guard, U+FDD0, stands in what is left of a token that a message held.
  CHECK(rendered(source, {{"user", "a<|im_end|> b"}}) == "<|im_start|>user b<|im_end|>");
  CHECK(rendered(source, {{"user", "<|im_start|> b"}}) ==
        "<|im_start|>user <\xEF\xB7\x90|im_start|> b<|im_end|>");
  // Half of a token typed, the other half the template's.
  CHECK(rendered("{{ messages[0].content }}|>", {{"user", "<|im_end"}}) == "<\xEF\xB7\x90|im_end|>");
  const auto chat = must(chat_with(source));
  must(chat->send("<|im_start|> and <|endoftext|>"));
  CHECK(std::ranges::count(chat->tokens(), 1) == 1);
  CHECK(std::ranges::count(chat->tokens(), 0) == 0);
}

TEST_CASE("what a template has that is not rendered is refused at conversion, with its line") {
  const auto refused = model_with("{{ messages }}\n{% include 'x' %}");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::kUnsupported);
  CHECK(refused.error().message.find("line 2 of the chat template: {% include %} is not supported") !=
        std::string::npos);
  CHECK(refused.error().message.find("--chat-template") != std::string::npos);
  const auto none = must(model_with(""));
  CHECK(none->chat_template() == nullptr);
}

}  // namespace linnet::test
