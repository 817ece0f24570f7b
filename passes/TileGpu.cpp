//===- TileGpu.cpp - From a scheduled attend to GPU kernels ---------------===//
//
// Replaces a function with a scheduled attend by a gpu.module:
//
//   func.func @f(%q, %k, %v) { attn.attend .. {schedule = ..} }
//
//   gpu.module @heddle_gpu {
//     llvm.func @heddle_gpu_0(%args : byval argument block) kernel
//     ..                                      one kernel for each group of strata
//   }                                         with the same query digits
//
// The kernels of one call run in order on one stream; where there are several,
// the softmax state of a row passes through the workspace, in f32. Attributes
// `heddle.gpu.*` of the module tell the manifest how to launch them.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Approximation.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "passes/KernelSignature.h"
#include "passes/Passes.h"
#include "passes/gpu/GpuKernel.h"

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_TILEGPUPASS
#include "passes/Passes.h.inc"

/// Tables of one kernel past this many bytes go to a second one.
static constexpr int64_t kMaxTableBytes = 40 * 1024;

static bool sameDigits(ArrayRef<QueryDigit> x, ArrayRef<QueryDigit> y) {
  return llvm::equal(x, y, [](const QueryDigit &a, const QueryDigit &b) {
    return a.radix == b.radix && a.extent == b.extent && a.tile == b.tile;
  });
}

static SmallVector<GpuGroup> groupsOf(const KernelSignature &sig, const Schedule &schedule) {
  SmallVector<GpuGroup> groups;
  for (auto [n, s] : llvm::enumerate(schedule.strata)) {
    auto fits = [&](GpuGroup &g) {
      if (!sameDigits(g.query, s.query)) {
        return false;
      }
      GpuGroup larger = g;
      larger.members.push_back(n);
      return gpuTableBytes(sig, schedule, larger, GpuShape()) <= kMaxTableBytes;
    };
    auto group = llvm::find_if(groups, fits);
    if (group == groups.end()) {
      groups.push_back({SmallVector<QueryDigit>(s.query.begin(), s.query.end()), {}});
      group = std::prev(groups.end());
    }
    group->members.push_back(n);
  }
  if (groups.empty()) {
    groups.push_back({{QueryDigit()}, {}}); // rows without keys
  }
  return groups;
}

/// The conditions of a gathered stratum as conditions per pair, and each of a stratum's choices as a stratum.
static Schedule flattened(const Schedule &schedule) {
  Schedule out = schedule;
  out.strata.clear();
  for (const Stratum &s : schedule.strata) {
    for (int64_t choice = 0; choice < std::max<int64_t>(s.choices, 1); ++choice) {
      Stratum one = s;
      one.choices = 0;
      for (const Expr &condition : {s.list, s.ids}) {
        if (condition) {
          one.residual = one.residual ? one.residual && condition : condition;
        }
      }
      one.list = one.first = one.ids = Expr();
      auto chosen = [&](Expr &x) {
        if (!x.isNull() && x.mentions(Sym::Choice)) {
          x = x.substitute([&](const ExprNode &n) {
            return n.kind == ExprKind::Symbol && n.symbol == Sym::Choice ? Expr(choice) : Expr();
          });
        }
      };
      auto each = [&](std::vector<Expr> &list) { llvm::for_each(list, chosen); };
      each(one.lower);
      each(one.upper);
      for (KeyDigit &d : one.key) {
        chosen(d.phase);
        each(d.lower);
        each(d.upper);
      }
      for (Expr *x : {&one.guard, &one.keep, &one.residual}) {
        chosen(*x);
      }
      out.strata.push_back(std::move(one));
    }
  }
  return out;
}

