//===- loader.cpp - Maps a relocatable object into memory -----------------===//
//
// One anonymous mapping holds everything, so that 32-bit displacements always
// reach:
//
//   [ code, stubs | read-only data, GOT | writable data ]
//      RX              R                   RW             each a run of pages
//
// The mapping is filled and relocated while writable, then protected. A stub is
// `jmp *slot(%rip)` through the GOT, for calls that leave the object.
//
//===----------------------------------------------------------------------===//
#include "runtime/src/loader.h"

#include "runtime/src/softfloat.h"

#include <algorithm>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <map>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

using namespace heddle::rt;

namespace {

// Missing from older elf.h.
constexpr uint32_t sectionX86Unwind = 0x70000001;
constexpr uint64_t maxImage = uint64_t(256) << 20;
constexpr uint64_t maxAlign = 4096;

// What generated code may call in libm, with and without the suffix f.
constexpr std::string_view libm[] = {
    "acos",      "acosh",  "asin", "asinh",  "atan", "atan2",     "atanh", "cbrt",      "ceil",   "copysign",
    "cos",       "cosh",   "erf",  "erfc",   "exp",  "exp10",     "exp2",  "expm1",     "fabs",   "fdim",
    "floor",     "fma",    "fmax", "fmin",   "fmod", "frexp",     "hypot", "ldexp",     "lgamma", "log",
    "log10",     "log1p",  "log2", "logb",   "modf", "nearbyint", "pow",   "remainder", "rint",   "round",
    "roundeven", "scalbn", "sin",  "sincos", "sinh", "sqrt",      "tan",   "tanh",      "tgamma", "trunc"};

bool isLibm(std::string_view name) {
  if (std::find(std::begin(libm), std::end(libm), name) != std::end(libm)) {
    return true;
  }
  return name.ends_with('f') &&
         std::find(std::begin(libm), std::end(libm), name.substr(0, name.size() - 1)) != std::end(libm);
}

/// Address of an allowed external function, else null.
void *findExternal(const std::string &name) {
  if (name == "memcpy") {
    return reinterpret_cast<void *>(&std::memcpy);
  }
  if (name == "memset") {
    return reinterpret_cast<void *>(&std::memset);
  }
  if (name == "memmove") {
    return reinterpret_cast<void *>(&std::memmove);
  }
  if (void *address = findSoftFloat(name)) {
    return address;
  }
  if (!isLibm(name)) {
    return nullptr;
  }
  // Not RTLD_DEFAULT alone: a host that was loaded with RTLD_LOCAL does not show its libm there.
  static void *handle = dlopen("libm.so.6", RTLD_LAZY | RTLD_LOCAL);
  void *address = handle ? dlsym(handle, name.c_str()) : nullptr;
  return address ? address : dlsym(RTLD_DEFAULT, name.c_str());
}

std::string relocationName(uint32_t type) {
  switch (type) {
  case R_X86_64_GOT32:
    return "R_X86_64_GOT32";
  case R_X86_64_COPY:
    return "R_X86_64_COPY";
  case R_X86_64_GLOB_DAT:
    return "R_X86_64_GLOB_DAT";
  case R_X86_64_JUMP_SLOT:
    return "R_X86_64_JUMP_SLOT";
  case R_X86_64_RELATIVE:
    return "R_X86_64_RELATIVE";
  case R_X86_64_32:
    return "R_X86_64_32";
  case R_X86_64_32S:
    return "R_X86_64_32S";
  case R_X86_64_16:
    return "R_X86_64_16";
  case R_X86_64_8:
    return "R_X86_64_8";
  case R_X86_64_DTPMOD64:
    return "R_X86_64_DTPMOD64";
  case R_X86_64_TLSGD:
    return "R_X86_64_TLSGD";
  case R_X86_64_TLSLD:
    return "R_X86_64_TLSLD";
  case R_X86_64_GOTTPOFF:
    return "R_X86_64_GOTTPOFF";
  case R_X86_64_TPOFF32:
    return "R_X86_64_TPOFF32";
  case R_X86_64_GOTOFF64:
    return "R_X86_64_GOTOFF64";
  case R_X86_64_GOTPC32:
    return "R_X86_64_GOTPC32";
  case R_X86_64_IRELATIVE:
    return "R_X86_64_IRELATIVE";
  default:
    return "R_X86_64 type " + std::to_string(type);
  }
}

Error malformed(std::string_view what) { return systemError("expected a valid object, but " + std::string(what)); }

enum Zone { Code, ReadOnly, Writable, ZoneCount };

struct Section {
  Elf64_Shdr header{};
  std::string name;
  int zone = -1;       // -1: not mapped
  uint64_t offset = 0; // in the image
};

/// One load: parse, place, fill, relocate.
class Linker {
public:
  explicit Linker(std::string_view bytes) : bytes(bytes), page(uint64_t(sysconf(_SC_PAGESIZE))) {}

