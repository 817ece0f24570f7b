"""Lite Transformer: half attention, half dynamic convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import heddle as hd

SYSTEM = "Lite Transformer LSRA"
SPEC = "half the channels attend, half seg(x, window(P, K-1-P)) with loaded taps, normaliser none"
COST = "O(n^2 + n K)"
VARIANTS: dict[str, dict[str, Any]] = {
    "causal": {"causal": True, "dynamic": True},
    "full": {"causal": False, "dynamic": True},
    "lightconv": {"causal": True, "dynamic": False},
    "layer": {"causal": True, "dynamic": True, "layer": True},
}
K = 7


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


class Layer(nn.Module):
    """Half of the channels through attention, half through a dynamic convolution, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(64, 64) for _ in range(4))
        self.gated, self.taps, self.out = nn.Linear(64, 128), nn.Linear(64, 2 * K), nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        far, near = x.chunk(2, -1)
        heads = [f(far).unflatten(2, (2, -1)).transpose(1, 2) for f in (self.q, self.k, self.v)]
        near = functional.glu(self.gated(near))
        taps = torch.softmax(self.taps(near).unflatten(2, (2, K)).transpose(1, 2), -1)
        y = near.unflatten(2, (2, -1)).transpose(1, 2)
        segment = hd.segment(y, y, hd.window(K - 1, 0), score=lambda b, h, i, j: taps[b, h, i, j - i + K - 1], dots=[])
        mixed = hd.attend(y, segments=[segment], normalizer="none")
        parts = self.o(join(hd.attend(*heads, where=hd.causal))), self.out(join(mixed))
        return torch.cat(parts, -1)


def join(x: Tensor) -> Tensor:
    """[B, H, N, D] to [B, N, H D]."""
    return x.transpose(1, 2).flatten(2)


def inputs(rng: np.random.Generator, n: int, causal: bool, dynamic: bool, layer: bool = False) -> tuple[Any, ...]:
    if layer:
        weights = {
            name: (rng.standard_normal(p.shape) / (p.shape[-1] ** 0.5 if p.dim() > 1 else 2)).astype(np.float32)
            for name, p in Layer().state_dict().items()
        }
        return weights, rows(rng, 2, n, 128)
    q, k, v, x = (rows(rng, 2, 2, n, 32) for _ in range(4))
    taps = np.exp(rows(rng, 2, 2, n, K) if dynamic else rows(rng, 2, K))
    return q, k, v, x, taps / taps.sum(-1, keepdims=True)


def run(*args: Any, causal: bool, dynamic: bool = True, layer: bool = False) -> Any:
    if layer:
        model = Layer()
        model.load_state_dict({name: torch.from_numpy(w) for name, w in args[0].items()})
        with torch.inference_mode():
            return model(torch.from_numpy(args[1])).numpy()
    q, k, v, x, taps = args
    before = K - 1 if causal else K // 2
    tap = hd.tensor(taps)
    where = hd.window(before, K - 1 - before)
    if dynamic:
        near = hd.segment(x, x, where, score=lambda b, h, i, j: tap[b, h, i, j - i + before], dots=[])
    else:
        near = hd.segment(x, x, where, score=lambda b, h, i, j: tap[h, j - i + before], dots=[])
    mixed = hd.attend(q, segments=[near], normalizer="none")
    return np.concatenate([hd.attend(q, k, v, where=hd.causal if causal else hd.full), mixed], -1)


def spec_args(q: Any, k: Any, v: Any, x: Any, taps: Any) -> tuple[Any, ...]:
    return q, k, v, x, taps


def from_spec(out: Any, *_: Any) -> Any:
    return np.concatenate(out, -1)
