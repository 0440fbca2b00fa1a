// Renders templates that come as lines of JSON, for tests/oracles/template_fuzz.py: {"template": ...,
// "variables": "a JSON object as text", "now": seconds} gives {"text": ...} or {"error": ..., "kind": ...}.
#include <cstdint>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/text/template.h"

int main() {
  using nlohmann::json;
  for (std::string line; std::getline(std::cin, line);) {
    const json given = json::parse(line);
    json answer;
    const auto failed = [&](const linnet::Error& error, const char* stage) {
      answer = {{"error", error.message}, {"kind", static_cast<int>(error.code)}, {"stage", stage}};
    };
    if (const auto parsed = linnet::text::ChatTemplate::parse(given["template"].get<std::string>());
        !parsed) {
      failed(parsed.error(), "parse");
    } else if (const auto made = parsed->render_json(given["variables"].get<std::string>(),
                                                     given.value("now", int64_t{-1}));
               !made) {
      failed(made.error(), "render");
    } else {
      answer = {{"text", made->text}, {"user", made->user}};
    }
    std::cout << answer.dump(-1, ' ', false, json::error_handler_t::replace) << "\n" << std::flush;
  }
}
