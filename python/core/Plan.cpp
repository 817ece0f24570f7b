//===- Plan.cpp - One formula, called with many tensors --------------------===//
//
// A plan is a formula (patterns, score regions, which arguments there are) without
// types. A call views its tensors, checks them, finds the kernel for their static
// part (dtypes, ranks, D, Dv), allocates what it returns and launches. A warm call
// does no Python beyond the allocation.
//
//===----------------------------------------------------------------------===//

#include "Core.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

namespace heddle::python {
namespace {

enum class Kind : uint8_t { Query, Key, Value, DotQuery, DotKey, Tensor, Sink, Index, Float, Finite };

struct Argument {
  Kind kind;
  int64_t segment;
  std::string name;
};

struct SegmentRule {
  bool usesKey;     ///< the usual dot q . k is formed
  bool needsOffset; ///< its pattern depends on i and no q_offset was given
};

bool isAttention(Kind k) { return k <= Kind::DotKey; }

[[noreturn]] void valueError(const std::string &text) { throw py::value_error(text); }

std::string num(int64_t n) { return std::to_string(n); }

class Plan {
public:
  Plan(const std::vector<std::tuple<std::string, int64_t, std::string>> &arguments,
       const std::vector<std::pair<bool, bool>> &segments, bool rowsFirst, bool lse, py::object compile)
      : rowsFirst(rowsFirst), lse(lse), compile(std::move(compile)) {
    static const std::map<std::string, Kind> kinds = {
        {"q", Kind::Query},       {"k", Kind::Key},         {"v", Kind::Value},     {"dot_q", Kind::DotQuery},
        {"dot_k", Kind::DotKey},  {"tensor", Kind::Tensor}, {"index", Kind::Index}, {"float", Kind::Float},
        {"finite", Kind::Finite}, {"sink", Kind::Sink}};
    for (const auto &[kind, segment, name] : arguments) {
      args.push_back({kinds.at(kind), segment, name});
    }
    for (auto [usesKey, needsOffset] : segments) {
      rules.push_back({usesKey, needsOffset});
    }
  }

  /// Checks a call's arguments; (dtype, last dimension or rank) of each tensor.
  std::vector<int64_t> signature(const py::tuple &values) {
    Call call;
    read(values, call);
    return call.signature;
  }

  py::object run(const py::tuple &values, py::handle out) {
    Call call;
    read(values, call);
    auto &[views, tensors, ints, floats, signature, queryStrides] = call;
    std::shared_ptr<Kernel> kernel = lookup(signature);

    // Results: out [B, Hq, Nq, Dv] in q's order of strides, lse [B, Hq, Nq].
    const heddle_tensor &q = tensors[0];
    int64_t dv = tensors[valueIndex].shape[3];
    int64_t shape[4] = {q.shape[0], q.shape[1], q.shape[2], dv};
    if (rowsFirst) {
      std::swap(shape[1], shape[2]);
    }
    View results[2];
    heddle_tensor resultTensors[2];
    py::object outObject;
    py::handle model = PyTuple_GET_ITEM(values.ptr(), 0);
    if (out.is_none()) {
      outObject = allocate(model, views[0], q.dtype, 4, shape, queryStrides);
      viewTensor(outObject, "out", results[0]);
    } else {
      outObject = py::reinterpret_borrow<py::object>(out);
      viewTensor(out, "out", results[0]);
      checkOut(results[0].tensor, q.dtype, shape);
      checkWritable(out, results[0]);
      checkApart(results[0].tensor, call);
    }
    resultTensors[0] = results[0].tensor;
    if (rowsFirst) {
      swapRowsAndHeads(resultTensors[0]);
    }
    py::object lseObject;
    if (lse) {
      int64_t lseShape[3] = {q.shape[0], q.shape[1], q.shape[2]};
      lseObject = allocate(model, views[0], HEDDLE_F32, 3, lseShape, nullptr);
      viewTensor(lseObject, "lse", results[1]);
      resultTensors[1] = results[1].tensor;
    }
    heddle_run_options options{};
    options.num_threads = views[0].origin == Origin::Torch ? torchThreads() : 0;
    heddle_error *error;
    {
      py::gil_scoped_release release;
      error = heddle_kernel_run(kernel->kernel, tensors.data(), static_cast<int32_t>(tensors.size()), resultTensors,
                                lse ? 2 : 1, &options);
    }
    check(error);
    if (lse) {
      return py::make_tuple(outObject, lseObject);
    }
    return outObject;
  }

