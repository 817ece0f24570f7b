//===- OpCost.cpp - What ops on whole tensors read and compute ------------===//

#include "codegen/OpCost.h"

#include "dialect/Attn.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace heddle {

/// Windows of a pool or a convolution over n rows.
static int64_t windows(int64_t n, int64_t size, int64_t step, int64_t offset, bool partial) {
  const int64_t whole = n - offset - size;
  return partial ? (n + step - 1) / step : whole < 0 ? 0 : whole / step + 1;
}

std::optional<OpCosts::Shape> OpCosts::shapeOf(Value v) {
  auto type = dyn_cast<RankedTensorType>(v.getType());
  if (!type) {
    return Shape(); // a scalar
  }
  if (auto found = known.find(v); found != known.end()) {
    return found->second;
  }
  std::optional<Shape> shape;
  if (auto result = dyn_cast<OpResult>(v)) {
    shape = inferred(*result.getOwner(), result.getResultNumber());
  } else {
    shape = Shape(type.getShape());
    for (auto [axis, size] : llvm::enumerate(*shape)) {
      if (ShapedType::isDynamic(size)) {
        size = sizeOf(v, int64_t(axis)).value_or(ShapedType::kDynamic);
      }
    }
  }
  if (shape && shape->size() == size_t(type.getRank())) {
    for (auto [size, fixed] : llvm::zip(*shape, type.getShape())) {
      size = ShapedType::isDynamic(fixed) ? size : fixed;
    }
  } else {
    shape = std::nullopt;
  }
  return known[v] = shape;
}

/// The shape of a result, dynamic where a size is not known; static sizes of its type are filled in by the caller.
std::optional<OpCosts::Shape> OpCosts::inferred(Operation &op, unsigned result) {
  auto rows = [&](Value x, llvm::function_ref<int64_t(int64_t)> map) {
    std::optional<Shape> shape = shapeOf(x);
    if (shape && shape->size() > 2 && !ShapedType::isDynamic((*shape)[2])) {
      (*shape)[2] = map((*shape)[2]);
    }
    return shape;
  };
  // The first operand's shape with another last dimension: that of `from`.
  auto wide = [&](Value x, Value from) {
    std::optional<Shape> shape = shapeOf(x), other = shapeOf(from);
    if (shape && other && !shape->empty() && !other->empty()) {
      shape->back() = other->back();
    }
    return shape;
  };
  return llvm::TypeSwitch<Operation *, std::optional<Shape>>(&op)
      .Case([&](attn::PoolOp pool) {
        return rows(pool.getInput(), [&](int64_t n) {
          return windows(n, pool.getSize(), pool.getStep(), pool.getOffset(), pool.getPartial());
        });
      })
      .Case([&](attn::ScanOp scan) { return shapeOf(scan.getInput()); })
      .Case([&](attn::ConvolveOp convolve) {
        const int64_t taps = cast<RankedTensorType>(convolve.getWeights().getType()).getDimSize(1);
        std::optional<Shape> shape = wide(convolve.getInput(), convolve.getWeights());
        if (shape && !ShapedType::isDynamic((*shape)[2])) {
          const int64_t step = convolve.getStride().value_or(taps);
          (*shape)[2] = windows((*shape)[2], taps, step, convolve.getOffset(), convolve.getPartial());
        }
        return shape;
      })
      .Case([&](attn::ProjectOp project) {
        std::optional<Shape> shape = shapeOf(project.getInput()), weights = shapeOf(project.getWeights());
        if (shape && weights) {
          const int64_t rank = weights->back();
          (*shape)[2] = ShapedType::isDynamic(rank) ? rank : rank * int64_t(project.getBlock());
        }
        return shape;
      })
      .Case([&](attn::LinearAttendOp linear) {
        if (result == 0) {
          return wide(linear.getQ(), linear.getV());
        }
        std::optional<Shape> state = wide(linear.getK(), linear.getV()), keys = shapeOf(linear.getK());
        if (state && keys) {
          (*state)[2] = (*keys)[3];
          state->resize(result == 1 ? 4 : 3);
        }
        return state;
      })
      .Case([&](attn::AttendOp attend) {
        std::optional<Shape> shape = wide(attend.getQ(), attend.getValues()[0]);
        if (shape && result > 0) {
          shape->pop_back(); // lse
        }
        return shape;
      })
      .Case([&](attn::GatherRowsOp gather) {
        std::optional<Shape> shape = shapeOf(gather.getInput()), list = shapeOf(gather.getRows());
        if (shape && list) {
          (*shape)[2] = list->back();
        }
        return shape;
      })
      .Case([&](attn::ScatterRowsOp scatter) { return shapeOf(scatter.getBase()); })
      .Case([&](attn::MergeOp merge) {
        std::optional<Shape> shape = shapeOf(merge.getParts()[0]);
        if (shape && result > 0) {
          shape->pop_back();
        }
        return shape;
      })
      .Case([&](tensor::CastOp cast) { return shapeOf(cast.getSource()); })
      .Case([&](attn::GroupOp group) {
        std::optional<Shape> shape = shapeOf(group.getIds());
        if (shape && result > 0) {
          shape->back() = int64_t(group.getGroups()) + 1;
        }
        return shape;
      })
      .Case([&](linalg::GenericOp glue) -> std::optional<Shape> {
        Shape shape(glue.getNumLoops(), ShapedType::kDynamic);
        for (OpOperand *in : glue.getDpsInputOperands()) {
          std::optional<Shape> one = shapeOf(in->get());
          for (auto [axis, e] : llvm::enumerate(glue.getMatchingIndexingMap(in).getResults())) {
            if (auto dim = dyn_cast<AffineDimExpr>(e); dim && one) {
              shape[dim.getPosition()] = (*one)[axis];
            }
          }
        }
        return shape;
      })
      .Default([&](Operation *other) -> std::optional<Shape> {
        // Arithmetic on whole tensors.
        return OpTrait::hasElementwiseMappableTraits(other) ? shapeOf(other->getOperand(0)) : std::nullopt;
      });
}

