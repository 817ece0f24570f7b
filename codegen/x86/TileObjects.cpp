//===- TileObjects.cpp - Micro-kernels, compiled once in a process --------===//

#include "codegen/x86/TileObjects.h"

#include "codegen/SpecParser.h"
#include "passes/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/IR/LLVMContext.h"

#include <atomic>
#include <mutex>
#include <unistd.h>

using namespace mlir;

namespace heddle {

/// What attn-lower-tiles knows a micro-kernel by.
static constexpr llvm::StringLiteral kTileKernel = "attn.tile";

void buildMicroKernels(OpPassManager &pm, const X86Target &target) {
  pm.addPass(createLowerTilesPass(LowerTilesPassOptions{target.width, target.bf16, target.amx != AmxTiles::None}));
  if (target.amx == AmxTiles::Emulated) {
    pm.addPass(createEmulateAmxPass());
  }
}

struct TileObject {
  std::string name, declaration;
  std::atomic<pid_t> owner{0}; ///< the process that compiles it, or has
  std::string object, error;   ///< to be read when it is done
  std::atomic<bool> done{false};

  /// True for the one who is to compile it. A process that was forked meanwhile has none of the threads that do.
  bool claim() {
    pid_t self = getpid(), other = owner;
    return !done && other != self && owner.compare_exchange_strong(other, self);
  }
};

/// The object of a declaration for a target.
static TileObject &objectFor(StringRef name, const std::string &declaration, const X86Target &target) {
  static std::mutex mutex;
  // Never freed: another thread may compile while the process ends.
  static auto *all = new llvm::StringMap<std::unique_ptr<TileObject>>();
  std::lock_guard lock(mutex);
  StringRef tiles = target.amx == AmxTiles::Emulated ? "emulated" : "";
  std::unique_ptr<TileObject> &found =
      (*all)[(target.features + "\n" + target.tune + "\n" + tiles + "\n" + declaration).str()];
  if (!found) {
    found = std::make_unique<TileObject>();
    found->name = name.str();
    found->declaration = declaration;
  }
  return *found;
}

/// Code of one function, which is alone in a module.
static void compileFunction(ModuleOp module, llvm::TargetMachine &machine, const X86Target &target, TileObject &to) {
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> code = translateModuleToLLVMIR(module, context, to.name);
  SmallVector<char> bytes;
  if (!code) {
    to.error = "no LLVM IR of " + to.name;
    return;
  }
  optimize(*code, machine, target, to.name, Others::Internal);
  if (!emit(*code, machine, /*assembly=*/false, bytes)) {
    to.error = "no code of " + to.name + " for " + target.features;
    return;
  }
  to.object.assign(bytes.begin(), bytes.end());
}

/// Compiles micro-kernels: together to the LLVM dialect, then each by itself, so that what else is missing does not
/// matter.
static void compile(ArrayRef<TileObject *> objects, const X86Target &target, std::string &error) {
  std::unique_ptr<MLIRContext> context = createContext();
  context->loadDialect<LLVM::LLVMDialect>();
  registerBuiltinDialectTranslation(*context);
  registerLLVMDialectTranslation(*context);
  ScopedDiagnosticHandler diagnostics(context.get(), [&](Diagnostic &d) { error += d.str() + "\n"; });
  std::unique_ptr<llvm::TargetMachine> machine = createTargetMachine(target, error);
  std::string declarations;
  for (const TileObject *object : objects) {
    declarations += object->declaration + "\n";
  }
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(declarations, context.get());
  if (!machine || !module) {
    return;
  }
  PassManager pm(context.get(), ModuleOp::getOperationName());
#ifdef NDEBUG
  pm.enableVerifier(false);
#endif
  buildMicroKernels(pm, target);
  buildLLVMPipeline(pm);
  if (failed(pm.run(*module))) {
    return;
  }
  for (TileObject *object : objects) {
    OwningOpRef<ModuleOp> own = ModuleOp::create(module->getLoc());
    for (auto fn : llvm::make_early_inc_range(module->getOps<LLVM::LLVMFuncOp>())) {
      if (fn.getSymName() == object->name) {
        fn->moveBefore(own->getBody(), own->getBody()->end());
      } else if (fn.isExternal()) {
        own->push_back(fn->clone());
      }
    }
    compileFunction(*own, *machine, target, *object);
  }
}

/// The same; tells who waits for them.
static void compileAll(ArrayRef<TileObject *> objects, const X86Target &target) {
  std::string error;
  compile(objects, target, error);
  for (TileObject *object : objects) {
    if (object->object.empty() && object->error.empty()) {
      object->error = "expected a micro-kernel " + object->name + " for " + target.features + ", but got: " + error;
    }
    object->done = true;
    object->done.notify_all();
  }
}

void TileObjects::take(ModuleOp module, const X86Target &target, Helpers &helpers) {
  std::vector<TileObject *> missing;
  for (auto fn : module.getOps<func::FuncOp>()) {
    if (!fn.isDeclaration() || !fn->hasAttr(kTileKernel)) {
      continue;
    }
    std::string declaration;
    llvm::raw_string_ostream os(declaration);
    fn->print(os, OpPrintingFlags().useLocalScope());
    all.push_back(&objectFor(fn.getSymName(), declaration, target));
    if (all.back()->claim()) {
      missing.push_back(all.back());
    }
    fn->removeAttr(kTileKernel); // so that attn-lower-tiles leaves it without a body
  }
  size_t groups = std::min<size_t>(missing.size(), Helpers::count());
  for (size_t n = 0; n < groups; ++n) {
    std::vector<TileObject *> group;
    for (size_t k = n; k < missing.size(); k += groups) {
      group.push_back(missing[k]);
    }
    helpers.add([group, target] { compileAll(group, target); });
  }
}

bool TileObjects::give(std::vector<llvm::StringRef> &objects, std::string &error) const {
  for (const TileObject *object : all) {
    object->done.wait(false); // another kernel's task may have it
    if (!object->error.empty()) {
      error = object->error;
      return false;
    }
    objects.push_back(object->object);
  }
  return true;
}

} // namespace heddle
