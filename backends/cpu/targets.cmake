# Each instruction set's kernels are one file compiled with its flags; everything else keeps the baseline, and
# targets.cc chooses at run time. The -mno flags keep a global -march from widening a file beyond its name.
set(LINNET_AVX2_FLAGS -mavx2 -mfma -mf16c -mbmi -mbmi2 -mpclmul -maes)
set(LINNET_AVX512_FLAGS ${LINNET_AVX2_FLAGS} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd)

option(LINNET_OWN_TARGETS_ONLY "Compile kernels only for instruction sets that this machine has (Linux, x86-64)" OFF)
set(LINNET_OWN_FEATURES "")
if(LINNET_OWN_TARGETS_ONLY AND EXISTS /proc/cpuinfo)
  file(STRINGS /proc/cpuinfo LINNET_OWN_FEATURES REGEX "^flags" LIMIT_COUNT 1)
endif()

function(linnet_target_flags name)
  set_source_files_properties(${CMAKE_SOURCE_DIR}/backends/cpu/matmul_${name}.cc PROPERTIES
                              COMPILE_OPTIONS "${ARGN}" SKIP_PRECOMPILE_HEADERS ON)
endfunction()
# The same unless only this machine's are wanted and it lacks `feature`, as /proc/cpuinfo has it.
function(linnet_optional_target name feature)
  if(LINNET_OWN_FEATURES AND NOT LINNET_OWN_FEATURES MATCHES " ${feature}( |$)")
    message(STATUS "Kernels for ${name}: left out, this machine has no ${feature}")
    string(TOUPPER ${name} upper)
    add_compile_definitions(LINNET_WITHOUT_${upper})  # LINNET_WITHOUT_AVX512: highway_targets.h
  else()
    linnet_target_flags(${name} ${ARGN})
  endif()
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  linnet_optional_target(avx2 avx2 ${LINNET_AVX2_FLAGS} -mno-avxvnni -mno-avx512f)
  linnet_optional_target(avxvnni avx_vnni ${LINNET_AVX2_FLAGS} -mavxvnni -mno-avx512f)
  linnet_optional_target(avx512 avx512bw ${LINNET_AVX512_FLAGS} -mno-avx512vnni)
  linnet_optional_target(avx512vnni avx512_vnni ${LINNET_AVX512_FLAGS} -mavx512vnni -mno-avx512bf16)
  linnet_optional_target(avx512bf16 avx512_bf16 ${LINNET_AVX512_FLAGS} -mavx512vnni -mavx512bf16)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64")
  # Highway's functions carry the attribute +crypto, and GCC inlines only into code that has it too. Nothing of
  # ours asks for those instructions.
  linnet_target_flags(neon -march=armv8-a+crypto)
  linnet_target_flags(neondot -march=armv8.2-a+crypto+dotprod+fp16)
  linnet_target_flags(neoni8mm -march=armv8.2-a+crypto+dotprod+fp16+i8mm+bf16)
endif()
