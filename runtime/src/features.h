//===- features.h - What this CPU can run ----------------------*- C++ -*-===//
//
// Feature strings: a level and then LLVM feature names, in a fixed order,
// "x86-64-v4,+avx512bf16,+avx512vnni". The level is valid as LLVM's -mcpu, the
// rest as -mattr. A level stands for all features of the x86-64 psABI's level.
//
//===----------------------------------------------------------------------===//
#ifndef HEDDLE_RUNTIME_FEATURES_H
#define HEDDLE_RUNTIME_FEATURES_H

#include <string>
#include <string_view>

namespace heddle::rt {

/// The first feature that `wanted` has and `host` lacks; "" where there is none.
/// An unknown word in `wanted` counts as lacking.
std::string missingFeature(std::string_view wanted, std::string_view host);

} // namespace heddle::rt

#endif // HEDDLE_RUNTIME_FEATURES_H
