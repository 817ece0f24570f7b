/*===- heddle/runtime.h - Load, cache and launch Heddle kernels ------------===*
 *
 * The C ABI of the runtime. Errors are values: every function that can fail
 * returns a heddle_error *, NULL on success, that the caller frees with
 * heddle_error_free. No function throws, exits, or prints. All functions may be
 * called from any thread. The runtime never loads LLVM: compiling is a callback.
 *
 *===----------------------------------------------------------------------===*/
#ifndef HEDDLE_RUNTIME_H
#define HEDDLE_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define HEDDLE_API __attribute__((visibility("default")))
#else
#define HEDDLE_API
#endif

/*===- Errors --------------------------------------------------------------===*/

typedef enum heddle_code {
  HEDDLE_INVALID_VALUE = 1,  /* Python: ValueError */
  HEDDLE_INVALID_TYPE = 2,   /* Python: TypeError */
  HEDDLE_COMPILE_FAILED = 3, /* the spec does not compile: ValueError with the diagnostics */
  HEDDLE_SYSTEM = 4,         /* I/O, memory, missing tool: RuntimeError */
} heddle_code;

typedef struct heddle_error heddle_error;
HEDDLE_API heddle_code heddle_error_code(const heddle_error *);
HEDDLE_API const char *heddle_error_message(const heddle_error *);
HEDDLE_API void heddle_error_free(heddle_error *);
HEDDLE_API heddle_error *heddle_error_create(heddle_code, const char *message);

/*===- Tensors -------------------------------------------------------------===*/

typedef enum heddle_dtype {
  HEDDLE_F32 = 0,
  HEDDLE_F16 = 1,
  HEDDLE_BF16 = 2,
  HEDDLE_F64 = 3,
  HEDDLE_BOOL = 4, /* one byte, 0 or 1 */
  HEDDLE_I8 = 5,
  HEDDLE_I32 = 6,
  HEDDLE_I64 = 7,
} heddle_dtype;

/* A borrowed view. Strides are in elements and may be 0 or negative. A scalar
 * argument (index or float) has rank 0 and points to an int64_t or a double. */
typedef struct heddle_tensor {
  void *data;
  heddle_dtype dtype;
  int32_t rank;
  int64_t shape[6];
  int64_t strides[6];
} heddle_tensor;

/*===- Kernels -------------------------------------------------------------===*/

/* A loaded artefact: executable code and its manifest. Reference counted. */
typedef struct heddle_kernel heddle_kernel;

/* Loads an artefact (the bytes that the compiler wrote: see artifact.h of the
 * runtime's sources). The checksum is verified; a damaged artefact or one for
 * CPU features this machine lacks is an error, never a crash. */
HEDDLE_API heddle_error *heddle_kernel_load(const void *bytes, size_t size, heddle_kernel **out);
HEDDLE_API void heddle_kernel_retain(heddle_kernel *);
HEDDLE_API void heddle_kernel_release(heddle_kernel *);
/* The manifest as JSON (docs/abi.md); lives as long as the kernel. */
HEDDLE_API const char *heddle_kernel_manifest(const heddle_kernel *);
/* The artefact's bytes; they live as long as the kernel. */
HEDDLE_API const void *heddle_kernel_artifact(const heddle_kernel *, size_t *size);
HEDDLE_API heddle_error *heddle_kernel_save(const heddle_kernel *, const char *path);
HEDDLE_API heddle_error *heddle_kernel_open(const char *path, heddle_kernel **out);

/* The bytes of an artefact (docs/abi.md), malloc'ed: how a compiler writes one. */
HEDDLE_API heddle_error *heddle_artifact_write(const char *manifest, size_t manifest_size, const void *object,
                                               size_t object_size, void **artifact, size_t *size);

typedef struct heddle_run_options {
  int32_t num_threads; /* 0: heddle_num_threads() */
  int32_t reserved;
} heddle_run_options;

/* Runs the kernel: one tensor per argument and result of the spec's function,
 * in order. Checks ranks, dtypes, static sizes, batch broadcasting, head ratios,
 * matching Nk, and that q_offset was given where it is needed. Blocks until done. */
HEDDLE_API heddle_error *heddle_kernel_run(heddle_kernel *, const heddle_tensor *args, int32_t num_args,
                                           const heddle_tensor *results, int32_t num_results,
                                           const heddle_run_options *options);

/* How many results it writes. */
HEDDLE_API int32_t heddle_kernel_num_results(const heddle_kernel *);

/* Fills dtype, rank, shape and dense strides of each result for these arguments, of which only dtypes, ranks and
 * shapes are read: what to allocate before heddle_kernel_run. */
