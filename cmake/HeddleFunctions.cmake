# heddle_find_python(): the interpreter and pybind11 that the extension is built against. Takes the repository's .venv
# where there is one and nothing else was named, so that a plain `cmake --preset release` works after `tools/dev build`.
macro(heddle_find_python)
  if(NOT Python_EXECUTABLE AND NOT Python3_EXECUTABLE AND NOT SKBUILD
     AND EXISTS ${PROJECT_SOURCE_DIR}/.venv/bin/python)
    set(Python_EXECUTABLE ${PROJECT_SOURCE_DIR}/.venv/bin/python)
  endif()
  if(Python3_EXECUTABLE AND NOT Python_EXECUTABLE)
    set(Python_EXECUTABLE ${Python3_EXECUTABLE})
  endif()
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
  if(NOT pybind11_DIR)
    execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir
      OUTPUT_VARIABLE HEDDLE_PYBIND11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE HEDDLE_PYBIND11_RC ERROR_QUIET)
    if(HEDDLE_PYBIND11_RC EQUAL 0)
      set(pybind11_DIR ${HEDDLE_PYBIND11_DIR})
    endif()
  endif()
  set(PYBIND11_FINDPYTHON ON)
  find_package(pybind11 CONFIG REQUIRED)
endmacro()

# heddle_add_unit_test(NAME source... [LIBS lib...]): a GoogleTest program, one ctest entry per test case.
function(heddle_add_unit_test name)
  cmake_parse_arguments(ARG "" "" "LIBS" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE ${ARG_LIBS} GTest::gtest GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test/unit)
  heddle_sanitizer_defaults(${name})
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST
    PROPERTIES TIMEOUT 600 ENVIRONMENT "HEDDLE_CACHE_DIR=${CMAKE_BINARY_DIR}/test/unit-cache")
  add_dependencies(heddle-unit-tests ${name})
endfunction()

# heddle_sanitizer_defaults(TARGET): a program of a sanitizer build carries the options that it needs.
function(heddle_sanitizer_defaults target)
  if(HEDDLE_SANITIZERS)
    target_sources(${target} PRIVATE ${PROJECT_SOURCE_DIR}/cmake/SanitizerDefaults.c)
  endif()
endfunction()
