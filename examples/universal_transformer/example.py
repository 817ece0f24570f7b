"""Universal Transformer: one block in a loop, positions and steps added before each, adaptive halting by position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import heddle as hd

SYSTEM = "Universal Transformer"
SPEC = "full & queries(%running), or causal, one block in a loop"
COST = "O(T n^2)"
VARIANTS: dict[str, dict[str, Any]] = {"encoder": {"causal": False}, "decoder": {"causal": True}}
WIDTH, HEADS, HIDDEN, STEPS, THRESHOLD = 64, 2, 96, 4, 0.9

Attend = Callable[..., Tensor]


class Block(nn.Module):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.norm, self.last = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.halt = nn.Linear(WIDTH, 1)
        self.attend = attend

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """Each position runs until its halting probabilities sum to the threshold; the result is their mean."""
        total, out = x.new_zeros(x.shape[:2]), torch.zeros_like(x)
        for step in range(STEPS):
            running = total < THRESHOLD
            x = x + signal(x.shape[1], step)
            p = torch.where(running, torch.sigmoid(self.halt(x))[..., 0], 0)
            # What is left goes to the step that a position halts at, or to the last one.
            halts = running & ((total + p >= THRESHOLD) | (step == STEPS - 1))
            p = torch.where(halts, 1 - total, p)
            total = total + p
            # Rows that have halted have no live key: their tiles cost nothing, and their result has weight 0.
            x = self.step(x, running, causal)
            out = out + p[..., None] * x
        return out

    def step(self, x: Tensor, running: Tensor, causal: bool) -> Tensor:
        q, k, v = (f(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        own = self.attend(q, k, v, running, causal).transpose(1, 2).flatten(2)
        y = self.norm(x + self.o(own))
        y = self.last(y + self.down(torch.relu(self.up(y))))
        return torch.where(running[..., None], y, x)  # a position that has halted is copied


def signal(n: int, step: int) -> Tensor:
    """Sinusoids of the position and of the step, summed."""
    rate = 10000.0 ** (-torch.arange(0, WIDTH, 2) / WIDTH)
    angles = [torch.arange(n)[:, None] * rate, torch.full((n, 1), step + 1) * rate]
    return sum(torch.stack([a.sin(), a.cos()], -1).flatten(1) for a in angles)  # type: ignore[return-value]


def inputs(rng: np.random.Generator, n: int, causal: bool) -> tuple[Any, ...]:
    weights = {
        name: (rng.standard_normal(p.shape) / (p.shape[-1] ** 0.5 if p.dim() > 1 else 2)).astype(np.float32)
        for name, p in Block(attend).state_dict().items()
    }
    return weights, rng.standard_normal((2, n, WIDTH)).astype(np.float32)


def attend(q: Tensor, k: Tensor, v: Tensor, running: Tensor, causal: bool) -> Tensor:
    return hd.attend(q, k, v, where=(hd.causal if causal else hd.full) & hd.queries(running))


def run(weights: Any, x: Any, causal: bool, attend: Attend = attend) -> Any:
    block = Block(attend)
    block.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    with torch.inference_mode():
        return block(torch.from_numpy(x), causal).numpy()


def run_with(kernel: Any, weights: Any, x: Any, causal: bool) -> Any:
    return run(weights, x, causal, lambda q, k, v, running, causal: kernel(q, k, v, running))
