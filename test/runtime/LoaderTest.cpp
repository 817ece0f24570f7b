//===- LoaderTest.cpp - The object loader against damaged objects ---------===//
//
// A real object loads and runs; tens of thousands of damaged ones are refused
// or load, and never crash the process (run under AddressSanitizer, also never
// read past the end).
//
//===----------------------------------------------------------------------===//
#include "test/runtime/Support.h"

#include "runtime/src/loader.h"

#include <cstring>
#include <elf.h>
#include <fstream>
#include <random>
#include <sstream>

using namespace heddle::rt;
using namespace heddle::rt::test;

TEST(Loader, LoadsARealObject) {
  LoadedObject object;
  Error e = object.load(copyObject(), "heddle_task");
  ASSERT_FALSE(e) << e->message;
  EXPECT_NE(object.entry(), nullptr);
}

TEST(Loader, NoPageIsWritableAndExecutable) {
  LoadedObject object;
  ASSERT_FALSE(object.load(copyObject(), "heddle_task"));
  auto entry = reinterpret_cast<uintptr_t>(object.entry());
  std::ifstream maps("/proc/self/maps");
  bool found = false;
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin, end;
    char dash, permissions[5] = {};
    std::istringstream in(line);
    in >> std::hex >> begin >> dash >> end >> std::ws;
    in.read(permissions, 4);
    if (begin <= entry && entry < end) {
      EXPECT_STREQ(permissions, "r-xp");
      found = true;
    }
  }
  EXPECT_TRUE(found);
}

TEST(Loader, UnmapsOnRelease) {
  uintptr_t entry;
  {
    LoadedObject object;
    ASSERT_FALSE(object.load(copyObject(), "heddle_task"));
    entry = reinterpret_cast<uintptr_t>(object.entry());
  }
  // A second object may land at the same place, so look while nothing is loaded.
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin, end;
    char dash;
    std::istringstream in(line);
    in >> std::hex >> begin >> dash >> end;
    EXPECT_FALSE(begin <= entry && entry < end) << line;
  }
}

TEST(Loader, SaysWhatIsMissing) {
  LoadedObject object;
  Error e = object.load(copyObject(), "other");
  ASSERT_TRUE(e);
  EXPECT_EQ(e->message, "expected a valid object, but it exports no function 'other'");
}

TEST(Loader, RefusesOtherSymbols) {
  std::string object = copyObject();
  size_t at = object.find(std::string("\0expf\0", 6));
  ASSERT_NE(at, std::string::npos);
  std::memcpy(object.data() + at + 1, "exit", 4);
  LoadedObject loaded;
  Error e = loaded.load(object, "heddle_task");
  ASSERT_TRUE(e);
  EXPECT_NE(e->message.find("but it needs 'exit'"), std::string::npos) << e->message;
}

TEST(Loader, RefusesOtherRelocationsByName) {
  std::string object = copyObject();
  Elf64_Ehdr header;
  std::memcpy(&header, object.data(), sizeof header);
  int changed = 0;
  for (int s = 0; s < header.e_shnum; ++s) {
    Elf64_Shdr section;
    std::memcpy(&section, object.data() + header.e_shoff + size_t(s) * sizeof section, sizeof section);
    for (uint64_t at = 0; section.sh_type == SHT_RELA && at < section.sh_size; at += sizeof(Elf64_Rela)) {
      char *where = object.data() + section.sh_offset + at;
      Elf64_Rela rela;
      std::memcpy(&rela, where, sizeof rela);
      if (ELF64_R_TYPE(rela.r_info) == R_X86_64_PC32) {
        rela.r_info = ELF64_R_INFO(ELF64_R_SYM(rela.r_info), R_X86_64_32S);
        std::memcpy(where, &rela, sizeof rela);
        ++changed;
      }
    }
  }
  ASSERT_GT(changed, 0);
  LoadedObject loaded;
  Error e = loaded.load(object, "heddle_task");
  ASSERT_TRUE(e);
  EXPECT_NE(e->message.find("has a relocation R_X86_64_32S in ."), std::string::npos) << e->message;
}

TEST(Loader, EveryTruncationIsAnError) {
  const std::string &object = copyObject();
  for (size_t length = 0; length < object.size(); ++length) {
    LoadedObject loaded;
    EXPECT_TRUE(loaded.load(std::string(object, 0, length), "heddle_task")) << length;
  }
}

TEST(Loader, MutationsNeverCrash) {
  const std::string &object = copyObject();
  Elf64_Ehdr header;
  std::memcpy(&header, object.data(), sizeof header);
  std::mt19937 random(3);
  int loaded = 0, refused = 0;
  for (int round = 0; round < 60000; ++round) {
    std::string mutant = object;
    for (unsigned i = 0; i <= random() % 4; ++i) {
      // Anywhere, in the header, in the section table, in the symbols and relocations (after the code).
      size_t begin = 0, end = mutant.size();
      switch (random() % 4) {
      case 0:
        break;
      case 1:
        end = sizeof header;
        break;
      case 2:
        begin = header.e_shoff;
        break;
      default:
        begin = end / 4;
        break;
      }
      size_t at = begin + random() % (end - begin);
      static constexpr uint64_t words[] = {0,     1, 0xff, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, ~uint64_t(0),
                                           0x1000};
      size_t size = std::min<size_t>(size_t(1) << random() % 4, mutant.size() - at);
      uint64_t word = random() % 2 ? words[random() % 8] : uint64_t(random()) << 32 | random();
      std::memcpy(mutant.data() + at, &word, size);
    }
    if (random() % 8 == 0) {
      mutant.resize(random() % mutant.size());
    }
    // A copy of its own size, so that a sanitizer sees a read past the end.
    std::vector<char> exact(mutant.begin(), mutant.end());
    LoadedObject candidate;
    Error e = candidate.load({exact.data(), exact.size()}, "heddle_task");
    (e ? refused : loaded) += 1;
  }
  EXPECT_GT(refused, 1000); // the mutations bite
  EXPECT_GT(loaded, 1000);  // and do not only break the magic
}
