"""Hugging Face's Swin on given projections."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import SwinConfig
from transformers.models.swin.modeling_swin import SwinLayer

PACKAGE = "transformers"
W, M = 12, 4


class Features(nn.Module):
    """In place of a projection: some of the features."""

    def __init__(self, first: int, count: int) -> None:
        super().__init__()
        self.part = slice(first, first + count)

    def forward(self, x: Tensor) -> Tensor:
        return x[..., self.part]


def witness(q: Any, k: Any, v: Any, table: Any, shift: int) -> np.ndarray:
    batch, heads, n, d = q.shape
    width = heads * d
    size = n // W, W
    config = SwinConfig(window_size=M, num_heads=[heads], embed_dim=width, attn_implementation="eager")
    layer = SwinLayer(config, width, size, heads, shift_size=shift).eval()
    own = layer.attention
    own.q_proj, own.k_proj, own.v_proj = (Features(p * width, width) for p in range(3))
    own.o_proj = nn.Identity()
    own.relative_position_bias.relative_position_bias_table.data = torch.from_numpy(table).flatten(1).T.contiguous()
    # What the layer does around its attention, without norms and residuals.
    x = torch.cat([torch.from_numpy(t).transpose(1, 2).flatten(2) for t in (q, k, v)], -1)
    x = torch.roll(x.view(batch, *size, -1), (-shift, -shift), (1, 2))
    cut = x.view(batch, size[0] // M, M, W // M, M, -1).transpose(2, 3).reshape(-1, M * M, x.shape[-1])
    mask = layer.get_attn_mask(*size, dtype=torch.float32, device="cpu") if shift else None
    with torch.no_grad():
        out = own(cut, mask)[0]
    out = out.view(batch, size[0] // M, W // M, M, M, -1).transpose(2, 3).reshape(batch, *size, -1)
    out = torch.roll(out, (shift, shift), (1, 2)).reshape(batch, n, heads, d)
    return out.transpose(1, 2).numpy()
