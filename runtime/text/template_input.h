// What a template is given: values from JSON and from what a person writes for a variable.
#pragma once

#include <string_view>

#include "runtime/text/template_value.h"

namespace linnet::text::jinja {

// Texts below count as a user's if `user`. Throws Failure.
Value read_json(const Heap& heap, std::string_view json, bool user);
// true and false (also True and False), null and None, numbers, and JSON arrays, objects and quoted texts are
// what they say; everything else is a text. Throws Failure for what begins like JSON and is none.
Value read_variable(const Heap& heap, std::string_view text, bool user);

}  // namespace linnet::text::jinja
