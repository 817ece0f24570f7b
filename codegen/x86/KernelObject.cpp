//===- KernelObject.cpp - A kernel's object, compiled in parts ------------===//

#include "codegen/x86/KernelObject.h"

#include "codegen/x86/LinkObjects.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Target/LLVMIR/Export.h"

#include "llvm/ADT/StringSet.h"
#include "llvm/IR/LLVMContext.h"

#include <algorithm>

using namespace mlir;

namespace heddle {

/// Ops that are worth a part: fewer take no longer than setting one up.
static constexpr int64_t kOpsOfPart = 1200;
static constexpr int64_t kMostParts = 4;

namespace {
/// Functions that are compiled together.
struct Part {
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> module;
  SmallVector<char> object;
  std::string error;

  void compile(const X86Target &target, StringRef entry, Others others) {
    std::unique_ptr<llvm::TargetMachine> machine = createTargetMachine(target, error);
    if (!machine) {
      error = "expected LLVM with the X86 target, but got: " + error;
      return;
    }
    optimize(*module, *machine, target, entry, others);
    if (!emit(*module, *machine, /*assembly=*/false, object)) {
      error = "expected LLVM to emit code for " + target.features + ", but it cannot";
    }
    module.reset();
  }
};
} // namespace

static int64_t opsOf(LLVM::LLVMFuncOp fn) {
  int64_t count = 0;
  fn.walk([&](Operation *) { ++count; });
  return count;
}

/// Deals out the functions to modules, the largest first and each to the module that has least.
static SmallVector<OwningOpRef<ModuleOp>> dealOut(ModuleOp module) {
  SmallVector<LLVM::LLVMFuncOp> functions;
  SmallVector<std::pair<int64_t, size_t>> order; // -ops, and which function
  int64_t total = 0;
  for (Operation &op : *module.getBody()) {
    auto fn = dyn_cast<LLVM::LLVMFuncOp>(op);
    if (!fn) {
      return {}; // data that functions share
    }
    if (!fn.isExternal()) {
      int64_t ops = opsOf(fn);
      total += ops;
      order.emplace_back(-ops, functions.size());
      functions.push_back(fn);
    }
  }
  int64_t count = std::min(total / kOpsOfPart, kMostParts);
  if (count < 2) {
    return {};
  }
  llvm::sort(order);
  SmallVector<OwningOpRef<ModuleOp>> parts;
  for (int64_t n = 0; n < count; ++n) {
    parts.push_back(ModuleOp::create(module.getLoc()));
  }
  SmallVector<int64_t> ops(count, 0);
  llvm::StringMap<LLVM::LLVMFuncOp> known;
  for (auto fn : module.getOps<LLVM::LLVMFuncOp>()) {
    known[fn.getSymName()] = fn;
  }
  for (auto [size, n] : order) {
    int64_t least = std::min_element(ops.begin(), ops.end()) - ops.begin();
    ops[least] -= size;
    functions[n]->moveBefore(parts[least]->getBody(), parts[least]->getBody()->end());
  }
  // What a part calls and does not have, it declares.
  for (OwningOpRef<ModuleOp> &part : parts) {
    llvm::StringSet<> named;
    for (auto fn : part->getOps<LLVM::LLVMFuncOp>()) {
      named.insert(fn.getSymName());
    }
    OpBuilder builder = OpBuilder::atBlockBegin(part->getBody());
    auto declare = [&](SymbolTable::SymbolUse use) {
      StringRef name = use.getSymbolRef().getLeafReference();
      auto found = known.find(name);
      if (found != known.end() && named.insert(name).second) {
        builder.insert(found->second->cloneWithoutRegions());
      }
    };
    std::optional<SymbolTable::UseRange> uses = SymbolTable::getSymbolUses(&part->getBodyRegion());
    if (uses) {
      llvm::for_each(*uses, declare);
    }
  }
  return parts;
}

bool emitKernelObject(ModuleOp lowered, const X86Target &target, StringRef entry, const TileObjects &tiles,
                      Helpers &helpers, SmallVectorImpl<char> &out, std::string &error) {
  SmallVector<OwningOpRef<ModuleOp>> modules = dealOut(lowered);
  std::vector<std::unique_ptr<Part>> parts;
  for (size_t n = 0; n < std::max<size_t>(modules.size(), 1); ++n) {
    parts.push_back(std::make_unique<Part>());
    Part &part = *parts.back();
    part.module = translateModuleToLLVMIR(modules.empty() ? lowered : *modules[n], part.context, "heddle");
    if (!part.module) {
      error = "translation to LLVM failed";
      return false; // helpers have no task with a part yet
    }
  }
  Others others = parts.size() > 1 ? Others::Shared : Others::Internal;
  for (std::unique_ptr<Part> &part : llvm::drop_begin(parts)) {
    helpers.add([&part = *part, &target, entry, others] { part.compile(target, entry, others); });
  }
  parts[0]->compile(target, entry, others);
  helpers.finish();
  std::vector<StringRef> objects;
  for (std::unique_ptr<Part> &part : parts) {
    if (!part->error.empty()) {
      error = part->error;
      return false;
    }
    objects.emplace_back(part->object.data(), part->object.size());
  }
  if (!tiles.give(objects, error)) {
    return false;
  }
  if (!linkObjects(objects, entry, out)) {
    error = "expected objects that fit, but two share a name or one is damaged";
    return false;
  }
  return true;
}

} // namespace heddle
