"""The cost model: fits its constants to this machine, and compares what it predicts with what kernels take.

    tools/dev bench costmodel [--fit] [--random 50] [--seed 7000] [--dtypes f32,bf16] [--threads 1] [--prepare]

`--fit` runs kernels made for it (tiles of every kind, lengths, head dimensions), solves for the seconds that a unit of
each kind of work takes (codegen/CostModel.h; least squares on relative errors, no constant negative), and writes them
to machine.json beside the kernel cache, where `heddle explain` reads them. Without `--fit` the bench's cases and
random patterns, none of which the fit has seen, are run and compared; the results and a scatter plot go to results/.
`--prepare` only compiles, so that a run after it finds every kernel in the cache.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
KINDS = (
    "dots", "values", "softmax", "regions", "masks", "live", "conditions", "keys", "runs", "columns", "chunks", "tiles",
    "rows", "copies", "far_keys", "own_pairs", "own_runs", "own_rows", "calls",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One kernel on one size."""

    name: str
    pattern: str
    n: int
    d: int = 64
    dtype: str = "f32"
    heads: int = 4
    nq: int = 0  # 0: n
    score: str = ""  # one of scores()

    def sizes(self, threads: int) -> dict[str, int]:
        """As `explain` takes them."""
        return {"b": 1, "h": self.heads, "nq": self.nq or self.n, "nk": self.n, "d": self.d, "threads": threads}


def scores() -> dict[str, Any]:
    """Score functions, cheap and dear ones, of the distance, of the key, and of pairs."""
    import heddle as hd

    bias = hd.tensor(np.random.default_rng(1).standard_normal((8, 4096)).astype(np.float32))
    return {
        "scaled distance": lambda s, b, h, i, j: s - 0.1 * (i - j),
        "bias": lambda s, b, h, i, j: s + bias[h, i - j + 2048],
        "logarithm": lambda s, b, h, i, j: s - 0.5 * hd.log(1.0 + hd.abs(i - j)),
        "key": lambda s, b, h, i, j: s + bias[h, j],
        "softcap": lambda s, b, h, i, j: 20.0 * hd.tanh(s / 20.0),
        "sigmoid": lambda s, b, h, i, j: hd.log(hd.sigmoid(s - 2.0)),
        "cubes": lambda s, b, h, i, j: s + 0.01 * s * s - 0.001 * s * s * s * hd.sin(0.1 * (i + 2 * j)),
        "bias and softcap": lambda s, b, h, i, j: 30.0 * hd.tanh((s + bias[h, i - j + 2048]) / 30.0),
        "pairs": lambda s, b, h, i, j: s * (1.0 + 0.1 * hd.cos(0.01 * (i + j))) - hd.maximum(s, 0.0) * 0.1,
    }


