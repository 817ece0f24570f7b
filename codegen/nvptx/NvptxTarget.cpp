//===- NvptxTarget.cpp - NVIDIA targets: PTX, and cubin where ptxas is ----===//

#include "codegen/nvptx/NvptxTarget.h"

#include "codegen/CleanUp.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/InstrTypes.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/Triple.h"
#include "llvm/Transforms/IPO/AlwaysInliner.h"
#include "llvm/Transforms/IPO/GlobalDCE.h"

#include <mutex>

using namespace llvm;

namespace heddle {

std::optional<NvptxTarget> NvptxTarget::parse(StringRef name) {
  // sm_80 code also runs on sm_86 and sm_89, whose blocks have 99 KiB.
  static constexpr int64_t kSmall = 99 * 1024, kLarge = 227 * 1024;
  NvptxTarget t;
  t.chip = name.str();
  if (name == "sm_80" || name == "sm_86" || name == "sm_89") {
    t.sharedBytes = kSmall;
    t.ptxFeature = "+ptx78";
  } else if (name == "sm_90" || name == "sm_90a") {
    t.sharedBytes = kLarge;
    t.ptxFeature = "+ptx80";
    t.hopper = name == "sm_90a";
  } else {
    return std::nullopt;
  }
  return t;
}

std::unique_ptr<TargetMachine> createTargetMachine(const NvptxTarget &target, std::string &error) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
  });
  Triple triple("nvptx64-nvidia-cuda");
  const Target *backend = TargetRegistry::lookupTarget(triple, error);
  if (!backend) {
    return nullptr;
  }
  TargetOptions options;
  options.AllowFPOpFusion = FPOpFusion::Standard; // fuse only what the IR says
  return std::unique_ptr<TargetMachine>(
      backend->createTargetMachine(triple, target.chip, target.ptxFeature, options, Reloc::Static));
}

void optimize(Module &module, TargetMachine &machine, const NvptxTarget &target) {
  module.setTargetTriple(machine.getTargetTriple());
  module.setDataLayout(machine.createDataLayout());
  for (Function &f : module) {
    if (!f.isDeclaration()) {
      f.addFnAttr("target-cpu", target.chip);
      f.addFnAttr("target-features", target.ptxFeature);
      f.addFnAttr(Attribute::NoUnwind);
      if (f.getCallingConv() != CallingConv::PTX_Kernel) {
        f.setLinkage(GlobalValue::InternalLinkage);
        f.addFnAttr(Attribute::AlwaysInline);
      }
    }
  }
  // Inline PTX here is for whole warps and warpgroups: no path may be given a copy of it.
  for (Function &f : module) {
    for (Instruction &i : instructions(f)) {
      if (auto *call = dyn_cast<CallBase>(&i); call && call->isInlineAsm()) {
        call->setConvergent();
      }
    }
  }
  cleanUp(module, machine, [](ModulePassManager &passes) {
    passes.addPass(AlwaysInlinerPass());
    passes.addPass(GlobalDCEPass());
  });
}

bool emitPtx(Module &module, TargetMachine &machine, std::string &ptx) {
  SmallVector<char> text;
  raw_svector_ostream os(text);
  legacy::PassManager pm;
  if (machine.addPassesToEmitFile(pm, os, nullptr, CodeGenFileType::AssemblyFile)) {
    return false;
  }
  pm.run(module);
  ptx.assign(text.begin(), text.end());
  return true;
}

/// Path of ptxas; empty where there is none.
static std::string findAssembler() {
  if (std::optional<std::string> given = sys::Process::GetEnv("HEDDLE_PTXAS")) {
    return *given;
  }
  ErrorOr<std::string> found = sys::findProgramByName("ptxas");
  if (!found) {
    found = sys::findProgramByName("ptxas", {"/usr/local/cuda/bin"});
  }
  return found ? *found : "";
}

namespace {
/// A file that is removed at the end.
struct Temporary {
  explicit Temporary(StringRef suffix) { error = sys::fs::createTemporaryFile("heddle", suffix, path); }
  ~Temporary() { (void)sys::fs::remove(path); }
  SmallString<64> path;
  std::error_code error;
};
} // namespace

/// Where the disk is full this is an error, not the end of the process.
static std::error_code writeFile(StringRef path, StringRef text) {
  std::error_code error;
  raw_fd_ostream os(path, error);
  if (error) {
    return error;
  }
  os << text;
  os.close();
  error = os.error();
  os.clear_error();
  return error;
}

/// The number in front of `unit`; 0 where there is none.
static int64_t numberBefore(StringRef text, StringRef unit) {
  StringRef head = text.take_front(text.find(unit)).rtrim();
  int64_t n = 0;
  return text.contains(unit) && !head.substr(head.find_last_not_of("0123456789") + 1).getAsInteger(10, n) ? n : 0;
}

/// From what ptxas -v prints: "Compiling entry function 'f' ..", "n bytes spill stores, n bytes spill loads", "Used n
/// registers".
static void readUsage(StringRef log, StringMap<KernelUsage> &usage) {
  StringRef rest = log.split("Compiling entry function '").second;
  while (!rest.empty()) {
    auto [part, next] = rest.split("Compiling entry function '");
    KernelUsage &of = usage[part.split('\'').first];
    of.registers = numberBefore(part, " registers");
    of.spillBytes = numberBefore(part, " bytes spill stores") + numberBefore(part, " bytes spill loads");
    rest = next;
  }
}

bool assemble(const std::string &ptx, const NvptxTarget &target, bool quick, std::string &cubin,
              StringMap<KernelUsage> *usage, std::string &message) {
  message.clear();
  std::string program = findAssembler();
  if (program.empty()) {
    return false;
  }
  Temporary input("ptx"), output("cubin"), log("log");
  for (const Temporary *file : {&input, &output, &log}) {
    if (file->error) {
      message = "expected to write temporary files, but got: " + file->error.message();
      return false;
    }
  }
  if (std::error_code error = writeFile(input.path, ptx)) {
    message = "expected to write " + input.path.str().str() + ", but got: " + error.message();
    return false;
  }
  std::string chip = "-arch=" + target.chip;
  StringRef arguments[] = {program, "-v", quick ? "-O1" : "-O3", chip, "-o", output.path, input.path};
  std::optional<StringRef> redirects[] = {StringRef(), StringRef(log.path), StringRef(log.path)};
  std::string why;
  int status = sys::ExecuteAndWait(program, arguments, std::nullopt, redirects, 0, 0, &why);
  if (!why.empty()) {
    message = "expected to run ptxas (HEDDLE_PTXAS, PATH or /usr/local/cuda/bin), but got: " + why;
    return false;
  }
  ErrorOr<std::unique_ptr<MemoryBuffer>> said = MemoryBuffer::getFile(log.path);
  ErrorOr<std::unique_ptr<MemoryBuffer>> made = MemoryBuffer::getFile(output.path);
  if (status != 0 || !made || (*made)->getBufferSize() == 0) {
    message = program + " failed: " + (said ? (*said)->getBuffer().str() : "no message");
    return false;
  }
  cubin = (*made)->getBuffer().str();
  if (usage && said) {
    readUsage((*said)->getBuffer(), *usage);
  }
  return true;
}

} // namespace heddle
