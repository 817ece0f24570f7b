// What this machine can do, by hand: a plain flash-attention forward in f32, the
// peak of its multiply-add units, and the rate at which it reads memory.
//
// Built into a shared object when the bench runs (clang -O3 -march=native) and
// called in the bench's own process, so that every ratio comes from one run.
//
// The forward keeps queries on lanes: a block of 3 vectors of queries is packed
// once as Qt[d][query]; S^T = K Qt and O^T = V^T P are both products of 8 scalar
// rows with 3 vectors, read in place. Softmax then runs down the columns.
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
#define LANES 16
#else
#define LANES 8
#endif
#define VECTORS (LANES == 16 ? 3 : 2)
#define ROWS (LANES == 16 ? 8 : 4)
#define QUERIES (LANES * VECTORS) // queries of a block
#define KEYS 192                  // keys of a chunk, a multiple of ROWS

typedef float vf __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4), aligned(4)));
#define INLINE static inline __attribute__((always_inline))

INLINE vf splat(float x) { return (vf){0} + x; }
INLINE vf larger(vf a, vf b) { return __builtin_elementwise_max(a, b); }
INLINE vf fma3(vf a, vf b, vf c) { return __builtin_elementwise_fma(a, b, c); }

// 2^x for x <= 0: n = round(x), a polynomial for 2^(x - n), n into the exponent.
INLINE vf power2(vf x) {
  x = larger(x, splat(-126.0f));
  vf n = __builtin_elementwise_roundeven(x), f = x - n;
  vf p = splat(1.3534167e-3f);
  p = fma3(p, f, splat(9.6705496e-3f));
  p = fma3(p, f, splat(5.5503324e-2f));
  p = fma3(p, f, splat(2.4022150e-1f));
  p = fma3(p, f, splat(6.9314718e-1f));
  p = fma3(p, f, splat(1.0f));
  vi e = (__builtin_convertvector(n, vi) + 127) << 23;
  vf scale;
  memcpy(&scale, &e, sizeof scale);
  return p * scale;
}

