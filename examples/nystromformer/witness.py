"""Hugging Face's Nystroemformer on the same projections."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import NystromformerConfig
from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention

PACKAGE = "transformers"


class Features(nn.Module):
    """In place of a projection: some of the features."""

    def __init__(self, first: int, count: int) -> None:
        super().__init__()
        self.part = slice(first, first + count)

    def forward(self, x: Tensor) -> Tensor:
        return x[..., self.part]


def witness(q: Any, k: Any, v: Any, taps: Any) -> np.ndarray:
    batch, heads, n, d = q.shape
    width = heads * d
    config = NystromformerConfig(
        hidden_size=width, num_attention_heads=heads, num_landmarks=8, segment_means_seq_len=n,
        conv_kernel_size=taps.shape[1], attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    layer = NystromformerSelfAttention(config).eval()
    layer.query, layer.key, layer.value = (Features(p * width, width) for p in range(3))
    layer.conv.weight.data = torch.from_numpy(taps)[:, None, :, None]
    x = torch.cat([torch.from_numpy(t).transpose(1, 2).flatten(2) for t in (q, k, v)], -1)
    with torch.no_grad():
        out = layer(x)[0]
    return out.unflatten(2, (heads, d)).transpose(1, 2).numpy()
