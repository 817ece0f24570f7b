"""Knowledge tracing with convolutions: 3-D ones of recent questions, causal attention for the long term."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import heddle as hd

SYSTEM = "DKT with convolutions"
SPEC = "causal(1) for the long term; 3-D convolution stays in the host framework"
COST = "O(n^2 + n K)"
VARIANTS: dict[str, dict[str, Any]] = {"": {}}
WIDTH, HEADS, SIDE, K, CHANNELS, QUESTIONS = 64, 2, 8, 4, 3, 20

Attend = Callable[..., Tensor]


class Model(nn.Module):
    """The probability that each question is answered right, from the interactions before it."""

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.questions, self.interactions = nn.Embedding(QUESTIONS, WIDTH), nn.Embedding(2 * QUESTIONS, WIDTH)
        self.recent = nn.Conv3d(1, CHANNELS, (K, 3, 3), padding=(0, 1, 1))
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = nn.Linear(2 * WIDTH + CHANNELS * WIDTH, 1)
        self.attend = attend

    def forward(self, questions: Tensor, answers: Tensor) -> Tensor:
        asked, seen = self.questions(questions), self.interactions(questions + QUESTIONS * answers)
        # The K interactions before each question, as K images of 8 x 8: one output image for each place.
        images = functional.pad(seen, (0, 0, K, 0))[:, :-1].unflatten(2, (SIDE, SIDE))[:, None]
        recent = torch.relu(self.recent(images)).transpose(1, 2).flatten(2)
        q, k, v = (
            f(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for f, x in ((self.q, asked), (self.k, seen), (self.v, seen))
        )
        long = self.attend(q, k, v).transpose(1, 2).flatten(2)
        return torch.sigmoid(self.out(torch.cat([asked, long, recent], -1)))


def inputs(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    weights = {
        name: (rng.standard_normal(p.shape) / (p.shape[-1] ** 0.5 if p.dim() > 1 else 2)).astype(np.float32)
        for name, p in Model(attend).state_dict().items()
    }
    return weights, rng.integers(0, QUESTIONS, (2, n)), rng.integers(0, 2, (2, n))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return hd.attend(q, k, v, where=hd.causal(1))


def run(weights: Any, questions: Any, answers: Any, attend: Attend = attend) -> Any:
    model = Model(attend)
    model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    with torch.inference_mode():
        return model(torch.from_numpy(questions), torch.from_numpy(answers)).numpy()


def run_with(kernel: Any, weights: Any, questions: Any, answers: Any) -> Any:
    return run(weights, questions, answers, kernel)
