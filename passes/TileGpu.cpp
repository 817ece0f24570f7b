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

#include "dialect/ListKeys.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "passes/KernelSignature.h"
#include "passes/Passes.h"
#include "passes/gpu/GpuMath.h"
#include "passes/gpu/GpuOrder.h"
#include "passes/gpu/GpuToLLVM.h"
#include "passes/gpu/HopperKernel.h"

using namespace mlir;

namespace heddle {
#define GEN_PASS_DEF_TILEGPUPASS
#include "passes/Passes.h.inc"

/// Keys of one split where few queries meet many keys, and most splits: enough blocks to fill a large device.
static constexpr int64_t kKeysPerSplit = 1024, kMaxSplits = 64;
/// Tables of one kernel past this many bytes go to a second one.
static constexpr int64_t kMaxTableBytes = 40 * 1024;
/// Queries of a block of the kernels of sm_90a.
static constexpr int64_t kHopperRows = 128;
/// Value columns past which ptxas -O3 spills in them and -O1 does not; the overlap of products and softmax is the same.
static constexpr int64_t kColumnsAtO3 = 128;
/// Tensor maps of a launch: they are kernel parameters.
static constexpr size_t kMaxMaps = 24;

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
  for (GpuGroup &g : groups) {
    g.laterFirst = laterTilesCostMore(schedule, g.members, g.query[0].radix * g.query[0].tile);
  }
  return groups;
}

/// Equal ids as a condition per pair, and a stratum's choices as a list, or each as a stratum.
static Schedule flattened(const Schedule &schedule) {
  Schedule out = schedule;
  out.strata.clear();
  for (const Stratum &s : schedule.strata) {
    if (std::optional<Stratum> drawn = drawnList(s, kHopperRows)) {
      out.strata.push_back(std::move(*drawn));
      continue;
    }
    for (int64_t choice = 0; choice < std::max<int64_t>(s.choices, 1); ++choice) {
      Stratum one = s;
      one.choices = 0;
      if (s.ids) {
        one.residual = one.residual ? one.residual && s.ids : s.ids;
        one.ids = Expr();
      }
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
class GpuTiler {
public:
  GpuTiler(ModuleOp module, const KernelSignature &sig, const Schedule &schedule, int64_t sharedBytes, bool hopper)
      : module(module), sig(sig), schedule(flattened(schedule)), sharedLimit(sharedBytes), hopper(hopper),
        builder(module.getContext()) {}

  LogicalResult run();

private:
  ModuleOp module;
  const KernelSignature &sig;
  Schedule schedule;
  int64_t sharedLimit;
  bool hopper;
  OpBuilder builder;

  /// The kernels of sm_90a; none where a spec is not covered or does not fit, which the module tells.
  SmallVector<std::unique_ptr<HopperKernel>> hopperKernels(ArrayRef<GpuGroup> groups, GpuShape &shape,
                                                           SmallVectorImpl<TensorMapRecipe> &recipes);
  bool asksForTwo(const GpuGroup &group, int64_t blockBytes) const;
  LLVM::LLVMFuncOp declareKernel(gpu::GPUModuleOp parent, const Twine &name, int64_t threads, int64_t maps);
  DictionaryAttr describeMerge(StringRef name);
  ArrayAttr describeMaps(ArrayRef<TensorMapRecipe> recipes);
  DictionaryAttr describe(const GpuGroup &group, const GpuShape &shape, StringRef name, int64_t threads,
                          int64_t sharedBytes);
};
} // namespace

LLVM::LLVMFuncOp GpuTiler::declareKernel(gpu::GPUModuleOp parent, const Twine &name, int64_t threads, int64_t maps) {
  MLIRContext *context = module.getContext();
  Type pointer = LLVM::LLVMPointerType::get(context);
  SmallVector<Type> arguments(maps > 0 ? 2 : 1, pointer);
  auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context), arguments);
  builder.setInsertionPointToEnd(parent.getBody());
  auto fn = LLVM::LLVMFuncOp::create(builder, sig.func.getLoc(), name.str(), type);
  fn->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(), builder.getUnitAttr());
  fn->setAttr(NVVM::NVVMDialect::getMaxntidAttrName(), builder.getDenseI32ArrayAttr({int32_t(threads), 1, 1}));
  auto byValue = [&](unsigned n, int64_t words, int64_t align) {
    Type block = LLVM::LLVMArrayType::get(builder.getI64Type(), words);
    fn.setArgAttr(n, LLVM::LLVMDialect::getByValAttrName(), TypeAttr::get(block));
    fn.setArgAttr(n, LLVM::LLVMDialect::getAlignAttrName(), builder.getI64IntegerAttr(align));
    fn.setArgAttr(n, NVVM::NVVMDialect::getGridConstantAttrName(), builder.getUnitAttr());
  };
  byValue(0, sig.kOffsetSlot(int64_t(sig.segments.size())), 8);
  if (maps > 0) {
    byValue(1, maps * HopperKernel::kMapBytes / 8, 64);
  }
  return fn;
}

