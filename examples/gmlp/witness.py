"""The package `g-mlp-pytorch`: its gating unit, with the norm left out as in the example."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import nn

package = importlib.import_module("g_mlp_pytorch.g_mlp_pytorch")
PACKAGE = "g-mlp-pytorch"


def witness(
    z1: Any, z2: Any, w: Any, bias: Any, q: Any, k: Any, v: Any, causal: bool, tiny: bool
) -> np.ndarray:  # fmt: skip
    one, two, q, k, v = (torch.from_numpy(x)[:, 0] for x in (z1, z2, q, k, v))
    unit = package.SpatialGatingUnit(2 * one.shape[2], one.shape[1], causal=causal)
    unit.norm = nn.Identity()
    unit.weight.data, unit.bias.data = torch.from_numpy(w)[None], torch.from_numpy(bias)[None]
    beside = None
    with torch.no_grad():
        if tiny:
            attention = package.Attention(1, 1, q.shape[2])
            attention.to_qkv = attention.to_out = nn.Identity()
            q, k = (nnf.pad(x, (0, v.shape[2] - x.shape[2])) for x in (q, k))  # it splits in three equal parts
            beside = attention(torch.cat([q, k, v], -1))
        return unit(torch.cat([one, two], -1), gate_res=beside)[:, None].numpy()
