//===- Compile.cpp - From a spec's text to an artefact --------------------===//

#include "codegen/Compile.h"

#include "codegen/Manifest.h"
#include "codegen/SpecParser.h"
#include "codegen/nvptx/GpuCode.h"
#include "codegen/x86/KernelObject.h"
#include "passes/Passes.h"
#include "passes/SplitProgram.h"
#include "passes/gpu/GpuToLLVM.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/GPU/GPUToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/IR/LLVMContext.h"

using namespace mlir;
namespace json = llvm::json;

namespace heddle {

/// What the runtime calls.
static constexpr llvm::StringLiteral kEntry = "heddle_task";

static heddle_error *fail(heddle_code code, const llvm::Twine &message) {
  return heddle_error_create(code, message.str().c_str());
}

namespace {

/// One kernel on its way to an artefact.
struct Pending {
  ModuleOp step;
  json::Object manifest;
  GpuAssembly assembly;     ///< a GPU's code, which helpers make
  SmallVector<char> object; ///< a CPU's
  std::string remarks;
};

/// One compilation: a context, a module and its diagnostics.
class Compilation {
public:
  Compilation(const char *spec, const char *targetName) : text(spec), context(createContext()) {
    name = targetName;
    gpu = NvptxTarget::parse(targetName);
    if (!gpu) {
      target = X86Target::parse(targetName);
      return;
    }
    target = X86Target();
    target->features = name;
  }

  /// Parses; then `run` adds passes.
  heddle_error *parse();
  heddle_error *run(ModuleOp on, llvm::function_ref<void(OpPassManager &)> build);
  /// From modules of one kernel each to their artefacts; the error of the first that has one.
  heddle_error *kernels(ArrayRef<ModuleOp> steps, SmallVectorImpl<std::string> &artifacts);
  /// From a module of one kernel to a CPU's object, or to the code that a GPU's helpers are making.
  heddle_error *lower(ModuleOp step, Pending &out, Helpers &gpuHelpers);
  /// From a spec of several ops to one artefact with all their kernels.
  heddle_error *program(std::string &artifact);
  heddle_error *translate(ModuleOp lowered);
  heddle_error *readGpu(ModuleOp lowered, OwnModule &out);
  heddle_error *translateGpu(ModuleOp lowered);
  /// The object of a kernel whose micro-kernels are elsewhere.
  heddle_error *cpuObject(ModuleOp lowered, const TileObjects &tiles, Helpers &helpers, SmallVectorImpl<char> &out);
  /// PTX, and behind it the cubins where ptxas is found; fills the manifest's "gpu".
  heddle_error *gpuObject(Pending &kernel);
  heddle_error *pack(json::Object manifest, StringRef object, std::string &artifact);
  void markTarget(ModuleOp step);
  /// From a GPU's attend, a CPU's tile loops or an op to LLVM.
  void buildStep(OpPassManager &pm, bool isAttend);
  /// Prints one kernel's module after a stage.
  heddle_error *printStep(ModuleOp step, StringRef stage, llvm::raw_ostream &os);

