//===- SplitProgram.cpp - A spec of several ops as a list of kernels ------===//
//
// A function whose body is one attend on its arguments is a kernel. Any other is a
// program: each of its ops becomes a module of its own with one function (a step),
// whose arguments are the op's operands, in the order of the spec, then what the glue
// in its step reads (FuseGlue.h) and the lists of rows that an attend reads through
// (FuseGather.h); the runtime runs the steps in that order and owns
// what lies between them. Values are
// numbered: the function's arguments, then each op's results.
//
//===----------------------------------------------------------------------===//

#include "passes/SplitProgram.h"
#include "dialect/Attn.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "passes/FuseGather.h"
#include "passes/FuseGlue.h"
#include "passes/KernelSignature.h"
#include "passes/Passes.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

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
  llvm::DenseMap<Value, int64_t> numbers;
  int64_t count = 0; ///< of values so far
  GluePlan plan;
  GatherPlan gathers;

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

  /// The ops whose work a step is, besides glue that it reads.
  SmallVector<Operation *> mainOps(Operation &op) {
    SmallVector<Operation *> ops = {&op};
    if (auto together = plan.together.find(&op); together != plan.together.end()) {
      llvm::append_range(ops, together->second);
    }
    return ops;
  }
  /// Glue that an op's kernel computes, operands first.
  void inlinedBy(Operation &op, llvm::SetVector<Operation *> &found) {
    for (Value v : op.getOperands()) {
      if (Operation *def = v.getDefiningOp(); def && plan.inlined.contains(def)) {
        inlinedBy(*def, found);
        found.insert(def);
      }
    }
  }

  LogicalResult split(func::FuncOp fn) {
    Block &body = fn.getBody().front();
    numbers.clear();
    count = 0;
    for (Value arg : body.getArguments()) {
      numbers[arg] = count++;
    }
    int64_t steps = 0;
    if (readGlue) {
      splitLong(body);
    }
    plan = readGlue ? planGlue(body) : GluePlan();
    gathers = readGlue ? planGathers(body) : GatherPlan();
    for (Operation &op : body.without_terminator()) {
      if (plan.inlined.contains(&op) || plan.joined.contains(&op) || gathers.read.contains(&op)) {
        continue; // computed in the steps of others
      }
      if (op.hasTrait<OpTrait::ConstantLike>() || isShapeOnly(op)) {
        continue;
      }
      // A cast between static and dynamic sizes is the same value; launching checks sizes.
      if (auto cast = dyn_cast<tensor::CastOp>(op); cast && numbers.contains(cast.getSource())) {
        numbers[cast.getDest()] = numbers[cast.getSource()];
        continue;
      }
      if (!isa<attn::AttnDialect>(op.getDialect()) && !isa<linalg::GenericOp>(op)) {
        return op.emitOpError(
            "expected an op of the attn dialect or an elementwise op on tensors in a spec, but got this "
            "one");
      }
      if (auto why = plan.apart.find(&op); why != plan.apart.end()) {
        op.emitRemark() << "glue with a kernel of its own: " << why->second << "; "
                        << costOfGlue(cast<linalg::GenericOp>(op));
      }
      if (auto why = gathers.apart.find(&op); why != gathers.apart.end()) {
        op.emitRemark() << "rows copied by a kernel of their own: " << why->second;
      }
      if (failed(outline(fn, op, steps++))) {
        return failure();
      }
      for (Operation *one : mainOps(op)) {
        for (Value v : one->getResults()) {
          numbers[v] = count++;
        }
      }
    }
    SmallVector<int64_t> returned;
    for (Value v : body.getTerminator()->getOperands()) {
      auto known = numbers.find(v);
      if (known == numbers.end() || !isa<RankedTensorType>(v.getType())) {
        return body.getTerminator()->emitOpError("expected to return tensors that ops compute, but got ")
               << v.getType();
      }
      if (isa<BlockArgument>(v)) {
        return body.getTerminator()->emitOpError("expected to return tensors that ops compute, but got an argument");
      }
      if (llvm::is_contained(returned, known->second)) {
        return body.getTerminator()->emitOpError("expected to return each tensor once, but got one twice");
      }
      returned.push_back(known->second);
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

  /// True for what only says how large the result of glue is; the glue's own operands tell.
  static bool isShapeOnly(Operation &op) {
    return isa<tensor::EmptyOp, tensor::DimOp>(op) ||
           (op.getNumResults() == 1 && op.getResult(0).getType().isIndex() && isMemoryEffectFree(&op));
  }

  /// What an error calls a value.
  std::string nameOf(func::FuncOp fn, Value v) {
    if (auto arg = dyn_cast<BlockArgument>(v)) {
      if (auto given = fn.getArgAttrOfType<StringAttr>(arg.getArgNumber(), "heddle.name")) {
        return given.str();
      }
      return "argument " + std::to_string(arg.getArgNumber());
    }
    return "the result of " + v.getDefiningOp()->getName().getStringRef().str();
  }

  /// Gives each region of an op its own copies of constants from outside, which CSE may have shared between ops.
  static void ownConstants(Operation *op) {
    for (Region &region : op->getRegions()) {
      llvm::MapVector<Operation *, SmallVector<OpOperand *>> uses;
      region.walk([&](Operation *inner) {
        for (OpOperand &use : inner->getOpOperands()) {
          Operation *def = use.get().getDefiningOp();
          if (def && def->hasTrait<OpTrait::ConstantLike>() && def->getBlock() == op->getBlock()) {
            uses[def].push_back(&use);
          }
        }
      });
      for (auto &[constant, operands] : uses) {
        OpBuilder b = OpBuilder::atBlockBegin(&region.front());
        Value own = b.clone(*constant)->getResult(0);
        for (OpOperand *use : operands) {
          use->set(own);
        }
        if (constant->use_empty()) {
          constant->erase();
        }
      }
    }
  }

  LogicalResult outline(func::FuncOp fn, Operation &op, int64_t step) {
    SmallVector<Value> inputs;
    SmallVector<Operation *> constants;
    // An op on whole tensors finds its operands by their place: a tensor that it takes twice is two arguments.
    const bool byPlace = !isa<attn::AttendOp, linalg::GenericOp>(op);
    SmallVector<Operation *> ops = mainOps(op);
    llvm::SetVector<Operation *> glue;
    for (Operation *one : ops) {
      inlinedBy(*one, glue);
    }
    auto isInlined = [&](Value v) { return v.getDefiningOp() && glue.contains(v.getDefiningOp()); };
    auto note = [&](Value v, bool again) {
      Operation *def = v.getDefiningOp();
      if (def && def->hasTrait<OpTrait::ConstantLike>()) {
        if (!llvm::is_contained(constants, def)) {
          constants.push_back(def);
        }
      } else if (!isInlined(v) && (again || !llvm::is_contained(inputs, v))) {
        inputs.push_back(v);
      }
    };
    auto gatherOf = [&](Value v) {
      return gathers.read.contains(v.getDefiningOp()) ? v.getDefiningOp<attn::GatherRowsOp>() : nullptr;
    };
    auto isKnown = [&](Value v) { return numbers.contains(v) || isInlined(v) || gatherOf(v); };
    if (byPlace && !llvm::all_of(op.getOperands(), isKnown)) {
      return op.emitOpError("expected operands that are arguments or results of ops, but got another value");
    }
    auto noteOperands = [&](Operation &one, bool again) {
      auto generic = dyn_cast<linalg::GenericOp>(one);
      for (Value v : generic ? ValueRange(generic.getInputs()) : ValueRange(one.getOperands())) {
        note(v, again);
      }
      // Regions of linalg ops may use values of the function.
      one.walk([&](Operation *inner) {
        for (Value v : inner->getOperands()) {
          if (inner != &one && v.getParentBlock() == op.getBlock()) {
            note(v, again);
          }
        }
      });
    };
    noteOperands(op, byPlace);
    for (Operation *one : ArrayRef(ops).drop_front()) {
      noteOperands(*one, false);
    }
    for (Operation *one : glue) {
      noteOperands(*one, false);
    }
    // Lists stand behind what is read through them.
    for (Value v : SmallVector<Value>(inputs)) {
      if (auto gather = gatherOf(v)) {
        note(gather.getRows(), false);
      }
    }
    SmallVector<int64_t> in, out;
    SmallVector<Type> types;
    SmallVector<Location> locations;
    for (Value v : inputs) {
      auto gather = gatherOf(v);
      Value source = gather ? gather.getInput() : v;
      if (!numbers.contains(source)) {
        return op.emitOpError("expected operands that are arguments or results of ops, but got another value");
      }
      in.push_back(numbers[source]);
      types.push_back(v.getType());
      locations.push_back(v.getLoc());
    }
    SmallVector<Type> results;
    for (Operation *one : ops) {
      for (Type type : one->getResultTypes()) {
        out.push_back(count + int64_t(results.size()));
        results.push_back(type);
      }
    }
    OpBuilder b(fn.getContext());
    b.setInsertionPointToEnd(cast<ModuleOp>(fn->getParentOp()).getBody());
    auto module = ModuleOp::create(b, op.getLoc(), ("step" + Twine(step)).str());
    module->setAttr("heddle.inputs", b.getDenseI64ArrayAttr(in));
    module->setAttr("heddle.outputs", b.getDenseI64ArrayAttr(out));
    b.setInsertionPointToStart(module.getBody());
    auto inner = func::FuncOp::create(b, op.getLoc(), fn.getSymName(), b.getFunctionType(types, results));
    Block *block = b.createBlock(&inner.getBody(), {}, types, locations);
    IRMapping map;
    for (auto [n, v] : llvm::enumerate(inputs)) {
      map.map(v, block->getArgument(n));
      auto gather = gatherOf(v);
      inner.setArgAttr(n, "heddle.name", b.getStringAttr(nameOf(fn, gather ? gather.getInput() : v)));
      if (gather) {
        auto list = llvm::find(inputs, gather.getRows()) - inputs.begin();
        inner.setArgAttr(n, kRowsAttr, b.getI64IntegerAttr(list));
      }
    }
    for (Operation *constant : constants) {
      b.clone(*constant, map);
    }
    // What a result of glue held before is not read: a placeholder of its type stands for it.
    auto copyOf = [&](Operation &one) {
      auto generic = dyn_cast<linalg::GenericOp>(one);
      for (Value init : generic ? ValueRange(generic.getOutputs()) : ValueRange()) {
        auto type = cast<RankedTensorType>(init.getType());
        SmallVector<Value> unknown;
        for (size_t n = 0; n < size_t(type.getNumDynamicDims()); ++n) {
          unknown.push_back(arith::ConstantIndexOp::create(b, op.getLoc(), 0));
        }
        if (!map.contains(init)) {
          map.map(init, tensor::EmptyOp::create(b, op.getLoc(), type, unknown));
        }
      }
      return b.clone(one, map);
    };
    for (Operation *one : glue) {
      copyOf(*one);
    }
    SmallVector<Value> made;
    for (Operation *one : ops) {
      Operation *copy = copyOf(*one);
      if (one == &op && byPlace) {
        // Operands that are not glue are the first arguments.
        unsigned next = 0;
        for (OpOperand &operand : op.getOpOperands()) {
          if (!isInlined(operand.get())) {
            copy->setOperand(operand.getOperandNumber(), block->getArgument(next++));
          }
        }
      }
      if (!isa<linalg::GenericOp>(copy)) {
        ownConstants(copy);
      }
      llvm::append_range(made, copy->getResults());
    }
    func::ReturnOp::create(b, op.getLoc(), made);
    return success();
  }
};
} // namespace
} // namespace heddle