  /// Number of kernels that the calls so far needed.
  size_t size() const { return kernels.size(); }

private:
  /// The arguments of one call. Scalars live in `ints` and `floats`.
  struct Call {
    std::vector<View> views;
    std::vector<heddle_tensor> tensors;
    std::vector<int64_t> ints;
    std::vector<double> floats;
    std::vector<int64_t> signature;
    int64_t queryStrides[6];
  };

  void read(const py::tuple &values, Call &call) {
    size_t n = args.size();
    if (values.size() != n) {
      valueError("expected " + num(static_cast<int64_t>(n)) + " arguments, but got " +
                 num(static_cast<int64_t>(values.size())));
    }
    call.views.resize(n);
    call.tensors.resize(n);
    call.ints.resize(n);
    call.floats.resize(n);
    call.signature.reserve(2 * n);
    for (size_t a = 0; a < n; ++a) {
      py::handle value = PyTuple_GET_ITEM(values.ptr(), static_cast<Py_ssize_t>(a));
      heddle_tensor &t = call.tensors[a];
      if (args[a].kind == Kind::Index) {
        call.ints[a] = integer(value, args[a].name);
        t.data = &call.ints[a];
        t.dtype = HEDDLE_I64;
        continue;
      }
      if (args[a].kind == Kind::Float || args[a].kind == Kind::Finite) {
        call.floats[a] = number(value, args[a].name, args[a].kind == Kind::Finite);
        t.data = &call.floats[a];
        t.dtype = HEDDLE_F64;
        continue;
      }
      viewTensor(value, args[a].name.c_str(), call.views[a]);
      if (call.views[a].origin == Origin::Torch) {
        refuseGrad(value, args[a].name);
      }
      t = call.views[a].tensor;
      call.signature.push_back(static_cast<int64_t>(t.dtype));
      if (isAttention(args[a].kind)) {
        checkAttention(t, args[a], call.tensors[0]);
        if (a == 0) {
          std::copy(t.strides, t.strides + 6, call.queryStrides);
        }
        if (rowsFirst) {
          swapRowsAndHeads(t);
        }
        call.signature.push_back(t.shape[3]);
      } else {
        refuseDouble(t, args[a].name);
        if (args[a].kind == Kind::Sink && (t.rank != 1 || t.dtype != HEDDLE_F32)) {
          throw py::type_error("expected float32 of shape [heads] or [1] for sink, but got " +
                               std::string(dtypeName(t.dtype)) + " of shape " + shapeText(t));
        }
        call.signature.push_back(t.rank);
      }
    }
    checkShapes(call.tensors);
  }

  static int64_t integer(py::handle value, const std::string &name) {
    PyObject *index = PyNumber_Index(value.ptr());
    if (!index) {
      PyErr_Clear();
      throw py::type_error("expected an integer for " + name + ", but got " +
                           py::cast<std::string>(py::type::of(value).attr("__name__")));
    }
    int64_t v = PyLong_AsLongLong(index);
    Py_DECREF(index);
    if (v == -1 && PyErr_Occurred()) {
      PyErr_Clear();
      valueError("expected " + name + " to be below 2^30 in magnitude, but got " +
                 py::cast<std::string>(py::str(value)));
    }
    return v;
  }

  static double number(py::handle value, const std::string &name, bool finite) {
    if (isTorch(value)) {
      refuseGrad(value, name);
    }
    // A text is no number, though float() takes one.
    PyObject *f = PyUnicode_Check(value.ptr()) || PyBytes_Check(value.ptr()) ? nullptr : PyNumber_Float(value.ptr());
    if (!f) {
      PyErr_Clear();
      throw py::type_error("expected a number for " + name + ", but got " +
                           py::cast<std::string>(py::type::of(value).attr("__name__")));
    }
    double v = PyFloat_AS_DOUBLE(f);
    Py_DECREF(f);
    if (finite && !std::isfinite(static_cast<float>(v))) {
      valueError("expected a " + name + " that is finite in float32, but got " +
                 py::cast<std::string>(py::str(py::float_(v))));
    }
    return v;
  }

