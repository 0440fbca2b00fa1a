#include "runtime/text/printable.h"

#include <doctest/doctest.h>

namespace linnet::text {

TEST_CASE("what a terminal would act on is shown instead") {
  CHECK(printable("a plain text, Grüße, 漢字 🐦\n\tnext").compare("a plain text, Grüße, 漢字 🐦\n\tnext") == 0);
  CHECK(printable("\x1b[2Jm.lnt\r") == "\\x1b[2Jm.lnt\\x0d");
  CHECK(printable(std::string_view("a\0b\x7f", 4)) == "a\\x00b\\x7f");
  CHECK(printable("\xC2\x9B"
                  "31m") == "\\x9b31m");                          // a control sequence in one character
  CHECK(printable("txt.\xE2\x80\xAEtnl") == "txt.\\u{202e}tnl");  // writes the rest backwards
  CHECK(printable("\xE2\x81\xA6x\xE2\x80\xA9") == "\\u{2066}x\\u{2029}");
  CHECK(printable("\xFFok\xE2\x82") == "\\xffok\\xe2\\x82");  // no UTF-8, and cut short
  CHECK(printable("👩\u200D🔬") == "👩\u200D🔬");                 // a joiner belongs to its emoji
}

TEST_CASE("a name stays within its line") {
  CHECK(text::printable_line("a\nwrote b\tc\x1b") == "a\\nwrote b\\tc\\x1b");
  CHECK(text::printable_line("") == "");
  CHECK(text::printable("a\n\tb") == "a\n\tb");
}

}  // namespace linnet::text
