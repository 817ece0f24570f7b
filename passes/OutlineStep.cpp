//===- OutlineStep.cpp - One op of a program as a module of its own -------===//
//
// The op, those that are computed with it, and the glue that they read are copied
// into a new function (OutlineStep.h): what they take from outside becomes its
// arguments, constants are copied.
//
//===----------------------------------------------------------------------===//

#include "passes/OutlineStep.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "passes/KernelSignature.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;

namespace heddle {

SmallVector<Operation *> ProgramPlan::mainOps(Operation &op) const {
  SmallVector<Operation *> ops = {&op};
  if (auto together = glue.together.find(&op); together != glue.together.end()) {
    llvm::append_range(ops, together->second);
  }
  return ops;
}

/// What an error calls a value.
static std::string nameOf(func::FuncOp fn, Value v) {
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

namespace {
class Outliner {
public:
  Outliner(func::FuncOp fn, Operation &op, const ProgramPlan &program)
      : fn(fn), op(op), program(program), ops(program.mainOps(op)),
        byPlace(!isa<attn::AttendOp, linalg::GenericOp>(op)), b(fn.getContext()) {
    for (Operation *one : ops) {
      findGlue(*one);
    }
  }

  LogicalResult run(int64_t step) {
    if (failed(findInputs())) {
      return failure();
    }
    Block *block = makeFunction(step);
    for (Operation *constant : constants) {
      b.clone(*constant, map);
    }
    for (Operation *one : glue) {
      copy(*one);
    }
    SmallVector<Value> made;
    for (Operation *one : ops) {
      Operation *copied = copy(*one);
      if (one == &op && byPlace) {
        placeOperands(*copied, *block);
      }
      if (!isa<linalg::GenericOp>(copied)) {
        ownConstants(copied);
      }
      llvm::append_range(made, copied->getResults());
    }
    func::ReturnOp::create(b, op.getLoc(), made);
    return success();
  }

private:
  /// Glue that an op's kernel computes, operands first.
  void findGlue(Operation &one) {
    for (Value v : one.getOperands()) {
      if (Operation *def = v.getDefiningOp(); def && program.glue.inlined.contains(def)) {
        findGlue(*def);
        glue.insert(def);
      }
    }
  }

  bool isGlue(Value v) const { return v.getDefiningOp() && glue.contains(v.getDefiningOp()); }

  /// The gather through whose list `v` is read, or null.
  attn::GatherRowsOp gatherOf(Value v) const {
    return program.gathers.read.contains(v.getDefiningOp()) ? v.getDefiningOp<attn::GatherRowsOp>() : nullptr;
  }

  /// `again`: also where it is an input already.
  void note(Value v, bool again) {
    Operation *def = v.getDefiningOp();
    if (def && def->hasTrait<OpTrait::ConstantLike>()) {
      if (!llvm::is_contained(constants, def)) {
        constants.push_back(def);
      }
    } else if (!isGlue(v) && (again || !llvm::is_contained(inputs, v))) {
      inputs.push_back(v);
    }
  }

  void noteOperands(Operation &one, bool again) {
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
  }

  LogicalResult refuseOperands() {
    return op.emitOpError("expected operands that are arguments or results of ops, but got another value");
  }

  /// inputs := what the step takes from outside, in the order of its arguments.
  LogicalResult findInputs() {
    auto isKnown = [&](Value v) { return program.numbers.contains(v) || isGlue(v) || gatherOf(v); };
    if (byPlace && !llvm::all_of(op.getOperands(), isKnown)) {
      return refuseOperands();
    }
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
    auto isNumbered = [&](Value v) { return program.numbers.contains(sourceOf(v)); };
    return llvm::all_of(inputs, isNumbered) ? success() : refuseOperands();
  }

  /// The tensor that an argument is.
  Value sourceOf(Value input) const {
    auto gather = gatherOf(input);
    return gather ? gather.getInput() : input;
  }

  /// The module, and its function without a body.
  Block *makeFunction(int64_t step) {
    SmallVector<int64_t> in, out;
    SmallVector<Type> types, results;
    SmallVector<Location> locations;
    for (Value v : inputs) {
      in.push_back(program.numbers.at(sourceOf(v)));
      types.push_back(v.getType());
      locations.push_back(v.getLoc());
    }
    for (Operation *one : ops) {
      for (Type type : one->getResultTypes()) {
        out.push_back(program.count + int64_t(results.size()));
        results.push_back(type);
      }
    }
    b.setInsertionPointToEnd(cast<ModuleOp>(fn->getParentOp()).getBody());
    auto module = ModuleOp::create(b, op.getLoc(), ("step" + Twine(step)).str());
    module->setAttr("heddle.inputs", b.getDenseI64ArrayAttr(in));
    module->setAttr("heddle.outputs", b.getDenseI64ArrayAttr(out));
    b.setInsertionPointToStart(module.getBody());
    auto inner = func::FuncOp::create(b, op.getLoc(), fn.getSymName(), b.getFunctionType(types, results));
    Block *block = b.createBlock(&inner.getBody(), {}, types, locations);
    for (auto [n, v] : llvm::enumerate(inputs)) {
      map.map(v, block->getArgument(n));
      inner.setArgAttr(n, "heddle.name", b.getStringAttr(nameOf(fn, sourceOf(v))));
      if (auto gather = gatherOf(v)) {
        auto list = llvm::find(inputs, gather.getRows()) - inputs.begin();
        inner.setArgAttr(n, kRowsAttr, b.getI64IntegerAttr(list));
      }
    }
    return block;
  }

  Operation *copy(Operation &one) {
    // What a result of glue held before is not read: a placeholder of its type stands for it.
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
  }

  /// Operands that are not glue are the first arguments.
  void placeOperands(Operation &copied, Block &block) {
    unsigned next = 0;
    for (OpOperand &operand : op.getOpOperands()) {
      if (!isGlue(operand.get())) {
        copied.setOperand(operand.getOperandNumber(), block.getArgument(next++));
      }
    }
  }

  func::FuncOp fn;
  Operation &op;
  const ProgramPlan &program;
  SmallVector<Operation *> ops; ///< whose work the step is
  /// An op on whole tensors finds its operands by their place: a tensor that it takes twice is two arguments.
  bool byPlace;
  OpBuilder b;
  llvm::SetVector<Operation *> glue;
  SmallVector<Value> inputs;
  SmallVector<Operation *> constants;
  IRMapping map;
};
} // namespace

LogicalResult outlineStep(func::FuncOp fn, Operation &op, int64_t step, const ProgramPlan &program) {
  return Outliner(fn, op, program).run(step);
}
} // namespace heddle
