"""Problems for kernels: shapes, types, layouts and inputs, in covering subsets.

A problem is described by a few axes; `pairwise` picks the fewest combinations
in which every two values of different axes meet. Inputs are torch tensors with
the layout asked for, and float64 copies of the same numbers.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

LENGTHS = (0, 1, 2, 17, 64, 1000, 1025)
DIMS = (1, 8, 40, 64, 72, 80, 96, 128, 192, 256, 576)
DTYPES = ("f32", "f16", "bf16")
TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
LAYOUTS = ("plain", "bnhd", "sliced", "every_other", "columns", "one_batch")

PRIMITIVES: dict[str, str] = {
    "full": "full",
    "empty": "~full",
    "causal": "causal",
    "causal_lag": "causal(3)",
    "window": "window(20, 5)",
    "window_left": "causal & window(63, 63)",
    "window_right": "window(0, inf)",
    "dilated": "window(5, 4, dilation = 7)",
    "dilated_causal": "window(30, 0, dilation = 16)",
    "stride": "stride(9)",
    "stride_phase": "stride(64, 5) & causal",
    "block": "block(48)",
    "block_large": "block(200)",
    "keys": "keys([0 to 4, 9, 30 to 41])",
    "keys_end": "keys([0, end - 7 to end])",
    "queries": "queries([1, 7 to 20, end - 3 to end])",
    "global_tokens": "global_tokens([0 to 3, 11])",
    "key_mod": "key_mod(8, 2, 5)",
    "query_mod": "query_mod(3, 1, 2)",
    "offsets": "offsets([0, 1, 2, 4, 8, 16, 32, 64, 128])",
    "offsets_ahead": "offsets([-3, 7])",
    "coarse": "coarse(16, causal)",
    "coarse_offsets": "coarse(32, offsets([0, 1]))",
    "coarse_uneven": "coarse(4, 16, window(2, 1))",
    "grid": "grid(16, window(2, 2), window(3, 3))",
    "grid_block": "grid(12, block(3), block(4))",
    "grid_causal": "grid(32, causal, full)",
    "remap": "remap(affine_map<(x) -> (x mod 5)>, causal)",
    "remap_two": "remap(affine_map<(x) -> (x floordiv 32, x mod 32)>, block(2), window(1, 1))",
    "shift": "shift(5, block(32))",
    "shift_negative": "shift(-3, coarse(8, causal))",
    "neighborhood": "neighborhood(13, 1000)",
    "neighborhood_stride": "neighborhood(8, 300, stride = 4)",
    "neighborhood_dilated": "neighborhood(5, 200, dilation = 3)",
    "neighborhood_causal": "neighborhood(9, 500, stride = 2, dilation = 2, causal = true)",
    "past_blocks": "past_blocks(4)",
    "past_blocks_inclusive": "past_blocks(3, size = 5, inclusive = true)",
    "parent": "parent(4)",
    "random_blocks": "random_blocks(16, 3, 42)",
    "affine_set": "affine_set<(i, j)[nq, nk] : (2 * i - j >= 0, nk - 1 - j >= 0, (i + j) mod 3 == 0)>",
    "affine_mirror": "affine_set<(i, j)[nq, nk] : (nk - 1 - i - j >= 0)>",
    "holds": "holds(b, h, i, j : (i // 16 == j // 16) | ((i - j) % 12 == 0))",
    "holds_product": "holds(b, h, i, j : ((i * j) % 7 == 3))",
    "per_head": "per_head([causal, window(8, 8), stride(5)])",
    "per_head_nested": "causal & per_head([block(16), per_head([stride(4), window(9, 0), full])])",
    "union": "causal & (window(15, 0) | stride(16))",
    "union_overlap": "window(30, 0) | window(10, 10) | keys([0 to 12])",
    "difference": "causal - block(32)",
    "complement": "~(window(40, 40) | stride(3))",
    "sinks": "causal & (keys([0 to 4]) | window(31, 0))",
    "bigbird": "window(16, 16) | global_tokens([0 to 2]) | coarse(16, offsets([3, -5]))",
    "deep": "shift(2, coarse(2, grid(8, window(1, 1), ~stride(2)))) | causal & block(7)",
    "prefix": "causal | keys([0 to 25])",
    "block_diffusion": "coarse(16, causal(1)) | block(16)",
}
"""Every primitive and the usual combinations, as text."""


@dataclass(frozen=True)
class Problem:
    """One call of the kernel."""

    nq: int = 64
    nk: int = 64
    d: int = 64
    dv: int = 64
    dtype: str = "f32"
    group: int = 1
    layout: str = "plain"
    where: str = "full"
    offset: str = "zero"  # zero | end | five | batch
    b: int = 2
    hk: int = 1
    magnitude: float = 1.0

    @property
    def label(self) -> str:
        """A short name that says all of it."""
        return " ".join(f"{f.name}={getattr(self, f.name)}" for f in fields(self))

    def q_offset(self) -> Any:
        """The q_offset argument (an int, "end", or one per batch)."""
        return {
            "zero": 0,
            "end": "end",
            "five": 5,
            "batch": np.arange(self.b, dtype=np.int64) * 37 + 3,
        }[self.offset]


@dataclass
class Inputs:
    """The tensors of a problem and the same numbers in float64."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor

    def exact(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q, k, v as float64 arrays."""
        return tuple(x.double().numpy() for x in (self.q, self.k, self.v))  # type: ignore[return-value]


def laid_out(x: np.ndarray, dtype: str, layout: str) -> torch.Tensor:
    """`x` as a tensor of `dtype` whose memory is arranged as `layout` says."""
    t = torch.tensor(x, dtype=torch.float32).to(TORCH[dtype])
    b, h, n, d = t.shape
    if layout == "bnhd":
        return t.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "sliced":
        big = torch.full((b, h + 1, n + 3, d + 5), float("nan"), dtype=t.dtype)
        big[:, 1:, 2 : n + 2, 3 : d + 3] = t
        return big[:, 1:, 2 : n + 2, 3 : d + 3]
    if layout == "every_other":
        big = torch.full((b, h, 2 * n, d), float("nan"), dtype=t.dtype)
        big[:, :, ::2] = t
        return big[:, :, ::2]
    if layout == "columns":
        return t.transpose(2, 3).contiguous().transpose(2, 3)
    return t.contiguous()


def inputs(p: Problem, seed: int = 0) -> Inputs:
    """Normal inputs for `p`; `magnitude` scales the scores."""
    rng = np.random.default_rng(seed + 7919 * p.nq + p.nk)
    hq, bk = p.hk * p.group, 1 if p.layout == "one_batch" else p.b
    q = rng.standard_normal((p.b, hq, p.nq, p.d)) * p.magnitude
    k = rng.standard_normal((bk, p.hk, p.nk, p.d))
    v = rng.standard_normal((bk, p.hk, p.nk, p.dv))
    return Inputs(*(laid_out(x, p.dtype, p.layout) for x in (q, k, v)))


def pairwise(axes: Mapping[str, Sequence[Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Combinations in which every two values of different axes meet, greedily few."""
    rng = random.Random(seed)
    names = list(axes)
    todo = {
        (a, x, b, y)
        for a, b in itertools.combinations(names, 2)
        for x in range(len(axes[a]))
        for y in range(len(axes[b]))
    }
    rows = []
    while todo:
        best: tuple[int, dict[str, int]] = (-1, {})
        a, x, b, y = min(todo)
        for _ in range(30):
            row = {n: rng.randrange(len(axes[n])) for n in names}
            row[a], row[b] = x, y
            gain = sum(
                (m, row[m], n, row[n]) in todo for m, n in itertools.combinations(names, 2)
            )
            best = max(best, (gain, row), key=lambda t: t[0])
        row = best[1]
        todo -= {(m, row[m], n, row[n]) for m, n in itertools.combinations(names, 2)}
        rows.append({n: axes[n][row[n]] for n in names})
    return rows