// c[r][:] (+)= sum_k a[r * row + k * step] * b[k * QUERIES + :]
INLINE void product(const float *a, long row, long step, const float *b, float *c, int depth, int accumulate) {
  vf s[ROWS][VECTORS];
#pragma clang loop unroll(full)
  for (int r = 0; r < ROWS; ++r) {
#pragma clang loop unroll(full)
    for (int v = 0; v < VECTORS; ++v) {
      s[r][v] = accumulate ? *(const vf *)(c + r * QUERIES + v * LANES) : splat(0);
    }
  }
  for (int k = 0; k < depth; ++k) {
    vf x[VECTORS];
#pragma clang loop unroll(full)
    for (int v = 0; v < VECTORS; ++v) {
      x[v] = *(const vf *)(b + (long)k * QUERIES + v * LANES);
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < ROWS; ++r) {
      vf w = splat(a[r * row + k * step]);
#pragma clang loop unroll(full)
      for (int v = 0; v < VECTORS; ++v) {
        s[r][v] = fma3(w, x[v], s[r][v]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < ROWS; ++r) {
#pragma clang loop unroll(full)
    for (int v = 0; v < VECTORS; ++v) {
      *(vf *)(c + r * QUERIES + v * LANES) = s[r][v];
    }
  }
}

typedef struct {
  float q[256 * QUERIES], o[256 * QUERIES], s[KEYS * QUERIES], m[QUERIES], l[QUERIES];
} __attribute__((aligned(64))) Scratch;

// One block of queries of one head; n is a multiple of ROWS.
INLINE void block(const float *q, const float *k, const float *v, float *o, long n, int first, const int D,
                  Scratch *t) {
  int rows = n - first < QUERIES ? (int)(n - first) : QUERIES;
  float scale = 1.44269504f / sqrtf((float)D);
  for (int d = 0; d < D; ++d) {
    for (int i = 0; i < QUERIES; ++i) {
      t->q[d * QUERIES + i] = i < rows ? q[(long)(first + i) * D + d] * scale : 0;
    }
  }
  memset(t->o, 0, sizeof(float) * D * QUERIES);
  for (int i = 0; i < QUERIES; ++i) {
    t->m[i] = -1e30f, t->l[i] = 0;
  }
  for (long j0 = 0; j0 < n; j0 += KEYS) {
    int keys = n - j0 < KEYS ? (int)(n - j0) : KEYS;
    // S^T = K Q^T
    for (int r = 0; r < keys; r += ROWS) {
      product(k + (j0 + r) * D, D, 1, t->q, t->s + (long)r * QUERIES, D, 0);
    }
    // m' = max(m, max_j s), l' = l 2^(m - m') + sum_j 2^(s - m')
    vf m[VECTORS], l[VECTORS], a[VECTORS];
    for (int x = 0; x < VECTORS; ++x) {
      vf old = *(vf *)(t->m + x * LANES), top = old;
      for (int r = 0; r < keys; ++r) {
        top = larger(top, *(vf *)(t->s + (long)r * QUERIES + x * LANES));
      }
      m[x] = top, a[x] = power2(old - top), l[x] = *(vf *)(t->l + x * LANES) * a[x];
      *(vf *)(t->m + x * LANES) = top;
    }
    for (int r = 0; r < keys; ++r) {
#pragma clang loop unroll(full)
      for (int x = 0; x < VECTORS; ++x) {
        vf *s = (vf *)(t->s + (long)r * QUERIES + x * LANES);
        vf p = power2(*s - m[x]);
        *s = p, l[x] += p;
      }
    }
    for (int x = 0; x < VECTORS; ++x) {
      *(vf *)(t->l + x * LANES) = l[x];
    }
    // O^T = O^T 2^(m - m') + V^T P
    if (j0) {
      for (int d = 0; d < D; ++d) {
#pragma clang loop unroll(full)
        for (int x = 0; x < VECTORS; ++x) {
          *(vf *)(t->o + d * QUERIES + x * LANES) *= a[x];
        }
      }
    }
    for (int d = 0; d < D; d += ROWS) {
      product(v + j0 * D + d, 1, D, t->s, t->o + (long)d * QUERIES, keys, 1);
    }
  }
  for (int i = 0; i < rows; ++i) {
    for (int d = 0; d < D; ++d) {
      o[(long)(first + i) * D + d] = t->o[d * QUERIES + i] / t->l[i];
    }
  }
}

static void block64(const float *q, const float *k, const float *v, float *o, long n, int i, Scratch *t) {
  block(q, k, v, o, n, i, 64, t);
}
static void block128(const float *q, const float *k, const float *v, float *o, long n, int i, Scratch *t) {
  block(q, k, v, o, n, i, 128, t);
}

typedef struct {
  const float *q, *k, *v;
  float *o;
  long heads, n, d;
  _Atomic long next;
} Job;

static void *work(void *arg) {
  Job *job = arg;
  Scratch *t = aligned_alloc(64, sizeof(Scratch));
  long blocks = (job->n + QUERIES - 1) / QUERIES;
  for (;;) {
    long task = atomic_fetch_add(&job->next, 1);
    if (task >= job->heads * blocks) {
      break;
    }
    long at = task / blocks * job->n * job->d;
    int first = (int)(task % blocks * QUERIES);
    (job->d == 64 ? block64 : block128)(job->q + at, job->k + at, job->v + at, job->o + at, job->n, first, t);
  }
  free(t);
  return 0;
}

// q, k, v, o: contiguous [heads, n, d]; d is 64 or 128, n a multiple of 8. Returns 0, or -1 for sizes it does not do.
int limit_attention(const float *q, const float *k, const float *v, float *o, long heads, long n, long d, int threads) {
  if ((d != 64 && d != 128) || n % ROWS || threads < 1 || threads > 256) {
    return -1;
  }
  Job job = {q, k, v, o, heads, n, d, 0};
  pthread_t others[256];
  for (int t = 1; t < threads; ++t) {
    pthread_create(&others[t], 0, work, &job);
  }
  work(&job);
  for (int t = 1; t < threads; ++t) {
    pthread_join(others[t], 0);
  }
  return 0;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static volatile float sink;

static void *multiply_adds(void *arg) {
  enum { CHAINS = 24 };
  vf s[CHAINS], x = splat(0.999f), y = splat(1e-6f);
  for (int c = 0; c < CHAINS; ++c) {
    s[c] = splat((float)c);
  }
  for (long r = *(long *)arg; r > 0; --r) {
#pragma clang loop unroll(full)
    for (int c = 0; c < CHAINS; ++c) {
      s[c] = fma3(s[c], x, y);
    }
    __asm__ volatile("" : "+v"(s[0]), "+v"(s[7]), "+v"(s[15])); // keeps the loop
  }
  vf total = s[0];
  for (int c = 1; c < CHAINS; ++c) {
    total += s[c];
  }
  sink = total[0];
  return 0;
}

// GFLOP/s of f32 multiply-adds on `threads` threads.
double limit_peak(int threads, double seconds) {
  long rounds = 200000;
  for (;;) {
    pthread_t others[256];
    double t = now();
    for (int i = 1; i < threads; ++i) {
      pthread_create(&others[i], 0, multiply_adds, &rounds);
    }
    multiply_adds(&rounds);
    for (int i = 1; i < threads; ++i) {
      pthread_join(others[i], 0);
    }
    t = now() - t;
    if (t >= seconds) {
      return 2e-9 * 24 * LANES * (double)rounds * threads / t;
    }
    rounds *= 2;
  }
}

typedef struct {
  const float *data;
  long count;
} Part;

static void *read_all(void *arg) {
  Part *p = arg;
  vf s[8];
  for (int c = 0; c < 8; ++c) {
    s[c] = splat(0);
  }
  for (long i = 0; i + 8 * LANES <= p->count; i += 8 * LANES) {
#pragma clang loop unroll(full)
    for (int c = 0; c < 8; ++c) {
      s[c] += *(const vf *)(p->data + i + c * LANES);
    }
  }
  vf total = s[0];
  for (int c = 1; c < 8; ++c) {
    total += s[c];
  }
  sink = total[0];
  return 0;
}

// GB/s of reading `bytes` once on `threads` threads, the best of five.
double limit_bandwidth(int threads, long bytes) {
  long count = bytes / 4 / threads;
  float *data = malloc((size_t)count * 4 * threads);
  for (long i = 0; i < count * threads; ++i) {
    data[i] = 1;
  }
  double best = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    pthread_t others[256];
    Part parts[256];
    double t = now();
    for (int i = 0; i < threads; ++i) {
      parts[i] = (Part){data + i * count, count};
      if (i) {
        pthread_create(&others[i], 0, read_all, &parts[i]);
      }
    }
    read_all(&parts[0]);
    for (int i = 1; i < threads; ++i) {
      pthread_join(others[i], 0);
    }
    t = now() - t;
    double rate = 4e-9 * (double)count * threads / t;
    best = rate > best ? rate : best;
  }
  free(data);
  return best;
}
