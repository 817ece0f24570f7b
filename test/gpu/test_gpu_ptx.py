"""What the PTX of every example must be: assembled, without calls, in registers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from . import run

FOLDER = Path(__file__).resolve().parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.mlir"))
SYSTEMS = sorted(FOLDER.glob("*/spec.mlir"))[:: 1 if "HEDDLE_SWEEP" in os.environ else 4]
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
    plain = [part for part in text.split(".entry ") if part.startswith("heddle_gpu_")]
    kernels = len(plain) - 1  # one merges splits
    bundle, _ = run.compile_text(path.read_text(), target)
    shape = bundle.manifest["gpu"]["kernels"][0]
    kind = bundle.manifest["args"][0]["type"]
    d = bundle.manifest["args"][0]["dims"][3]
    depth, products = (8, 3) if kind == "f32" else (16, 1)
    scores = shape["keys"] // 8 * -(-d // depth) * products
    values = shape["keys"] // depth * shape["columns"] // 8
    found = sum(part.count("\tmma.sync") for part in plain)
    assert found == kernels * (scores + values * products), "S and P V, once each"


def assembled(ptx: bytes, target: str, folder: Path) -> dict[str, dict[str, int]]:
    """What ptxas says of each kernel: registers, bytes spilled."""
    source = folder / "k.ptx"
    source.write_bytes(ptx)
    done = subprocess.run(
        [str(PTXAS), "-v", f"-arch={target}", "-o", str(folder / "k.cubin"), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "wgmma" not in done.stderr, "serialized or worse"
    out: dict[str, dict[str, int]] = {}
    for part in done.stderr.split("Compiling entry function '")[1:]:
        spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", part)]
        used = re.search(r"Used (\d+) registers", part)
        assert used, part
        out[part.split("'")[0]] = {"registers": int(used.group(1)), "spilled": max(spilled)}
    return out


@pytest.mark.skipif(PTXAS is None, reason="no ptxas")
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_assemble(path: Path, target: str, tmp_path: Path) -> None:
    """No spills, and two blocks at once on a multiprocessor of 64 K registers: one computes while the other waits."""
    bundle, _ = run.compile_text(path.read_text(), target)
    found = assembled(bundle.ptx, target, tmp_path)
    room = {"sm_80": 164, "sm_90a": 228}[target] * 1024
    for kernel in bundle.manifest["gpu"]["kernels"]:
        got = found[kernel["name"]]
        assert got["registers"] * kernel["threads"] * 2 <= 65536
        if "bf16" in path.read_text():
            assert got["spilled"] == 0
            if bundle.manifest["args"][0]["dims"][3] <= (64 if target == "sm_80" else 128):
                assert (kernel["shared_bytes"] + 1024) * 2 <= room


@pytest.mark.skipif(PTXAS is None, reason="no ptxas")
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("path", SYSTEMS, ids=lambda p: p.parent.name)
def test_systems_assemble(path: Path, target: str, tmp_path: Path) -> None:
    """Every kernel of every system; those of ops on whole tensors leave room for a second block and spill
    little: ptxas saves registers around its own 64-bit division, and keeps to 128 at the cost of up to 148 bytes."""
    bundle = run.compile_bundle(path.read_text(), target)
    for part in bundle.parts or (bundle,):
        text = part.ptx.decode()
        assert not re.search(r"\.extern \.(func|global)", text)
        assert "call" not in re.findall(r"^\s*(\w+)", text, re.M)
        for kernel in assembled(part.ptx, target, tmp_path).values():
            if part.manifest.get("kind") == "op":
                assert kernel["spilled"] <= 160
                assert kernel["registers"] <= 128
