//===- AnnotateSchedule.cpp - Strata as an attribute of the op ------------===//
//
// Runs buildStrata on each segment's pattern and writes the result on the op, so
// that the decisions stand in the IR and `explain` and tests can read them.
//
//===----------------------------------------------------------------------===//

#include "passes/AnnotateSchedule.h"

#include "dialect/PatternMeaning.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Remarks.h"
#include "passes/AttendTiler.h"
#include "passes/BuildStrata.h"
#include "passes/KnownRanges.h"
#include "passes/Passes.h"
#include "passes/RowChoice.h"
#include "passes/ScoreParts.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_ANNOTATESCHEDULEPASS
#include "passes/Passes.h.inc"

/// Query positions that share a state: those whose accumulators (dv f32 each, padded) fit half of a common L2 cache or,
/// where the result holds them, a share of the next one.
static int64_t superTileCap(int64_t dv, bool isF32) {
  const bool inResult = resultHoldsAcc(isF32, dv);
  const int64_t bytes = int64_t(inResult ? 8 : 1) << 20, most = inResult ? 65536 : 4096;
  const int64_t rows = bytes / (4 * ((dv + 15) / 16 * 16));
  int64_t cap = 64;
  while (cap * 2 <= rows && cap < most) {
    cap *= 2;
  }
  return cap;
}

StratumShape shapeOf(attn::AttendOp op, int64_t g, int64_t d, int64_t dv) {
  auto width = [](Value v, int64_t otherwise) {
    const int64_t own = cast<RankedTensorType>(v.getType()).getShape().back();
    return static_cast<double>(ShapedType::isDynamic(own) ? otherwise : own);
  };
  const Type element = cast<RankedTensorType>(op.getQ().getType()).getElementType();
  StratumShape shape;
  shape.d = 0;
  for (auto [query, key] : op.getDots(g)) {
    shape.d += width(query, d);
  }
  shape.dv = width(op.getValues()[g], dv);
  shape.scoreWork = scoreWork(op.getScore(g), op.getDots(g).size());
  shape.elementBytes = element.getIntOrFloatBitWidth() / 8.0;
  shape.copiesValues = !element.isF32();
  return shape;
}

/// Distinct operations of a schedule's expressions: what its code is made of.
static int64_t operationsOf(const Schedule &schedule) {
  llvm::DenseSet<const ExprNode *> seen;
  std::function<void(const Expr &)> visit = [&](const Expr &x) {
    if (!x.isNull() && seen.insert(&*x).second) {
      llvm::for_each(x->args, visit);
    }
  };
  for (const Stratum &s : schedule.strata) {
    llvm::for_each(s.lower, visit);
    llvm::for_each(s.upper, visit);
    for (const KeyDigit &d : s.key) {
      llvm::for_each(d.lower, visit);
      llvm::for_each(d.upper, visit);
    }
    llvm::for_each(std::array{s.guard, s.keep, s.residual}, visit);
  }
  return static_cast<int64_t>(seen.size());
}

/// A note with the names of the arguments that its operands are.
static std::string withNames(attn::AttendOp op, StringRef note) {
  auto func = op->getParentOfType<func::FuncOp>();
  std::string text;
  while (!note.empty()) {
    const size_t plain = std::min(note.find('%'), note.size());
    text += note.take_front(plain);
    note = note.drop_front(plain);
    if (!note.consume_front("%")) {
      continue;
    }
    uint64_t n = 0;
    text += "%";
    if (note.consumeInteger(10, n)) {
      continue; // a remainder
    }
    auto arg = n < op.getPatternOperands().size() ? dyn_cast<BlockArgument>(op.getPatternOperands()[n]) : nullptr;
    auto name = arg && func ? func.getArgAttrOfType<StringAttr>(arg.getArgNumber(), "heddle.name") : nullptr;
    text += name ? name.str() : std::to_string(n);
  }
  return text;
}

static bool hasRowOfKeys(const Expr &e) { return isRowOfKeys(e) || llvm::any_of(e->args, hasRowOfKeys); }

