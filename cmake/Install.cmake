# What `pip install .` puts into the wheel: the extension, the compiler library beside it (found by $ORIGIN), and the
# command-line tools in the environment's scripts folder. Otherwise the runtime's header, the only one installed.
if(NOT SKBUILD)
  install(DIRECTORY runtime/include/heddle DESTINATION include)
  return()
endif()

set(package_rpath "$ORIGIN" ${LLVM_LIBRARY_DIR})
foreach(library _core heddle-compiler)
  if(TARGET ${library})
    set_target_properties(${library} PROPERTIES INSTALL_RPATH "${package_rpath}")
    install(TARGETS ${library} LIBRARY DESTINATION heddle)
  endif()
endforeach()

# bin/heddle finds the compiler library in the package of the same environment (site-packages; dist-packages on Debian).
set(python_lib "$ORIGIN/../lib/python${Python_VERSION_MAJOR}.${Python_VERSION_MINOR}")
set(tool_rpath "${python_lib}/site-packages/heddle" "${python_lib}/dist-packages/heddle" ${LLVM_LIBRARY_DIR})
foreach(tool heddle heddle-opt heddle-lsp-server)
  if(TARGET ${tool})
    set_target_properties(${tool} PROPERTIES INSTALL_RPATH "${tool_rpath}")
    install(TARGETS ${tool} RUNTIME DESTINATION ${SKBUILD_SCRIPTS_DIR})
  endif()
endforeach()
install(DIRECTORY runtime/include/heddle DESTINATION heddle/include)