DictionaryAttr GpuTiler::describe(const GpuGroup &group, const GpuShape &shape, StringRef name, int64_t threads,
                                  int64_t sharedBytes) {
  int64_t inner = shape.subTiles() * shape.chunks;
  for (const QueryDigit &d : ArrayRef<QueryDigit>(group.query).drop_front()) {
    inner *= (d.extent + d.tile - 1) / d.tile;
  }
  auto number = [&](StringRef key, int64_t v) { return builder.getNamedAttr(key, builder.getI64IntegerAttr(v)); };
  SmallVector<NamedAttribute> all = {builder.getNamedAttr("name", builder.getStringAttr(name)),
                                     number("threads", threads),
                                     number("shared_bytes", sharedBytes),
                                     number("span", group.query[0].radix * group.query[0].tile * shape.pairs()),
                                     number("inner", inner),
                                     number("rows", shape.rows),
                                     number("keys", shape.keys),
                                     number("stages", shape.stages),
                                     number("columns", shape.columns)};
  if (group.laterFirst) {
    all.push_back(number("tiles_from_end", 1));
  }
  return builder.getDictionaryAttr(all);
}

DictionaryAttr GpuTiler::describeMerge(StringRef name) {
  auto number = [&](StringRef key, int64_t v) { return builder.getNamedAttr(key, builder.getI64IntegerAttr(v)); };
  return builder.getDictionaryAttr({builder.getNamedAttr("name", builder.getStringAttr(name)),
                                    number("threads", GpuKernel::kMergeThreads), number("shared_bytes", 0),
                                    number("merge", 1)});
}

ArrayAttr GpuTiler::describeMaps(ArrayRef<TensorMapRecipe> recipes) {
  auto number = [&](StringRef key, int64_t v) { return builder.getNamedAttr(key, builder.getI64IntegerAttr(v)); };
  SmallVector<Attribute> maps;
  for (const TensorMapRecipe &r : recipes) {
    maps.push_back(builder.getDictionaryAttr({number("arg", r.arg), number("step", r.step), number("rows", r.rows)}));
  }
  return builder.getArrayAttr(maps);
}

