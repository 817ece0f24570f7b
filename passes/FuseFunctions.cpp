//===- FuseFunctions.cpp - One of functions that are the same -------------===//
//
//   func.func private @attend_flush_0(...) { A }        func.func private @attend_flush_0(...) { A }
//   func.func private @attend_flush_1(...) { A }   ->
//   call @attend_flush_1(...)                           call @attend_flush_0(...)
//
// Callees first: a round fuses what is the same in all but locations, renames the
// calls, and with that its callers may have become the same.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OperationSupport.h"
#include "passes/Passes.h"

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_FUSEFUNCTIONSPASS
#include "passes/Passes.h.inc"

/// Equal for functions that are the same, whatever their names.
static llvm::hash_code hashOf(func::FuncOp fn) {
  llvm::hash_code hash = mlir::hash_value(fn.getFunctionType());
  fn.getBody().walk([&](Operation *op) {
    hash = llvm::hash_combine(hash, OperationEquivalence::computeHash(op, OperationEquivalence::ignoreHashValue,
                                                                      OperationEquivalence::ignoreHashValue,
                                                                      OperationEquivalence::IgnoreLocations));
  });
  return hash;
}

static bool isSame(func::FuncOp a, func::FuncOp b) {
  return a.getFunctionType() == b.getFunctionType() &&
         OperationEquivalence::isRegionEquivalentTo(&a.getBody(), &b.getBody(), OperationEquivalence::IgnoreLocations);
}

namespace {
struct FuseFunctionsPass : impl::FuseFunctionsPassBase<FuseFunctionsPass> {
  using Base::Base;

  void runOnOperation() override {
    while (fuseOnce()) {
    }
  }

  bool fuseOnce() {
    llvm::DenseMap<size_t, SmallVector<func::FuncOp, 2>> known;
    llvm::DenseMap<StringAttr, StringAttr> renamed;
    SmallVector<func::FuncOp> functions(getOperation().getOps<func::FuncOp>());
    for (func::FuncOp fn : functions) {
      if (fn.isDeclaration() || !fn.isPrivate()) {
        continue;
      }
      auto &like = known[hashOf(fn)];
      auto *same = llvm::find_if(like, [&](func::FuncOp other) { return isSame(other, fn); });
      if (same == like.end()) {
        like.push_back(fn);
      } else {
        renamed[fn.getSymNameAttr()] = same->getSymNameAttr();
        fn.erase();
      }
    }
    if (renamed.empty()) {
      return false;
    }
    getOperation().walk([&](func::CallOp call) {
      auto found = renamed.find(call.getCalleeAttr().getAttr());
      if (found != renamed.end()) {
        call.setCalleeAttr(FlatSymbolRefAttr::get(found->second));
      }
    });
    return true;
  }
};
} // namespace
} // namespace heddle
