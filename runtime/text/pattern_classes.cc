#include "runtime/text/pattern_classes.h"

#include <pcre2.h>

#include <algorithm>
#include <iterator>

#include "runtime/core/strings.h"

namespace linnet::text {
namespace {

constexpr std::string_view kSpaces = R"(\t-\r\x20\x85\p{Z})";
constexpr std::string_view kWords =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189})";

constexpr std::string_view kWordsAlone =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189}\xB2\xB3\xB9\xBC-\xBE)";

struct Name {
  std::string_view name, inside;
  bool negated = false;
};

constexpr Name kPosix[] = {{"alnum", R"(\p{Alphabetic}\p{Nd})"},
                           {"alpha", R"(\p{Alphabetic})"},
                           {"ascii", R"(\x00-\x7F)"},
                           {"blank", R"(\t\p{Zs})"},
                           {"cntrl", R"(\p{Cc})"},
                           {"digit", R"(\p{Nd})"},
                           {"graph", R"(\t-\r\x20\x85\p{Z}\p{Cc}\p{Cn}\p{Cs})", true},
                           {"lower", R"(\p{Lowercase})"},
                           {"print", R"(\p{Cc}\p{Cn}\p{Cs}\p{Zl}\p{Zp})", true},
                           {"punct", R"(\p{P}\p{S})"},
                           {"space", kSpaces},
                           {"upper", R"(\p{Uppercase})"},
                           {"word", kWords},
                           {"xdigit", R"(0-9A-Fa-f)"}};

// Unicode's long names, which PCRE2 does not know.
constexpr Name kCategories[] = {{"casedletter", "L&"},
                                {"closepunctuation", "Pe"},
                                {"combiningmark", "M"},
                                {"connectorpunctuation", "Pc"},
                                {"control", "Cc"},
                                {"currencysymbol", "Sc"},
                                {"dashpunctuation", "Pd"},
                                {"decimalnumber", "Nd"},
                                {"enclosingmark", "Me"},
                                {"finalpunctuation", "Pf"},
                                {"format", "Cf"},
                                {"initialpunctuation", "Pi"},
                                {"lc", "L&"},
                                {"letter", "L"},
                                {"letternumber", "Nl"},
                                {"lineseparator", "Zl"},
                                {"lowercaseletter", "Ll"},
                                {"mark", "M"},
                                {"mathsymbol", "Sm"},
                                {"modifierletter", "Lm"},
                                {"modifiersymbol", "Sk"},
                                {"nonspacingmark", "Mn"},
                                {"number", "N"},
                                {"openpunctuation", "Ps"},
                                {"other", "C"},
                                {"otherletter", "Lo"},
                                {"othernumber", "No"},
                                {"otherpunctuation", "Po"},
                                {"othersymbol", "So"},
                                {"paragraphseparator", "Zp"},
                                {"privateuse", "Co"},
                                {"punctuation", "P"},
                                {"separator", "Z"},
                                {"spaceseparator", "Zs"},
                                {"spacingmark", "Mc"},
                                {"surrogate", "Cs"},
                                {"symbol", "S"},
                                {"titlecaseletter", "Lt"},
                                {"unassigned", "Cn"},
                                {"uppercaseletter", "Lu"}};

template <size_t N>
const Name* find(const Name (&names)[N], std::string_view name) {
  const auto it =
      std::find_if(std::begin(names), std::end(names), [&](const Name& n) { return n.name == name; });
  return it == std::end(names) ? nullptr : it;
}

bool compiles(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE where = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &where, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

// \p{name} without the braces.
CharacterSet property(std::string_view name, bool alone) {
  std::string folded, plain;
  for (const char c : name) {
    if (c != ' ' && c != '_' && c != '-') folded += static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    if (c != ' ') plain += c;
  }
  if (folded == "punct") return {R"(\p{P})", false};  // symbols are [:punct:]'s alone
  if (folded == "word" && alone) return {std::string(kWordsAlone), false};
  if (const Name* posix = find(kPosix, folded)) return {std::string(posix->inside), posix->negated};
  if (const Name* category = find(kCategories, folded))
    return {"\\p{" + std::string(category->inside) + "}", false};
  if (folded == "assigned") return {R"(\p{Cn})", true};
  if (folded == "any") return {R"(\x{0}-\x{10FFFF})", false};
  // A script: PCRE2's bare name means its extensions too.
  if (folded.size() > 2)
    if (std::string script = "\\p{sc:" + plain + "}"; compiles(script)) return {std::move(script), false};
  return {"\\p{" + plain + "}", false};
}

}  // namespace

