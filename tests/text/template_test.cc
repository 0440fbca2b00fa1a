// Chat templates against transformers' apply_chat_template (tests/oracles/text_templates.py).
#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/text/template.h"

using namespace linnet;

TEST_CASE("templates give the strings of apply_chat_template") {
  std::ifstream file(LINNET_GOLDEN "/text/templates.json");
  const auto golden = nlohmann::json::parse(file);
  int rendered = 0, refused = 0;
  for (const auto& c : golden["cases"]) {
    const std::string name = c["template"];
    CAPTURE(name);
    CAPTURE(c["conversation"].get<int>());
    const auto parsed = text::ChatTemplate::parse(golden["templates"][name].get<std::string>());
    REQUIRE_MESSAGE(parsed, (parsed ? "" : parsed.error().message));
    std::vector<text::Message> messages;
    for (const auto& m : golden["conversations"][c["conversation"].get<size_t>()])
      messages.push_back({m[0], m[1]});
    text::RenderOptions options;
    options.add_generation_prompt = c["add_generation_prompt"];
    options.bos_token = "<s>";
    options.eos_token = "</s>";
    options.now = golden["now"];
    const auto text = parsed->render(messages, options);
    if (c.contains("error")) {
      ++refused;
      REQUIRE_FALSE(text);
      CHECK(text.error().message.find(c["error"].get<std::string>()) != std::string::npos);
    } else {
      ++rendered;
      REQUIRE_MESSAGE(text, (text ? "" : text.error().message));
      CHECK(*text == c["text"].get<std::string>());
    }
  }
  CHECK(rendered > 100);
  CHECK(refused > 5);
}

TEST_CASE("templates that never end are stopped") {
  const auto stopped = [](const char* source) {
    const auto parsed = text::ChatTemplate::parse(source);
    REQUIRE(parsed);
    const auto text = parsed->render({}, {});
    REQUIRE_FALSE(text);
    CHECK(text.error().code == ErrorCode::kOutOfMemory);
  };
  stopped("{% for i in range(1000000000) %}x{% endfor %}");
  stopped("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}");
  stopped("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
  stopped("{{ 'x' * 1000000000 }}");
  stopped(
      "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% "
      "endfor %}");
  stopped("{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}");
}

TEST_CASE("damaged templates name what is wrong and the line") {
  for (const char* source : {"{{ x", "{% if x %}", "{% endif %}", "{{ 'abc }}", "{% unknown %}", "{{ x | }}",
                             "{# open", "{{ (1 }}", "{% for x %}{% endfor %}"}) {
    CAPTURE(source);
    const auto parsed = text::ChatTemplate::parse(source);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == ErrorCode::kInvalidFile);
    CHECK(parsed.error().message.find("line 1") != std::string::npos);
  }
  std::string deep(5000, '(');
  CHECK_FALSE(text::ChatTemplate::parse("{{ " + deep + " }}"));
  CHECK_FALSE(text::ChatTemplate::parse("{{ " + std::string(100000, '-') + "1 }}"));
}
