// What this machine can do, by hand: plain flash-attention forwards in f32 and
// bf16, the peaks of its multiply-add units, and the rate at which it reads memory.
//
// Built into a shared object when the bench runs (clang -O3 -march=native) and
// called in the bench's own process, so that every ratio comes from one run.
//
// Two forms of the forward. *Queries on lanes*: a block of 64 queries is packed once as
// Qt[d][query]; S^T = K Qt is a product of 6 scalar rows of K with 4 vectors, O = P V of
// 6 columns of S^T with 4 vectors of V, all read in place; softmax runs down the
// columns. *Keys on lanes*: K is packed once a head into panels of 64 keys, S = Q K^T
// and O = P V are products of 6 scalar rows with 4 vectors, softmax runs along the
// rows; in bf16 the pairs that the instruction multiplies are interleaved when K and V
// are packed.
#define _GNU_SOURCE
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#else
#define LANES 8
#endif

typedef float vf __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4), aligned(4)));
#define INLINE static inline __attribute__((always_inline))

INLINE vf splat(float x) { return (vf){0} + x; }
INLINE vf larger(vf a, vf b) { return __builtin_elementwise_max(a, b); }
INLINE vf fma3(vf a, vf b, vf c) { return __builtin_elementwise_fma(a, b, c); }

// 2^x for x <= 0: n = round(x), a polynomial for 2^(x - n), n into the exponent. `degree` 4 is enough for bf16.
INLINE vf power2(vf x, const int degree) {
#ifndef __AVX512F__
  x = larger(x, splat(-126.0f));
#endif
  vf n = __builtin_elementwise_roundeven(x), f = x - n;
  vf p = splat(9.6705496e-3f);
  if (degree > 4) {
    p = fma3(splat(1.3534167e-3f), f, p);
  }
  p = fma3(p, f, splat(5.5503324e-2f));
  p = fma3(p, f, splat(2.4022150e-1f));
  p = fma3(p, f, splat(6.9314718e-1f));
  p = fma3(p, f, splat(1.0f));
#ifdef __AVX512F__
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  vi e = (__builtin_convertvector(n, vi) + 127) << 23;
  vf scale;
  memcpy(&scale, &e, sizeof scale);
  return p * scale;
#endif
}

#define PANEL_VECTORS (LANES == 16 ? 4 : 2)
#define PANEL (LANES * PANEL_VECTORS) // columns of a product
#define TILE 6                        // rows of a product

