//===- FacadeReference.cpp - The reference interpreter, and tolerances ----===//
//
// Tolerances come from the reference interpreter too: it runs variants of the
// spec whose results are the magnitudes that errors scale with,
//   M_i  = sum_j p_ij |v_j|    (normaliser softmax), with lse_i for the scores
//   M_i  = sum_j |w_ij| |v_j|  (none; sum divides it by |sum_j w_ij|)
//
//===----------------------------------------------------------------------===//

#include "codegen/Facade.h"

#include "codegen/SpecParser.h"
#include "dialect/Attn.h"
#include "dialect/Reference.h"
#include "dialect/TensorViews.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"

#include "llvm/ADT/APFloat.h"

#include <cmath>
#include <vector>

using namespace mlir;

namespace heddle::facade {

namespace {

heddle_error *invalid(const std::string &message) { return heddle_error_create(HEDDLE_INVALID_VALUE, message.c_str()); }

heddle_error *parse(MLIRContext &context, const char *spec, OwningOpRef<ModuleOp> &module) {
  std::string diagnostics;
  module = parseSpec(context, spec, diagnostics);
  return module ? nullptr : heddle_error_create(HEDDLE_COMPILE_FAILED, diagnostics.c_str());
}

/// Arithmetic on tensors becomes linalg.generic, which the interpreter knows.
heddle_error *convertGlue(ModuleOp module) {
  bool glue = false;
  specFunction(module).walk([&](Operation *op) {
    glue |= OpTrait::hasElementwiseMappableTraits(op) &&
            llvm::any_of(op->getResultTypes(), llvm::IsaPred<RankedTensorType>);
  });
  if (!glue) {
    return nullptr;
  }
  PassManager pm(module.getContext());
  pm.addPass(createConvertElementwiseToLinalgPass());
  bool done = succeeded(pm.run(module));
  return done ? nullptr : invalid("expected arithmetic on tensors that linalg knows, but got another op");
}

/// A dense f64 tensor that owns its elements.
struct Buffer {
  std::vector<double> data;
  heddle_tensor view = {};
  explicit Buffer(const heddle_tensor &like) {
    view = like;
    view.dtype = HEDDLE_F64;
    int64_t count = 1;
    for (int32_t n = like.rank; n-- > 0;) {
      view.strides[n] = count;
      count *= like.shape[n];
    }
    data.resize(static_cast<size_t>(count) + 1); // never empty: a null result is not written
    view.data = data.data();
  }
};

/// What a variant of the spec computes in place of its result.
enum class Variant {
  Magnitude,   ///< softmax: sum p |v| and lse; else sum |w| |v|
  WeightTotal, ///< sum w, in every column
};

/// A copy of `func` whose attend reads its values from new arguments, one a
/// segment, and returns (out) or, for softmax, (out, lse).
class VariantBuilder {
public:
  VariantBuilder(func::FuncOp original, Variant variant) : variant(variant) {
    func = cast<func::FuncOp>(original->clone());
    func.walk([&](attn::AttendOp op) { attend = op; });
  }
  ~VariantBuilder() { func->erase(); }

  func::FuncOp build() {
    Block &entry = func.getBody().front();
    SmallVector<Value> values;
    for (Value v : attend.getValues()) {
      values.push_back(entry.addArgument(v.getType(), v.getLoc()));
    }
    attend.getValuesMutable().assign(values);
    bool softmax = attend.getNormalizer() == attn::Normalizer::Softmax;
    if (!softmax) {
      attend.setNormalizer(attn::Normalizer::None);
      if (variant == Variant::Magnitude) {
        takeAbsoluteWeights();
      }
    } else {
      addLse();
    }
    Operation *terminator = entry.getTerminator();
    OpBuilder builder(terminator);
    SmallVector<Value> results = {attend.getOut()};
    if (softmax) {
      results.push_back(attend.getLse());
    }
    func::ReturnOp::create(builder, terminator->getLoc(), results);
    terminator->erase();
    func.setType(builder.getFunctionType(entry.getArgumentTypes(), ValueRange(results).getTypes()));
    func.removeArgAttrsAttr();
    func.removeResAttrsAttr();
    return func;
  }

private:
  void addLse() {
    if (attend.getLse()) {
      return;
    }
    OpBuilder builder(attend);
    auto shape = cast<RankedTensorType>(attend.getOut().getType()).getShape().drop_back();
    OperationState state(attend.getLoc(), attend->getName());
    state.addOperands(attend->getOperands());
    state.addTypes({attend.getOut().getType(), RankedTensorType::get(shape, builder.getF32Type())});
    state.getOrAddProperties<attn::AttendOp::Properties>() = attend.getProperties();
    for (Region &region : attend->getRegions()) {
      state.addRegion()->takeBody(region);
    }
    auto created = cast<attn::AttendOp>(builder.create(state));
    attend.getOut().replaceAllUsesWith(created.getOut());
    attend->erase();
    attend = created;
  }

