//===- ReferenceOps.cpp - Ops on whole tensors, interpreted ---------------===//
#include "dialect/ReferenceOps.h"

#include "dialect/Attn.h"
#include "dialect/ScalarCode.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/TypeSwitch.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace mlir;
using namespace heddle;
using namespace heddle::attn;

namespace {

using Tensor = ReferenceTensor;
constexpr double infinity = std::numeric_limits<double>::infinity();

class TensorOps {
public:
  TensorOps(std::vector<Tensor> &in, std::vector<Tensor> &out, std::string &error, const ScalarOf &scalarOf)
      : in(in), out(out), error(error), scalarOf(scalarOf) {}

  bool run(Operation *op) {
    return llvm::TypeSwitch<Operation *, bool>(op)
        .Case<PoolOp, ScanOp, ConvolveOp, ProjectOp, LinearAttendOp, GroupOp, GatherRowsOp, ScatterRowsOp, MergeOp,
              linalg::GenericOp>([&](auto known) { return runOp(known); })
        .Default([&](Operation *other) {
          return fail("unknown operation '" + other->getName().getStringRef().str() + "'");
        });
  }

private:
  bool fail(const std::string &message) {
    error = message;
    return false;
  }
  bool expectSize(const char *what, size_t operand, size_t axis, int64_t want, bool orOne = false) {
    int64_t got = in[operand].shape[axis];
    return got == want || (orOne && got == 1) ||
           fail("expected dimension " + std::to_string(axis) + " of " + what + " to be " + std::to_string(want) +
                ", but got " + std::to_string(got));
  }

  static int64_t windows(int64_t rows, int64_t size, int64_t step, int64_t offset, bool partial) {
    if (partial) {
      return (rows + step - 1) / step;
    }
    return rows - offset < size ? 0 : (rows - offset - size) / step + 1;
  }

  /// Calls visit(b, h) for each batch and head of an operand.
  template <typename Visit> void forEachHead(const Tensor &t, Visit visit) {
    for (int64_t b = 0; b < t.shape[0]; ++b) {
      for (int64_t h = 0; h < t.shape[1]; ++h) {
        visit(b, h);
      }
    }
  }

  bool runOp(PoolOp op) {
    Tensor &x = in[0];
    int64_t n = x.shape[2], step = op.getStep(), size = op.getSize(), offset = op.getOffset();
    int64_t m = windows(n, size, step, offset, op.getPartial());
    Tensor &y = out.emplace_back(std::vector<int64_t>{x.shape[0], x.shape[1], m, x.shape[3]});
    forEachHead(x, [&](int64_t b, int64_t h) {
      for (int64_t r = 0; r < m; ++r) {
        for (int64_t d = 0; d < x.shape[3]; ++d) {
          double best = -infinity, sum = 0;
          int64_t count = 0;
          for (int64_t t = 0; t < size; ++t) {
            int64_t row = r * step + offset + t;
            if (row < 0 || row >= n) {
              continue;
            }
            double v = x.at({b, h, row, d});
            best = std::isnan(v) || std::isnan(best) ? NAN : std::max(best, v);
            sum += v;
            ++count;
          }
          double value = op.getKind() == PoolKind::Max ? best : op.getKind() == PoolKind::Mean ? sum / count : sum;
          y.at({b, h, r, d}) = count == 0 ? 0 : value;
        }
      }
    });
    return true;
  }

  bool runOp(ScanOp op) {
    Tensor &x = in[0];
    int64_t n = x.shape[2], step = op.getReverse() ? op.getStride() : -op.getStride();
    Tensor &y = out.emplace_back(x.shape);
    forEachHead(x, [&](int64_t b, int64_t h) {
      for (int64_t r = 0; r < n; ++r) {
        int64_t block = op.getBlock().value_or(n), lo = r / block * block, hi = std::min(lo + block, n);
        for (int64_t d = 0; d < x.shape[3]; ++d) {
          double best = -infinity, sum = 0;
          int64_t count = 0;
          for (int64_t t = op.getExclusive() ? r + step : r; lo <= t && t < hi; t += step) {
            double v = x.at({b, h, t, d});
            best = std::isnan(v) || std::isnan(best) ? NAN : std::max(best, v);
            sum += v;
            ++count;
          }
          bool mean = op.getKind() == PoolKind::Mean && count > 0;
          y.at({b, h, r, d}) = op.getKind() == PoolKind::Max ? best : mean ? sum / count : sum;
        }
      }
    });
    return true;
  }

