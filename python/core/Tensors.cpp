//===- Tensors.cpp - Views of Python tensors without copies ----------------===//
//
// A call must cost microseconds, so the common kinds are read in C: NumPy arrays
// by their struct, torch tensors by the DLPack exchange table of their type (one C
// call, no capsule). Anything else goes by `__dlpack__` or the buffer protocol.
//
//===----------------------------------------------------------------------===//

#include "Core.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <numeric>

namespace heddle::python {
namespace {

// The layouts of DLPack 1.x (https://dmlc.github.io/dlpack/latest/c_api.html).
struct DLDevice {
  int32_t type, id;
};
struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DLTensor {
  void *data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape, *strides;
  uint64_t byteOffset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void *context;
  void (*deleter)(DLManagedTensor *);
};
struct DLVersion {
  uint32_t major, minor;
};
struct DLManagedTensorVersioned {
  DLVersion version;
  void *context;
  void (*deleter)(DLManagedTensorVersioned *);
  uint64_t flags;
  DLTensor tensor;
};
struct DLExchange {
  DLVersion version;
  DLExchange *previous;
  void *allocate;
  void *managedFromObject;
  void *managedToObject;
  int (*tensorFromObject)(void *object, DLTensor *out);
  void *stream;
};
enum : int32_t { kDLCPU = 1 };
enum : uint8_t { kDLInt = 0, kDLUInt = 1, kDLFloat = 2, kDLBfloat = 4, kDLBool = 6 };

[[noreturn]] void typeError(const std::string &text) { throw py::type_error(text); }

std::string typeName(py::handle object) { return py::cast<std::string>(py::type::of(object).attr("__name__")); }

bool fromDLType(DLDataType t, heddle_dtype &out) {
  if (t.lanes != 1) {
    return false;
  }
  switch (t.code) {
  case kDLFloat:
    out = t.bits == 64 ? HEDDLE_F64 : t.bits == 32 ? HEDDLE_F32 : HEDDLE_F16;
    return t.bits == 64 || t.bits == 32 || t.bits == 16;
  case kDLBfloat:
    out = HEDDLE_BF16;
    return t.bits == 16;
  case kDLBool:
    out = HEDDLE_BOOL;
    return t.bits == 8;
  case kDLInt:
    out = t.bits == 64 ? HEDDLE_I64 : t.bits == 32 ? HEDDLE_I32 : HEDDLE_I8;
    return t.bits == 64 || t.bits == 32 || t.bits == 8;
  default:
    return false;
  }
}

/// What is wrong with an element type, and what to do where it is an unsigned integer (often a mask).
[[noreturn]] void refuseType(const char *what, const char *name, const std::string &got, bool isUnsigned) {
  typeError(std::string("expected ") + what + " of float32, float16, bfloat16, bool, int8, int32 or int64 for " + name +
            ", but got " + got +
            (isUnsigned ? "; convert it (flags: x != 0; integers: NumPy x.astype(np.int32), torch x.int())" : ""));
}

void setShape(const char *name, heddle_tensor &t, int32_t rank) {
  if (rank > 6) {
    throw py::value_error(std::string("expected at most 6 dimensions for ") + name + ", but got " +
                          std::to_string(rank));
  }
  t.rank = rank;
}

void fromDLTensor(const DLTensor &d, py::handle object, const char *name, heddle_tensor &t) {
  if (d.device.type != kDLCPU) {
    std::string device = "device type " + std::to_string(d.device.type);
    if (py::hasattr(object, "device")) {
      device = py::cast<std::string>(py::str(object.attr("device")));
    }
    typeError(std::string("expected a CPU tensor for ") + name + ", but got " + device);
  }
  if (!fromDLType(d.dtype, t.dtype)) {
    refuseType("a tensor", name, py::cast<std::string>(py::str(object.attr("dtype"))), d.dtype.code == kDLUInt);
  }
  setShape(name, t, d.ndim);
  t.data = static_cast<char *>(d.data) + d.byteOffset;
  int64_t stride = 1;
  for (int32_t a = d.ndim; a-- > 0;) {
    t.shape[a] = d.shape[a];
    t.strides[a] = d.strides ? d.strides[a] : stride;
    stride *= d.shape[a];
  }
}

bool fromNumPyType(const py::dtype &d, heddle_dtype &out) {
  switch (d.kind()) {
  case 'f':
    out = d.itemsize() == 8 ? HEDDLE_F64 : d.itemsize() == 4 ? HEDDLE_F32 : HEDDLE_F16;
    return d.itemsize() == 8 || d.itemsize() == 4 || d.itemsize() == 2;
  case 'b':
    out = HEDDLE_BOOL;
    return true;
  case 'i':
    out = d.itemsize() == 8 ? HEDDLE_I64 : d.itemsize() == 4 ? HEDDLE_I32 : HEDDLE_I8;
    return d.itemsize() == 8 || d.itemsize() == 4 || d.itemsize() == 1;
  default: // ml_dtypes.bfloat16 is a user dtype of kind 'V' or 'f' with two bytes.
    out = HEDDLE_BF16;
    return d.itemsize() == 2 && py::cast<std::string>(d.attr("name")) == "bfloat16";
  }
}

void fromNumPy(const py::array &a, const char *name, heddle_tensor &t) {
  py::dtype d = a.dtype();
  heddle_dtype code{};
  bool known = fromNumPyType(d, code);
  if (known && code == HEDDLE_F16 && d.num() > 24) { // a user dtype that calls itself a float
    known = py::cast<std::string>(d.attr("name")) == "bfloat16";
    code = HEDDLE_BF16;
  }
  char order = d.byteorder();
  if (!known || order == '>') {
    refuseType("an array", name, py::cast<std::string>(py::str(d)), d.kind() == 'u');
  }
  t.dtype = code;
  setShape(name, t, static_cast<int32_t>(a.ndim()));
  t.data = const_cast<void *>(a.data());
  auto item = static_cast<int64_t>(d.itemsize());
  for (int32_t axis = 0; axis < t.rank; ++axis) {
    int64_t bytes = a.strides(axis);
    if (bytes % item != 0) {
      throw py::value_error(std::string("expected strides that are multiples of the element's size for ") + name +
                            ", but got " + std::to_string(bytes) + " bytes; copy the array");
    }
    t.shape[axis] = a.shape(axis);
    t.strides[axis] = bytes / item;
  }
}

/// The exchange table of a type, or null; remembered for the last type seen.
const DLExchange *exchangeOf(PyTypeObject *type) {
  static PyTypeObject *lastType = nullptr;
  static const DLExchange *last = nullptr;
  if (type == lastType) {
    return last;
  }
  const DLExchange *found = nullptr;
  PyObject *capsule = PyObject_GetAttrString(reinterpret_cast<PyObject *>(type), "__dlpack_c_exchange_api__");
  if (capsule && PyCapsule_CheckExact(capsule)) {
    found = static_cast<const DLExchange *>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    while (found && found->version.major != 1) {
      found = found->previous;
    }
    if (found && !found->tensorFromObject) {
      found = nullptr;
    }
  }
  PyErr_Clear();
  Py_XDECREF(capsule);
  Py_INCREF(type); // So that the address cannot be reused by another type.
  lastType = type;
  last = found;
  return found;
}

/// A view that torch negates when it is read (z.conj().imag): its memory holds other numbers.
void refuseNegated(py::handle object, const char *name) {
  static PyObject *isNeg = PyUnicode_InternFromString("is_neg");
  PyObject *answer = PyObject_CallMethodNoArgs(object.ptr(), isNeg);
  if (!answer) {
    throw py::error_already_set();
  }
  const bool negated = answer == Py_True;
  Py_DECREF(answer);
  if (negated) {
    throw py::value_error(std::string("expected a tensor whose memory holds its values for ") + name +
                          ", but got a lazily negated view (of a conjugate's imaginary part, say); call resolve_neg()");
  }
}

PyTypeObject *torchTensorType() {
  static PyTypeObject *type = nullptr;
  if (!type) {
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *torch = PyDict_GetItemString(modules, "torch");
    if (torch) {
      PyObject *t = PyObject_GetAttrString(torch, "Tensor");
      if (t && PyType_Check(t)) {
        type = reinterpret_cast<PyTypeObject *>(t); // The reference is kept.
      } else {
        PyErr_Clear();
        Py_XDECREF(t);
      }
    }
  }
  return type;
}

void fromCapsule(py::object capsule, py::handle object, const char *name, View &view) {
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    auto *m = static_cast<DLManagedTensorVersioned *>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    fromDLTensor(m->tensor, object, name, view.tensor);
  } else {
    auto *m = static_cast<DLManagedTensor *>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    if (!m) {
      throw py::error_already_set();
    }
    fromDLTensor(m->tensor, object, name, view.tensor);
  }
  view.keep = std::move(capsule); // An unconsumed capsule frees its tensor itself.
}

} // namespace

