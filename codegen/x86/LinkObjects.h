//===- LinkObjects.h - Several relocatable objects as one -----------------===//
#ifndef HEDDLE_CODEGEN_X86_LINKOBJECTS_H
#define HEDDLE_CODEGEN_X86_LINKOBJECTS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"

namespace heddle {

/// Joins ELF64 objects as LLVM writes them, in their order: a function that one exports is what the others call by its
/// name. Of the result's symbols only `entry` and what no object defines are global. False where an object is not of
/// that kind or two export one name.
bool linkObjects(llvm::ArrayRef<llvm::StringRef> objects, llvm::StringRef entry, llvm::SmallVectorImpl<char> &out);

} // namespace heddle

#endif // HEDDLE_CODEGEN_X86_LINKOBJECTS_H