  bool runOp(ConvolveOp op) {
    Tensor &x = in[0], &w = in[1];
    bool full = w.shape.size() == 4;
    int64_t n = x.shape[2], taps = w.shape[1], step = op.getStride().value_or(taps), offset = op.getOffset();
    int64_t m = windows(n, taps, step, offset, op.getPartial()), width = full ? w.shape[3] : x.shape[3];
    if (!expectSize("w", 1, 0, x.shape[1], true) || !expectSize("w", 1, 2, x.shape[3]) ||
        (op.getBias() && (!expectSize("bias", 2, 0, x.shape[1], true) || !expectSize("bias", 2, 1, width)))) {
      return false;
    }
    Tensor &y = out.emplace_back(std::vector<int64_t>{x.shape[0], x.shape[1], m, width});
    forEachHead(x, [&](int64_t b, int64_t h) {
      for (int64_t r = 0; r < m; ++r) {
        for (int64_t e = 0; e < width; ++e) {
          double sum = op.getBias() ? in[2].at({h, e}) : 0;
          for (int64_t t = 0; t < taps; ++t) {
            int64_t row = r * step + offset + t;
            if (row < 0 || row >= n) {
              continue;
            }
            if (!full) {
              sum += w.data[static_cast<size_t>(((w.shape[0] == 1 ? 0 : h) * taps + t) * width + e)] *
                     x.at({b, h, row, e});
              continue;
            }
            for (int64_t d = 0; d < x.shape[3]; ++d) {
              sum += w.at({h, t, d, e}) * x.at({b, h, row, d});
            }
          }
          y.at({b, h, r, e}) = sum;
        }
      }
    });
    return true;
  }

  bool runOp(ProjectOp op) {
    Tensor &x = in[0], &e = in[1];
    int64_t block = op.getBlock();
    while (e.shape.size() < 4) {
      e.shape.insert(e.shape.begin(), 1);
    }
    int64_t n = e.shape[2], r = e.shape[3];
    if (!expectSize("x", 0, 2, n * block) || !expectSize("e", 1, 0, x.shape[0], true) ||
        !expectSize("e", 1, 1, x.shape[1], true)) {
      return false;
    }
    Tensor &y = out.emplace_back(std::vector<int64_t>{x.shape[0], x.shape[1], r * block, x.shape[3]});
    forEachHead(x, [&](int64_t b, int64_t h) {
      for (int64_t row = 0; row < r * block; ++row) {
        for (int64_t d = 0; d < x.shape[3]; ++d) {
          double sum = 0;
          for (int64_t k = 0; k < n; ++k) {
            double weight = e.data[static_cast<size_t>(
                (((e.shape[0] == 1 ? 0 : b) * e.shape[1] + (e.shape[1] == 1 ? 0 : h)) * n + k) * r + row / block)];
            sum += weight * x.at({b, h, k * block + row % block, d});
          }
          y.at({b, h, row, d}) = sum;
        }
      }
    });
    return true;
  }

  /// phi of every element.
  bool applyFeature(Region &region, Tensor &t) {
    if (region.empty()) {
      return true;
    }
    ScalarCode code;
    int64_t input = code.input(region.getArgument(0));
    auto yield = cast<YieldOp>(region.front().getTerminator());
    for (Operation &inner : region.front().without_terminator()) {
      if (!code.add(&inner, [](Value) { return -1; }, error)) {
        return false;
      }
    }
    int64_t result = code.registerOf(yield.getScore());
    std::vector<Scalar> file(static_cast<size_t>(code.numRegisters()), Scalar::of(int64_t(0)));
    for (double &x : t.data) {
      file[static_cast<size_t>(input)] = Scalar::of(x);
      code.run(file.data(), {});
      x = file[static_cast<size_t>(result)].number;
    }
    return true;
  }

