//===- GpuCode.cpp - A module's kernels as PTX and cubins -----------------===//

#include "codegen/nvptx/GpuCode.h"

#include "llvm/ADT/StringSet.h"
#include "llvm/Bitcode/BitcodeReader.h"
#include "llvm/Bitcode/BitcodeWriter.h"
#include "llvm/IR/LLVMContext.h"

#include <algorithm>

using namespace llvm;

namespace heddle {

/// A kernel with fewer instructions joins another's part: starting ptxas takes as long as assembling it.
static constexpr unsigned kSmallKernel = 500;
static constexpr size_t kMostParts = 4;
/// Parameters of a kernel: in any version of PTX, and from 8.1 on.
static constexpr uint64_t kUsualParameterBytes = 4096, kMostParameterBytes = 32764;

/// Registers of a multiprocessor, and the most that a thread can name.
static constexpr int64_t kRegisters = 65536, kMostRegisters = 255;

/// The number in a directive of a kernel.
static int64_t directive(StringRef line) {
  int64_t n = 0;
  line.drop_until([](char c) { return isDigit(c); }).consumeInteger(10, n);
  return n;
}

/// The same kernels, asking for no more blocks at once than can have all registers that a thread can name; ptxas aims
/// at more where nothing is asked.
static std::string withFewerBlocks(StringRef ptx) {
  std::string out;
  int64_t most = 1;
  while (!ptx.empty()) {
    auto [line, rest] = ptx.split('\n');
    ptx = rest;
    if (line.starts_with(".minnctapersm")) {
      out += ".minnctapersm " + std::to_string(std::min(directive(line), most)) + "\n";
      continue;
    }
    out += line;
    out += '\n';
    if (line.starts_with(".maxntid")) {
      most = std::max<int64_t>(kRegisters / (kMostRegisters * std::max<int64_t>(directive(line), 1)), 1);
      out += rest.starts_with(".minnctapersm") ? "" : ".minnctapersm " + std::to_string(most) + "\n";
    }
  }
  return out;
}

struct GpuAssembly::Part {
  StringSet<> kernels;
  bool rare = false;  ///< kernels that stand beside others of the module (attn-tile-gpu)
  bool quick = false; ///< assembled at -O1 first
  size_t instructions = 0;
  OwnModule own;
  std::string ptx, cubin, error;
  StringMap<KernelUsage> usage;

  /// Reads the module and drops what other parts have.
  void read(MemoryBufferRef bitcode) {
    Expected<std::unique_ptr<Module>> whole = parseBitcodeFile(bitcode, *own.context);
    if (!whole) {
      error = "expected to read a module that was written, but got: " + toString(whole.takeError());
      return;
    }
    own.module = std::move(*whole);
    for (Function &f : make_early_inc_range(*own.module)) {
      if (f.getCallingConv() == CallingConv::PTX_Kernel && !kernels.contains(f.getName())) {
        f.eraseFromParent();
      }
    }
  }

  void compile(const NvptxTarget &target) {
    std::string why;
    std::unique_ptr<TargetMachine> machine = createTargetMachine(target, why);
    if (!machine) {
      error = "expected LLVM with the NVPTX target, but got: " + why;
      return;
    }
    optimize(*own.module, *machine, target);
    if (!emitPtx(*own.module, *machine, ptx)) {
      error = "expected LLVM to emit code for " + target.chip + ", but it cannot";
      return;
    }
    own.module.reset();
    assemble(ptx, target, quick, cubin, &usage, error);
    if (spillBytes(usage) > 0) {
      assembleAgain(target);
    }
  }

  /// Where kernels spill: with room for fewer blocks at once, or, where that is given (attn-tile-gpu's warpgroups),
  /// with the other schedule; kept where it spills less.
  void assembleAgain(const NvptxTarget &target) {
    std::string other = withFewerBlocks(ptx), made, why;
    StringMap<KernelUsage> otherUsage;
    bool otherSchedule = other == ptx ? !quick : quick;
    if (assemble(other, target, otherSchedule, made, &otherUsage, why) && spillBytes(otherUsage) < spillBytes(usage)) {
      ptx = std::move(other);
      cubin = std::move(made);
      usage = std::move(otherUsage);
    }
  }

