# The Vulkan backend, where its SDK is installed: every <name>.comp of backends/vulkan goes through glslc and
# spirv-val and is embedded. An op is <op>.cc (how it is dispatched) and <op>.comp (and <op>_<part>.comp); one that
# lacks either is an error.
set(LINNET_VULKAN AUTO CACHE STRING "Build the Vulkan backend: ON, OFF or AUTO (if libvulkan-dev, glslc and spirv-tools are there)")
set_property(CACHE LINNET_VULKAN PROPERTY STRINGS AUTO ON OFF)

set(LINNET_HAS_VULKAN FALSE)
if(LINNET_VULKAN STREQUAL "OFF")
  set(LINNET_VULKAN_OFF "it was configured with LINNET_VULKAN=OFF")
  message(STATUS "Vulkan backend: off, as asked")
else()
  find_package(Vulkan QUIET)
  find_program(GLSLC glslc)
  find_program(SPIRV_VAL spirv-val)
  if(Vulkan_FOUND AND GLSLC AND SPIRV_VAL)
    set(LINNET_HAS_VULKAN TRUE)
    message(STATUS "Vulkan backend: on")
  elseif(LINNET_VULKAN STREQUAL "AUTO")
    set(LINNET_VULKAN_OFF "it needs libvulkan-dev, glslc and spirv-tools when it is configured")
    message(STATUS "Vulkan backend: OFF, for want of the packages libvulkan-dev, glslc and spirv-tools")
  else()
    message(FATAL_ERROR "LINNET_VULKAN=ON needs the packages libvulkan-dev, glslc and spirv-tools")
  endif()
endif()

