# How the project's own targets are made.
if(STILLPOINT_TESTS)
  enable_testing()
  include(GoogleTest)
  # Everything that only tests need: `cmake --build DIR` alone makes the product.
  add_custom_target(stillpoint_tests)
endif()

add_library(stillpoint_flags INTERFACE)
target_compile_options(stillpoint_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                       -Wno-missing-field-initializers $<$<BOOL:${STILLPOINT_WERROR}>:-Werror>)
# GCC 12 takes members of a std::variant that is moved for uninitialized.
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(stillpoint_flags INTERFACE -Wno-maybe-uninitialized)
endif()
target_include_directories(stillpoint_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(stillpoint_flags INTERFACE STILLPOINT_VERSION="${PROJECT_VERSION}"
                           _FORTIFY_SOURCE=$<IF:$<CONFIG:Debug>,0,2>)
target_link_libraries(stillpoint_flags INTERFACE Threads::Threads)

# Sanitized code cannot be dumped (its shadow memory is terabytes), so what runs inside containers is
# built without: link those targets to stillpoint_plain_* libraries.
set(stillpoint_sanitizer_flags "")
if(STILLPOINT_SANITIZE)
  set(stillpoint_sanitizer_flags -fsanitize=${STILLPOINT_SANITIZE} -fno-omit-frame-pointer
                                 -fno-sanitize-recover=undefined)
endif()

# stillpoint_library(name SOURCES... LIBS ... [PLAIN]): a static library.  PLAIN makes a second one,
# <name>_plain, without sanitizers, for programs that CRIU dumps.
function(stillpoint_library name)
  cmake_parse_arguments(arg "PLAIN" "" "LIBS;SOURCES" ${ARGN})
  set(sources ${arg_UNPARSED_ARGUMENTS} ${arg_SOURCES})
  add_library(${name} STATIC ${sources})
  target_link_libraries(${name} PUBLIC stillpoint_flags ${arg_LIBS})
  target_compile_options(${name} PRIVATE ${stillpoint_sanitizer_flags})
  target_link_options(${name} PUBLIC ${stillpoint_sanitizer_flags})
  if(arg_PLAIN)
    if(STILLPOINT_SANITIZE)
      list(TRANSFORM arg_LIBS REPLACE "^(stillpoint_[a-z]+)$" "\\1_plain")
      list(TRANSFORM arg_LIBS REPLACE "^stillpoint_flags_plain$" "stillpoint_flags")
      add_library(${name}_plain STATIC ${sources})
      target_link_libraries(${name}_plain PUBLIC stillpoint_flags ${arg_LIBS})
    else()
      add_library(${name}_plain ALIAS ${name})
    endif()
  endif()
endfunction()

# stillpoint_program(name SOURCES... LIBS ... DESTINATION dir [PLAIN])
function(stillpoint_program name)
  cmake_parse_arguments(arg "PLAIN" "DESTINATION" "LIBS" ${ARGN})
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE stillpoint_flags ${arg_LIBS})
  if(NOT arg_PLAIN)
    target_compile_options(${name} PRIVATE ${stillpoint_sanitizer_flags})
    target_link_options(${name} PRIVATE ${stillpoint_sanitizer_flags})
  endif()
  install(TARGETS ${name} RUNTIME DESTINATION ${arg_DESTINATION})
endfunction()

# stillpoint_test(name SOURCES... LIBS ...): a GoogleTest program beside what it tests.
function(stillpoint_test name)
  if(NOT STILLPOINT_TESTS)
    return()
  endif()
  cmake_parse_arguments(arg "" "" "LIBS" ${ARGN})
  add_executable(${name} EXCLUDE_FROM_ALL ${arg_UNPARSED_ARGUMENTS})
  add_dependencies(stillpoint_tests ${name})
  target_link_libraries(${name} PRIVATE stillpoint_flags ${arg_LIBS} GTest::gmock GTest::gtest_main)
  target_compile_options(${name} PRIVATE ${stillpoint_sanitizer_flags})
  target_link_options(${name} PRIVATE ${stillpoint_sanitizer_flags})
  # Tests are compiled often and run shortly: not optimized.
  target_compile_options(${name} PRIVATE -O0 -g1 -U_FORTIFY_SOURCE)
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 120)
endfunction()
