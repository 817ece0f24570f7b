"""Hugging Face's BigBird with the same random blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import BigBirdConfig
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention

PACKAGE = "transformers"
B = 8


def witness(q: Any, k: Any, v: Any, chosen: Any, drawn: bool) -> np.ndarray | None:
    batch, heads, n, d = q.shape
    if drawn:
        return None
    config = BigBirdConfig(
        num_attention_heads=heads, hidden_size=heads * d, block_size=B, num_random_blocks=chosen.shape[-1]
    )
    layer = BigBirdBlockSparseAttention(config)
    layer._bigbird_block_rand_mask_with_head = lambda **_: list(chosen[0, :, 1:-1])
    blocked = torch.ones(batch, n // B, B)
    with torch.no_grad():
        out, _ = layer.eval().bigbird_block_sparse_attention(
            *(torch.from_numpy(x) for x in (q, k, v)), torch.ones(batch, 1, n // B - 4, B, 3 * B),
            torch.ones(batch, 1, n, 1), torch.ones(batch, 1, 1, n), blocked, blocked, heads, chosen.shape[-1], d, B, B,
            batch, n, n, 0, n, [chosen.shape[-1]],
        )  # fmt: skip
    return out.transpose(1, 2).numpy()
