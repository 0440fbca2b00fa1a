# Debian 12 and 13 packages, nothing vendored. What has no CMake file is found by name.
find_package(Threads REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PNG REQUIRED)

function(linnet_find target header library package)
  string(MAKE_C_IDENTIFIER ${target} id)
  find_path(${id}_INCLUDE ${header})
  if(library)
    find_library(${id}_LIBRARY ${library})
  endif()
  if(NOT ${id}_INCLUDE OR (library AND NOT ${id}_LIBRARY))
    message(FATAL_ERROR "Linnet needs ${header}: install the package ${package} (see README.md)")
  endif()
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} INTERFACE ${${id}_INCLUDE})
  if(library)
    target_link_libraries(${target} INTERFACE ${${id}_LIBRARY})
  endif()
endfunction()

linnet_find(hwy::hwy hwy/highway.h hwy libhwy-dev)
linnet_find(pcre2::pcre2 pcre2.h pcre2-8 libpcre2-dev)
target_compile_definitions(pcre2::pcre2 INTERFACE PCRE2_CODE_UNIT_WIDTH=8)
linnet_find(utf8proc::utf8proc utf8proc.h utf8proc libutf8proc-dev)
linnet_find(edit::edit histedit.h edit libedit-dev)
linnet_find(xxhash::xxhash xxhash.h "" libxxhash-dev)
target_compile_definitions(xxhash::xxhash INTERFACE XXH_INLINE_ALL)

# The schema: flatc runs at build time, so the generated code is never stale; what it makes is split, because nearly every
# file needs the native structs and few the rest (cmake/split_schema.awk).
find_program(FLATC flatc REQUIRED)
find_program(AWK awk REQUIRED)
linnet_find(flatbuffers::headers flatbuffers/flatbuffers.h "" libflatbuffers-dev)
set(LINNET_GENERATED ${CMAKE_BINARY_DIR}/generated)
set(LINNET_SCHEMA ${LINNET_GENERATED}/format/model)
add_custom_command(
  OUTPUT ${LINNET_SCHEMA}_generated.h ${LINNET_SCHEMA}_tables.h ${LINNET_SCHEMA}_generated.cc
  COMMAND ${FLATC} --cpp --gen-object-api --cpp-std c++17 --scoped-enums --reflect-names -o ${LINNET_GENERATED}/flatc
          ${CMAKE_SOURCE_DIR}/format/model.fbs
  COMMAND ${CMAKE_COMMAND} -E make_directory ${LINNET_GENERATED}/format
  COMMAND ${AWK} -v native=${LINNET_SCHEMA}_generated.h -v tables=${LINNET_SCHEMA}_tables.h
          -v source=${LINNET_SCHEMA}_generated.cc -f ${CMAKE_SOURCE_DIR}/cmake/split_schema.awk
          ${LINNET_GENERATED}/flatc/model_generated.h
  DEPENDS ${CMAKE_SOURCE_DIR}/format/model.fbs ${CMAKE_SOURCE_DIR}/cmake/split_schema.awk
  VERBATIM)
add_custom_target(linnet_schema_generate DEPENDS ${LINNET_SCHEMA}_generated.h)
add_library(linnet_schema INTERFACE)
add_dependencies(linnet_schema linnet_schema_generate)
target_include_directories(linnet_schema SYSTEM INTERFACE ${LINNET_GENERATED})
target_link_libraries(linnet_schema INTERFACE flatbuffers::headers)
