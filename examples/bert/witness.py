"""Hugging Face's BERT and ELECTRA with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers

PACKAGE = "transformers"
LAYER = {
    "attention.self.query": "q", "attention.self.key": "k", "attention.self.value": "v",
    "attention.output.dense": "o", "attention.output.LayerNorm": "norm", "intermediate.dense": "up",
    "output.dense": "down", "output.LayerNorm": "last",
}  # fmt: skip


def witness(weights: Any, x: Any, lengths: Any, kind: str) -> np.ndarray | None:
    if kind not in ("bert", "electra"):
        return None
    sizes = {
        "hidden_size": x.shape[-1], "embedding_size": x.shape[-1], "num_attention_heads": 2, "num_hidden_layers": 1,
        "intermediate_size": weights["layer.up.bias"].size, "vocab_size": 40, "attn_implementation": "eager",
    }  # fmt: skip
    w = {name: torch.from_numpy(p) for name, p in weights.items()}
    if kind == "bert":
        model = transformers.BertForPreTraining(transformers.BertConfig(**sizes)).eval()
        encoder, transform = model.bert.encoder, model.cls.predictions.transform
        # The transform has a norm, which the head here leaves to the weights: read what stands before it.
        transform.LayerNorm = torch.nn.Identity()
        head, dense = model.cls.predictions.decoder, transform.dense
    else:
        model = transformers.ElectraForPreTraining(transformers.ElectraConfig(**sizes)).eval()
        encoder, predictions = model.electra.encoder, model.discriminator_predictions
        head, dense = predictions.dense_prediction, predictions.dense
    state = {f"{t}.{p}": w[f"layer.{o}.{p}"] for t, o in LAYER.items() for p in ("weight", "bias")}
    encoder.layer[0].load_state_dict(state)
    for module, name in ((head, "head"), (dense, "dense")):
        module.load_state_dict({p: w[f"{name}.{p}"] for p in ("weight", "bias")})
    live = torch.arange(x.shape[1]) < torch.from_numpy(lengths)[:, None]
    mask = torch.where(live, 0.0, torch.finfo(torch.float32).min)[:, None, None]
    with torch.no_grad():
        y = encoder(torch.from_numpy(x), attention_mask=mask)[0]
        if kind == "bert":
            return model.cls.predictions(y).numpy()
        return model.discriminator_predictions(y)[..., None].numpy()
