// Random and real templates against transformers' sandbox: cases that tests/oracles/template_fuzz.py and
// template_real.py kept.
#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/text/template.h"

using namespace linnet;

TEST_CASE("templates give what transformers' sandbox gives") {
  for (const char* name : {"/text/template_fuzz.jsonl", "/text/template_real.jsonl"}) {
    CAPTURE(name);
    std::ifstream file(std::string(LINNET_GOLDEN) + name);
    std::string line;
    REQUIRE(std::getline(file, line));
    const auto head = nlohmann::json::parse(line);
    int cases = 0;
    while (std::getline(file, line)) {
      const auto c = nlohmann::json::parse(line);
      const std::string source = c.contains("template")
                                     ? c["template"].get<std::string>()
                                     : head["templates"][c["of"].get<size_t>()].get<std::string>();
      CAPTURE(source);
      const auto parsed = text::ChatTemplate::parse(source);
      REQUIRE_MESSAGE(parsed, (parsed ? "" : parsed.error().message));
      const auto rendering =
          parsed->render_json(head["contexts"][c["context"].get<size_t>()].get<std::string>(), head["now"]);
      if (c.contains("text")) {
        REQUIRE_MESSAGE(rendering, (rendering ? "" : rendering.error().message));
        CHECK(rendering->text == c["text"].get<std::string>());
      } else {
        CHECK_FALSE(rendering);
      }
      ++cases;
    }
    CHECK(cases > 100);
  }
}
