//===- Explain.cpp - What a spec will cost, and why -----------------------===//
//
// Collects facts into one JSON value; the words are written from it, so both
// forms say the same.
//
//===----------------------------------------------------------------------===//

#include "codegen/Explain.h"

#include "codegen/CostModel.h"
#include "codegen/ExplainAttend.h"
#include "codegen/ExplainSizes.h"
#include "codegen/ExplainWords.h"
#include "codegen/OpCost.h"
#include "codegen/SpecParser.h"
#include "dialect/Attn.h"
#include "passes/Passes.h"
#include "passes/SplitProgram.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Pass/PassManager.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

#include <array>
#include <map>

using namespace mlir;
namespace json = llvm::json;

namespace heddle {

namespace {

/// The ops of a program, with the types of their results and, where sizes are known, what they take.
json::Array opsOf(func::FuncOp function, const Sizes &sizes, const std::map<Operation *, json::Object> &attends) {
  llvm::SmallDenseSet<Value> queries, keys;
  function.walk([&](attn::AttendOp op) {
    queries.insert(op.getQ());
    keys.insert(op.getKeys().begin(), op.getKeys().end());
  });
  const int64_t nq = sizes.get("nq", 1024), nk = sizes.get("nk", nq), d = sizes.get("d", 64);
  // Rows of 4 dimensions as attends name them; of other tensors, only static sizes are known.
  OpCosts costs([&](Value v, int64_t axis) -> std::optional<int64_t> {
    const int64_t rank = cast<RankedTensorType>(v.getType()).getRank();
    if (rank != 4) {
      return rank >= 2 && axis == rank - 2 && rank < 4 ? std::optional(nk) : std::nullopt;
    }
    const int64_t rows = queries.contains(v) && !keys.contains(v) ? nq : nk;
    return std::array{sizes.get("b", 1), sizes.get("h", 8), rows, d}[static_cast<size_t>(axis)];
  });
  const int64_t threads = sizes.threads();
  json::Array ops;
  for (Operation &op : function.getBody().front().without_terminator()) {
    json::Array types;
    std::string element = "f32";
    for (Type type : op.getResultTypes()) {
      if (isa<RankedTensorType>(type) && !isa<tensor::EmptyOp, tensor::CastOp>(op)) {
        std::string text;
        llvm::raw_string_ostream(text) << type;
        types.push_back(text);
        const Type storage = cast<RankedTensorType>(type).getElementType();
        element = storage.isBF16() ? "bf16" : storage.isF16() ? "f16" : "f32";
      }
    }
    if (types.empty() || op.hasTrait<OpTrait::ConstantLike>()) {
      continue;
    }
    json::Object one{{"op", op.getName().getStringRef().str()}, {"types", std::move(types)}};
    if (auto attend = attends.find(&op); attend != attends.end()) {
      const json::Object &facts = attend->second;
      one["flops"] = facts.getNumber("flops") ? json::Value(*facts.getNumber("flops")) : json::Value(nullptr);
      one["bytes"] = *facts.getNumber("compulsory_bytes");
      const json::Object *time = facts.getObject("time");
      one["predicted_seconds"] = time && time->getNumber("predicted_seconds")
                                     ? json::Value(*time->getNumber("predicted_seconds"))
                                     : json::Value(nullptr);
    } else if (std::optional<OpCost> cost = costs.costOf(op)) {
      const MachineModel model = MachineModel::load(element);
      WorkAmounts work;
      work[Work::Dots] = cost->flops / 2;
      work[Work::Calls] = 1;
      one["flops"] = cost->flops;
      one["bytes"] = cost->bytes;
      one["predicted_seconds"] = MachineModel::togetherSeconds(
          model.computeSeconds(work, threads, static_cast<double>(threads)), model.memorySeconds(cost->bytes, threads));
    }
    ops.push_back(std::move(one));
  }
  return ops;
}

/// The kernels that a program's ops become on a CPU: the ops in each. None where there are none.
json::Array kernelsOf(ModuleOp module) {
  OwningOpRef<ModuleOp> split = module.clone();
  PassManager pm(module.getContext());
  buildProgramPipeline(pm);
  json::Array kernels;
  if (failed(pm.run(*split))) {
    return kernels;
  }
  for (ModuleOp step : split->getOps<ModuleOp>()) {
    json::Array ops;
    for (Operation &op : specFunction(step).getBody().front().without_terminator()) {
      if (isa<attn::AttnDialect>(op.getDialect()) || isa<linalg::GenericOp>(op)) {
        ops.push_back(op.getName().getStringRef().str());
      }
    }
    kernels.push_back(std::move(ops));
  }
  return kernels;
}

/// The texts of remarks, without their places.
json::Array linesOf(llvm::StringRef remarks) {
  SmallVector<llvm::StringRef> lines;
  remarks.split(lines, '\n', -1, /*KeepEmpty=*/false);
  json::Array out;
  for (llvm::StringRef line : lines) {
    out.push_back(line.split(" remark: ").second.str());
  }
  return out;
}

std::string explainText(llvm::StringRef spec, llvm::StringRef sizesText, bool asJson) {
  Sizes sizes(sizesText);
  std::unique_ptr<MLIRContext> context = createContext();
  std::string diagnostics;
  OwningOpRef<ModuleOp> module = parseSpec(*context, spec, diagnostics);
  if (!module) {
    throw ExplainFailure{HEDDLE_COMPILE_FAILED, diagnostics};
  }
  DiagnosticCollector collector(*context, spec);
  PassManager pm(context.get());
  pm.addPass(createAnnotateSchedulePass());
  if (failed(pm.run(*module))) {
    throw ExplainFailure{HEDDLE_COMPILE_FAILED, collector.errors};
  }
  func::FuncOp function = specFunction(*module);
  SmallVector<std::string> arguments;
  for (unsigned n = 0; n < function.getNumArguments(); ++n) {
    auto name = function.getArgAttrOfType<StringAttr>(n, kArgumentName);
    arguments.push_back(name ? name.str() : "");
  }
  sizes.expectNames(arguments);
  SmallVector<attn::AttendOp> attends;
  function.walk([&](attn::AttendOp found) { attends.push_back(found); });
  // The last attention of a program is what it is about; the others come before it.
  json::Object all = attends.empty() ? json::Object() : explainAttend(attends.back(), sizes);
  std::string words;
  if (isProgram(function)) {
    std::map<Operation *, json::Object> facts;
    for (attn::AttendOp op : attends) {
      facts[op] = explainAttend(op, sizes);
    }
    json::Array ops = opsOf(function, sizes, facts);
    if (ops.empty()) {
      throw ExplainFailure{HEDDLE_COMPILE_FAILED,
                           "expected a function that computes and returns a tensor, but got one that does not"};
    }
    all["ops"] = std::move(ops);
    const size_t before = collector.remarks.size();
    all["kernels"] = kernelsOf(*module);
    all["remarks"] = linesOf(StringRef(collector.remarks).drop_front(before));
    for (attn::AttendOp op : ArrayRef(attends).drop_back(attends.empty() ? 0 : 1)) {
      words += inWords(facts[op]) + "\n";
    }
  }
  if (!asJson) {
    return words + inWords(all);
  }
  std::string text;
  llvm::raw_string_ostream(text) << json::Value(std::move(all));
  return text;
}

} // namespace

heddle_error *explainModule(const char *spec, const char *sizes, bool asJson, std::string &text) {
  try {
    text = explainText(spec ? spec : "", sizes ? sizes : "", asJson);
    return nullptr;
  } catch (const ExplainFailure &failure) {
    return heddle_error_create(failure.code, failure.message.c_str());
  } catch (const std::exception &error) {
    return heddle_error_create(HEDDLE_SYSTEM, error.what());
  }
}

} // namespace heddle
