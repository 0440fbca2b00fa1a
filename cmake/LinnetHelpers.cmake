# Warnings for our own code; dependencies are included as SYSTEM.
add_library(linnet_options INTERFACE)
target_compile_options(linnet_options INTERFACE -Wall -Wextra -Wconversion -fno-math-errno
                       # GCC 12 sees overlaps in std::string concatenation that are not there (GCC PR105329).
                       $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
                       $<$<BOOL:${LINNET_WERROR}>:-Werror>)
if(LINNET_SANITIZE STREQUAL "thread")
  target_compile_options(linnet_options INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
  target_link_options(linnet_options INTERFACE -fsanitize=thread)
elseif(LINNET_SANITIZE)
  # Without the checks for null (and for vptr, which rest on them) and object size: a null pointer faults and what is
  # outside an object AddressSanitizer sees; as branches in the vector kernels they were a third of the compile time.
  # So were AddressSanitizer's own checks there, which therefore are calls in functions with more than a few.
  target_compile_options(linnet_options INTERFACE -fsanitize=address,undefined -fno-sanitize=null,object-size,vptr
                         -fno-sanitize-recover=undefined -fno-omit-frame-pointer
                         $<$<CXX_COMPILER_ID:GNU>:--param=asan-instrumentation-with-call-threshold=100>
                         "$<$<CXX_COMPILER_ID:Clang>:SHELL:-mllvm -asan-instrumentation-with-call-threshold=100>")
  target_link_options(linnet_options INTERFACE -fsanitize=address,undefined)
endif()
if(LINNET_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang" OR CMAKE_CXX_COMPILER_VERSION VERSION_LESS 19)
    message(FATAL_ERROR "LINNET_FUZZ needs clang 19 or later (packages clang-19, libclang-rt-19-dev): "
                        "-DCMAKE_C_COMPILER=clang-19 -DCMAKE_CXX_COMPILER=clang++-19")
  endif()
  target_compile_options(linnet_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# For what never runs for long: compiled in three quarters of the time of -O3. Not for kernels or what reads weights.
set(LINNET_QUICK $<$<CONFIG:Release>:-O1>)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  if(LINNET_TOGETHER)
    # What ccache asks for before it stores what was compiled with a precompiled header.
    list(PREPEND CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros)
  endif()
endif()

# linnet_together(name [HEADER header OPTIONS option...]): with LINNET_TOGETHER the files of a target are compiled
# eight at a time, and the headers that most share are parsed once for all targets that name the same header;
# the options are those that such targets have of their own. A missing #include goes unnoticed there; a plain build, which
# scripts/nightly.sh makes too, finds it. Executables are compiled with -fPIC there, as libraries are, because a precompiled header serves
# one setting only.
function(linnet_together name)
  if(NOT LINNET_TOGETHER)
    return()
  endif()
  cmake_parse_arguments(ARG "" "HEADER" "OPTIONS" ${ARGN})
  set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  if(NOT ARG_HEADER)
    set(ARG_HEADER cmake/precompiled.h)
  endif()
  # GCC 12 no longer knows that the standard library's code in it is a system's, and warns of it without reason.
  set(common "$<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess;-Wno-error=stringop-overflow;-Wno-error=array-bounds>")
  string(MAKE_C_IDENTIFIER "${ARG_HEADER}" precompiled)
  if(ARG_OPTIONS)
    string(APPEND precompiled _quick)
  endif()
  if(NOT TARGET ${precompiled})
    file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/${precompiled}.cc CONTENT "")
    add_library(${precompiled} OBJECT ${CMAKE_BINARY_DIR}/${precompiled}.cc)
    target_compile_options(${precompiled} PRIVATE ${ARG_OPTIONS} "${common}")
    target_link_libraries(${precompiled} PRIVATE linnet_options linnet_schema)
    target_precompile_headers(${precompiled} PRIVATE ${CMAKE_SOURCE_DIR}/${ARG_HEADER})
  endif()
  target_precompile_headers(${name} REUSE_FROM ${precompiled})
  target_compile_options(${name} PRIVATE "${common}")
  get_target_property(type ${name} TYPE)
  if(type STREQUAL "EXECUTABLE")
    set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${name} PRIVATE -fPIC)
  endif()
endfunction()

# linnet_include_root(name [FOLDERS dir...] [HEADERS header...]): sets `name`_ROOT to a folder of links through which the
# headers of these folders of the source, and these of runtime/include/linnet, are found by their usual names, and no others.
function(linnet_include_root name)
  cmake_parse_arguments(ARG "" "" "FOLDERS;HEADERS" ${ARGN})
  set(root ${CMAKE_BINARY_DIR}/include/${name})
  file(REMOVE_RECURSE ${root})
  file(MAKE_DIRECTORY ${root})
  list(TRANSFORM ARG_HEADERS PREPEND linnet/)
  foreach(path ${ARG_FOLDERS} ${ARG_HEADERS})
    set(source ${CMAKE_SOURCE_DIR}/${path})
    if(path IN_LIST ARG_HEADERS)
      set(source ${CMAKE_SOURCE_DIR}/runtime/include/${path})
    endif()
    if(NOT EXISTS ${root}/${path})  # a folder within a folder that has its link already
      get_filename_component(parent ${root}/${path} DIRECTORY)
      file(MAKE_DIRECTORY ${parent})
      file(CREATE_LINK ${source} ${root}/${path} SYMBOLIC)
    endif()
  endforeach()
  set(${name}_ROOT ${root} PARENT_SCOPE)
endfunction()

# linnet_library(name dir... [DEPS target...] [HEADERS header...]): every .cc file of the folders, found by name. Its files,
# and those of what links it, can include its folders' headers and its public ones.
function(linnet_library name)
  cmake_parse_arguments(ARG "" "" "DEPS;HEADERS" ${ARGN})
  linnet_include_root(${name} FOLDERS ${ARG_UNPARSED_ARGUMENTS} HEADERS ${ARG_HEADERS})
  set(sources "")
  foreach(dir ${ARG_UNPARSED_ARGUMENTS})
    file(GLOB found CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${dir}/*.cc)
    list(APPEND sources ${found})
  endforeach()
  if(sources)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE linnet_options)
    target_include_directories(${name} PUBLIC ${${name}_ROOT})
    linnet_together(${name})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${ARG_DEPS})
    target_include_directories(${name} INTERFACE ${${name}_ROOT})
  endif()
endfunction()

# linnet_executable(name dir... [DEPS target...]): the same. Its own code waits for people and files: compiled with LINNET_QUICK.
function(linnet_executable name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  set(sources "")
  foreach(dir ${ARG_UNPARSED_ARGUMENTS})
    file(GLOB found CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${dir}/*.cc)
    list(APPEND sources ${found})
  endforeach()
  if(sources)
    add_executable(${name} ${sources})
    target_link_libraries(${name} PRIVATE ${ARG_DEPS} linnet_options)
    linnet_include_root(${name} FOLDERS ${ARG_UNPARSED_ARGUMENTS})
    target_include_directories(${name} PRIVATE ${${name}_ROOT})
    target_compile_options(${name} PRIVATE ${LINNET_QUICK})
    linnet_together(${name} OPTIONS ${LINNET_QUICK})
  endif()
endfunction()
