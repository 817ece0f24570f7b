//===- SpecSource.cpp - A spec from a file, stdin or an inline pattern ----===//

#include "dialect/ErrorExcerpt.h"
#include "tools/Support.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <regex>
#include <sstream>

namespace heddle::tools {

namespace {

/// The type of a tensor that `e` loads from, or of an integer that it reads; "" where it does neither.
std::string operandType(const Expr &e, int64_t operand) {
  if (e->kind == ExprKind::Scalar && e->value == operand) {
    return "index";
  }
  if (e->kind == ExprKind::Load && e->value == operand) {
    std::string type = "tensor<";
    for (size_t n = 0; n < e->args.size(); ++n) {
      type += "?x";
    }
    return type + (e->type == ExprType::Int ? "i32>" : e->type == ExprType::Bool ? "i1>" : "f32>");
  }
  for (const Expr &arg : e->args) {
    if (std::string type = operandType(arg, operand); !type.empty()) {
      return type;
    }
  }
  return "";
}

/// The type that a function argument needs where `p` names it; "" where `p` does not.
std::string operandType(const Pattern &p, int64_t operand) {
  for (int64_t n : p->operands) {
    if (n != operand) {
      continue;
    }
    switch (p->kind) {
    case PatternKind::Keys:
    case PatternKind::Queries:
    case PatternKind::GlobalTokens:
      return "tensor<?x?xi1>";
    case PatternKind::Lengths:
      return "tensor<?xi32>";
    default:
      return "tensor<?x?xi32>";
    }
  }
  for (const IntArg &arg : p->ints) {
    if (arg.kind == IntArg::Operand && arg.value == operand) {
      return "index";
    }
  }
  for (const RangeArg &range : p->ranges) {
    for (const IntArg &arg : {range.lo, range.hi}) {
      if (arg.kind == IntArg::Operand && arg.value == operand) {
        return "index";
      }
    }
  }
  for (const Expr &e : p->exprs) {
    if (std::string type = operandType(e, operand); !type.empty()) {
      return type;
    }
  }
  for (const Pattern &child : p->children) {
    if (std::string type = operandType(child, operand); !type.empty()) {
      return type;
    }
  }
  return "";
}

bool isKnownType(const std::string &dtype) { return dtype == "f32" || dtype == "f16" || dtype == "bf16"; }

std::string tensorType(int64_t heads, int64_t width, const std::string &dtype) {
  return "tensor<?x" + std::to_string(heads) + "x?x" + std::to_string(width) + "x" + dtype + ">";
}

/// A spec with one segment whose pattern is `source.pattern`, alone on its
/// lines so that places in it keep their columns.
Spec specAround(const SpecSource &source) {
  Shape shape(source.shape);
  std::string dtype = source.dtype.empty() ? "f32" : source.dtype;
  if (!isKnownType(dtype)) {
    throw Failure(2, "expected --dtype f32, f16 or bf16, but got '" + dtype + "'");
  }
  std::vector<std::string> names;
  auto resolve = [&](const std::string &name, bool) -> int64_t {
    for (size_t n = 0; n < names.size(); ++n) {
      if (names[n] == name) {
        return static_cast<int64_t>(n);
      }
    }
    names.push_back(name);
    return static_cast<int64_t>(names.size()) - 1;
  };
  auto parsed = parseVerified(*source.pattern, resolve);
  int64_t h = shape.get("h", 8), d = shape.get("d", 64);
  std::string q = tensorType(h, d, dtype), k = tensorType(shape.get("hk", h), d, dtype);
  std::string v = tensorType(shape.get("hv", shape.get("hk", h)), shape.get("dv", d), dtype);
  std::string out = tensorType(h, shape.get("dv", d), dtype);

  std::string head = "func.func @pattern(%q: " + q + ", %k: " + k + ", %v: " + v;
  if (const PatternError *error = std::get_if<PatternError>(&parsed)) {
    throw Failure(2, located(*source.pattern, *error));
  }
  std::string operands;
  for (size_t n = 0; n < names.size(); ++n) {
    std::string type = operandType(std::get<Pattern>(parsed), static_cast<int64_t>(n));
    type = type.empty() ? "tensor<?xf32>" : type;
    head += ", " + (names[n].rfind('%', 0) == 0 ? names[n] : "%" + names[n]) + ": " + type;
    operands += (operands.empty() ? " operands(" : ", ") + type;
  }
  operands += operands.empty() ? "" : ")";
  head += ") -> " + out + " {\n  %o = attn.attend %q segment(%k, %v) where(\n";
  std::string offset =
      shape.has("q_offset") ? " q_offset(" + std::to_string(shape.get("q_offset", 0)) + ")" : std::string();

  Spec spec;
  spec.name = "<pattern>";
  spec.firstLine = 3;
  spec.text = head + *source.pattern + "\n  )" + offset + " : " + q + " segment(" + k + ", " + v + ")" + operands +
              " -> " + out + "\n  return %o : " + out + "\n}\n";
  return spec;
}

} // namespace

Spec readSpec(const SpecSource &source) {
  if (source.pattern) {
    if (!source.path.empty()) {
      throw Failure(2, "expected a spec or --pattern, but got both");
    }
    return specAround(source);
  }
  if (source.path.empty()) {
    throw Failure(2, "expected a spec file, - for stdin, or --pattern 'causal & window(63, 0)', but got none");
  }
  Spec spec;
  spec.name = source.path == "-" ? "<stdin>" : source.path;
  if (source.path == "-") {
    spec.text.assign(std::istreambuf_iterator<char>(std::cin), {});
  } else {
    std::ifstream file(source.path, std::ios::binary);
    if (!file || std::filesystem::is_directory(source.path)) {
      throw Failure(2, "expected a readable spec file, but got '" + source.path + "'");
    }
    spec.text.assign(std::istreambuf_iterator<char>(file), {});
    if (file.bad()) {
      throw Failure(2, "expected a readable spec file, but got '" + source.path + "'");
    }
  }
  if (spec.text.rfind("\xef\xbb\xbf", 0) == 0) {
    spec.text.erase(0, 3); // a byte order mark
  }
  if (spec.text.find('\0') != std::string::npos) {
    throw Failure(2, "expected spec text, but got a binary file '" + spec.name + "'");
  }
  if (!source.dtype.empty()) {
    if (!isKnownType(source.dtype)) {
      throw Failure(2, "expected --dtype f32, f16 or bf16, but got '" + source.dtype + "'");
    }
    // [B, H, N, D] tensors are the ones with a storage type; tables and lse have fewer dimensions.
    static const std::regex storage("(tensor<(?:[0-9?]+x){4})(?:f32|f16|bf16)>");
    spec.text = std::regex_replace(spec.text, storage, "$1" + source.dtype + ">");
  }
  return spec;
}

} // namespace heddle::tools
