"""Builds and calls limits/cpu.c: hand-written attention, peak and bandwidth."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent / "limits" / "cpu.c"


class Limits:
    """The limit programs of this machine on `threads` threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        compiler = next((c for c in ("clang-22", "clang", "gcc") if shutil.which(c)), None)
        if compiler is None:
            raise SystemExit("expected clang-22, clang or gcc to build the limit programs, but found none")
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "limits.so"
            flags = ["-O3", "-march=native", "-shared", "-fPIC", "-lm", "-lpthread"]
            subprocess.run([compiler, str(SOURCE), "-o", str(library), *flags], check=True)
            self.lib = ctypes.CDLL(str(library))
        self.lib.limit_peak.restype = self.lib.limit_bandwidth.restype = ctypes.c_double
        self.lib.limit_attention.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_long] * 3 + [ctypes.c_int]

    def peak(self, seconds: float = 0.5) -> float:
        """GFLOP/s of f32 multiply-adds."""
        return self.lib.limit_peak(self.threads, ctypes.c_double(seconds))

    def bandwidth(self, size: int = 1 << 29) -> float:
        """GB/s of reading memory."""
        return self.lib.limit_bandwidth(self.threads, ctypes.c_long(size))

    def attention(self, q: Any, k: Any, v: Any, out: Any) -> None:
        """Dense f32 attention of contiguous torch tensors [1, H, N, D], D of 64 or 128."""
        _, heads, n, d = q.shape
        assert all(t.is_contiguous() for t in (q, k, v, out))
        pointers = [t.data_ptr() for t in (q, k, v, out)]
        if self.lib.limit_attention(*pointers, heads, n, d, self.threads) != 0:
            raise ValueError(f"expected d of 64 or 128 and n a multiple of 8, but got d = {d}, n = {n}")
