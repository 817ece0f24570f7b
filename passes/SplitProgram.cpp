//===- SplitProgram.cpp - A spec of several ops as a list of kernels ------===//
//
// A function whose body is one attend on its arguments is a kernel. Any other is a
// program: each of its ops becomes a step (OutlineStep.h), but for glue and gathered
// rows that others read where they lie (FuseGlue.h, FuseGather.h). The runtime runs
// the steps in their order and owns what lies between them. Values are numbered: the
// function's arguments, then each op's results.
//
//===----------------------------------------------------------------------===//

#include "passes/SplitProgram.h"
#include "dialect/Attn.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "passes/OutlineStep.h"
#include "passes/Passes.h"

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_SPLITPROGRAMPASS
#include "passes/Passes.h.inc"

bool isProgram(func::FuncOp func) {
  Block &body = func.getBody().front();
  if (body.getOperations().size() != 2 || !isa<attn::AttendOp>(body.front())) {
    return true;
  }
  Operation &ret = body.back();
  // What a single kernel cannot return (an argument, a result twice) is a program's business.
  llvm::SmallDenseSet<Value> seen;
  for (Value v : ret.getOperands()) {
    if (v.getDefiningOp() != &body.front() || !seen.insert(v).second) {
      return true;
    }
  }
  return !seen.contains(body.front().getResult(0));
}

namespace {
struct SplitProgramPass : impl::SplitProgramPassBase<SplitProgramPass> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<func::FuncOp> functions;
    for (auto fn : module.getOps<func::FuncOp>()) {
      if (!fn.isDeclaration()) {
        functions.push_back(fn);
      }
    }
    for (func::FuncOp fn : functions) {
      if (isProgram(fn) && failed(split(fn))) {
        return signalPassFailure();
      }
    }
  }

