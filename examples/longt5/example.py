"""LongT5: local attention and, under the same softmax, a sum of each block of tokens that is made on the fly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import heddle as hd

SYSTEM = "LongT5 (transient global)"
SPEC = "seg(k, v, window(r, r) & keys(%valid)) + seg(Wk LN(scatter_rows sum(x)), Wv .., keys(%blocks)), biases loaded"
COST = "O(n (r + n / g))"
BEYOND = True
VARIANTS: dict[str, dict[str, Any]] = {"": {}}
WIDTH, HEADS, R, G, BUCKETS = 64, 2, 7, 16, 32
FAR = 128  # all larger distances share a bucket; a load past the end takes the last entry

Attend = Callable[..., Tensor]


class Layer(nn.Module):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.near, self.far = nn.Embedding(BUCKETS, HEADS), nn.Embedding(BUCKETS, HEADS)
        self.norm = nn.Parameter(torch.ones(WIDTH))
        self.attend = attend

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        n, m = x.shape[1], x.shape[1] // G
        blocks, known = places(valid)
        empty = x.new_zeros(len(x), 1, m, WIDTH)
        sums = hd.scatter_rows(x[:, None], blocks, empty, kind="sum")[:, 0]
        sums = self.norm * sums * torch.rsqrt(sums.square().mean(-1, keepdim=True) + 1e-6)
        parts = self.q(x), self.k(x), self.v(x), self.k(sums), self.v(sums)
        rows = [y.unflatten(2, (HEADS, -1)).transpose(1, 2) for y in parts]
        near = self.near(bucket(torch.arange(2 * R + 1) - R)).T  # by j - i + R
        far = self.far(bucket(torch.arange(2 * FAR + 1) - FAR)).T  # by the distance in blocks + FAR
        out = self.attend(*rows, valid, known, near, far, torch.where(valid, blocks, 0))
        return self.o(out.transpose(1, 2).reshape(len(x), n, WIDTH))


def places(valid: Tensor) -> tuple[Tensor, Tensor]:
    """The block of each token: the last whole one takes what is left; -1 for padding and without a whole block."""
    full = valid.sum(1, keepdim=True) // G
    blocks = torch.minimum(torch.arange(valid.shape[1]) // G, full - 1).masked_fill(~valid, -1)
    return blocks, torch.arange(valid.shape[1] // G) < full


def bucket(distance: Tensor) -> Tensor:
    """T5's: 8 exact ones, 8 that grow by sqrt 2, on each side."""
    far = distance.abs().double().clamp(min=1)
    large = (8 + torch.floor(2 * torch.log2(far / 8) + 1e-9)).long().clamp(max=15)
    return torch.where(distance > 0, 16, 0) + torch.where(far < 8, distance.abs(), large)


@hd.kernel
def attention(
    q: Any, k: Any, v: Any, ks: Any, vs: Any, valid: Any, known: Any, near: Any, far: Any, blocks: Any
) -> Any:
    tokens = hd.segment(
        k, v, hd.window(R, R) & hd.keys(valid) & hd.queries(valid), score=lambda s, b, h, i, j: s + near[h, j - i + R]
    )
    sums = hd.segment(
        ks, vs, hd.keys(known) & hd.queries(valid),
        score=lambda s, b, h, i, j: s + far[h, j - blocks[b, i] + FAR],
    )  # fmt: skip
    return hd.attend(q, segments=[tokens, sums], scale=1.0, q_offset=0)


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    weights = {
        name: (rng.standard_normal(p.shape) / (p.shape[-1] ** 0.75 if p.dim() > 1 else 2)).astype(np.float32)
        for name, p in Layer(attention).state_dict().items()
    }
    valid = np.arange(n) < np.array([[n], [max(n - 5, 1)]])
    return weights, rng.standard_normal((2, n, WIDTH)).astype(np.float32), valid


def run(weights: Any, x: Any, valid: Any, attend: Attend = attention) -> Any:
    layer = Layer(attend)
    layer.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    with torch.inference_mode():
        return layer(torch.from_numpy(x), torch.from_numpy(valid)).numpy()


def run_with(kernel: Any, weights: Any, x: Any, valid: Any) -> Any:
    return run(weights, x, valid, kernel)
