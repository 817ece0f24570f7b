//===- KernelSignature.cpp - What a kernel's arguments are ----------------===//

#include "passes/KernelSignature.h"

using namespace mlir;

namespace heddle {

/// The number of the function's argument that `v` is.
static FailureOr<int64_t> argumentNumber(func::FuncOp func, Operation *user, Value v, const Twine &what) {
  auto arg = dyn_cast<BlockArgument>(v);
  if (!arg || arg.getOwner() != &func.getBody().front()) {
    return user->emitOpError() << "expected " << what << " to be an argument of the function, but got the result of '"
                               << (v.getDefiningOp() ? v.getDefiningOp()->getName().getStringRef() : "a block") << "'";
  }
  return static_cast<int64_t>(arg.getArgNumber());
}

static FailureOr<NumberSource> number(func::FuncOp func, Operation *user, OpFoldResult value, const Twine &what) {
  NumberSource n;
  if (!value) {
    return n;
  }
  if (auto v = dyn_cast<Value>(value)) {
    FailureOr<int64_t> arg = argumentNumber(func, user, v, what);
    if (failed(arg)) {
      return failure();
    }
    n.arg = *arg;
    return n;
  }
  auto attr = cast<Attribute>(value);
  if (auto f = dyn_cast<FloatAttr>(attr)) {
    n.real = f.getValueAsDouble();
  } else {
    n.integer = cast<IntegerAttr>(attr).getInt();
  }
  return n;
}

static FailureOr<int64_t> staticLast(Operation *user, Value tensor, const Twine &what) {
  auto type = cast<RankedTensorType>(tensor.getType());
  int64_t d = type.getShape().back();
  if (ShapedType::isDynamic(d)) {
    return user->emitOpError() << "expected the head dimension of " << what << " to be static, but got " << type;
  }
  return d;
}

/// The one attend of a kernel's function.
static FailureOr<attn::AttendOp> onlyAttend(func::FuncOp func) {
  attn::AttendOp found;
  for (Operation &op : func.getBody().front()) {
    if (auto attend = dyn_cast<attn::AttendOp>(op)) {
      if (found) {
        return attend.emitOpError() << "expected one attend in a function, but got a second one";
      }
      found = attend;
    } else if (!isa<func::ReturnOp>(op) && !op.hasTrait<OpTrait::ConstantLike>()) {
      return op.emitOpError() << "expected only attn.attend, constants and return in a kernel's function, but got this "
                                 "op";
    }
  }
  if (!found) {
    return func.emitOpError() << "expected an attn.attend, but got none";
  }
  return found;
}

static FailureOr<SegmentSignature> readSegment(func::FuncOp func, attn::AttendOp op, int64_t g) {
  SegmentSignature segment;
  FailureOr<int64_t> v = argumentNumber(func, op, op.getValues()[g], "v");
  FailureOr<NumberSource> offset = number(func, op, op.getKOffset(g), "k_offset");
  FailureOr<NumberSource> scale = number(func, op, op.getSegmentScale(g), "scale");
  if (failed(v) || failed(offset) || failed(scale)) {
    return failure();
  }
  segment.v = *v;
  segment.kOffset = *offset;
  segment.scale = *scale;
  for (auto [n, sides] : llvm::enumerate(op.getDots(g))) {
    auto [dotQ, dotK] = sides;
    std::optional<int64_t> shift = op.getDotShift(g, int64_t(n));
    FailureOr<int64_t> q = argumentNumber(func, op, dotQ, "a dot's query");
    FailureOr<int64_t> k = argumentNumber(func, op, dotK, "a dot's key"), d = staticLast(op, dotQ, "q");
    if (failed(q) || failed(k) || failed(d)) {
      return failure();
    }
    segment.dots.push_back({*q, *k, *d, shift.has_value(), shift.value_or(0)});
  }
  return segment;
}

/// Which results of the function are the attend's.
static LogicalResult readResults(KernelSignature &s) {
  Operation *ret = s.func.getBody().front().getTerminator();
  for (auto [r, v] : llvm::enumerate(ret->getOperands())) {
    if (v == s.attend.getOut() && s.out < 0) {
      s.out = r;
    } else if (s.attend.getLse() && v == s.attend.getLse() && s.lse < 0) {
      s.lse = r;
    } else {
      return ret->emitOpError() << "expected to return the results of attn.attend, each once, but got another value at "
                                << r;
    }
  }
  if (s.out < 0) {
    return ret->emitOpError() << "expected to return the result of attn.attend, but got nothing of it";
  }
  return success();
}

FailureOr<KernelSignature> KernelSignature::read(func::FuncOp func) {
  FailureOr<attn::AttendOp> attend = onlyAttend(func);
  if (failed(attend)) {
    return failure();
  }
  attn::AttendOp op = *attend;
  KernelSignature s;
  s.func = func;
  s.attend = op;
  auto arg = [&](Value v, const Twine &what) { return argumentNumber(func, op, v, what); };

  FailureOr<int64_t> q = arg(op.getQ(), "q");
  FailureOr<int64_t> d = failed(q) ? q : staticLast(op, op.getQ(), "q");
  FailureOr<int64_t> dv = failed(d) ? d : staticLast(op, op.getValues()[0], "v");
  if (failed(dv)) {
    return failure();
  }
  s.q = *q;
  s.d = *d;
  s.dv = *dv;
  s.storage = cast<RankedTensorType>(op.getQ().getType()).getElementType();

  for (int64_t g = 0; g < op.getNumSegments(); ++g) {
    FailureOr<SegmentSignature> segment = readSegment(func, op, g);
    if (failed(segment)) {
      return failure();
    }
    s.segments.push_back(std::move(*segment));
  }
  for (Value v : op.getPatternOperands()) {
    FailureOr<int64_t> a = arg(v, "a pattern's operand");
    if (failed(a)) {
      return failure();
    }
    s.patternOperands.push_back(*a);
  }
  if (llvm::any_of(op.getCaptures(), [&](Value v) { return failed(arg(v, "a captured value")); })) {
    return failure();
  }
  FailureOr<int64_t> sink = op.getSink() ? arg(op.getSink(), "sink") : s.sink;
  FailureOr<NumberSource> offset = number(func, op, op.getQOffsetOr(), "q_offset");
  if (failed(sink) || failed(offset)) {
    return failure();
  }
  s.sink = *sink;
  s.qOffsetEnd = op.getQOffsetEnd();
  s.qOffset = *offset;

  for (int64_t a = 0; a < s.numArgs(); ++a) {
    if (auto list = func.getArgAttrOfType<IntegerAttr>(a, kRowsAttr)) {
      s.listed.push_back({a, list.getInt()});
    }
  }
  if (failed(readResults(s))) {
    return failure();
  }
  return s;
}

FailureOr<KernelSignature> KernelSignature::readScheduled(func::FuncOp func) {
  FailureOr<KernelSignature> signature = read(func);
  if (succeeded(signature) && !signature->attend.getScheduleAttr()) {
    return signature->attend.emitOpError() << "expected a schedule (--attn-annotate-schedule), but got none";
  }
  return signature;
}

} // namespace heddle