  bool runOp(LinearAttendOp op) {
    Tensor q = in[0], k = in[1], v = in[2];
    bool causal = op.getCausal(), sum = op.getNormalizer() == Normalizer::Sum,
         decayed = static_cast<bool>(op.getDecay());
    if (!expectSize("k", 1, 0, q.shape[0]) || !expectSize("k", 1, 3, q.shape[3]) ||
        !expectSize("v", 2, 0, q.shape[0]) || !expectSize("v", 2, 1, k.shape[1]) ||
        !expectSize("v", 2, 2, k.shape[2]) || (causal && !expectSize("k", 1, 2, q.shape[2]))) {
      return false;
    }
    int64_t heads = q.shape[1], own = k.shape[1], nq = q.shape[2], nk = k.shape[2], d = q.shape[3], dv = v.shape[3];
    if (own == 0 || heads % own != 0) {
      return fail("expected q's heads to be a multiple of " + std::to_string(own) + ", but got " +
                  std::to_string(heads));
    }
    if (!applyFeature(op.getFeature(), q) || !applyFeature(op.getFeature(), k)) {
      return false;
    }
    size_t at = 3 + decayed;
    Tensor none, &state = op.getStates().empty() ? none : in[at], &norm = op.getStates().size() < 2 ? none : in[at + 1];
    double eps = op.getEpsAttr() ? op.getEpsAttr().getValueAsDouble() : 0;
    Tensor y(std::vector<int64_t>{q.shape[0], heads, nq, dv}), S(std::vector<int64_t>{q.shape[0], own, d, dv}),
        z(std::vector<int64_t>{q.shape[0], own, d});
    for (int64_t b = 0; b < q.shape[0]; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        int64_t g = h / (heads / own);
        // Of each channel, the sum of g over the rows after j; they are added up backwards, so that -inf stays one.
        std::vector<double> gap(static_cast<size_t>(d));
        auto stepBack = [&](int64_t j) {
          for (int64_t c = 0; c < d && decayed; ++c) {
            gap[c] += in[3].shape.size() == 4 ? in[3].at({b, g, j, c}) : in[3].at({b, g, j});
          }
        };
        for (int64_t i = 0; i < nq; ++i) {
          int64_t end = causal ? i + 1 : nk;
          double below = 0;
          std::vector<double> row(static_cast<size_t>(dv), 0.0);
          gap.assign(gap.size(), 0.0);
          for (int64_t j = end; j-- > 0; stepBack(j)) {
            double weight = 0;
            for (int64_t c = 0; c < d; ++c) {
              weight += q.at({b, h, i, c}) * k.at({b, g, j, c}) * std::exp(gap[c]);
            }
            below += weight;
            for (int64_t e = 0; e < dv; ++e) {
              row[e] += weight * v.at({b, g, j, e});
            }
          }
          for (int64_t c = 0; c < d; ++c) {
            double x = q.at({b, h, i, c}) * std::exp(gap[c]);
            below += norm.shape.empty() ? 0 : x * norm.at({b, g, c});
            for (int64_t e = 0; e < dv && !state.shape.empty(); ++e) {
              row[e] += x * state.at({b, g, c, e});
            }
          }
          for (int64_t e = 0; e < dv; ++e) {
            y.at({b, h, i, e}) = sum ? row[e] / (below + eps) : row[e];
          }
        }
        if (h % (heads / own) != 0) {
          continue; // the state after the last row once, for the query heads that share it
        }
        auto collect = [&](auto keyOf, auto valueOf) {
          for (int64_t c = 0; c < d; ++c) {
            z.at({b, g, c}) += std::exp(gap[c]) * keyOf(c);
            for (int64_t e = 0; e < dv; ++e) {
              S.at({b, g, c, e}) += std::exp(gap[c]) * valueOf(c, e);
            }
          }
        };
        gap.assign(gap.size(), 0.0);
        for (int64_t j = nk; j-- > 0; stepBack(j)) {
          collect([&](int64_t c) { return k.at({b, g, j, c}); },
                  [&](int64_t c, int64_t e) { return k.at({b, g, j, c}) * v.at({b, g, j, e}); });
        }
        if (!state.shape.empty()) {
          collect([&](int64_t c) { return norm.shape.empty() ? 0 : norm.at({b, g, c}); },
                  [&](int64_t c, int64_t e) { return state.at({b, g, c, e}); });
        }
      }
    }
    out.push_back(std::move(y));
    if (!op.getNewStates().empty()) {
      out.push_back(std::move(S));
      if (op.getNewStates().size() > 1) {
        out.push_back(std::move(z));
      }
    }
    return true;
  }

  bool runOp(GroupOp op) {
    Tensor &ids = in[0];
    int64_t n = ids.shape.back(), lists = n == 0 ? 0 : static_cast<int64_t>(ids.data.size()) / n,
            groups = op.getGroups();
    Tensor permutation(ids.shape);
    std::vector<int64_t> shape = ids.shape;
    shape.back() = groups + 1;
    Tensor offsets(shape);
    for (int64_t l = 0; l < lists; ++l) {
      std::vector<int64_t> rows;
      for (int64_t c = 0; c <= groups; ++c) {
        offsets.data[l * (groups + 1) + c] = static_cast<double>(rows.size());
        for (int64_t r = 0; r < n; ++r) {
          double id = ids.data[l * n + r];
          if (c < groups ? id == static_cast<double>(c) : id < 0 || id >= static_cast<double>(groups)) {
            rows.push_back(r);
          }
        }
      }
      for (int64_t r = 0; r < n; ++r) {
        permutation.data[l * n + r] = static_cast<double>(rows[r]);
      }
    }
    permutation.integers = offsets.integers = true;
    out.push_back(std::move(permutation));
    out.push_back(std::move(offsets));
    return true;
  }

