"""Results of the bench in words: lines, table, comparison with earlier ones, page and plot."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

DISTURBED = 0.1  # cores that other processes used while a row was measured
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
    digits = 2 if abs(x) < 10 else 1 if abs(x) < 100 else 0
    return f"{x:.{digits}f}" + ("x" if unit == "x" else " " + unit.replace("us", "µs"))


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
    if row.get("busy_elsewhere", 0) > DISTURBED:
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
        elif (then["value"] / row["value"] if row["most"] else row["value"] / then["value"]) > 1 + WORSE:
            print(f"better: {moved}")
    print(f"{len(worse)} of {len(data['rows'])} rows are more than {WORSE:.0%} worse than in the earlier results")
    return worse


def merged(before: dict[str, Any], data: dict[str, Any], order: list[str]) -> dict[str, Any]:
    """The earlier results with the rows of `data` in the place of theirs; rows that are no more are left out."""
    known = {r["id"]: r for r in before["rows"] + data["rows"]}
    return {**data, "rows": [known[name] for name in order if name in known]}


# ---------------------------------------------------------------------- page


def write(path: Path | None, root: Path) -> None:
    """docs/performance.md and the plot of a results file."""
    data = load(path)
    if path is None or data is None:
        raise SystemExit("expected results in bench/results, but found none: run tools/dev bench cpu")
    target = root / "docs" / "performance.md"
    plot = path.with_suffix(".png")
    try:
        draw(data, plot)
    except ImportError:
        print("no plot: matplotlib is not installed")
    found = path.parent / "cycles.json"
    cycles = json.loads(found.read_text()) if found.exists() else {}
    notes = root / "bench" / "notes.md"
    text = page(data, path, plot, target.parent, cycles, notes.read_text() if notes.exists() else "")
    target.write_text(text)


def page(data: dict[str, Any], path: Path, plot: Path, folder: Path, cycles: dict[str, Any], notes: str) -> str:
    """The page's text."""
    m = data["machine"]
    rows = data["rows"]
    link = os.path.relpath(path, folder)
    out = [
        "# Performance",
        "",
        f"Written by `tools/dev bench cpu` from [{path.name}]({link}).",
        "[bench/README.md](../bench/README.md) says how rows are measured: values are medians of rounds, with",
        "quartiles in brackets; a ratio is taken round by round, its sides in one process, in turn. Compare ratios,",
        "not times, with another machine.",
        "",
        f"{m['cpu']}, {m['cores']} cores ({', '.join(m['isa'])}), {m['date']}, torch {m['torch']},",
        f"commit {m['commit']}. "
        "Batch 1, all cores unless a row says otherwise; `d 576/512` is d of q and k, and of v.",
        "",
        f"{summary(data)}.",
        "",
        *table(["what", "rows with a target", "reached it"], group_lines(rows)),
        f"![Rows against their targets]({os.path.relpath(plot, folder)})",
        "",
    ]
    for group, members in groups(rows).items():
        out += [f"## {group[0].upper()}{group[1:]}", ""]
        out += table(["row", "measured", "target", "met"], [head_line(r) for r in members])
    out += ["## Details", ""]
    out += [
        "Milliseconds of each contestant, GFLOP/s on live pairs, computed pairs over live pairs and instructions a",
        "live pair (counted in an instrumented copy of the kernel), what the cost model expects.",
        "",
    ]
    out += table(
        ["row", "problem", "threads", "ms", "GFLOP/s", "computed / live", "instructions / pair", "predicted ms"],
        [detail_line(r) for r in rows if "seconds" in r],
    )
    out += model_lines(rows, path, folder)
    out += torch_lines(rows)
    if notes:
        out += [notes.rstrip(), ""]
    out += cycle_lines(rows, cycles)
    return "\n".join(out)


def table(head: list[str], body: list[list[str]]) -> list[str]:
    """A Markdown table."""
    if not body:
        return []
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cells) + " |" for cells in body] + [""]


