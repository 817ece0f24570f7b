"""Heddle as an attention implementation of Hugging Face transformers.

    import heddle.transformers
    heddle.transformers.register()                                   # "heddle"
    model = AutoModel.from_pretrained(..., attn_implementation="heddle")

Both interfaces are registered: the mask interface hands over a compact `Mask` (the
traced mask function, the padding flags, the offsets) instead of a dense mask, and the
attention interface turns it, scaling, softcap, sinks and a position bias into one call
of `attend`. Queries or keys that are padding are rows without live keys: zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ._attend import attend
from ._pattern import Pattern, as_pattern, causal, full, holds, keys, window
from ._scalars import scalar, select, tanh, tensor


class Mask:
    """What a layer may see, without a dense mask.

    Attributes
    ----------
    pattern
        Pairs of positions, from the model's mask function, with padding as run-time flags.
    q_offset, k_offset
        Positions of the first query and of the first key.
    """

    __slots__ = ("k_offset", "pattern", "q_offset")

    def __init__(self, pattern: Pattern, q_offset: Any, k_offset: Any) -> None:
        self.pattern = pattern
        self.q_offset = q_offset
        self.k_offset = k_offset

    def __repr__(self) -> str:
        return f"heddle.transformers.Mask({self.pattern.text}, q_offset={self.q_offset}, k_offset={self.k_offset})"


def _named(mask_function: Callable[..., Any]) -> Pattern:
    """The pattern of a mask function; the two common ones without tracing."""
    from transformers import masking_utils

    if mask_function is masking_utils.causal_mask_function:
        return causal
    if mask_function is masking_utils.bidirectional_mask_function:
        return full
    return holds(mask_function)


def make_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Any = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: torch.Tensor | None = None,
    **_: Any,
) -> Mask:
    """The mask interface: see `transformers.masking_utils.sdpa_mask` for the parameters.

    `attention_mask` is boolean padding ``[B, keys seen so far]``, left or right; flags that are missing at
    the end stand for keys that are not written yet.
    """
    pattern = causal if mask_function is None else _named(mask_function)
    if attention_mask is not None:
        flags = attention_mask[:, kv_offset : kv_offset + kv_length]
        if flags.dtype != torch.bool:
            flags = flags != 0
        if flags.shape[1] < kv_length:
            flags = torch.nn.functional.pad(flags, (0, kv_length - flags.shape[1]))
        if not flags.all():
            pattern = pattern & keys(flags)
    return Mask(pattern, q_offset, kv_offset)


def _softcap(cap: float) -> Callable[..., Any]:
    return lambda s, b, h, i, j: cap * tanh(s / cap)


def _biased(score: Callable[..., Any] | None, bias: torch.Tensor, q_offset: int, k_offset: int) -> Callable[..., Any]:
    """`score` plus a bias ``[B or 1, H or 1, Nq or 1, Nk]`` of rows, additive or boolean (true: live)."""
    table = tensor(bias)
    first_query, first_key = scalar(q_offset), scalar(k_offset)
    one_b, one_h, one_q, _ = (n == 1 for n in bias.shape)
    boolean = bias.dtype == torch.bool

    def biased(s: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
        s = s if score is None else score(s, b, h, i, j)
        x = table[0 if one_b else b, 0 if one_h else h, 0 if one_q else i - first_query, j - first_key]
        return select(x, s, float("-inf")) if boolean else s + x

    return biased


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Mask | torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    where: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The attention interface: see `transformers.integrations.sdpa_attention` for the parameters.

    Parameters
    ----------
    query, key, value
        ``[B, Hq, Nq, D]``, ``[B, Hk, Nk, D]``, ``[B, Hk, Nk, Dv]``.
    attention_mask
        A `Mask`; or a dense mask ``[B, 1 or H, Nq, Nk]``, additive or boolean; or None: causal where the
        module is, with the `sliding_window`.
    softcap
        s becomes softcap * tanh(s / softcap).
    s_aux
        Sink logits ``[H]``.
    position_bias
        Added to the scores, ``[B or 1, H, Nq, Nk]``.

    Returns
    -------
    (out, None)
        ``[B, Nq, Hq, Dv]``, contiguous.

    Raises
    ------
    ValueError
        Where dropout is asked for, or a gradient.
    """
    if dropout > 0:
        raise ValueError(f"expected dropout 0, but got {dropout}: heddle has no training mode yet; call model.eval()")
    score = None if softcap is None else _softcap(float(softcap))
    pattern: Pattern = full
    q_offset = k_offset = 0
    if isinstance(attention_mask, Mask):
        pattern, q_offset, k_offset = attention_mask.pattern, int(attention_mask.q_offset), int(attention_mask.k_offset)
    elif attention_mask is None:
        wants = getattr(module, "is_causal", True) if is_causal is None else is_causal
        if wants and query.shape[2] > 1:
            pattern = causal
            if sliding_window is not None:
                pattern = window(int(sliding_window) - 1, 0)
    else:
        score = _biased(score, attention_mask[..., : key.shape[2]], 0, 0)
    if position_bias is not None:
        score = _biased(score, position_bias[..., : key.shape[2]], q_offset, k_offset)
    if where is not None:
        pattern = pattern & where
    if s_aux is not None:
        s_aux = s_aux.float()
    out = attend(
        query,
        key,
        value,
        where=pattern,
        score=score,
        scale=scaling,
        sink=s_aux,
        q_offset=q_offset,
        k_offset=k_offset,
    )
    return out.transpose(1, 2).contiguous(), None


def register(name: str = "heddle", where: Any = None) -> None:
    """Makes Heddle available to transformers as ``attn_implementation=name``.

    Parameters
    ----------
    name
        The implementation's name.
    where
        A `Pattern`, or a function of (b, h, i, j), that every layer's mask is intersected with; for example
        ``hd.window(64, 64)`` to run an encoder with a sliding window. Register several names for several.
    """
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
    except ImportError as e:
        raise RuntimeError("expected the package transformers (4.53 or later), but got none") from e
    extra = None if where is None else as_pattern(where)

    def forward(
        module: torch.nn.Module, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, None]:
        return attention(module, query, key, value, attention_mask, where=extra, **kwargs)

    AttentionInterface.register(name, forward)
    AttentionMaskInterface.register(name, make_mask)


__all__ = ["Mask", "attention", "make_mask", "register"]
