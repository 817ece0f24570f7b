"""What the PTX of every example must be: assembled, without calls, in registers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from . import run

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.mlir"))
PTXAS = shutil.which("ptxas")


def ptx_of(path: Path, target: str) -> str:
    return run.compile_text(path.read_text(), target)[0].ptx.decode()


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_need_nothing_else(path: Path, target: str) -> None:
    """No function of libdevice, no call, no local memory; the products that a tile takes."""
    text = ptx_of(path, target)
    assert f".target {target}" in text
    assert not re.search(r"\.extern \.(func|global)", text)
    assert "call" not in re.findall(r"^\s*(\w+)", text, re.M)
    assert ".local" not in text
    kernels = text.count(".entry") - 1  # one merges splits
    bundle, _ = run.compile_text(path.read_text(), target)
    shape = bundle.manifest["gpu"]["kernels"][0]
    kind = bundle.manifest["args"][0]["type"]
    d = bundle.manifest["args"][0]["dims"][3]
    depth, products = (8, 3) if kind == "f32" else (16, 1)
    scores = shape["keys"] // 8 * -(-d // depth) * products
    values = shape["keys"] // depth * shape["columns"] // 8
    assert text.count("mma.sync") == kernels * (scores + values * products), "S and P V, once each"


@pytest.mark.skipif(PTXAS is None, reason="no ptxas")
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_assemble(path: Path, target: str, tmp_path: Path) -> None:
    source = tmp_path / "k.ptx"
    source.write_text(ptx_of(path, target))
    done = subprocess.run(
        [str(PTXAS), "-v", f"-arch={target}", "-o", str(tmp_path / "k.cubin"), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if "bf16" in path.read_text():
        spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", done.stderr)]
        assert max(spilled) == 0, done.stderr
