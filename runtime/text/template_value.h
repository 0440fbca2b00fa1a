// Values of the template language: Python's, as far as templates see them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace linnet::text::jinja {

// Of any text that a template makes.
inline constexpr size_t kMostOutput = size_t{64} << 20;
inline constexpr const char* kTooLong = "it makes a text of more than 64 MiB";

struct Value;
struct Evaluator;
struct MacroNode;

using List = std::vector<Value>;
// In order of insertion, as Python's dict.
using Dict = std::vector<std::pair<std::string, Value>>;

struct Undefined {};
struct None {};
struct MacroRef {
  const MacroNode* macro;
};
struct Builtin {
  std::string name;
};
// A method bound to its object: "text".upper
struct Method {
  std::shared_ptr<Value> object;
  std::string name;
};

struct Value {
  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<List>, std::shared_ptr<Dict>, MacroRef, Builtin, Method>
      data;

  Value() = default;
  Value(None) : data(None{}) {}
  Value(bool b) : data(b) {}
  Value(int64_t i) : data(i) {}
  Value(double d) : data(d) {}
  Value(std::string s) : data(std::make_shared<const std::string>(std::move(s))) {}
  Value(const char* s) : Value(std::string(s)) {}
  Value(List l) : data(std::make_shared<List>(std::move(l))) {}
  Value(Dict d) : data(std::make_shared<Dict>(std::move(d))) {}
  Value(MacroRef m) : data(m) {}
  Value(Builtin b) : data(std::move(b)) {}
  Value(Method m) : data(std::move(m)) {}

  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(data);
  }
  bool is_string() const { return is<std::shared_ptr<const std::string>>(); }
  bool is_list() const { return is<std::shared_ptr<List>>(); }
  bool is_dict() const { return is<std::shared_ptr<Dict>>(); }
  bool is_number() const { return is<int64_t>() || is<double>() || is<bool>(); }
  const std::string& string() const { return *std::get<std::shared_ptr<const std::string>>(data); }
  List& list() const { return *std::get<std::shared_ptr<List>>(data); }
  Dict& dict() const { return *std::get<std::shared_ptr<Dict>>(data); }
  int64_t integer() const {  // the caller has checked is_number; beyond an integer's range it is 0
    if (is<bool>()) return std::get<bool>(data) ? 1 : 0;
    if (!is<double>()) return std::get<int64_t>(data);
    const double d = std::get<double>(data);
    return d > -9e18 && d < 9e18 ? static_cast<int64_t>(d) : 0;
  }
  double real() const { return is<double>() ? std::get<double>(data) : static_cast<double>(integer()); }
};

// What went wrong, with the line of the template (0: unknown). Thrown inside the template files only; the
// public functions turn it into an Error.
struct Failure {
  std::string message;
  int line = 0;
  bool raised = false;  // the template's own raise_exception
  bool bound = false;   // a limit was reached
};

bool truthy(const Value& v);
bool equal(const Value& a, const Value& b);
int compare(const Value& a, const Value& b);  // -1, 0, 1; throws for types that have no order
const char* type_name(const Value& v);
// The texts throw a Failure beyond kMostOutput.
std::string to_text(const Value& v);                   // str(v); undefined is empty
std::string to_repr(const Value& v);                   // repr(v), for lists in text
std::string to_json(const Value& v, int indent = -1);  // transformers' tojson: not escaped for HTML
const Value* find(const Dict& dict, const std::string& key);
void assign(Dict& dict, const std::string& key, Value value);

// UTF-8: lengths and indices of strings count code points.
int64_t code_points(const std::string& s);
std::string substring(const std::string& s, int64_t begin, int64_t end);  // by code points, clamped

}  // namespace linnet::text::jinja