SmallVector<std::unique_ptr<HopperKernel>> GpuTiler::hopperKernels(ArrayRef<GpuGroup> groups, GpuShape &shape,
                                                                   SmallVectorImpl<TensorMapRecipe> &recipes) {
  SmallVector<std::unique_ptr<HopperKernel>> kernels;
  // Lists that fewer rows share than a tile has: a warp without a live pair leaves a tile out, a warpgroup cannot. Two
  // lists a tile are twice the products, at about twice the rate, if their rows come in boxes.
  auto scattered = [](const Stratum &s) {
    int64_t least = s.run >= HopperKernel::kLongRun ? kHopperRows / 2 : kHopperRows;
    return bool(s.list) && (hasOwnLists(s) || (listSharing(s.list) > 0 && listSharing(s.list) < least));
  };
  auto declines = [&](const std::string &why) {
    module->setAttr("heddle.gpu.no_tensor_kernels", builder.getStringAttr(why));
    kernels.clear();
    recipes.clear();
  };
  if (!hopper) {
    return kernels;
  }
  if (std::string why = hopperDeclines(sig); !why.empty()) {
    declines(why);
    return kernels;
  }
  if (llvm::any_of(schedule.strata, scattered)) {
    declines("lists that fewer queries share than a tile has");
    return kernels;
  }
  bool fitting = false;
  for (const GpuShape &candidate : hopperShapes(sig)) {
    kernels.clear();
    recipes.clear();
    for (auto [n, g] : llvm::enumerate(groups)) {
      kernels.push_back(
          std::make_unique<HopperKernel>(builder, sig, schedule, g, candidate, n > 0, n + 1 < groups.size(), recipes));
    }
    bool fits = llvm::all_of(kernels, [&](const auto &k) { return k->sharedBytes() <= sharedLimit; });
    fitting |= fits;
    if (fits && !recipes.empty() && recipes.size() <= kMaxMaps) {
      shape = candidate;
      return kernels;
    }
  }
  std::string many = "more than " + std::to_string(kMaxMaps) + " tensor maps";
  declines(!fitting ? "tables that leave no room for two stages" : recipes.empty() ? "no stratum with keys" : many);
  return kernels;
}

/// What the assembler is told of a kernel: "heddle-rare", it stands beside the ones on tensor copies, "heddle-quick",
/// the schedule of -O1 needs fewer registers.
static void mark(LLVM::LLVMFuncOp fn, StringRef what, bool holds) {
  if (holds) {
    fn.setPassthroughAttr(ArrayAttr::get(fn.getContext(), StringAttr::get(fn.getContext(), what)));
  }
}

/// Whether a kernel asks for room for two blocks at once and no more: shared memory leaves none for a third, or lists
/// make what comes before its tiles long.
bool GpuTiler::asksForTwo(const GpuGroup &group, int64_t blockBytes) const {
  // Of a multiprocessor of sm_80, and of sm_90; each block takes one KiB besides.
  int64_t all = (sharedLimit > 164 * 1024 ? 228 : 164) * 1024;
  bool listed = llvm::any_of(group.members, [&](int64_t n) { return bool(schedule.strata[n].list); });
  return listed || 3 * (blockBytes + 1024) > all;
}

