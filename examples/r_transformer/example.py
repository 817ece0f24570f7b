"""R-Transformer: a recurrent network over each short window, then causal attention; the attention is Heddle's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import heddle as hd

SYSTEM = "R-Transformer"
SPEC = "causal; the recurrent network stays in the host framework"
COST = "O(n^2 + n K)"
VARIANTS: dict[str, dict[str, Any]] = {"GRU": {"cell": "GRU"}, "LSTM": {"cell": "LSTM"}, "RNN": {"cell": "RNN"}}
WIDTH, HEADS, HIDDEN, K = 64, 2, 96, 5

Attend = Callable[..., Tensor]


class Layer(nn.Module):
    def __init__(self, cell: str, attend: Attend) -> None:
        super().__init__()
        self.local = {"GRU": nn.GRU, "LSTM": nn.LSTM, "RNN": nn.RNN}[cell](WIDTH, WIDTH, batch_first=True)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.norm, self.middle, self.last = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.attend = attend

    def forward(self, x: Tensor) -> Tensor:
        # The last state over x_(i-K+1) ... x_i, zeros before the sequence: every window is a sequence of its own.
        windows = functional.pad(x, (0, 0, K - 1, 0)).unfold(1, K, 1).transpose(2, 3)
        states = self.local(windows.flatten(0, 1))[0][:, -1].unflatten(0, x.shape[:2])
        x = self.norm(x + states)
        q, k, v = (f(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        x = self.middle(x + self.o(self.attend(q, k, v).transpose(1, 2).flatten(2)))
        return self.last(x + self.down(torch.relu(self.up(x))))


def inputs(rng: np.random.Generator, n: int, cell: str) -> tuple[Any, ...]:
    weights = {
        name: (rng.standard_normal(p.shape) / (p.shape[-1] ** 0.5 if p.dim() > 1 else 2)).astype(np.float32)
        for name, p in Layer(cell, attend).state_dict().items()
    }
    return weights, rng.standard_normal((2, n, WIDTH)).astype(np.float32)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return hd.attend(q, k, v, where=hd.causal)


def run(weights: Any, x: Any, cell: str, attend: Attend = attend) -> Any:
    layer = Layer(cell, attend)
    layer.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    with torch.inference_mode():
        return layer(torch.from_numpy(x)).numpy()


def run_with(kernel: Any, weights: Any, x: Any, cell: str) -> Any:
    return run(weights, x, cell, kernel)
