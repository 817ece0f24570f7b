"""Hugging Face's ALBERT with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers

PACKAGE = "transformers"
NAMES = {
    "embeddings.word_embeddings": "words", "embeddings.position_embeddings": "places", "embeddings.LayerNorm": "first",
    "encoder.embedding_hidden_mapping_in": "wide",
}  # fmt: skip
LAYER = {
    "attention.query": "q", "attention.key": "k", "attention.value": "v", "attention.dense": "o",
    "attention.LayerNorm": "norm", "ffn": "up", "ffn_output": "down", "full_layer_layer_norm": "last",
}  # fmt: skip


def witness(weights: Any, words: Any, lengths: Any) -> np.ndarray:
    config = transformers.AlbertConfig(
        vocab_size=40, embedding_size=16, hidden_size=64, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=96, hidden_act="gelu", attn_implementation="eager",
    )  # fmt: skip
    model = transformers.AlbertModel(config, add_pooling_layer=False).eval()
    names = NAMES | {f"encoder.albert_layer_groups.0.albert_layers.0.{t}": f"layer.{o}" for t, o in LAYER.items()}
    state = {name: torch.zeros_like(p) for name, p in model.state_dict().items() if "token_type_emb" in name}
    for theirs, ours in names.items():
        for p in ("weight", "bias"):
            if f"{ours}.{p}" in weights:
                state[f"{theirs}.{p}"] = torch.from_numpy(weights[f"{ours}.{p}"])
    left = model.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert not [k for k in left.missing_keys if "_ids" not in k]
    live = torch.arange(words.shape[1]) < torch.from_numpy(lengths)[:, None]
    with torch.no_grad():
        return model(torch.from_numpy(words), attention_mask=live.long()).last_hidden_state.numpy()
