"""CPU kernels against what the machine can do, torch's attention and FlexAttention.

    tools/dev bench cpu [--quick] [--threads 1,2] [--only NAME ...] [--no-flex]

Everything that is compared runs in one process, interleaved; figures are medians
with quartiles. Results go to bench/results/ as JSON, the tables to
docs/performance.md, the log-log plot beside the results.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
PAGE = ROOT / "docs" / "performance.md"
FLEX_CASES = ("window_256", "dilated_256x16", "stride_64", "block_64", "sparse_transformer")
COLD = """
import sys, time
t0 = time.perf_counter()
import numpy as np, heddle as hd
t1 = time.perf_counter()
x = np.ones((1, 1, 64, 64), np.float32)
p = hd.parse(sys.argv[1])
hd.attend(x, x, x, where=p)
t2 = time.perf_counter()
hd.attend(x, x, x, where=p)
t3 = time.perf_counter()
print(t1 - t0, t2 - t1, t3 - t2)
"""


def say(text: str) -> None:
    """Progress, at once."""
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- one process


def dense(args: argparse.Namespace, limits: Any) -> list[dict[str, Any]]:
    """Dense and causal against the hand-written program, SDPA and FlexAttention."""
    import torch
    from _measure import interleaved
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    import heddle as hd

    rows = []
    lengths = [192] if args.quick else [1024, 3072, 8192]
    for d in (64, 128):
        for n in lengths:
            for dtype in (torch.float32, torch.bfloat16):
                for name, where in (("dense", hd.full), ("causal", hd.causal)):
                    q, k, v = (torch.randn(1, args.heads, n, d).to(dtype) for _ in range(3))
                    out, causal = torch.empty_like(q), name == "causal"
                    runs: dict[str, Any] = {"heddle": lambda: hd.attend(q, k, v, where=where)}
                    if not causal and dtype == torch.float32:
                        runs["limit"] = lambda: limits.attention(q, k, v, out)
                    runs["sdpa"] = lambda: sdpa(q, k, v, is_causal=causal)
                    if args.flex and n == lengths[-1] and d == 64 and dtype == torch.float32:
                        runs["flex"] = flex_run(None if not causal else name, n, q, k, v)
                    label = "f32" if dtype == torch.float32 else "bf16"
                    say(f"  {name} {label} d = {d}, n = {n}: {', '.join(runs)}")
                    times = interleaved(runs, args.rounds)
                    live = n * n if not causal else n * (n + 1) // 2
                    rows.append(row(name, label, d, n, live, args.heads, times))
    return rows


def patterns(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of sparse patterns over lengths, per live pair relative to our own dense."""
    import torch
    from _cases import FLEX, texts
    from _measure import interleaved

    import heddle as hd

    rows = []
    chosen = {name: text for name, text in texts().items() if not args.only or name in args.only}
    for n in [128, 256] if args.quick else [1024, 2048, 4096, 8192]:
        q, k, v = (torch.randn(1, args.heads, n, 64) for _ in range(3))
        runs: dict[str, Any] = {}
        live = {}
        for name, text in {"dense": "full", **chosen}.items():
            where = hd.parse(text)
            live[name] = int(where.count(n, n))
            runs[name] = lambda where=where: hd.attend(q, k, v, where=where)
        if args.flex and n == (256 if args.quick else 8192):
            for name in FLEX_CASES:
                if name in chosen and name in FLEX:
                    runs["flex " + name] = flex_run(name, n, q, k, v)
        say(f"  patterns at n = {n}: {len(runs)} runs")
        times = interleaved(runs, args.rounds, budget=60.0)
        for name in live:
            both = {"heddle": times[name]}
            if "flex " + name in times:
                both["flex"] = times["flex " + name]
            r = row(name, "f32", 64, n, live[name], args.heads, both)
            r["text"] = "full" if name == "dense" else chosen[name]
            per_pair = times[name].median / max(live[name], 1)
            r["per_pair_vs_dense"] = per_pair / (times["dense"].median / live["dense"])
            rows.append(r)
    return rows


