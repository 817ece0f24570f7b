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

namespace {
/// A kernel's arguments by the parts that they play, and what launching must know of its segments.
class Roles {
public:
  explicit Roles(const KernelSignature &sig) : sig(sig), op(sig.attend), roles(sig.numArgs()) {
    add(sig.q, "q");
    add(sig.qOffset.arg, "q_offset");
    add(sig.sink, "sink");
    for (int64_t g = 0; g < int64_t(sig.segments.size()); ++g) {
      addSegment(g);
    }
    for (int64_t arg : sig.patternOperands) {
      if (roles[arg].empty()) {
        add(arg, "operand");
      }
    }
    for (Value v : op.getCaptures()) {
      add(numberOf(v), "operand");
    }
  }

  json::Array segments;
  bool needOffset = false; ///< some segment depends on the queries' positions

  json::Array takeArguments() {
    json::Array list;
    for (int64_t n = 0; n < sig.numArgs(); ++n) {
      json::Object o = describeArgument(sig.func, n);
      if (!roles[n].empty() && !sig.func.getArgAttr(n, "heddle.name")) {
        o["name"] = roles[n][0].getAsObject()->getString("role")->str();
      }
      o["roles"] = std::move(roles[n]);
      list.push_back(std::move(o));
    }
    return list;
  }

private:
  static int64_t numberOf(Value v) { return cast<BlockArgument>(v).getArgNumber(); }

  void add(int64_t arg, StringRef name, int64_t segment = -1, json::Object more = {}) {
    if (arg < 0) {
      return;
    }
    more["role"] = name;
    if (segment >= 0) {
      more["segment"] = segment;
    }
    roles[arg].push_back(std::move(more));
  }

  void addSegment(int64_t g) {
    const SegmentSignature &s = sig.segments[g];
    const int64_t k = numberOf(op.getKeys()[g]);
    add(k, "k", g);
    add(s.v, "v", g);
    for (const DotSource &d : s.dots) {
      if (d.q != sig.q || d.k != k) {
        add(d.q, "dot_q", g);
        add(d.k, d.relative ? "relative" : "dot_k", g);
      }
    }
    add(s.kOffset.arg, "k_offset", g);
    add(s.scale.arg, "scale");
    addOperands(g);
    const bool needs = needsOffset(g);
    needOffset |= needs;
    segments.push_back(json::Object{{"k_offset", source(s.kOffset)}, {"needs_q_offset", needs}});
  }

  bool needsOffset(int64_t g) {
    // A score region that reads the query's position depends on it as well.
    Region *region = op.getScore(g);
    return op.getPattern(g).dependsOnQuery() ||
           llvm::any_of(sig.segments[g].dots, [](const DotSource &d) { return d.relative; }) ||
           (region && !region->getArguments()[region->getNumArguments() - 2].use_empty());
  }

  /// Operands of a segment's pattern, with what their sizes and contents must be.
  void addOperands(int64_t g) {
    const Pattern &p = op.getPattern(g);
    int64_t first = 0; // operand of a primitive that has two: row pointers of a graph, starts of the queries
    for (const OperandUse &use : operandUses(p)) {
      const int64_t arg = sig.patternOperands[use.operand];
      auto type = dyn_cast<RankedTensorType>(sig.func.getArgumentTypes()[arg]);
      json::Object more{{"axes", axisNames(use, type ? type.getRank() : 0)}};
      if (const char *check = checkOf(use)) {
        more["check"] = check;
        more["divisor"] = use.keyDivisor;
        if (use.position == 1) {
          more["pointers"] = sig.patternOperands[first];
        }
      }
      if (use.position == 0) {
        first = use.operand;
      }
      add(arg, "operand", g, std::move(more));
    }
    llvm::DenseSet<int64_t> counts;
    collectCounts(p, counts);
    for (int64_t operand : counts) {
      add(sig.patternOperands[operand], "operand", g, json::Object{{"min", 0}});
    }
  }

  const KernelSignature &sig;
  attn::AttendOp op;
  SmallVector<json::Array> roles; ///< of each argument
};
} // namespace

json::Object describeKernel(const KernelSignature &sig) {
  Roles roles(sig);
  json::Array results, listed;
  for (auto [n, type] : llvm::enumerate(sig.func.getResultTypes())) {
    json::Object o = describeResult(type);
    o["role"] = int64_t(n) == sig.out ? "out" : "lse";
    results.push_back(std::move(o));
  }
  for (const ListedRows &l : sig.listed) {
    listed.push_back(json::Object{{"arg", l.arg}, {"list", l.list}});
  }
  attn::AttendOp op = sig.attend;
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
                      {"needs_q_offset", roles.needOffset},
                      {"q_offset", std::move(offset)},
                      {"segments", std::move(roles.segments)},
                      {"args", roles.takeArguments()},
                      {"results", std::move(results)}};
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
