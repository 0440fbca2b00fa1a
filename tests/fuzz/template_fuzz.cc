// Arbitrary text as a chat template, rendered over two conversations.
#include <cstdlib>
#include <string_view>

#include "runtime/text/template.h"

using namespace linnet;
using namespace linnet::text;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parsed = ChatTemplate::parse({reinterpret_cast<const char*>(data), size});
  if (!parsed) {
    if (parsed.error().message.empty()) std::abort();
    return 0;
  }
  const Message chat[] = {{"system", "Be brief."}, {"user", "Hello \xC3\xA9\n"}, {"assistant", ""}};
  RenderOptions options;
  options.tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  options.now = 1700000000;
  options.variables = {{"enable_thinking", "true"}, {"tools", "[{\"name\": \"f\"}]"}};
  for (const size_t count : {size_t{3}, size_t{2}, size_t{0}}) {
    const auto text = parsed->render(std::span(chat).first(count), options);
    if (!text && text.error().message.empty()) std::abort();
    options.add_generation_prompt = !options.add_generation_prompt;
  }
  return 0;
}
