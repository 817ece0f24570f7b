//===- AnnotateSchedule.h - The schedule of an attend ---------------------===//
#ifndef HEDDLE_PASSES_ANNOTATESCHEDULE_H
#define HEDDLE_PASSES_ANNOTATESCHEDULE_H

#include "dialect/Attn.h"
#include "dialect/Schedule.h"
#include "passes/WorkCost.h"

namespace heddle {

/// The strata of an attend's patterns and how its queries are taken; what is wrong is told to a diagnostic that
/// `complain` begins (an inactive one tells nobody).
mlir::FailureOr<Schedule> scheduleOf(attn::AttendOp op, llvm::function_ref<mlir::InFlightDiagnostic()> complain);

/// The rows of segment g, for the cost model; `d` and `dv`: features where types leave them open.
StratumShape shapeOf(attn::AttendOp op, int64_t g, int64_t d = 64, int64_t dv = 64);

} // namespace heddle

#endif // HEDDLE_PASSES_ANNOTATESCHEDULE_H
