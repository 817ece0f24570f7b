//===- LinkObjectsTest.cpp - Objects joined, loaded and run ---------------===//

#include "codegen/x86/LinkObjects.h"
#include "codegen/x86/X86Target.h"
#include "runtime/src/loader.h"

#include "llvm/AsmParser/Parser.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/Support/SourceMgr.h"

#include <cmath>
#include <gtest/gtest.h>

using namespace heddle;
using llvm::SmallVector;
using llvm::StringRef;

namespace {

/// The object of a function, whose constant comes from memory.
std::string objectOf(const char *ir, StringRef entry) {
  llvm::LLVMContext context;
  llvm::SMDiagnostic diagnostic;
  auto module = llvm::parseAssemblyString(ir, diagnostic, context);
  X86Target target = *X86Target::parse("x86-64-v2");
  std::string error;
  auto machine = createTargetMachine(target, error);
  if (!module || !machine) {
    ADD_FAILURE() << diagnostic.getMessage().str() << error;
    return "";
  }
  optimize(*module, *machine, target, entry, Others::Internal);
  SmallVector<char> out;
  EXPECT_TRUE(emit(*module, *machine, /*assembly=*/false, out));
  return {out.begin(), out.end()};
}

const char *const kMain = "declare double @half(double)\n"
                          "declare double @third(double)\n"
                          "define double @start(double %x) {\n"
                          "  %a = call double @half(double %x)\n"
                          "  %b = call double @third(double %a)\n"
                          "  %c = fadd double %b, 0.3\n"
                          "  ret double %c\n"
                          "}\n";
const char *const kHalf = "define double @half(double %x) {\n"
                          "  %r = fmul double %x, 0.51\n"
                          "  ret double %r\n"
                          "}\n";
const char *const kThird = "declare double @tanh(double)\n"
                           "define internal double @inner(double %x) noinline {\n"
                           "  %t = call double @tanh(double %x)\n"
                           "  ret double %t\n"
                           "}\n"
                           "define double @third(double %x) {\n"
                           "  %t = call double @inner(double %x)\n"
                           "  %r = fmul double %t, 0.37\n"
                           "  ret double %r\n"
                           "}\n";

TEST(LinkObjects, FunctionsFindEachOther) {
  std::string parts[] = {objectOf(kMain, "start"), objectOf(kHalf, "half"), objectOf(kThird, "third")};
  // Whatever their order.
  for (auto [x, y, z] : {std::tuple(0, 1, 2), std::tuple(2, 0, 1), std::tuple(1, 2, 0)}) {
    StringRef objects[] = {parts[x], parts[y], parts[z]};
    SmallVector<char> joined;
    ASSERT_TRUE(linkObjects(objects, "start", joined));
    rt::LoadedObject loaded;
    rt::Error e = loaded.load({joined.data(), joined.size()}, "start");
    ASSERT_FALSE(e) << e->message;
    auto start = reinterpret_cast<double (*)(double)>(loaded.entry());
    EXPECT_EQ(start(1.25), std::tanh(1.25 * 0.51) * 0.37 + 0.3);
  }
}

TEST(LinkObjects, OnlyTheEntryIsExported) {
  std::string main = objectOf(kMain, "start"), half = objectOf(kHalf, "half"), third = objectOf(kThird, "third");
  StringRef objects[] = {main, half, third};
  SmallVector<char> joined;
  ASSERT_TRUE(linkObjects(objects, "start", joined));
  rt::LoadedObject loaded;
  rt::Error e = loaded.load({joined.data(), joined.size()}, "half");
  ASSERT_TRUE(e);
  EXPECT_EQ(e->message, "expected a valid object, but it exports no function 'half'");
}

TEST(LinkObjects, WhatNobodyDefinesStaysUndefined) {
  std::string main = objectOf(kMain, "start"), half = objectOf(kHalf, "half");
  StringRef objects[] = {main, half};
  SmallVector<char> joined;
  ASSERT_TRUE(linkObjects(objects, "start", joined));
  rt::LoadedObject loaded;
  rt::Error e = loaded.load({joined.data(), joined.size()}, "start");
  ASSERT_TRUE(e);
  EXPECT_NE(e->message.find("it needs 'third'"), std::string::npos) << e->message;
}

TEST(LinkObjects, RefusesTwoOfOneNameAndWhatIsNoObject) {
  std::string main = objectOf(kMain, "start"), half = objectOf(kHalf, "half");
  SmallVector<char> joined;
  EXPECT_FALSE(linkObjects({StringRef(main), StringRef(half), StringRef(half)}, "start", joined));
  EXPECT_FALSE(linkObjects({StringRef(main), StringRef("no object")}, "start", joined));
  for (size_t size = 0; size < half.size(); size += 7) {
    joined.clear();
    (void)linkObjects({StringRef(main), StringRef(half).take_front(size)}, "start", joined); // must not crash
  }
}

} // namespace
