"""Hugging Face's XLNet, whose attention is that of Transformer-XL, on the same projections."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import XLNetConfig
from transformers.models.xlnet.modeling_xlnet import XLNetRelativeAttention

PACKAGE = "transformers"
MEM = 20


def witness(q: Any, k: Any, v: Any, r: Any, u: Any, w: Any, kind: str) -> np.ndarray | None:
    _, heads, n, d = q.shape
    if kind == "learned":
        return None
    layer = XLNetRelativeAttention(XLNetConfig(d_model=heads * d, n_head=heads, d_head=d)).eval()
    layer.r_w_bias.data, layer.r_r_bias.data = (torch.from_numpy(x[:, 0]) for x in (u, w))
    total = MEM + n
    # Rows of the distances total ... -n + 1; those below 0 are masked.
    distance = np.clip(np.arange(total, -n, -1), 0, r.shape[2] - 1)
    parts = [torch.from_numpy(x.transpose(2, 0, 1, 3)) for x in (q, k, v)]
    rows = torch.from_numpy(r[:, :, distance].transpose(2, 0, 1, 3)).expand(-1, q.shape[0], -1, -1)
    i, j = torch.arange(n)[:, None] + MEM, torch.arange(total)[None]
    dead = (j > i) | ((j < i - MEM) if kind == "same length" else False)
    with torch.no_grad():
        out = layer.rel_attn_core(*parts, rows, attn_mask=dead[:, :, None, None].float())
    return out.numpy().transpose(1, 2, 0, 3)
