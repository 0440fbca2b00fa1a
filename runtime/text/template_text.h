// What filters and str methods do to texts, with the spans of users kept.
#pragma once

#include "runtime/text/template_eval.h"

namespace linnet::text::jinja {

// "lower", "upper", "title", "capitalize", "casefold" or "swapcase".
Value cased(Evaluator& e, const Value& text, const std::string& how);
// `characters` null: Python's white space.
Value stripped(Evaluator& e, const Value& text, const Value* characters, bool left, bool right);
// At most `most` times; negative: all.
Value replaced(Evaluator& e, const Value& text, const Text& from, const Text& to, int64_t most);
// A list. `by` null: at white space. At most `most` cuts; negative: all.
Value split(Evaluator& e, const Value& text, const Value* by, int64_t most, bool from_right);
List lines_of(Evaluator& e, const Value& text, bool keep_ends);
// "center", "ljust" or "rjust".
Value justified(Evaluator& e, const Value& text, int64_t width, const Value& fill, const std::string& how);
bool is_cased_as(Evaluator& e, const std::string& s, bool upper);

}  // namespace linnet::text::jinja