  /// Makes every segment's weight its absolute value.
  void takeAbsoluteWeights() {
    for (int64_t g = 0; g < attend.getNumSegments(); ++g) {
      Region &region = attend.getScores()[g];
      if (region.empty()) {
        addSumOfDots(region, attend.getDots(g).size());
      }
      Operation *yield = region.front().getTerminator();
      OpBuilder builder(yield);
      Value weight = math::AbsFOp::create(builder, yield->getLoc(), yield->getOperand(0));
      yield->setOperand(0, weight);
    }
  }

  void addSumOfDots(Region &region, size_t dots) {
    OpBuilder builder(region.getContext());
    Location loc = attend.getLoc();
    SmallVector<Type> types(dots, builder.getF32Type());
    types.append(4, builder.getIndexType());
    Block *block = builder.createBlock(&region, region.end(), types, SmallVector<Location>(types.size(), loc));
    Value total = block->getArgument(0);
    for (size_t n = 1; n < dots; ++n) {
      total = arith::AddFOp::create(builder, loc, total, block->getArgument(n));
    }
    attn::YieldOp::create(builder, loc, total);
  }

  Variant variant;
  func::FuncOp func;
  attn::AttendOp attend;
};

double elementAt(const heddle_tensor &t, const int64_t index[4]) {
  int64_t at = 0;
  for (int32_t n = 0; n < t.rank; ++n) {
    at += (t.shape[n] == 1 ? 0 : index[n]) * t.strides[n];
  }
  return static_cast<const double *>(t.data)[at];
}

/// Calls visit(flat, index) for every element of a dense tensor.
template <typename Visit> void forEachElement(const heddle_tensor &t, Visit visit) {
  int64_t index[6] = {0}, count = 1;
  for (int32_t n = 0; n < t.rank; ++n) {
    count *= t.shape[n];
  }
  for (int64_t flat = 0; flat < count; ++flat) {
    visit(flat, index);
    for (int32_t n = t.rank; n-- > 0 && ++index[n] == t.shape[n];) {
      index[n] = 0;
    }
  }
}

/// The unit roundoff of a storage type, and the half spacing of its least numbers.
std::pair<double, double> roundoff(heddle_dtype dtype) {
  switch (dtype) {
  case HEDDLE_F16:
    return {std::ldexp(1.0, -11), std::ldexp(1.0, -25)};
  case HEDDLE_BF16:
    return {std::ldexp(1.0, -8), 0.0};
  default:
    return {0.0, 0.0};
  }
}

/// The largest unit roundoff of the 16-bit values of score regions, 0 where they have none.
double roundoffOfScores(attn::AttendOp attend) {
  double most = 0;
  attend->walk([&](Operation *inner) {
    for (Type type : inner->getResultTypes()) {
      if (inner != attend && isa<Float16Type, BFloat16Type>(type)) {
        most = std::max(most, roundoff(type.isF16() ? HEDDLE_F16 : HEDDLE_BF16).first);
      }
    }
  });
  return most;
}

/// Works out the tolerances of one problem.
class Tolerances {
public:
  Tolerances(func::FuncOp func, llvm::ArrayRef<heddle_tensor> args) : func(func), args(args) {
    func.walk([&](attn::AttendOp op) { attend = op; });
  }

