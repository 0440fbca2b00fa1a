// The filters, by name. Each takes the value before '|' and its arguments, bound to the names it has in
// Jinja.
#pragma once

#include <string_view>

#include "runtime/text/template_eval.h"

namespace linnet::text::jinja {

struct Filter {
  const char* name;
  Value (*run)(Evaluator& e, const Value& v, const Bound& args);
  const char* names[6];
  size_t count, required;
};
inline bool truth(const Value* v) { return v && truthy(*v); }  // of an argument that may be absent

const Filter* find_text_filter(std::string_view name);
const Filter* find_item_filter(std::string_view name);
// map, select, reject, selectattr, rejectattr and format, whose arguments are free; null otherwise.
using FreeFilter = Value (*)(Evaluator& e, const Value& v, Arguments& args, const std::string& name);
FreeFilter find_free_filter(std::string_view name);

}  // namespace linnet::text::jinja
