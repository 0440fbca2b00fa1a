// Writes what the shaders know of types (runtime/core/dtypes.def, format/panel_layout.h) as GLSL: run by the
// build, included by shaders/codes.glsl as types.glsl.
#include <cctype>
#include <cstdio>
#include <string>

#include "format/panel_layout.h"

using namespace linnet;

namespace {

// A macro of a type: NAME(t) is a chain of choices, which disappears where t is a constant.
template <typename Value>
void choice(const char* name, const char* comment, const Value& value) {
  if (*comment) std::printf("// %s\n", comment);
  std::printf("#define %s(t) (", name);
  for (const DType dtype : kBlockTypes)
    std::printf("(t) == %uu ? %s : ", static_cast<unsigned>(dtype), value(dtype).c_str());
  std::printf("%s)\n", value(DType::kF32).c_str());
}

std::string number(size_t n) { return std::to_string(n) + "u"; }
std::string yes_or_no(bool b) { return b ? "true" : "false"; }

// In words of 32 bits: every part of a block begins with one.
std::string words(size_t bytes) { return number(bytes / 4); }
static_assert([] {
  for (const DType dtype : kBlockTypes) {
    const format::PanelBlock block = format::panel_block(dtype);
    // Of sixteen bytes, which shaders/quads.glsl reads at once.
    if (block.minima % 16 != 0 || block.codes % 16 != 0 || block.bytes % 16 != 0) return false;
  }
  return true;
}());

// The code that is farthest from the zero, in steps of the scale (with a minimum: from code 0).
std::string most_steps(DType dtype) {
  const DTypeInfo& info = info_of(dtype);
  int most = 0;
  if (info.codes == CodeKind::kSigned) {
    most = 1 << (info.bits - 1);
  } else if (info.codes == CodeKind::kUnsigned) {
    const int above = (1 << info.bits) - 1 - info.zero;
    most = above > info.zero ? above : info.zero;
  }
  return std::to_string(most) + ".0";
}

}  // namespace

int main() {
  std::puts("// From runtime/core/dtypes.def by backends/vulkan/generate/types.cc. Blocks: format/panel.h.");
  for (int i = 0; i < kDTypeCount; ++i) {
    std::string name(kDTypes[i].name);
    for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    std::printf("#define DTYPE_%s %du\n", name.c_str(), i);
  }
  std::printf("#define PANEL_ROWS %uu\n#define GROUP_INPUTS %uu\n", static_cast<unsigned>(format::kPanelRows),
              static_cast<unsigned>(kGroupSize));
  choice("CODE_BITS", "Bits of a code; 0: not in blocks.", [](DType t) { return number(code_bits(t)); });
  choice("CODE_PARTS", "Codes that lie in the bits of a byte.",
         [](DType t) { return number(is_quantized(t) ? 8 / code_bits(t) : 1); });
  choice("SIGNED_CODES", "Whether codes have a sign.",
         [](DType t) { return yes_or_no(info_of(t).codes == CodeKind::kSigned); });
  choice("CODE_ZERO", "What is taken from a code.",
         [](DType t) { return std::to_string(info_of(t).zero) + ".0"; });
  choice("MOST_STEPS", "The farthest code from the zero, in steps.", most_steps);
  choice("HAS_MINIMUM", "Whether groups have a minimum.", [](DType t) { return yes_or_no(has_minimum(t)); });
  choice("BLOCK_WORDS", "Words of a block, and where its minima and its codes begin.",
         [](DType t) { return words(is_quantized(t) ? format::panel_block(t).bytes : 0); });
  choice("MINIMA_AT", "", [](DType t) { return words(format::panel_block(t).minima); });
  choice("CODES_AT", "", [](DType t) { return words(format::panel_block(t).codes); });
  choice("GROUP_HALVES", "Units of 16 bits of a row's group, as caches have it, and of its scale.",
         [](DType t) { return number(is_quantized(t) ? group_bytes(t) / 2 : 0); });
  choice("SCALE_HALVES", "", [](DType t) { return number(scale_bytes(t) / 2); });
}
