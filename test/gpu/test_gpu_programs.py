"""Specs of several ops, and ops alone, as the GPU's kernels compute them: PTX, interpreted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from . import run

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))

import zoo  # noqa: E402

TOLERANCE = 2e-5
"""Of the largest magnitude: f32 products are three of TF32."""


@pytest.mark.parametrize("name", zoo.names())
def test_each_system(name: str) -> None:
    """The spec of every example against its formula."""
    example, oracle = zoo.load(name, "example"), zoo.load(name, "oracle")
    variant = getattr(example, "SPEC_VARIANT", next(iter(example.VARIANTS)))
    settings = example.VARIANTS[variant]
    lengths = getattr(example, "SPEC_LENGTHS", (17, 96))
    text = (ROOT / "examples" / name / "spec.mlir").read_text(encoding="utf-8")

    def kernel(*args: Any) -> Any:
        made = [x if any(isinstance(a, torch.Tensor) for a in args) else x.numpy() for x in run.spec(text, *args)]
        return made[0] if len(made) == 1 else made

    for n in sorted(lengths)[-2:]:
        inputs = example.inputs(np.random.default_rng(n), n, **settings)
        out = zoo.by_spec(example, kernel, inputs, settings)
        limit = max(TOLERANCE, getattr(example, "TOLERANCE", 0))
        assert zoo.compare(out, oracle.oracle(*inputs, **settings)) <= limit, n