namespace {
/// A function of one f64 is computed in f32: the GPU has no instruction for it, and libdevice is not at hand.
struct NarrowFunction : RewritePattern {
  explicit NarrowFunction(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), 2, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    if (!isa<math::ExpOp, math::Exp2Op, math::LogOp, math::Log2Op, math::TanhOp, math::ErfOp, math::SinOp, math::CosOp>(
            op)) {
      return rewriter.notifyMatchFailure(op, "not a function without an instruction");
    }
    Type type = op->getResult(0).getType();
    if (type.isF32()) {
      return rewriter.notifyMatchFailure(op, "already in f32");
    }
    Type f32 = rewriter.getF32Type();
    Location loc = op->getLoc();
    Value x = op->getOperand(0);
    x = type.isF64() ? arith::TruncFOp::create(rewriter, loc, f32, x).getResult()
                     : arith::ExtFOp::create(rewriter, loc, f32, x).getResult();
    OperationState state(loc, op->getName(), x, f32, op->getAttrs());
    Value y = rewriter.create(state)->getResult(0);
    y = type.isF64() ? arith::ExtFOp::create(rewriter, loc, type, y).getResult()
                     : arith::TruncFOp::create(rewriter, loc, type, y).getResult();
    rewriter.replaceOp(op, y);
    return success();
  }
};

/// 2^x in f32 is the special function unit's.
struct FastExp2 : OpRewritePattern<math::Exp2Op> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(math::Exp2Op op, PatternRewriter &rewriter) const override {
    if (!op.getType().isF32()) {
      return rewriter.notifyMatchFailure(op, "not f32");
    }
    rewriter.replaceOpWithNewOp<LLVM::CallIntrinsicOp>(
        op, op.getType(), rewriter.getStringAttr("llvm.nvvm.ex2.approx.ftz.f32"), ValueRange{op.getOperand()});
    return success();
  }
};

class GpuTiler {
public:
  GpuTiler(ModuleOp module, const KernelSignature &sig, const Schedule &schedule, int64_t sharedBytes)
      : module(module), sig(sig), schedule(flattened(schedule)), sharedLimit(sharedBytes),
        builder(module.getContext()) {}

  LogicalResult run();

private:
  ModuleOp module;
  const KernelSignature &sig;
  Schedule schedule;
  int64_t sharedLimit;
  OpBuilder builder;

  LLVM::LLVMFuncOp declareKernel(gpu::GPUModuleOp parent, int64_t n, int64_t threads);
  DictionaryAttr describe(const GpuGroup &group, const GpuShape &shape, StringRef name, int64_t sharedBytes);
};
} // namespace

LLVM::LLVMFuncOp GpuTiler::declareKernel(gpu::GPUModuleOp parent, int64_t n, int64_t threads) {
  MLIRContext *context = module.getContext();
  Type pointer = LLVM::LLVMPointerType::get(context);
  auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context), {pointer});
  builder.setInsertionPointToEnd(parent.getBody());
  auto fn = LLVM::LLVMFuncOp::create(builder, sig.func.getLoc(), ("heddle_gpu_" + Twine(n)).str(), type);
  fn->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(), builder.getUnitAttr());
  fn->setAttr(NVVM::NVVMDialect::getMaxntidAttrName(), builder.getDenseI32ArrayAttr({int32_t(threads), 1, 1}));
  int64_t slots = sig.kOffsetSlot(int64_t(sig.segments.size()));
  Type block = LLVM::LLVMArrayType::get(builder.getI64Type(), slots);
  fn.setArgAttr(0, LLVM::LLVMDialect::getByValAttrName(), TypeAttr::get(block));
  fn.setArgAttr(0, LLVM::LLVMDialect::getAlignAttrName(), builder.getI64IntegerAttr(8));
  fn.setArgAttr(0, NVVM::NVVMDialect::getGridConstantAttrName(), builder.getUnitAttr());
  return fn;
}

DictionaryAttr GpuTiler::describe(const GpuGroup &group, const GpuShape &shape, StringRef name, int64_t sharedBytes) {
  int64_t inner = shape.subTiles() * shape.chunks;
  for (const QueryDigit &d : ArrayRef<QueryDigit>(group.query).drop_front()) {
    inner *= (d.extent + d.tile - 1) / d.tile;
  }
  auto number = [&](StringRef key, int64_t v) { return builder.getNamedAttr(key, builder.getI64IntegerAttr(v)); };
  return builder.getDictionaryAttr({builder.getNamedAttr("name", builder.getStringAttr(name)),
                                    number("threads", shape.threads()), number("shared_bytes", sharedBytes),
                                    number("span", group.query[0].radix * group.query[0].tile), number("inner", inner),
                                    number("rows", shape.rows), number("keys", shape.keys),
                                    number("stages", shape.stages), number("columns", shape.columns)});
}

