"""What a PyTorch user would run instead: SDPA, compiled FlexAttention, and the pattern rewritten by hand.

A rewrite maps the pattern to dense problems that SDPA takes: permutation for strides
and dilation, overlapping views for windows, and a merge by lse where two parts make
one softmax. Each comes in the ways one would try; the bench keeps the fastest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import _cases
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

Run = Callable[[], Any]
Rewrite = Callable[[Any, Any, Any], Any]
NEVER = -math.inf


def flash(q: Any, k: Any, v: Any, causal: bool = False, mask: Any = None) -> tuple[Any, Any]:
    """SDPA with lse: the op behind it on CPU."""
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, attn_mask=mask)


def flex(name: str, score: str, n: int, q: Any, k: Any, v: Any) -> Run:
    """Compiled FlexAttention; its block mask is made beforehand."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = 64
    # Without dynamic shapes, as its documentation advises where lengths are fixed.
    compiled = torch.compile(flex_attention, dynamic=False)
    mask_mod = _cases.FLEX.get(name)
    tensors = _cases.operands(name, n)
    if "docs" in tensors:
        docs = torch.from_numpy(tensors["docs"][0])
        same = lambda b, h, i, j: docs[i] == docs[j]  # noqa: E731
        mask_mod = (lambda b, h, i, j: (i >= j) & same(b, h, i, j)) if name.startswith("causal") else same
    score_mod = flex_score(score, q.shape[1]) if score else None
    mask = create_block_mask(mask_mod, None, None, n, n, device="cpu") if mask_mod else None

    def run() -> Any:
        with torch.no_grad():
            return compiled(q, k, v, score_mod=score_mod, block_mask=mask)

    return run


def flex_score(name: str, heads: int) -> Callable[..., Any]:
    """A score function of the bench as FlexAttention takes it."""
    if name == "alibi":
        slope = torch.from_numpy(_cases.slopes(heads))
        return lambda s, b, h, i, j: s - slope[h] * (i - j)
    if name == "softcap":
        return lambda s, b, h, i, j: 50.0 * torch.tanh(s / 50.0)
    if name == "relative_bias":
        table = torch.from_numpy(_cases.distance_table(heads))
        return lambda s, b, h, i, j: s + table[h, torch.clamp(i - j, 0, 128)]
    return lambda s, b, h, i, j: s * 0.5 - torch.abs(i - j) * 0.01


# ------------------------------------------------------------------ rewrites


def merge(parts: list[tuple[Any, Any]]) -> Any:
    """out = sum_p exp(lse_p - lse) out_p; [B, H, N, D] and [B, H, N]."""
    weights = torch.softmax(torch.stack([lse for _, lse in parts]), 0)
    total = parts[0][0] * weights[0, ..., None].to(parts[0][0].dtype)
    for (out, _), w in zip(parts[1:], weights[1:], strict=True):
        total = total + out * w[..., None].to(out.dtype)
    return total