  /// A list of rows as `[B, H, M]`.
  bool rowsOf(size_t operand, int64_t batch, int64_t heads) {
    Tensor &rows = in[operand];
    if (rows.shape.size() == 2) {
      rows.shape.insert(rows.shape.begin() + 1, 1);
    }
    return expectSize("rows", operand, 0, batch, true) && expectSize("rows", operand, 1, heads, true);
  }

  bool runOp(GatherRowsOp) {
    Tensor &x = in[0];
    if (!rowsOf(1, x.shape[0], x.shape[1])) {
      return false;
    }
    Tensor &rows = in[1];
    std::vector<int64_t> shape = x.shape;
    shape[2] = rows.shape[2];
    int64_t width = x.shape.size() == 4 ? x.shape[3] : 1;
    Tensor &y = out.emplace_back(shape);
    y.integers = x.integers;
    forEachHead(x, [&](int64_t b, int64_t h) {
      for (int64_t m = 0; m < rows.shape[2]; ++m) {
        auto n = static_cast<int64_t>(rows.at({b, h, m}));
        for (int64_t d = 0; d < width && n >= 0 && n < x.shape[2]; ++d) {
          y.at({b, h, m, d}) = x.at({b, h, n, d});
        }
      }
    });
    return true;
  }

  bool runOp(ScatterRowsOp op) {
    Tensor &source = in[0], &base = in[2];
    if (!rowsOf(1, source.shape[0], source.shape[1]) || !expectSize("rows", 1, 2, source.shape[2]) ||
        !expectSize("base", 2, 0, source.shape[0]) || !expectSize("base", 2, 1, source.shape[1]) ||
        !expectSize("base", 2, 3, source.shape[3])) {
      return false;
    }
    double eps = op.getEpsAttr() ? op.getEpsAttr().getValueAsDouble() : 0;
    Tensor &y = out.emplace_back(base.shape);
    forEachHead(source, [&](int64_t b, int64_t h) {
      for (int64_t n = 0; n < base.shape[2]; ++n) {
        for (int64_t d = 0; d < base.shape[3]; ++d) {
          double sum = 0;
          int64_t count = 0;
          for (int64_t m = 0; m < source.shape[2]; ++m) {
            if (in[1].at({b, h, m}) == static_cast<double>(n)) {
              double v = source.at({b, h, m, d});
              sum = op.getKind() == ScatterKind::Overwrite ? v : sum + v;
              ++count;
            }
          }
          if (op.getKind() == ScatterKind::Mean) {
            sum /= static_cast<double>(count) + eps;
          }
          y.at({b, h, n, d}) = count > 0 ? sum : op.getZeros() ? 0 : base.at({b, h, n, d});
        }
      }
    });
    return true;
  }

  bool runOp(MergeOp op) {
    size_t parts = op.getParts().size();
    for (size_t p = 1; p < 2 * parts; ++p) {
      for (size_t axis = 0; axis < (p < parts ? 4 : 3); ++axis) {
        if (!expectSize("a part", p, axis, in[0].shape[axis])) {
          return false;
        }
      }
    }
    Tensor y(in[0].shape), lse(in[parts].shape);
    forEachHead(y, [&](int64_t b, int64_t h) {
      for (int64_t n = 0; n < y.shape[2]; ++n) {
        double best = -infinity, total = 0;
        for (size_t p = 0; p < parts; ++p) {
          best = std::max(best, in[parts + p].at({b, h, n}));
        }
        std::vector<double> row(static_cast<size_t>(y.shape[3]), 0.0);
        for (size_t p = 0; p < parts; ++p) {
          double l = in[parts + p].at({b, h, n});
          if (l == -infinity) {
            continue;
          }
          double weight = std::isnan(l) ? l : std::exp(l - best);
          total += weight;
          for (int64_t d = 0; d < y.shape[3]; ++d) {
            row[d] += weight * in[p].at({b, h, n, d});
          }
        }
        for (int64_t d = 0; d < y.shape[3]; ++d) {
          y.at({b, h, n, d}) = total == 0 ? 0 : row[d] / total;
        }
        lse.at({b, h, n}) = total == 0 ? -infinity : best + std::log(total);
      }
    });
    out.push_back(std::move(y));
    out.push_back(std::move(lse));
    return true;
  }

