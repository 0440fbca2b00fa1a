// The traits of every op agree with each other, and nobody but an op's own files knows it by name.
#include "runtime/graph/op_traits.h"

#include <doctest/doctest.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

using namespace linnet;

TEST_CASE("the traits of each op agree with each other") {
  for (size_t i = 0; i < graph::kOpCount; ++i) {
    const graph::OpInfo& op = graph::op_info(static_cast<graph::OpKind>(i));
    const std::string name(op.name);
    CAPTURE(name);
    const graph::StateTraits& states = op.traits.states;
    CHECK((states.cache != nullptr) == (states.change == graph::StateChange::kRingRows));
    if (states.half != 0) CHECK(states.change == graph::StateChange::kRecurrent);
    REQUIRE(op.traits.weight != nullptr);
    if (const graph::RowTraits* rows = op.traits.rows) {
      CHECK((rows->images & 1) == 1);  // its rows set the pace
      // Bands come again and again: a state would see its tokens in another order.
      CHECK(states.change == graph::StateChange::kNothing);
      CHECK(rows->able != nullptr);
      CHECK(rows->unit != nullptr);
      CHECK(rows->input_rows != nullptr);
    }
  }
}

namespace {

constexpr const char* kOps[] = {
#define LINNET_OP(pascal, snake, equation) #pascal,
#include "runtime/graph/ops.def"
#undef LINNET_OP
};

bool has_word(const std::string& text, const std::string& word) {
  const auto part = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1))
    if ((at == 0 || !part(text[at - 1])) &&
        (at + word.size() == text.size() || !part(text[at + word.size()])))
      return true;
  return false;
}

}  // namespace

TEST_CASE("an op's name stands in its own files and in importers only: others ask its traits") {
  const std::filesystem::path root = std::filesystem::path(LINNET_GOLDEN) / ".." / "..";
  size_t files = 0;
  for (const char* folder : {"runtime", "backends", "converter", "apps", "format"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      const std::filesystem::path& path = entry.path();
      const std::string name = path.filename().string();
      if ((path.extension() != ".cc" && path.extension() != ".h") || name.starts_with("rules_")) continue;
      std::ifstream stream(path);
      const std::string text((std::istreambuf_iterator<char>(stream)), {});
      ++files;
      // Kernels and importers read and write the arguments of their ops.
      const bool no_arguments = std::string_view(folder) == "runtime" || std::string_view(folder) == "apps" ||
                                name.starts_with("self_test");
      for (const std::string op : kOps) {
        CAPTURE(path.string());
        CAPTURE(op);
        CHECK_FALSE(has_word(text, "As" + op));
        CHECK_FALSE(has_word(text, "OpKind::k" + op));
        CHECK_FALSE(has_word(text, "OpArgs::" + op));
        if (no_arguments) CHECK_FALSE(has_word(text, "fb::" + op + "T"));
      }
    }
  }
  CHECK(files > 200);
}
