"""Set Transformer: attention through inducing points, alone and in the blocks SAB, ISAB and PMA of a PyTorch model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import heddle as hd

SYSTEM = "Set Transformer"
SPEC = "two attends, full"
COST = "O(n m)"
VARIANTS: dict[str, dict[str, Any]] = {"attention": {"blocks": False}, "blocks": {"blocks": True}}
SCALE = 64**-0.5  # of the whole layer: 2 heads of 32


def rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


class MAB(nn.Module):
    """MAB(X, Y): O = Q + softmax(Q K^T / sqrt(width)) V, then O + relu(W O); the residual is the projected query."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(64, 64) for _ in range(4))
        self.norm, self.last = nn.LayerNorm(64), nn.LayerNorm(64)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        q = self.q(x)
        heads = [t.unflatten(2, (2, -1)).transpose(1, 2) for t in (q, self.k(y), self.v(y))]
        o = self.norm(q + hd.attend(*heads, scale=SCALE).transpose(1, 2).flatten(2))
        return self.last(o + torch.relu(self.o(o)))


class Model(nn.Module):
    """ISAB, SAB, then pooling by attention to two seeds."""

    def __init__(self) -> None:
        super().__init__()
        self.points, self.seeds = nn.Parameter(torch.empty(1, 8, 64)), nn.Parameter(torch.empty(1, 2, 64))
        self.induce, self.induced, self.own, self.pool = (MAB() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.induced(x, self.induce(self.points.expand(len(x), -1, -1), x))  # ISAB
        x = self.own(x, x)  # SAB
        return self.pool(self.seeds.expand(len(x), -1, -1), x)  # PMA


def inputs(rng: np.random.Generator, n: int, blocks: bool) -> tuple[Any, ...]:
    if blocks:
        weights = {
            name: (rng.standard_normal(p.shape) / (p.shape[-1] ** 0.5 if p.dim() > 1 else 2)).astype(np.float32)
            for name, p in Model().state_dict().items()
        }
        return weights, rows(rng, 2, n, 64)
    points = rows(rng, 2, 2, 8, 32)
    return points, *(rows(rng, 2, 2, n, 32) for _ in range(3))


@hd.kernel
def induced(points: Any, q: Any, k: Any, v: Any) -> Any:
    summary = hd.attend(points, k, v, scale=SCALE)
    return hd.attend(q, summary, summary, scale=SCALE)


def run(*args: Any, blocks: bool = False) -> Any:
    if not blocks:
        return induced(*args)
    model = Model()
    model.load_state_dict({name: torch.from_numpy(w) for name, w in args[0].items()})
    with torch.inference_mode():
        return model(torch.from_numpy(args[1])).numpy()