def fitting(dtype: str) -> Iterator[Case]:
    """Kernels that differ in what they spend their time on."""
    patterns = {
        "full": "full",
        "causal": "causal",
        "lagged": "causal(17)",
        "window 16": "window(15, 0)",
        "window 48": "window(30, 17)",
        "window 100": "window(99, 0)",
        "window 200": "window(199, 0)",
        "window 700": "window(699, 0)",
        "window 1500": "window(1500, 100)",
        "block 16": "block(16)",
        "block 32": "block(32)",
        "block 96": "block(96)",
        "block 128": "block(128)",
        "block 512": "block(512)",
        "stride 2": "stride(2)",
        "stride 8": "causal & stride(8)",
        "stride 20": "stride(20)",
        "stride 32": "causal & stride(32)",
        "stride 100": "causal & stride(100)",
        "stride 50": "causal & stride(50)",
        "stride 70": "stride(70)",
        "stride 128": "stride(128)",
        "dilated 2": "window(200, 0, dilation = 2)",
        "dilated 8": "window(127, 0, dilation = 8)",
        "dilated 40": "window(40, 40, dilation = 40)",
        "columns": "keys([0 to 300])",
        "few columns": "keys([5, 70, 900])",
        "three": "window(40, 40) | keys([0 to 8]) | stride(50)",
        "sinks": "causal & (keys([0 to 16]) | window(300, 0))",
        "rows": "queries([0 to 64]) | window(20, 20)",
        "grid 32": "grid(32, window(4, 4), window(4, 4))",
        "grid 20": "grid(20, window(1, 1), window(1, 1))",
        "grid 64": "grid(64, window(5, 5), window(2, 2))",
        "grid 50": "grid(50, window(2, 2), window(10, 10))",
        "own 4": "offsets([0, 100, 213, 301])",
        "own 9": "offsets([0, 3, 7, 20, 41, 90, 170, 333, 700])",
        "own 14": "offsets([0, 1, 2, 9, 10, 27, 44, 71, 99, 140, 222, 350, 500, 800])",
        "own grid": "grid(40, window(1, 1), window(0, 0)) | grid(40, window(0, 0), window(5, 5))",
        "own squares": "grid(48, window(2, 2), window(2, 2))",
        "coarse": "coarse(32, window(2, 0))",
        "coarse stride": "coarse(64, stride(4))",
        "key mod": "key_mod(16, 3, 9)",
        "random": "random_blocks(64, 5, 3)",
        "random 32": "random_blocks(32, 8, 3)",
        "masked": "causal & holds(b, h, i, j : ((i * j) % 3) == 1)",
        "masked window": "window(300, 300) & holds(b, h, i, j : ((i * j + i) % 7) < 4)",
        "masked more": "window(200, 100) & holds(b, h, i, j : ((i * 3 + j * j) % 11) > ((i // 7 + j) % 5))",
        "masked apart": "holds(b, h, i, j : ((i * i) % 5) < ((j * j) % 7))",
        "masked guard": "causal & holds(b, h, i, j : ((i * i) % 5 > 1) & ((j * j) % 3 > 0) & ((i * j) % 2 == 0))",
        "offsets": "offsets([0, 3, 9, 31, 100])",
        "powers": "causal & offsets([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512])",
        "far neighbors": "window(3, 3, dilation = 150)",
    }
    for name, text in patterns.items():
        for n, d, heads in ((1024, 64, 8), (4096, 64, 2), (2000, 128, 2)):
            if n == 4096 and name in ("full", "causal", "lagged", "masked", "stride 2"):
                heads = 1
            yield Case(f"{name}, n {n}, d {d}", text, n, d, dtype, heads)
    for score in ("scaled distance", "bias", "logarithm", "key", "softcap", "cubes"):
        for text, n in (("full", 1024), ("causal", 2048), ("window(200, 0)", 4096)):
            yield Case(f"{text}, {score}", text, n, 64, dtype, 4, score=score)
    for n, d, heads in ((64, 64, 1), (256, 64, 1), (512, 32, 8), (512, 256, 2), (700, 40, 4), (900, 96, 4)):
        yield Case(f"full, n {n}, d {d}", "full", n, d, dtype, heads)
        yield Case(f"causal, n {n}, d {d}", "causal", n, d, dtype, heads)


def tested(dtypes: list[str], random: int, seed: int) -> Iterator[Case]:
    """The bench's cases, and random patterns of random sizes."""
    from _cases import texts

    for dtype in dtypes:
        for name, text in texts().items():
            for n, d in ((4096, 64), (8192, 64), (4096, 128)):
                if name in ("dense", "causal") and n == 8192:
                    continue
                yield Case(f"{name}, {dtype}, n {n}, d {d}", text, n, d, dtype, 2)
        for score in ("sigmoid", "bias and softcap", "pairs"):
            for text in ("causal", "window(511, 0)", "stride(16)"):
                yield Case(f"{text} with {score}, {dtype}", text, 2000, 64, dtype, 2, score=score)
        for nq in (1, 4, 8):
            yield Case(f"decode {nq}, {dtype}", "full", 32768, 64, dtype, 8, nq)
    sys.path.insert(0, str(ROOT / "test"))
    from oracle.random_patterns import Seeded, seeded

    found = 0
    while found < random:
        seed += 1
        choices = Seeded(seed)
        case = Case(
            f"random {seed}", seeded(seed, 3), choices.choice([500, 1024, 2048, 3000]),
            choices.choice([32, 64, 80, 128]), choices.choice(dtypes), 4,
        )  # fmt: skip
        if live_pairs(case) > 0:
            found += 1
            yield case


def spec_of(case: Case) -> Any:
    """The spec that is compiled."""
    import heddle as hd

    offset = "end" if case.nq and case.nq != case.n else None
    return hd.spec(
        hd.parse(case.pattern), scores()[case.score] if case.score else None, heads=(case.heads, case.heads), d=case.d,
        dtype=case.dtype, q_offset=offset,
    )  # fmt: skip