def groups(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by group, in order."""
    out: dict[str, list[dict[str, Any]]] = {}
    for r in rows:
        out.setdefault(r["group"], []).append(r)
    return out


def group_lines(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Name, rows with a target, rows that reached it."""
    out = []
    for group, members in groups(rows).items():
        judged = [r for r in members if r["met"] is not None]
        if judged:
            out.append([group, str(len(judged)), str(sum(r["met"] for r in judged))])
    return out


def head_line(r: dict[str, Any]) -> list[str]:
    """Name, value with quartiles, target, met."""
    name = f"`{r['id']}`"
    if "error" in r:
        return [name, f"not measured: {r['error']}".replace("|", "\\|"), target_text(r), ""]
    unit = r["unit"]
    value = number(r["value"], unit)
    if r["low"] != r["high"]:
        value += f" [{number(r['low'], unit)}, {number(r['high'], unit)}]"
    if r.get("busy_elsewhere", 0) > DISTURBED:
        value += " (disturbed)"
    return [name, value, target_text(r), verdict(r)]


def detail_line(r: dict[str, Any]) -> list[str]:
    """Name, problem, threads, milliseconds, GFLOP/s, executed over live."""
    times = ", ".join(f"{k} {milliseconds(x['median'])}" for k, x in r["seconds"].items())
    flops = f"{r['gflops']:.0f}" if "gflops" in r else ""
    executed = f"{r['executed_over_live']:.2f}" if "executed_over_live" in r else ""
    guess = milliseconds(r["predicted_seconds"]) if "predicted_seconds" in r else ""
    busy = f"{r['instructions_a_live_pair']:.3g}" if "instructions_a_live_pair" in r else ""
    problem = f"{r['case']}, {r['problem']}"
    return [f"`{r['id']}`", problem, str(r["threads"]), times, flops, executed, busy, guess]


def milliseconds(seconds: float) -> str:
    """Three digits."""
    return f"{seconds * 1e3:.3g}" if seconds < 0.9995 else f"{seconds * 1e3:.0f}"


def model_lines(rows: list[dict[str, Any]], path: Path, folder: Path) -> list[str]:
    """How well the schedule's cost model predicts."""
    errors = {}
    for r in rows:
        if r.get("predicted_seconds") and "seconds" in r and r.get("busy_elsewhere", 0) <= DISTURBED:
            key = (r["case"], r["problem"], r["threads"])
            errors[key] = r["predicted_seconds"] / r["seconds"]["heddle"]["median"] - 1
    if not errors:
        return []
    near = sum(abs(e) <= 0.25 for e in errors.values())
    out = ["## What the cost model predicts", ""]
    out += [f"Within 25% of the measured time: {near} of {len(errors)} problems of the table. Further off:", ""]
    far = sorted(((e, k) for k, e in errors.items() if abs(e) > 0.25), key=lambda x: -abs(x[0]))
    body = [[f"{k[0]}, {k[1]}", str(k[2]), f"{e:+.0%}"] for e, k in far]
    out += table(["problem", "threads", "predicted against measured"], body)
    for plot in sorted(path.parent.glob("costmodel*.png")):
        out += [f"![Measured over predicted]({os.path.relpath(plot, folder)})", ""]
    return out


def torch_lines(rows: list[dict[str, Any]]) -> list[str]:
    """What share of the peak torch's SDPA reaches."""
    found = [r for r in rows if "sdpa_share_of_peak" in r]
    if not found:
        return []
    body = [
        [
            f"`{r['id']}`",
            number(r["sdpa_share_of_peak"], "share"),
            number(r["sdpa_share_of_peak"] * r["value"], "share"),
            target_text(r),
        ]
        for r in found
    ]
    out = [
        "## What torch reaches",
        "",
        "Share of the multiply-add peak of torch's SDPA; ours is that times the measured ratio. Where 1.5 times",
        "torch's share is above the peak, the target is our share-of-peak row over torch's share.",
        "",
    ]
    least = min(found, key=lambda r: r["value"])
    out += [f"The least ratio is {number(least['value'], 'x')} (`{least['id']}`).", ""]
    return out + table(["row", "torch", "ours", "target"], body)


def cycle_lines(rows: list[dict[str, Any]], cycles: dict[str, Any]) -> list[str]:
    """Time by micro-kernel and by group of instructions."""
    if not cycles:
        return []
    short = {r["id"] for r in rows if r["met"] is False}
    out = [
        "## Where the cycles go",
        "",
        "Samples of one thread (`tools/dev bench cycles`), rows under their target first: shares of time by",
        "micro-kernel and by group of instructions (in brackets the group's share of the instructions that ran), and",
        "the loops that take most with the instructions of a turn.",
        "",
    ]
    body = []
    for name, found in sorted(cycles.items(), key=lambda x: x[0] not in short):
        kernels = ", ".join(f"{k} {100 * x:.0f}%" for k, x in found["functions"].items() if x >= 0.02)
        if found["outside"] >= 0.02:
            kernels += f", outside the kernel {100 * found['outside']:.0f}%"
        mix = ", ".join(
            f"{k} {100 * x:.0f}% ({100 * found['executed'].get(k, 0):.0f}%)"
            for k, x in found["groups"].items()
            if x >= 0.02
        )
        loops = []
        for b in found["blocks"][:3]:
            if b["share"] >= 0.1:
                parts = ", ".join(f"{n} {g}" for g, n in b["groups"].items())
                loops.append(f"{b['function']} {100 * b['share']:.0f}%: {parts}")
        body.append([f"`{name}`", f"{found['gflops']:.0f}", kernels, mix, "; ".join(loops)])
    return out + table(["row", "GFLOP/s", "micro-kernels", "instructions", "hottest loops"], body)


# ---------------------------------------------------------------------- plot


def draw(data: dict[str, Any], path: Path) -> None:
    """Each row's value over its target, and time over live pairs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [r for r in data["rows"] if r["met"] is not None]
    predicted = [r for r in data["rows"] if r.get("predicted_seconds") and "seconds" in r]
    figure, axes = plt.subplots(
        1, 3 if predicted else 2, figsize=(18 if predicted else 13, max(4.0, 0.13 * len(rows))), dpi=80, squeeze=False
    )
    left, right = axes[0][0], axes[0][1]
    good = [r["target"] / max(r["value"], 1e-9) if r["most"] else r["value"] / r["target"] for r in rows]
    colors = ["tab:green" if r["met"] else "tab:red" for r in rows]
    at = range(len(rows))
    left.scatter(good, at, c=colors, s=12)
    left.axvline(1, color="black", lw=0.8)
    left.set_xscale("log")
    left.set_yticks(list(at), [r["id"] for r in rows], fontsize=5)
    left.invert_yaxis()
    left.set_xlabel("how much of its target a row reaches (right of the line: met)")
    left.grid(True, axis="x", which="both", alpha=0.3)
    for dtype, marker in (("f32", "o"), ("bf16", "^")):
        points = {}
        for r in data["rows"]:
            if "live_pairs" in r and "seconds" in r and f"{dtype}, d 64" in r["problem"] and r["threads"] > 1:
                points[r["case"], r["problem"]] = (r["live_pairs"], r["seconds"]["heddle"]["median"] * 1e3)
        if points:
            right.scatter(*zip(*points.values(), strict=True), marker=marker, s=14, label=dtype)
        for (case, _), (x, y) in points.items():
            if dtype == "f32":
                right.annotate(case, (x, y), fontsize=5, xytext=(2, 2), textcoords="offset points")
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel("live pairs, all heads")
    right.set_ylabel("ms, all cores")
    right.set_title("d = 64: one line is the goal", fontsize=10)
    if right.collections:
        right.legend()
    right.grid(True, alpha=0.3)
    if predicted:
        scatter(axes[0][2], predicted)
    figure.tight_layout()
    figure.savefig(path)


def scatter(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Measured over predicted time, with the band of 25%."""
    x = [r["predicted_seconds"] * 1e3 for r in rows]
    y = [r["seconds"]["heddle"]["median"] * 1e3 for r in rows]
    tuned = ["tab:blue" if not r["id"].startswith("model/") else "tab:orange" for r in rows]
    axis.scatter(x, y, c=tuned, s=14)
    ends = [min(x + y), max(x + y)]
    axis.plot(ends, ends, color="black", lw=0.8)
    for factor in (0.75, 1.25):
        axis.plot(ends, [factor * e for e in ends], color="black", lw=0.5, ls="--")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("predicted ms")
    axis.set_ylabel("measured ms")
    axis.set_title("cost model; orange: patterns it was not tuned on", fontsize=10)
    axis.grid(True, alpha=0.3)
