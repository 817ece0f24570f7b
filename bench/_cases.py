"""The patterns that are measured: one text a file in cases/, which a test runs too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "cases"


def texts() -> dict[str, str]:
    """Name to pattern text."""
    out = {}
    for path in sorted(FOLDER.glob("*.pattern")):
        lines = [x for x in path.read_text().splitlines() if x and not x.startswith("#")]
        out[path.stem] = " ".join(lines)
    return out


# The same patterns as mask functions of FlexAttention.
FLEX: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "causal": lambda b, h, i, j: i >= j,
    "window_64": lambda b, h, i, j: (i >= j) & (i - j < 64),
    "window_256": lambda b, h, i, j: (i >= j) & (i - j < 256),
    "window_1024": lambda b, h, i, j: (i >= j) & (i - j < 1024),
    "band_256": lambda b, h, i, j: (i - j <= 256) & (j - i <= 256),
    "stride_16": lambda b, h, i, j: (i >= j) & ((i - j) % 16 == 0),
    "stride_64": lambda b, h, i, j: (i >= j) & ((i - j) % 64 == 0),
    "dilated_256x4": lambda b, h, i, j: (i >= j) & (i - j < 1024) & ((i - j) % 4 == 0),
    "dilated_256x16": lambda b, h, i, j: (i >= j) & (i - j < 4096) & ((i - j) % 16 == 0),
    "block_64": lambda b, h, i, j: i // 64 == j // 64,
    "block_256": lambda b, h, i, j: i // 256 == j // 256,
    "sparse_transformer": lambda b, h, i, j: (i >= j) & ((i - j < 64) | ((i - j) % 64 == 0)),
    "longformer": lambda b, h, i, j: ((i - j <= 128) & (j - i <= 128)) | (i < 4) | (j < 4),
    "sinks": lambda b, h, i, j: (i >= j) & ((j < 4) | (i - j < 512)),
}