std::optional<CharacterSet> posix_class(std::string_view name) {
  const Name* posix = find(kPosix, name);
  return posix ? std::optional<CharacterSet>({std::string(posix->inside), posix->negated}) : std::nullopt;
}

std::optional<CharacterSet> escaped_class(std::string_view pattern, size_t& at, bool alone) {
  const std::string_view rest = pattern.substr(at);
  if (rest.size() < 2) return std::nullopt;
  const auto simple = [&](std::string_view inside, bool negated) {
    at += 2;
    return CharacterSet{std::string(inside), negated};
  };
  switch (rest[1]) {
    case 's':
    case 'S':
      return simple(kSpaces, rest[1] == 'S');
    case 'w':
    case 'W':
      return simple(alone ? kWordsAlone : kWords, rest[1] == 'W');
    case 'd':
    case 'D':
      return simple(R"(\d)", rest[1] == 'D');
    case 'h':
    case 'H':
      return simple(R"(0-9A-Fa-f)", rest[1] == 'H');
    case 'p':
    case 'P': {
      const size_t end = rest.find('}');
      if (!rest.substr(2).starts_with('{') || end == rest.npos) return std::nullopt;
      std::string_view name = rest.substr(3, end - 3);
      bool negated = rest[1] == 'P';
      if (name.starts_with('^')) {
        negated = !negated;
        name.remove_prefix(1);
      }
      CharacterSet set = property(name, alone);
      set.negated ^= negated;
      at += end + 1;
      return set;
    }
    default:
      return std::nullopt;
  }
}

std::string escaped_character(std::string_view pattern, size_t& at) {
  const std::string_view rest = pattern.substr(at);
  const char c = rest.size() > 1 ? rest[1] : '\0';
  const auto hex = [](char h) {
    return std::string_view("0123456789abcdefABCDEF").find(h) != std::string_view::npos;
  };
  if (c == 'u' && rest.size() >= 6 && std::all_of(rest.begin() + 2, rest.begin() + 6, hex)) {
    at += 6;
    return "\\x{" + std::string(rest.substr(2, 4)) + "}";
  }
  if (c == 'v') {
    at += 2;
    return "\\x0B";
  }
  // An escaped letter that means nothing is that letter.
  const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  if (letter && std::string_view("tnrfaeAzZGKXRkgxcCM").find(c) == std::string_view::npos) {
    at += 2;
    return std::string(1, c);
  }
  size_t size = std::min<size_t>(2, rest.size());  // a whole escaped character
  while (size < rest.size() && (static_cast<unsigned char>(rest[size]) & 0xC0) == 0x80) ++size;
  if (c == 'x' && rest.substr(2).starts_with('{')) size = std::min(rest.find('}'), rest.size() - 1) + 1;
  for (size_t i = 2; c == 'x' && size == 2 && i < 4 && i < rest.size() && hex(rest[i]); ++i) size = i + 1;
  for (size_t i = 2; c >= '0' && c <= '7' && i < 4 && i < rest.size() && rest[i] >= '0' && rest[i] <= '7';
       ++i)
    size = i + 1;
  if ((c == 'k' || c == 'g') && rest.substr(2).starts_with('<'))
    size = std::min(rest.find('>'), rest.size() - 1) + 1;
  at += size;
  return std::string(rest.substr(0, size));
}

std::string word_boundary(bool none) {
  const std::string word = "[" + std::string(kWordsAlone) + "]";
  const std::string behind = "(?<=" + word + ")", not_behind = "(?<!" + word + ")",
                    before = "(?=" + word + ")", not_before = "(?!" + word + ")";
  return none ? "(?:" + behind + before + "|" + not_behind + not_before + ")"
              : "(?:" + behind + not_before + "|" + not_behind + before + ")";
}

}  // namespace linnet::text