bool isTorch(py::handle object) {
  PyTypeObject *type = torchTensorType();
  return type && PyObject_TypeCheck(object.ptr(), type);
}

void viewTensor(py::handle object, const char *name, View &view) {
  PyTypeObject *type = Py_TYPE(object.ptr());
  if (py::isinstance<py::array>(object)) {
    view.origin = Origin::NumPy;
    fromNumPy(py::reinterpret_borrow<py::array>(object), name, view.tensor);
    return;
  }
  if (isTorch(object)) {
    view.origin = Origin::Torch;
    const DLExchange *exchange = exchangeOf(type);
    if (exchange) {
      DLTensor d{};
      if (exchange->tensorFromObject(object.ptr(), &d) == 0) {
        refuseNegated(object, name);
        fromDLTensor(d, object, name, view.tensor);
        return;
      }
      PyErr_Clear();
    }
    std::string device = py::cast<std::string>(py::str(object.attr("device")));
    if (device != "cpu") {
      typeError(std::string("expected a CPU tensor for ") + name + ", but got " + device);
    }
    std::string layout = py::cast<std::string>(py::str(object.attr("layout")));
    if (layout != "torch.strided") {
      typeError(std::string("expected a strided tensor for ") + name + ", but got " + layout);
    }
    try {
      fromCapsule(object.attr("detach")().attr("__dlpack__")(), object, name, view);
    } catch (py::error_already_set &e) {
      typeError(std::string("expected a plain tensor in memory for ") + name + ", but got one that has none to read (" +
                py::cast<std::string>(py::str(e.value())) + ")");
    }
    return;
  }
  view.origin = Origin::Other;
  if (py::hasattr(object, "__dlpack__")) {
    if (py::hasattr(object, "__dlpack_device__")) {
      py::tuple device = object.attr("__dlpack_device__")();
      if (py::cast<int>(device[0]) != kDLCPU) {
        typeError(std::string("expected a CPU tensor for ") + name + ", but got device type " +
                  std::to_string(py::cast<int>(device[0])));
      }
    }
    fromCapsule(object.attr("__dlpack__")(), object, name, view);
    return;
  }
  if (PyObject_CheckBuffer(object.ptr())) {
    py::array a = py::array::ensure(object);
    if (a && a.data() != nullptr) {
      fromNumPy(a, name, view.tensor);
      view.keep = std::move(a);
      return;
    }
    PyErr_Clear();
  }
  typeError(std::string("expected a NumPy array, a torch tensor or an object with DLPack for ") + name + ", but got " +
            typeName(object));
}

