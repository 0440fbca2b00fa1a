// Chat templates against transformers' apply_chat_template (tests/oracles/text_templates.py).
#include <doctest/doctest.h>

#include <pthread.h>

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/text/template.h"

using namespace linnet;

// Sanitizers take several times the stack and the time.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LINNET_TEST_STACK (size_t{4} << 20)
#define LINNET_TEST_SECONDS 200.0
#else
#define LINNET_TEST_STACK (size_t{512} << 10)
#define LINNET_TEST_SECONDS 20.0
#endif

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
    options.tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    options.now = golden["now"];
    const auto text = parsed->render(messages, options);
    if (c.contains("error")) {
      ++refused;
      REQUIRE_FALSE(text);
      CHECK(text.error().message.find(c["error"].get<std::string>()) != std::string::npos);
    } else {
      ++rendered;
      REQUIRE_MESSAGE(text, (text ? "" : text.error().message));
      CHECK(text->text == c["text"].get<std::string>());
    }
  }
  CHECK(static_cast<size_t>(rendered + refused) == golden["cases"].size());
  if (!other) {  // as many as text_templates.py makes
    CHECK(rendered == 216);
    CHECK(refused == 24);
  }
}

// On a thread with a small stack, whose processor time is limited too.
void on_small_stack(size_t bytes, double seconds, const std::function<void()>& body) {
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, bytes) == 0);
  pthread_t thread;
  struct Call {
    const std::function<void()>& body;
    double seconds = 0;
  } call{body};
  REQUIRE(pthread_create(
              &thread, &attributes,
              [](void* given) -> void* {
                auto& c = *static_cast<Call*>(given);
                c.body();
                timespec spent{};
                clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
                c.seconds = static_cast<double>(spent.tv_sec) + static_cast<double>(spent.tv_nsec) * 1e-9;
                return nullptr;
              },
              &call) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  CHECK(call.seconds < seconds);
}

constexpr size_t kSmallStack = LINNET_TEST_STACK;
constexpr double kMostSeconds = LINNET_TEST_SECONDS;

void stopped(const std::string& source) {
  CAPTURE(source.substr(0, 200));
  std::optional<Error> error;
  on_small_stack(kSmallStack, kMostSeconds, [&] {
    const auto parsed = text::ChatTemplate::parse(source);
    const auto rendered =
        parsed ? parsed->render({}, {}) : Result<text::Rendering>(std::unexpected(parsed.error()));
    if (!rendered) error = rendered.error();
  });
  REQUIRE(error);
  CAPTURE(error->message);
  CHECK((error->code == ErrorCode::kOutOfMemory ||
         error->message.find("nested too deeply") != std::string::npos));
}

