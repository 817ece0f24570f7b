#!/usr/bin/env python3
"""Registers and spills of GPU kernels, as ptxas gives them.

    tools/dev bench gpu/registers [--target sm_80,sm_90a] [--random 200] [--seed 0] [--only REGEX] [--write]

The specs are those of compile.py and random nested patterns with random head dimensions and storage types. Kernels that
spill are listed; `--write` saves the counts in bench/results/gpu-registers.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "test")]


def random_specs(seed: int, count: int) -> dict[str, str]:
    """Random nested patterns, each with a storage type and head dimensions."""
    import heddle as hd
    from oracle import random_patterns

    out = {}
    for n in range(seed, seed + count):
        choose = random_patterns.Seeded(n)
        where = random_patterns.text(choose, choose.integer(1, 4))
        dtype, d = choose.choice(["bf16", "bf16", "f16", "f32"]), choose.choice([32, 64, 80, 128, 256])
        dv, group = choose.choice([d, d, 64]), choose.choice([1, 4])
        spec = hd.spec(hd.parse(where), heads=(2 * group, 2), d=d, dv=dv, dtype=dtype, q_offset=0, return_lse=True)
        out[f"random {n}: {dtype} {d} {dv} {where}"] = str(spec)
    return out


def kernels(text: str, target: str) -> Iterator[dict[str, Any]]:
    """What the manifests of a spec's artefacts say of their kernels."""
    from pack import artefacts

    from heddle import _core, _gpu

    data = _core.kernel_get(text, text, target).artifact
    program = _gpu.Bundle.parse(data)
    for part in artefacts(data) if program.is_program else [data]:
        gpu = _gpu.Bundle.parse(part).manifest["gpu"]
        yield from gpu["kernels"] + gpu.get("tensor_kernels", [])


def count(specs: dict[str, str], target: str) -> dict[str, Any]:
    """Modules and kernels, and those that spill, with their bytes (stored and loaded)."""
    all_kernels, spilled = 0, {}
    for name, text in specs.items():
        try:
            found = list(kernels(text, target))
        except ValueError as error:
            print(f"left out: {name[:80]}: {str(error)[:100]}")
            continue
        all_kernels += len(found)
        if bad := {k["name"]: k["spill_bytes"] for k in found if k["spill_bytes"]}:
            spilled[name] = bad
            registers = {k["name"]: k["registers"] for k in found if k["spill_bytes"]}
            print(f"{target} {name[:150]}: {bad} bytes at {registers}", flush=True)
    return {"target": target, "modules": len(specs), "kernels": all_kernels, "spill": spilled}


def main() -> int:
    """Compiles, prints what spills and says how much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="sm_80,sm_90a")
    parser.add_argument("--random", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="names that match")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    os.environ["HEDDLE_CACHE_DIR"] = tempfile.mkdtemp()
    from compile import specs

    rows = []
    for kind, texts in ("specs", specs()), ("random", random_specs(options.seed, options.random)):
        chosen = {name: text for name, text in texts.items() if re.search(options.only, name)}
        for target in options.target.split(","):
            rows.append({"of": kind, **count(chosen, target)})
            r = rows[-1]
            print(f"{kind}, {target}: {len(r['spill'])} of {r['modules']} modules spill, {r['kernels']} kernels")
    if options.write:
        result = {"date": f"{datetime.date.today()}", "seed": options.seed, "rows": rows}
        (ROOT / "bench" / "results" / "gpu-registers.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
