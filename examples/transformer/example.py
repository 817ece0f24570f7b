"""Attention is All You Need: encoder and decoder layers in PyTorch whose attention is Heddle's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import heddle as hd

SYSTEM = "Attention is All You Need"
SPEC = "full & lengths(%len), causal, cross attention"
COST = "O(n^2)"
VARIANTS: dict[str, dict[str, Any]] = {"encoder": {"decoder": False}, "decoder": {"decoder": True}}
WIDTH, HEADS, HIDDEN, MEMORY = 64, 2, 96, 11

Attend = Callable[..., Tensor]


class Attention(nn.Module):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.attend = attend

    def forward(self, x: Tensor, memory: Tensor, where: Any) -> Tensor:
        parts = self.q(x), self.k(memory), self.v(memory)
        q, k, v = (y.unflatten(2, (HEADS, -1)).transpose(1, 2) for y in parts)
        return self.o(self.attend(q, k, v, where).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Post-norm, as in the paper."""

    def __init__(self, decoder: bool, attend: Attend) -> None:
        super().__init__()
        self.own, self.norm = Attention(attend), nn.LayerNorm(WIDTH)
        if decoder:
            self.cross, self.cross_norm = Attention(attend), nn.LayerNorm(WIDTH)
        self.up, self.down, self.last = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH), nn.LayerNorm(WIDTH)
        self.decoder = decoder

    def forward(self, x: Tensor, memory: Tensor, lengths: Tensor) -> Tensor:
        seen = hd.causal if self.decoder else hd.lengths(lengths)
        x = self.norm(x + self.own(x, x, seen))
        if self.decoder:
            x = self.cross_norm(x + self.cross(x, memory, hd.lengths(lengths)))
        return self.last(x + self.down(torch.relu(self.up(x))))


def inputs(rng: np.random.Generator, n: int, decoder: bool) -> tuple[Any, ...]:
    weights = {
        name: (rng.standard_normal(p.shape) / (p.shape[-1] ** 0.5 if p.dim() > 1 else 2)).astype(np.float32)
        for name, p in Layer(decoder, attend).state_dict().items()
    }
    rows = MEMORY if decoder else n
    x, memory = (rng.standard_normal((2, m, WIDTH)).astype(np.float32) for m in (n, MEMORY))
    return weights, x, memory, np.array([rows, max(rows - 4, 1)])


def attend(q: Tensor, k: Tensor, v: Tensor, where: Any) -> Tensor:
    return hd.attend(q, k, v, where=where)


def run(weights: Any, x: Any, memory: Any, lengths: Any, decoder: bool, attend: Attend = attend) -> Any:
    layer = Layer(decoder, attend)
    layer.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    with torch.inference_mode():
        return layer(torch.from_numpy(x), torch.from_numpy(memory), torch.from_numpy(lengths)).numpy()


def run_with(kernel: Any, weights: Any, x: Any, memory: Any, lengths: Any, decoder: bool) -> Any:
    return run(weights, x, memory, lengths, decoder, lambda q, k, v, where: kernel(q, k, v, lengths))