private:
  static constexpr int64_t kPart = 1024; ///< rows

  /// A sum or a maximum over a long sequence is one task a head: it becomes those of parts, and that of these. How many
  /// parts there are follows from the length alone.
  static void splitLong(Block &body) {
    auto isFloat = [](Value v) { return cast<RankedTensorType>(v.getType()).getElementType().isF32(); };
    for (Operation &op : llvm::make_early_inc_range(body)) {
      OpBuilder b(&op);
      if (auto pool = dyn_cast<attn::PoolOp>(op)) {
        const int64_t size = pool.getSize();
        const bool exact = pool.getKind() == attn::PoolKind::Max ||
                           (pool.getKind() == attn::PoolKind::Sum && isFloat(pool.getInput()));
        if (!exact || !pool.getPartial() || pool.getOffset() != 0 || int64_t(pool.getStep()) != size ||
            size < 4 * kPart || size % kPart != 0 || isShort(pool.getInput())) {
          continue;
        }
        Operation *parts = b.clone(op);
        cast<attn::PoolOp>(parts).setSize(kPart);
        widen(*parts, pool.getStrideAttr() ? kPart : 0);
        pool.getInputMutable().assign(parts->getResult(0));
        pool.setSize(size / kPart);
        if (pool.getStrideAttr()) {
          pool.setStride(size / kPart);
        }
      } else if (auto project = dyn_cast<attn::ProjectOp>(op)) {
        auto weights = cast<RankedTensorType>(project.getWeights().getType());
        if (weights.getShape().back() != 1 || project.getBlock() != 1 || !isFloat(project.getResult()) ||
            isShort(project.getInput())) {
          continue;
        }
        Type type = project.getResult().getType();
        widen(op, 0);
        op.setAttr("heddle.part", b.getI64IntegerAttr(kPart));
        b.setInsertionPointAfter(&op);
        auto whole = attn::PoolOp::create(
            b, op.getLoc(), type, attn::PoolKindAttr::get(b.getContext(), attn::PoolKind::Sum), project.getResult(),
            b.getI64IntegerAttr(int64_t(1) << 29), IntegerAttr(), b.getI64IntegerAttr(0), b.getUnitAttr());
        project.getResult().replaceAllUsesExcept(whole.getResult(), whole);
      }
    }
  }
  static bool isShort(Value x) {
    const int64_t rows = cast<RankedTensorType>(x.getType()).getDimSize(2);
    return !ShapedType::isDynamic(rows) && rows <= 2 * kPart;
  }
  /// Leaves the result's rows to the run time; a stride that is written becomes `stride`.
  static void widen(Operation &op, int64_t stride) {
    auto type = cast<RankedTensorType>(op.getResult(0).getType());
    SmallVector<int64_t> shape(type.getShape());
    shape[2] = ShapedType::kDynamic;
    op.getResult(0).setType(RankedTensorType::get(shape, type.getElementType()));
    if (auto pool = dyn_cast<attn::PoolOp>(op); pool && stride > 0) {
      pool.setStride(stride);
    }
  }

  LogicalResult split(func::FuncOp fn) {
    Block &body = fn.getBody().front();
    ProgramPlan program;
    for (Value arg : body.getArguments()) {
      program.number(arg);
    }
    int64_t steps = 0;
    if (readGlue) {
      splitLong(body);
    }
    if (readGlue) {
      program.glue = planGlue(body);
      program.gathers = planGathers(body);
    }
    for (Operation &op : body.without_terminator()) {
      if (program.isInOthers(op)) {
        continue; // computed in the steps of others
      }
      if (op.hasTrait<OpTrait::ConstantLike>() || isShapeOnly(op)) {
        continue;
      }
      // A cast between static and dynamic sizes is the same value; launching checks sizes.
      if (auto cast = dyn_cast<tensor::CastOp>(op); cast && program.numbers.contains(cast.getSource())) {
        program.numbers[cast.getDest()] = program.numbers[cast.getSource()];
        continue;
      }
      if (!isa<attn::AttnDialect>(op.getDialect()) && !isa<linalg::GenericOp>(op)) {
        return op.emitOpError(
            "expected an op of the attn dialect or an elementwise op on tensors in a spec, but got this "
            "one");
      }
      if (auto why = program.glue.apart.find(&op); why != program.glue.apart.end()) {
        op.emitRemark() << "glue with a kernel of its own: " << why->second << "; "
                        << costOfGlue(cast<linalg::GenericOp>(op));
      }
      if (auto why = program.gathers.apart.find(&op); why != program.gathers.apart.end()) {
        op.emitRemark() << "rows copied by a kernel of their own: " << why->second;
      }
      if (failed(outlineStep(fn, op, steps++, program))) {
        return failure();
      }
      for (Operation *one : program.mainOps(op)) {
        for (Value v : one->getResults()) {
          program.number(v);
        }
      }
    }
    SmallVector<int64_t> returned;
    if (failed(findReturned(body, program, returned))) {
      return failure();
    }
    if (returned.empty() || steps == 0) {
      return fn.emitOpError("expected a function that computes and returns a tensor, but got one that does not");
    }
    Builder b(fn.getContext());
    fn->getParentOp()->setAttr("heddle.results", b.getDenseI64ArrayAttr(returned));
    // What is left of the function is its signature.
    fn.eraseBody();
    fn.setPrivate();
    return success();
  }

  /// The numbers of what the function returns.
  static LogicalResult findReturned(Block &body, const ProgramPlan &program, SmallVectorImpl<int64_t> &returned) {
    Operation &ret = *body.getTerminator();
    for (Value v : ret.getOperands()) {
      auto known = program.numbers.find(v);
      if (known == program.numbers.end() || !isa<RankedTensorType>(v.getType())) {
        return ret.emitOpError("expected to return tensors that ops compute, but got ") << v.getType();
      }
      if (isa<BlockArgument>(v)) {
        return ret.emitOpError("expected to return tensors that ops compute, but got an argument");
      }
      if (llvm::is_contained(returned, known->second)) {
        return ret.emitOpError("expected to return each tensor once, but got one twice");
      }
      returned.push_back(known->second);
    }
    return success();
  }

  /// True for what only says how large the result of glue is; the glue's own operands tell.
  static bool isShapeOnly(Operation &op) {
    return isa<tensor::EmptyOp, tensor::DimOp>(op) ||
           (op.getNumResults() == 1 && op.getResult(0).getType().isIndex() && isMemoryEffectFree(&op));
  }
};
} // namespace
} // namespace heddle