LogicalResult GpuTiler::run() {
  for (const SegmentSignature &s : sig.segments) {
    if (llvm::any_of(s.dots, [](const DotSource &dot) { return dot.relative; })) {
      return sig.attend.emitOpError("expected dots with keys for this target, but got one with relative rows");
    }
  }
  SmallVector<GpuGroup> groups = groupsOf(sig, schedule);
  // One shape for all, so that the state's rows are alike.
  auto tables = [&](const GpuShape &shape) {
    int64_t most = 0;
    for (const GpuGroup &g : groups) {
      most = std::max(most, gpuTableBytes(sig, schedule, g, shape));
    }
    return most;
  };
  std::optional<GpuShape> shape = chooseGpuShape(sig, sharedLimit, tables);
  if (!shape) {
    return sig.attend.emitOpError() << "expected head dimensions whose tiles fit " << sharedLimit
                                    << " bytes of shared memory, but got " << sig.d << " and " << sig.dv;
  }
  builder.setInsertionPointToEnd(module.getBody());
  Location loc = sig.func.getLoc();
  auto parent = gpu::GPUModuleOp::create(builder, loc, "heddle_gpu");
  builder.setInsertionPointToStart(parent.getBody());
  auto bytes = LLVM::LLVMArrayType::get(builder.getI8Type(), 0);
  auto shared = LLVM::GlobalOp::create(builder, loc, bytes, /*isConstant=*/false, LLVM::Linkage::External,
                                       "heddle_shared", Attribute(), /*alignment=*/16, /*addrSpace=*/3);
  SmallVector<Attribute> kernels;
  for (auto [n, g] : llvm::enumerate(groups)) {
    LLVM::LLVMFuncOp fn = declareKernel(parent, int64_t(n), shape->threads());
    GpuKernel kernel(builder, sig, schedule, g, *shape, n > 0, n + 1 < groups.size());
    kernel.emit(fn, shared);
    kernels.push_back(describe(g, *shape, fn.getName(), kernel.sharedBytes()));
  }
  // What expressions call (the draws of random_blocks) goes where the kernels are.
  for (func::FuncOp fn : llvm::make_early_inc_range(module.getOps<func::FuncOp>())) {
    if (fn != sig.func && fn.isPrivate()) {
      fn->moveBefore(parent.getBody(), parent.getBody()->begin());
    }
  }
  module->setAttr("heddle.gpu.kernels", builder.getArrayAttr(kernels));
  // f32 words a row of the workspace: acc, and m and l for each part of the columns.
  int64_t words = groups.size() > 1 ? sig.dv + 2 * shape->chunks : 0;
  module->setAttr("heddle.gpu.workspace_words", builder.getI64IntegerAttr(words));
  return success();
}

namespace {
struct TileGpuPass : impl::TileGpuPassBase<TileGpuPass> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<func::FuncOp> functions(module.getOps<func::FuncOp>());
    for (func::FuncOp fn : functions) {
      if (fn.isDeclaration()) {
        continue;
      }
      FailureOr<KernelSignature> signature = KernelSignature::readScheduled(fn);
      if (failed(signature)) {
        return signalPassFailure();
      }
      Schedule strata = signature->attend.getScheduleAttr().getValue();
      if (failed(GpuTiler(module, *signature, strata, sharedBytes).run())) {
        return signalPassFailure();
      }
      fn.erase();
    }
    // MLIR's polynomials for functions of f32.
    RewritePatternSet patterns(&getContext());
    patterns.add<NarrowFunction, FastExp2>(&getContext());
    populateMathPolynomialApproximationPatterns(patterns);
    bool any = false;
    module.walk([&](Operation *op) { any |= isa_and_present<math::MathDialect>(op->getDialect()); });
    if (any) {
      SmallVector<Operation *> functionsOfFloats;
      module.walk([&](Operation *op) {
        if (isa_and_present<math::MathDialect>(op->getDialect())) {
          functionsOfFloats.push_back(op);
        }
      });
      GreedyRewriteConfig config;
      config.setStrictness(GreedyRewriteStrictness::ExistingAndNewOps);
      (void)applyOpPatternsGreedily(functionsOfFloats, std::move(patterns), config);
    }
  }
};
} // namespace
} // namespace heddle
