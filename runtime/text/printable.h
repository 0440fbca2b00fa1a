// Text of unknown origin for people's eyes.
#pragma once

#include <string>
#include <string_view>

namespace linnet::text {

// `text` as a terminal may get it: control characters (but line feed and tab) and what turns the direction of
// writing become \x1b or \u{202e}, bytes that are no UTF-8 become \xff. A path or a name from a file can so
// neither move the cursor nor pretend to be another. Everything else stays as it is.
std::string printable(std::string_view text);
// The same for what stands within a line: line feed and tab become \n and \t, so that a name cannot begin a
// line of its own.
std::string printable_line(std::string_view text);

}  // namespace linnet::text
