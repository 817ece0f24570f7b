"""ALBERT: a factorised embedding, and one layer applied several times, whose attention is Heddle's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import heddle as hd

SYSTEM = "ALBERT"
SPEC = "full & lengths(%len), one layer in a loop"
COST = "O(n^2)"
VARIANTS: dict[str, dict[str, Any]] = {"": {}}
WIDTH, HEADS, HIDDEN, VOCABULARY, SMALL, LAYERS = 64, 2, 96, 40, 16, 3

Attend = Callable[..., Tensor]


class Layer(nn.Module):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.norm, self.last = nn.LayerNorm(WIDTH, 1e-12), nn.LayerNorm(WIDTH, 1e-12)
        self.attend = attend

    def forward(self, x: Tensor, where: hd.Pattern) -> Tensor:
        q, k, v = (f(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        x = self.norm(x + self.o(self.attend(q, k, v, where).transpose(1, 2).flatten(2)))
        return self.last(x + self.down(functional.gelu(self.up(x))))


class Model(nn.Module):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, SMALL), nn.Embedding(512, SMALL)
        self.first, self.wide = nn.LayerNorm(SMALL, 1e-12), nn.Linear(SMALL, WIDTH)
        self.layer = Layer(attend)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        x = self.wide(self.first(self.words(words) + self.places.weight[: words.shape[1]]))
        for _ in range(LAYERS):  # the same weights, and the same kernel
            x = self.layer(x, hd.lengths(lengths))
        return x


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    weights = {
        name: (rng.standard_normal(p.shape) / (p.shape[-1] ** 0.5 if p.dim() > 1 else 2)).astype(np.float32)
        for name, p in Model(attend).state_dict().items()
    }
    return weights, rng.integers(0, VOCABULARY, (2, n)), np.array([n, max(n - 4, 1)])


def attend(q: Tensor, k: Tensor, v: Tensor, where: hd.Pattern) -> Tensor:
    return hd.attend(q, k, v, where=where)


def run(weights: Any, words: Any, lengths: Any, attend: Attend = attend) -> Any:
    model = Model(attend)
    model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    with torch.inference_mode():
        return model(torch.from_numpy(words), torch.from_numpy(lengths)).numpy()


def run_with(kernel: Any, weights: Any, words: Any, lengths: Any) -> Any:
    return run(weights, words, lengths, lambda q, k, v, where: kernel(q, k, v, lengths))