// c[r][:] (+)= sum_k a[r * row + k * step] * b[k * ldb + :] for `rows` rows
INLINE void product(const int rows, const float *a, long row, long step, const float *b, long ldb, float *c, long ldc,
                    int depth, int accumulate) {
  vf s[TILE][PANEL_VECTORS];
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; ++r) {
#pragma clang loop unroll(full)
    for (int x = 0; x < PANEL_VECTORS; ++x) {
      s[r][x] = accumulate ? *(const vf *)(c + r * ldc + x * LANES) : splat(0);
    }
  }
  for (int k = 0; k < depth; ++k) {
    vf w[PANEL_VECTORS];
#pragma clang loop unroll(full)
    for (int x = 0; x < PANEL_VECTORS; ++x) {
      w[x] = *(const vf *)(b + k * ldb + x * LANES);
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; ++r) {
      vf y = splat(a[r * row + k * step]);
#pragma clang loop unroll(full)
      for (int x = 0; x < PANEL_VECTORS; ++x) {
        s[r][x] = fma3(y, w[x], s[r][x]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; ++r) {
#pragma clang loop unroll(full)
    for (int x = 0; x < PANEL_VECTORS; ++x) {
      *(vf *)(c + r * ldc + x * LANES) = s[r][x];
    }
  }
}

// --------------------------------------------------------- queries on lanes

#define KEYS 96       // keys of a chunk, a multiple of TILE
#define QUERIES PANEL // queries of a block

typedef struct {
  float q[128 * QUERIES], o[QUERIES * 128], s[KEYS * QUERIES], m[QUERIES], l[QUERIES];
} __attribute__((aligned(64))) Scratch;

// One block of QUERIES queries of one head.
INLINE void block(const float *q, const float *k, const float *v, float *o, long n, const int D, Scratch *t) {
  float scale = 1.44269504f / sqrtf((float)D);
  for (int d = 0; d < D; ++d) {
    for (int i = 0; i < QUERIES; ++i) {
      t->q[d * QUERIES + i] = q[(long)i * D + d] * scale;
    }
  }
  memset(t->o, 0, sizeof(float) * D * QUERIES);
  for (int i = 0; i < QUERIES; ++i) {
    t->m[i] = -1e30f, t->l[i] = 0;
  }
  for (long j0 = 0; j0 < n; j0 += KEYS) {
    int keys = n - j0 < KEYS ? (int)(n - j0) : KEYS, r = 0;
    // S^T = K Q^T
    for (; r + TILE <= keys; r += TILE) {
      product(TILE, k + (j0 + r) * D, D, 1, t->q, QUERIES, t->s + (long)r * QUERIES, QUERIES, D, 0);
    }
    for (; r < keys; r += 2) {
      product(2, k + (j0 + r) * D, D, 1, t->q, QUERIES, t->s + (long)r * QUERIES, QUERIES, D, 0);
    }
    for (int x = 0; x < QUERIES; x += LANES) {
      // m' = max(m, max_j s), l' = l 2^(m - m') + sum_j 2^(s - m')
      vf old = *(vf *)(t->m + x), a = old, b = old;
      for (r = 0; r < keys; r += 2) {
        a = larger(a, *(vf *)(t->s + (long)r * QUERIES + x));
        b = larger(b, *(vf *)(t->s + (long)(r + 1) * QUERIES + x));
      }
      vf top = larger(a, b), u = splat(0), w = splat(0);
      for (r = 0; r < keys; r += 2) {
        vf *s = (vf *)(t->s + (long)r * QUERIES + x), *z = (vf *)(t->s + (long)(r + 1) * QUERIES + x);
        vf e = power2(*s - top, 5), f = power2(*z - top, 5);
        *s = e, *z = f, u += e, w += f;
      }
      vf factor = power2(old - top, 5);
      *(vf *)(t->l + x) = *(vf *)(t->l + x) * factor + u + w;
      *(vf *)(t->m + x) = top;
      // O = O 2^(m - m')
      for (int i = 0; i < LANES; ++i) {
        if (factor[i] != 1) {
          vf y = splat(factor[i]);
          for (int d = 0; d < D; d += LANES) {
            *(vf *)(t->o + (x + i) * D + d) *= y;
          }
        }
      }
    }
    // O += P V
    for (int d = 0; d < D; d += PANEL) {
      int i = 0;
      for (; i + TILE <= QUERIES; i += TILE) {
        product(TILE, t->s + i, 1, QUERIES, v + j0 * D + d, D, t->o + i * D + d, D, keys, 1);
      }
      product(QUERIES % TILE, t->s + i, 1, QUERIES, v + j0 * D + d, D, t->o + i * D + d, D, keys, 1);
    }
  }
  for (int i = 0; i < QUERIES; ++i) {
    for (int d = 0; d < D; ++d) {
      o[(long)i * D + d] = t->o[i * D + d] / t->l[i];
    }
  }
}

static void block64(const float *q, const float *k, const float *v, float *o, long n, Scratch *t) {
  block(q, k, v, o, n, 64, t);
}
static void block128(const float *q, const float *k, const float *v, float *o, long n, Scratch *t) {
  block(q, k, v, o, n, 128, t);
}

// ------------------------------------------------------------ keys on lanes

#define BLOCK_ROWS 24 // queries of a block
#define CHUNK 256     // keys of a chunk

typedef struct {
  float q[BLOCK_ROWS * 128], o[BLOCK_ROWS * 128], s[BLOCK_ROWS * CHUNK];
  uint16_t p[BLOCK_ROWS * CHUNK], qb[BLOCK_ROWS * 128];
} __attribute__((aligned(64))) Rows;

INLINE float top_of(vf x) {
  float m = x[0];
  for (int i = 1; i < LANES; ++i) {
    m = x[i] > m ? x[i] : m;
  }
  return m;
}
INLINE float sum_of(vf x) {
  float m = x[0];
  for (int i = 1; i < LANES; ++i) {
    m += x[i];
  }
  return m;
}

// m' = max(m, max_j s): the row's new maximum of scale * s.
INLINE float row_top(const float *s, int keys, float scale, float old) {
  vf a = *(const vf *)s, b = *(const vf *)(s + LANES);
  for (int j = 2 * LANES; j < keys; j += 2 * LANES) {
    a = larger(a, *(const vf *)(s + j)), b = larger(b, *(const vf *)(s + j + LANES));
  }
  float top = scale * top_of(larger(a, b));
  return top > old ? top : old;
}

// O = O 2^(m - m') where the maximum moved; returns the factor.
INLINE float rescale(float *o, float old, float top, const int D) {
  if (top == old) {
    return 1;
  }
  vf factor = power2(splat(old - top), 5);
  for (int d = 0; d < D; d += LANES) {
    *(vf *)(o + d) *= factor;
  }
  return factor[0];
}

// One head; kt holds packed panels of K, n a multiple of PANEL.
INLINE void packed_head(const float *q, const float *k, const float *v, float *o, long n, const int D, float *kt,
                        Rows *t) {
  float scale = 1.44269504f / sqrtf((float)D);
  for (long j = 0; j < n; j += PANEL) {
    for (int d = 0; d < D; ++d) {
      for (int x = 0; x < PANEL; ++x) {
        kt[j * D + d * PANEL + x] = k[(j + x) * D + d];
      }
    }
  }
  for (long i0 = 0; i0 < n; i0 += BLOCK_ROWS) {
    int rows = n - i0 < BLOCK_ROWS ? (int)(n - i0) : BLOCK_ROWS;
    float m[BLOCK_ROWS], l[BLOCK_ROWS];
    for (int i = 0; i < BLOCK_ROWS; ++i) {
      for (int d = 0; d < D; ++d) {
        t->q[i * D + d] = i < rows ? q[(i0 + i) * D + d] * scale : 0;
      }
      m[i] = -1e30f, l[i] = 0;
    }
    memset(t->o, 0, sizeof(float) * BLOCK_ROWS * D);
    for (long j0 = 0; j0 < n; j0 += CHUNK) {
      int keys = n - j0 < CHUNK ? (int)(n - j0) : CHUNK;
      // S = Q K^T
      for (int j = 0; j < keys; j += PANEL) {
        for (int i = 0; i < BLOCK_ROWS; i += TILE) {
          product(TILE, t->q + i * D, D, 1, kt + (j0 + j) * D, PANEL, t->s + i * CHUNK + j, CHUNK, D, 0);
        }
      }
      for (int i = 0; i < BLOCK_ROWS; ++i) {
        // l' = l 2^(m - m') + sum_j 2^(s - m')
        float *s = t->s + i * CHUNK, top = row_top(s, keys, 1, m[i]);
        l[i] *= rescale(t->o + i * D, m[i], top, D), m[i] = top;
        vf a = splat(0), b = splat(0), minus = splat(top);
        for (int j = 0; j < keys; j += 2 * LANES) {
          vf x = power2(*(vf *)(s + j) - minus, 5), y = power2(*(vf *)(s + j + LANES) - minus, 5);
          *(vf *)(s + j) = x, *(vf *)(s + j + LANES) = y, a += x, b += y;
        }
        l[i] += sum_of(a + b);
      }
      // O = O 2^(m - m') + P V
      for (int d = 0; d < D; d += PANEL) {
        for (int i = 0; i < BLOCK_ROWS; i += TILE) {
          product(TILE, t->s + i * CHUNK, CHUNK, 1, v + j0 * D + d, D, t->o + i * D + d, D, keys, 1);
        }
      }
    }
    for (int i = 0; i < rows; ++i) {
      for (int d = 0; d < D; ++d) {
        o[(i0 + i) * D + d] = t->o[i * D + d] / l[i];
      }
    }
  }
}

static void packed64(const float *q, const float *k, const float *v, float *o, long n, float *kt, Rows *t) {
  packed_head(q, k, v, o, n, 64, kt, t);
}
static void packed128(const float *q, const float *k, const float *v, float *o, long n, float *kt, Rows *t) {
  packed_head(q, k, v, o, n, 128, kt, t);
}

#ifdef __AVX512BF16__

INLINE vf dot2(vf c, __m512i a, __m512i b) { return (vf)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b); }
INLINE uint16_t to_bf16(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

// c[r][:] (+)= sum_k a[r * lda + k] * b[k][:], b in pairs: b[(k / 2) * 2 * ldb + 2 * column + k % 2]
INLINE void pair_product(const uint16_t *a, long lda, const uint16_t *b, long ldb, float *c, long ldc, int depth,
                         int accumulate) {
  vf s[TILE][4];
#pragma clang loop unroll(full)
  for (int r = 0; r < TILE; ++r) {
#pragma clang loop unroll(full)
    for (int x = 0; x < 4; ++x) {
      s[r][x] = accumulate ? *(const vf *)(c + r * ldc + x * 16) : splat(0);
    }
  }
  for (int k = 0; k < depth; k += 2) {
    __m512i w[4];
#pragma clang loop unroll(full)
    for (int x = 0; x < 4; ++x) {
      w[x] = _mm512_loadu_si512(b + k * ldb + 32 * x);
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < TILE; ++r) {
      int pair;
      memcpy(&pair, a + r * lda + k, 4);
      __m512i y = _mm512_set1_epi32(pair);
#pragma clang loop unroll(full)
      for (int x = 0; x < 4; ++x) {
        s[r][x] = dot2(s[r][x], y, w[x]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < TILE; ++r) {
#pragma clang loop unroll(full)
    for (int x = 0; x < 4; ++x) {
      *(vf *)(c + r * ldc + x * 16) = s[r][x];
    }
  }
}

// As packed_head; kt and vt hold K and V in pairs.
INLINE void bf16_head(const uint16_t *q, const uint16_t *k, const uint16_t *v, uint16_t *o, long n, const int D,
                      uint16_t *kt, uint16_t *vt, Rows *t) {
  float scale = 1.44269504f / sqrtf((float)D);
  for (long j = 0; j < n; j += 64) {
    for (int d = 0; d < D; d += 2) {
      for (int x = 0; x < 64; ++x) {
        memcpy(kt + j * D + d * 64 + 2 * x, k + (j + x) * D + d, 4);
      }
    }
  }
  for (long j = 0; j < n; j += 2) {
    for (int d = 0; d < D; ++d) {
      vt[j * D + 2 * d] = v[j * D + d], vt[j * D + 2 * d + 1] = v[(j + 1) * D + d];
    }
  }
  for (long i0 = 0; i0 < n; i0 += BLOCK_ROWS) {
    int rows = n - i0 < BLOCK_ROWS ? (int)(n - i0) : BLOCK_ROWS;
    float m[BLOCK_ROWS], l[BLOCK_ROWS];
    for (int i = 0; i < BLOCK_ROWS; ++i) {
      m[i] = -1e30f, l[i] = 0;
    }
    memset(t->qb, 0, sizeof t->qb);
    memcpy(t->qb, q + i0 * D, (size_t)rows * D * 2);
    memset(t->o, 0, sizeof(float) * BLOCK_ROWS * D);
    for (long j0 = 0; j0 < n; j0 += CHUNK) {
      int keys = n - j0 < CHUNK ? (int)(n - j0) : CHUNK;
      for (int j = 0; j < keys; j += 64) {
        for (int i = 0; i < BLOCK_ROWS; i += TILE) {
          pair_product(t->qb + i * D, D, kt + (j0 + j) * D, 64, t->s + i * CHUNK + j, CHUNK, D, 0);
        }
      }
      for (int i = 0; i < BLOCK_ROWS; ++i) {
        float *s = t->s + i * CHUNK, top = row_top(s, keys, scale, m[i]);
        l[i] *= rescale(t->o + i * D, m[i], top, D), m[i] = top;
        vf a = splat(0), b = splat(0), minus = splat(-top), factor = splat(scale);
        for (int j = 0; j < keys; j += 32) {
          vf x = power2(fma3(*(vf *)(s + j), factor, minus), 4),
             y = power2(fma3(*(vf *)(s + j + 16), factor, minus), 4);
          __m512bh pairs = _mm512_cvtne2ps_pbh((__m512)y, (__m512)x);
          memcpy(t->p + i * CHUNK + j, &pairs, 64), a += x, b += y;
        }
        l[i] += sum_of(a + b);
      }
      for (int d = 0; d < D; d += 64) {
        for (int i = 0; i < BLOCK_ROWS; i += TILE) {
          pair_product(t->p + i * CHUNK, CHUNK, vt + j0 * D + 2 * d, D, t->o + i * D + d, D, keys, 1);
        }
      }
    }
    for (int i = 0; i < rows; ++i) {
      for (int d = 0; d < D; ++d) {
        o[(i0 + i) * D + d] = to_bf16(t->o[i * D + d] / l[i]);
      }
    }
  }
}

static void bf16_64(const void *q, const void *k, const void *v, void *o, long n, uint16_t *kt, uint16_t *vt, Rows *t) {
  bf16_head(q, k, v, o, n, 64, kt, vt, t);
}
static void bf16_128(const void *q, const void *k, const void *v, void *o, long n, uint16_t *kt, uint16_t *vt,
                     Rows *t) {
  bf16_head(q, k, v, o, n, 128, kt, vt, t);
}
#endif

// ------------------------------------------------------------------ forward

enum { QUERIES_ON_LANES = 0, KEYS_ON_LANES = 1, BF16 = 2 };

static int forward_on_lanes(const float *q, const float *k, const float *v, float *o, long heads, long n, long d) {
  Scratch *t = aligned_alloc(64, sizeof(Scratch));
  for (long h = 0; h < heads; ++h) {
    long at = h * n * d;
    for (long i = 0; i < n; i += QUERIES) {
      (d == 64 ? block64 : block128)(q + at + i * d, k + at, v + at, o + at + i * d, n, t);
    }
  }
  free(t);
  return 0;
}

static int forward_packed(const void *q, const void *k, const void *v, void *o, long heads, long n, long d, int bf16) {
  Rows *t = aligned_alloc(64, sizeof(Rows));
  char *packed = aligned_alloc(64, (size_t)n * d * 4);
  for (long h = 0; h < heads; ++h) {
    long at = h * n * d * (bf16 ? 2 : 4);
    const void *qh = (const char *)q + at, *kh = (const char *)k + at, *vh = (const char *)v + at;
    void *oh = (char *)o + at;
    if (!bf16) {
      (d == 64 ? packed64 : packed128)(qh, kh, vh, oh, n, (float *)packed, t);
    } else {
#ifdef __AVX512BF16__
      (d == 64 ? bf16_64 : bf16_128)(qh, kh, vh, oh, n, (uint16_t *)packed, (uint16_t *)packed + n * d, t);
#endif
    }
  }
  free(packed);
  free(t);
  return 0;
}

// Dense attention on one thread. q, k, v, o: contiguous [heads, n, d]; d is 64 or 128, n a multiple of 64. Returns 0,
// or -1 for what it does not do.
int limit_attention(int form, const void *q, const void *k, const void *v, void *o, long heads, long n, long d) {
  if ((d != 64 && d != 128) || n % 64) {
    return -1;
  }
  if (form == QUERIES_ON_LANES) {
    return forward_on_lanes(q, k, v, o, heads, n, d);
  }
#ifndef __AVX512BF16__
  if (form == BF16) {
    return -1;
  }
#endif
  return forward_packed(q, k, v, o, heads, n, d, form == BF16);
}

// ------------------------------------------------------- peaks and bandwidth

typedef struct {
  void (*work)(long rounds);
  long rounds;
} Job;

static void *run_job(void *arg) {
  Job *job = arg;
  job->work(job->rounds);
  return 0;
}

static volatile float sink;

enum { CHAINS = 24 };

static void multiply_adds(long rounds) {
  vf s[CHAINS], x = splat(0.999f), y = splat(1e-6f);
  for (int c = 0; c < CHAINS; ++c) {
    s[c] = splat((float)c);
  }
  for (; rounds > 0; --rounds) {
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
}

typedef float v8 __attribute__((vector_size(32), aligned(4)));

// What a target without AVX-512 has: 16 registers of 8 lanes.
static void multiply_adds_avx2(long rounds) {
  enum { CHAINS_AVX2 = 12 };
  v8 s[CHAINS_AVX2], x = (v8){0} + 0.999f, y = (v8){0} + 1e-6f;
  for (int c = 0; c < CHAINS_AVX2; ++c) {
    s[c] = (v8){0} + (float)c;
  }
  for (; rounds > 0; --rounds) {
#pragma clang loop unroll(full)
    for (int c = 0; c < CHAINS_AVX2; ++c) {
      s[c] = __builtin_elementwise_fma(s[c], x, y);
    }
    __asm__ volatile("" : "+x"(s[0]), "+x"(s[5]), "+x"(s[11]));
  }
  v8 total = s[0];
  for (int c = 1; c < CHAINS_AVX2; ++c) {
    total += s[c];
  }
  sink = total[0];
}

#ifdef __AVX512BF16__
static void pair_dots(long rounds) {
  vf s[CHAINS];
  __m512i x = _mm512_set1_epi16(0x3f80);
  for (int c = 0; c < CHAINS; ++c) {
    s[c] = splat((float)c);
  }
  for (; rounds > 0; --rounds) {
#pragma clang loop unroll(full)
    for (int c = 0; c < CHAINS; ++c) {
      s[c] = dot2(s[c], x, x);
    }
    __asm__ volatile("" : "+v"(s[0]), "+v"(s[7]), "+v"(s[15]));
  }
  vf total = s[0];
  for (int c = 1; c < CHAINS; ++c) {
    total += s[c];
  }
  sink = total[0];
}
#endif

// Runs `rounds` of multiply-adds of a kind (0: f32, 1: bf16 pairs, 2: f32 of AVX2) on `threads` threads. Returns the
// floating-point operations done, 0 where this CPU lacks the kind.
double limit_flops(int kind, int threads, long rounds) {
  Job job = {multiply_adds, rounds};
  double each = 2.0 * CHAINS * LANES;
  if (kind == 1) {
#ifdef __AVX512BF16__
    job.work = pair_dots, each = 4.0 * CHAINS * LANES;
#else
    return 0;
#endif
  }
  if (kind == 2) {
    job.work = multiply_adds_avx2, each = 2.0 * 12 * 8;
  }
  pthread_t others[256];
  for (int i = 1; i < threads; ++i) {
    pthread_create(&others[i], 0, run_job, &job);
  }
  run_job(&job);
  for (int i = 1; i < threads; ++i) {
    pthread_join(others[i], 0);
  }
  return each * (double)rounds * threads;
}

typedef struct {
  const float *data;
  long count;
} Part;

static void *read_part(void *arg) {
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

// Reads `bytes` once on `threads` threads, in one stream a thread.
void limit_read(const void *data, long bytes, int threads) {
  long count = bytes / 4 / threads;
  pthread_t others[256];
  Part parts[256];
  for (int i = 0; i < threads; ++i) {
    parts[i] = (Part){(const float *)data + i * count, count};
    if (i) {
      pthread_create(&others[i], 0, read_part, &parts[i]);
    }
  }
  read_part(&parts[0]);
  for (int i = 1; i < threads; ++i) {
    pthread_join(others[i], 0);
  }
}
