"""lit configuration: FileCheck tests of ops, passes and tools.

A test is any .mlir or .test file under test/ with RUN lines. The tools of the build come first in PATH, then LLVM's
(FileCheck, not, split-file, mlir-opt). Kernels are cached in a folder of the build, never in the user's cache.
"""

import os
import sys

import lit.formats

config.name = "heddle"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs", "python", "unit", "oracle", "fuzz"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.heddle_build, "test", "lit-out")

path = [os.path.join(config.heddle_build, "bin"), config.llvm_tools, os.environ.get("PATH", "")]
config.environment["PATH"] = os.pathsep.join(path)
config.environment["HEDDLE_CACHE_DIR"] = os.path.join(config.test_exec_root, "cache")
config.environment["FILECHECK_OPTS"] = "--dump-input-filter=error"
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "HEDDLE_NUM_THREADS"):
    if name in os.environ:
        config.environment[name] = os.environ[name]
config.substitutions.append(("%src", config.heddle_src))
config.substitutions.append(("%python", config.python or sys.executable))
if config.sanitizers:
    config.available_features.add("sanitizers")
