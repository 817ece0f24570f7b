#!/usr/bin/env python3
"""Compile time of GPU kernels, cold: every spec from its text to a file, by a process of its own.

    tools/dev bench gpu/compile [--target sm_80,sm_90a] [--repeat 3] [--only REGEX] [--stages] [--write]

The specs are the examples, the systems of the zoo, the timed rows of check.py, and patterns of two and three kernels
in wide heads. Of each the bundle with its cubins is made; with `--stages` also LLVM IR (what comes before LLVM) and
PTX, so the differences are the shares of LLVM and ptxas. Given are the time that passes and the processor seconds,
which cores share: the kernels of a module are compiled side by side. Both are the least of all repeats, since what else
runs only adds. `--write` saves them in bench/results/gpu-compile.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE)]
KINDS = {"ir": "ll", "ptx": "ptx", "cubins": "bundle"}
WIDE = (
    "causal & (window(63, 0) | stride(64))",
    "causal & (window(63, 0) | stride(64) | global_tokens([0 to 16]))",
    "causal & (window(63, 0) | window(1023, 0, dilation = 16) | window(4095, 0, dilation = 64))",
)
LIMIT = 1.0
"""Seconds that a spec may take to cubins."""


def specs() -> dict[str, str]:
    """Name and text of all specs."""
    from pack import TIMED, timed_text

    out = {path.stem: path.read_text() for path in sorted((ROOT / "examples").glob("*.mlir"))}
    out |= {path.parent.name: path.read_text() for path in sorted((ROOT / "examples").glob("*/spec.mlir"))}
    for d in (128, 256):
        for where in WIDE:
            out[f"{where}, d {d}"] = timed_text({"where": where, "d": d, "heads": (16, 16)})
    # The rows of decoding are one spec, which other lengths and batches meet.
    return out | {name: timed_text(case) for name, case in TIMED.items() if case.get("batch", 1) == 1}


def seconds(source: Path, target: str, ending: str, repeat: int) -> tuple[float, float]:
    """The time of `heddle compile` to a file of this kind, and its processor time: the least of all."""
    passed, used = [], []
    command = ["heddle", "compile", str(source), f"--target={target}", "-o", str(source.with_suffix("." + ending))]

    def processor() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    for _ in range(repeat):
        before, begin = processor(), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        passed.append(time.perf_counter() - begin)
        used.append(processor() - before)
    return min(passed), min(used)


def measure(target: str, only: str, kinds: dict[str, str], repeat: int) -> list[dict[str, Any]]:
    """A row for each spec whose name matches; prints them."""
    rows = []
    print(f"\n{target}\n\n| spec | to {' | to '.join(kinds)} | processor |\n|---|{'---|' * (len(kinds) + 1)}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "spec.mlir"
        for name, text in specs().items():
            if not re.search(only, name):
                continue
            source.write_text(text)
            times = {kind: seconds(source, target, ending, repeat) for kind, ending in kinds.items()}
            row = {kind: round(t[0], 3) for kind, t in times.items()} | {"processor": round(times["cubins"][1], 3)}
            rows.append({"name": name, **row})
            cells = [name.replace("|", "\\|"), *(f"{t:.2f}" for t in row.values())]
            print("| " + " | ".join(cells) + " |", flush=True)
    longer = [r["name"] for r in rows if r["cubins"] > LIMIT]
    print(f"\n{len(longer)} of {len(rows)} take longer than {LIMIT:g} s: {', '.join(longer)}")
    return rows


def main() -> int:
    """Measures, prints a table and says how many specs take longer than they may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="sm_80,sm_90a")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="", help="names that match")
    parser.add_argument("--stages", action="store_true", help="LLVM IR and PTX too")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    kinds = KINDS if options.stages else {"cubins": KINDS["cubins"]}
    rows = {t: measure(t, options.only, kinds, options.repeat) for t in options.target.split(",")}
    if options.write:
        path = ROOT / "bench" / "results" / "gpu-compile.json"
        ptxas = subprocess.run(["ptxas", "--version"], capture_output=True, text=True, check=True).stdout.split("V")[-1]
        known = json.loads(path.read_text())["rows"] if path.exists() else {}
        result = {
            "date": f"{datetime.date.today()}", "cores": len(os.sched_getaffinity(0)), "ptxas": ptxas.split()[0],
            "rows": known | rows,
        }  # fmt: skip
        path.write_text(json.dumps(result, indent=1) + "\n")
    return any(r["cubins"] > LIMIT for each in rows.values() for r in each)


if __name__ == "__main__":
    sys.exit(main())
