# SPIR-V as a C++ array: cmake -DNAME= -DSPV= -DOUT= -P EmbedShader.cmake
file(READ ${SPV} hex HEX)
string(REGEX REPLACE "(..)(..)(..)(..)" "0x\\4\\3\\2\\1," words "${hex}")
string(LENGTH "${hex}" digits)
math(EXPR count "${digits} / 8")
file(WRITE ${OUT}
"#include <cstddef>
#include <cstdint>
namespace linnet::vulkan {
extern const uint32_t kShader_${NAME}[];
extern const size_t kShader_${NAME}_words;
const uint32_t kShader_${NAME}[] = {${words}};
const size_t kShader_${NAME}_words = ${count};
}
")
