//===- copy_kernel.c - A hand-written kernel for the runtime's tests ------===//
//
// Follows docs/abi.md: out = q, lse = the query's position, for one segment and
// the arguments q, k, v, offset in float. It uses what objects of the compiler
// may use: constants, writable and zeroed data, pointers in data, calls into
// libc and libm, scratch.
//
//===----------------------------------------------------------------------===//
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { superTile = 16, firstRecord = 16, recordSlots = 9, numArgs = 4 };

static const float ones[4] = {1.0f, 1.0f, 1.0f, 1.0f};
static const float twos[4] = {2.0f, 2.0f, 2.0f, 2.0f};
static const float *const tables[2] = {ones, twos};
// Visible outside, so that -fPIC code reaches it through the GOT.
volatile int64_t heddle_test_scale = 1;
static int64_t calls[1000];        // zeroed
static volatile _Float16 half = 1; // converted by calls on a machine without F16C

static const int64_t *record(const int64_t *args, int index) { return args + firstRecord + recordSlots * index; }

// 1, the long way.
__attribute__((noinline)) static float weight(int64_t row) {
  float (*volatile function)(float) = expf; // the address of a function outside
  half = (_Float16)cosf(0.0f * (float)row);
  return tables[heddle_test_scale - 1][row & 3] * function(0.0f * (float)row) * (float)half;
}

void heddle_task(const int64_t *args, int64_t task, void *scratch) {
  int64_t heads = args[1], queries = args[2], tiles = args[3];
  int64_t tile = task % tiles, head = task / tiles % heads, batch = task / tiles / heads;
  const int64_t *q = record(args, 0), *out = record(args, numArgs), *lse = record(args, numArgs + 1);
  const int64_t *offsets = args + firstRecord + recordSlots * (numArgs + 2);
  int64_t offset = ((const int64_t *)offsets[0])[batch * offsets[1]];
  int64_t base = offset - ((offset % superTile) + superTile) % superTile;
  float *buffer = scratch;
  for (int64_t position = base + tile * superTile; position < base + (tile + 1) * superTile; ++position) {
    int64_t row = position - offset, depth = q[4];
    if (row < 0 || row >= queries) {
      continue;
    }
    const float *from = (const float *)q[0] + batch * q[5] + head * q[6] + row * q[7];
    float *to = (float *)out[0] + batch * out[5] + head * out[6] + row * out[7];
    memset(buffer, 0, (size_t)depth * sizeof(float));
    for (int64_t d = 0; d < depth; ++d) {
      buffer[d] = from[d * q[8]] * weight(row);
    }
    for (int64_t d = 0; d < depth; ++d) {
      to[d * out[8]] = buffer[d];
    }
    if (lse[0]) {
      *((float *)lse[0] + batch * lse[5] + head * lse[6] + row * lse[7]) = (float)position;
    }
  }
  __atomic_fetch_add(&calls[0], 1, __ATOMIC_RELAXED);
}