def classes(x: Any, n: int, copy: bool) -> Any:
    """[1, H, N, D] as [H, n, N / n, D]: the residues modulo n, each a sequence."""
    _, h, rows, d = x.shape
    x = x.view(h, rows // n, n, d).transpose(1, 2)
    return x.contiguous() if copy else x


def unclasses(x: Any) -> Any:
    """The inverse of `classes`."""
    h, n, m, d = x.shape
    return x.transpose(1, 2).reshape(1, h, n * m, d)


def in_blocks(x: Any, size: int) -> Any:
    """[B, H, N, D] as [B H, N / size, size, D], a view."""
    b, h, rows, d = x.shape
    return x.view(b * h, rows // size, size, d)


@functools.lru_cache(16)
def band_mask(rows: int, left: int, chunk: int, right: int, dtype: Any) -> Any:
    """[1, rows / chunk, chunk, left + chunk + right]: the band of a chunk on padded keys, as an addend."""
    q = torch.arange(rows).view(rows // chunk, chunk, 1)
    k = torch.arange(rows // chunk)[:, None, None] * chunk - left + torch.arange(left + chunk + right)
    live = (q - k <= left) & (k - q <= right) & (k >= 0) & (k < rows)
    return torch.where(live, 0.0, NEVER).to(dtype)[None]


def band_parts(q: Any, k: Any, v: Any, left: int, right: int, chunk: int) -> tuple[Any, Any]:
    """Out and lse of a band -left <= j - i <= right: chunks of queries on overlapping views of padded keys (unfold)."""
    b, h, rows, _ = q.shape
    chunk = min(chunk, rows)
    pad = (0, 0, left, right)
    k, v = (torch.nn.functional.pad(x, pad).flatten(0, 1).unfold(1, left + chunk + right, chunk) for x in (k, v))
    mask = band_mask(rows, left, chunk, right, q.dtype)
    out, lse = flash(in_blocks(q, chunk), k.transpose(-1, -2), v.transpose(-1, -2), mask=mask)
    return out.reshape(b, h, rows, -1), lse.reshape(b, h, rows)


def band(left: int, right: int = 0) -> list[Rewrite]:
    """Windows in chunks of several sizes."""
    return [
        functools.partial(lambda q, k, v, c: band_parts(q, k, v, left, right, c)[0], c=c)
        for c in (32, 64, 128, 256, 512)
        if c <= max(2 * (left + right), 32)
    ]


def strided(n: int) -> list[Rewrite]:
    """causal & stride(n): causal SDPA inside each residue class."""

    def run(q: Any, k: Any, v: Any, copy: bool) -> Any:
        return unclasses(sdpa(*(classes(x, n, copy) for x in (q, k, v)), is_causal=True))

    return [functools.partial(run, copy=copy) for copy in (False, True)]


def dilated(left: int, n: int) -> list[Rewrite]:
    """window(left, 0, dilation = n): a window inside each residue class, by chunks or by one mask."""

    def chunked(q: Any, k: Any, v: Any, c: int) -> Any:
        return unclasses(band_parts(*(classes(x, n, True) for x in (q, k, v)), left, 0, c)[0])

    def masked(q: Any, k: Any, v: Any) -> Any:
        rows = q.shape[2] // n
        mask = band_mask(rows, left, rows, 0, q.dtype)[..., left:]
        return unclasses(sdpa(*(classes(x, n, True) for x in (q, k, v)), attn_mask=mask))

    return [*(functools.partial(chunked, c=c) for c in (32, 64, 128, 256)), masked]


def blocks(size: int, causal: bool = False) -> list[Rewrite]:
    """block(size): SDPA on the reshaped problem."""

    def run(q: Any, k: Any, v: Any) -> Any:
        return sdpa(*(in_blocks(x, size) for x in (q, k, v)), is_causal=causal).reshape(q.shape)

    return [run]


def sparse_transformer(l: int) -> list[Rewrite]:
    """causal & (window(l - 1, 0) | stride(l)): the two parts overlap in the diagonal, which the window keeps."""

    def run(q: Any, k: Any, v: Any, chunk: int) -> Any:
        local = band_parts(q, k, v, l - 1, 0, chunk)
        qc, kc, vc = (classes(x, l, False) for x in (q, k, v))
        # Strictly earlier keys of the class: causal on keys shifted by one.
        out, lse = flash(qc[:, :, 1:], kc[:, :, :-1], vc[:, :, :-1], causal=True)
        far = torch.nn.functional.pad(out, (0, 0, 1, 0))
        lse = torch.nn.functional.pad(lse, (1, 0), value=NEVER)
        return merge([local, (unclasses(far), lse.transpose(1, 2).reshape(q.shape[:3]))])

    return [functools.partial(run, chunk=c) for c in (32, 64, 128)]


@functools.lru_cache(16)
def summary_mask(rows: int, l: int, c: int, first: int, last: int, dtype: Any) -> Any:
    """[last - first, (last / l) c]: queries first..last see the c last keys of every earlier block of l."""
    block = torch.arange(last // l * c) // c
    return torch.where(block[None] < torch.arange(first, last)[:, None] // l, 0.0, NEVER).to(dtype)


def sparse_transformer_fixed(l: int, c: int) -> list[Rewrite]:
    """causal & (block(l) | key_mod(l, l - c, l)): causal blocks, and the summaries of earlier blocks."""

    def run(q: Any, k: Any, v: Any, group: int) -> Any:
        _, h, n, d = q.shape
        out, lse = flash(*(in_blocks(x, l) for x in (q, k, v)), causal=True)
        local = out.reshape(q.shape), lse.reshape(q.shape[:3])
        ks, vs = (x.view(1, h, n // l, l, d)[:, :, :, l - c :].reshape(1, h, n // l * c, d) for x in (k, v))
        outs, logs = [], []
        step = group or n
        for first in range(0, n, step):
            last = min(first + step, n)
            mask = summary_mask(n, l, c, first, last, q.dtype)
            keys = last // l * c
            out, lse = flash(q[:, :, first:last], ks[:, :, :keys], vs[:, :, :keys], mask=mask)
            outs.append(out)
            logs.append(lse)
        far, log = torch.cat(outs, 2), torch.cat(logs, 2)
        # SDPA gives NaN or 0 where a row sees nothing: the first block has no summary before it.
        far[:, :, :l] = 0
        log[:, :, :l] = NEVER
        return merge([local, (far, log)])

    return [functools.partial(run, group=g) for g in (0, 512, 1024, 2048)]


def masked(name: str) -> list[Rewrite]:
    """SDPA with the boolean tensor as its mask."""

    def run(q: Any, k: Any, v: Any) -> Any:
        return sdpa(q, k, v, attn_mask=tensor_of(name, q.shape[2]))

    return [run]


@functools.lru_cache(4)
def tensor_of(name: str, n: int) -> Any:
    """The boolean tensor of a case."""
    return torch.from_numpy(_cases.operands(name, n)["m"])


REWRITES: dict[str, list[Rewrite]] = {
    "mask_blocks": masked("mask_blocks"),
    "mask_documents": masked("mask_documents"),
    "stride_64": strided(64),
    "dilated_256x2": dilated(255, 2),
    "dilated_256x4": dilated(255, 4),
    "dilated_256x16": dilated(255, 16),
    "sparse_transformer": sparse_transformer(64),
    "sparse_transformer_fixed": sparse_transformer_fixed(64, 8),
    "window_1024": band(1023),
    "window_512": band(511),
    "window_256": band(255),
    "window_128": band(127),
    "band_256": band(256, 256),
    "block_256": blocks(256),
    "block_64": blocks(64),
    "causal_documents_512": blocks(512, causal=True),
    "documents_512": blocks(512),
}


def fastest(name: str, q: Any, k: Any, v: Any) -> Run:
    """The rewrite's fastest way on these tensors, the better of two tries each."""
    import time

    best, found = math.inf, None
    for rewrite in REWRITES[name]:
        rewrite(q, k, v)
        for _ in range(2):
            begin = time.perf_counter()
            rewrite(q, k, v)
            spent = time.perf_counter() - begin
            if spent < best:
                best, found = spent, rewrite
    assert found is not None
    return functools.partial(found, q, k, v)
