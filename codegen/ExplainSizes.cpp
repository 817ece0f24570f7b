//===- ExplainSizes.cpp - The sizes that an explanation is for ------------===//

#include "codegen/ExplainSizes.h"

#include "mlir/IR/BuiltinTypes.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

#include <algorithm>

using namespace mlir;

namespace heddle {

Sizes::Sizes(llvm::StringRef text) {
  llvm::SmallVector<llvm::StringRef> items;
  text.split(items, ',', -1, false);
  for (llvm::StringRef item : items) {
    auto [name, value] = item.split('=');
    int64_t number = 0;
    if (name.trim().empty() || value.trim().getAsInteger(10, number)) {
      throw ExplainFailure{HEDDLE_INVALID_VALUE,
                           "expected sizes as b=1,h=8,nq=4096,nk=4096,d=64, but got '" + item.str() + "'"};
    }
    values[name.trim().str()] = number;
  }
}

int64_t Sizes::get(const std::string &name, int64_t otherwise) const {
  auto found = values.find(name);
  if (found == values.end() && (name == "nq" || name == "nk")) {
    found = values.find("n");
  }
  return found == values.end() ? otherwise : found->second;
}

void Sizes::expectNames(llvm::ArrayRef<std::string> arguments) const {
  constexpr llvm::StringLiteral own[] = {"b",  "h", "hk", "hv",       "n",       "nq",
                                         "nk", "d", "dv", "q_offset", "threads", "measured_ns"};
  for (const auto &[name, value] : values) {
    llvm::StringRef rest = name;
    const bool ofSegment =
        (rest.consume_front("nk") || rest.consume_front("k_offset")) && llvm::all_of(rest, llvm::isDigit);
    const llvm::StringRef argument = llvm::StringRef(name).split('.').first;
    if (!ofSegment && !llvm::is_contained(own, name) && !llvm::is_contained(arguments, argument)) {
      throw ExplainFailure{HEDDLE_INVALID_VALUE,
                           "expected sizes of: b h hk hv n nq nk nk0 .. d dv q_offset k_offset0 .. " +
                               llvm::join(arguments, " ") + "; but got '" + name + "'"};
    }
  }
}

int64_t Sizes::threads() const {
  return std::max<int64_t>(has("threads") ? get("threads", 1) : heddle_num_threads(), 1);
}

int64_t Sizes::dimension(const std::string &name, Value tensor, int64_t dim, int64_t otherwise) const {
  int64_t fixed = cast<RankedTensorType>(tensor.getType()).getDimSize(dim);
  int64_t size = get(name, ShapedType::isDynamic(fixed) ? otherwise : fixed);
  if (!ShapedType::isDynamic(fixed) && size != fixed) {
    throw ExplainFailure{HEDDLE_INVALID_VALUE, "expected " + name + "=" + std::to_string(fixed) +
                                                   " (the spec fixes it), but got " + name + "=" +
                                                   std::to_string(size)};
  }
  if (size < 0) {
    throw ExplainFailure{HEDDLE_INVALID_VALUE, "expected " + name + " >= 0, but got " + std::to_string(size)};
  }
  return size;
}

} // namespace heddle