  static int64_t spillBytes(const StringMap<KernelUsage> &usage) {
    int64_t sum = 0;
    for (const auto &each : usage) {
      sum += each.second.spillBytes;
    }
    return sum;
  }
};

GpuAssembly::GpuAssembly() = default;
GpuAssembly::~GpuAssembly() = default;

/// Deals out the kernels, the largest first and each to the part of its kind that has least; rare ones come last, and
/// one part at least is left for them.
template <typename Part> static std::vector<std::unique_ptr<Part>> dealOut(Module &module) {
  SmallVector<Function *> kernels;
  for (Function &f : module) {
    if (f.getCallingConv() == CallingConv::PTX_Kernel) {
      kernels.push_back(&f);
    }
  }
  auto isRare = [](const Function *f) { return f->hasFnAttribute("heddle-rare"); };
  llvm::stable_sort(kernels, [&](Function *x, Function *y) {
    return isRare(x) != isRare(y) ? isRare(y) : x->getInstructionCount() > y->getInstructionCount();
  });
  std::vector<std::unique_ptr<Part>> parts;
  for (Function *f : kernels) {
    size_t count = f->getInstructionCount(), kept = !isRare(f) && isRare(kernels.back()) ? 1 : 0;
    Part *least = nullptr;
    for (const std::unique_ptr<Part> &p : parts) {
      if (p->rare == isRare(f) && (!least || p->instructions < least->instructions)) {
        least = p.get();
      }
    }
    if (!least || (count >= kSmallKernel && parts.size() + kept < kMostParts)) {
      parts.push_back(std::make_unique<Part>());
      least = parts.back().get();
      least->rare = isRare(f);
      least->quick = least->rare || f->hasFnAttribute("heddle-quick");
    }
    least->kernels.insert(f->getName());
    least->instructions += count;
  }
  return parts;
}

/// A further part's text in a module that has the first one's directives already.
static void join(std::string &ptx, StringRef more) {
  while (!more.empty()) {
    auto [line, rest] = more.split('\n');
    bool again = line.starts_with(".version") || line.starts_with(".target") || line.starts_with(".address_size") ||
                 line.starts_with(".extern .shared");
    if (!again) {
      ptx.append(line.begin(), line.end());
      ptx += '\n';
    }
    more = rest;
  }
}

/// Bytes of the largest parameter list of a kernel.
static uint64_t parameterBytes(const Module &module) {
  uint64_t most = 0;
  for (const Function &f : module) {
    uint64_t bytes = 0;
    for (const Argument &a : f.args()) {
      bytes += a.hasByValAttr() ? module.getDataLayout().getTypeAllocSize(a.getParamByValType()).getFixedValue() : 8;
    }
    most = f.getCallingConv() == CallingConv::PTX_Kernel ? std::max(most, bytes) : most;
  }
  return most;
}

void GpuAssembly::begin(OwnModule whole, const NvptxTarget &chip, Helpers &helpers) {
  NvptxTarget target = chip;
  uint64_t bytes = parameterBytes(*whole.module);
  if (bytes > kMostParameterBytes) {
    error = "expected arguments whose records take at most " + std::to_string(kMostParameterBytes) +
            " bytes of kernel parameters, but got " + std::to_string(bytes);
    return;
  }
  if (bytes > kUsualParameterBytes) {
    target.ptxFeature = "+ptx81";
  }
  parts = dealOut<Part>(*whole.module);
  if (parts.empty()) {
    error = "expected a kernel in the module, but got none";
    return;
  }
  if (parts.size() > 1) {
    raw_svector_ostream os(bitcode);
    WriteBitcodeToFile(*whole.module, os);
  } else {
    parts[0]->own = std::move(whole);
  }
  for (std::unique_ptr<Part> &each : parts) {
    helpers.add([this, target, &part = *each] {
      if (!part.own.module) {
        part.read({StringRef(bitcode.data(), bitcode.size()), "heddle"});
      }
      if (part.error.empty()) {
        part.compile(target);
      }
    });
  }
}

bool GpuAssembly::end(GpuCode &out, std::string &why) {
  for (auto [n, part] : enumerate(parts)) {
    if (error.empty()) {
      error = part->error;
    }
    if (n == 0) {
      out.ptx = std::move(part->ptx);
    } else {
      join(out.ptx, part->ptx);
    }
    if (!part->cubin.empty()) {
      out.cubins.push_back(std::move(part->cubin));
    }
    for (StringRef name : part->kernels.keys()) {
      out.cubinOf[name] = int64_t(n);
      if (auto found = part->usage.find(name); found != part->usage.end()) {
        out.usage[name] = found->second;
      }
    }
  }
  why = error;
  return error.empty();
}

} // namespace heddle