# Sets `result` to whether the headers and glslc know cooperative matrices: they are newer than those of some distributions.
function(linnet_find_cooperative_matrices result)
  file(WRITE ${CMAKE_BINARY_DIR}/probe.comp
"#version 450
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
shared float16_t values[256];
void main() {
  coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> a;
  coopMatLoad(a, values, 0u, 16u, gl_CooperativeMatrixLayoutRowMajor);
}
")
  execute_process(COMMAND ${GLSLC} --target-env=vulkan1.1 -o ${CMAKE_BINARY_DIR}/probe.spv ${CMAKE_BINARY_DIR}/probe.comp
                  RESULT_VARIABLE refused OUTPUT_QUIET ERROR_QUIET)
  include(CheckSymbolExists)
  set(CMAKE_REQUIRED_INCLUDES ${Vulkan_INCLUDE_DIRS})
  check_symbol_exists(VK_KHR_cooperative_matrix vulkan/vulkan.h LINNET_HAS_COOPERATIVE_MATRIX_HEADER)
  if(NOT refused AND LINNET_HAS_COOPERATIVE_MATRIX_HEADER)
    set(${result} TRUE PARENT_SCOPE)
    message(STATUS "Vulkan's cooperative matrices: on")
  else()
    set(${result} FALSE PARENT_SCOPE)
    message(STATUS "Vulkan's cooperative matrices: OFF, the Vulkan headers or glslc do not know VK_KHR_cooperative_matrix")
  endif()
endfunction()

# Adds the library linnet_vulkan.
function(linnet_vulkan_library)
  linnet_find_cooperative_matrices(cooperative)
  set(dir ${CMAKE_SOURCE_DIR}/backends/vulkan)
  set(out ${CMAKE_BINARY_DIR}/generated/backends/vulkan)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/runtime/graph/ops.def)

  # Every op of the catalogue has both files.
  file(STRINGS ${CMAKE_SOURCE_DIR}/runtime/graph/ops.def ops REGEX "^LINNET_OP")
  file(GLOB present CONFIGURE_DEPENDS ${dir}/*.comp ${dir}/*.cc)
  set(missing "")
  foreach(op ${ops})
    string(REGEX REPLACE "^LINNET_OP\\([A-Za-z0-9]+, ([a-z0-9_]+),.*" "\\1" op "${op}")
    if(NOT EXISTS ${dir}/${op}.comp OR NOT EXISTS ${dir}/${op}.cc)
      list(APPEND missing ${op})
    endif()
  endforeach()
  if(missing)
    message(FATAL_ERROR "The Vulkan backend lacks ops of runtime/graph/ops.def: ${missing}. Each needs <op>.cc and <op>.comp in backends/vulkan.")
  endif()
  # What the shaders know of types, from the same table as the rest. It runs on the machine that builds, or under
  # CMAKE_CROSSCOMPILING_EMULATOR.
  add_executable(linnet_shader_types ${dir}/generate/types.cc)
  target_link_libraries(linnet_shader_types PRIVATE linnet_format linnet_options)
  add_custom_command(OUTPUT ${out}/types.glsl COMMAND linnet_shader_types > ${out}/types.glsl DEPENDS linnet_shader_types)

  file(GLOB shaders CONFIGURE_DEPENDS ${dir}/*.comp)
  if(NOT cooperative)
    list(FILTER shaders EXCLUDE REGEX "_cooperative\\.comp$")
  endif()
  set(generated "")
  set(declarations "")
  set(rows "")
  foreach(shader ${shaders})
    get_filename_component(shader_name ${shader} NAME_WE)
    # Shaders that reduce over a group are compiled again with subgroup arithmetic, and products of few tokens with
    # shuffles, which not every device has.
    file(STRINGS ${shader} reduces REGEX "reduce\\.glsl")
    file(STRINGS ${shader} slices REGEX "slices\\.glsl")
    set(variants "${shader_name}")
    if(reduces)
      list(APPEND variants "${shader_name}_subgroup")
    endif()
    if(slices)
      list(APPEND variants "${shader_name}_shuffle")
    endif()
    foreach(name ${variants})
      set(define "")
      if(name STREQUAL "${shader_name}_subgroup")
        set(define -DSUBGROUP)
      elseif(name STREQUAL "${shader_name}_shuffle")
        set(define -DSHUFFLE)
      endif()
      add_custom_command(
        OUTPUT ${out}/${name}.cc
        COMMAND ${GLSLC} --target-env=vulkan1.1 -O -Werror ${define} -I ${dir}/shaders -I ${out} -MD -MF ${out}/${name}.d
                -MT ${out}/${name}.cc -o ${out}/${name}.spv ${shader}
        COMMAND ${SPIRV_VAL} --target-env vulkan1.1 ${out}/${name}.spv
        COMMAND ${CMAKE_COMMAND} -DNAME=${name} -DSPV=${out}/${name}.spv -DOUT=${out}/${name}.cc
                -P ${CMAKE_SOURCE_DIR}/cmake/EmbedShader.cmake
        DEPENDS ${shader} ${CMAKE_SOURCE_DIR}/cmake/EmbedShader.cmake ${out}/types.glsl
        DEPFILE ${out}/${name}.d
        VERBATIM)
      list(APPEND generated ${out}/${name}.cc)
      string(APPEND declarations "extern const uint32_t kShader_${name}[];\nextern const size_t kShader_${name}_words;\n")
      string(APPEND rows "    {\"${name}\", kShader_${name}, kShader_${name}_words},\n")
    endforeach()
  endforeach()
  file(GENERATE OUTPUT ${out}/shader_table.cc CONTENT
"#include <cstddef>
#include <cstdint>
#include \"backends/vulkan/shaders.h\"
namespace linnet::vulkan {
${declarations}
std::span<const Shader> shaders() {
  static const Shader table[] = {
${rows}  };
  return table;
}
}
")
  file(GLOB sources CONFIGURE_DEPENDS ${dir}/*.cc)
  add_library(linnet_vulkan STATIC ${sources} ${generated} ${out}/shader_table.cc)
  target_link_libraries(linnet_vulkan PUBLIC linnet_engine PRIVATE linnet_host Vulkan::Vulkan linnet_options)
  linnet_include_root(linnet_vulkan FOLDERS backends/vulkan)
  target_include_directories(linnet_vulkan PUBLIC ${linnet_vulkan_ROOT})
  # Its kernels are the shaders: what is compiled here records their launches.
  target_compile_options(linnet_vulkan PRIVATE ${LINNET_QUICK})
  # The shaders' hundreds of small files together; each kernel's file has a `run` of its own.
  linnet_together(linnet_vulkan OPTIONS ${LINNET_QUICK})
  set_target_properties(linnet_vulkan PROPERTIES UNITY_BUILD_BATCH_SIZE 64)
  set_source_files_properties(${sources} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  set_source_files_properties(${generated} ${out}/shader_table.cc PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
endfunction()

if(LINNET_HAS_VULKAN)
  linnet_vulkan_library()
else()
  # The same functions, which say that this build lacks the backend and why.
  add_library(linnet_vulkan STATIC ${CMAKE_SOURCE_DIR}/backends/vulkan/factory.cc ${CMAKE_SOURCE_DIR}/backends/vulkan/off/off.cc)
  target_link_libraries(linnet_vulkan PUBLIC linnet_engine PRIVATE linnet_options)
  linnet_include_root(linnet_vulkan FOLDERS backends/vulkan)
  target_include_directories(linnet_vulkan PUBLIC ${linnet_vulkan_ROOT})
  target_compile_definitions(linnet_vulkan PRIVATE LINNET_VULKAN_OFF="${LINNET_VULKAN_OFF}")
endif()
