/*===- SanitizerDefaults.c - Options of programs in a sanitizer build ------===*
 *
 * Debian's MLIR is not instrumented: a vector that crosses its border looks
 * overflown to the container check, and memory that our side's copy of an arena
 * allocator marks is used by MLIR's copy. These two are off, all else stays on.
 *
 *===----------------------------------------------------------------------===*/

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_container_overflow=0:allow_user_poisoning=0"; }
