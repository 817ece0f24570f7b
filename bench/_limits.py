"""Builds and calls limits/cpu.c: hand-written attention, peaks and bandwidth."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent / "limits" / "cpu.c"
KINDS = {"f32": 0, "bf16": 1, "avx2": 2}
FORMS = {"f32": {"limit, queries on lanes": 0, "limit, keys on lanes": 1}, "bf16": {"limit, keys on lanes": 2}}
READ_BYTES = 1 << 28


class Limits:
    """The limit programs, built for this machine."""

    def __init__(self) -> None:
        compiler = next((c for c in ("clang-22", "clang", "gcc") if shutil.which(c)), None)
        if compiler is None:
            raise SystemExit("expected clang-22, clang or gcc to build the limit programs, but found none")
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "limits.so"
            flags = ["-O3", "-march=native", "-shared", "-fPIC", "-lm", "-lpthread"]
            subprocess.run([compiler, str(SOURCE), "-o", str(library), *flags], check=True)
            self.lib = ctypes.CDLL(str(library))
        self.lib.limit_flops.restype = ctypes.c_double
        self.lib.limit_flops.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long]
        self.lib.limit_read.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int]
        self.lib.limit_attention.argtypes = [ctypes.c_int] + [ctypes.c_void_p] * 4 + [ctypes.c_long] * 3
        self._rounds: dict[str, int] = {}
        self._buffer: Any = None

    def has(self, kind: str) -> bool:
        """Whether this CPU has the multiply-adds of a kind ("f32", "bf16" pairs, "avx2")."""
        return self.lib.limit_flops(KINDS[kind], 1, 1) > 0

    def peak(self, kind: str, threads: int) -> tuple[Callable[[], object], float]:
        """A run of about 10 ms of nothing but multiply-adds, and its floating-point operations."""
        code = KINDS[kind]
        if kind not in self._rounds:
            best = 1.0
            for _ in range(20):
                begin = time.perf_counter()
                self.lib.limit_flops(code, 1, 10000)
                best = min(best, time.perf_counter() - begin)
            self._rounds[kind] = max(1, int(10000 * 0.01 / best))
        rounds = self._rounds[kind]
        flops = self.lib.limit_flops(code, threads, rounds)
        if not flops:
            raise NotImplementedError(f"this CPU has no multiply-add instruction of {kind}")
        return lambda: self.lib.limit_flops(code, threads, rounds), flops

    def read(self, threads: int) -> tuple[Callable[[], object], float]:
        """A run that reads a buffer beyond every cache once, and its bytes."""
        if self._buffer is None:
            import torch

            self._buffer = torch.ones(READ_BYTES // 4)
        data = self._buffer.data_ptr()
        return lambda: self.lib.limit_read(data, READ_BYTES, threads), float(READ_BYTES)

    def attention(self, form: int, q: Any, k: Any, v: Any, out: Any) -> None:
        """Dense attention of contiguous torch tensors [1, H, N, D] on one thread, D of 64 or 128."""
        _, heads, n, d = q.shape
        assert all(t.is_contiguous() for t in (q, k, v, out))
        pointers = [t.data_ptr() for t in (q, k, v, out)]
        if self.lib.limit_attention(form, *pointers, heads, n, d) != 0:
            raise ValueError(f"expected d of 64 or 128 and n a multiple of 64, but got d = {d}, n = {n}")
