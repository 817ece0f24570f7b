//===- LinkObjects.cpp - Several relocatable objects as one ---------------===//
//
// Sections are not merged, only listed together, since whoever loads the object
// places each of them anyway:
//
//   header | sections' bytes | relocations | .symtab | .strtab | section table
//
// So all there is to do is to number sections and symbols anew.
//
//===----------------------------------------------------------------------===//

#include "codegen/x86/LinkObjects.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/BinaryFormat/ELF.h"

#include <cstring>
#include <optional>
#include <string>
#include <vector>

using namespace llvm;
using namespace llvm::ELF;

namespace heddle {

namespace {
template <typename T> bool readAt(StringRef bytes, uint64_t offset, T &value) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) {
    return false;
  }
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return true;
}

template <typename T> void appendTo(SmallVectorImpl<char> &out, const T &value) {
  const char *bytes = reinterpret_cast<const char *>(&value);
  out.append(bytes, bytes + sizeof(T));
}

/// One object, read.
struct Object {
  StringRef bytes;
  std::vector<Elf64_Shdr> sections;
  std::vector<StringRef> sectionNames;
  std::vector<Elf64_Sym> symbols;
  std::vector<StringRef> symbolNames;
  std::vector<uint16_t> newSection; ///< number in the result; 0: left out
  std::vector<uint32_t> newSymbol;

  bool read();
  std::optional<StringRef> contents(const Elf64_Shdr &s) const {
    if (s.sh_type == SHT_NOBITS) {
      return StringRef();
    }
    bool inside = s.sh_offset <= bytes.size() && s.sh_size <= bytes.size() - s.sh_offset;
    return inside ? std::optional(bytes.substr(s.sh_offset, s.sh_size)) : std::nullopt;
  }
};

bool nameAt(StringRef table, uint64_t offset, StringRef &name) {
  if (offset >= table.size()) {
    return false;
  }
  name = table.drop_front(offset).take_until([](char c) { return c == 0; });
  return true;
}

bool Object::read() {
  Elf64_Ehdr header;
  if (!readAt(bytes, 0, header) || !header.checkMagic() || header.getFileClass() != ELFCLASS64 ||
      header.e_type != ET_REL || header.e_shnum == 0 || header.e_shstrndx >= header.e_shnum) {
    return false;
  }
  sections.resize(header.e_shnum);
  for (auto [n, s] : enumerate(sections)) {
    if (!readAt(bytes, header.e_shoff + n * sizeof(Elf64_Shdr), s) || !contents(s)) {
      return false;
    }
  }
  StringRef names = *contents(sections[header.e_shstrndx]);
  sectionNames.resize(sections.size());
  for (auto [name, s] : zip(sectionNames, sections)) {
    if (!nameAt(names, s.sh_name, name)) {
      return false;
    }
  }
  for (const Elf64_Shdr &s : sections) {
    if (s.sh_type != SHT_SYMTAB) {
      continue;
    }
    if (s.sh_link >= sections.size()) {
      return false;
    }
    symbols.resize(s.sh_size / sizeof(Elf64_Sym));
    symbolNames.resize(symbols.size());
    StringRef table = *contents(sections[s.sh_link]);
    for (size_t n = 0; n < symbols.size(); ++n) {
      if (!readAt(bytes, s.sh_offset + n * sizeof(Elf64_Sym), symbols[n]) ||
          !nameAt(table, symbols[n].st_name, symbolNames[n])) {
        return false;
      }
    }
  }
  newSection.assign(sections.size(), 0);
  newSymbol.assign(symbols.size(), 0);
  return true;
}

/// The object that is written.
class Joined {
public:
  explicit Joined(StringRef entry) : entry(entry), names(1, '\0'), sections(1), contents(1), symbols(1) {
    Elf64_Shdr note{}; // the stack need not be executable
    note.sh_type = SHT_PROGBITS;
    note.sh_addralign = 1;
    add(note, ".note.GNU-stack", "");
  }

  void addSections(Object &o);
  bool addLocals(Object &o);
  bool addUndefined(Object &o);
  bool addRelocations(const Object &o);
  void write(SmallVectorImpl<char> &out);

private:
  uint32_t addName(StringRef name) {
    uint32_t at = uint32_t(names.size());
    names += name;
    names += '\0';
    return at;
  }
  uint16_t add(Elf64_Shdr header, StringRef name, StringRef bytes) {
    header.sh_name = addName(name);
    sections.push_back(header);
    contents.push_back(bytes.str());
    return uint16_t(sections.size() - 1);
  }
  uint32_t add(Elf64_Sym symbol, StringRef name, uint16_t section) {
    symbol.st_name = addName(name);
    symbol.st_shndx = section;
    symbols.push_back(symbol);
    return uint32_t(symbols.size() - 1);
  }

  StringRef entry;
  std::string names;
  std::vector<Elf64_Shdr> sections;
  std::vector<std::string> contents;
  std::vector<Elf64_Sym> symbols;
  StringMap<uint32_t> exported, undefined;
  uint32_t firstGlobal = 0;
};

/// What is part of the program.
void Joined::addSections(Object &o) {
  for (auto [n, s] : enumerate(o.sections)) {
    if (s.sh_flags & SHF_ALLOC) {
      o.newSection[n] = add(s, o.sectionNames[n], *o.contents(s));
    }
  }
}