std::string shapeText(const heddle_tensor &t) {
  std::string s = "[";
  for (int32_t a = 0; a < t.rank; ++a) {
    s += (a ? ", " : "") + std::to_string(t.shape[a]);
  }
  return s + "]";
}

const char *dtypeName(heddle_dtype t) {
  switch (t) {
  case HEDDLE_F32:
    return "float32";
  case HEDDLE_F16:
    return "float16";
  case HEDDLE_BF16:
    return "bfloat16";
  case HEDDLE_F64:
    return "float64";
  case HEDDLE_BOOL:
    return "bool";
  case HEDDLE_I8:
    return "int8";
  case HEDDLE_I32:
    return "int32";
  case HEDDLE_I64:
    return "int64";
  }
  return "unknown";
}

size_t dtypeSize(heddle_dtype t) {
  switch (t) {
  case HEDDLE_F64:
  case HEDDLE_I64:
    return 8;
  case HEDDLE_F32:
  case HEDDLE_I32:
    return 4;
  case HEDDLE_F16:
  case HEDDLE_BF16:
    return 2;
  default:
    return 1;
  }
}

namespace {
/// Whether a sum of step * n over the steps, each n from 0 to its count, can lie in [low, high].
class StepSums {
public:
  void add(int64_t step, int64_t count) {
    if (count > 0 && step != 0) {
      counts[step] += count;
    }
  }