def flex_run(name: str | None, n: int, q: Any, k: Any, v: Any) -> Any:
    """Compiled FlexAttention with its block mask made beforehand."""
    import torch
    from _cases import FLEX
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    say(f"  compiling FlexAttention for {name or 'dense'}")
    torch._dynamo.config.recompile_limit = 64
    compiled = torch.compile(flex_attention, dynamic=False)
    mask = create_block_mask(FLEX[name], None, None, n, n, device="cpu") if name else None

    def run() -> Any:
        with torch.no_grad():
            return compiled(q, k, v, block_mask=mask)

    return run


def row(name: str, dtype: str, d: int, n: int, live: int, heads: int, times: dict[str, Any]) -> dict[str, Any]:
    """One line of results."""
    flop = 4.0 * live * heads * d
    return {
        "case": name,
        "dtype": dtype,
        "d": d,
        "n": n,
        "heads": heads,
        "live_pairs": live,
        "seconds": {k: t.as_json() for k, t in times.items()},
        "gflops": {k: flop / t.median / 1e9 for k, t in times.items()},
    }


def warm_calls(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of a call on almost no work, from NumPy and from torch."""
    import numpy as np
    import torch
    from _measure import interleaved

    import heddle as hd

    a = np.ones((1, 1, 1, 8), np.float32)
    t = torch.ones(1, 1, 1, 8)
    window = hd.causal & hd.window(7, 0)
    runs = {
        "numpy": lambda: hd.attend(a, a, a),
        "torch": lambda: hd.attend(t, t, t),
        "torch, causal & window": lambda: hd.attend(t, t, t, where=window),
        "torch sdpa": lambda: torch.nn.functional.scaled_dot_product_attention(t, t, t),
    }
    return {k: x.median for k, x in interleaved(runs, 5 if args.quick else 51).items()}


def cold_calls(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds of the first call in a fresh process: nothing cached, then cached on disk."""
    from _cases import texts

    known = texts()
    out = {}
    names = ["dense", "window_256"]
    for name in names if args.quick else [*names, "causal", "stride_64", "sparse_transformer"]:
        samples: dict[str, list[float]] = {"import": [], "cold": [], "disk": [], "warm": []}
        for _ in range(1 if args.quick else 5):
            with tempfile.TemporaryDirectory() as cache:
                env = {**os.environ, "HEDDLE_CACHE_DIR": cache}
                for kind in ("cold", "disk"):
                    done = subprocess.run(
                        [sys.executable, "-c", COLD, known[name]], env=env, capture_output=True, text=True, check=True
                    )
                    load, first, second = map(float, done.stdout.split())
                    samples["import"].append(load)
                    samples[kind].append(first)
                    samples["warm"].append(second)
        out[name] = {k: sorted(x)[len(x) // 2] for k, x in samples.items()}
        say(f"  cold {name}: {out[name]['cold'] * 1e3:.0f} ms, from disk {out[name]['disk'] * 1e3:.1f} ms")
    return out


def worker(args: argparse.Namespace) -> dict[str, Any]:
    """All measurements on one number of threads."""
    threads = int(args.threads)
    import torch
    from _limits import Limits

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    limits = Limits(threads)
    out: dict[str, Any] = {"threads": threads}
    out["peak_gflops"] = [limits.peak(0.05 if args.quick else 0.5)]
    out["bandwidth_gbs"] = limits.bandwidth(1 << 24 if args.quick else 1 << 29)
    out["dense"] = dense(args, limits)
    out["peak_gflops"].append(limits.peak(0.05 if args.quick else 0.5))
    out["patterns"] = patterns(args)
    out["peak_gflops"].append(limits.peak(0.05 if args.quick else 0.5))
    if threads == args.first:
        out["warm_call"] = warm_calls(args)
        out["cold_call"] = cold_calls(args)
    return out


# ----------------------------------------------------------------- all of it


def machine() -> dict[str, Any]:
    """What it ran on."""
    import numpy
    import torch

    cpu, flags = platform.processor(), ""
    try:
        info = Path("/proc/cpuinfo").read_text()
        cpu = next(x.split(":", 1)[1].strip() for x in info.splitlines() if x.startswith("model name"))
        flags = next(x for x in info.splitlines() if x.startswith("flags"))
    except (OSError, StopIteration):
        pass
    isa = [x for x in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if x in flags.split()]
    version = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "cpu": cpu,
        "isa": isa,
        "cores": os.cpu_count(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "commit": version.stdout.strip(),
        "load": os.getloadavg()[0],
    }


def ms(seconds: float) -> str:
    """Milliseconds with three digits."""
    return f"{seconds * 1e3:.3g}"


def page(data: dict[str, Any], plot: str) -> str:
    """docs/performance.md."""
    m = data["machine"]
    lines = [
        "# Performance",
        "",
        "Written by `tools/dev bench cpu`; the numbers, with quartiles, are in "
        f"[{data['file']}](../{data['file']}). Compare ratios, not times of different machines.",
        "",
        f"{m['cpu']}, {m['cores']} cores ({', '.join(m['isa'])}), {m['date']}, torch {m['torch']}, commit "
        f"{m['commit'] or 'unknown'}. Medians of interleaved rounds in one process; batch 1, {data['heads']} heads.",
        "",
    ]
    if m["load"] > 0.5:
        lines += [
            f"Other work ran on the machine at the time (load {m['load']:.1f} before the first measurement): single "
            "figures are noisy, ratios less so, since all that is compared ran in turn.",
            "",
        ]
    for run in data["runs"]:
        t = run["threads"]
        peak = sorted(run["peak_gflops"])[len(run["peak_gflops"]) // 2]
        lines += [f"## {t} thread{'s' if t > 1 else ''}", ""]
        lines += [
            f"Multiply-add peak {peak:.0f} GFLOP/s in f32, reading {run['bandwidth_gbs']:.0f} GB/s. `limit` is the "
            "hand-written program `bench/limits/cpu.c`.",
            "",
            "| case | dtype | d | n | heddle ms | GFLOP/s | share of peak | vs limit | vs SDPA | vs FlexAttention |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for r in run["dense"]:
            s = {k: x["median"] for k, x in r["seconds"].items()}
            versus = [f"{s['heddle'] / s[k]:.2f}x" if k in s else "" for k in ("limit", "sdpa", "flex")]
            share = f"{100 * r['gflops']['heddle'] / peak:.0f}%" if r["dtype"] == "f32" else ""
            lines.append(
                f"| {r['case']} | {r['dtype']} | {r['d']} | {r['n']} | {ms(s['heddle'])} | "
                f"{r['gflops']['heddle']:.0f} | {share} | {' | '.join(versus)} |"
            )
        top = max(r["n"] for r in run["patterns"])
        lines += [
            "",
            "`vs` is our time as a multiple of the peer's: below 1 is faster.",
            "",
            f"Patterns, f32, d = 64, n = {top}; GFLOP/s count live pairs only; the cost of a pair is relative to our "
            "own dense kernel:",
            "",
            "| case | pattern | live share | ms | GFLOP/s | cost of a pair | time vs dense | vs FlexAttention |",
            "|---|---|---|---|---|---|---|---|",
        ]
        full = next(r for r in run["patterns"] if r["n"] == top and r["case"] == "dense")
        for r in run["patterns"]:
            if r["n"] != top:
                continue
            s = {k: x["median"] for k, x in r["seconds"].items()}
            flex = f"{s['heddle'] / s['flex']:.3f}x" if "flex" in s else ""
            text = r["text"].replace("|", "\\|")
            lines.append(
                f"| {r['case']} | `{text}` | {100 * r['live_pairs'] / top**2:.2f}% | {ms(s['heddle'])} | "
                f"{r['gflops']['heddle']:.0f} | {r['per_pair_vs_dense']:.2f}x | "
                f"{s['heddle'] / full['seconds']['heddle']['median']:.4f}x | {flex} |"
            )
        lines.append("")
        if "warm_call" in run:
            lines += [
                "A call on almost no work (one query, one key): "
                + ", ".join(f"{k} {x * 1e6:.1f} µs" for k, x in run["warm_call"].items())
                + ".",
                "",
                "| first call in a fresh process | compiled, ms | from the disk cache, ms | import, ms |",
                "|---|---|---|---|",
            ]
            for name, x in run["cold_call"].items():
                lines.append(f"| {name} | {ms(x['cold'])} | {ms(x['disk'])} | {ms(x['import'])} |")
            lines.append("")
    lines += [f"![Time over length]({plot})", ""]
    return "\n".join(lines)


def draw(data: dict[str, Any], path: Path) -> None:
    """Time over n, log-log, one line a pattern, and time over live pairs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), dpi=80)
    run = data["runs"][0]
    names = list(dict.fromkeys(r["case"] for r in run["patterns"]))
    colors = plt.get_cmap("tab20")
    for c, name in enumerate(names):
        rows = sorted((r for r in run["patterns"] if r["case"] == name), key=lambda r: r["n"])
        seconds = [r["seconds"]["heddle"]["median"] * 1e3 for r in rows]
        style = {"color": colors(c % 20), "marker": "o", "ms": 3, "lw": 1.8 if name == "dense" else 1.0, "label": name}
        axes[0].plot([r["n"] for r in rows], seconds, **style)
        axes[1].plot([r["live_pairs"] for r in rows], seconds, **style)
    for axis, label in zip(axes, ("n", "live pairs of a head"), strict=True):
        axis.set_xscale("log", base=2 if label == "n" else 10)
        axis.set_yscale("log")
        axis.set_xlabel(label)
        axis.set_ylabel("ms")
        axis.grid(True, which="major", alpha=0.3)
    axes[0].set_title(f"f32, d = 64, {data['heads']} heads, {run['threads']} thread(s)", fontsize=10)
    axes[1].set_title("the same over live pairs: one line is the goal", fontsize=10)
    axes[1].legend(fontsize=6, ncol=2)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Runs a worker for each number of threads, then writes results, page and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does the bench work at all (writes nothing)")
    parser.add_argument("--threads", default=None, help="comma-separated thread counts (default: 1 and all cores)")
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--only", nargs="*", help="only these patterns")
    parser.add_argument("--no-flex", dest="flex", action="store_false", help="without FlexAttention (it compiles long)")
    parser.add_argument("--out", type=Path, help="results file (default: bench/results/cpu-DATE.json)")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 9)
    sys.path.insert(0, str(HERE))
    if args.worker:
        args.worker.write_text(json.dumps(worker(args)))
        return
    cores = os.cpu_count() or 1
    counts = [int(x) for x in args.threads.split(",")] if args.threads else sorted({1, cores})
    if args.quick:
        counts = counts[:1]
    data: dict[str, Any] = {"machine": machine(), "heads": args.heads, "runs": []}
    if data["machine"]["load"] > 0.5 and not args.quick:
        say(f"warning: the machine is busy (load {data['machine']['load']:.1f}); figures will be noisy")
    begin = time.monotonic()
    for count in counts:
        say(f"{count} thread(s)")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "run.json"
            command = [sys.executable, __file__, "--worker", str(file), "--threads", str(count)]
            command += ["--first", str(counts[0]), "--heads", str(args.heads), "--rounds", str(args.rounds)]
            command += ["--quick"] * args.quick + ["--no-flex"] * (not args.flex)
            command += ["--only", *args.only] if args.only else []
            env = {**os.environ, "HEDDLE_NUM_THREADS": str(count), "OMP_NUM_THREADS": str(count)}
            subprocess.run(command, env=env, check=True)
            data["runs"].append(json.loads(file.read_text()))
    say(f"done in {time.monotonic() - begin:.0f} s")
    stamp = data["machine"]["date"][:10]
    out = args.out or RESULTS / f"cpu-{stamp}.json"
    data["file"] = os.path.relpath(out, ROOT)
    plot = out.with_suffix(".png")
    text = page(data, os.path.relpath(plot, PAGE.parent))
    print(text)
    if args.quick and not args.out:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(round_numbers(data), indent=1) + "\n")
    draw(data, plot)
    if not args.quick:
        PAGE.write_text(text)


def round_numbers(x: Any) -> Any:
    """Four significant digits are what the measurement gives."""
    if isinstance(x, float):
        return float(f"{x:.4g}") if math.isfinite(x) else None
    if isinstance(x, dict):
        return {k: round_numbers(v) for k, v in x.items()}
    if isinstance(x, list):
        return [round_numbers(v) for v in x]
    return x


if __name__ == "__main__":
    main()
