//===- Kernels.cpp - Compiler, cache and kernels for Python ----------------===//
//
// The compiler (and with it LLVM) is loaded by dlopen on first need: a process
// whose kernels are all in the cache never pays for it.
//
//===----------------------------------------------------------------------===//

#include "Core.h"
#include "codegen/Compiler.h"

#include <pybind11/stl.h>

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <mutex>

namespace heddle::python {
namespace {

std::string lastRemarks;
std::mutex remarksMutex;

std::vector<std::string> candidates() {
  std::vector<std::string> paths;
  if (const char *chosen = std::getenv("HEDDLE_COMPILER_LIBRARY")) {
    if (*chosen) {
      return {chosen}; // An explicit choice is never silently replaced.
    }
  }
  Dl_info info;
  if (dladdr(reinterpret_cast<const void *>(&compileCallback), &info) && info.dli_fname) {
    std::filesystem::path folder = std::filesystem::path(info.dli_fname).parent_path();
    paths.push_back((folder / HEDDLE_COMPILER_FILE).string());
    paths.push_back((folder / ".." / ".." / "build" / "lib" / HEDDLE_COMPILER_FILE).lexically_normal().string());
  }
  paths.push_back(std::string(HEDDLE_BUILD_LIB_DIR) + "/" + HEDDLE_COMPILER_FILE);
  return paths;
}

/// Puts the compiler's build into the cache's keys, without loading it.
void identifyCompiler() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (const std::string &path : candidates()) {
      std::error_code ignored;
      if (std::filesystem::exists(path, ignored)) {
        heddle_set_build_id_from_file(path.c_str());
        return;
      }
    }
  });
}

const heddle_compiler_api *load(std::string &error) {
  for (const std::string &path : candidates()) {
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) {
      error += "\n  " + path + ": no such file";
      continue;
    }
    void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
      error += "\n  " + path + ": " + dlerror();
      continue;
    }
    auto entry = reinterpret_cast<const heddle_compiler_api *(*)()>(dlsym(handle, "heddle_compiler"));
    const heddle_compiler_api *api = entry ? entry() : nullptr;
    if (api && api->version == 1) {
      return api;
    }
    error += "\n  " + path + ": expected version 1 of the compiler's interface, but got " +
             (api ? std::to_string(api->version) : "none");
  }
  return nullptr;
}

/// Null, with `error` set, where the compiler cannot be loaded. Thread safe.
const heddle_compiler_api *tryCompiler(std::string &error) {
  static std::mutex mutex;
  static const heddle_compiler_api *api = nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  if (!api) {
    api = load(error);
  }
  return api;
}

std::string take(char *text) {
  std::string s = text ? text : "";
  heddle_free(text);
  return s;
}

std::vector<heddle_tensor> tensors(const std::vector<View> &views) {
  std::vector<heddle_tensor> out;
  for (const View &v : views) {
    out.push_back(v.tensor);
  }
  return out;
}

/// Arguments of a spec's function: tensors, ints and floats.
struct Arguments {
  std::vector<View> views;
  std::vector<int64_t> ints;
  std::vector<double> floats;

  explicit Arguments(const py::sequence &values) : ints(py::len(values)), floats(py::len(values)) {
    size_t n = 0;
    for (py::handle v : values) {
      views.emplace_back();
      heddle_tensor &t = views.back().tensor;
      if (py::isinstance<py::int_>(v)) {
        ints[n] = py::cast<int64_t>(v);
        t.data = &ints[n];
        t.dtype = HEDDLE_I64;
      } else if (py::isinstance<py::float_>(v)) {
        floats[n] = py::cast<double>(v);
        t.data = &floats[n];
        t.dtype = HEDDLE_F64;
      } else {
        std::string name = "argument " + std::to_string(n);
        viewTensor(v, name.c_str(), views.back());
      }
      ++n;
    }
  }
};

} // namespace

void check(heddle_error *error) {
  if (!error) {
    return;
  }
  std::string message = heddle_error_message(error);
  heddle_code code = heddle_error_code(error);
  heddle_error_free(error);
  switch (code) {
  case HEDDLE_INVALID_TYPE:
    throw py::type_error(message);
  case HEDDLE_INVALID_VALUE:
  case HEDDLE_COMPILE_FAILED:
    throw py::value_error(message);
  case HEDDLE_SYSTEM:
    break;
  }
  throw std::runtime_error(message);
}

const heddle_compiler_api *compiler() {
  std::string error;
  if (const heddle_compiler_api *api = tryCompiler(error)) {
    return api;
  }
  throw std::runtime_error("cannot load the compiler; looked for" + error);
}

