//===- Core.h - What the parts of the extension share ----------------------===//
//
// The extension wraps text, buffers and handles: patterns without MLIR, the
// runtime's C ABI, and the compiler as a lazily loaded table of functions.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_PYTHON_CORE_CORE_H
#define HEDDLE_PYTHON_CORE_CORE_H

#include "heddle/runtime.h"

#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

struct heddle_compiler_api;

namespace heddle::python {

namespace py = pybind11;

/// Where a tensor came from, so that results are of the same kind.
enum class Origin : uint8_t { NumPy, Torch, Other };

/// A view of a Python object's memory. `keep` owns what the view borrows
/// (a DLPack capsule), where borrowing from the object itself is not enough.
struct View {
  heddle_tensor tensor{};
  Origin origin = Origin::Other;
  py::object keep;
};

/// Views `object` without a copy: NumPy arrays, torch CPU tensors, anything with
/// DLPack or the buffer protocol. TypeError or ValueError that names `name`.
void viewTensor(py::handle object, const char *name, View &view);

/// True where `object` is a torch tensor (never imports torch).
bool isTorch(py::handle object);

/// "[2, 8, 64, 64]".
std::string shapeText(const heddle_tensor &t);
const char *dtypeName(heddle_dtype t);
size_t dtypeSize(heddle_dtype t);
/// True where an element of one lies in an element of the other; a slice of a packed buffer may lie between the
/// elements of another. Layouts that cannot be told apart in a moment count as overlapping.
bool overlap(const heddle_tensor &a, const heddle_tensor &b);

/// A new tensor of the same kind as `like` (a view of `model`), with the order of
/// `order`'s strides (largest first; null: row major) and `dtype`.
py::object allocate(py::handle model, const View &like, heddle_dtype dtype, int32_t rank, const int64_t *shape,
                    const int64_t *order);

/// ValueError where `value`, a torch tensor, requires grad, in grad mode.
void refuseGrad(py::handle value, const std::string &name);

/// What torch would use, where that is less than what Heddle may.
int32_t torchThreads();

/// Throws the Python exception that `error` stands for, and frees it. Null: nothing.
void check(heddle_error *error);

/// The compiler, loaded on first need. Throws RuntimeError where it cannot be found.
const heddle_compiler_api *compiler();

/// A retained kernel.
class Kernel {
public:
  explicit Kernel(heddle_kernel *k) : kernel(k) {}
  Kernel(const Kernel &) = delete;
  Kernel &operator=(const Kernel &) = delete;
  ~Kernel() { heddle_kernel_release(kernel); }
  /// Number of its results.
  size_t results() const { return heddle_kernel_num_results(kernel); }
  heddle_kernel *kernel;
};

/// The callback that heddle_cache_get calls on a miss.
heddle_error *compileCallback(void *context, const char *spec, const char *target, void **artifact, size_t *size);

void bindTensors(py::module_ &m);
void bindPatterns(py::module_ &m);
void bindKernels(py::module_ &m);
void bindPlan(py::module_ &m);

} // namespace heddle::python

#endif // HEDDLE_PYTHON_CORE_CORE_H
