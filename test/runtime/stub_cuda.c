/*===- stub_cuda.c - A CUDA driver that writes down what it is asked ---------===*
 *
 * Stands for libcuda.so.1 where there is no GPU. A module's image is text: one line
 * "kernel NAME PARAMETER_BYTES [MAP_BYTES]" for each kernel, or "broken"; what
 * cuTensorMapEncodeTiled was given is a line of its own. Rules of the driver that a
 * launch could break are checked: a context must be current, shared memory past
 * 48 KiB must have been asked for, grids have their limits, a captured stream
 * forbids loading, a kernel's maps lie at a multiple of 64 bytes and are whole.
 * stub_log() is what happened, a line each.
 *
 *===----------------------------------------------------------------------===*/
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { invalidValue = 1, noImage = 200, invalidContext = 201, invalidHandle = 400, notPermitted = 800 };

typedef struct {
  char name[64];
  size_t parameterBytes, mapBytes;
  int sharedAllowed;
} Function;

typedef struct {
  Function functions[8];
  int count;
} Module;

static char text[1 << 16];
static size_t used;
static int initialized, capturing, refusedMap, major = 8, minor = 6, loaded;
static void *current, *stack[8];
static int depth;
static unsigned char lastBlock[4096], lastMap; /* the number of a map is in its 128 bytes */

static void say(const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text + used, sizeof text - used, format, args);
  va_end(args);
  used += n > 0 && used + (size_t)n < sizeof text ? (size_t)n : 0;
}

const char *stub_log(void) { return text; }
const void *stub_block(void) { return lastBlock; }
int stub_loaded(void) { return loaded; }
void stub_reset(void *context, int newMajor, int newMinor, int isCapturing) {
  used = 0;
  text[0] = 0;
  current = context;
  major = newMajor;
  minor = newMinor;
  capturing = isCapturing;
  refusedMap = 0;
  lastMap = 0;
}
/* The n-th map from here on is refused. */
void stub_refuse_map(int n) { refusedMap = n; }

int cuInit(unsigned flags) {
  initialized = 1;
  return flags ? invalidValue : 0;
}
int cuGetErrorString(int code, const char **out) {
  *out = code == noImage ? "invalid image" : code == invalidContext ? "invalid context" : "refused";
  return 0;
}
int cuCtxGetCurrent(void **out) {
  *out = current;
  return initialized ? 0 : 3;
}
int cuCtxGetDevice(int *out) {
  *out = 0;
  return current ? 0 : invalidContext;
}
int cuDeviceGetAttribute(int *out, int attribute, int device) {
  *out = attribute == 75 ? major : minor;
  return device || (attribute != 75 && attribute != 76) ? invalidValue : 0;
}
int cuCtxPushCurrent_v2(void *context) {
  stack[depth++] = current;
  current = context;
  return 0;
}
int cuCtxPopCurrent_v2(void **out) {
  *out = current;
  current = stack[--depth];
  return 0;
}
int cuModuleLoadDataEx(void **out, const void *image, unsigned count, int *options, void **values) {
  if (!current) {
    return invalidContext;
  }
  if (capturing) {
    return notPermitted;
  }
  const char *at = image;
  if (strncmp(at, "broken", 6) == 0) {
    for (unsigned n = 0; n < count; ++n) {
      if (options[n] == 5) {
        strcpy(values[n], "line 1: no such thing");
      }
    }
    return noImage;
  }
  say("load %.6s\n", at);
  Module *m = calloc(1, sizeof *m);
  for (const char *line = strstr(at, "kernel "); line; line = strstr(line + 1, "kernel ")) {
    Function *f = &m->functions[m->count++];
    sscanf(line, "kernel %63s %zu%*[ ]%zu", f->name, &f->parameterBytes, &f->mapBytes);
    f->sharedAllowed = 48 * 1024;
  }
  ++loaded;
  *out = m;
  return 0;
}
int cuModuleUnload(void *module) {
  say("unload\n");
  --loaded;
  free(module);
  return current ? 0 : invalidContext;
}
int cuModuleGetFunction(void **out, void *module, const char *name) {
  Module *m = module;
  for (int n = 0; n < m->count; ++n) {
    if (strcmp(m->functions[n].name, name) == 0) {
      *out = &m->functions[n];
      return 0;
    }
  }
  return 500;
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
  ((Function *)function)->sharedAllowed = value;
  return attribute == 8 && value <= 227 * 1024 ? 0 : invalidValue;
}
int cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *address, const uint64_t *dims,
                           const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave,
                           int swizzle, int promotion, int fill) {
  if ((uintptr_t)map % 64 || rank < 1 || rank > 5 || (refusedMap && --refusedMap == 0)) {
    return invalidValue;
  }
  say("map type %d at %llu dims", type, (unsigned long long)(uintptr_t)address);
  for (uint32_t n = 0; n < rank; ++n) {
    say(" %llu", (unsigned long long)dims[n]);
  }
  say(" strides");
  for (uint32_t n = 0; n + 1 < rank; ++n) {
    say(" %llu", (unsigned long long)strides[n]);
  }
  say(" box");
  for (uint32_t n = 0; n < rank; ++n) {
    say(" %u", box[n]);
  }
  say(" every");
  for (uint32_t n = 0; n < rank; ++n) {
    say(" %u", steps[n]);
  }
  say(" modes %d %d %d %d\n", interleave, swizzle, promotion, fill);
  memset(map, ++lastMap, 128);
  return 0;
}
static int whole(const unsigned char *maps, size_t bytes) {
  for (size_t n = 0; n < bytes; ++n) {
    if (maps[n] != n / 128 + 1 + lastMap - bytes / 128) {
      return 0;
    }
  }
  return (uintptr_t)maps % 64 == 0;
}
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty, unsigned tz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
  Function *f = function;
  if (!current) {
    return invalidContext;
  }
  if (!x || y != 1 || z != 1 || !tx || tx > 1024 || ty != 1 || tz != 1 || (int)shared > f->sharedAllowed || extra) {
    return invalidValue;
  }
  if (f->mapBytes && !whole(parameters[1], f->mapBytes)) {
    return invalidValue;
  }
  memcpy(lastBlock, parameters[0], f->parameterBytes);
  say("launch %s %u x %u, %u shared, stream %llu\n", f->name, x, tx, shared, (unsigned long long)(uintptr_t)stream);
  return 0;
}
