#!/usr/bin/env python3
"""Compile time of GPU kernels, cold: every spec from its text to a file, by a process of its own.

    tools/dev bench gpu/compile [--target sm_90a] [--repeat 3] [--only REGEX] [--write]

The specs are the examples, the systems of the zoo, the timed rows of check.py, and patterns of two and three kernels
in wide heads. Three files of each are made: LLVM IR (what comes before LLVM), PTX, and the bundle with its cubins; so
the differences are LLVM's and ptxas's shares of the time that passes. The kernels of a module are compiled side by
side, so the number of cores is part of a result. `--write` saves it in bench/results/gpu-compile.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def seconds(source: Path, target: str, ending: str, repeat: int) -> float:
    """The median time of `heddle compile` to a file of this kind."""
    times = []
    command = ["heddle", "compile", str(source), f"--target={target}", "-o", str(source.with_suffix("." + ending))]
    for _ in range(repeat):
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> int:
    """Measures, prints a table and says how many specs take longer than they may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="", help="names that match")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = []
    print("| spec | to LLVM IR | to PTX | to cubins |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "spec.mlir"
        for name, text in specs().items():
            if re.search(options.only, name):
                source.write_text(text)
                row = {k: seconds(source, options.target, end, options.repeat) for k, end in KINDS.items()}
                rows.append({"name": name, **{k: round(t, 3) for k, t in row.items()}})
                cells = [name.replace("|", "\\|"), *(f"{t:.2f}" for t in row.values())]
                print("| " + " | ".join(cells) + " |", flush=True)
    longer = [r["name"] for r in rows if float(str(r["cubins"])) > LIMIT]
    print(f"\n{len(longer)} of {len(rows)} take longer than {LIMIT:g} s: {', '.join(longer)}")
    if options.write:
        ptxas = subprocess.run(["ptxas", "--version"], capture_output=True, text=True, check=True).stdout.split("V")[-1]
        result = {
            "date": f"{datetime.date.today()}", "target": options.target, "cores": len(os.sched_getaffinity(0)),
            "ptxas": ptxas.split()[0], "rows": rows,
        }  # fmt: skip
        (ROOT / "bench" / "results" / "gpu-compile.json").write_text(json.dumps(result, indent=1) + "\n")
    return bool(longer)


if __name__ == "__main__":
    sys.exit(main())
