"""PyTorch's own layers with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

PACKAGE = "torch.nn"


def witness(weights: Any, x: Any, memory: Any, lengths: Any, decoder: bool) -> np.ndarray:
    w = {name: torch.from_numpy(p) for name, p in weights.items()}
    names = {"linear1": "up", "linear2": "down", "norm1": "norm", "norm3" if decoder else "norm2": "last"}
    if decoder:
        names["norm2"] = "cross_norm"
    state = {f"{theirs}.{p}": w[f"{ours}.{p}"] for theirs, ours in names.items() for p in ("weight", "bias")}
    for theirs, ours in (("self_attn", "own"), ("multihead_attn", "cross"))[: 1 + decoder]:
        for p in ("weight", "bias"):
            state[f"{theirs}.in_proj_{p}"] = torch.cat([w[f"{ours}.{part}.{p}"] for part in "qkv"])
            state[f"{theirs}.out_proj.{p}"] = w[f"{ours}.o.{p}"]
    make = nn.TransformerDecoderLayer if decoder else nn.TransformerEncoderLayer
    layer = make(x.shape[-1], 2, w["up.bias"].numel(), dropout=0.0, batch_first=True).eval()
    layer.load_state_dict(state)
    y, m = torch.from_numpy(x), torch.from_numpy(memory)
    padding = torch.arange((m if decoder else y).shape[1]) >= torch.from_numpy(lengths)[:, None]
    future = torch.ones(y.shape[1], y.shape[1], dtype=torch.bool).triu(1)
    with torch.no_grad():
        if decoder:
            return layer(y, m, tgt_mask=future, memory_key_padding_mask=padding).numpy()
        return layer(y, src_key_padding_mask=padding).numpy()