  heddle_error *write(llvm::ArrayRef<heddle_tensor> results) {
    if (!attend || func.getBody().front().getOperations().size() != 2) {
      return invalid("expected a function of one attn.attend to give tolerances for");
    }
    const heddle_tensor *out = nullptr;
    Operation *ret = func.getBody().front().getTerminator();
    for (auto [n, v] : llvm::enumerate(ret->getOperands())) {
      if (n < results.size() && v == attend.getOut()) {
        out = &results[n];
      }
    }
    if (!out) {
      return invalid("expected the function to return the result of attn.attend");
    }
    heddle_tensor rows = *out;
    rows.rank = 3;
    Buffer magnitude(*out), lse(rows);
    bool softmax = attend.getNormalizer() == attn::Normalizer::Softmax;
    if (heddle_error *error = run(Variant::Magnitude, magnitude, softmax ? &lse : nullptr)) {
      return error;
    }
    if (attend.getNormalizer() == attn::Normalizer::Sum) {
      Buffer total(*out);
      if (heddle_error *error = run(Variant::WeightTotal, total, nullptr)) {
        return error;
      }
      for (size_t n = 0; n + 1 < total.data.size(); ++n) {
        magnitude.data[n] = total.data[n] == 0 ? 0 : magnitude.data[n] / std::fabs(total.data[n]);
      }
    }
    for (auto [n, v] : llvm::enumerate(ret->getOperands())) {
      writeResult(results[n], v == attend.getOut(), magnitude, lse, softmax);
    }
    return nullptr;
  }

private:
  void writeResult(const heddle_tensor &result, bool isOut, const Buffer &magnitude, const Buffer &lse, bool softmax) {
    double keys = 0;
    for (Value k : attend.getKeys()) {
      keys += static_cast<double>(args[cast<BlockArgument>(k).getArgNumber()].shape[2]);
    }
    auto [unit, least] = roundoff(args[cast<BlockArgument>(attend.getQ()).getArgNumber()].dtype);
    double sums = 2e-6 * std::sqrt(keys), logKeys = std::log(std::max(keys, 1.0));
    double scores = roundoffOfScores(attend);
    auto *data = static_cast<double *>(result.data);
    forEachElement(result, [&, unit = unit, least = least](int64_t flat, const int64_t *index) {
      double row = softmax ? std::fabs(elementAt(lse.view, index)) : INFINITY;
      double score = std::isfinite(row) ? row + logKeys : 0;
      // A score next to a tie of a 16-bit type may be rounded to either side: a difference of 2 u of it.
      double relative = sums + 4 * std::ldexp(1.0, -24) * score + 2 * scores * std::max(score, 1.0);
      // P and the result are rounded to the storage type: 2 u, allowed twice.
      data[flat] = isOut ? (relative + 4 * unit) * magnitude.data[static_cast<size_t>(flat)] + 2 * least
                         : relative + std::ldexp(1.0, -23) * score;
    });
  }

  heddle_error *run(Variant variant, Buffer &out, Buffer *lse) {
    VariantBuilder builder(func, variant);
    func::FuncOp changed = builder.build();
    std::vector<heddle_tensor> all(args.begin(), args.end());
    std::vector<Buffer> values;
    for (Value v : attend.getValues()) {
      values.push_back(changedValues(args[cast<BlockArgument>(v).getArgNumber()], variant));
      all.push_back(values.back().view);
      all.back().data = values.back().data.data();
    }
    std::vector<heddle_tensor> results = {out.view};
    if (lse) {
      results.push_back(lse->view);
    }
    std::string error;
    return runReference(changed, all, results, error) ? nullptr : invalid(error);
  }

  /// |v|, or ones.
  static Buffer changedValues(const heddle_tensor &v, Variant variant);

  func::FuncOp func;
  llvm::ArrayRef<heddle_tensor> args;
  attn::AttendOp attend;
};

Buffer Tolerances::changedValues(const heddle_tensor &v, Variant variant) {
  Buffer changed(v);
  forEachElement(v, [&](int64_t flat, const int64_t *index) {
    int64_t at = 0;
    for (int32_t n = 0; n < v.rank; ++n) {
      at += index[n] * v.strides[n];
    }
    changed.data[static_cast<size_t>(flat)] = variant == Variant::WeightTotal ? 1 : std::fabs(readFloat(v, at));
  });
  return changed;
}

} // namespace

heddle_error *reference(const char *spec, const heddle_tensor *args, int32_t numArgs, const heddle_tensor *results,
                        int32_t numResults) {
  return guarded([&]() -> heddle_error * {
    std::unique_ptr<MLIRContext> context = createContext();
    OwningOpRef<ModuleOp> module;
    if (heddle_error *error = parse(*context, spec, module)) {
      return error;
    }
    if (heddle_error *error = convertGlue(*module)) {
      return error;
    }
    std::string error;
    bool done = runReference(specFunction(*module), {args, static_cast<size_t>(numArgs)},
                             {results, static_cast<size_t>(numResults)}, error);
    return done ? nullptr : invalid(error);
  });
}

heddle_error *tolerance(const char *spec, const heddle_tensor *args, int32_t numArgs, const heddle_tensor *results,
                        int32_t numResults) {
  return guarded([&]() -> heddle_error * {
    std::unique_ptr<MLIRContext> context = createContext();
    OwningOpRef<ModuleOp> module;
    if (heddle_error *error = parse(*context, spec, module)) {
      return error;
    }
    func::FuncOp func = specFunction(*module);
    if (static_cast<int32_t>(func.getNumArguments()) != numArgs ||
        static_cast<int32_t>(func.getNumResults()) != numResults) {
      return invalid("expected " + std::to_string(func.getNumArguments()) + " arguments and " +
                     std::to_string(func.getNumResults()) + " results, but got " + std::to_string(numArgs) + " and " +
                     std::to_string(numResults));
    }
    context->getOrLoadDialect<arith::ArithDialect>();
    context->getOrLoadDialect<math::MathDialect>();
    return Tolerances(func, {args, static_cast<size_t>(numArgs)}).write({results, static_cast<size_t>(numResults)});
  });
}

} // namespace heddle::facade
