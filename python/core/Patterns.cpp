//===- Patterns.cpp - The pattern algebra for Python -----------------------===//
//
// Syntax trees, their text, canonical form and meaning pair by pair. Run-time
// operands are numbers here; heddle/_pattern.py keeps the tensors beside them.
//
//===----------------------------------------------------------------------===//

#include "Core.h"
#include "dialect/ErrorExcerpt.h"
#include "dialect/Pattern.h"
#include "dialect/RowSets.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

namespace heddle::python {
namespace {

const std::map<std::string, PatternKind> &patternKinds() {
  static const std::map<std::string, PatternKind> kinds = {{"full", PatternKind::Full},
                                                           {"empty", PatternKind::Empty},
                                                           {"causal", PatternKind::Causal},
                                                           {"window", PatternKind::Window},
                                                           {"stride", PatternKind::Stride},
                                                           {"block", PatternKind::Block},
                                                           {"keys", PatternKind::Keys},
                                                           {"queries", PatternKind::Queries},
                                                           {"global_tokens", PatternKind::GlobalTokens},
                                                           {"key_mod", PatternKind::KeyMod},
                                                           {"query_mod", PatternKind::QueryMod},
                                                           {"offsets", PatternKind::Offsets},
                                                           {"coarse", PatternKind::Coarse},
                                                           {"grid", PatternKind::Grid},
                                                           {"remap", PatternKind::Remap},
                                                           {"shift", PatternKind::Shift},
                                                           {"neighborhood", PatternKind::Neighborhood},
                                                           {"past_blocks", PatternKind::PastBlocks},
                                                           {"parent", PatternKind::Parent},
                                                           {"random_blocks", PatternKind::RandomBlocks},
                                                           {"affine_set", PatternKind::AffineSet},
                                                           {"holds", PatternKind::Holds},
                                                           {"per_head", PatternKind::PerHead},
                                                           {"same", PatternKind::Same},
                                                           {"cluster", PatternKind::Cluster},
                                                           {"lengths", PatternKind::Lengths},
                                                           {"between", PatternKind::Between},
                                                           {"between_queries", PatternKind::BetweenQueries},
                                                           {"positions", PatternKind::Positions},
                                                           {"packed", PatternKind::Packed},
                                                           {"listed", PatternKind::Listed},
                                                           {"csr", PatternKind::Csr},
                                                           {"mask", PatternKind::Mask}};
  return kinds;
}

const std::map<std::string, ExprKind> &exprKinds() {
  static const std::map<std::string, ExprKind> kinds = {{"add", ExprKind::Add},
                                                        {"sub", ExprKind::Sub},
                                                        {"mul", ExprKind::Mul},
                                                        {"neg", ExprKind::Neg},
                                                        {"floordiv", ExprKind::FloorDiv},
                                                        {"mod", ExprKind::Mod},
                                                        {"div", ExprKind::Div},
                                                        {"min", ExprKind::Min},
                                                        {"max", ExprKind::Max},
                                                        {"abs", ExprKind::Abs},
                                                        {"and", ExprKind::And},
                                                        {"or", ExprKind::Or},
                                                        {"xor", ExprKind::Xor},
                                                        {"not", ExprKind::Not},
                                                        {"shl", ExprKind::Shl},
                                                        {"shr", ExprKind::Shr},
                                                        {"lt", ExprKind::Lt},
                                                        {"le", ExprKind::Le},
                                                        {"gt", ExprKind::Gt},
                                                        {"ge", ExprKind::Ge},
                                                        {"eq", ExprKind::Eq},
                                                        {"ne", ExprKind::Ne},
                                                        {"select", ExprKind::Select},
                                                        {"exp", ExprKind::Exp},
                                                        {"exp2", ExprKind::Exp2},
                                                        {"log", ExprKind::Log},
                                                        {"sqrt", ExprKind::Sqrt},
                                                        {"tanh", ExprKind::Tanh},
                                                        {"floor", ExprKind::Floor},
                                                        {"sigmoid", ExprKind::Sigmoid},
                                                        {"erf", ExprKind::Erf},
                                                        {"sin", ExprKind::Sin},
                                                        {"cos", ExprKind::Cos}};
  return kinds;
}

template <typename Map> auto find(const Map &map, const std::string &name, const char *what) {
  auto it = map.find(name);
  if (it == map.end()) {
    throw py::value_error(std::string("expected a ") + what + ", but got \"" + name + "\"");
  }
  return it->second;
}

/// int, ("inf",), ("end", n) or ("operand", n).
IntArg intArg(py::handle h) {
  if (py::isinstance<py::tuple>(h)) {
    auto t = py::reinterpret_borrow<py::tuple>(h);
    auto tag = py::cast<std::string>(t[0]);
    if (tag == "inf") {
      return IntArg(IntArg::Infinity, 0);
    }
    return IntArg(tag == "end" ? IntArg::End : IntArg::Operand, py::cast<int64_t>(t[1]));
  }
  return IntArg(py::cast<int64_t>(h));
}

Pattern checked(Pattern p) {
  if (auto message = p.verify()) {
    throw py::value_error(*message);
  }
  return p;
}

float halfToFloat(uint16_t bits) {
  uint32_t sign = static_cast<uint32_t>(bits >> 15) << 31, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  float value;
  if (exponent == 0) {
    value = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -value : value;
  }
  uint32_t word = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (fraction << 13);
  std::memcpy(&value, &word, 4);
  return value;
}

double readElement(const heddle_tensor &t, int64_t offset) {
  switch (t.dtype) {
  case HEDDLE_F64:
    return static_cast<const double *>(t.data)[offset];
  case HEDDLE_F32:
    return static_cast<const float *>(t.data)[offset];
  case HEDDLE_F16:
    return halfToFloat(static_cast<const uint16_t *>(t.data)[offset]);
  case HEDDLE_BF16: {
    uint32_t word = static_cast<uint32_t>(static_cast<const uint16_t *>(t.data)[offset]) << 16;
    float value;
    std::memcpy(&value, &word, 4);
    return value;
  }
  case HEDDLE_BOOL:
    return static_cast<const uint8_t *>(t.data)[offset] != 0;
  case HEDDLE_I8:
    return static_cast<const int8_t *>(t.data)[offset];
  case HEDDLE_I32:
    return static_cast<const int32_t *>(t.data)[offset];
  case HEDDLE_I64:
    return static_cast<double>(static_cast<const int64_t *>(t.data)[offset]);
  }
  return 0;
}

/// Run-time operands as an environment of `contains`.
struct Operands {
  std::vector<View> views;
  std::vector<int64_t> scalars;