  static void refuseDouble(const heddle_tensor &t, const std::string &name) {
    if (t.dtype == HEDDLE_F64) {
      throw py::type_error("expected float32, float16 or bfloat16 for " + name +
                           ", but got float64; convert it (NumPy: x.astype(np.float32), torch: x.float())");
    }
  }

  void checkAttention(const heddle_tensor &t, const Argument &a, const heddle_tensor &q) const {
    if (t.rank != 4) {
      valueError("expected " + a.name + " of shape " + (rowsFirst ? "[B, N, H, D]" : "[B, H, N, D]") + ", but got " +
                 shapeText(t));
    }
    refuseDouble(t, a.name);
    if (t.dtype != HEDDLE_F32 && t.dtype != HEDDLE_F16 && t.dtype != HEDDLE_BF16) {
      throw py::type_error("expected float32, float16 or bfloat16 for " + a.name + ", but got " + dtypeName(t.dtype));
    }
    if (a.kind != Kind::Key && (t.shape[3] < 1 || t.shape[3] > 1024)) { // a key's is that of its query
      valueError("expected " + a.name + " with a head dimension from 1 to 1024, but got " + num(t.shape[3]));
    }
    if (a.kind != Kind::Query && t.dtype != q.dtype) {
      throw py::type_error("expected " + a.name + " of q's type " + dtypeName(q.dtype) + ", but got " +
                           dtypeName(t.dtype) + "; convert one of them");
    }
  }

  static void swapRowsAndHeads(heddle_tensor &t) {
    std::swap(t.shape[1], t.shape[2]);
    std::swap(t.strides[1], t.strides[2]);
  }

  void checkShapes(const std::vector<heddle_tensor> &tensors) {
    const heddle_tensor &q = tensors[0];
    int64_t keyRows = -1, dv = -1;
    size_t dotQuery = 0;
    for (size_t a = 1; a < args.size(); ++a) {
      const heddle_tensor &t = tensors[a];
      const std::string &name = args[a].name;
      if (!isAttention(args[a].kind)) {
        continue;
      }
      if (t.shape[0] != q.shape[0] && t.shape[0] != 1) {
        valueError("expected " + name + " with batch " + num(q.shape[0]) + " or 1, but got " + num(t.shape[0]));
      }
      if (args[a].kind == Kind::DotQuery) {
        dotQuery = a;
        if (t.shape[1] != q.shape[1] || t.shape[2] != q.shape[2]) {
          valueError("expected " + name + " with q's " + num(q.shape[1]) + " heads and " + num(q.shape[2]) +
                     " rows, but got " + num(t.shape[1]) + " and " + num(t.shape[2]));
        }
        continue;
      }
      if (t.shape[1] == 0 ? q.shape[1] != 0 : q.shape[1] % t.shape[1] != 0) {
        valueError("expected " + name + " with a number of heads that divides q's " + num(q.shape[1]) + ", but got " +
                   num(t.shape[1]));
      }
      const SegmentRule &rule = rules[static_cast<size_t>(args[a].segment)];
      if (args[a].kind == Kind::Key) {
        keyRows = t.shape[2];
        if (rule.usesKey && t.shape[3] != q.shape[3]) {
          valueError("expected " + name + " with q's head dimension " + num(q.shape[3]) + ", but got " +
                     num(t.shape[3]));
        }
        if (rule.needsOffset && q.shape[2] != keyRows) {
          valueError(
              "expected q_offset where the pattern or the score depends on the query's position and the number of "
              "queries (" +
              num(q.shape[2]) + ") differs from that of the keys (" + num(keyRows) +
              "), but got none; pass q_offset=0, the number of cached keys, or \"end\"");
        }
      } else if (args[a].kind == Kind::Value) {
        if (t.shape[2] != keyRows) {
          valueError("expected " + name + " with as many rows as its keys (" + num(keyRows) + "), but got " +
                     num(t.shape[2]));
        }
        if (dv >= 0 && t.shape[3] != dv) {
          valueError("expected " + name + " with the head dimension of the other values (" + num(dv) + "), but got " +
                     num(t.shape[3]));
        }
        dv = t.shape[3];
        valueIndex = a;
      } else { // DotKey, after its DotQuery
        if (t.shape[3] != tensors[dotQuery].shape[3]) {
          valueError("expected " + name + " with its query's head dimension " + num(tensors[dotQuery].shape[3]) +
                     ", but got " + num(t.shape[3]));
        }
      }
    }
  }

