//===- AnnotateSchedule.h - The schedule of an attend ---------------------===//
#ifndef HEDDLE_PASSES_ANNOTATESCHEDULE_H
#define HEDDLE_PASSES_ANNOTATESCHEDULE_H

#include "dialect/Attn.h"
#include "dialect/Schedule.h"

namespace heddle {

/// The strata of an attend's patterns and how its queries are taken; what is wrong is told to a diagnostic that
/// `complain` begins (an inactive one tells nobody).
mlir::FailureOr<Schedule> scheduleOf(attn::AttendOp op, llvm::function_ref<mlir::InFlightDiagnostic()> complain);

} // namespace heddle

#endif // HEDDLE_PASSES_ANNOTATESCHEDULE_H
