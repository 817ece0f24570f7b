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

FailureOr<KernelSignature> KernelSignature::read(func::FuncOp func) {
  KernelSignature s;
  s.func = func;
  for (Operation &op : func.getBody().front()) {
    if (auto attend = dyn_cast<attn::AttendOp>(op)) {
      if (s.attend) {
        return attend.emitOpError() << "expected one attend in a function, but got a second one";
      }
      s.attend = attend;
    } else if (!isa<func::ReturnOp>(op) && !op.hasTrait<OpTrait::ConstantLike>()) {
      return op.emitOpError() << "expected only attn.attend, constants and return in a kernel's function, but got this "
                                 "op";
    }
  }
  if (!s.attend) {
    return func.emitOpError() << "expected an attn.attend, but got none";
  }
  attn::AttendOp op = s.attend;
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
    SegmentSignature segment;
    FailureOr<int64_t> v = arg(op.getValues()[g], "v");
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
      FailureOr<int64_t> qa = arg(dotQ, "a dot's query"), ka = arg(dotK, "a dot's key"), d = staticLast(op, dotQ, "q");
      if (failed(qa) || failed(ka) || failed(d)) {
        return failure();
      }
      segment.dots.push_back({*qa, *ka, *d, shift.has_value(), shift.value_or(0)});
    }
    s.segments.push_back(std::move(segment));
  }
  for (Value v : op.getPatternOperands()) {
    FailureOr<int64_t> a = arg(v, "a pattern's operand");
    if (failed(a)) {
      return failure();
    }
    s.patternOperands.push_back(*a);
  }
  for (Value v : op.getCaptures()) {
    if (failed(arg(v, "a captured value"))) {
      return failure();
    }
  }
  if (op.getSink()) {
    FailureOr<int64_t> a = arg(op.getSink(), "sink");
    if (failed(a)) {
      return failure();
    }
    s.sink = *a;
  }
  s.qOffsetEnd = op.getQOffsetEnd();
  FailureOr<NumberSource> offset = number(func, op, op.getQOffsetOr(), "q_offset");
  if (failed(offset)) {
    return failure();
  }
  s.qOffset = *offset;

  for (int64_t a = 0; a < s.numArgs(); ++a) {
    if (auto list = func.getArgAttrOfType<IntegerAttr>(a, kRowsAttr)) {
      s.listed.push_back({a, list.getInt()});
    }
  }

  Operation *ret = func.getBody().front().getTerminator();
  for (auto [r, v] : llvm::enumerate(ret->getOperands())) {
    if (v == op.getOut() && s.out < 0) {
      s.out = r;
    } else if (op.getLse() && v == op.getLse() && s.lse < 0) {
      s.lse = r;
    } else {
      return ret->emitOpError() << "expected to return the results of attn.attend, each once, but got another value at "
                                << r;
    }
  }
  if (s.out < 0) {
    return ret->emitOpError() << "expected to return the result of attn.attend, but got nothing of it";
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
