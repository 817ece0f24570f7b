//===- Reference.cpp - The reference interpreter --------------------------===//
//
// Executes a function's operations in order: attends (ReferenceAttend.cpp), ops
// on whole tensors and glue (ReferenceOps.cpp), scalar arithmetic (ScalarCode.cpp).
//
//===----------------------------------------------------------------------===//
#include "dialect/Reference.h"

#include "dialect/ReferenceAttend.h"
#include "dialect/ReferenceOps.h"
#include "dialect/TensorViews.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinTypes.h"

#include "llvm/ADT/TypeSwitch.h"

#include <algorithm>
#include <cstring>

using namespace mlir;
using namespace heddle;
using namespace heddle::attn;

namespace {

/// Executes the operations of a function in order.
class Interpreter {
public:
  Interpreter(func::FuncOp func, std::string &error) : func(func), error(error) {}
  bool run(ArrayRef<heddle_tensor> args, ArrayRef<heddle_tensor> results);

private:
  bool fail(const std::string &message) {
    error = message;
    return false;
  }
  bool bind(Value argument, const heddle_tensor &view, const std::string &name);
  bool checkTensor(RankedTensorType type, const heddle_tensor &view, const std::string &name);
  bool runScalar(Operation *op);
  bool runAttend(AttendOp op);
  bool runOnTensors(Operation *op);
  bool finish(func::ReturnOp op, ArrayRef<heddle_tensor> results);

  func::FuncOp func;
  std::string &error;
  Environment env;
  std::vector<std::vector<double>> buffers;
};

} // namespace

/// A view of f64 data, dense.
static heddle_tensor denseView(std::vector<double> &data, ArrayRef<int64_t> shape) {
  heddle_tensor t = {};
  t.dtype = HEDDLE_F64;
  t.rank = static_cast<int32_t>(shape.size());
  int64_t stride = 1;
  for (int64_t n = t.rank - 1; n >= 0; --n) {
    t.shape[n] = shape[n];
    t.strides[n] = stride;
    stride *= shape[n];
  }
  data.assign(stride, 0);
  t.data = data.data();
  return t;
}

bool Interpreter::checkTensor(RankedTensorType type, const heddle_tensor &view, const std::string &name) {
  bool fits = view.rank == type.getRank() && view.dtype >= HEDDLE_F32 && view.dtype <= HEDDLE_I64 &&
              isFloatDtype(view.dtype) == isa<FloatType>(type.getElementType());
  for (int64_t n = 0; fits && n < type.getRank(); ++n) {
    fits = view.shape[n] >= 0 && (type.isDynamicDim(n) || type.getDimSize(n) == view.shape[n]);
  }
  if (fits) {
    return true;
  }
  std::string expected;
  llvm::raw_string_ostream(expected) << type;
  bool known = view.rank >= 0 && view.rank <= 6 && view.dtype >= HEDDLE_F32 && view.dtype <= HEDDLE_I64;
  return fail("expected " + name + " to be " + expected + ", but got " +
              (known ? describeTensor(view) : "a broken view"));
}

bool Interpreter::bind(Value argument, const heddle_tensor &view, const std::string &name) {
  Type type = argument.getType();
  if (auto tensor = dyn_cast<RankedTensorType>(type)) {
    env.tensors[argument] = view;
    return tensor.getRank() <= 6 ? checkTensor(tensor, view, name) : fail("expected rank 6 at most of " + name);
  }
  if (!type.isIntOrIndexOrFloat() || view.rank != 0 || !view.data) {
    return fail("expected " + name + " to be a scalar of rank 0, but got rank " + std::to_string(view.rank));
  }
  if (auto number = dyn_cast<FloatType>(type)) {
    double given = *static_cast<const double *>(view.data);
    env.scalars[argument] = Scalar::of(number.getWidth() < 32 ? roundTo(number.getFloatSemantics(), given) : given);
  } else {
    env.scalars[argument] = Scalar::of(*static_cast<const int64_t *>(view.data));
  }
  return true;
}

bool Interpreter::runScalar(Operation *op) {
  ScalarCode code;
  std::vector<std::pair<int64_t, Scalar>> inputs;
  for (Value operand : op->getOperands()) {
    auto known = env.scalars.find(operand);
    if (known != env.scalars.end() && code.registerOf(operand) < 0) {
      inputs.emplace_back(code.input(operand), known->second);
    }
  }
  if (!code.add(op, [](Value) { return -1; }, error)) {
    return false;
  }
  std::vector<Scalar> file(code.numRegisters(), Scalar::of(int64_t(0)));
  for (auto &[index, value] : inputs) {
    file[index] = value;
  }
  code.run(file.data(), {});
  env.scalars[op->getResult(0)] = file[code.registerOf(op->getResult(0))];
  return true;
}

bool Interpreter::runAttend(AttendOp op) {
  auto allocate = [&](ArrayRef<int64_t> shape) {
    heddle_tensor out = denseView(buffers.emplace_back(), shape), lse = {};
    if (op.getLse()) {
      lse = denseView(buffers.emplace_back(), shape.drop_back());
      env.tensors[op.getLse()] = lse;
    }
    env.tensors[op.getOut()] = out;
    return std::pair(out, lse);
  };
  return runReferenceAttend(op, env, allocate, error);
}

