"""Hugging Face's LongT5 with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import LongT5Config
from transformers.models.longt5.modeling_longt5 import LongT5TransientGlobalAttention

PACKAGE = "transformers"


def witness(weights: Any, x: Any, valid: Any) -> np.ndarray:
    config = LongT5Config(
        d_model=64, d_kv=32, num_heads=2, local_radius=7, global_block_size=16, dropout_rate=0.0,
        encoder_attention_type="transient-global", relative_attention_num_buckets=32,
        relative_attention_max_distance=128,
    )  # fmt: skip
    layer = LongT5TransientGlobalAttention(config, has_relative_attention_bias=True).eval()
    names = {"q": "q", "k": "k", "v": "v", "o": "o", "relative_attention_bias": "near"}
    names["global_relative_attention_bias"] = "far"
    state = {f"{theirs}.weight": torch.from_numpy(weights[f"{ours}.weight"]) for theirs, ours in names.items()}
    state["global_input_layer_norm.weight"] = torch.from_numpy(weights["norm"])
    layer.load_state_dict(state)
    with torch.no_grad():
        out = layer(torch.from_numpy(x), mask=torch.from_numpy(valid).float())[0].numpy()
    return out * valid[..., None]  # what it gives for padding means nothing
