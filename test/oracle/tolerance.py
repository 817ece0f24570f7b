"""How far a kernel may be from the formula.

f32: |error| <= (2e-6 sqrt(keys) + 4 * 2^-24 max(|s|, sum|q_d k_d|)) * sum p|v| for each element.

f16, bf16: no more than twice the error of the same formula with inputs and
probabilities rounded to that type, and the result too, which is stored in it.
That error is a random variable, so it is compared twice: as root mean square
and maximum over the tensor, and for each element against the largest error that
the rounded formula can make there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .attention import Result

UNIT = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}
"""Unit roundoff of each storage type."""
_TINY = {"f32": 2.0**-126, "f16": 2.0**-14, "bf16": 2.0**-126}


def round_to(x: np.ndarray, dtype: str) -> np.ndarray:
    """`x` rounded to nearest even in `dtype`, as float64."""
    x = np.asarray(x, np.float64)
    if dtype == "f32":
        return x.astype(np.float32).astype(np.float64)
    if dtype == "f16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16).astype(np.float64)
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    rounded = np.where(np.isnan(x), np.uint32(0x7FC00000), rounded).astype(np.uint32)
    return rounded.view(np.float32).astype(np.float64)


def may_overflow(got: np.ndarray, want: np.ndarray, allowed: np.ndarray | float, dtype: str) -> np.ndarray:
    """Where `got` is an infinity and f16 rounds to it what `want` may be off by: 65520 and beyond."""
    if dtype != "f16":
        return np.zeros(np.shape(want), bool)
    return np.isinf(got) & (np.sign(got) == np.sign(want)) & (np.abs(want) + allowed >= 65520)


@dataclass
class Verdict:
    """Whether a result is close enough, and where it is worst."""

    ok: bool
    message: str

    def __bool__(self) -> bool:
        return self.ok


def f32_bound(expected: Result, scale: np.ndarray | float = 1.0) -> np.ndarray:
    """The bound for each element in f32."""
    score = np.maximum(expected.top, expected.terms)
    rel = 2e-6 * np.sqrt(np.maximum(expected.keys, 1)) + 4 * 2.0**-24 * score
    return rel[..., None] * expected.weight * scale


def check(
    got: np.ndarray,
    expected: Result,
    dtype: str = "f32",
    rounded: Result | None = None,
    label: str = "",
) -> Verdict:
    """Compares `got` with `expected` under the rule of `dtype`.

    `rounded` is the same formula with probabilities rounded to `dtype` (the
    inputs already are); needed for f16 and bf16.
    """
    got = np.asarray(got, np.float64)
    want = expected.out
    if got.shape != want.shape:
        return Verdict(False, f"{label}: expected shape {want.shape}, but got {got.shape}")
    same_kind = np.where(
        np.isfinite(want), np.isfinite(got), (np.isnan(want) & np.isnan(got)) | (want == got)
    )
    if not same_kind.all():
        at = tuple(int(x) for x in np.argwhere(~same_kind)[0])
        count = int((~same_kind).sum())
        return Verdict(
            False,
            f"{label}: {count} elements of another kind, first at {at}: "
            f"expected {want[at]}, but got {got[at]}",
        )
    finite = np.isfinite(want)
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(got - want), 0)
        bound = np.where(finite, f32_bound(expected), 0)
        if dtype != "f32":
            u = UNIT[dtype]
            bound = bound + np.where(
                finite, 2 * (u * expected.weight + u * np.abs(want)) + 2 * u * _TINY[dtype], 0
            )
        # Underflow of a weight below the smallest normal f32 loses it entirely.
        bound = bound + np.where(finite, 2.0**-126, 0)
    worst = error - bound
    if worst.size and worst.max() > 0:
        at = tuple(int(x) for x in np.unravel_index(int(worst.argmax()), worst.shape))
        return Verdict(
            False,
            f"{label}: {int((worst > 0).sum())} of {worst.size} elements too far, worst at {at}: "
            f"expected {want[at]:.9g}, but got {got[at]:.9g} "
            f"(error {error[at]:.3g}, allowed {bound[at]:.3g}, keys {int(expected.keys[at[:-1]])})",
        )
    if dtype != "f32" and error.size >= 256:
        assert rounded is not None
        with np.errstate(invalid="ignore"):
            reference = np.where(finite, np.abs(round_to(rounded.out, dtype) - want), 0)
        base = np.where(finite, f32_bound(expected), 0)
        for name, fn in (("rms", lambda x: float(np.sqrt((x * x).mean()))), ("max", np.max)):
            mine, allowed = float(fn(error)), 2 * float(fn(reference)) + float(fn(base))
            if mine > allowed:
                return Verdict(
                    False, f"{label}: {name} error {mine:.3g}, allowed {allowed:.3g} ({dtype})"
                )
    return Verdict(True, f"{label}: ok")


def check_lse(
    got: np.ndarray, expected: Result, label: str = ""
) -> Verdict:
    """Compares the log-sum-exp: |error| <= 2e-6 sqrt(keys) + 4 * 2^-24 (max|s| + |lse| + max sum|q_d k_d|)."""
    got = np.asarray(got, np.float64)
    want = expected.lse
    if got.shape != want.shape:
        return Verdict(False, f"{label}: expected lse shape {want.shape}, but got {got.shape}")
    bound = 2e-6 * np.sqrt(np.maximum(expected.keys, 1)) + 4 * 2.0**-24 * (
        expected.top + expected.terms + np.where(np.isfinite(want), np.abs(want), 0)
    )
    with np.errstate(invalid="ignore"):
        good = np.where(
            np.isfinite(want),
            np.abs(got - want) <= bound,
            (np.isnan(want) & np.isnan(got)) | (want == got),
        )
    if good.all():
        return Verdict(True, f"{label}: ok")
    at = tuple(int(x) for x in np.argwhere(~good)[0])
    return Verdict(
        False,
        f"{label}: {int((~good).sum())} of {good.size} lse wrong, first at {at}: "
        f"expected {want[at]:.9g}, but got {got[at]:.9g} (allowed {bound[at]:.3g})",
    )