  Error readSections();
  Error readSymbols();
  Error collectExternals();
  Error place();
  void fill(uint8_t *image);
  Error relocate(uint8_t *image);
  Error protect(uint8_t *image);
  Error findEntry(std::string_view entry, uint64_t &offset);

  uint64_t imageSize = 0;

private:
  template <typename T> bool read(uint64_t offset, T &out) const {
    if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) {
      return false;
    }
    std::memcpy(&out, bytes.data() + offset, sizeof(T));
    return true;
  }
  bool contains(const Elf64_Shdr &s) const {
    return s.sh_offset <= bytes.size() && s.sh_size <= bytes.size() - s.sh_offset;
  }
  Error readString(const Section &table, uint64_t offset, std::string &out) const;
  Error forEachRelocation(auto &&visit);
  Error symbolAddress(uint32_t index, uint64_t base, bool viaStub, uint64_t &out) const;
  Error relocateOne(uint8_t *image, const Section &target, const Elf64_Rela &rela);

  std::string_view bytes;
  uint64_t page;
  std::vector<Section> sections;
  std::vector<Elf64_Sym> symbols;
  std::vector<std::string> symbolNames;
  std::map<uint32_t, uint64_t> externals; // symbol -> address
  std::map<uint32_t, uint64_t> gotSlots;  // symbol -> offset in the image
  std::map<uint32_t, uint64_t> stubs;     // symbol -> offset in the image
  uint64_t zoneStart[ZoneCount + 1] = {};
};

Error Linker::readString(const Section &table, uint64_t offset, std::string &out) const {
  if (table.header.sh_type != SHT_STRTAB || !contains(table.header) || offset >= table.header.sh_size) {
    return malformed("a name lies outside its string table");
  }
  const char *begin = bytes.data() + table.header.sh_offset + offset;
  const void *end = std::memchr(begin, 0, table.header.sh_size - offset);
  if (!end) {
    return malformed("a name has no end");
  }
  out.assign(begin, static_cast<const char *>(end));
  return nullptr;
}

Error Linker::readSections() {
  Elf64_Ehdr header;
  if (!read(0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_ident[EI_DATA] != ELFDATA2LSB) {
    return malformed("it has no ELF64 header");
  }
  if (header.e_type != ET_REL || header.e_machine != EM_X86_64) {
    return malformed("it is not relocatable code for x86-64");
  }
  if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shnum == 0 || header.e_shstrndx >= header.e_shnum) {
    return malformed("its section table is not usable");
  }
  sections.resize(header.e_shnum);
  for (size_t i = 0; i < sections.size(); ++i) {
    if (header.e_shoff > bytes.size() || !read(header.e_shoff + i * sizeof(Elf64_Shdr), sections[i].header)) {
      return malformed("its section table lies outside the file");
    }
  }
  for (Section &s : sections) {
    if (Error e = readString(sections[header.e_shstrndx], s.header.sh_name, s.name)) {
      return e;
    }
    if (!(s.header.sh_flags & SHF_ALLOC)) {
      continue;
    }
    const Elf64_Shdr &h = s.header;
    if (h.sh_flags & SHF_TLS) {
      return malformed("section " + s.name + " is thread-local");
    }
    if (h.sh_type != SHT_PROGBITS && h.sh_type != SHT_NOBITS && h.sh_type != sectionX86Unwind &&
        h.sh_type != SHT_NOTE) {
      return malformed("section " + s.name + " has type " + std::to_string(h.sh_type) +
                       " (constructors and the like are not allowed)");
    }
    if (h.sh_type != SHT_NOBITS && !contains(h)) {
      return malformed("section " + s.name + " lies outside the file");
    }
    if ((h.sh_addralign & (h.sh_addralign - 1)) != 0 || h.sh_addralign > maxAlign) {
      return malformed("section " + s.name + " has alignment " + std::to_string(h.sh_addralign));
    }
    bool write = h.sh_flags & SHF_WRITE, execute = h.sh_flags & SHF_EXECINSTR;
    if (write && execute) {
      return malformed("section " + s.name + " is writable and executable");
    }
    s.zone = execute ? Code : write ? Writable : ReadOnly;
  }
  return nullptr;
}