heddle_error *compileCallback(void *, const char *spec, const char *target, void **artifact, size_t *size) {
  std::string error;
  const heddle_compiler_api *api = tryCompiler(error);
  if (!api) {
    return heddle_error_create(HEDDLE_SYSTEM, ("cannot load the compiler; looked for" + error).c_str());
  }
  char *remarks = nullptr;
  heddle_error *failed = api->compile(spec, target, artifact, size, &remarks);
  std::lock_guard<std::mutex> lock(remarksMutex);
  lastRemarks = take(remarks);
  return failed;
}

/// Raises ValueError where a result lies in an argument's memory.
static void checkApart(const std::vector<heddle_tensor> &in, const heddle_tensor &out) {
  for (size_t a = 0; a < in.size(); ++a) {
    if (in[a].rank > 0 && overlap(in[a], out)) {
      throw py::value_error("expected out that shares no memory with argument " + std::to_string(a) +
                            ", but got one that does");
    }
  }
}

/// Allocates what the kernel returns, of the kind of the first tensor, and runs it; `out` is the first result's place.
static py::tuple callKernel(const Kernel &kernel, const py::sequence &args, py::handle out) {
  Arguments a(args);
  auto in = tensors(a.views);
  const View *like = nullptr;
  py::object model;
  size_t n = 0;
  for (py::handle value : args) {
    const View &view = a.views[n++];
    if (isTorch(value)) {
      refuseGrad(value, "argument " + std::to_string(n - 1));
    }
    if (view.tensor.rank > 0) {
      if (!like) {
        like = &view;
        model = py::reinterpret_borrow<py::object>(value);
      }
    }
  }
  if (!like) {
    throw py::type_error("expected at least one tensor among the arguments, but got none");
  }
  std::vector<heddle_tensor> results(kernel.results());
  check(heddle_kernel_infer(kernel.kernel, in.data(), static_cast<int32_t>(in.size()), results.data(),
                            static_cast<int32_t>(results.size())));
  py::tuple objects(results.size());
  std::vector<View> views(results.size());
  for (size_t r = 0; r < results.size(); ++r) {
    py::object made = r == 0 && !out.is_none()
                          ? py::reinterpret_borrow<py::object>(out)
                          : allocate(model, *like, results[r].dtype, results[r].rank, results[r].shape,
                                     results[r].rank == like->tensor.rank ? like->tensor.strides : nullptr);
    viewTensor(made, "the result", views[r]);
    results[r] = views[r].tensor;
    objects[r] = made;
    if (r == 0 && !out.is_none()) {
      checkApart(in, results[r]);
    }
  }
  heddle_run_options options{};
  options.num_threads = like->origin == Origin::Torch ? torchThreads() : 0;
  heddle_error *error;
  {
    py::gil_scoped_release release;
    error = heddle_kernel_run(kernel.kernel, in.data(), static_cast<int32_t>(in.size()), results.data(),
                              static_cast<int32_t>(results.size()), &options);
  }
  check(error);
  return objects;
}

static void runKernel(const Kernel &k, const py::sequence &args, const py::sequence &results) {
  Arguments a(args), r(results);
  auto in = tensors(a.views), out = tensors(r.views);
  for (const heddle_tensor &result : out) {
    checkApart(in, result);
  }
  heddle_run_options options{};
  heddle_error *error;
  {
    py::gil_scoped_release release;
    error = heddle_kernel_run(k.kernel, in.data(), static_cast<int32_t>(in.size()), out.data(),
                              static_cast<int32_t>(out.size()), &options);
  }
  check(error);
}

static void bindKernelClass(py::module_ &m) {
  py::class_<Kernel, std::shared_ptr<Kernel>> kernel(m, "Kernel", "A loaded kernel.");
  kernel.def_property_readonly("manifest", [](const Kernel &k) { return heddle_kernel_manifest(k.kernel); })
      .def_property_readonly("artifact",
                             [](const Kernel &k) {
                               size_t size = 0;
                               const void *bytes = heddle_kernel_artifact(k.kernel, &size);
                               return py::bytes(static_cast<const char *>(bytes), size);
                             })
      .def("save", [](const Kernel &k, const std::string &path) { check(heddle_kernel_save(k.kernel, path.c_str())); })
      .def("run", &runKernel)
      .def("call", &callKernel, py::arg("args"), py::arg("out") = py::none());
  m.def("kernel_get", [](const std::string &key, const std::string &spec, const std::string &target) {
    heddle_kernel *kernel = nullptr;
    heddle_error *error;
    {
      py::gil_scoped_release release;
      identifyCompiler();
      error = heddle_cache_get(key.c_str(), spec.c_str(), target.c_str(), compileCallback, nullptr, &kernel);
    }
    check(error);
    return std::make_shared<Kernel>(kernel);
  });
  m.def("kernel_open", [](const std::string &path) {
    heddle_kernel *kernel = nullptr;
    check(heddle_kernel_open(path.c_str(), &kernel));
    return std::make_shared<Kernel>(kernel);
  });
}