/// A dense copy of a view.
static ReferenceTensor copyOf(const heddle_tensor &t) {
  ReferenceTensor copy(std::vector<int64_t>(t.shape, t.shape + t.rank));
  copy.integers = !isFloatDtype(t.dtype);
  std::vector<int64_t> at(static_cast<size_t>(t.rank), 0);
  for (double &value : copy.data) {
    int64_t offset = elementOffset(t, at);
    value = copy.integers ? static_cast<double>(readInteger(t, offset)) : readFloat(t, offset);
    for (int64_t n = t.rank; n-- > 0 && ++at[n] == t.shape[n];) {
      at[n] = 0;
    }
  }
  return copy;
}

bool Interpreter::runOnTensors(Operation *op) {
  std::vector<ReferenceTensor> operands, results;
  auto glue = dyn_cast<linalg::GenericOp>(op);
  for (Value v : glue ? ValueRange(glue.getInputs()) : ValueRange(op->getOperands())) {
    if (!env.tensors.contains(v)) {
      return fail("expected operands of glue that are tensors, but got another value");
    }
    operands.push_back(copyOf(env.tensors.at(v)));
  }
  if (!runTensorOp(op, operands, results, error, [&](Value v) { return env.scalars.lookup(v); })) {
    return false;
  }
  for (auto [v, made] : llvm::zip(op->getResults(), results)) {
    heddle_tensor t = denseView(buffers.emplace_back(), made.shape);
    // Integers keep their bits in the place of a double.
    t.dtype = made.integers ? HEDDLE_I64 : HEDDLE_F64;
    for (size_t n = 0; n < made.data.size(); ++n) {
      auto integer = static_cast<int64_t>(made.integers ? made.data[n] : 0);
      std::memcpy(static_cast<double *>(t.data) + n, made.integers ? static_cast<void *>(&integer) : &made.data[n], 8);
    }
    env.tensors[v] = t;
  }
  return true;
}

bool Interpreter::finish(func::ReturnOp op, ArrayRef<heddle_tensor> results) {
  if (op.getNumOperands() != results.size()) {
    return fail("expected " + std::to_string(op.getNumOperands()) + " results, but got " +
                std::to_string(results.size()));
  }
  for (auto [n, operand] : llvm::enumerate(op.getOperands())) {
    const heddle_tensor &to = results[n];
    std::string name = "result " + std::to_string(n);
    auto from = env.tensors.find(operand);
    if (from == env.tensors.end()) {
      return fail("expected " + name + " to be a tensor, but got another value");
    }
    bool floats = isFloatDtype(from->second.dtype);
    bool fits = !to.data || (to.rank == from->second.rank && isFloatDtype(to.dtype) == floats &&
                             std::equal(to.shape, to.shape + to.rank, from->second.shape));
    if (!fits) {
      return fail("expected " + name + " to be " + describeTensor(from->second) +
                  (floats ? " or another float" : " or another integer") + ", but got another shape or dtype");
    }
  }
  for (auto [to, operand] : llvm::zip(results, op.getOperands())) {
    const heddle_tensor &from = env.tensors.at(operand);
    std::vector<int64_t> at(from.rank, 0);
    bool empty = !to.data || std::find(from.shape, from.shape + from.rank, 0) != from.shape + from.rank;
    while (!empty) {
      if (isFloatDtype(from.dtype)) {
        writeFloat(to, elementOffset(to, at), readFloat(from, elementOffset(from, at)));
      } else {
        writeInteger(to, elementOffset(to, at), readInteger(from, elementOffset(from, at)));
      }
      int64_t n = from.rank - 1;
      while (n >= 0 && ++at[n] == from.shape[n]) {
        at[n--] = 0;
      }
      empty = n < 0;
    }
  }
  return true;
}

bool Interpreter::run(ArrayRef<heddle_tensor> args, ArrayRef<heddle_tensor> results) {
  if (func.isExternal() || !func.getBody().hasOneBlock()) {
    return fail("expected a function with a body of one block, but got another one");
  }
  if (args.size() != func.getNumArguments()) {
    return fail("expected " + std::to_string(func.getNumArguments()) + " arguments, but got " +
                std::to_string(args.size()));
  }
  for (auto [n, argument] : llvm::enumerate(func.getArguments())) {
    if (!bind(argument, args[n], "argument " + std::to_string(n))) {
      return false;
    }
  }
  for (Operation &op : func.getBody().front()) {
    bool good = llvm::TypeSwitch<Operation *, bool>(&op)
                    .Case([&](AttendOp attend) { return runAttend(attend); })
                    .Case([&](func::ReturnOp ret) { return finish(ret, results); })
                    .Default([&](Operation *other) {
                      // What only says how large a result is: the operands tell.
                      if (isa<tensor::EmptyOp, tensor::DimOp>(other)) {
                        return true;
                      }
                      return isTensorOp(other) ? runOnTensors(other) : runScalar(other);
                    });
    if (!good) {
      return false;
    }
  }
  return true;
}

bool heddle::runReference(func::FuncOp func, ArrayRef<heddle_tensor> args, ArrayRef<heddle_tensor> results,
                          std::string &error) {
  return Interpreter(func, error).run(args, results);
}
