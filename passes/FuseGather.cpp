//===- FuseGather.cpp - Which gathered rows have no copy ------------------===//

#include "passes/FuseGather.h"

#include "passes/AnnotateSchedule.h"
#include "passes/AttendTiler.h"

using namespace mlir;

namespace heddle {

namespace {
/// What an attend does with the rows of its operands.
struct Readers {
  llvm::DenseMap<Operation *, FailureOr<Schedule>> schedules;

  /// Why the kernel of `op` needs gathered rows in a tensor of their own; empty where it reads the list.
  std::string whyCopied(attn::AttendOp op, Value gathered) {
    for (OpOperand &use : op->getOpOperands()) {
      if (use.get() == gathered && !isRows(op, use)) {
        return "it is more than queries, keys or values of an attend";
      }
    }
    for (int64_t g = 0; g < op.getNumSegments(); ++g) {
      bool keys = op.getKeys()[g] == gathered || op.getValues()[g] == gathered;
      for (auto [n, sides] : llvm::enumerate(op.getDots(g))) {
        keys |= sides.second == gathered;
        if (sides.second == gathered && op.getDotShift(g, int64_t(n))) {
          return "its rows are those of distances";
        }
      }
      if (std::string why = keys ? whyKeysCopied(op, g) : ""; !why.empty()) {
        return why;
      }
    }
    return "";
  }

private:
  static bool isRows(attn::AttendOp op, OpOperand &use) {
    if (use.get() == op.getQ() && use.getOperandNumber() == 0) {
      return true;
    }
    auto within = [&](OperandRange range) {
      return !range.empty() && use.getOperandNumber() >= range.getBeginOperandIndex() &&
             use.getOperandNumber() < range.getBeginOperandIndex() + range.size();
    };
    return within(op.getKeys()) || within(op.getValues()) || within(op.getDotQueries()) || within(op.getDotKeys());
  }

  std::string whyKeysCopied(attn::AttendOp op, int64_t segment) {
    auto [found, fresh] = schedules.try_emplace(op, failure());
    if (fresh) {
      found->second = scheduleOf(op, [] { return InFlightDiagnostic(); });
    }
    if (failed(found->second)) {
      return "its pattern has no schedule";
    }
    const bool near = found->second->rowsUpTo > 0;
    for (const Stratum &s : found->second->strata) {
      if (s.segment == segment && (near || AttendTiler::byRow(s) || AttendTiler::mayBeSparse(s))) {
        return "queries that are taken one at a time read keys in order";
      }
    }
    return "";
  }
};
} // namespace

GatherPlan planGathers(Block &body) {
  GatherPlan plan;
  Readers readers;
  for (auto gather : body.getOps<attn::GatherRowsOp>()) {
    Value rows = gather.getResult();
    auto type = cast<RankedTensorType>(rows.getType());
    auto mayRead = [&](Operation *by) {
      return isa<attn::MergeOp>(by) || (isa<attn::AttendOp>(by) && type.getRank() == 4);
    };
    if (llvm::none_of(rows.getUsers(), mayRead)) {
      continue;
    }
    std::string why;
    for (Operation *by : rows.getUsers()) {
      if (!mayRead(by)) {
        why = by->getName().getStringRef().str() + " reads them too";
      } else if (auto attend = dyn_cast<attn::AttendOp>(by)) {
        why = readers.whyCopied(attend, rows);
      } else if (!type.isDynamicDim(2)) {
        why = "a merge of as many rows as are written in the spec has no list";
      }
      if (!why.empty()) {
        break;
      }
    }
    why.empty() ? void(plan.read.insert(gather)) : void(plan.apart[gather] = std::move(why));
  }
  return plan;
}

} // namespace heddle