/// What a masked stratum costs, in words: of a usual size, how many of the pairs that are computed are live.
static std::string costOfMasked(const Stratum &s, const Pattern &pattern) {
  constexpr int64_t kLength = 4096, kRows = 8;
  const bool boxes = bool(s.residual) && hasBoxTest(s.residual) && s.ids.isNull();
  const std::string box = "boxes of " + std::to_string(boxes ? keyBoxesOf(s.residual).keys : kBoxKeys) + " keys";
  if (boxes && hasRowOfKeys(s.residual)) {
    return "its pairs are looked up, and " + box + " in which none is set are skipped";
  }
  if (!pattern.tensorOperands().empty() || !pattern.scalarOperands().empty()) {
    return (boxes ? "every pair is computed of " + box + " that may have a live one"
                  : "every pair in its bounds is computed") +
           ", and run-time values decide which of them count";
  }
  ExprEnv env;
  env.nq = env.nk = kLength;
  env.heads = 1;
  env.h = s.heads.empty() ? 0 : s.heads.front();
  env.load = [](int64_t, const std::vector<int64_t> &) { return 0.0; };
  int64_t computed = 0, live = 0;
  for (int64_t row = 0; row < kRows; ++row) {
    env.i = (2 * row + 1) * kLength / (2 * kRows) + row;
    int64_t lo = 0, hi = kLength;
    for (const Expr &e : s.lower) {
      lo = std::max(lo, evaluateInt(e, env));
    }
    for (const Expr &e : s.upper) {
      hi = std::min(hi, evaluateInt(e, env));
    }
    computed += std::max<int64_t>(hi - lo, 0);
    for (env.j = lo; env.j < hi; ++env.j) {
      live += contains(s, env);
    }
  }
  const double share = computed ? 100.0 * static_cast<double>(live) / static_cast<double>(computed) : 100.0;
  std::string text;
  llvm::raw_string_ostream(text) << "it computes " << computed / kRows << " keys a query at length " << kLength
                                 << ", of which " << llvm::format("%.3g", share) << " % are live";
  return text;
}

/// More would take minutes to compile.
static constexpr int64_t kMaxOperations = 20000;

FailureOr<Schedule> scheduleOf(attn::AttendOp op, llvm::function_ref<InFlightDiagnostic()> complain) {
  auto v = cast<RankedTensorType>(op.getValues()[0].getType());
  StrataLimits limits;
  limits.maxSuperTile =
      superTileCap(ShapedType::isDynamic(v.getDimSize(3)) ? 64 : v.getDimSize(3), v.getElementType().isF32());
  Schedule schedule;
  for (int64_t g = 0; g < op.getNumSegments(); ++g) {
    std::vector<Stratum> strata;
    try {
      strata = buildStrata(op.getPattern(g), g, limits);
    } catch (const std::exception &e) { // "expected .. that fit"
      return complain() << e.what() << ", but got more in the pattern of segment " << g;
    }
    std::move(strata.begin(), strata.end(), std::back_inserter(schedule.strata));
  }
  if (int64_t n = operationsOf(schedule); n > kMaxOperations) {
    return complain() << "expected a pattern whose bounds and conditions take at most " << kMaxOperations
                      << " operations, but got " << n
                      << "; a long list can be a run-time one, as in keys(%flags), listed(%lists) or mask(%bits)";
  }
  Type element = v.getElementType();
  const char *type = element.isF32() ? "f32" : element.isBF16() ? "bf16" : "f16";
  std::vector<StratumShape> shapes;
  for (int64_t g = 0; g < op.getNumSegments(); ++g) {
    shapes.push_back(shapeOf(op, g));
  }
  schedule.rowsUpTo = chooseRows(schedule.strata, shapes, type);
  schedule.superTile = superTileFor(schedule.strata, limits);
  return schedule;
}

namespace {
struct AnnotateSchedulePass : impl::AnnotateSchedulePassBase<AnnotateSchedulePass> {
  using Base::Base;

  void runOnOperation() override {
    getOperation().walk([&](attn::AttendOp op) { annotate(op); });
  }

  void annotate(attn::AttendOp op) {
    FailureOr<Schedule> made = scheduleOf(op, [&] { return op.emitOpError(); });
    if (failed(made)) {
      return signalPassFailure();
    }
    Schedule &schedule = *made;
    for (auto [n, s] : llvm::enumerate(schedule.strata)) {
      std::string text = ("stratum " + Twine(n) + " of segment " + Twine(s.segment) + ": " + kindName(s.kind)).str();
      if (s.byRow) {
        text += ", queries one at a time: less time than tiles with the union of their keys";
      }
      if (!s.note.empty()) {
        text += ": " + withNames(op, s.note);
      }
      if (s.kind == StratumKind::Masked && !s.byRow) {
        // A diagnostic, so that nobody has to ask for it.
        op.emitRemark() << text << "; " << costOfMasked(s, op.getPattern(s.segment))
                        << (AttendTiler::mayBeSparse(s)
                                ? "; on a CPU, queries with few scattered keys try all and are taken one at a time"
                                : "");
      } else {
        remark::passed(op.getLoc(), remark::RemarkOpts::name("stratum").category("schedule")) << text;
      }
    }
    op.setScheduleAttr(attn::ScheduleAttr::get(&getContext(), schedule));
  }
};
} // namespace
} // namespace heddle
