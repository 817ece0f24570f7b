#!/usr/bin/env python3
"""Makes the folder that `check.py` needs on a machine with a GPU: cubins, masks, expected results, and the launcher.

    python bench/gpu/pack.py FOLDER [--target sm_90a] [--random 200]

Nothing of the compiler goes along. The folder stays below 64 MiB: bundles carry the cubin alone, and are compressed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

import heddle as hd
from heddle import _core, _gpu

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "examples"), str(Path(__file__).parent)]

import zoo  # noqa: E402
from predict import predicted  # noqa: E402

from oracle import patterns, random_patterns  # noqa: E402

LIMIT = 64 << 20

TIMED: dict[str, dict[str, Any]] = {
    "dense d64": {"where": "full", "d": 64, "heads": (16, 16)},
    "dense d128": {"where": "full", "d": 128, "heads": (16, 16)},
    "causal d64": {"where": "causal", "d": 64, "heads": (16, 16)},
    "causal d128": {"where": "causal", "d": 128, "heads": (16, 16)},
    "causal window 1024, GQA 8": {"where": "window(1023, 0)", "d": 128, "heads": (32, 4), "lengths": (4096, 32768)},
    "window 256": {"where": "window(256, 0)", "d": 128, "heads": (16, 16)},
    "window 256, dilation 8": {"where": "window(256, 0, dilation = 8)", "d": 128, "heads": (16, 16)},
    "stride 128": {"where": "stride(128)", "d": 128, "heads": (16, 16)},
    "block 128": {"where": "block(128)", "d": 128, "heads": (16, 16)},
    "sparse transformer": {"where": "causal & (window(127, 0) | stride(128))", "d": 64, "heads": (16, 16)},
    "sparse transformer, fixed": {
        "where": "causal & (block(128) | key_mod(128, 120, 128))", "d": 64, "heads": (16, 16),
    },
    "document mask": {"where": "causal & same(%docs, %docs)", "d": 128, "heads": (16, 16)},
    "per-head mix": {"where": "per_head([window(1023, 0), causal])", "d": 128, "heads": (16, 16)},
    "window and global": {"where": "window(256, 256) | global_tokens([0 to 64])", "d": 64, "heads": (16, 16)},
    "decode 32k, GQA 8": {"where": "full", "d": 128, "heads": (64, 8), "n": 32768, "batch": 1},
    "decode 32k, GQA 8, batch 16": {"where": "full", "d": 128, "heads": (64, 8), "n": 32768, "batch": 16},
    "neighborhood 80 x 80 of 256 x 256": {
        "where": "grid(256, neighborhood(80, 256), neighborhood(80, 256))", "d": 64, "heads": (4, 4),
        "lengths": (65536,),
    },
}  # fmt: skip


def lengths(case: dict[str, Any]) -> tuple[int, ...]:
    """The lengths at which a row is timed."""
    return (case["n"],) if "n" in case else tuple(case.get("lengths", (4096, 16384)))


def timed_text(case: dict[str, Any]) -> str:
    """The spec of a timed row; documents' numbers are an argument."""
    if "%docs" not in case["where"]:
        return str(hd.spec(hd.parse(case["where"]), heads=case["heads"], d=case["d"], dtype="bf16"))
    q, kv = (f"tensor<?x{h}x?x{case['d']}xbf16>" for h in case["heads"])
    return f"""func.func @f(%q: {q}, %k: {kv}, %v: {kv}, %docs: tensor<?x?xi32>) -> {q} {{
  %o = attn.attend %q segment(%k, %v) where({case["where"]}) q_offset(0)
    : {q} segment({kv}, {kv}) operands(tensor<?x?xi32>) -> {q}
  return %o : {q}
}}
"""


def artefact(manifest: dict[str, Any], code: bytes) -> bytes:
    """The bytes that docs/abi.md describes."""
    head = json.dumps(manifest, separators=(",", ":")).encode()
    body = head + code
    return b"HEDDLE\0\1" + struct.pack("<QQ", len(head), len(code)) + hashlib.sha256(body).digest() + body


def artefacts(program: bytes) -> list[bytes]:
    """The artefacts in a program."""
    at = 56 + struct.unpack_from("<Q", program, 8)[0]
    out = []
    for size in _gpu.Bundle.parse(program).manifest["kernels"]:
        out.append(program[at : at + size])
        at += size
    return out


def cubin_only(data: bytes) -> bytes:
    """The same artefact without its PTX."""
    bundle = _gpu.Bundle.parse(data)
    if bundle.is_program:
        parts = [cubin_only(part) for part in artefacts(data)]
        return artefact({**bundle.manifest, "kernels": [len(p) for p in parts]}, b"".join(parts))
    if not bundle.cubins:
        raise SystemExit("expected ptxas in PATH: the folder carries cubins")
    manifest = {**bundle.manifest, "gpu": {**bundle.manifest["gpu"], "ptx_bytes": 0}}
    return artefact(manifest, b"".join(bundle.cubins))


def plain(x: Any) -> np.ndarray:
    """An array; torch's floats of 16 bits, of which NumPy lacks one, as f32."""
    floats = str(getattr(x, "dtype", "")).startswith("torch.") and x.is_floating_point()
    return x.float().numpy() if floats else np.asarray(x)