  bool reach(int64_t low, int64_t high) {
    steps.assign(counts.begin(), counts.end());
    rest.assign(steps.size() + 1, 0);
    for (size_t k = steps.size(); k-- > 0;) {
      rest[k] = rest[k + 1] + steps[k].first * steps[k].second;
    }
    return search(0, low, high);
  }

private:
  bool search(size_t k, int64_t low, int64_t high) {
    if (high < 0 || low > rest[k]) {
      return false;
    }
    if (k == steps.size() || --patience < 0) {
      return true;
    }
    const auto [step, count] = steps[k];
    const int64_t missing = low - rest[k + 1];
    const int64_t last = std::min(count, high / step);
    for (int64_t n = missing > 0 ? (missing + step - 1) / step : 0; n <= last; ++n) {
      if (search(k + 1, low - n * step, high - n * step)) {
        return true;
      }
    }
    return false;
  }

  std::map<int64_t, int64_t, std::greater<>> counts; ///< by step, the largest first
  std::vector<std::pair<int64_t, int64_t>> steps;
  std::vector<int64_t> rest; ///< the largest sum of the steps from one on
  int patience = 10000;
};
} // namespace

bool overlap(const heddle_tensor &a, const heddle_tensor &b) {
  // a's byte less b's byte is apart + (sums of a's strides) - (sums of b's); negative steps count from their other end.
  StepSums sums;
  int64_t apart = reinterpret_cast<intptr_t>(a.data) - reinterpret_cast<intptr_t>(b.data);
  for (const auto &[t, sign] : {std::pair(&a, 1), std::pair(&b, -1)}) {
    auto size = static_cast<int64_t>(dtypeSize(t->dtype));
    for (int32_t axis = 0; axis < t->rank; ++axis) {
      if (t->shape[axis] == 0) {
        return false;
      }
      const int64_t step = sign * size * t->strides[axis], count = t->shape[axis] - 1;
      apart += std::min<int64_t>(step * count, 0);
      sums.add(std::abs(step), count);
    }
  }
  return sums.reach(1 - static_cast<int64_t>(dtypeSize(a.dtype)) - apart,
                    static_cast<int64_t>(dtypeSize(b.dtype)) - 1 - apart);
}