HEDDLE_API heddle_error *heddle_kernel_infer(heddle_kernel *, const heddle_tensor *args, int32_t num_args,
                                             heddle_tensor *results, int32_t num_results);

/*===- Kernels for a GPU ---------------------------------------------------===*
 *
 * A kernel compiled for sm_80 and the like is loaded and kept as any other, and
 * launched by the functions below on the CUDA context that is current on the
 * calling thread. The driver (libcuda.so.1, or what HEDDLE_CUDA_LIBRARY names) is
 * opened by dlopen when it is first needed. The data of tensors, of per-batch
 * offsets too, are device addresses; scalars (rank 0) are in the host's memory.
 */

/* Loads the code into the current context: the cubin where it runs on the
 * device, else the PTX, which the driver compiles. The first launch in a context
 * does it where this did not; call it before capturing a CUDA graph. */
HEDDLE_API heddle_error *heddle_gpu_load(heddle_kernel *);

/* Bytes of device memory that a launch with these arguments needs beside its
 * results; no tensor's data is read. 0: none. Needs no driver. */
HEDDLE_API heddle_error *heddle_gpu_workspace(heddle_kernel *, const heddle_tensor *args, int32_t num_args,
                                              size_t *bytes);

/* Checks as heddle_kernel_run, then queues the kernel on `stream` (a CUstream;
 * NULL is the default stream) and returns: it allocates no device memory and waits
 * for nothing, so it may be captured in a CUDA graph. `workspace` (device memory,
 * 256-byte aligned) must stay until the stream has passed the launch; launches
 * that may run at the same time need one each. */
HEDDLE_API heddle_error *heddle_gpu_launch(heddle_kernel *, const heddle_tensor *args, int32_t num_args,
                                           const heddle_tensor *results, int32_t num_results, void *workspace,
                                           size_t workspace_bytes, void *stream);

/*===- The cache -----------------------------------------------------------===*/

/* Fills *artifact (malloc'ed) with the bytes for `spec` on `target`. */
typedef heddle_error *(*heddle_compile_fn)(void *context, const char *spec, const char *target, void **artifact,
                                           size_t *size);

/* Memory, then disk, then `compile` (once per key over all threads and
 * processes). `key_text` identifies the kernel (canonical spec and everything
 * that changes code); target features and the build id are added here. The
 * kernel is retained for the caller. */
HEDDLE_API heddle_error *heddle_cache_get(const char *key_text, const char *spec, const char *target,
                                          heddle_compile_fn compile, void *context, heddle_kernel **out);

/* Identifies the compiler's build (a hash of its library, say): part of every
 * key, so that a new compiler never gets an old one's kernels. Set it before
 * the first heddle_cache_get; "" until then. */
HEDDLE_API void heddle_set_build_id(const char *build_id);
/* The same, from the size and time of the compiler's library (which is not
 * loaded): cheap enough for every start. A file that is not there gives "". */
HEDDLE_API void heddle_set_build_id_from_file(const char *path);

typedef struct heddle_cache_stats {
  int64_t memory_hits, disk_hits, compiles, dropped; /* of this process; dropped: bad entries */
  int64_t disk_entries, disk_bytes, disk_limit_bytes;
  int64_t write_failures; /* entries that could not be stored (full or read-only disk) */
} heddle_cache_stats;
HEDDLE_API heddle_error *heddle_cache_get_stats(heddle_cache_stats *out);
HEDDLE_API heddle_error *heddle_cache_clear(void);
/* Forgets this process's memory level (the disk stays). For tests. */
HEDDLE_API void heddle_cache_drop_memory(void);
/* Folder of the disk level, "" where there is none. */
HEDDLE_API const char *heddle_cache_path(void);
/* JSON array of entries: key, bytes, last use, spec's first line. */
HEDDLE_API heddle_error *heddle_cache_list(char **json);
HEDDLE_API void heddle_free(void *);

/* "native" spelled out: the CPU name and features that code generation may use. */
HEDDLE_API const char *heddle_host_features(void);

/*===- Threads -------------------------------------------------------------===*/

/* HEDDLE_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs this process may use. */
HEDDLE_API int32_t heddle_num_threads(void);
HEDDLE_API void heddle_set_num_threads(int32_t n);

typedef void (*heddle_task_fn)(void *context, int64_t task, int32_t worker);
/* Runs tasks 0..count-1 on up to `num_threads` threads, the caller among them;
 * returns when all are done. Tasks are handed out in order, dynamically. */
HEDDLE_API void heddle_parallel(int64_t count, int32_t num_threads, heddle_task_fn fn, void *context);

#ifdef __cplusplus
}
#endif
#endif /* HEDDLE_RUNTIME_H */
