//===- TileKernels.cpp - The micro-kernels that tile loops call -----------===//

#include "passes/TileKernels.h"

#include "passes/TileBody.h"

using namespace mlir;

namespace heddle {

static constexpr StringLiteral kKindAttr = "attn.tile", kDimAttr = "attn.d", kTypeAttr = "attn.type",
                               kFetchAttr = "attn.fetch", kAmxAttr = "attn.amx";

static StringRef kindName(TileKernel kind) {
  switch (kind) {
  case TileKernel::Pack:
    return "pack";
  case TileKernel::PackPairs:
    return "pack_pairs";
  case TileKernel::Stage:
    return "stage";
  case TileKernel::StagePairs:
    return "stage_pairs";
  case TileKernel::StageRows:
    return "stage_rows";
  case TileKernel::Dots:
    return "dots";
  case TileKernel::Narrow:
    return "narrow";
  case TileKernel::DotsFew:
    return "dots_few";
  case TileKernel::Softmax:
    return "softmax";
  case TileKernel::Weights:
    return "weights";
  case TileKernel::Finite:
    return "finite";
  case TileKernel::Accumulate:
    return "accumulate";
  case TileKernel::SoftmaxAccumulate:
    return "accumulate_softmax";
  case TileKernel::AccumulateFew:
    return "accumulate_few";
  case TileKernel::AccumulateExact:
    return "accumulate_exact";
  case TileKernel::Finish:
    return "finish";
  }
  llvm_unreachable("a micro-kernel without a name");
}

std::string declareTileKernel(ModuleOp module, TileKernel kind, int64_t d, Type type, int64_t fetch) {
  MLIRContext *context = module.getContext();
  std::string name = ("tile_" + kindName(kind) + "_d" + Twine(d)).str();
  if (!type.isF32()) {
    name += type.isBF16() ? "_bf16" : "_f16";
  }
  if (fetch > 0) {
    name += ("_fetch" + Twine(fetch)).str();
  }
  if (module.lookupSymbol(name)) {
    return name;
  }
  OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
  Type p = LLVM::LLVMPointerType::get(context), i = b.getI64Type(), f = b.getF32Type();
  SmallVector<Type> ins, outs;
  switch (kind) {
  case TileKernel::Pack:
  case TileKernel::PackPairs:
    ins = {p, i, f, p, i};
    break;
  case TileKernel::Stage:
    ins = {p, i, i, p, i, i};
    break;
  case TileKernel::StagePairs:
    ins = {p, i, i, p, i};
    break;
  case TileKernel::StageRows:
    ins = {p, i, i, p};
    break;
  case TileKernel::Dots:
    ins = {p, i, p, p, p, i, p, p};
    break;
  case TileKernel::Narrow:
    ins = {p, i, p};
    break;
  case TileKernel::DotsFew:
    ins = {p, i, p, p, p, i, p, p};
    break;
  case TileKernel::Softmax:
    ins = {p, p, i, i, f, p, p, p, p};
    break;
  case TileKernel::Weights:
    ins = {p, p, i, i, p};
    break;
  case TileKernel::Finite:
    ins = {p, i, i};
    outs = {b.getI1Type()};
    break;
  case TileKernel::Accumulate:
    ins = {p, p, i, i, p, i, p, p};
    break;
  case TileKernel::SoftmaxAccumulate:
    ins = {p, p, i, i, f, p, p, p, p, p, i, p, i};
    break;
  case TileKernel::AccumulateFew:
    ins = {p, p, i, i, p, i, p, p, i, i};
    break;
  case TileKernel::AccumulateExact:
    ins = {p, p, i, i, p, i, i, p};
    break;
  case TileKernel::Finish:
    ins = {i, p, p, p, i};
    outs = {b.getI1Type()};
    break;
  }
  auto fn = func::FuncOp::create(b, module.getLoc(), name, b.getFunctionType(ins, outs));
  fn.setPrivate();
  fn->setAttr(kKindAttr, b.getStringAttr(kindName(kind)));
  fn->setAttr(kDimAttr, b.getI64IntegerAttr(d));
  fn->setAttr(kTypeAttr, TypeAttr::get(type));
  if (fetch > 0) {
    fn->setAttr(kFetchAttr, b.getI64IntegerAttr(fetch));
  }
  return name;
}

Value TileBody::firstLanes(int64_t valid) {
  SmallVector<bool> lanes(vl);
  std::fill_n(lanes.begin(), valid, true);
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(vec(i1), ArrayRef<bool>(lanes)));
}

Value TileBody::loadTail(Value address, int64_t valid) {
  if (valid == vl) {
    return loadRow(address);
  }
  return LLVM::MaskedLoadOp::create(b, loc, vec(f32), address, firstLanes(valid), constant(vec(f32), 0.0),
                                    b.getI32IntegerAttr(4), UnitAttr());
}

Value TileBody::loadHalves(Value address, int64_t valid) {
  Value halves = valid == vl
                     ? load(vec(i16), address, 2)
                     : LLVM::MaskedLoadOp::create(b, loc, vec(i16), address, firstLanes(valid),
                                                  constant(vec(i16), int64_t(0)), b.getI32IntegerAttr(2), UnitAttr())
                           .getResult();
  return arith::ExtUIOp::create(b, loc, vec(i32), halves);
}

Value TileBody::multiplyAdd(Value a, Value x, Value sum) { return pairs ? fmaPairs(a, x, sum) : fma(a, x, sum); }

void emitTileKernel(func::FuncOp fn, const VectorTarget &target) {
  StringRef kind = cast<StringAttr>(fn->getAttr(kKindAttr)).getValue();
  int64_t d = cast<IntegerAttr>(fn->getAttr(kDimAttr)).getInt();
  Type type = cast<TypeAttr>(fn->getAttr(kTypeAttr)).getValue();
  auto fetchAttr = fn->getAttrOfType<IntegerAttr>(kFetchAttr);
  int64_t fetch = fetchAttr ? fetchAttr.getInt() : 0;
  OpBuilder b(fn.getContext());
  b.setInsertionPointToStart(fn.addEntryBlock());
  // What is multiplied as f32 is packed as f32, also of bf16 rows.
  VectorTarget own = target;
  own.bf16 = target.bf16 && kind != "pack";
  TileBody body(b, fn, own, d, type, fn->hasAttr(kAmxAttr));
  SmallVector<Value> results;
  if (kind == "pack" || kind == "pack_pairs") {
    body.pack();
  } else if (kind == "stage") {
    body.stage();
  } else if (kind == "stage_pairs") {
    body.stagePairs();
  } else if (kind == "stage_rows") {
    body.stageRows();
  } else if (kind == "dots") {
    body.dots(fetch);
  } else if (kind == "narrow") {
    body.narrow();
  } else if (kind == "dots_few") {
    body.dotsFew();
  } else if (kind == "softmax") {
    body.softmax();
  } else if (kind == "weights") {
    body.weights();
  } else if (kind == "finite") {
    results.push_back(body.finite());
  } else if (kind == "accumulate") {
    body.accumulate(fetch);
  } else if (kind == "accumulate_softmax") {
    body.softmaxAccumulate(fetch);
  } else if (kind == "accumulate_few") {
    body.accumulateFew(fetch);
  } else if (kind == "accumulate_exact") {
    body.accumulateExact();
  } else {
    results.push_back(body.finish());
  }
  func::ReturnOp::create(b, fn.getLoc(), results);
  for (StringRef name : {kKindAttr, kDimAttr, kTypeAttr, kFetchAttr, kAmxAttr}) {
    fn->removeAttr(name);
  }
}

} // namespace heddle
