//===- X86Target.cpp - x86-64 levels and object code ----------------------===//

#include "codegen/x86/X86Target.h"

#include "codegen/CleanUp.h"
#include "heddle/runtime.h"

#include "llvm/IR/LegacyPassManager.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

#include <mutex>

using namespace llvm;

namespace heddle {

std::optional<X86Target> X86Target::parse(StringRef name) {
  X86Target t;
  if (name == "native" || name.empty()) {
    t.features = heddle_host_features();
    t.tune = sys::getHostCPUName().str();
  } else if (name == "x86-64-v2" || name == "x86-64-v3" || name == "x86-64-v4") {
    t.features = name.str();
  } else if (name == "sapphirerapids") {
    t.features = "x86-64-v4,+avxvnni,+avx512vnni,+avx512vbmi,+avx512vbmi2,+avx512bf16,+avx512fp16,+amx-tile,+amx-bf16,"
                 "+amx-int8";
    t.tune = name.str();
  } else if (name == "emulated-amx") {
    t.features = "x86-64-v4,+avx512bf16";
    t.amx = AmxTiles::Emulated;
  } else {
    return std::nullopt;
  }
  auto [cpu, attrs] = StringRef(t.features).split(',');
  t.cpu = cpu.str();
  t.attrs = attrs.str();
  t.bf16 = StringRef(t.attrs).contains("+avx512bf16");
  t.width = cpu == "x86-64-v4" ? 16 : cpu == "x86-64-v3" ? 8 : 4;
  if (t.bf16 && StringRef(t.attrs).contains("+amx-tile") && StringRef(t.attrs).contains("+amx-bf16")) {
    t.amx = AmxTiles::Native;
  }
  return t;
}

std::unique_ptr<TargetMachine> createTargetMachine(const X86Target &target, std::string &error) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
  });
  Triple triple("x86_64-unknown-linux-gnu");
  const Target *backend = TargetRegistry::lookupTarget(triple, error);
  if (!backend) {
    return nullptr;
  }
  TargetOptions options;
  options.AllowFPOpFusion = FPOpFusion::Standard; // fuse only what the IR says
  return std::unique_ptr<TargetMachine>(backend->createTargetMachine(
      triple, target.cpu, target.attrs, options, Reloc::PIC_, CodeModel::Small, CodeGenOptLevel::Default, true));
}

void optimize(Module &module, TargetMachine &machine, const X86Target &target, StringRef entry, Others others) {
  module.setTargetTriple(machine.getTargetTriple());
  module.setDataLayout(machine.createDataLayout());
  for (Function &f : module) {
    if (f.isDeclaration()) {
      continue;
    }
    f.addFnAttr("target-cpu", target.cpu);
    if (!target.attrs.empty()) {
      f.addFnAttr("target-features", target.attrs);
    }
    if (!target.tune.empty()) {
      f.addFnAttr("tune-cpu", target.tune);
    }
    if (target.width == 16) {
      f.addFnAttr("prefer-vector-width", "512");
    }
    f.addFnAttr(Attribute::NoUnwind);
    if (f.getName() != entry && others == Others::Internal) {
      f.setLinkage(GlobalValue::InternalLinkage);
    } else if (f.getName() != entry) {
      f.setVisibility(GlobalValue::HiddenVisibility);
    }
  }
  cleanUp(module, machine);
}

bool emit(Module &module, TargetMachine &machine, bool assembly, SmallVectorImpl<char> &out) {
  raw_svector_ostream os(out);
  legacy::PassManager pm;
  auto type = assembly ? CodeGenFileType::AssemblyFile : CodeGenFileType::ObjectFile;
  if (machine.addPassesToEmitFile(pm, os, nullptr, type)) {
    return false;
  }
  pm.run(module);
  return true;
}

} // namespace heddle