def live_pairs(case: Case) -> float:
    """Live pairs as explained; 0 where the pattern is refused."""
    import heddle as hd

    try:
        return float(explained(case, hd.compile(spec_of(case)), 1)["live_pairs"] or 0)
    except ValueError:
        return 0


def explained(case: Case, kernel: Any, threads: int) -> dict[str, Any]:
    """What explain says of it."""
    return dict(kernel.explain(as_json=True, **case.sizes(threads)))


def seconds_of(case: Case, kernel: Any, budget: float) -> float:
    """Seconds of one call: the least of several samples, for what disturbs a sample only adds to it."""
    import torch

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[case.dtype]
    torch.manual_seed(0)
    q = torch.randn(1, case.heads, case.nq or case.n, case.d).to(dtype)
    k, v = (torch.randn(1, case.heads, case.n, case.d).to(dtype) for _ in range(2))
    out = torch.empty_like(q)
    begin = time.perf_counter()
    kernel(q, k, v, out=out)
    kernel(q, k, v, out=out)
    once = (time.perf_counter() - begin) / 2
    count = max(1, round(0.002 / once))
    samples: list[float] = []
    start = time.perf_counter()
    while len(samples) < 3 or (time.perf_counter() - start < budget and len(samples) < 30):
        begin = time.perf_counter()
        for _ in range(count):
            kernel(q, k, v, out=out)
        samples.append((time.perf_counter() - begin) / count)
    return min(samples)