/// What the compiler says of a spec, and the interpreter.
static void bindCompiler(py::module_ &m) {
  m.def("last_remarks", [] {
    std::lock_guard<std::mutex> lock(remarksMutex);
    return lastRemarks;
  });

  m.def("print_ir", [](const std::string &spec, const std::string &target, const std::string &stage) {
    char *text = nullptr;
    const heddle_compiler_api *api = compiler();
    heddle_error *error;
    {
      py::gil_scoped_release release;
      error = api->print_ir(spec.c_str(), target.c_str(), stage.c_str(), &text);
    }
    check(error);
    return take(text);
  });
  m.def("explain", [](const std::string &spec, std::string sizes, bool json) {
    // Of a size that is named twice, the last counts.
    sizes = "threads=" + std::to_string(heddle_num_threads()) + (sizes.empty() ? "" : "," + sizes);
    char *text = nullptr;
    check(compiler()->explain(spec.c_str(), sizes.c_str(), json ? 1 : 0, &text));
    return take(text);
  });
  m.def("reference", [](const std::string &spec, const py::sequence &args, const py::sequence &results) {
    Arguments a(args), r(results);
    auto in = tensors(a.views), out = tensors(r.views);
    const heddle_compiler_api *api = compiler();
    heddle_error *error;
    {
      py::gil_scoped_release release;
      error = api->reference(spec.c_str(), in.data(), static_cast<int32_t>(in.size()), out.data(),
                             static_cast<int32_t>(out.size()));
    }
    check(error);
  });
}

/// Questions about sets.
static void bindSets(py::module_ &m) {
  m.def("pattern_is_empty", [](const std::string &p) {
    int32_t answer = 0;
    check(compiler()->pattern_is_empty(p.c_str(), &answer));
    return answer != 0;
  });
  m.def("pattern_is_subset", [](const std::string &p, const std::string &q) {
    int32_t answer = 0;
    check(compiler()->pattern_is_subset(p.c_str(), q.c_str(), &answer));
    return answer != 0;
  });
  m.def("pattern_is_equal", [](const std::string &p, const std::string &q) {
    int32_t answer = 0;
    check(compiler()->pattern_is_equal(p.c_str(), q.c_str(), &answer));
    return answer != 0;
  });
  m.def("pattern_example", [](const std::string &p, const std::string &q) -> py::object {
    int32_t found = 0;
    int64_t pair[2] = {0, 0};
    check(compiler()->pattern_example(p.c_str(), q.c_str(), &found, pair));
    return found ? py::object(py::make_tuple(pair[0], pair[1])) : py::object(py::none());
  });
}

static void bindCache(py::module_ &m) {
  m.def("cache_stats", [] {
    heddle_cache_stats s{};
    check(heddle_cache_get_stats(&s));
    py::dict d;
    d["memory_hits"] = s.memory_hits;
    d["disk_hits"] = s.disk_hits;
    d["compiles"] = s.compiles;
    d["dropped"] = s.dropped;
    d["write_failures"] = s.write_failures;
    d["disk_entries"] = s.disk_entries;
    d["disk_bytes"] = s.disk_bytes;
    d["disk_limit_bytes"] = s.disk_limit_bytes;
    return d;
  });
  m.def("cache_clear", [] { check(heddle_cache_clear()); });
  m.def("cache_drop_memory", [] { heddle_cache_drop_memory(); });
  m.def("cache_path", [] { return std::string(heddle_cache_path()); });
  m.def("cache_list", [] {
    char *json = nullptr;
    check(heddle_cache_list(&json));
    return take(json);
  });
}

void bindKernels(py::module_ &m) {
  bindKernelClass(m);
  bindCompiler(m);
  bindSets(m);
  bindCache(m);
  m.def("num_threads", [] { return heddle_num_threads(); });
  m.def("set_num_threads", [](int32_t n) { heddle_set_num_threads(n); });
  m.def("host_features", [] { return std::string(heddle_host_features()); });
}

} // namespace heddle::python
