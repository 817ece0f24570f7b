//===- features.cpp - What this CPU can run -------------------------------===//
//
// cpuid says what the CPU has, xgetbv what the operating system saves on a
// context switch; a feature counts only with both, and AMX where the system lets
// this process have it, for which the first question asks.
//
//===----------------------------------------------------------------------===//
#include "runtime/src/features.h"

#include "heddle/runtime.h"

#include <cpuid.h>
#include <cstdint>
#include <cstdlib>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d); // zeros where the leaf is missing
  return r;
}

uint64_t enabledState() {
  if (!(cpuid(1).c >> 27 & 1)) { // OSXSAVE
    return 0;
  }
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t(high) << 32 | low;
}

bool has(uint32_t word, std::initializer_list<int> bits) {
  for (int bit : bits) {
    if (!(word >> bit & 1)) {
      return false;
    }
  }
  return true;
}

/// A process must ask for the state of matrix tiles (10 KiB a thread) before it uses them; threads and children
/// inherit.
bool permitsTiles(uint64_t state) {
  constexpr long requestPermission = 0x1023, tileData = 18; // ARCH_REQ_XCOMP_PERM of <asm/prctl.h>
  return (state & 0x60000) == 0x60000 && syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
}

std::string detect() {
  Registers one = cpuid(1), seven = cpuid(7), sevenOne = cpuid(7, 1), extended = cpuid(0x80000001);
  uint64_t state = enabledState();
  bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tiles = has(seven.d, {24}) && permitsTiles(state);
  // v2: SSE3 SSSE3 CX16 SSE4.1 SSE4.2 POPCNT, LAHF
  bool v2 = has(one.c, {0, 9, 13, 19, 20, 23}) && has(extended.c, {0});
  // v3: FMA MOVBE OSXSAVE AVX F16C, BMI1 AVX2 BMI2, LZCNT
  bool v3 = v2 && ymm && has(one.c, {12, 22, 27, 28, 29}) && has(seven.b, {3, 5, 8}) && has(extended.c, {5});
  // v4: AVX512 F DQ CD BW VL
  bool v4 = v3 && zmm && has(seven.b, {16, 17, 28, 30, 31});
  std::string text = v4 ? "x86-64-v4" : v3 ? "x86-64-v3" : v2 ? "x86-64-v2" : "x86-64";
  auto add = [&](bool present, const char *name) {
    if (present) {
      text += std::string(",+") + name;
    }
  };
  add(v3 && has(sevenOne.a, {4}), "avxvnni");
  add(v4 && has(seven.c, {11}), "avx512vnni");
  add(v4 && has(seven.c, {1}), "avx512vbmi");
  add(v4 && has(seven.c, {6}), "avx512vbmi2");
  add(v4 && has(sevenOne.a, {5}), "avx512bf16");
  add(v4 && has(seven.d, {23}), "avx512fp16");
  add(tiles, "amx-tile");
  add(tiles && has(seven.d, {22}), "amx-bf16");
  add(tiles && has(seven.d, {25}), "amx-int8");
  add(tiles && has(sevenOne.a, {21}), "amx-fp16");
  return text;
}

int levelOf(std::string_view word) {
  constexpr std::string_view levels[] = {"x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"};
  for (int i = 0; i < 4; ++i) {
    if (word == levels[i]) {
      return i + 1;
    }
  }
  return 0;
}

/// Level that implies an LLVM feature; 0 where none does.
int levelImplying(std::string_view feature) {
  constexpr std::string_view one[] = {"cmov", "cx8", "fxsr", "mmx", "sse", "sse2", "x87", "64bit"};
  constexpr std::string_view two[] = {"cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2", "crc32"};
  constexpr std::string_view three[] = {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"};
  constexpr std::string_view four[] = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "evex512"};
  auto in = [&](auto &list) {
    for (std::string_view word : list) {
      if (word == feature) {
        return true;
      }
    }
    return false;
  };
  return in(one) ? 1 : in(two) ? 2 : in(three) ? 3 : in(four) ? 4 : 0;
}

template <typename Visit> void forEachWord(std::string_view text, Visit &&visit) {
  while (!text.empty()) {
    size_t end = text.find_first_of(", ");
    std::string_view word = text.substr(0, end);
    if (!word.empty()) {
      visit(word);
    }
    text = end == std::string_view::npos ? "" : text.substr(end + 1);
  }
}

} // namespace

std::string heddle::rt::missingFeature(std::string_view wanted, std::string_view host) {
  int hostLevel = 0;
  forEachWord(host, [&](std::string_view word) { hostLevel = std::max(hostLevel, levelOf(word)); });
  std::string missing;
  forEachWord(wanted, [&](std::string_view word) {
    if (!missing.empty() || word[0] == '-') {
      return;
    }
    bool present = false;
    if (int level = levelOf(word)) {
      present = level <= hostLevel;
    } else {
      std::string_view feature = word[0] == '+' ? word.substr(1) : word;
      int implied = levelImplying(feature);
      present = implied != 0 && implied <= hostLevel;
      forEachWord(host, [&](std::string_view other) { present |= other[0] == '+' && other.substr(1) == feature; });
    }
    if (!present) {
      missing = word;
    }
  });
  return missing;
}

const char *heddle_host_features(void) {
  static const std::string text = detect();
  return text.c_str();
}