Error Linker::readSymbols() {
  const Section *table = nullptr;
  for (const Section &s : sections) {
    if (s.header.sh_type == SHT_SYMTAB) {
      if (table) {
        return malformed("it has two symbol tables");
      }
      table = &s;
    }
  }
  if (!table || !contains(table->header) || table->header.sh_entsize != sizeof(Elf64_Sym) ||
      table->header.sh_size % sizeof(Elf64_Sym) != 0 || table->header.sh_link >= sections.size()) {
    return malformed("its symbol table is not usable");
  }
  symbols.resize(table->header.sh_size / sizeof(Elf64_Sym));
  symbolNames.resize(symbols.size());
  for (size_t i = 0; i < symbols.size(); ++i) {
    if (!read(table->header.sh_offset + i * sizeof(Elf64_Sym), symbols[i])) {
      return malformed("its symbol table lies outside the file");
    }
    if (Error e = readString(sections[table->header.sh_link], symbols[i].st_name, symbolNames[i])) {
      return e;
    }
  }
  return nullptr;
}

Error Linker::forEachRelocation(auto &&visit) {
  for (const Section &s : sections) {
    const Elf64_Shdr &h = s.header;
    if (h.sh_type != SHT_RELA && h.sh_type != SHT_REL) {
      continue;
    }
    if (h.sh_info >= sections.size()) {
      return malformed("relocations " + s.name + " belong to no section");
    }
    const Section &target = sections[h.sh_info];
    if (target.zone < 0) {
      continue;
    }
    if (h.sh_type == SHT_REL || h.sh_entsize != sizeof(Elf64_Rela) || !contains(h) ||
        h.sh_size % sizeof(Elf64_Rela) != 0 || target.header.sh_type == SHT_NOBITS) {
      return malformed("relocations " + s.name + " are not usable");
    }
    for (uint64_t at = 0; at < h.sh_size; at += sizeof(Elf64_Rela)) {
      Elf64_Rela rela;
      if (!read(h.sh_offset + at, rela) || ELF64_R_SYM(rela.r_info) >= symbols.size()) {
        return malformed("a relocation in " + s.name + " has no symbol");
      }
      if (Error e = visit(target, rela)) {
        return e;
      }
    }
  }
  return nullptr;
}

/// Finds which symbols need an address outside, a GOT slot, a stub.
Error Linker::collectExternals() {
  return forEachRelocation([&](const Section &, const Elf64_Rela &rela) -> Error {
    uint32_t index = ELF64_R_SYM(rela.r_info), type = ELF64_R_TYPE(rela.r_info);
    const Elf64_Sym &symbol = symbols[index];
    if (index != 0 && symbol.st_shndx == SHN_UNDEF && !externals.count(index)) {
      void *address = findExternal(symbolNames[index]);
      if (!address) {
        return systemError("expected an object that needs only memcpy, memset, memmove and libm, but it needs '" +
                           symbolNames[index] + "'");
      }
      externals[index] = reinterpret_cast<uint64_t>(address);
    }
    bool external = externals.count(index);
    bool got = type == R_X86_64_GOTPCREL || type == R_X86_64_GOTPCRELX || type == R_X86_64_REX_GOTPCRELX;
    if (got || (external && (type == R_X86_64_PC32 || type == R_X86_64_PLT32))) {
      gotSlots[index] = 0;
    }
    if (external && (type == R_X86_64_PC32 || type == R_X86_64_PLT32)) {
      stubs[index] = 0;
    }
    return nullptr;
  });
}