  static void checkOut(const heddle_tensor &t, heddle_dtype dtype, const int64_t *shape) {
    heddle_tensor want{};
    want.rank = 4;
    std::copy(shape, shape + 4, want.shape);
    if (t.rank != 4 || !std::equal(shape, shape + 4, t.shape)) {
      valueError("expected out of shape " + shapeText(want) + ", but got " + shapeText(t));
    }
    if (t.dtype != dtype) {
      throw py::type_error(std::string("expected out of q's type ") + dtypeName(dtype) + ", but got " +
                           dtypeName(t.dtype));
    }
    for (int32_t a = 0; a < 4; ++a) {
      if (t.strides[a] == 0 && t.shape[a] > 1) {
        valueError("expected out without overlapping elements, but got stride 0");
      }
    }
  }

  static void checkWritable(py::handle out, const View &view) {
    if (view.origin == Origin::NumPy && !py::reinterpret_borrow<py::array>(out).writeable()) {
      valueError("expected an out that may be written, but got a read-only array");
    }
    if (view.origin == Origin::Torch) {
      refuseGrad(out, "out");
    }
  }

  void checkApart(const heddle_tensor &out, const Call &call) const {
    for (size_t a = 0; a < args.size(); ++a) {
      if (call.tensors[a].rank > 0 && overlap(call.tensors[a], out)) {
        valueError("expected out that shares no memory with " + args[a].name + ", but got one that does");
      }
    }
  }

  std::shared_ptr<Kernel> lookup(const std::vector<int64_t> &signature) {
    for (const auto &[known, kernel] : kernels) {
      if (known == signature) {
        return kernel;
      }
    }
    auto kernel = py::cast<std::shared_ptr<Kernel>>(compile(signature));
    kernels.emplace_back(signature, kernel);
    return kernel;
  }

  std::vector<Argument> args;
  std::vector<SegmentRule> rules;
  bool rowsFirst, lse;
  py::object compile;
  size_t valueIndex = 0;
  std::vector<std::pair<std::vector<int64_t>, std::shared_ptr<Kernel>>> kernels;
};

} // namespace

void refuseGrad(py::handle value, const std::string &name) {
  static PyObject *attribute = PyUnicode_InternFromString("requires_grad");
  PyObject *wants = PyObject_GetAttr(value.ptr(), attribute);
  bool yes = wants == Py_True;
  Py_XDECREF(wants);
  if (!yes) {
    return;
  }
  static PyObject *enabled = py::object(py::module_::import("torch").attr("is_grad_enabled")).release().ptr();
  py::object on = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(enabled));
  if (on.ptr() == Py_True) {
    valueError("expected " + name +
               " without gradient, but got a tensor that requires grad: there is no "
               "backward pass yet; call it under torch.no_grad() or pass x.detach()");
  }
}

int32_t torchThreads() {
  static PyObject *get = py::object(py::module_::import("torch").attr("get_num_threads")).release().ptr();
  py::object n = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(get));
  return n ? std::min(heddle_num_threads(), static_cast<int32_t>(PyLong_AsLong(n.ptr()))) : 0;
}

void bindPlan(py::module_ &m) {
  py::class_<Plan>(m, "Plan", "A formula without types; finds or compiles the kernel of each call.")
      .def(py::init<const std::vector<std::tuple<std::string, int64_t, std::string>> &,
                    const std::vector<std::pair<bool, bool>> &, bool, bool, py::object>(),
           py::arg("arguments"), py::arg("segments"), py::arg("rows_first"), py::arg("lse"), py::arg("compile"))
      .def("run", &Plan::run, py::arg("values"), py::arg("out") = py::none())
      .def("signature", &Plan::signature, py::arg("values"))
      .def_property_readonly("size", &Plan::size);
}

} // namespace heddle::python