  explicit Operands(const py::sequence &values) {
    for (py::handle v : values) {
      views.emplace_back();
      scalars.push_back(0);
      if (py::isinstance<py::int_>(v)) {
        scalars.back() = py::cast<int64_t>(v);
      } else {
        viewTensor(v, "the pattern's operand", views.back());
      }
    }
  }

  void install(ExprEnv &env) const {
    env.scalar = [this](int64_t n) { return scalars.at(n); };
    env.load = [this](int64_t n, const std::vector<int64_t> &at) {
      const heddle_tensor &t = views.at(n).tensor;
      int64_t offset = 0;
      // Too many indices: the second (the head) is dropped, then the first (the batch).
      const int64_t spare = static_cast<int64_t>(at.size()) - t.rank;
      for (int32_t a = 0; a < t.rank; ++a) {
        size_t from = static_cast<size_t>(a + (spare > 0 && (a > 0 || spare > 1) ? spare : 0));
        int64_t index = from < at.size() ? at[from] : 0;
        if (t.shape[a] == 0) {
          return 0.0;
        }
        offset += std::clamp<int64_t>(index, 0, t.shape[a] - 1) * t.strides[a];
      }
      return readElement(t, offset);
    };
    env.size = [this](int64_t n, int64_t fromBack) {
      const heddle_tensor &t = views.at(n).tensor;
      return fromBack < t.rank ? t.shape[t.rank - 1 - fromBack] : 1;
    };
  }
};

void checkSizes(int64_t nq, int64_t nk) {
  if (nq < 0 || nk < 0) {
    throw py::value_error("expected sizes of at least 0, but got nq = " + std::to_string(nq) +
                          " and nk = " + std::to_string(nk));
  }
}

/// Rows from the arguments of mask() and count().
RowShape shapeOf(int64_t nq, int64_t nk, int64_t qOffset, int64_t kOffset, int64_t b, int64_t h,
                 const Operands &operands) {
  checkSizes(nq, nk);
  ExprEnv env;
  operands.install(env);
  return {nq, nk, qOffset, kOffset, b, h, env.scalar, env.load, env.size};
}

py::array_t<bool> mask(const Pattern &p, int64_t nq, int64_t nk, int64_t qOffset, int64_t kOffset, int64_t b, int64_t h,
                       const py::sequence &values) {
  Operands operands(values);
  std::vector<uint8_t> live = heddle::mask(p, shapeOf(nq, nk, qOffset, kOffset, b, h, operands));
  py::array_t<bool> out({nq, nk});
  std::copy(live.begin(), live.end(), out.mutable_data());
  return out;
}

int64_t count(const Pattern &p, int64_t nq, int64_t nk, int64_t qOffset, int64_t kOffset, int64_t b, int64_t h,
              const py::sequence &values) {
  Operands operands(values);
  return heddle::count(p, shapeOf(nq, nk, qOffset, kOffset, b, h, operands));
}

/// A hash of the *set*: membership of fixed pairs, so that two spellings of one
/// set hash alike whatever their form. Only for patterns without operands.
size_t fingerprint(const Pattern &p) {
  static const std::array<int64_t, 12> at = {0, 1, 2, 3, 5, 8, 16, 33, 63, 64, 100, 130};
  ExprEnv env;
  env.nq = env.nk = 128;
  size_t hash = 1469598103934665603u;
  for (int64_t head = 0; head < 2; ++head) {
    env.h = head;
    for (int64_t i : at) {
      for (int64_t j : at) {
        env.i = i;
        env.j = j;
        hash = (hash ^ (p.contains(env) ? 1 : 0)) * 1099511628211u;
      }
    }
  }
  return hash;
}

using Names = std::optional<std::vector<std::string>>;

std::function<std::string(int64_t)> namer(const Names &names) {
  if (!names) {
    return {};
  }
  return [&names](int64_t n) { return "%" + names->at(n); };
}

Pattern makePattern(const std::string &kind, const py::sequence &ints, const py::sequence &ranges,
                    std::vector<int64_t> operands, std::vector<Expr> exprs, std::vector<Pattern> children) {
  PatternNode node{
      find(patternKinds(), kind, "pattern"), {}, {}, std::move(operands), std::move(exprs), std::move(children)};
  for (py::handle v : ints) {
    node.ints.push_back(intArg(v));
  }
  for (py::handle r : ranges) {
    auto t = py::cast<py::tuple>(r);
    node.ranges.push_back({intArg(t[0]), intArg(t[1])});
  }
  return checked(Pattern::make(std::move(node)));
}

/// The pattern, and the names of its operands in order of first use.
py::tuple parsePattern(const std::string &text) {
  std::vector<std::pair<std::string, bool>> names;
  auto resolve = [&](const std::string &name, bool isScalar) -> int64_t {
    for (size_t n = 0; n < names.size(); ++n) {
      if (names[n].first == name) {
        return static_cast<int64_t>(n);
      }
    }
    names.emplace_back(name, isScalar);
    return static_cast<int64_t>(names.size()) - 1;
  };
  auto result = parseVerified(text, resolve);
  if (auto *error = std::get_if<PatternError>(&result)) {
    throw py::value_error(error->message + "\n" + excerptAt(text, error->offset));
  }
  return py::make_tuple(std::get<Pattern>(result), names);
}

/// Operands in order of first use in the text.
std::vector<int64_t> operandOrder(const Pattern &p) {
  std::vector<int64_t> order;
  p.str([&](int64_t n) {
    if (std::find(order.begin(), order.end(), n) == order.end()) {
      order.push_back(n);
    }
    return "%" + std::to_string(n);
  });
  return order;
}

} // namespace

static void bindExpressions(py::module_ &m) {
  py::class_<Expr>(m, "Expr", "A scalar expression over one (query, key) pair.")
      .def_static("integer", [](int64_t v) { return Expr(v); })
      .def_static("number", &Expr::number)
      .def_static("scalar", &Expr::scalar)
      .def_static("symbol",
                  [](const std::string &name) {
                    static const std::map<std::string, Sym> symbols = {
                        {"b", Sym::Batch}, {"h", Sym::Head}, {"i", Sym::Query}, {"j", Sym::Key}};
                    return Expr::symbol(find(symbols, name, "symbol"));
                  })
      .def_static("load",
                  [](int64_t operand, std::vector<Expr> at, const std::string &type) {
                    return Expr::load(operand, std::move(at),
                                      type == "float"  ? ExprType::Float
                                      : type == "bool" ? ExprType::Bool
                                                       : ExprType::Int);
                  })
      .def_static("make",
                  [](const std::string &kind, std::vector<Expr> args) {
                    return Expr::make(find(exprKinds(), kind, "operation"), std::move(args));
                  })
      .def("__str__", [](const Expr &e) { return e.str(); });
}

void bindPatterns(py::module_ &m) {
  bindExpressions(m);
  py::class_<Pattern>(m, "Pattern", "A pattern's syntax tree; operands are numbers.")
      .def_static("make", &makePattern, py::arg("kind"), py::arg("ints") = py::tuple(), py::arg("ranges") = py::tuple(),
                  py::arg("operands") = std::vector<int64_t>(), py::arg("exprs") = std::vector<Expr>(),
                  py::arg("children") = std::vector<Pattern>())
      .def_static("parse", &parsePattern)
      .def("__and__", [](const Pattern &a, const Pattern &b) { return a & b; })
      .def("__or__", [](const Pattern &a, const Pattern &b) { return a | b; })
      .def("__sub__", [](const Pattern &a, const Pattern &b) { return a - b; })
      .def("__invert__", [](const Pattern &a) { return ~a; })
      .def("same", &Pattern::same)
      .def("hash", &Pattern::hash)
      .def("fingerprint", &fingerprint)
      .def("canonical", [](const Pattern &p) { return canonicalize(p); })
      .def(
          "text", [](const Pattern &p, const Names &names) { return p.str(namer(names)); },
          py::arg("names") = py::none())
      .def("operand_order", &operandOrder)
      .def("renumber", [](const Pattern &p,
                          const std::vector<int64_t> &to) { return p.renumber([&](int64_t n) { return to.at(n); }); })
      .def_property_readonly("depends_on_query", &Pattern::dependsOnQuery)
      .def_property_readonly("exprs", [](const Pattern &p) { return p->exprs; })
      .def_property_readonly("tensor_operands", &Pattern::tensorOperands)
      .def_property_readonly("scalar_operands", &Pattern::scalarOperands)
      .def("mask", &mask, py::arg("nq"), py::arg("nk"), py::arg("q_offset"), py::arg("k_offset"), py::arg("b"),
           py::arg("h"), py::arg("operands"))
      .def("count", &count, py::arg("nq"), py::arg("nk"), py::arg("q_offset"), py::arg("k_offset"), py::arg("b"),
           py::arg("h"), py::arg("operands"));
}

} // namespace heddle::python
