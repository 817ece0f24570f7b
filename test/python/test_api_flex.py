"""FlexAttention's functions, unchanged, against FlexAttention itself (its eager, dense form)."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn.attention.flex_attention import and_masks, create_block_mask, flex_attention, noop_mask, or_masks

import heddle as hd

torch.manual_seed(0)
B, H, N, D = 2, 4, 96, 16
DOCS = torch.sort(torch.randint(0, 4, (B, N)), dim=1).values
SLOPES = torch.exp2(-torch.arange(1, H + 1, dtype=torch.float32))
BIAS = torch.randn(H, 2 * N - 1)
PREFIX = torch.tensor([7, 30])


def causal(b, h, q_idx, kv_idx):
    return q_idx >= kv_idx


def window(b, h, q_idx, kv_idx):
    return q_idx - kv_idx <= 20


def document(b, h, q_idx, kv_idx):
    return DOCS[b, q_idx] == DOCS[b, kv_idx]


def prefix(b, h, q_idx, kv_idx):
    return kv_idx < PREFIX[b]


MASKS = {
    "noop": noop_mask,
    "causal": causal,
    "window": and_masks(causal, window),
    "documents": and_masks(causal, document),
    "prefix": or_masks(causal, prefix),
    "nested": or_masks(and_masks(causal, window), and_masks(document, prefix)),
}


def alibi(score, b, h, q_idx, kv_idx):
    return score + SLOPES[h] * (kv_idx - q_idx)


def softcap(score, b, h, q_idx, kv_idx):
    return 5 * torch.tanh(score / 5)


def relative(score, b, h, q_idx, kv_idx):
    return score + BIAS[h, q_idx - kv_idx + N - 1]


def soft_mask(score, b, h, q_idx, kv_idx):
    return torch.where((q_idx - kv_idx).abs() < 9, score, -float("inf"))


def mixed(score, b, h, q_idx, kv_idx):
    return torch.where(h % 2 == 0, score * torch.sigmoid(score), torch.clamp(score, -1.0, 1.0)) + 0.1 * (kv_idx % 3)


SCORES = {
    "none": None,
    "alibi": alibi,
    "softcap": softcap,
    "relative": relative,
    "soft mask": soft_mask,
    "mixed": mixed,
}


def both(mask_mod, score_mod, hk: int = H):
    q, k, v = torch.randn(B, H, N, D), torch.randn(B, hk, N, D), torch.randn(B, hk, N, D)
    block_mask = create_block_mask(mask_mod, B, H, N, N, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it was not compiled
        want = flex_attention(q, k, v, score_mod=score_mod, block_mask=block_mask, enable_gqa=hk != H)
    return q, k, v, block_mask, want


@pytest.mark.parametrize("name", MASKS)
def test_mask_mods(name: str) -> None:
    q, k, v, block_mask, want = both(MASKS[name], None)
    torch.testing.assert_close(hd.attend(q, k, v, where=MASKS[name]), want, rtol=0, atol=2e-6)
    torch.testing.assert_close(hd.attend(q, k, v, where=block_mask), want, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", SCORES)
def test_score_mods(name: str) -> None:
    q, k, v, _, want = both(MASKS["documents"], SCORES[name], hk=2)
    got = hd.attend(q, k, v, where=MASKS["documents"], score=SCORES[name])
    torch.testing.assert_close(got, want, rtol=0, atol=4e-6)


def test_noop_is_full() -> None:
    assert hd.holds(noop_mask) is hd.full
    assert hd.holds(and_masks(causal, noop_mask)) == hd.causal