std::string repeated(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

TEST_CASE("templates that never end are stopped in time, on a small stack") {
  for (const char* source :
       {"{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{% if 1 %}{% if 1 %}{% for i in [1] %}{% set x %}{{ f() | upper }}{% endset %}{% "
        "endfor %}{% endif %}{% endif %}{% endmacro %}{{ f() }}",
        "{% macro f(g) %}{{ caller and '' }}{% call g(g) %}{% endcall %}{% endmacro %}{{ f(f) }}",
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", "{{ 'x' * 1000000000 }}",
        "{{ [1] * 1000000000 }}", "{{ 'x'.center(1000000000) }}", "{{ 'x'.zfill(1000000000) }}",
        "{{ '%1000000000d' % 1 }}", "{{ '{:1000000000}'.format(1) }}", "{{ ('a' * 60000000)|list|length }}",
        "{{ ('a' * 60000000)|map('upper')|join }}", "{{ ('\t' * 60000000).expandtabs(100) }}",
        "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x "
        "%}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = ns.x|map('string') %}{% "
        "endfor %}",
        "{% set ns = namespace(x='a' * 30000000, y=[]) %}{% for i in range(1000) %}{% set ns.y = ns.y + "
        "[ns.x ~ i] %}{% endfor %}"})
    stopped(source);
}

TEST_CASE("templates that make little go a long way are stopped in time") {
  // Each of many steps goes through a text of megabytes.
  const std::string long_text = "{% set x = 'ab' * 16000000 %}{% for i in range(100000) %}";
  for (const char* step :
       {"{% if x|upper == 'a' %}{% endif %}", "{% if 'ba' in x and x[5] == 'q' %}{% endif %}",
        "{% set y = x.find('bb') %}", "{% set y = x[1:] %}", "{% set y = x|length %}",
        "{% set y = x|trim('abc') %}", "{% if x == x ~ '' %}{% endif %}",
        "{% set y = x.replace('ab', 'c') %}", "{% set y = x.split('q') %}", "{% set y = x|wordcount %}",
        "{% set y %}{{ x }}{% endset %}", "{% set y = x|tojson %}", "{% set y = {x: 1} %}",
        "{% set y = x.isalpha() %}", "{% set y = x.title() %}", "{% set y = x[::-1] %}"})
    stopped(long_text + step + "{% endfor %}");
  stopped("{% set x = ' ' * 60000000 %}{% for i in range(100000) %}{% if x|trim %}{% endif %}{% endfor %}");
  stopped("{% set x = 'a,' * 30000000 %}{{ x.split(',')|length }}");
  stopped("{% set x = 'a,' * 30000000 %}{{ x.rsplit(',')|length }}");
  stopped("{% set x = 'a' * 30000000 %}{{ (x ~ 'b').find(x[1:] ~ 'c') }}");
  stopped(
      "{% set x = range(100000)|list %}{% for i in x %}{% if x|sort|unique|list == x %}{% endif %}{% endfor "
      "%}");
  // Lists that share their items are as large as what they show.
  std::string shared = "{% set x = ['aaaaaaaaaaaaaaaa'] %}";
  for (int i = 0; i < 40; ++i) shared += "{% set x = [x, x] %}";
  stopped(shared + "{{ x }}");
  stopped(shared + "{% if x == [x] or x|tojson == 'a' %}{% endif %}");
  stopped("{% set x = 'a' * 60000000 %}{% set x = [x, x, x, x] %}{{ x }}");
  stopped("{% set x = 'a' * 60000000 %}{{ [x, x, x, x]|tojson }}");
  stopped("{% set x = 1 %}" + repeated("{% set x = dict(a=x) %}", 5000) + "{{ x }}");
}

TEST_CASE("every node of a template counts for its depth") {
  for (const std::string& source :
       {"{{ 1" + repeated(" + 1", 20000) + " }}", "{{ x" + repeated("[0]", 300000) + " }}",
        "{{ x" + repeated(".a", 100000) + " }}", "{{ x" + repeated("|trim", 100000) + " }}",
        "{{ x" + repeated("()", 100000) + " }}", "{{ x" + repeated(" if y", 100000) + " }}",
        "{{ x" + repeated(" or x", 100000) + " }}", "{{ " + std::string(100000, '-') + "1 }}",
        "{{ " + repeated("not ", 100000) + "1 }}",
        "{{ " + std::string(5000, '(') + "1" + std::string(5000, ')') + " }}",
        "{{ " + std::string(5000, '[') + std::string(5000, ']') + " }}",
        "{{ " + repeated("{1:", 5000) + "1" + repeated("}", 5000) + " }}", repeated("{% if x %}", 5000),
        repeated("{% for i in x %}", 5000), repeated("{% set x %}", 5000),
        "{{ 1" + repeated(" ** 1", 20000) + " }}"})
    stopped(source + " ");
}

TEST_CASE("a conversation's bytes are told from the template's, whatever is done to them") {
  const auto shown = [](const char* source) {
    const auto parsed = text::ChatTemplate::parse(source);
    REQUIRE(parsed);
    const std::vector<text::Message> messages = {{"user", " <think>a</think> b,c "}};
    const auto rendering = parsed->render(messages, {});
    REQUIRE_MESSAGE(rendering, (rendering ? "" : rendering.error().message));
    std::string marked;
    size_t at = 0;
    for (const auto& [begin, end] : rendering->user) {
      marked +=
          rendering->text.substr(at, begin - at) + "{" + rendering->text.substr(begin, end - begin) + "}";
      at = end;
    }
    return marked + rendering->text.substr(at);
  };
  CHECK(shown("[{{ messages[0].content }}]") == "[{ <think>a</think> b,c }]");
  CHECK(shown("[{{ messages[0].role }}]") == "[user]");
  CHECK(shown("{{ '<s>' + messages[0].content|trim + '</s>' }}") == "<s>{<think>a</think> b,c}</s>");
  CHECK(shown("{{ ('<s>' + messages[0].content).split('</think>')[-1].lstrip() }}") == "{b,c }");
  CHECK(shown("{{ messages[0].content.split(',')|join(' | ') }}") == "{ <think>a</think> b} | {c }");
  CHECK(shown("{{ messages[0].content.replace('<think>', '<s>')[:5] }}") == "{ }<s>{a}");
  CHECK(shown("{{ (messages[0].content ~ 'X')[-3:] }}") == "{c }X");
  CHECK(shown("{{ messages[0].content|upper }}x") == "{ <THINK>A</THINK> B,C }x");
  CHECK(shown("{{ '%s!' % messages[0].content[1:3] }}{{ '{}?'.format(messages[0].content[1:3]) }}") ==
        "{<t}!{<t}?");
  CHECK(shown("{{ messages[0].content[1:3]|tojson }}") == "{\"<t\"}");
  CHECK(shown("{{ messages[0].content[1:3] }}{{ messages[0].content[1:3] }}") == "{<t<t}");
}

TEST_CASE("variables are what they say") {
  const auto shown = [](const char* value) {
    const auto parsed = text::ChatTemplate::parse("{{ v is string }} {{ v|tojson }}");
    REQUIRE(parsed);
    text::RenderOptions options;
    options.variables = {{"v", value}};
    const auto rendering = parsed->render({}, options);
    return rendering ? rendering->text : rendering.error().message;
  };
  CHECK(shown("False") == "False false");
  CHECK(shown("true") == "False true");
  CHECK(shown("None") == "False null");
  CHECK(shown("12") == "False 12");
  CHECK(shown("-2.50") == "False -2.5");
  CHECK(shown("[1, {\"a\": \"\\u00e9\"}]") == "False [1, {\"a\": \"é\"}]");
  CHECK(shown("\"12\"") == "True \"12\"");
  CHECK(shown("low") == "True \"low\"");
  CHECK(shown("2024-01-01") == "True \"2024-01-01\"");
  CHECK(shown("[INST]").find("the template variable 'v': it is not JSON") != std::string::npos);
}

TEST_CASE("what is not supported is refused with its line before anything is rendered") {
  for (const char* construct :
       {"{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}",
        "{% block b %}{% endblock %}", "{% autoescape true %}{% endautoescape %}", "{{ x|random }}",
        "{{ x|pprint }}", "{{ x|urlize }}", "{{ x|wordwrap }}", "{{ x|striptags }}", "{{ x|nosuch }}",
        "{{ x is nosuch }}", "{{ lipsum() }}", "{{ self.x }}", "{{ x.encode('utf-8') }}", "{% break %}",
        "{{ 99999999999999999999 }}", "{% nosuch %}"}) {
    CAPTURE(construct);
    const auto parsed = text::ChatTemplate::parse(std::string("line one\n\n") + construct);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().message.find("line 3 of the chat template") != std::string::npos);
  }
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
}
