/*===- SanitizerDefaults.c - Options of programs in a sanitizer build ------===*
 *
 * Debian's MLIR is not instrumented, so a vector that crosses its border looks
 * overflown to the container check; everything else stays on.
 *
 *===----------------------------------------------------------------------===*/

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_container_overflow=0"; }