class Packer:
    """Writes the folder."""

    def __init__(self, folder: Path, target: str) -> None:
        self.folder, self.target = folder, target
        self.bytes = 0

    def bundle(self, name: str, text: str) -> None:
        """Compiles a spec into the folder."""
        data = gzip.compress(cubin_only(_core.kernel_get(text, text, self.target).artifact), mtime=0)
        (self.folder / f"{name}.bundle.gz").write_bytes(data)
        self.bytes += len(data)

    def system(self, name: str) -> dict[str, Any]:
        """An example of several ops or with run-time tensors: its spec, arguments and results in float64."""
        example = zoo.load(name, "example")
        settings = example.VARIANTS[getattr(example, "SPEC_VARIANT", next(iter(example.VARIANTS)))]
        n = max(getattr(example, "SPEC_LENGTHS", (130,)))
        inputs = example.inputs(np.random.default_rng(n), n, **settings)
        text = (ROOT / "examples" / name / "spec.mlir").read_text()
        kernel, calls = hd.compile(text), []

        def record(*args: Any) -> Any:
            calls.append([x.detach() if hasattr(x, "detach") else x for x in args])
            return kernel(*args)

        zoo.by_spec(example, record, inputs, settings)
        values = list(calls[0])
        self.bundle(f"system-{name}", text)
        numbers = [x if isinstance(x, (int, float)) else None for x in values]
        tensors = {f"a{n}": plain(x) for n, x in enumerate(values) if numbers[n] is None}
        formal = json.loads(_core.kernel_get(text, text, "native").manifest)["results"]
        made = kernel(*values)
        made = made if isinstance(made, tuple) else (made,)
        exact = [np.zeros(np.shape(x), np.float64 if r["type"] in ("f32", "f16", "bf16") else np.asarray(x).dtype)
                 for x, r in zip(made, formal, strict=True)]  # fmt: skip
        _core.reference(text, values, exact)
        arrays: dict[str, Any] = tensors | {f"r{n}": x for n, x in enumerate(exact)}
        np.savez_compressed(self.folder / f"system-{name}.npz", **arrays)
        return {"name": f"system-{name}", "args": numbers}

    def random(self, seed: int) -> dict[str, Any] | None:
        """A random pattern with its mask; None where it is past the compiler's caps."""
        choose = random_patterns.Seeded(seed)
        text = random_patterns.text(choose, choose.integer(0, 3))
        dtype, d = choose.choice(["bf16", "bf16", "f16", "f32"]), choose.choice([40, 64, 128])
        dv, group = choose.choice([d, 64]), choose.choice([1, 4])
        nq, nk = choose.integer(1, 300), choose.integer(1, 300)
        offset = choose.choice([0, 7, nk - nq])
        spec = str(
            hd.spec(hd.parse(text), heads=(2 * group, 2), d=d, dv=dv, dtype=dtype, q_offset=offset, return_lse=True)
        )
        try:
            self.bundle(f"random{seed}", spec)
        except ValueError as error:
            print(f"left out: {text}: {str(error)[:100]}")
            return None
        masks = np.stack([patterns.mask(text, nq, nk, q_offset=offset, h=h) for h in range(2 * group)])
        np.save(self.folder / f"random{seed}.npy", np.packbits(masks))
        return {"name": f"random{seed}", "text": text, "dtype": dtype, "d": d, "dv": dv, "heads": [2 * group, 2],
                "nq": nq, "nk": nk, "offset": offset}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("--random", type=int, default=200, help="random patterns")
    parser.add_argument("--only", default="", help="examples, systems and timed kernels whose names match this")
    options = parser.parse_args()
    folder: Path = options.folder
    (folder / "heddle_gpu").mkdir(parents=True, exist_ok=True)
    for name in ("_gpu.py", "_maps.py", "_cuda.py"):
        shutil.copy(ROOT / "python" / "heddle" / name, folder / "heddle_gpu" / name)
    (folder / "heddle_gpu" / "__init__.py").write_text('"""The launcher, as in the heddle package."""\n')
    shutil.copy(Path(__file__).with_name("check.py"), folder / "check.py")
    packer = Packer(folder, options.target)
    chosen = re.compile(options.only).search
    examples = [p.stem for p in sorted((ROOT / "examples").glob("*.mlir"))]
    for name in filter(chosen, examples):
        text = (ROOT / "examples" / f"{name}.mlir").read_text()
        if "attn.attend" not in text or text.count("attn.") > text.count("attn.load") + text.count("attn.yield") + 1:
            continue  # a program of several ops
        packer.bundle(f"example-{name}", text)
    systems = [packer.system(name) for name in filter(chosen, zoo.names())]
    cases = [c for seed in range(options.random) if (c := packer.random(seed)) is not None]
    timed = []
    for n, (name, t) in enumerate((name, t) for name, t in TIMED.items() if chosen(name)):
        packer.bundle(f"timed{n}", timed_text(t))
        predictions = {str(n): predicted(name, t, n) for n in lengths(t)}
        timed.append({"name": name, "bundle": f"timed{n}", **t, "lengths": lengths(t), "predicted": predictions})
    plan = {"target": options.target, "systems": systems, "random": cases, "timed": timed}
    (folder / "cases.json").write_text(json.dumps(plan, indent=1))
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    counts = f"{len(systems)} systems, {len(cases)} random patterns, {len(timed)} timed kernels"
    print(f"{counts}, {size / 2**20:.1f} MiB in {folder}")
    if size > LIMIT:
        raise SystemExit(f"expected at most {LIMIT >> 20} MiB, but got {size / 2**20:.1f}; take fewer --random")


if __name__ == "__main__":
    main()