LogicalResult GpuTiler::run() {
  SmallVector<GpuGroup> groups = groupsOf(sig, schedule);
  // One shape for all, so that the state's rows are alike.
  auto tables = [&](const GpuShape &shape) {
    int64_t most = 0;
    for (const GpuGroup &g : groups) {
      most = std::max(most, gpuTableBytes(sig, schedule, g, shape));
    }
    return most;
  };
  bool packs = headsMayShare(sig, schedule);
  std::optional<GpuShape> shape = chooseGpuShape(sig, sharedLimit, tables);
  if (!shape) {
    return sig.attend.emitOpError() << "expected head dimensions whose tiles fit " << sharedLimit
                                    << " bytes of shared memory, but got " << sig.d << " and " << sig.dv;
  }
  if (shape->bySums) {
    sig.attend.emitRemark()
        << "rows of " << sig.d << " elements fit no tile of " << sharedLimit
        << " bytes of shared memory: each dot is a sum of its own, many times slower than a product";
  }
  if (hasRelative(sig) && !shape->skewed) {
    sig.attend.emitRemark() << "relative rows of " << sig.d << " elements fit no tile of " << sharedLimit
                            << " bytes of shared memory: each dot with one is a sum of its own, many times slower than "
                               "a product";
  }
  GpuShape hopperShape;
  SmallVector<TensorMapRecipe> recipes;
  SmallVector<std::unique_ptr<HopperKernel>> bodies = hopperKernels(groups, hopperShape, recipes);
  builder.setInsertionPointToEnd(module.getBody());
  Location loc = sig.func.getLoc();
  auto parent = gpu::GPUModuleOp::create(builder, loc, "heddle_gpu");
  builder.setInsertionPointToStart(parent.getBody());
  auto bytes = LLVM::LLVMArrayType::get(builder.getI8Type(), 0);
  auto shared = LLVM::GlobalOp::create(builder, loc, bytes, /*isConstant=*/false, LLVM::Linkage::External,
                                       "heddle_shared", Attribute(), /*alignment=*/bodies.empty() ? 16 : 1024,
                                       /*addrSpace=*/3);
  SmallVector<Attribute> kernels;
  for (auto [n, g] : llvm::enumerate(groups)) {
    LLVM::LLVMFuncOp fn = declareKernel(parent, "heddle_gpu_" + Twine(n), shape->threads(), 0);
    mark(fn, "heddle-rare", !bodies.empty());
    GpuKernel kernel(builder, sig, schedule, g, *shape, n > 0, n + 1 < groups.size(), packs);
    kernel.emit(fn, shared);
    if (asksForTwo(g, kernel.sharedBytes())) {
      fn->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(), builder.getI32IntegerAttr(2));
    }
    kernels.push_back(describe(g, *shape, fn.getName(), shape->threads(), kernel.sharedBytes()));
  }
  SmallVector<Attribute> mapped;
  for (auto [n, g] : llvm::enumerate(groups)) {
    if (bodies.empty()) {
      break;
    }
    LLVM::LLVMFuncOp fn =
        declareKernel(parent, "heddle_tma_" + Twine(n), HopperKernel::kThreads, int64_t(recipes.size()));
    fn->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(), builder.getI32IntegerAttr(1));
    mark(fn, "heddle-quick", hopperShape.columns > kColumnsAtO3);
    int64_t bytes = bodies[n]->sharedBytes(); // before its last layout
    bodies[n]->emit(fn, shared);
    mapped.push_back(describe(g, hopperShape, fn.getName(), HopperKernel::kThreads, bytes));
  }
  LLVM::LLVMFuncOp merge = declareKernel(parent, "heddle_gpu_" + Twine(groups.size()), GpuKernel::kMergeThreads, 0);
  mark(merge, "heddle-rare", !bodies.empty());
  GpuKernel(builder, sig, schedule, groups[0], *shape, false, false, false).emitMerge(merge);
  kernels.push_back(describeMerge(merge.getName()));
  moveHelpers(module);
  module->setAttr("heddle.gpu.kernels", builder.getArrayAttr(kernels));
  if (!recipes.empty()) {
    module->setAttr("heddle.gpu.tensor_kernels", builder.getArrayAttr(mapped));
    module->setAttr("heddle.gpu.tensor_maps", describeMaps(recipes));
  }
  // f32 words of a row's state: acc, and m and l for each part of the columns.
  int64_t words = sig.dv + 2 * shape->chunks;
  auto tell = [&](StringRef name, int64_t v) { module->setAttr(name, builder.getI64IntegerAttr(v)); };
  tell("heddle.gpu.workspace_words", groups.size() > 1 ? words : 0);
  tell("heddle.gpu.state_words", words);
  tell("heddle.keys_per_split", kKeysPerSplit);
  tell("heddle.max_splits", kMaxSplits);
  tell("heddle.heads_share_tiles", packs);
  tell("heddle.lanes", shape->rows);
  return success();
}

namespace {
struct TileGpuPass : impl::TileGpuPassBase<TileGpuPass> {
  using Base::Base;

  void getDependentDialects(DialectRegistry &registry) const override {
    Base::getDependentDialects(registry);
    registerGpuToLLVM(registry); // for the conversion that follows
  }

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
      bool hopper = module->hasAttr("heddle.gpu.hopper");
      if (failed(GpuTiler(module, *signature, strata, sharedBytes, hopper).run())) {
        return signalPassFailure();
      }
      fn.erase();
    }
    expandGpuMath(module);
  }
};
} // namespace
} // namespace heddle