  /// Elementwise glue: the region for each index of the loops.
  bool runOp(linalg::GenericOp op) {
    auto inputs = op.getDpsInputOperands();
    std::vector<int64_t> sizes(op.getNumLoops(), -1);
    for (auto [n, operand] : llvm::enumerate(inputs)) {
      for (auto [axis, e] : llvm::enumerate(op.getMatchingIndexingMap(operand).getResults())) {
        auto dim = dyn_cast<AffineDimExpr>(e);
        if (dim && sizes[dim.getPosition()] < 0) {
          sizes[dim.getPosition()] = in[n].shape[axis];
        }
        if (dim && !expectSize("an operand of glue", n, axis, sizes[dim.getPosition()])) {
          return false;
        }
      }
    }
    if (op.getNumReductionLoops() > 0 || llvm::is_contained(sizes, -1)) {
      return fail("expected elementwise glue whose sizes are those of its operands, but got another linalg.generic");
    }
    Block &body = op.getRegion().front();
    ScalarCode code(ScalarCode::Halves::Exact);
    std::vector<int64_t> arguments;
    std::vector<std::pair<int64_t, int64_t>> indices; // register, loop
    std::vector<std::pair<int64_t, Scalar>> given;
    for (BlockArgument a : body.getArguments()) {
      arguments.push_back(code.input(a));
    }
    for (Operation &inner : body.without_terminator()) {
      if (auto index = dyn_cast<linalg::IndexOp>(inner)) {
        indices.emplace_back(code.input(index.getResult()), static_cast<int64_t>(index.getDim()));
        continue;
      }
      for (Value v : inner.getOperands()) {
        if (isa<BlockArgument>(v) && v.getParentBlock() != &body && code.registerOf(v) < 0) {
          given.emplace_back(code.input(v), scalarOf(v));
        }
      }
      if (!code.add(&inner, [](Value) { return -1; }, error)) {
        return false;
      }
    }
    Operation *yield = body.getTerminator();
    std::vector<Scalar> file(static_cast<size_t>(code.numRegisters()), Scalar::of(int64_t(0)));
    for (auto &[r, value] : given) {
      file[static_cast<size_t>(r)] = value;
    }
    for (size_t r = 0; r < op.getNumResults(); ++r) {
      out.emplace_back(sizes).integers = !isa<FloatType>(yield->getOperand(r).getType());
    }
    std::vector<int64_t> at(sizes.size(), 0);
    for (size_t flat = 0; flat < out[0].data.size(); ++flat) {
      for (auto [n, operand] : llvm::enumerate(inputs)) {
        std::vector<int64_t> place;
        for (AffineExpr e : op.getMatchingIndexingMap(operand).getResults()) {
          auto dim = dyn_cast<AffineDimExpr>(e);
          place.push_back(dim ? at[dim.getPosition()] : cast<AffineConstantExpr>(e).getValue());
        }
        double x = in[n].at(place);
        file[static_cast<size_t>(arguments[n])] = in[n].integers ? Scalar::of(static_cast<int64_t>(x)) : Scalar::of(x);
      }
      for (auto [r, loop] : indices) {
        file[static_cast<size_t>(r)] = Scalar::of(at[static_cast<size_t>(loop)]);
      }
      code.run(file.data(), {});
      for (size_t r = 0; r < op.getNumResults(); ++r) {
        int64_t known = code.registerOf(yield->getOperand(r));
        if (known < 0) {
          return fail("expected glue that yields what it computes, but got another value");
        }
        Scalar value = file[static_cast<size_t>(known)];
        out[r].data[flat] = out[r].integers ? static_cast<double>(value.integer) : value.number;
      }
      for (size_t n = sizes.size(); n-- > 0 && ++at[n] == sizes[n];) {
        at[n] = 0;
      }
    }
    return true;
  }

  std::vector<Tensor> &in, &out;
  std::string &error;
  const ScalarOf &scalarOf;
};

} // namespace

bool heddle::isTensorOp(Operation *op) {
  return isa<PoolOp, ScanOp, ConvolveOp, ProjectOp, LinearAttendOp, GroupOp, GatherRowsOp, ScatterRowsOp, MergeOp,
             linalg::GenericOp>(op);
}

bool heddle::runTensorOp(Operation *op, std::vector<ReferenceTensor> &operands, std::vector<ReferenceTensor> &results,
                         std::string &error, const ScalarOf &scalarOf) {
  return TensorOps(operands, results, error, scalarOf).run(op);
}
