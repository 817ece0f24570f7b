"""What is measured: spec files in cases/, which tests run too, and the same as functions for FlexAttention.

A `.pattern` file holds one pattern in the text form, a `.mlir` file a whole spec.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent / "cases"


def every_text() -> dict[str, str]:
    """Name to pattern text."""
    out = {}
    for path in sorted(FOLDER.glob("*.pattern")):
        lines = [x for x in path.read_text().splitlines() if x and not x.startswith("#")]
        out[path.stem] = " ".join(lines)
    return out


def texts() -> dict[str, str]:
    """Those without run-time operands."""
    return {name: text for name, text in every_text().items() if "%" not in text}


def bound_texts() -> dict[str, str]:
    """Those with run-time operands, which `operands` gives."""
    return {name: text for name, text in every_text().items() if "%" in text}


def specs() -> dict[str, Path]:
    """Name to spec file."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.mlir"))}


def operands(name: str, n: int) -> dict[str, np.ndarray]:
    """The run-time operands of a pattern's text, for n positions."""
    if name in ("documents_512", "causal_documents_512"):
        return {"docs": (np.arange(n) // 512)[None]}
    if name == "mask_documents":
        at = np.arange(n)
        return {"m": ((at[:, None] // 512 == at // 512) & (at[:, None] >= at))[None, None]}
    if name == "mask_blocks":
        coarse = np.random.default_rng(7).random((-(-n // 64), -(-n // 64))) < 1 / 16
        np.fill_diagonal(coarse, True)
        return {"m": np.repeat(np.repeat(coarse, 64, 0), 64, 1)[None, None, :n, :n].copy()}
    if name == "routed":
        return {"ids": np.random.default_rng(8).integers(0, 64, (1, n), np.int32)}
    return {}


# The same patterns as mask functions of FlexAttention.
FLEX: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "causal": lambda b, h, i, j: i >= j,
    "window_64": lambda b, h, i, j: (i >= j) & (i - j < 64),
    "window_128": lambda b, h, i, j: (i >= j) & (i - j < 128),
    "window_256": lambda b, h, i, j: (i >= j) & (i - j < 256),
    "window_512": lambda b, h, i, j: (i >= j) & (i - j < 512),
    "window_1024": lambda b, h, i, j: (i >= j) & (i - j < 1024),
    "band_256": lambda b, h, i, j: (i - j <= 256) & (j - i <= 256),
    "stride_16": lambda b, h, i, j: (i >= j) & ((i - j) % 16 == 0),
    "stride_64": lambda b, h, i, j: (i >= j) & ((i - j) % 64 == 0),
    "stride_512": lambda b, h, i, j: (i >= j) & ((i - j) % 512 == 0),
    "dilated_256x2": lambda b, h, i, j: (i >= j) & (i - j < 512) & ((i - j) % 2 == 0),
    "dilated_256x4": lambda b, h, i, j: (i >= j) & (i - j < 1024) & ((i - j) % 4 == 0),
    "dilated_256x16": lambda b, h, i, j: (i >= j) & (i - j < 4096) & ((i - j) % 16 == 0),
    "block_64": lambda b, h, i, j: i // 64 == j // 64,
    "block_256": lambda b, h, i, j: i // 256 == j // 256,
    "documents_512": lambda b, h, i, j: i // 512 == j // 512,
    "causal_documents_512": lambda b, h, i, j: (i >= j) & (i // 512 == j // 512),
    "sparse_transformer": lambda b, h, i, j: (i >= j) & ((i - j < 64) | ((i - j) % 64 == 0)),
    "sparse_transformer_fixed": lambda b, h, i, j: (i >= j) & ((i // 64 == j // 64) | (j % 64 >= 56)),
    "longformer": lambda b, h, i, j: ((i - j <= 128) & (j - i <= 128)) | (i < 4) | (j < 4),
    "sinks": lambda b, h, i, j: (i >= j) & ((j < 4) | (i - j < 512)),
}


def slopes(heads: int) -> np.ndarray:
    """ALiBi's slopes."""
    return np.asarray(2.0 ** -(8.0 / heads * np.arange(1, heads + 1)), np.float32)


def distance_table(heads: int) -> np.ndarray:
    """Biases by head and distance."""
    return np.random.default_rng(5).standard_normal((heads, 129)).astype(np.float32)


# Values of a spec's arguments after q, k, v.
CAPTURES: dict[str, Callable[[int], tuple[np.ndarray, ...]]] = {
    "alibi": lambda heads: (slopes(heads),),
    "softcap": lambda heads: (),
    "relative_bias": lambda heads: (distance_table(heads),),
}


def score(name: str, ns: Any, heads: int) -> Callable[..., Any]:
    """The spec's score function; `ns` has tensor, tanh, minimum: the package, or a judge."""
    if name == "alibi":
        slope = ns.tensor(slopes(heads))
        return lambda s, b, h, i, j: s - slope[h] * (i - j)
    if name == "softcap":
        return lambda s, b, h, i, j: 50.0 * ns.tanh(s / 50.0)
    if name == "relative_bias":
        table = ns.tensor(distance_table(heads))
        return lambda s, b, h, i, j: s + table[h, ns.minimum(i - j, 128)]
    if name == "lambda":
        return lambda s, b, h, i, j: s * 0.5 - ns.abs(i - j) * 0.01
    raise KeyError(name)