def solve(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Minimises |a x - y| over x >= 0 (Lawson and Hanson)."""
    x = np.zeros(a.shape[1])
    free = np.zeros(a.shape[1], bool)
    for _ in range(10 * a.shape[1]):
        gradient = a.T @ (y - a @ x)
        gradient[free] = -np.inf
        best = int(np.argmax(gradient))
        if gradient[best] <= 1e-9:
            break
        free[best] = True
        while True:
            z = np.zeros_like(x)
            z[free] = np.linalg.lstsq(a[:, free], y, rcond=None)[0]
            if (z[free] > 0).all():
                x = z
                break
            down = free & (z <= 0)
            step = (x[down] / (x[down] - z[down])).min()
            x += step * (z - x)
            free &= x > 1e-30
            x[~free] = 0
    return x


def constants(works: list[dict[str, float]], times: list[float]) -> tuple[dict[str, float], np.ndarray]:
    """Seconds of a unit of each kind of work, and the predictions over the times."""
    amounts = np.array([[w[kind] for kind in KINDS] for w in works])
    relative = amounts / np.array(times)[:, None]
    scale = np.maximum(relative.max(axis=0), 1e-300)
    matrix, ones = relative / scale, np.ones(len(times))
    weight = np.ones(len(times))
    for _ in range(6):  # large errors count less: a kernel that the model has no words for must not bend the rest
        found = solve(matrix * weight[:, None], ones * weight)
        weight = 1 / np.sqrt(1 + (np.abs(matrix @ found - 1) / 0.15) ** 2)
    return dict(zip(KINDS, (found / scale).tolist(), strict=True)), matrix @ found


def bandwidths() -> dict[str, float]:
    """Bytes a second that one thread, and all of them, read."""
    import os

    from _limits import Limits

    limits = Limits()
    out = {}
    for name, threads in (("bandwidth", 1), ("shared_bandwidth", os.cpu_count() or 1)):
        run, count = limits.read(threads)
        run()
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            run()
            times.append(time.perf_counter() - begin)
        out[name] = count / statistics.median(times)
    return out


def fit(args: argparse.Namespace) -> int:
    """Measures and writes machine.json."""
    import heddle as hd

    machine: dict[str, Any] = {"features": hd._core.host_features(), "date": now()}
    machine.update(bandwidths())
    hd.set_num_threads(1)
    for dtype in args.dtypes:
        works, times, names = [], [], []
        for case in fitting(dtype):
            kernel = hd.compile(spec_of(case))
            works.append(explained(case, kernel, 1)["time"]["work"])
            times.append(seconds_of(case, kernel, args.budget))
            names.append(case.name)
        machine[dtype], shares = constants(works, times)
        errors = np.abs(shares - 1)
        print(
            f"{dtype}: {len(names)} kernels, error {np.median(errors):.1%} in the middle, "
            f"{np.mean(errors < 0.25):.0%} within 25%"
        )
        for kind, seconds in machine[dtype].items():
            print(f"  {kind:10} {seconds:.3e} s")
        for k in np.argsort(-errors)[:8]:
            print(f"  {shares[k]:5.2f} of {times[k] * 1e3:8.3f} ms  {names[k]}")
        if args.dump:
            rows = [{"name": n, "work": w, "seconds": t} for n, w, t in zip(names, works, times, strict=True)]
            args.dump.with_suffix(f".{dtype}.json").write_text(json.dumps(rows))
    if "f32" in machine:
        machine.setdefault("f16", machine["f32"])
    path = Path(hd.cache_path()) / "machine.json"
    path.write_text(json.dumps(machine, indent=1) + "\n")
    print(f"wrote {path}")
    return 0


def now() -> str:
    """Date and time, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def compare(args: argparse.Namespace) -> int:
    """Predictions against measurements."""
    import heddle as hd

    hd.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    kernels = [(case, hd.compile(spec_of(case))) for case in tested(args.dtypes, args.random, args.seed)]
    first = [seconds_of(case, kernel, args.budget) for case, kernel in kernels]
    for (case, kernel), before in zip(kernels, first, strict=True):
        told = explained(case, kernel, args.threads)
        measured = min(seconds_of(case, kernel, args.budget), before)
        row = {
            "name": case.name, "pattern": case.pattern, "n": case.n, "d": case.d, "dtype": case.dtype,
            "nq": case.nq or case.n,
            "predicted": told["time"]["predicted_seconds"], "measured": measured,
            "dense": told["time"]["dense_seconds"],
            "compute": told["time"]["compute_seconds"], "memory": told["time"]["memory_seconds"],
            "waste": 1 - told["live_pairs"] / max(told["executed_pairs"], 1),
        }  # fmt: skip
        rows.append(row)
        print(
            f"{row['predicted'] / measured:6.2f} of {measured * 1e3:9.3f} ms  {case.name}: {case.pattern[:70]}",
            flush=True,
        )
    data = {
        "date": now(), "machine": platform.processor() or platform.machine(), "features": hd._core.host_features(),
        "threads": args.threads, "cases": summary([r for r in rows if not r["name"].startswith("random")]),
        "random": summary([r for r in rows if r["name"].startswith("random")]), "rows": rows,
    }  # fmt: skip
    print(json.dumps({k: data[k] for k in ("cases", "random")}, indent=1))
    if args.write:
        (RESULTS / "costmodel.json").write_text(json.dumps(data, indent=1) + "\n")
        draw(rows, RESULTS / "costmodel.png")
    return 0


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How far off the predictions are."""
    if not rows:
        return {}
    errors = sorted(abs(r["predicted"] / r["measured"] - 1) for r in rows)
    return {
        "count": len(errors), "median error": statistics.median(errors), "largest error": errors[-1],
        "within 25%": sum(e <= 0.25 for e in errors) / len(errors),
    }  # fmt: skip


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Predicted over measured, log-log, with the band of 25%."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6.4, 6))
    ends = [min(r["measured"] for r in rows) * 500, max(r["measured"] for r in rows) * 2000]
    axis.fill_between(ends, [x * 0.75 for x in ends], [x * 1.25 for x in ends], color="0.9", label="within 25%")
    axis.plot(ends, ends, color="0.6", linewidth=1)
    for label, random, marker in (("cases", False, "o"), ("random patterns", True, "x")):
        chosen = [r for r in rows if r["name"].startswith("random") == random]
        axis.scatter(
            [r["measured"] * 1e3 for r in chosen],
            [r["predicted"] * 1e3 for r in chosen],
            s=18,
            marker=marker,
            label=label,
        )
    axis.set(xscale="log", yscale="log", xlabel="measured, ms", ylabel="predicted, ms", xlim=ends, ylim=ends)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    """Fits or compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--random", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7000)
    parser.add_argument("--dtypes", type=lambda s: s.split(","), default=["f32", "bf16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=0.1, help="seconds of measuring for each kernel")
    parser.add_argument("--dump", type=Path, help="write the fit's measurements to this file")
    parser.add_argument("--no-write", dest="write", action="store_false", help="leave results/ alone")
    args = parser.parse_args()
    if args.prepare:
        import heddle as hd

        for dtype in args.dtypes:
            for case in fitting(dtype):
                hd.compile(spec_of(case))
        return sum(1 for case in tested(args.dtypes, args.random, args.seed) if not hd.compile(spec_of(case)))
    return fit(args) if args.fit else compare(args)


if __name__ == "__main__":
    raise SystemExit(main())