Error Linker::place() {
  uint64_t at = 0;
  auto reserve = [&](uint64_t size, uint64_t align, uint64_t &offset) {
    offset = (at + align - 1) / align * align;
    if (size > maxImage || offset + size > maxImage) {
      return false;
    }
    at = offset + size;
    return true;
  };
  for (int zone = 0; zone < ZoneCount; ++zone) {
    bool fits = reserve(0, page, zoneStart[zone]);
    for (Section &s : sections) {
      if (s.zone == zone) {
        fits = fits && reserve(s.header.sh_size, std::max<uint64_t>(s.header.sh_addralign, 1), s.offset);
      }
    }
    if (zone != Writable) {
      for (auto &[symbol, offset] : zone == Code ? stubs : gotSlots) {
        fits = fits && reserve(8, 8, offset);
      }
    }
    if (!fits) {
      return malformed("it is larger than " + std::to_string(maxImage) + " bytes");
    }
  }
  reserve(0, page, zoneStart[ZoneCount]);
  imageSize = std::max(zoneStart[ZoneCount], page);
  return nullptr;
}

void Linker::fill(uint8_t *image) {
  for (const Section &s : sections) {
    if (s.zone >= 0 && s.header.sh_type != SHT_NOBITS && s.header.sh_size > 0) {
      std::memcpy(image + s.offset, bytes.data() + s.header.sh_offset, s.header.sh_size);
    }
  }
  for (auto [symbol, offset] : stubs) {
    // jmp *slot(%rip); int3; int3
    int32_t displacement = int32_t(int64_t(gotSlots.at(symbol)) - int64_t(offset + 6));
    uint8_t code[8] = {0xff, 0x25, 0, 0, 0, 0, 0xcc, 0xcc};
    std::memcpy(code + 2, &displacement, 4);
    std::memcpy(image + offset, code, sizeof code);
  }
}

/// Address of a symbol, `base` being the image's.
Error Linker::symbolAddress(uint32_t index, uint64_t base, bool viaStub, uint64_t &out) const {
  const Elf64_Sym &symbol = symbols[index];
  unsigned type = ELF64_ST_TYPE(symbol.st_info);
  if (type == STT_TLS || type == STT_GNU_IFUNC) {
    return malformed("symbol '" + symbolNames[index] + "' is thread-local or indirect");
  }
  if (index == 0) {
    out = 0;
    return nullptr;
  }
  if (auto it = externals.find(index); it != externals.end()) {
    out = viaStub ? base + stubs.at(index) : it->second;
    return nullptr;
  }
  if (symbol.st_shndx == SHN_ABS) {
    out = symbol.st_value;
    return nullptr;
  }
  if (symbol.st_shndx >= sections.size()) {
    return malformed("symbol '" + symbolNames[index] + "' is common or in no section");
  }
  const Section &s = sections[symbol.st_shndx];
  if (s.zone < 0 || symbol.st_value > s.header.sh_size) {
    return malformed("symbol '" + symbolNames[index] + "' lies outside the mapped sections");
  }
  out = base + s.offset + symbol.st_value;
  return nullptr;
}

