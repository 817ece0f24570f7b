"""Mixed precision: storage in f16 or bf16; scores, softmax and sums are f32."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import heddle as hd

SYSTEM = "mixed precision (storage f16, bf16)"
SPEC = "seg(k, v, causal & window(w, 0)) + seg(pool_mean(k), pool_mean(v), past_blocks(b)) on tensors of f16 or bf16"
COST = "O(n^2 / b + n w)"
VARIANTS: dict[str, dict[str, Any]] = {"bf16": {"dtype": "bfloat16"}, "f16": {"dtype": "float16"}}
W, B = 24, 8
TOLERANCE = 2**-7
"""Results, summaries and (in bf16) weights are rounded to storage: a few units of 2^-8 of the largest magnitude."""


def inputs(rng: np.random.Generator, n: int, dtype: str) -> tuple[Any, ...]:
    draw = (torch.from_numpy(rng.standard_normal((2, h, n, 64))) for h in (4, 2, 2))
    return tuple(x.to(getattr(torch, dtype)) for x in draw)


@hd.kernel
def attention(q: Any, k: Any, v: Any) -> Any:
    near = hd.segment(k, v, hd.window(W - 1, 0))
    far = hd.segment(hd.pool(k, "mean", B), hd.pool(v, "mean", B), hd.past_blocks(B))
    return hd.attend(q, segments=[near, far], q_offset=0)


def run(q: Any, k: Any, v: Any, dtype: str) -> Any:
    out = attention(q, k, v)
    assert out.dtype == q.dtype
    return out.double().numpy()


def from_spec(out: Any, *_: Any) -> Any:
    return out.double().numpy()
