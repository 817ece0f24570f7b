"""Specs of several ops, and ops alone, as the GPU's kernels compute them: PTX, interpreted."""

from __future__ import annotations

import shutil
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


PROGRAM = ROOT / "examples" / "compressive" / "spec.mlir"
"""Two pools and an attend, which is lowered first and takes longest."""


def assembled(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> tuple[bytes, str]:
    """The artefact of PROGRAM with this program for ptxas, and what the compiler says where it refuses."""
    stub = folder / "ptxas"
    stub.write_text(f"#!/bin/sh\nfor input; do :; done\n{script}\n")
    stub.chmod(0o755)
    monkeypatch.setenv("HEDDLE_PTXAS", str(stub))
    return run.compile_bytes(PROGRAM.read_text(), "sm_80")


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="no ptxas")
def test_code_does_not_depend_on_when_it_is_assembled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kernels that come late, the small ones or the large one, stand where they stood."""
    call = 'exec ptxas "$@"'
    size = '[ $(wc -c < "$input") {} 50000 ] && sleep 1; '
    made = [assembled(monkeypatch, tmp_path, size.format(op) + call)[0] for op in ("-lt", "-gt")]
    assert made[0]
    assert made[0] == made[1]


def test_the_error_is_the_first_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whichever is assembled first: a block of an op has 256 threads, of attend 128."""
    tell = 'grep maxntid "$input" | sort -u; exit 1'
    for wait in ("", '[ $(wc -c < "$input") -lt 50000 ] && sleep 1; '):
        said = assembled(monkeypatch, tmp_path, wait + tell)[1]
        assert "256" in said
        assert "128" not in said


def test_an_assembler_that_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A path to nothing."""
    monkeypatch.setenv("HEDDLE_PTXAS", str(tmp_path / "none"))
    said = run.compile_bytes(PROGRAM.read_text(), "sm_80")[1]
    assert said.startswith("expected to run ptxas (HEDDLE_PTXAS, PATH or /usr/local/cuda/bin), but got: ")
