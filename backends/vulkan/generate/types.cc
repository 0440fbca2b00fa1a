// Writes what the shaders know of types (runtime/core/dtypes.def, format/panel_layout.h) as GLSL: run by the
// build, included by shaders/codes.glsl as types.glsl.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "format/panel_layout.h"

using namespace linnet;

namespace {

// A macro of a type, NAME(t): a byte for each type, four in a word. Drivers fold it where t is a constant; a
// chain of choices for every use made a pipeline take seconds to compile.
template <typename Value>
void table(const char* name, const char* comment, const Value& value) {
  if (*comment) std::printf("// %s\n", comment);
  std::printf("#define %s(t) (", name);
  constexpr int kWords = (kDTypeCount + 3) / 4;
  std::printf("(");
  for (int word = 0; word < kWords; ++word) {
    unsigned bytes = 0;
    for (int i = 0; i < 4; ++i) {
      const int type = word * 4 + i;
      const size_t number = type < kDTypeCount ? static_cast<size_t>(value(static_cast<DType>(type))) : 0;
      if (number > 255) std::abort();  // the build fails: a byte is too small for this
      bytes |= static_cast<unsigned>(number) << (8 * i);
    }
    if (word + 1 < kWords) std::printf("(t) < %du ? ", 4 * (word + 1));
    std::printf("0x%Xu%s", bytes, word + 1 < kWords ? " : " : "");
  }
  std::printf(") >> ((t) & 3u) * 8u & 0xFFu)\n");
}
// Whether a type is so.
template <typename Value>
void flag(const char* name, const char* comment, const Value& value) {
  unsigned bits = 0;
  for (int i = 0; i < kDTypeCount; ++i) bits |= (value(static_cast<DType>(i)) ? 1u : 0u) << i;
  if (*comment) std::printf("// %s\n", comment);
  std::printf("#define %s(t) ((0x%Xu >> (t) & 1u) != 0u)\n", name, bits);
}
static_assert(kDTypeCount <= 32);

size_t in_blocks(DType t, size_t number) { return is_quantized(t) ? number : 0; }

// In words of 32 bits every part begins with one.
static_assert([] {
  for (const DType dtype : kBlockTypes) {
    const format::PanelBlock block = format::panel_block(dtype);
    // Of sixteen bytes, which shaders/quads.glsl reads at once.
    for (const size_t part : {block.codes, block.bytes, format::panel_head_bytes(dtype)})
      if (part % 16 != 0) return false;
    if (format::panel_factor_bytes(dtype) % 4 != 0) return false;
  }
  return true;
}());

// The code that is farthest from the zero, in steps of the scale (with a minimum: from code 0).
size_t most_steps(DType dtype) {
  const DTypeInfo& info = info_of(dtype);
  int most = 0;
  if (is_table(info.codes)) {
    for (const int step : steps_of_table(info.codes)) most = std::max(most, std::abs(step));
  } else if (info.codes == CodeKind::kSigned) {
    most = 1 << (info.bits - 1);
  } else if (info.codes == CodeKind::kUnsigned) {
    const int above = (1 << info.bits) - 1 - info.zero;
    most = above > info.zero ? above : info.zero;
  }
  return static_cast<size_t>(most);
}

}  // namespace

int main() {
  std::puts("// From runtime/core/dtypes.def by backends/vulkan/generate/types.cc. Blocks: format/panel.h.");
  for (int i = 0; i < kDTypeCount; ++i) {
    std::string name(kDTypes[i].name);
    for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    std::printf("#define DTYPE_%s %du\n", name.c_str(), i);
  }
  std::printf("#define PANEL_ROWS %uu\n#define GROUP_INPUTS %uu\n#define BLOCKS_OF_SUPER %uu\n",
              static_cast<unsigned>(format::kPanelRows), static_cast<unsigned>(kGroupSize),
              static_cast<unsigned>(format::kBlocksOfSuper));
  table("CODE_BITS", "Bits of a code; 0: not in blocks.", [](DType t) { return code_bits(t); });
  flag("SIGNED_CODES", "Whether codes have a sign.",
       [](DType t) { return info_of(t).codes == CodeKind::kSigned; });
  flag("E2M1_CODES", "Whether codes are numbers of a table.",
       [](DType t) { return info_of(t).codes == CodeKind::kE2M1; });
  flag("IQ4_CODES", "", [](DType t) { return info_of(t).codes == CodeKind::kIq4; });
  for (const CodeKind kind : {CodeKind::kE2M1, CodeKind::kIq4}) {
    std::printf("const float %s[16] = float[16](", kind == CodeKind::kE2M1 ? "E2M1_STEPS" : "IQ4_STEPS");
    for (int i = 0; i < 16; ++i) std::printf("%s%d.0", i ? ", " : "", steps_of_table(kind)[i]);
    std::puts(");");
  }
  table("CODE_ZERO", "What is taken from a code.", [](DType t) { return info_of(t).zero; });
  table("MOST_STEPS", "The farthest code from the zero, in steps.", most_steps);
  flag("HAS_MINIMUM", "Whether groups have a minimum.", [](DType t) { return has_minimum(t); });
  table("HALVES", "Scales of a group: 1, or 2 for halves of 16 inputs.",
        [](DType t) { return is_quantized(t) ? scales_of_32(t) : 1; });
  const std::pair<const char*, FactorKind> kinds[] = {
      {"HALF_SCALES", FactorKind::kF16},          {"NIBBLE_SCALES", FactorKind::kSuper4},
      {"SIX_BIT_SCALES", FactorKind::kSuper6},    {"SIGNED_SIX_BIT_SCALES", FactorKind::kSuperSigned6},
      {"BYTE_SCALES", FactorKind::kSuperSigned8}, {"POWER_SCALES", FactorKind::kE8M0},
      {"FLOAT_SCALES", FactorKind::kE4M3}};
  for (const auto& [name, kind] : kinds)
    flag(name, "", [kind = kind](DType t) { return is_quantized(t) && info_of(t).scale == kind; });
  flag("SUPER_BLOCKS", "Whether there is a head before every super-block.",
       [](DType t) { return super_halves(t) > 0; });
  table("BLOCK_WORDS", "Words of a block, and where its codes begin (and f16 minima).",
        [](DType t) { return in_blocks(t, format::panel_block(t).bytes / 4); });
  table("MINIMA_AT", "", [](DType t) { return in_blocks(t, format::panel_block(t).minima / 4); });
  table("CODES_AT", "", [](DType t) { return in_blocks(t, format::panel_block(t).codes / 4); });
  table("HEAD_WORDS", "Of a head; of the f16 in it; of the scales and minima of each block.",
        [](DType t) { return format::panel_head_bytes(t) / 4; });
  table("HEAD_HALVES_WORDS", "", [](DType t) { return format::head_halves_bytes(t) / 4; });
  table("FACTOR_WORDS", "", [](DType t) { return format::panel_factor_bytes(t) / 4; });
  table("GROUP_HALVES", "Units of 16 bits of a row's group, as caches have it, and of its scale.",
        [](DType t) { return in_blocks(t, group_bytes(t) / 2); });
  table("SCALE_HALVES", "", [](DType t) { return scale_bytes(t) / 2; });
}
