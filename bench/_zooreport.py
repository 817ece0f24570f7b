"""Results of the bench of the zoo: lines, what misses its target, the plot, and the columns of docs/zoo.md."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

SLOPE = 0.1  # how far the slope may be above the promised one
COMPILED = 3.0  # over the compiled formula, of sparse and low-rank systems
BOUND = {"dense": 1.5, "sparse": 1.5, "linear": 1.5, "run-time": 2.0}  # "lists": groups of fewer than 64 keys, none


def fit(ns: list[int], values: list[float]) -> float:
    """Slope of log value over log n."""
    if len(ns) < 2:
        return math.nan
    return statistics.linear_regression([math.log(n) for n in ns], [math.log(v) for v in values]).slope


def missed(row: dict[str, Any]) -> list[str]:
    """Targets that the row does not reach."""
    if "error" in row:
        return ["error"]
    out = []
    if row["slope"] is not None and row["slope"] > row["promised_slope"] + SLOPE:
        out.append("slope")
    if row["over_torch"] < 1:
        out.append("torch")
    compiled = row.get("over_compiled")
    if compiled is not None and row["kind"] in ("sparse", "run-time", "lists") and compiled < COMPILED:
        out.append("compiled")
    if row["over_bound"] > BOUND.get(row["kind"], math.inf):
        out.append("bound")
    return out


def times(x: float | None) -> str:
    """A ratio."""
    if x is None:
        return "-"
    return f"{x:.2f}x" if x < 10 else f"{x:.0f}x"


def slopes(row: dict[str, Any]) -> str:
    """Measured and promised."""
    if row.get("slope") is None:
        return "-"
    return f"{row['slope']:.2f} ({row['promised_slope']:.2f})"


def line(row: dict[str, Any]) -> str:
    """One line of progress."""
    if "error" in row:
        return f"{row['id']:28} {row['error']}"
    c = row["compare"]
    torch = ", ".join(f"{k} {times(c.get('over_' + k))}" for k in ("eager", "compiled", "rewrite") if "over_" + k in c)
    text = f"{row['id']:28} slope {slopes(row)}; over torch at {c['n']}: {torch}; over dense {times(row['over_dense'])}"
    text += f"; {times(row['over_bound'])} the bound ({row['bound_by']}); ms "
    text += " ".join(f"{p['seconds']['heddle']['median'] * 1e3:.3g}" for p in row["points"])
    if row["missed"]:
        text += f"; MISSES {', '.join(row['missed'])}"
    if row.get("busy_elsewhere", 0) > 0.1:
        text += f"; DISTURBED: others used {row['busy_elsewhere']:.1f} cores"
    return text


def summary(data: dict[str, Any]) -> str:
    """How many rows reach what they should."""
    rows = data["rows"]
    parts = [f"{sum(what not in r['missed'] and 'error' not in r for r in rows)} {what}"
             for what in ("slope", "torch", "compiled", "bound")]  # fmt: skip
    return f"of {len(rows)} rows reach their target: {', '.join(parts)}"


def newest(folder: Path) -> dict[str, Any] | None:
    """The newest results."""
    files = sorted(folder.glob("zoo-*.json"))
    return json.loads(files[-1].read_text()) if files else None


def merged(before: dict[str, Any], data: dict[str, Any], order: list[str]) -> dict[str, Any]:
    """The earlier results with new rows in the place of theirs."""
    known = {r["id"]: r for r in before["rows"] + data["rows"]}
    return {**data, "rows": [known[name] for name in order if name in known]}


def plot(folder: Path) -> None:
    """The plot of the newest results, beside them."""
    files = sorted(folder.glob("zoo-*.json"))
    if not files:
        raise SystemExit("expected results in bench/results, but found none: run tools/dev bench zoo")
    try:
        draw(json.loads(files[-1].read_text()), files[-1].with_suffix(".png"))
    except ImportError:
        print("no plot: matplotlib is not installed")


def write(folder: Path, root: Path) -> None:
    """The plot of the newest results, and docs/zoo.md by the examples' own command."""
    plot(folder)
    command = [sys.executable, str(root / "examples" / "zoo.py"), "--write"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def draw(data: dict[str, Any], path: Path) -> None:
    """Time over n of every system, with a line of the promised slope and dense attention."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [r for r in data["rows"] if "error" not in r]
    across = 6
    down = math.ceil(len(rows) / across)
    figure, axes = plt.subplots(down, across, figsize=(3 * across, 2.6 * down), dpi=70, squeeze=False)
    for axis in axes.flat[len(rows) :]:
        axis.axis("off")
    for axis, row in zip(axes.flat, rows, strict=False):
        ns = [p["n"] for p in row["points"]]
        ms = [p["seconds"]["heddle"]["median"] * 1e3 for p in row["points"]]
        dense = [p["over_dense"] * t for p, t in zip(row["points"], ms, strict=True)]
        axis.loglog(ns, dense, color="0.75", label="dense")
        axis.loglog(ns, [ms[-1] * (n / ns[-1]) ** row["promised_slope"] for n in ns], "--", color="tab:orange", lw=1)
        axis.loglog(ns, ms, "o-", ms=3, color="tab:red" if "slope" in row["missed"] else "tab:blue")
        for name, mark in (("eager", "x"), ("compiled", "+"), ("rewrite", "1")):
            if name in row["compare"]["seconds"]:
                axis.plot(row["compare"]["n"], row["compare"]["seconds"][name]["median"] * 1e3, mark, color="black")
        axis.set_title(f"{row['id']}  {slopes(row)}", fontsize=8)
        axis.tick_params(labelsize=6)
        axis.grid(True, which="major", alpha=0.3)
    figure.suptitle(
        "ms over n: Heddle (dots), dense attention (grey), promised slope (dashed); "
        "PyTorch eager x, compiled +, rewrite 1",
        fontsize=9,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    figure.savefig(path)
    plt.close(figure)
