//===- Module.cpp - The extension heddle._core -----------------------------===//

#include "Core.h"

namespace heddle::python {

PYBIND11_MODULE(_core, m) {
  m.doc() = "Patterns, buffers and kernels behind the package heddle.";
  bindTensors(m);
  bindPatterns(m);
  bindKernels(m);
  bindPlan(m);
}

} // namespace heddle::python