  llvm::StringRef text;
  std::string name;
  std::unique_ptr<MLIRContext> context;
  std::optional<NvptxTarget> gpu; ///< null for a CPU
  std::optional<X86Target> target;
  OwningOpRef<ModuleOp> module;
  std::string remarks;
  OwnModule translated; ///< by `translate`
  std::unique_ptr<llvm::TargetMachine> machine;
};

} // namespace

heddle_error *Compilation::parse() {
  if (!target) {
    return fail(HEDDLE_INVALID_VALUE,
                "expected target to be native, x86-64-v2, x86-64-v3, x86-64-v4, sapphirerapids, emulated-amx, sm_80, "
                "sm_86, sm_89, sm_90 or sm_90a, but got '" +
                    name + "'");
  }
  std::string diagnostics;
  module = parseSpec(*context, text, diagnostics);
  if (!module) {
    return fail(HEDDLE_COMPILE_FAILED, diagnostics);
  }
  remarks += diagnostics;
  return nullptr;
}

heddle_error *Compilation::run(ModuleOp on, llvm::function_ref<void(OpPassManager &)> build) {
  DiagnosticCollector collector(*context, text);
  PassManager pm(context.get(), ModuleOp::getOperationName());
#ifdef NDEBUG
  pm.enableVerifier(false);
#endif
  build(pm);
  bool failed = mlir::failed(pm.run(on));
  remarks += collector.remarks;
  if (failed) {
    return fail(HEDDLE_COMPILE_FAILED, collector.errors.empty() ? "the spec does not compile" : collector.errors);
  }
  return nullptr;
}

heddle_error *Compilation::translate(ModuleOp lowered) {
  if (gpu) {
    return translateGpu(lowered);
  }
  registerBuiltinDialectTranslation(*context);
  registerLLVMDialectTranslation(*context);
  DiagnosticCollector collector(*context, text);
  translated.module = translateModuleToLLVMIR(lowered, *translated.context, "heddle");
  if (!translated.module) {
    return fail(HEDDLE_COMPILE_FAILED, "translation to LLVM failed: " + collector.errors);
  }
  std::string error;
  machine = createTargetMachine(*target, error);
  if (!machine) {
    return fail(HEDDLE_SYSTEM, "expected LLVM with the X86 target, but got: " + error);
  }
  optimize(*translated.module, *machine, *target, kEntry, Others::Internal);
  return nullptr;
}

heddle_error *Compilation::readGpu(ModuleOp lowered, OwnModule &out) {
  registerBuiltinDialectTranslation(*context);
  registerLLVMDialectTranslation(*context);
  registerGPUDialectTranslation(*context);
  registerNVVMDialectTranslation(*context);
  DiagnosticCollector collector(*context, text);
  auto kernels = *lowered.getOps<gpu::GPUModuleOp>().begin();
  out.module = translateModuleToLLVMIR(kernels, *out.context, "heddle");
  return out.module ? nullptr : fail(HEDDLE_COMPILE_FAILED, "translation to LLVM failed: " + collector.errors);
}

heddle_error *Compilation::translateGpu(ModuleOp lowered) {
  if (heddle_error *e = readGpu(lowered, translated)) {
    return e;
  }
  std::string error;
  machine = createTargetMachine(*gpu, error);
  if (!machine) {
    return fail(HEDDLE_SYSTEM, "expected LLVM with the NVPTX target, but got: " + error);
  }
  optimize(*translated.module, *machine, *gpu);
  return nullptr;
}

/// An attribute of numbers and names as JSON.
static json::Value toJson(Attribute attribute) {
  if (auto integer = dyn_cast<IntegerAttr>(attribute)) {
    return integer.getInt();
  }
  if (auto array = dyn_cast<ArrayAttr>(attribute)) {
    json::Array out;
    for (Attribute a : array) {
      out.push_back(toJson(a));
    }
    return out;
  }
  if (auto dictionary = dyn_cast<DictionaryAttr>(attribute)) {
    json::Object out;
    for (NamedAttribute a : dictionary) {
      out[a.getName().getValue()] = toJson(a.getValue());
    }
    return out;
  }
  return cast<StringAttr>(attribute).getValue();
}

/// The manifest's list of kernels: which cubin holds each, where there are several, and what ptxas says of it.
static json::Value describeKernels(Attribute kernels, const GpuCode &code) {
  json::Value list = toJson(kernels);
  for (json::Value &kernel : *list.getAsArray()) {
    json::Object &o = *kernel.getAsObject();
    std::string name = o.getString("name")->str();
    if (code.cubins.size() > 1) {
      o["cubin"] = code.cubinOf.lookup(name);
    }
    if (auto usage = code.usage.find(name); usage != code.usage.end()) {
      o["registers"] = usage->second.registers;
      o["spill_bytes"] = usage->second.spillBytes;
    }
  }
  return list;
}

heddle_error *Compilation::gpuObject(Pending &kernel) {
  ModuleOp lowered = kernel.step;
  SmallVectorImpl<char> &out = kernel.object;
  GpuCode code;
  std::string message;
  if (!kernel.assembly.end(code, message)) {
    return fail(HEDDLE_SYSTEM, message);
  }
  out.append(code.ptx.begin(), code.ptx.end());
  json::Array sizes;
  int64_t bytes = 0;
  for (const std::string &cubin : code.cubins) {
    out.append(cubin.begin(), cubin.end());
    sizes.push_back(int64_t(cubin.size()));
    bytes += int64_t(cubin.size());
  }
  json::Object described{{"chip", gpu->chip},
                         {"ptx_bytes", int64_t(code.ptx.size())},
                         {"cubin_bytes", bytes},
                         {"workspace_words", toJson(lowered->getAttr("heddle.gpu.workspace_words"))},
                         {"kernels", describeKernels(lowered->getAttr("heddle.gpu.kernels"), code)}};
  if (sizes.size() > 1) {
    described["cubins"] = std::move(sizes);
  }
  if (Attribute words = lowered->getAttr("heddle.gpu.state_words")) {
    described["state_words"] = toJson(words);
  }
  if (Attribute why = lowered->getAttr("heddle.gpu.no_tensor_kernels")) {
    described["no_tensor_kernels"] = toJson(why);
  }
  if (Attribute maps = lowered->getAttr("heddle.gpu.tensor_maps")) {
    described["tensor_maps"] = toJson(maps);
    described["tensor_kernels"] = describeKernels(lowered->getAttr("heddle.gpu.tensor_kernels"), code);
  }
  kernel.manifest["gpu"] = std::move(described);
  return nullptr;
}

/// From a schedule to tile loops that call declared micro-kernels.
static void buildLoops(OpPassManager &pm, const X86Target &target) {
  pm.addPass(createTileAttendPass(TileAttendPassOptions{target.width, target.bf16}));
  pm.addPass(createFuseFunctionsPass());
}

/// True where the step's op, after its constants, is an attend.
static bool isAttendStep(func::FuncOp fn) {
  return llvm::any_of(fn.getBody().front(), [](Operation &op) { return isa<attn::AttendOp>(op); });
}

heddle_error *Compilation::lower(ModuleOp step, Pending &out, Helpers &gpuHelpers) {
  func::FuncOp fn = specFunction(step);
  bool isAttend = isAttendStep(fn);
  json::Object &manifest = out.manifest;
  out.step = step;
  if (isAttend) {
    DiagnosticCollector collector(*context, text);
    FailureOr<KernelSignature> signature = KernelSignature::read(fn);
    if (mlir::failed(signature)) {
      return fail(HEDDLE_COMPILE_FAILED, collector.errors);
    }
    manifest = describeKernel(*signature);
  } else {
    manifest = describeOp(fn);
  }
  Helpers helpers;
  TileObjects tiles;
  if (isAttend && !gpu) {
    auto toLoops = [&](OpPassManager &pm) {
      pm.addPass(createAnnotateSchedulePass());
      buildLoops(pm, *target);
    };
    if (heddle_error *e = run(step, toLoops)) {
      return e;
    }
    tiles.take(step, *target, helpers);
  }
  markTarget(step);
  if (heddle_error *e = run(step, [&](OpPassManager &pm) { buildStep(pm, isAttend); })) {
    return e;
  }
  manifest["target"] = name;
  manifest["features"] = target->features;
  for (const char *key :
       {"scratch_bytes", "super_tile", "state_bytes", "keys_per_split", "max_splits", "heads_share_tiles", "lanes"}) {
    if (auto value = step->getAttrOfType<IntegerAttr>(std::string("heddle.") + key)) {
      manifest[key] = value.getInt();
    }
  }
  if (auto tables = step->getAttrOfType<DenseI64ArrayAttr>("heddle.head_tables")) {
    json::Array list;
    for (size_t n = 0; n + 1 < tables.asArrayRef().size(); n += 2) {
      list.push_back(json::Object{{"arg", tables[n]}, {"dim", tables[n + 1]}});
    }
    manifest["head_tables"] = std::move(list);
  }
  if (auto parts = step->getAttrOfType<DenseI64ArrayAttr>("heddle.parts")) {
    json::Array list;
    llvm::copy(parts.asArrayRef(), std::back_inserter(list));
    manifest["parts"] = std::move(list);
  }
  if (auto all = step->getAttrOfType<ArrayAttr>("heddle.orders")) {
    json::Array orders;
    for (Attribute order : all) {
      ArrayRef<int64_t> n = cast<DenseI64ArrayAttr>(order);
      orders.push_back(json::Object{{"query", n[0]}, {"key", n[1]}, {"within", n[2]}});
    }
    manifest["orders"] = std::move(orders);
  }
  if (!isAttend) {
    describeLaunch(step, manifest);
  }
  if (!gpu) {
    return cpuObject(step, tiles, helpers, out.object);
  }
  OwnModule code;
  if (heddle_error *e = readGpu(step, code)) {
    return e;
  }
  out.assembly.begin(std::move(code), *gpu, gpuHelpers);
  return nullptr;
}

/// The function's text without the names of its arguments, which are for errors and remarks.
static std::string textWithoutNames(func::FuncOp fn) {
  OwningOpRef<func::FuncOp> copy = cast<func::FuncOp>(fn->clone());
  for (unsigned n = 0; n < copy->getNumArguments(); ++n) {
    copy->removeArgAttr(n, kArgumentName);
  }
  std::string text;
  llvm::raw_string_ostream os(text);
  copy->print(os);
  return text;
}

/// Of each step the first one that is the same code.
static SmallVector<size_t> leadersOf(ArrayRef<ModuleOp> steps) {
  llvm::StringMap<size_t> known;
  SmallVector<size_t> leaders;
  for (auto [n, step] : llvm::enumerate(steps)) {
    leaders.push_back(known.try_emplace(textWithoutNames(specFunction(step)), n).first->second);
  }
  return leaders;
}

/// A manifest with the names that `fn` gives its arguments.
static json::Object named(json::Object manifest, func::FuncOp fn) {
  for (auto [n, arg] : llvm::enumerate(*manifest.getArray("args"))) {
    if (auto name = fn.getArgAttrOfType<StringAttr>(n, kArgumentName)) {
      (*arg.getAsObject())["name"] = name.str();
    }
  }
  return manifest;
}

heddle_error *Compilation::kernels(ArrayRef<ModuleOp> steps, SmallVectorImpl<std::string> &artifacts) {
  std::vector<Pending> all(steps.size());
  SmallVector<size_t> leaders = leadersOf(steps);
  // A GPU's kernels are assembled while the next ones are lowered: the longest first.
  SmallVector<size_t> order = llvm::to_vector(llvm::seq<size_t>(0, steps.size()));
  if (gpu) {
    llvm::stable_sort(order, [&](size_t x, size_t y) {
      return isAttendStep(specFunction(steps[x])) && !isAttendStep(specFunction(steps[y]));
    });
  }
  // The first kernel that cannot be lowered ends the list; of later ones nothing is asked.
  heddle_error *error = nullptr;
  size_t end = steps.size();
  {
    Helpers helpers;
    for (size_t n : order) {
      // Remarks are of a place in the source: where there are some, each step tells its own.
      bool follows = leaders[n] != n && all[leaders[n]].remarks.empty();
      leaders[n] = follows ? leaders[n] : n;
      if (n >= end || follows) {
        continue;
      }
      std::string before = std::exchange(remarks, "");
      if (heddle_error *e = lower(steps[n], all[n], helpers)) {
        heddle_error_free(error);
        error = e;
        end = n;
      }
      all[n].remarks = std::exchange(remarks, std::move(before));
    }
  }
  for (size_t n = 0; n < end; ++n) {
    Pending &kernel = all[leaders[n]];
    heddle_error *e = nullptr;
    if (leaders[n] == n) {
      remarks += kernel.remarks;
      e = gpu ? gpuObject(kernel) : nullptr;
    }
    if (!e) {
      json::Object manifest = leaders[n] == n ? kernel.manifest : named(kernel.manifest, specFunction(steps[n]));
      e = pack(std::move(manifest), {kernel.object.data(), kernel.object.size()}, artifacts.emplace_back());
    }
    if (e) {
      heddle_error_free(error);
      return e;
    }
  }
  if (error) {
    remarks += all[end].remarks;
  }
  return error;
}

heddle_error *Compilation::cpuObject(ModuleOp lowered, const TileObjects &tiles, Helpers &helpers,
                                     SmallVectorImpl<char> &out) {
  registerBuiltinDialectTranslation(*context);
  registerLLVMDialectTranslation(*context);
  DiagnosticCollector collector(*context, text);
  std::string error;
  if (!emitKernelObject(lowered, *target, kEntry, tiles, helpers, out, error)) {
    return fail(HEDDLE_COMPILE_FAILED, error + (collector.errors.empty() ? "" : ": " + collector.errors));
  }
  return nullptr;
}

/// What attn-tile-gpu and attn-lower-ops ask of the target.
void Compilation::markTarget(ModuleOp step) {
  if (gpu && gpu->hopper) {
    step->setAttr("heddle.gpu.hopper", UnitAttr::get(step.getContext()));
  }
  if (!gpu && target->bf16) {
    step->setAttr("heddle.bf16", UnitAttr::get(step.getContext())); // for attn-lower-ops
  }
}

void Compilation::buildStep(OpPassManager &pm, bool isAttend) {
  if (gpu && isAttend) {
    buildGpuPipeline(pm, gpu->sharedBytes);
  } else if (gpu) {
    buildGpuOpPipeline(pm, gpu->sharedBytes);
  } else if (isAttend) {
    buildMicroKernels(pm, *target);
  } else {
    buildOpPipeline(pm, target->width);
  }
  if (gpu && isAttend) {
    buildGpuToLLVM(pm);
  } else {
    buildLLVMPipeline(pm);
  }
}

heddle_error *Compilation::pack(json::Object manifest, StringRef object, std::string &artifact) {
  std::string head;
  llvm::raw_string_ostream os(head);
  os << json::Value(std::move(manifest));
  void *bytes = nullptr;
  size_t size = 0;
  if (heddle_error *e = heddle_artifact_write(head.data(), head.size(), object.data(), object.size(), &bytes, &size)) {
    return e;
  }
  artifact.assign(static_cast<const char *>(bytes), size);
  heddle_free(bytes);
  return nullptr;
}

heddle_error *Compilation::program(std::string &artifact) {
  if (heddle_error *e = run(*module, [&](OpPassManager &pm) { buildProgramPipeline(pm, !gpu); })) {
    return e;
  }
  // Steps with one text share a kernel.
  llvm::StringMap<int64_t> known;
  SmallVector<ModuleOp> distinct;
  SmallVector<int64_t> kernelOf, sizes;
  for (ModuleOp step : module->getOps<ModuleOp>()) {
    std::string key;
    llvm::raw_string_ostream os(key);
    specFunction(step).print(os);
    auto [entry, isNew] = known.try_emplace(key, int64_t(distinct.size()));
    kernelOf.push_back(entry->second);
    if (isNew) {
      distinct.push_back(step);
    }
  }
  SmallVector<std::string> parts;
  if (heddle_error *e = kernels(distinct, parts)) {
    return e;
  }
  std::string all;
  for (const std::string &part : parts) {
    sizes.push_back(int64_t(part.size()));
    all += part;
  }
  json::Object manifest = describeProgram(*module, kernelOf, sizes);
  manifest["target"] = name;
  manifest["features"] = target->features;
  if (gpu) {
    manifest["gpu"] = json::Object{{"chip", gpu->chip}};
  }
  return pack(std::move(manifest), all, artifact);
}

heddle_error *compileModule(const char *spec, const char *target, std::string &artifact, std::string &remarks) {
  Compilation c(spec, target);
  if (heddle_error *e = c.parse()) {
    return e;
  }
  auto prepare = [](OpPassManager &pm) {
    pm.addPass(createCanonicalizerPass());
    pm.addPass(createAnnotateLeaksPass());
  };
  if (heddle_error *e = c.run(*c.module, prepare)) {
    return e;
  }
  heddle_error *e = nullptr;
  if (isProgram(specFunction(*c.module))) {
    e = c.program(artifact);
  } else {
    SmallVector<std::string> one;
    e = c.kernels(*c.module, one);
    artifact = e ? "" : std::move(one.front());
  }
  remarks = c.remarks;
  return e;
}

heddle_error *printStage(const char *spec, const char *target, const char *stageName, std::string &text) {
  static const char *const kStages[] = {"attn", "schedule", "tiles", "vector", "llvm", "llvm-ir", "asm"};
  StringRef stage(stageName);
  if (!llvm::is_contained(kStages, stage)) {
    return fail(HEDDLE_INVALID_VALUE,
                "expected stage to be attn, schedule, tiles, vector, llvm, llvm-ir or asm, but got '" + stage + "'");
  }
  Compilation c(spec, target);
  if (heddle_error *e = c.parse()) {
    return e;
  }
  if (heddle_error *e = c.run(*c.module, [](OpPassManager &pm) { pm.addPass(createCanonicalizerPass()); })) {
    return e;
  }
  llvm::raw_string_ostream os(text);
  if (stage == "attn") {
    c.module->print(os);
    return nullptr;
  }
  SmallVector<ModuleOp> steps = {*c.module};
  if (isProgram(specFunction(*c.module))) {
    if (heddle_error *e = c.run(*c.module, [&](OpPassManager &pm) { buildProgramPipeline(pm, !c.gpu); })) {
      return e;
    }
    steps.assign(c.module->getOps<ModuleOp>().begin(), c.module->getOps<ModuleOp>().end());
  }
  for (ModuleOp step : steps) {
    if (heddle_error *e = c.printStep(step, stage, os)) {
      return e;
    }
  }
  return nullptr;
}

heddle_error *Compilation::printStep(ModuleOp step, StringRef stage, llvm::raw_ostream &os) {
  markTarget(step);
  bool isAttend = isAttendStep(specFunction(step));
  auto build = [&](OpPassManager &pm) {
    if (!isAttend) {
      if (stage != "schedule" && gpu) {
        buildGpuOpPipeline(pm, gpu->sharedBytes);
      } else if (stage != "schedule") {
        buildOpPipeline(pm, target->width);
      }
      if (stage == "llvm" || stage == "llvm-ir" || stage == "asm") {
        buildLLVMPipeline(pm);
      }
      return;
    }
    pm.addPass(createAnnotateSchedulePass());
    if (stage == "schedule") {
      return;
    }
    if (gpu) {
      pm.addPass(createTileGpuPass(TileGpuPassOptions{gpu->sharedBytes}));
    } else {
      buildLoops(pm, *target);
    }
    if (stage == "tiles") {
      return;
    }
    if (!gpu) {
      buildMicroKernels(pm, *target);
    }
    if (stage != "vector") {
      gpu ? buildGpuToLLVM(pm) : buildLLVMPipeline(pm);
    }
  };
  if (heddle_error *e = run(step, build)) {
    return e;
  }
  if (stage != "llvm-ir" && stage != "asm") {
    step.print(os);
    return nullptr;
  }
  if (heddle_error *e = translate(step)) {
    return e;
  }
  if (stage == "llvm-ir") {
    os << *translated.module;
    return nullptr;
  }
  if (gpu) {
    std::string ptx;
    if (!emitPtx(*translated.module, *machine, ptx)) {
      return fail(HEDDLE_SYSTEM, "LLVM cannot emit code for " + name);
    }
    os << ptx;
    return nullptr;
  }
  SmallVector<char> assembly;
  if (!emit(*translated.module, *machine, /*assembly=*/true, assembly)) {
    return fail(HEDDLE_SYSTEM, "LLVM cannot emit code for " + name);
  }
  os.write(assembly.data(), assembly.size());
  return nullptr;
}

heddle_error *assembleText(const char *ptx, const char *target, std::string &cubin) {
  std::optional<NvptxTarget> gpu = NvptxTarget::parse(target);
  if (!gpu) {
    return fail(HEDDLE_INVALID_VALUE,
                llvm::Twine("expected a GPU target (--target=sm_80) for a .cubin, but got '") + target + "'");
  }
  std::string message;
  bool made = assemble(ptx, *gpu, /*quick=*/false, cubin, nullptr, message);
  return made || message.empty() ? nullptr : fail(HEDDLE_SYSTEM, message);
}

} // namespace heddle
