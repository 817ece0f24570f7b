"""Compile time: cold, from the disk cache and from memory, over many patterns.

    tools/dev bench compile_time [--count 1000] [--depth 5] [--seed 0] [--slowest 10] [--dtype f32] [--write]

The patterns are those of cases/ and random nested ones (test/oracle/random_patterns.py), each compiled in one process
with an empty cache folder; the first compilation also loads the compiler and is given apart. `--write` saves the
results beside the other ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LIMITS = {"cold p50": 150e-3, "cold p99": 500e-3, "disk p50": 10e-3, "memory p50": 5e-6}


def patterns(count: int, depth: int, seed: int) -> Iterator[tuple[str, str]]:
    """Name and text of the bench's cases, then of random patterns."""
    from _cases import texts

    yield from texts().items()
    sys.path.insert(0, str(ROOT / "test"))
    from oracle.random_patterns import seeded

    for n in range(seed, seed + count):
        yield f"random {n}", seeded(n, depth)


def share(values: list[float], part: float) -> float:
    """The value below which `part` of the values lie."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


def measure(name: str, text: str, dtype: str) -> dict[str, Any]:
    """Seconds of one pattern's compilation and of its ways through the cache."""
    import heddle as hd
    from heddle import _core

    row: dict[str, Any] = {"name": name, "pattern": text}
    spec = hd.spec(where=hd.parse(text), heads=(8, 8), d=64, dtype=dtype).text
    for kind in ("cold", "disk", "memory"):
        if kind == "disk":
            _core.cache_drop_memory()
        begin = time.perf_counter()
        try:
            _core.kernel_get(spec, spec, "native")
        except ValueError as error:
            row["error"] = str(error).splitlines()[0]
            row["cold"] = time.perf_counter() - begin
            return row
        row[kind] = time.perf_counter() - begin
    return row


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Medians and 99th parts in a hundred of each way."""
    out = {}
    for kind in ("cold", "disk", "memory"):
        times = [r[kind] for r in rows if kind in r]
        for label, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            out[f"{kind} {label}"] = share(times, part)
        out[f"{kind} max"] = max(times)
        out[f"{kind} mean"] = statistics.fmean(times)
    return out


def main() -> int:
    """Runs everything and prints the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slowest", type=int, default=10)
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--json", type=Path, help="write all rows here")
    parser.add_argument("--write", action="store_true", help="write the summary to bench/results/compile.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HEDDLE_CACHE_DIR"] = folder
        first = measure("first", "causal & causal(-3)", args.dtype)
        rows = [measure(n, t, args.dtype) for n, t in patterns(args.count, args.depth, args.seed)]
    found = {"first in the process": first["cold"], **summary(rows)}
    refused = [r for r in rows if "error" in r]
    for name, value in found.items():
        limit = LIMITS.get(name)
        note = "" if limit is None else f"  (at most {limit * 1e3:g} ms: {'yes' if value <= limit else 'NO'})"
        print(f"{name:20} {value * 1e3:10.4f} ms{note}")
    print(f"{len(rows)} patterns, {len(refused)} refused")
    for r in refused[:5]:
        print("  refused", r["name"], r["error"][:160])
    for r in sorted(rows, key=lambda r: -r["cold"])[: args.slowest]:
        print(f"  {r['cold'] * 1e3:8.1f} ms  {r['name']}: {r['pattern'][:200]}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    if args.write:
        data = {"seed": args.seed, "count": args.count, "depth": args.depth, "seconds": found, "refused": len(refused)}
        (HERE / "results" / "compile.json").write_text(json.dumps(data, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
