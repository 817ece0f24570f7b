"""BERT and its kin: one encoder layer in PyTorch whose attention is Heddle's, under the heads that tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import heddle as hd

SYSTEM = "BERT, ELECTRA, StructBERT, WKLM"
SPEC = "full & lengths(%len)"
COST = "O(n^2)"
VARIANTS: dict[str, dict[str, Any]] = {kind: {"kind": kind} for kind in ("bert", "electra", "structbert", "wklm")}
WIDTH, HEADS, HIDDEN, VOCABULARY = 64, 2, 96, 40

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
    """A layer, and the head of the objective that a system is trained by."""

    def __init__(self, kind: str, attend: Attend) -> None:
        super().__init__()
        self.kind = kind
        self.layer, self.dense = Layer(attend), nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(*{
            "bert": (WIDTH, VOCABULARY),  # the word at a masked place
            "electra": (WIDTH, 1),  # was this token replaced?
            "structbert": (WIDTH, 3),  # the next, the previous or another sentence
            "wklm": (2 * WIDTH, 1),  # was this entity replaced? from the tokens before and behind it
        }[kind])  # fmt: skip

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = self.layer(x, hd.lengths(lengths))
        if self.kind == "wklm":  # an entity at every place
            return self.head(torch.cat([x, x.roll(-1, 1)], -1))
        if self.kind == "structbert":
            return self.head(torch.tanh(self.dense(x[:, :1])))
        return self.head(functional.gelu(self.dense(x)))


def inputs(rng: np.random.Generator, n: int, kind: str) -> tuple[Any, ...]:
    weights = {
        name: (rng.standard_normal(p.shape) / (p.shape[-1] ** 0.5 if p.dim() > 1 else 2)).astype(np.float32)
        for name, p in Model(kind, attend).state_dict().items()
    }
    return weights, rng.standard_normal((2, n, WIDTH)).astype(np.float32), np.array([n, max(n - 4, 1)])


def attend(q: Tensor, k: Tensor, v: Tensor, where: hd.Pattern) -> Tensor:
    return hd.attend(q, k, v, where=where)


def run(weights: Any, x: Any, lengths: Any, kind: str, attend: Attend = attend) -> Any:
    model = Model(kind, attend)
    model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    with torch.inference_mode():
        return model(torch.from_numpy(x), torch.from_numpy(lengths)).numpy()


def run_with(kernel: Any, weights: Any, x: Any, lengths: Any, kind: str) -> Any:
    return run(weights, x, lengths, kind, lambda q, k, v, where: kernel(q, k, v, lengths))
