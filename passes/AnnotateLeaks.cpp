//===- AnnotateLeaks.cpp - Warnings of summaries that show the future -----===//
//
// A pattern within `causal` says that a query must not see later tokens. Where
// its keys are summaries, a causal position of the summary is not enough: row m
// of a pool holds tokens up to m stride + offset + size - 1, and a projection
// mixes all of them. Warns and names the leak; the result is what was asked for.
//
//   %s = attn.pool mean %k size(4)
//   attn.attend %q segment(%s, %s) where(causal)
//     warning: row 1 sees row 1 of the summary, which holds tokens 4 to 7
//
//===----------------------------------------------------------------------===//

#include "dialect/Attn.h"
#include "dialect/PatternSet.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/BuiltinOps.h"
#include "passes/Passes.h"

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_ANNOTATELEAKSPASS
#include "passes/Passes.h.inc"

/// Tokens of summary row m: from m * step + offset, `size` of them; size 0: up to the last token.
struct SummaryWindow {
  int64_t size, step, offset;
  StringRef what = "a projection, each of which mixes the whole sequence";
};

/// Rows of rows: the tokens of the rows that a row of the outer window holds.
static SummaryWindow composed(const SummaryWindow &outer, const SummaryWindow &inner) {
  if (outer.size == 0 || inner.size == 0) {
    return outer.size == 0 ? outer : inner;
  }
  return {(outer.size - 1) * inner.step + inner.size, outer.step * inner.step,
          outer.offset * inner.step + inner.offset};
}

static std::optional<SummaryWindow> windowOf(Value rows) {
  Operation *op = rows.getDefiningOp();
  auto within = [](const SummaryWindow &own, Value input) {
    std::optional<SummaryWindow> inner = windowOf(input);
    return inner ? composed(own, *inner) : own;
  };
  if (auto pool = dyn_cast_or_null<attn::PoolOp>(op)) {
    return within({int64_t(pool.getSize()), pool.getStep(), int64_t(pool.getOffset())}, pool.getInput());
  }
  if (auto scan = dyn_cast_or_null<attn::ScanOp>(op)) {
    // Forward, row m holds tokens up to m; in reverse all to the end, unless blocks bound it.
    if (scan.getReverse() && scan.getBlock()) {
      return std::nullopt;
    }
    return scan.getReverse() ? SummaryWindow{0, 1, 0, "a scan in reverse, each of which holds all later tokens"}
                             : within({1, 1, scan.getExclusive() ? -1 : 0}, scan.getInput());
  }
  if (auto convolve = dyn_cast_or_null<attn::ConvolveOp>(op)) {
    auto taps = cast<RankedTensorType>(convolve.getWeights().getType());
    int64_t size = taps.getDimSize(1); // [H, taps, D, ..]
    int64_t step = convolve.getStride().value_or(ShapedType::isDynamic(size) ? 0 : size);
    if (step <= 0) {
      return std::nullopt;
    }
    size = std::max<int64_t>(ShapedType::isDynamic(size) ? step : size, 1);
    return within({size, step, int64_t(convolve.getOffset())}, convolve.getInput());
  }
  if (isa_and_nonnull<attn::ProjectOp>(op) && cast<attn::ProjectOp>(op).getBlock() == 1) {
    return SummaryWindow{0, 1, 0};
  }
  if (op && !isa<attn::AttnDialect>(op->getDialect())) { // arithmetic keeps rows where they are
    for (Value in : op->getOperands()) {
      auto type = dyn_cast<RankedTensorType>(in.getType());
      if (type && type.getRank() == 4 && in.getDefiningOp() != op) {
        if (std::optional<SummaryWindow> window = windowOf(in)) {
          return window;
        }
      }
    }
  }
  return std::nullopt;
}

static Pattern primitive(PatternKind kind, std::vector<IntArg> ints, std::vector<RangeArg> ranges = {}) {
  PatternNode n;
  n.kind = kind;
  n.ints = std::move(ints);
  n.ranges = std::move(ranges);
  return Pattern::make(std::move(n));
}

namespace {
struct AnnotateLeaksPass : impl::AnnotateLeaksPassBase<AnnotateLeaksPass> {
  using Base::Base;

  void runOnOperation() override {
    getOperation().walk([&](attn::AttendOp op) {
      for (int64_t g = 0; g < op.getNumSegments(); ++g) {
        for (Value rows : {op.getKeys()[g], op.getValues()[g]}) {
          std::optional<SummaryWindow> window = windowOf(rows);
          if (window && !check(op, g, *window)) {
            break; // said once
          }
        }
      }
    });
  }

  /// False where it warned.
  bool check(attn::AttendOp op, int64_t g, const SummaryWindow &window) {
    // At another offset (a memory before the sequence, say) a summary's positions do not tell which tokens it holds.
    if (getConstantIntValue(op.getKOffset(g)) != 0) {
      return true;
    }
    const RangeArg positions{IntArg(0), IntArg(IntArg::Infinity, 0)};
    Pattern rows = op.getPattern(g) & primitive(PatternKind::Keys, {}, {positions}) &
                   primitive(PatternKind::Queries, {}, {positions});
    if (isSubset(rows, primitive(PatternKind::Causal, {IntArg(0)})).verdict != SetAnswer::Yes ||
        isEmpty(rows).verdict == SetAnswer::Yes) {
      return true; // nobody asks for causality
    }
    if (window.size == 0) {
      op.emitWarning() << "the pattern of segment " << g << " is causal, but its rows are " << window.what
                       << ": every query sees the future through them (there is no causal form)";
      return false;
    }
    // The last token of row m, m step + offset + size - 1, is not after the query.
    const int64_t last = window.size + window.offset;
    SetAnswer past = isSubset(rows, primitive(PatternKind::PastBlocks, {IntArg(window.step), IntArg(last), IntArg(1)}));
    if (past.verdict != SetAnswer::No || !past.witness) {
      return true;
    }
    const int64_t key = past.witness->key, first = key * window.step + window.offset;
    InFlightDiagnostic warning = op.emitWarning();
    warning << "the pattern of segment " << g << " lets query " << past.witness->query << " see row " << key
            << " of a summary, which holds tokens " << first << " to " << first + window.size - 1
            << ": the future leaks";
    if (last >= 0) {
      warning << "; past_blocks(" << window.step
              << (last != window.step ? ", size = " + std::to_string(last) : std::string())
              << ", inclusive = true) is the causal form";
    }
    return false;
  }
};
} // namespace
} // namespace heddle