/// Symbols that the object defines, all of them local now but the entry.
bool Joined::addLocals(Object &o) {
  for (auto [n, s] : enumerate(o.symbols)) {
    bool inSection = s.st_shndx != SHN_UNDEF && s.st_shndx < o.sections.size();
    if (n == 0 || !inSection || o.newSection[s.st_shndx] == 0 || o.symbolNames[n] == entry) {
      continue;
    }
    Elf64_Sym symbol = s;
    symbol.setBindingAndType(STB_LOCAL, s.getType());
    o.newSymbol[n] = add(symbol, o.symbolNames[n], o.newSection[s.st_shndx]);
    if (s.getBinding() != STB_LOCAL && !exported.try_emplace(o.symbolNames[n], o.newSymbol[n]).second) {
      return false;
    }
  }
  return true;
}

/// The entry, and symbols that the object does not define: those of others, or global ones.
bool Joined::addUndefined(Object &o) {
  if (firstGlobal == 0) {
    firstGlobal = uint32_t(symbols.size());
  }
  for (auto [n, s] : enumerate(o.symbols)) {
    StringRef name = o.symbolNames[n];
    if (n == 0 || o.newSymbol[n] != 0) {
      continue;
    }
    if (s.st_shndx != SHN_UNDEF) {
      if (name != entry || s.st_shndx >= o.sections.size()) {
        continue; // a file's name, or in a section that is left out
      }
      o.newSymbol[n] = add(s, name, o.newSection[s.st_shndx]);
      if (!exported.try_emplace(name, o.newSymbol[n]).second) {
        return false;
      }
      continue;
    }
    if (auto found = exported.find(name); found != exported.end()) {
      o.newSymbol[n] = found->second;
      continue;
    }
    uint32_t &known = undefined[name];
    if (known == 0) {
      known = add(s, name, SHN_UNDEF);
    }
    o.newSymbol[n] = known;
  }
  return true;
}

bool Joined::addRelocations(const Object &o) {
  for (auto [n, s] : enumerate(o.sections)) {
    if (s.sh_type != SHT_RELA || s.sh_info >= o.sections.size() || o.newSection[s.sh_info] == 0) {
      continue;
    }
    StringRef bytes = *o.contents(s);
    SmallVector<char> relocations;
    for (uint64_t at = 0; at < bytes.size(); at += sizeof(Elf64_Rela)) {
      Elf64_Rela rela;
      if (!readAt(bytes, at, rela) || rela.getSymbol() >= o.symbols.size()) {
        return false;
      }
      uint32_t symbol = o.newSymbol[rela.getSymbol()];
      if (symbol == 0 && rela.getSymbol() != 0) {
        return false;
      }
      rela.setSymbol(symbol);
      appendTo(relocations, rela);
    }
    Elf64_Shdr header = s;
    header.sh_info = o.newSection[s.sh_info];
    add(header, o.sectionNames[n], StringRef(relocations.data(), relocations.size()));
  }
  return true;
}

void Joined::write(SmallVectorImpl<char> &out) {
  SmallVector<char> table;
  for (const Elf64_Sym &s : symbols) {
    appendTo(table, s);
  }
  Elf64_Shdr header{};
  header.sh_type = SHT_SYMTAB;
  header.sh_entsize = sizeof(Elf64_Sym);
  header.sh_addralign = 8;
  header.sh_info = firstGlobal;
  uint16_t symtab = add(header, ".symtab", StringRef(table.data(), table.size()));
  header = {};
  header.sh_type = SHT_STRTAB;
  header.sh_addralign = 1;
  uint16_t strtab = add(header, ".strtab", "");
  contents[strtab] = names;
  sections[symtab].sh_link = strtab;

  size_t begin = out.size();
  auto align = [&](uint64_t to) { out.append((to - (out.size() - begin) % to) % to, '\0'); };
  out.append(sizeof(Elf64_Ehdr), '\0');
  for (auto [n, s] : enumerate(sections)) {
    if (n == 0) {
      continue;
    }
    align(std::max<uint64_t>(s.sh_addralign, 1));
    s.sh_offset = out.size() - begin;
    out.append(contents[n].begin(), contents[n].end());
    if (s.sh_type != SHT_NOBITS) {
      s.sh_size = contents[n].size();
    }
    if (s.sh_type == SHT_RELA) {
      s.sh_link = symtab;
    }
  }
  align(8);
  Elf64_Ehdr file{};
  std::memcpy(file.e_ident, ElfMagic, 4);
  file.e_ident[EI_CLASS] = ELFCLASS64;
  file.e_ident[EI_DATA] = ELFDATA2LSB;
  file.e_ident[EI_VERSION] = EV_CURRENT;
  file.e_type = ET_REL;
  file.e_machine = EM_X86_64;
  file.e_version = EV_CURRENT;
  file.e_shoff = out.size() - begin;
  file.e_ehsize = sizeof(Elf64_Ehdr);
  file.e_shentsize = sizeof(Elf64_Shdr);
  file.e_shnum = uint16_t(sections.size());
  file.e_shstrndx = strtab;
  for (const Elf64_Shdr &s : sections) {
    appendTo(out, s);
  }
  std::memcpy(out.data() + begin, &file, sizeof file);
}
} // namespace

bool linkObjects(ArrayRef<StringRef> objects, StringRef entry, SmallVectorImpl<char> &out) {
  std::vector<Object> all(objects.size());
  Joined joined(entry);
  for (auto [o, bytes] : zip(all, objects)) {
    o.bytes = bytes;
    if (!o.read()) {
      return false;
    }
    joined.addSections(o);
  }
  auto each = [&](auto &&step) { return all_of(all, step); };
  if (!each([&](Object &o) { return joined.addLocals(o); }) ||
      !each([&](Object &o) { return joined.addUndefined(o); }) ||
      !each([&](Object &o) { return joined.addRelocations(o); })) {
    return false;
  }
  joined.write(out);
  return true;
}

} // namespace heddle
