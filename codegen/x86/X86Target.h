//===- X86Target.h - x86-64 levels and object code ------------------------===//
#ifndef HEDDLE_CODEGEN_X86_X86TARGET_H
#define HEDDLE_CODEGEN_X86_X86TARGET_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/IR/Module.h"
#include "llvm/Target/TargetMachine.h"

#include <memory>
#include <optional>
#include <string>

namespace heddle {

/// How tiles of bf16 are multiplied: not at all, by AMX, or by vector loops in its place, to test.
enum class AmxTiles { None, Native, Emulated };

/// An x86-64 level with extra features.
struct X86Target {
  std::string features; ///< "x86-64-v4,+avx512bf16": what the manifest and the loader compare
  std::string cpu;      ///< LLVM's -mcpu
  std::string attrs;    ///< LLVM's -mattr
  std::string tune;     ///< LLVM's -mtune; "" for a target that is not this machine
  int64_t width = 4;    ///< f32 lanes of a vector register
  bool bf16 = false;    ///< multiplies pairs of bf16 (AVX512_BF16)
  AmxTiles amx = AmxTiles::None;

  /// "native", a level's name, "sapphirerapids" (what native is on such a machine) or "emulated-amx" (its kernels with
  /// AMX's operations as vector loops, for machines with AVX512_BF16 alone); nullopt where it is none of them.
  static std::optional<X86Target> parse(llvm::StringRef name);
};

/// Null with `error` set where this LLVM cannot generate code for the target.
std::unique_ptr<llvm::TargetMachine> createTargetMachine(const X86Target &target, std::string &error);

/// What the functions of a module are beside its entry: its own, or shared with the objects that are linked to it.
enum class Others { Internal, Shared };

/// Marks functions for the target and runs the optimizer; `entry` is the one that others call.
void optimize(llvm::Module &module, llvm::TargetMachine &machine, const X86Target &target, llvm::StringRef entry,
              Others others);

/// Emits an object, or assembly text.
bool emit(llvm::Module &module, llvm::TargetMachine &machine, bool assembly, llvm::SmallVectorImpl<char> &out);

} // namespace heddle

#endif // HEDDLE_CODEGEN_X86_X86TARGET_H
