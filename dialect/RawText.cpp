//===- RawText.cpp - Reading a parenthesised clause as raw text -----------===//
//
// `where(causal & ~window(3, 0))` has characters (`&`, `~`) that MLIR's lexer
// reports as errors, and MLIR offers an operation's parser no way to take text
// unlexed, as it does for attributes. So the clause is found in the source
// buffer: when the parser stands at `(`, only that token has been lexed. The
// text up to the matching `)` is blanked, `(` is consumed, which makes the lexer
// step over the blanks to `)`, and the text is put back at once.
//
// Source buffers may be mapped read-only (files, string literals), so they are not
// written directly but by the kernel: process_vm_writev reports a page that is not
// writable, and /proc/self/mem writes to private pages whatever their protection.
// Where neither is allowed, nothing is changed and it is an error.
//
//===----------------------------------------------------------------------===//
#include "dialect/RawText.h"

#include "llvm/ADT/ScopeExit.h"

#include <mutex>
#include <string>

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

using namespace mlir;
using llvm::StringRef;

/// Overwrites `size` bytes at `to` in this process. False where refused, never a fault.
static bool overwrite(const char *to, const char *from, size_t size) {
  // Writable pages (strings on the heap) need no file.
  iovec source{const_cast<char *>(from), size}, target{const_cast<char *>(to), size};
  if (process_vm_writev(getpid(), &source, 1, &target, 1, 0) == static_cast<ssize_t>(size)) {
    return true;
  }
  int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    return false;
  }
  llvm::scope_exit close([fd] { ::close(fd); });
  while (size > 0) {
    ssize_t done = pwrite(fd, from, size, static_cast<off_t>(reinterpret_cast<uintptr_t>(to)));
    if (done <= 0) {
      return false;
    }
    to += done;
    from += done;
    size -= static_cast<size_t>(done);
  }
  return true;
}

/// The `)` that matches the `(` before `p`, or null at the end of the text, a NUL
/// byte. (In a pattern `//` is a division, not a comment.)
static const char *findClose(const char *p) {
  for (int64_t depth = 0; *p != 0; ++p) {
    if (*p == '(') {
      ++depth;
    } else if (*p == ')' && depth-- == 0) {
      return p;
    }
  }
  return nullptr;
}

ParseResult heddle::attn::parseRawParenthesized(OpAsmParser &parser, StringRef &text) {
  SMLoc loc = parser.getCurrentLocation();
  const char *open = loc.getPointer();
  if (*open != '(') {
    return parser.parseLParen(); // Its error is the right one.
  }
  auto unclosed = [&]() -> ParseResult {
    return parser.emitError(loc, "expected ')' to match this '(', but got the end of the file");
  };
  const char *close = findClose(open + 1);
  if (!close) {
    return unclosed();
  }
  text = StringRef(open + 1, close - open - 1);
  std::string kept = text.str(), blank(text.size(), ' ');

  // One buffer may be parsed by several threads.
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  if (!overwrite(text.data(), blank.data(), blank.size())) {
    overwrite(text.data(), kept.data(), kept.size());
    return parser.emitError(loc, "expected to read this text through /proc/self/mem, but it is not writable; "
                                 "use the generic form");
  }
  ParseResult left = parser.parseLParen();
  if (!overwrite(text.data(), kept.data(), kept.size()) || failed(left)) {
    return failure();
  }
  // A buffer may end before the text around it does (-split-input-file).
  if (parser.getCurrentLocation().getPointer() != close) {
    return unclosed();
  }
  return parser.parseRParen();
}