std::optional<double> OpCosts::elements(Value v) {
  std::optional<Shape> shape = shapeOf(v);
  if (!shape || llvm::any_of(*shape, ShapedType::isDynamic)) {
    return std::nullopt;
  }
  double count = 1;
  for (int64_t size : *shape) {
    count *= static_cast<double>(size);
  }
  return count;
}

std::optional<OpCost> OpCosts::costOf(Operation &op) {
  OpCost cost;
  auto size = [&](Value v) -> std::optional<double> {
    auto type = dyn_cast<RankedTensorType>(v.getType());
    if (!type) {
      return 0;
    }
    std::optional<double> count = elements(v);
    const Type element = type.getElementType();
    const int64_t bits = element.isIndex() ? 64 : std::max<int64_t>(element.getIntOrFloatBitWidth(), 8);
    return count ? std::optional(*count * static_cast<double>(bits) / 8) : std::nullopt;
  };
  auto glue = dyn_cast<linalg::GenericOp>(op);
  SmallVector<Value> all(glue ? ValueRange(glue.getInputs()) : ValueRange(op.getOperands()));
  all.append(op.result_begin(), op.result_end());
  llvm::SmallDenseSet<Value> seen;
  for (Value v : all) {
    if (seen.insert(v).second) {
      std::optional<double> bytes = size(v);
      if (!bytes) {
        return std::nullopt;
      }
      cost.bytes += *bytes;
    }
  }
  auto count = [&](Value v) { return elements(v).value_or(0); };
  auto last = [&](Value v) { return static_cast<double>(shapeOf(v)->back()); };
  llvm::TypeSwitch<Operation *>(&op)
      .Case([&](attn::PoolOp pool) { cost.flops = count(pool.getResult()) * static_cast<double>(pool.getSize()); })
      .Case([&](attn::ScanOp scan) { cost.flops = count(scan.getResult()); })
      .Case([&](attn::ConvolveOp convolve) {
        auto weights = cast<RankedTensorType>(convolve.getWeights().getType());
        const double depth = weights.getRank() == 4 ? last(convolve.getInput()) : 1;
        cost.flops = 2 * count(convolve.getResult()) * static_cast<double>(weights.getDimSize(1)) * depth;
      })
      .Case([&](attn::ProjectOp project) {
        const auto weights = *shapeOf(project.getWeights());
        cost.flops = 2 * count(project.getResult()) * static_cast<double>(weights[weights.size() - 2]);
      })
      .Case([&](attn::LinearAttendOp linear) {
        // The state, and what is read from it.
        const double d = last(linear.getQ());
        cost.flops = 2 * d * (count(linear.getV()) + count(linear.getResult(0)));
      })
      .Case([&](attn::MergeOp merge) {
        cost.flops = 2 * count(merge.getResult(0)) * static_cast<double>(merge.getParts().size());
      })
      .Case([&](attn::ScatterRowsOp scatter) {
        cost.flops = scatter.getKind() == attn::ScatterKind::Overwrite ? 0 : count(scatter.getSource());
      })
      .Case([&](linalg::GenericOp generic) {
        const auto body = generic.getRegion().front().without_terminator();
        cost.flops = count(generic.getResult(0)) * static_cast<double>(std::distance(body.begin(), body.end()));
      })
      .Default([&](Operation *other) {
        if (OpTrait::hasElementwiseMappableTraits(other)) {
          cost.flops = count(other->getResult(0));
        }
      });
  return cost;
}

} // namespace heddle
