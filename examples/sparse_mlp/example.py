"""Sparse-MLP: mixtures of experts along the sequence and along the channels; mixing rows is Heddle's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import heddle as hd

SYSTEM = "Sparse-MLP"
SPEC = "project(x, W) along the sequence, for each expert; routing and channel experts stay in the host framework"
COST = "O(n^2)"
VARIANTS: dict[str, dict[str, Any]] = {"top 1": {"top": 1}, "top 2": {"top": 2}}
C, EXPERTS, RATIO = 32, 4, 2

Mix = Callable[[Tensor, Tensor], Tensor]


class Experts(nn.Module):
    """MoE(x) = sum over the top experts e of softmax(W_g x)_e E_e(x), E_e of two layers, on vectors of one width."""

    def __init__(self, width: int, hidden: int, top: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, EXPERTS, bias=False)
        self.up, self.down = (nn.Parameter(torch.empty(EXPERTS, *s)) for s in ((width, hidden), (hidden, width)))
        self.top = top

    def forward(self, x: Tensor, mix: Mix) -> Tensor:
        """x: [vectors, width]; mix(y, W) = y W."""
        share, which = torch.softmax(self.gate(x), -1).topk(self.top)
        out = torch.zeros_like(x)
        for e in range(EXPERTS):
            vector, slot = (which == e).nonzero(as_tuple=True)
            if len(vector):
                y = mix(functional.gelu(mix(x[vector], self.up[e])), self.down[e])
                out.index_add_(0, vector, share[vector, slot, None] * y)
        return out


class Block(nn.Module):
    """Of a sequence of n rows of C channels; twice as many rows of half the channels inside."""

    def __init__(self, n: int, top: int, mix: Mix) -> None:
        super().__init__()
        rows, channels = 2 * n, C // 2
        self.longer, self.narrower = nn.Linear(n, rows), nn.Linear(C, channels)
        self.shorter, self.wider = nn.Linear(rows, n), nn.Linear(channels, C)
        self.first, self.second = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.rows, self.channels = Experts(rows, RATIO * rows, top), Experts(channels, RATIO * channels, top)
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        x = self.narrower(self.longer(x.transpose(1, 2)).transpose(1, 2))
        # Along the sequence a vector is a channel: experts mix rows.
        y = self.first(x).transpose(1, 2)
        x = x + self.rows(y.flatten(0, 1), self.mix).view_as(y).transpose(1, 2)
        y = self.second(x)
        x = x + self.channels(y.flatten(0, 1), torch.matmul).view_as(y)
        return self.wider(self.shorter(x.transpose(1, 2)).transpose(1, 2))


def mix(x: Tensor, w: Tensor) -> Tensor:
    """Rows mixed by W: the sequence of every vector, as [1, 1, rows, vectors]."""
    return hd.project(x.T[None, None], w)[0, 0].T


def inputs(rng: np.random.Generator, n: int, top: int) -> tuple[Any, ...]:
    weights = {
        name: (rng.standard_normal(p.shape) / (p.shape[-1] ** 0.5 if p.dim() > 1 else 2)).astype(np.float32)
        for name, p in Block(n, top, mix).state_dict().items()
    }
    return weights, rng.standard_normal((2, n, C)).astype(np.float32)


def run(weights: Any, x: Any, top: int, mix: Mix = mix) -> Any:
    block = Block(x.shape[1], top, mix)
    block.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    with torch.inference_mode():
        return block(torch.from_numpy(x)).numpy()


def run_with(kernel: Any, weights: Any, x: Any, top: int) -> Any:
    return run(weights, x, top, lambda y, w: kernel(y.T[None, None], w)[0, 0].T)
