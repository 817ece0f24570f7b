//===- Manifest.cpp - What the runtime must know of a kernel --------------===//

#include "codegen/Manifest.h"
#include "dialect/PatternTables.h"

using namespace mlir;
namespace json = llvm::json;

namespace heddle {

static std::string typeName(Type t) {
  std::string s;
  llvm::raw_string_ostream os(s);
  t.print(os);
  return s;
}

static json::Array dims(RankedTensorType t) {
  json::Array out;
  for (int64_t d : t.getShape()) {
    out.push_back(ShapedType::isDynamic(d) ? int64_t(-1) : d);
  }
  return out;
}

static json::Object source(const NumberSource &n) {
  if (n.arg >= 0) {
    return json::Object{{"kind", "arg"}, {"value", 0}, {"arg", n.arg}};
  }
  return json::Object{{"kind", "value"}, {"value", n.integer}, {"arg", -1}};
}

/// Run-time counts of windows are >= 0.
static void collectCounts(const Pattern &p, llvm::DenseSet<int64_t> &counts) {
  if (p->kind == PatternKind::Window) {
    for (const IntArg &count : ArrayRef<IntArg>(p->ints).take_front(2)) {
      if (count.kind == IntArg::Operand) {
        counts.insert(count.value);
      }
    }
  }
  for (const Pattern &child : p->children) {
    collectCounts(child, counts);
  }
}

/// What the runtime checks of an operand's contents on request; null: nothing.
static const char *checkOf(const OperandUse &use) {
  switch (use.info->kind) {
  case PatternKind::Listed:
    return "list";
  case PatternKind::Csr:
    return use.position == 1 ? "graph" : nullptr;
  case PatternKind::Offsets:
    return "distinct";
  case PatternKind::Packed:
    return use.position == 0 ? "query_starts" : "key_starts";
  case PatternKind::Lengths:
    return "length";
  default:
    return nullptr;
  }
}

/// The axes of an operand as the manifest spells them: "b", "h", "q", "k/64", "q+1", ".".
static json::Array axisNames(const OperandUse &use, int64_t rank) {
  json::Array list;
  const char *letters = axesOf(use, rank);
  for (char letter : StringRef(letters ? letters : "")) {
    int64_t divisor = letter == 'k' ? use.keyDivisor : use.queryDivisor;
    bool rows = letter == 'k' || letter == 'q' || letter == 'Q';
    std::string name(1, letter == 'Q' ? 'q' : letter);
    if (rows && divisor == 0) {
      name = ".";
    } else if (rows) {
      name += (divisor > 1 ? "/" + std::to_string(divisor) : "") + (letter == 'Q' ? "+1" : "");
    }
    list.push_back(name);
  }
  return list;
}

/// Name, type and sizes of an argument, without roles.
static json::Object describeArgument(func::FuncOp fn, int64_t n) {
  auto given = fn.getArgAttrOfType<StringAttr>(n, "heddle.name");
  json::Object o{{"name", given ? given.str() : "arg" + std::to_string(n)}, {"roles", json::Array()}};
  Type type = fn.getArgumentTypes()[n];
  if (auto t = dyn_cast<RankedTensorType>(type)) {
    o["type"] = typeName(t.getElementType());
    o["dims"] = dims(t);
    o["scalar"] = false;
  } else {
    o["type"] = typeName(type);
    o["scalar"] = true;
  }
  return o;
}

static json::Object describeResult(Type type) {
  auto t = cast<RankedTensorType>(type);
  return json::Object{{"type", typeName(t.getElementType())}, {"dims", dims(t)}};
}

json::Object describeKernel(const KernelSignature &sig) {
  SmallVector<json::Array> roles(sig.numArgs());
  auto role = [&](int64_t arg, StringRef name, int64_t segment = -1, json::Object more = {}) {
    if (arg < 0) {
      return;
    }
    more["role"] = name;
    if (segment >= 0) {
      more["segment"] = segment;
    }
    roles[arg].push_back(std::move(more));
  };
  attn::AttendOp op = sig.attend;
  role(sig.q, "q");
  role(sig.qOffset.arg, "q_offset");
  role(sig.sink, "sink");
  json::Array segments;
  bool anyOffset = false;
  SmallVector<int64_t> ranks;
  for (int64_t a : sig.patternOperands) {
    auto t = dyn_cast<RankedTensorType>(sig.func.getArgumentTypes()[a]);
    ranks.push_back(t ? t.getRank() : 0);
  }
  for (auto [g, s] : llvm::enumerate(sig.segments)) {
    auto usual = [&](const DotSource &d) {
      auto [q, k] = std::pair(op.getQ(), op.getKeys()[g]);
      auto argOf = [&](Value v) { return int64_t(cast<BlockArgument>(v).getArgNumber()); };
      return d.q == argOf(q) && d.k == argOf(k);
    };
    role(cast<BlockArgument>(op.getKeys()[g]).getArgNumber(), "k", g);
    role(s.v, "v", g);
    for (const DotSource &d : s.dots) {
      if (!usual(d)) {
        role(d.q, "dot_q", g);
        role(d.k, d.relative ? "relative" : "dot_k", g);
      }
    }
    role(s.kOffset.arg, "k_offset", g);
    role(s.scale.arg, "scale");
    const Pattern &p = op.getPattern(g);
    bool needs = p.dependsOnQuery() || llvm::any_of(s.dots, [](const DotSource &d) { return d.relative; });
    // A score region that reads the query's position depends on it as well.
    if (Region *region = op.getScore(g)) {
      needs |= !region->getArguments()[region->getNumArguments() - 2].use_empty();
    }
    anyOffset |= needs;
    int64_t pointers = 0; // of a graph, whose indices come next
    for (const OperandUse &use : operandUses(p)) {
      json::Object more{{"axes", axisNames(use, ranks[use.operand])}};
      if (const char *check = checkOf(use)) {
        more["check"] = check;
        more["divisor"] = use.keyDivisor;
        if (use.info->kind == PatternKind::Csr) {
          more["pointers"] = sig.patternOperands[pointers];
        }
      }
      if (use.position == 0) {
        pointers = use.operand;
      }
      role(sig.patternOperands[use.operand], "operand", g, std::move(more));
    }
    llvm::DenseSet<int64_t> counts;
    collectCounts(p, counts);
    for (int64_t operand : counts) {
      role(sig.patternOperands[operand], "operand", g, json::Object{{"min", 0}});
    }
    segments.push_back(json::Object{{"k_offset", source(s.kOffset)}, {"needs_q_offset", needs}});
  }
  for (int64_t a : sig.patternOperands) {
    if (roles[a].empty()) {
      role(a, "operand");
    }
  }
  for (Value v : op.getCaptures()) {
    role(cast<BlockArgument>(v).getArgNumber(), "operand");
  }

  json::Array argList, resultList;
  for (int64_t n = 0; n < sig.numArgs(); ++n) {
    json::Object o = describeArgument(sig.func, n);
    if (!roles[n].empty() && !sig.func.getArgAttr(n, "heddle.name")) {
      o["name"] = roles[n][0].getAsObject()->getString("role")->str();
    }
    o["roles"] = std::move(roles[n]);
    argList.push_back(std::move(o));
  }
  for (auto [n, type] : llvm::enumerate(sig.func.getResultTypes())) {
    json::Object o = describeResult(type);
    o["role"] = int64_t(n) == sig.out ? "out" : "lse";
    resultList.push_back(std::move(o));
  }
  json::Array listed;
  for (const ListedRows &l : sig.listed) {
    listed.push_back(json::Object{{"arg", l.arg}, {"list", l.list}});
  }
  json::Object offset = source(sig.qOffset);
  if (sig.qOffsetEnd) {
    offset["kind"] = "end";
  } else if (!op.hasQOffset()) {
    offset["kind"] = "none";
  }
  return json::Object{{"format", 1},
                      {"name", sig.func.getSymName()},
                      {"entry", "heddle_task"},
                      {"listed", std::move(listed)},
                      {"lanes", 64},
                      {"needs_q_offset", anyOffset},
                      {"q_offset", std::move(offset)},
                      {"segments", std::move(segments)},
                      {"args", std::move(argList)},
                      {"results", std::move(resultList)}};
}

/// An affine expression in postfix; symbol 4 a + n is "a<a>.<n>".
static void postfix(AffineExpr e, std::string &out) {
  if (auto constant = dyn_cast<AffineConstantExpr>(e)) {
    out += std::to_string(constant.getValue()) + " ";
    return;
  }
  if (auto symbol = dyn_cast<AffineSymbolExpr>(e)) {
    unsigned n = symbol.getPosition();
    out += "a" + std::to_string(n / 4) + "." + std::to_string(n % 4) + " ";
    return;
  }
  auto both = cast<AffineBinaryOpExpr>(e);
  postfix(both.getLHS(), out);
  postfix(both.getRHS(), out);
  switch (e.getKind()) {
  case AffineExprKind::Add:
    out += "+ ";
    return;
  case AffineExprKind::Mul:
    out += "* ";
    return;
  case AffineExprKind::Mod:
    out += "% ";
    return;
  case AffineExprKind::FloorDiv:
    out += "/ ";
    return;
  default:
    out += "^ ";
  }
}

static std::string postfix(Attribute map, unsigned n = 0) {
  std::string text;
  postfix(cast<AffineMapAttr>(map).getValue().getResult(n), text);
  text.pop_back();
  return text;
}

json::Object describeOp(func::FuncOp step) {
  json::Array args, results;
  for (int64_t n = 0; n < step.getNumArguments(); ++n) {
    args.push_back(describeArgument(step, n));
  }
  for (Type type : step.getResultTypes()) {
    results.push_back(describeResult(type));
  }
  return json::Object{{"format", 1},
                      {"kind", "op"},
                      {"name", step.getSymName()},
                      {"entry", "heddle_task"},
                      {"args", std::move(args)},
                      {"results", std::move(results)}};
}

void describeLaunch(ModuleOp lowered, json::Object &manifest) {
  auto launch = lowered->getAttrOfType<DictionaryAttr>("heddle.launch");
  manifest["tasks"] = postfix(launch.get("tasks"));
  manifest["work"] = postfix(launch.get("work"));
  json::Array &results = *manifest.getArray("results");
  for (auto [n, shape] : llvm::enumerate(cast<ArrayAttr>(launch.get("results")))) {
    json::Array sizes;
    for (unsigned d = 0; d < cast<AffineMapAttr>(shape).getValue().getNumResults(); ++d) {
      sizes.push_back(postfix(shape, d));
    }
    (*results[n].getAsObject())["sizes"] = std::move(sizes);
  }
  json::Array checks;
  for (Attribute check : cast<ArrayAttr>(launch.get("checks"))) {
    auto c = cast<DictionaryAttr>(check);
    checks.push_back(json::Object{{"arg", cast<IntegerAttr>(c.get("arg")).getInt()},
                                  {"axis", cast<IntegerAttr>(c.get("axis")).getInt()},
                                  {"kind", cast<StringAttr>(c.get("kind")).str()},
                                  {"size", postfix(c.get("size"))}});
  }
  manifest["checks"] = std::move(checks);
}

json::Object describeProgram(ModuleOp split, ArrayRef<int64_t> kernels, ArrayRef<int64_t> sizes) {
  auto fn = *split.getOps<func::FuncOp>().begin();
  auto list = [](ArrayRef<int64_t> values) {
    json::Array out;
    for (int64_t v : values) {
      out.push_back(v);
    }
    return out;
  };
  auto numbers = [](Operation *op, StringRef name) { return op->getAttrOfType<DenseI64ArrayAttr>(name).asArrayRef(); };
  json::Array args, results, steps;
  for (int64_t n = 0; n < fn.getNumArguments(); ++n) {
    args.push_back(describeArgument(fn, n));
  }
  for (auto [type, value] : llvm::zip(fn.getResultTypes(), numbers(split, "heddle.results"))) {
    json::Object o = describeResult(type);
    o["value"] = value;
    results.push_back(std::move(o));
  }
  for (auto [n, step] : llvm::enumerate(split.getOps<ModuleOp>())) {
    steps.push_back(json::Object{{"kernel", kernels[n]},
                                 {"name", step.getSymName()->str()},
                                 {"args", list(numbers(step, "heddle.inputs"))},
                                 {"results", list(numbers(step, "heddle.outputs"))}});
  }
  return json::Object{{"format", 2},
                      {"name", fn.getSymName()},
                      {"args", std::move(args)},
                      {"results", std::move(results)},
                      {"steps", std::move(steps)},
                      {"kernels", list(sizes)}};
}

} // namespace heddle