py::object allocate(py::handle model, const View &like, heddle_dtype dtype, int32_t rank, const int64_t *shape,
                    const int64_t *order) {
  // Strides of a dense tensor whose dimensions lie in memory as `order`'s do.
  int64_t strides[6];
  int axes[6];
  std::iota(axes, axes + rank, 0);
  // Insertion sort by decreasing stride; dimensions of size 1 or stride 0 say
  // nothing about the order and stay where they are.
  for (int32_t n = 1; order && n < rank; ++n) {
    for (int32_t at = n; at > 0; --at) {
      int before = axes[at - 1], after = axes[at];
      if (shape[before] == 1 || shape[after] == 1 || order[before] == 0 || order[after] == 0) {
        break;
      }
      if (std::abs(order[before]) >= std::abs(order[after])) {
        break;
      }
      std::swap(axes[at - 1], axes[at]);
    }
  }
  int64_t step = 1;
  for (int32_t n = rank; n-- > 0;) {
    strides[axes[n]] = step;
    step *= std::max<int64_t>(shape[axes[n]], 1);
  }
  if (like.origin == Origin::Torch && order && dtype == like.tensor.dtype && rank == like.tensor.rank &&
      std::equal(shape, shape + rank, like.tensor.shape) && std::equal(strides, strides + rank, order)) {
    // The common case, dense and of q's own shape: torch's shortest way.
    static PyObject *emptyLike = py::object(py::module_::import("torch").attr("empty_like")).release().ptr();
    PyObject *result = PyObject_CallOneArg(emptyLike, model.ptr());
    if (!result) {
      throw py::error_already_set();
    }
    return py::reinterpret_steal<py::object>(result);
  }
  if (like.origin == Origin::Torch) {
    static PyObject *empty = nullptr, *key = nullptr, *dtypes[8] = {};
    if (!empty) {
      py::module_ torch = py::module_::import("torch");
      empty = py::object(torch.attr("empty_strided")).release().ptr();
      key = PyUnicode_InternFromString("dtype");
      for (int t = 0; t < 8; ++t) {
        dtypes[t] = py::object(torch.attr(dtypeName(static_cast<heddle_dtype>(t)))).release().ptr();
      }
    }
    PyObject *size = PyTuple_New(rank), *stride = PyTuple_New(rank);
    for (int32_t a = 0; a < rank; ++a) {
      PyTuple_SET_ITEM(size, a, PyLong_FromLongLong(shape[a]));
      PyTuple_SET_ITEM(stride, a, PyLong_FromLongLong(strides[a]));
    }
    PyObject *names = PyTuple_Pack(1, key);
    PyObject *call[3] = {size, stride, dtypes[dtype]};
    PyObject *result = PyObject_Vectorcall(empty, call, 2, names);
    Py_DECREF(size);
    Py_DECREF(stride);
    Py_DECREF(names);
    if (!result) {
      throw py::error_already_set();
    }
    return py::reinterpret_steal<py::object>(result);
  }
  auto numpy = [&]() -> py::array {
    py::dtype type = [&] {
      switch (dtype) {
      case HEDDLE_F64:
        return py::dtype("float64");
      case HEDDLE_F16:
        return py::dtype("float16");
      case HEDDLE_BF16:
        return like.origin == Origin::NumPy && like.tensor.dtype == HEDDLE_BF16
                   ? py::reinterpret_borrow<py::array>(model).dtype()
                   : py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
      default:
        return py::dtype(dtypeName(dtype));
      }
    }();
    auto item = static_cast<int64_t>(dtypeSize(dtype));
    std::vector<py::ssize_t> size(shape, shape + rank), bytes(rank);
    for (int32_t a = 0; a < rank; ++a) {
      bytes[a] = strides[a] * item;
    }
    return py::array(type, size, bytes);
  };
  return numpy();
}

void bindTensors(py::module_ &m) {
  m.def(
      "empty",
      [](py::handle model, const std::vector<int64_t> &shape, const std::string &dtype) {
        View like;
        viewTensor(model, "the tensor", like);
        heddle_dtype type = like.tensor.dtype;
        for (int t = 0; t < 8; ++t) {
          if (dtype == dtypeName(static_cast<heddle_dtype>(t))) {
            type = static_cast<heddle_dtype>(t);
          }
        }
        bool ordered = shape.size() == static_cast<size_t>(like.tensor.rank);
        return allocate(model, like, type, static_cast<int32_t>(shape.size()), shape.data(),
                        ordered ? like.tensor.strides : nullptr);
      },
      py::arg("model"), py::arg("shape"), py::arg("dtype"),
      "A new tensor of the model's kind, in its order of strides; any other dtype name: the model's.");
  m.def(
      "describe",
      [](py::handle object, const std::string &name) {
        View v;
        viewTensor(object, name.c_str(), v);
        py::tuple shape(v.tensor.rank), strides(v.tensor.rank);
        for (int32_t a = 0; a < v.tensor.rank; ++a) {
          shape[a] = v.tensor.shape[a];
          strides[a] = v.tensor.strides[a];
        }
        const char *origin = v.origin == Origin::NumPy ? "numpy" : v.origin == Origin::Torch ? "torch" : "other";
        return py::make_tuple(dtypeName(v.tensor.dtype), shape, strides, origin);
      },
      py::arg("tensor"), py::arg("name") = "the tensor",
      "(dtype, shape, strides in elements, kind) of a tensor, read without a copy.");
}

} // namespace heddle::python