Error Linker::relocateOne(uint8_t *image, const Section &target, const Elf64_Rela &rela) {
  uint32_t index = ELF64_R_SYM(rela.r_info), type = ELF64_R_TYPE(rela.r_info);
  uint64_t base = reinterpret_cast<uint64_t>(image);
  bool wide = type == R_X86_64_64 || type == R_X86_64_PC64;
  bool got = type == R_X86_64_GOTPCREL || type == R_X86_64_GOTPCRELX || type == R_X86_64_REX_GOTPCRELX;
  if (type == R_X86_64_NONE) {
    return nullptr;
  }
  if (!wide && !got && type != R_X86_64_PC32 && type != R_X86_64_PLT32) {
    return systemError("expected position-independent code, but the object has a relocation " + relocationName(type) +
                       " in " + target.name);
  }
  uint64_t size = wide ? 8 : 4;
  if (rela.r_offset > target.header.sh_size || target.header.sh_size - rela.r_offset < size) {
    return malformed("a relocation lies outside " + target.name);
  }
  uint64_t where = target.offset + rela.r_offset, value = 0;
  if (Error e = symbolAddress(index, base, !wide && !got, value)) {
    return e;
  }
  if (got) {
    uint64_t slot = gotSlots.at(index);
    std::memcpy(image + slot, &value, 8);
    value = base + slot;
  }
  value += uint64_t(rela.r_addend); // S + A, wrapping as the ABI says
  if (type != R_X86_64_64) {
    value -= base + where; // - P
  }
  if (!wide && int64_t(value) != int64_t(int32_t(uint32_t(value)))) {
    return malformed("a relocation in " + target.name + " does not reach '" + symbolNames[index] + "'");
  }
  std::memcpy(image + where, &value, size);
  return nullptr;
}

Error Linker::relocate(uint8_t *image) {
  for (auto [symbol, offset] : stubs) {
    uint64_t address = externals.at(symbol);
    std::memcpy(image + gotSlots.at(symbol), &address, 8);
  }
  return forEachRelocation(
      [&](const Section &target, const Elf64_Rela &rela) { return relocateOne(image, target, rela); });
}

Error Linker::protect(uint8_t *image) {
  static constexpr int protection[ZoneCount] = {PROT_READ | PROT_EXEC, PROT_READ, PROT_READ | PROT_WRITE};
  for (int zone = 0; zone < ZoneCount; ++zone) {
    uint64_t size = zoneStart[zone + 1] - zoneStart[zone];
    if (size > 0 && mprotect(image + zoneStart[zone], size, protection[zone]) != 0) {
      return errnoError("expected to protect the kernel's pages (may this process map code?), but mprotect failed",
                        errno);
    }
  }
  return nullptr;
}

Error Linker::findEntry(std::string_view entry, uint64_t &offset) {
  for (size_t i = 1; i < symbols.size(); ++i) {
    const Elf64_Sym &symbol = symbols[i];
    if (symbolNames[i] != entry || ELF64_ST_BIND(symbol.st_info) == STB_LOCAL || symbol.st_shndx >= sections.size()) {
      continue;
    }
    const Section &s = sections[symbol.st_shndx];
    if (s.zone == Code && ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_value < s.header.sh_size) {
      offset = s.offset + symbol.st_value;
      return nullptr;
    }
  }
  return malformed("it exports no function '" + std::string(entry) + "'");
}

} // namespace

LoadedObject::~LoadedObject() {
  if (base) {
    munmap(base, size);
  }
}

Error LoadedObject::load(std::string_view bytes, std::string_view entry) {
  Linker linker(bytes);
  if (Error e = linker.readSections()) {
    return e;
  }
  if (Error e = linker.readSymbols()) {
    return e;
  }
  if (Error e = linker.collectExternals()) {
    return e;
  }
  if (Error e = linker.place()) {
    return e;
  }
  uint64_t offset = 0;
  if (Error e = linker.findEntry(entry, offset)) {
    return e;
  }
  void *mapping = mmap(nullptr, linker.imageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) {
    return errnoError("expected " + std::to_string(linker.imageSize) + " bytes for a kernel's code, but mmap failed",
                      errno);
  }
  base = mapping;
  size = linker.imageSize;
  auto *image = static_cast<uint8_t *>(base);
  linker.fill(image);
  if (Error e = linker.relocate(image)) {
    return e;
  }
  if (Error e = linker.protect(image)) {
    return e;
  }
  entryPoint = image + offset;
  return nullptr;
}
