//===- Compile.cpp - From a spec's text to an artefact --------------------===//

#include "codegen/Compile.h"

#include "codegen/Manifest.h"
#include "codegen/SpecParser.h"
#include "codegen/x86/X86Target.h"
#include "passes/Passes.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"

#include "llvm/IR/LLVMContext.h"

using namespace mlir;

namespace heddle {

static heddle_error *fail(heddle_code code, const llvm::Twine &message) {
  return heddle_error_create(code, message.str().c_str());
}

namespace {

/// One compilation: a context, a module and its diagnostics.
class Compilation {
public:
  Compilation(const char *spec, const char *targetName) : text(spec), context(createContext()) {
    target = X86Target::parse(targetName);
    name = targetName;
  }

  /// Parses; then `run` adds passes.
  heddle_error *parse();
  heddle_error *run(llvm::function_ref<void(OpPassManager &)> build);
  heddle_error *describe();
  heddle_error *translate();
  heddle_error *object(bool assembly, SmallVectorImpl<char> &out);

  llvm::StringRef text;
  std::string name;
  std::unique_ptr<MLIRContext> context;
  std::optional<X86Target> target;
  OwningOpRef<ModuleOp> module;
  llvm::json::Object manifest;
  std::string remarks;
  llvm::LLVMContext llvmContext;
  std::unique_ptr<llvm::Module> llvmModule;
  std::unique_ptr<llvm::TargetMachine> machine;
};

} // namespace

heddle_error *Compilation::parse() {
  if (!target) {
    return fail(HEDDLE_INVALID_VALUE,
                "expected target to be native, x86-64-v2, x86-64-v3 or x86-64-v4, but got '" + name + "'");
  }
  std::string diagnostics;
  module = parseSpec(*context, text, diagnostics);
  if (!module) {
    return fail(HEDDLE_COMPILE_FAILED, diagnostics);
  }
  remarks += diagnostics;
  return nullptr;
}

heddle_error *Compilation::run(llvm::function_ref<void(OpPassManager &)> build) {
  DiagnosticCollector collector(*context, text);
  PassManager pm(context.get(), ModuleOp::getOperationName());
#ifdef NDEBUG
  pm.enableVerifier(false);
#endif
  build(pm);
  bool failed = mlir::failed(pm.run(*module));
  remarks += collector.remarks;
  if (failed) {
    return fail(HEDDLE_COMPILE_FAILED, collector.errors.empty() ? "the spec does not compile" : collector.errors);
  }
  return nullptr;
}

heddle_error *Compilation::describe() {
  DiagnosticCollector collector(*context, text);
  FailureOr<KernelSignature> signature = KernelSignature::read(specFunction(*module));
  if (mlir::failed(signature)) {
    return fail(HEDDLE_COMPILE_FAILED, collector.errors);
  }
  manifest = describeKernel(*signature);
  return nullptr;
}

heddle_error *Compilation::translate() {
  registerBuiltinDialectTranslation(*context);
  registerLLVMDialectTranslation(*context);
  DiagnosticCollector collector(*context, text);
  llvmModule = translateModuleToLLVMIR(*module, llvmContext, "heddle");
  if (!llvmModule) {
    return fail(HEDDLE_COMPILE_FAILED, "translation to LLVM failed: " + collector.errors);
  }
  std::string error;
  machine = createTargetMachine(*target, error);
  if (!machine) {
    return fail(HEDDLE_SYSTEM, "expected LLVM with the X86 target, but got: " + error);
  }
  optimize(*llvmModule, *machine, *target);
  return nullptr;
}

heddle_error *Compilation::object(bool assembly, SmallVectorImpl<char> &out) {
  return emit(*llvmModule, *machine, assembly, out) ? nullptr
                                                    : fail(HEDDLE_SYSTEM, "LLVM cannot emit code for " + name);
}

heddle_error *compileModule(const char *spec, const char *target, std::string &artifact, std::string &remarks) {
  Compilation c(spec, target);
  if (heddle_error *e = c.parse()) {
    return e;
  }
  if (heddle_error *e = c.run([](OpPassManager &pm) { pm.addPass(createCanonicalizerPass()); })) {
    return e;
  }
  if (heddle_error *e = c.describe()) {
    return e;
  }
  if (heddle_error *e = c.run([&](OpPassManager &pm) {
        buildTilePipeline(pm, c.target->width, c.target->bf16);
        buildLLVMPipeline(pm);
      })) {
    return e;
  }
  c.manifest["target"] = c.name;
  c.manifest["features"] = c.target->features;
  for (const char *key :
       {"scratch_bytes", "super_tile", "state_bytes", "keys_per_split", "max_splits", "heads_share_tiles"}) {
    c.manifest[key] = cast<IntegerAttr>((*c.module)->getAttr(std::string("heddle.") + key)).getInt();
  }
  llvm::json::Array parts;
  llvm::copy(cast<DenseI64ArrayAttr>((*c.module)->getAttr("heddle.parts")).asArrayRef(), std::back_inserter(parts));
  c.manifest["parts"] = std::move(parts);
  if (heddle_error *e = c.translate()) {
    return e;
  }
  SmallVector<char> object;
  if (heddle_error *e = c.object(false, object)) {
    return e;
  }
  std::string manifest;
  llvm::raw_string_ostream os(manifest);
  os << llvm::json::Value(std::move(c.manifest));
  void *bytes = nullptr;
  size_t size = 0;
  if (heddle_error *e =
          heddle_artifact_write(manifest.data(), manifest.size(), object.data(), object.size(), &bytes, &size)) {
    return e;
  }
  artifact.assign(static_cast<const char *>(bytes), size);
  heddle_free(bytes);
  remarks = c.remarks;
  return nullptr;
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
  auto build = [&](OpPassManager &pm) {
    pm.addPass(createCanonicalizerPass());
    if (stage == "attn") {
      return;
    }
    pm.addPass(createAnnotateSchedulePass());
    if (stage == "schedule") {
      return;
    }
    pm.addPass(createTileAttendPass(TileAttendPassOptions{c.target->width, c.target->bf16}));
    if (stage == "tiles") {
      return;
    }
    pm.addPass(createLowerTilesPass(LowerTilesPassOptions{c.target->width, c.target->bf16}));
    if (stage != "vector") {
      buildLLVMPipeline(pm);
    }
  };
  if (heddle_error *e = c.run(build)) {
    return e;
  }
  llvm::raw_string_ostream os(text);
  if (stage != "llvm-ir" && stage != "asm") {
    c.module->print(os);
    return nullptr;
  }
  if (heddle_error *e = c.translate()) {
    return e;
  }
  if (stage == "llvm-ir") {
    os << *c.llvmModule;
    return nullptr;
  }
  SmallVector<char> assembly;
  if (heddle_error *e = c.object(true, assembly)) {
    return e;
  }
  text.assign(assembly.data(), assembly.size());
  return nullptr;
}

} // namespace heddle
