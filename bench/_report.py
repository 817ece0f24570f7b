"""Results of the bench in words: lines, table, comparison with earlier ones, page and plot."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

WORSE = 0.10  # a ratio may be this much worse than the committed one before it is reported


def met(row: dict[str, Any]) -> bool | None:
    """Whether the value reaches the target; None where there is neither."""
    if row.get("value") is None or row.get("target") is None:
        return None
    return bool(row["value"] <= row["target"] if row["most"] else row["value"] >= row["target"])


def number(x: float, unit: str) -> str:
    """A value in its unit."""
    if unit == "share":
        return f"{100 * x:.1f}%"
    digits = 2 if abs(x) < 10 else 1
    return f"{x:.{digits}f}" + {"us": " µs", "ms": " ms", "x": "x", "MiB": " MiB"}[unit]


def target_text(row: dict[str, Any]) -> str:
    """The target with its sense."""
    if row.get("target") is None:
        return ""
    return ("<= " if row["most"] else ">= ") + number(row["target"], row["unit"])


def verdict(row: dict[str, Any]) -> str:
    """yes, no, or that the machine does not allow it."""
    if row["met"] is None:
        return ""
    if not row["met"] and row.get("possible") is not None and row["possible"] < row["target"]:
        return f"no (at most {number(row['possible'], row['unit'])}: bound by compute)"
    return "yes" if row["met"] else "**no**"


def line(row: dict[str, Any]) -> str:
    """One line of progress."""
    if "error" in row:
        return f"{row['id']:38} {row['error']}"
    spread = f"[{number(row['low'], row['unit'])}, {number(row['high'], row['unit'])}]"
    marks = {True: "met", False: "NOT met", None: ""}
    text = f"{row['id']:38} {number(row['value'], row['unit']):>9} {spread:20} target {target_text(row):>10} "
    text += f"{marks[row['met']]:8}"
    if "seconds" in row:
        text += ", ".join(f"{k} {x['median'] * 1e3:.3g} ms" for k, x in row["seconds"].items())
    if "gflops" in row:
        text += f"; {row['gflops']:.0f} GFLOP/s"
    for key, word in (("executed_over_live", "executed/live"), ("sdpa_share_of_peak", "SDPA's share of peak")):
        if key in row:
            text += f"; {word} {row[key]:.2f}"
    if row.get("busy_elsewhere", 0) > 0.1:
        text += f"; DISTURBED: others used {row['busy_elsewhere']:.1f} cores"
    return text


def summary(data: dict[str, Any]) -> str:
    """How many rows reached their targets."""
    rows = data["rows"]
    judged = [r for r in rows if r["met"] is not None]
    failed = [r for r in rows if "error" in r]
    good = sum(r["met"] for r in judged)
    text = f"{good} of {len(judged)} rows with a target reached it"
    return text + (f"; {len(failed)} not measured: {', '.join(r['id'] for r in failed)}" if failed else "")


# ---------------------------------------------------------------- comparison


def newest(folder: Path) -> Path | None:
    """The newest results file of this format."""
    files = sorted(folder.glob("cpu-*.json"))
    return files[-1] if files else None


def load(path: Path | None) -> dict[str, Any] | None:
    """Results, None where there are none of this format."""
    if path is None:
        return None
    data = json.loads(path.read_text())
    return data if data.get("format") == 2 else None


def worse_by(now: dict[str, Any], then: dict[str, Any]) -> float:
    """By which share of the earlier value the row is worse, beyond its spread; negative is better."""
    if now["most"]:
        return now["low"] / then["value"] - 1
    return 1 - now["high"] / then["value"]


def compare(data: dict[str, Any], before: dict[str, Any] | None) -> list[str]:
    """Prints the rows whose ratio moved, and returns the names of those that got worse."""
    if before is None:
        return []
    known = {r["id"]: r for r in before["rows"] if r.get("value") is not None}
    if before["machine"]["cpu"] != data["machine"]["cpu"]:
        print(f"the earlier results are of another machine ({before['machine']['cpu']}): ratios may differ")
    worse = []
    for row in data["rows"]:
        then = known.get(row["id"])
        if then is None:
            continue
        if row.get("value") is None:
            worse.append(row["id"])
            print(f"worse:  {row['id']}: was {number(then['value'], row['unit'])}, now {row.get('error')}")
            continue
        moved = f"{row['id']}: {number(then['value'], row['unit'])} -> {number(row['value'], row['unit'])}"
        if worse_by(row, then) > WORSE:
            worse.append(row["id"])
            print(f"worse:  {moved}")
        elif abs(row["value"] / then["value"] - 1) > WORSE and worse_by(row, then) < 0:
            print(f"better: {moved}")
    print(f"{len(worse)} of {len(data['rows'])} rows are more than {WORSE:.0%} worse than in the earlier results")
    return worse


def merged(before: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """The earlier results with the rows of `data` in the place of theirs."""
    fresh = {r["id"]: r for r in data["rows"]}
    rows = [fresh.pop(r["id"], r) for r in before["rows"]]
    return {**data, "rows": rows + list(fresh.values())}


# ---------------------------------------------------------------------- page


def write(path: Path | None, root: Path) -> None:
    """docs/performance.md and the plot of a results file."""
    data = load(path)
    if path is None or data is None:
        raise SystemExit("expected results in bench/results, but found none: run tools/dev bench cpu")
    raise NotImplementedError(os.fspath(root))
