// Chat templates against transformers' apply_chat_template (tests/oracles/text_templates.py).
#include <doctest/doctest.h>

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/text/template.h"

using namespace linnet;

// The variable LINNET_TEMPLATE_GOLDEN names another golden, such as one of a folder of real templates.
TEST_CASE("templates give the strings of apply_chat_template") {
  const char* other = std::getenv("LINNET_TEMPLATE_GOLDEN");
  std::ifstream file(other ? other : LINNET_GOLDEN "/text/templates.json");
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
  CHECK(static_cast<size_t>(rendered + refused) == golden["cases"].size());
  if (!other) {  // as many as text_templates.py makes
    CHECK(rendered == 216);
    CHECK(refused == 24);
  }
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

TEST_CASE("templates that make little go a long way are stopped in time") {
  const auto stopped = [](const std::string& source) {
    CAPTURE(source.substr(0, 200));
    const auto parsed = text::ChatTemplate::parse(source);
    REQUIRE(parsed);
    const std::clock_t start = std::clock();  // of this process: other work on the machine does not count
    const auto text = parsed->render({}, {});
    REQUIRE_FALSE(text);
    CHECK(text.error().code == ErrorCode::kOutOfMemory);
    CHECK((std::clock() - start) / CLOCKS_PER_SEC < 60);
  };
  // Each of a million steps goes through a text of megabytes.
  const std::string long_text = "{% set x = 'ab' * 16000000 %}{% for i in range(1000000) %}";
  for (const char* step :
       {"{% if x|upper == 'a' %}{% endif %}", "{% if 'ba' in x and x[5] == 'q' %}{% endif %}",
        "{% set y = x.find('bb') %}", "{% set y = x[1:] %}", "{% set y = x|length %}",
        "{% if x == x ~ '' %}{% endif %}", "{% set y = x.replace('ab', 'c') %}"})
    stopped(long_text + step + "{% endfor %}");
  stopped("{% set x = 'a,' * 30000000 %}{{ x.split(',')|length }}");
  stopped("{% set x = 'a,' * 30000000 %}{{ x.rsplit(',')|length }}");
  stopped("{% set x = 'a' * 30000000 %}{{ (x ~ 'b').find(x[1:] ~ 'c') }}");
  // Lists that share their items are as large as what they show.
  std::string shared = "{% set x = ['aaaaaaaaaaaaaaaa'] %}";
  for (int i = 0; i < 40; ++i) shared += "{% set x = [x, x] %}";
  stopped(shared + "{{ x }}");
  stopped("{% set x = 'a' * 60000000 %}{% set x = [x, x, x, x] %}{{ x }}");
  stopped("{% set x = 'a' * 60000000 %}{{ [x, x, x, x]|tojson }}");
  std::string nested = "{% set x = 1 %}";
  for (int i = 0; i < 5000; ++i) nested += "{% set x = dict(a=x) %}";
  stopped(nested + "{{ x }}");
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
