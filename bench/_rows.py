"""The rows of the bench: what each compares, in which unit, and what it should reach.

A row is measured alone, its contestants interleaved in one process, so that any of
them can be run by itself. A row whose value is a ratio takes it round by round.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import _cases
from _limits import FORMS, Limits
from _measure import Times, interleaved, middle

HERE = Path(__file__).resolve().parent
CORES = os.cpu_count() or 1
BYTES = {"f32": 4, "f16": 2, "bf16": 2}
TORCH = frozenset({"sdpa", "flex", "rewrite"})
PEAK_OF = {"f32": "f32", "f16": "f32", "bf16": "bf16"}


@dataclass(frozen=True)
class Problem:
    """One attention: a pattern or spec of cases/, sizes, dtype, threads."""

    case: str = "dense"
    n: int = 4096
    nk: int = 0  # 0: n
    d: int = 64
    dv: int = 0  # 0: d
    heads: int = 8
    kv_heads: int = 0  # 0: heads
    dtype: str = "f32"
    score: str = ""
    threads: int = CORES
    target: str = "native"
    decode: bool = False  # causal, the last query on the last key
    copies: int = 1  # of k and v, taken in turn

    @property
    def keys(self) -> int:
        return self.nk or self.n

    @property
    def width(self) -> int:
        return self.dv or self.d

    def text(self) -> str:
        """Sizes in words."""
        words = [self.dtype, f"d {self.d}" + (f"/{self.dv}" if self.dv else ""), f"n {self.n}"]
        if self.nk:
            words.append(f"nk {self.nk}")
        words.append(f"h {self.heads}" + (f":{self.kv_heads}" if self.kv_heads else ""))
        return ", ".join(words)


@dataclass
class Row:
    """One line of the table."""

    id: str
    group: str
    measure: Callable[[Bench, Row], dict[str, Any]]
    problem: Problem = field(default_factory=Problem)
    target: float | None = None
    most: bool = False  # True: the target is an upper bound
    unit: str = "x"  # "x", "share", "us", "ms"
    options: dict[str, Any] = field(default_factory=dict)
    seconds: float = 120.0  # given up after


class Bench:
    """Kernels, tensors and limits of one process."""

    def __init__(self, quick: bool) -> None:
        import torch

        self.quick = quick
        self.torch = torch
        self.rounds = 2 if quick else 7
        self.limits = Limits()
        torch.manual_seed(0)

    @functools.lru_cache(4)  # noqa: B019 (one bench a process)
    def tensors(self, p: Problem) -> list[tuple[Any, Any, Any]]:
        """`copies` of q, k, v."""
        dtype = {"f32": self.torch.float32, "f16": self.torch.float16, "bf16": self.torch.bfloat16}[p.dtype]
        hk = p.kv_heads or p.heads

        def make(h: int, n: int, d: int) -> Any:
            return self.torch.randn(1, h, n, d).to(dtype)

        q = make(p.heads, p.n, p.d)
        return [(q, make(hk, p.keys, p.d), make(hk, p.keys, p.width)) for _ in range(p.copies)]

    def qkv(self, p: Problem) -> tuple[Any, Any, Any]:
        """The first of them, of the same contents for equal sizes."""
        plain = replace(p, case="", score="", threads=1, target="", decode=False, copies=1)
        return self.tensors(plain)[0]

    def where(self, p: Problem) -> Any:
        """The pattern, its run-time operands bound."""
        import heddle as hd

        return hd.parse(_cases.every_text()[p.case], **_cases.operands(p.case, p.n))

    def threads(self, n: int) -> None:
        """Of torch and of Heddle."""
        import heddle as hd

        if self.torch.get_num_threads() != n:
            self.torch.set_num_threads(n)
        hd.set_num_threads(n)

    def heddle(self, p: Problem, out: Any = None) -> Callable[[], Any]:
        """A call of Heddle."""
        import heddle as hd

        if p.score and p.score != "lambda":
            kernel = hd.compile(_cases.specs()[p.score])
            args = (*self.qkv(p), *_cases.CAPTURES[p.score](p.heads))
            return lambda: kernel(*args)
        where = hd.causal if p.decode else self.where(p)
        if p.target != "native":
            kernel = hd.compile(hd.spec(where, d=p.d, dtype=p.dtype), target=p.target)
            args = self.qkv(p)
            return lambda: kernel(*args)
        score = _cases.score(p.score, hd, p.heads) if p.score else None
        offset = "end" if p.decode else None
        if p.copies > 1:
            copies = self.tensors(p)
            at = iter(range(1 << 60))

            def turn() -> Any:
                q, k, v = copies[next(at) % len(copies)]
                return hd.attend(q, k, v, where=where, q_offset=offset)

            return turn
        q, k, v = self.qkv(p)
        if out is not None:
            return lambda: hd.attend(q, k, v, where=where, score=score, q_offset=offset, out=out)
        return lambda: hd.attend(q, k, v, where=where, score=score, q_offset=offset)

    def live(self, p: Problem) -> int:
        """Live pairs of all heads."""
        if p.decode:
            return p.heads * sum(p.keys - p.n + i + 1 for i in range(p.n))
        if p.score:
            return p.heads * p.n * (p.n + 1) // 2
        if p.case == "dense":
            return p.heads * p.n * p.keys
        return p.heads * int(self.where(p).count(p.n, p.keys))

    def flops(self, p: Problem) -> float:
        """Multiplications and additions on live pairs."""
        return 2.0 * (p.d + p.width) * self.live(p)

    @functools.lru_cache(8)  # noqa: B019
    def explained(self, p: Problem) -> dict[str, Any]:
        """What `explain` says of the problem; empty where it cannot."""
        import heddle as hd

        sizes = {"b": 1, "h": p.heads, "hk": p.kv_heads or p.heads, "nq": p.n, "nk": p.keys, "d": p.d}
        sizes["threads"] = p.threads
        try:
            if p.score and p.score != "lambda":
                return dict(hd.compile(_cases.specs()[p.score]).explain(as_json=True, **sizes))
            where = hd.causal if p.decode else self.where(p)
            score = _cases.score(p.score, hd, p.heads) if p.score else None
            offset = "end" if p.decode else None
            spec = hd.spec(where, score, d=p.d, dv=p.width, dtype=p.dtype, q_offset=offset)
            text = hd._core.explain(str(spec), ",".join(f"{k}={n}" for k, n in sizes.items()), True)
            return dict(json.loads(text))
        except (ValueError, NotImplementedError):
            return {}

    @functools.lru_cache(256)  # noqa: B019
    def counted(self, p: Problem) -> dict[str, Any]:
        """Computed pairs over live pairs and instructions a live pair, counted in a call on one key head."""
        import _counters

        blocks = self.blocks(p)
        dots, sums = _counters.pairs(blocks, p.d, p.width)
        live = self.live(p)
        return {
            "executed_over_live": (dots * p.d + sums * p.width) / (live * (p.d + p.width)),
            "dots_over_live": dots / live,
            "instructions_a_live_pair": sum(n * len(b.instructions) for b, n in blocks) / live,
        }

    def blocks(self, p: Problem) -> list[Any]:
        """Basic blocks of the kernel with how often each runs in a call."""
        import _counters

        import heddle as hd

        where = hd.causal if p.decode else self.where(p)
        score = _cases.score(p.score, hd, p.heads) if p.score else None
        offset = "end" if p.decode else None
        spec = hd.spec(where, score, d=p.d, dv=p.width, dtype=p.dtype, q_offset=offset)
        if p.score and p.score != "lambda":
            kernel, values = hd.compile(_cases.specs()[p.score]), _cases.CAPTURES[p.score](p.heads)
        else:
            kernel, values = hd.compile(spec, target=p.target), spec.operands
        return _counters.run(kernel, (*self.qkv(p), *values))

    def executed(self, p: Problem) -> dict[str, Any]:
        """What `counted` gives, with what the schedule says of itself."""
        out: dict[str, Any] = {}
        report = self.explained(p)
        if report.get("live_pairs") and report.get("executed_pairs") is not None:
            out["explained_over_live"] = report["executed_pairs"] / report["live_pairs"]
        if not self.quick:
            # Heads run alike: one group of them counts for all.
            group = p.heads // p.kv_heads if p.kv_heads else p.heads if p.score else 1
            one = replace(p, heads=group, kv_heads=1 if p.kv_heads else 0, threads=1, copies=1)
            out.update(self.counted(one))
        return out

    def predicted(self, p: Problem) -> float | None:
        """Seconds that the cost model expects."""
        return (self.explained(p).get("time") or {}).get("predicted_seconds")

    def sdpa(self, p: Problem) -> Callable[[], Any]:
        """torch's scaled_dot_product_attention, dense or causal."""
        torch = self.torch
        q, k, v = self.qkv(p)
        f = torch.nn.functional.scaled_dot_product_attention
        grouped = {"enable_gqa": True} if p.kv_heads else {}
        mask = None
        if p.decode and p.n > 1:
            i = torch.arange(p.n)[:, None] + p.keys - p.n
            mask = torch.where(torch.arange(p.keys)[None] <= i, 0.0, float("-inf")).to(q.dtype)

        def run() -> Any:
            with torch.no_grad():
                return f(q, k, v, attn_mask=mask, is_causal=p.case == "causal", **grouped)

        return run

    def run(self, runs: dict[str, Callable[[], Any]], budget: float = 2.5) -> Times:
        """Interleaved rounds."""
        return interleaved(runs, self.rounds, budget=0.3 if self.quick else budget, spinning=TORCH)


def result(bench: Bench, row: Row, times: Times, values: list[float], **extra: Any) -> dict[str, Any]:
    """The row's line: the value is the median of `values`, one a round."""
    value, low, high = middle(values)
    flops = bench.flops(row.problem)
    out: dict[str, Any] = {"value": value, "low": low, "high": high, "seconds": times.as_json()}
    first = next(iter(times.rounds))
    out["gflops"] = flops / times.median(first) / 1e9
    out["live_pairs"] = bench.live(row.problem)
    out.update(bench.executed(row.problem))
    predicted = bench.predicted(row.problem)
    if predicted is not None:
        out["predicted_seconds"] = predicted
    return {**out, **extra}


# ------------------------------------------------------------------ measures


def share_of_peak(bench: Bench, row: Row) -> dict[str, Any]:
    """FLOP/s on live pairs over the peak of the multiply-add units."""
    p = row.problem
    bench.threads(p.threads)
    kind = row.options.get("peak", PEAK_OF[p.dtype])
    peak, peak_flops = bench.limits.peak(kind, p.threads)
    times = bench.run({"heddle": bench.heddle(p), "peak": peak})
    flops = bench.flops(p)
    rates = middle(times.each(lambda t: peak_flops / t / 1e9, "peak"))
    values = times.each(lambda t, s: (flops / t) / (peak_flops / s), "heddle", "peak")
    return result(bench, row, times, values, peak_gflops=rates[0])


def against(bench: Bench, row: Row) -> dict[str, Any]:
    """Speed over another problem's on live pairs (Heddle both): f16 over f32, a head dim over 64."""
    p, other = row.problem, row.options["other"]
    bench.threads(p.threads)
    name = f"{other.dtype} d {other.d}"
    times = bench.run({"heddle": bench.heddle(p), name: bench.heddle(other)})
    a, b = bench.flops(p), bench.flops(other)
    return result(bench, row, times, times.each(lambda t, s: (a / t) / (b / s), "heddle", name))


def against_limit(bench: Bench, row: Row) -> dict[str, Any]:
    """Speed over the best hand-written program's, one thread."""
    p = row.problem
    bench.threads(1)
    q, k, v = bench.qkv(p)
    out, own = bench.torch.empty_like(q), bench.torch.empty_like(q)
    runs = {"heddle": bench.heddle(p, out=own)}
    for name, form in FORMS[p.dtype].items():
        if p.dtype == "bf16" and not bench.limits.has("bf16"):
            raise NotImplementedError("this CPU has no bf16 multiply-adds")
        runs[name] = functools.partial(bench.limits.attention, form, q, k, v, out)
    times = bench.run(runs, budget=3)
    error = float((out.float() - own.float()).abs().max())
    if not error < 0.05:
        raise AssertionError(f"expected the limit program and Heddle to agree, but they differ by {error}")
    best = min((n for n in runs if n != "heddle"), key=times.median)
    return result(bench, row, times, times.each(lambda t, s: s / t, "heddle", best), best=best)


def against_sdpa(bench: Bench, row: Row) -> dict[str, Any]:
    """Speed over torch's; the target is 1.5, or our share of the peak where that would be above the peak."""
    p = row.problem
    bench.threads(p.threads)
    peak, peak_flops = bench.limits.peak(PEAK_OF[p.dtype], p.threads)
    times = bench.run({"heddle": bench.heddle(p), "sdpa": bench.sdpa(p), "peak": peak}, budget=3)
    flops = bench.flops(p)
    share = middle(times.each(lambda t, s: (flops / t) / (peak_flops / s), "sdpa", "peak"))[0]
    extra = {"sdpa_share_of_peak": share}
    if 1.5 * share > 1:
        extra["target"] = max(1.0, row.options["share"] / share)
    return result(bench, row, times, times.each(lambda t, s: s / t, "heddle", "sdpa"), **extra)


def against_flex(bench: Bench, row: Row) -> dict[str, Any]:
    """Speed over compiled FlexAttention."""
    import _peers

    p = row.problem
    bench.threads(p.threads)
    times = bench.run(
        {"heddle": bench.heddle(p), "flex": _peers.flex(p.case, p.score, p.n, *bench.qkv(p))}, budget=4
    )
    return result(bench, row, times, times.each(lambda t, s: s / t, "heddle", "flex"))


def against_rewrite(bench: Bench, row: Row) -> dict[str, Any]:
    """Speed over the fastest rewrite in PyTorch."""
    import _peers

    p = row.problem
    bench.threads(p.threads)
    with bench.torch.no_grad():
        times = bench.run({"heddle": bench.heddle(p), "rewrite": _peers.fastest(p.case, *bench.qkv(p))}, budget=4)
    return result(bench, row, times, times.each(lambda t, s: s / t, "heddle", "rewrite"))


def per_pair(bench: Bench, row: Row) -> dict[str, Any]:
    """Time per live pair over another problem's (default: our own dense kernel)."""
    p = row.problem
    other = row.options.get("other", replace(p, case="dense"))
    bench.threads(p.threads)
    times = bench.run({"heddle": bench.heddle(p), other.case: bench.heddle(other)})
    a, b = bench.live(p), bench.live(other)
    return result(bench, row, times, times.each(lambda t, s: (t / a) / (s / b), "heddle", other.case))


def roofline(bench: Bench, row: Row) -> dict[str, Any]:
    """Time over the larger of compute at our dense rate and compulsory bytes at the measured read bandwidth."""
    p = row.problem
    bench.threads(p.threads)
    dense = replace(p, case="dense")
    read, read_bytes = bench.limits.read(p.threads)
    times = bench.run({"heddle": bench.heddle(p), "dense": bench.heddle(dense), "read": read})
    share = bench.flops(p) / bench.flops(dense)
    size = BYTES[p.dtype] * p.heads * p.n * (p.d + p.width) * 2
    compute = middle(times.each(lambda s: s * share, "dense"))[0]
    memory = middle(times.each(lambda r: size / read_bytes * r, "read"))[0]
    values = times.each(lambda t, s, r: t / max(s * share, size / read_bytes * r), "heddle", "dense", "read")
    return result(bench, row, times, values, compute_seconds=compute, memory_seconds=memory)


def bandwidth(bench: Bench, row: Row) -> dict[str, Any]:
    """Bytes of K and V a second over the measured read bandwidth."""
    p = row.problem
    bench.threads(p.threads)
    read, read_bytes = bench.limits.read(p.threads)
    peak, peak_flops = bench.limits.peak(PEAK_OF[p.dtype], p.threads)
    runs = {"heddle": bench.heddle(p), "read": read, "peak": peak}
    if p.copies == 1:
        runs["sdpa"] = bench.sdpa(p)
    times = bench.run(runs, budget=4)
    size = BYTES[p.dtype] * (p.kv_heads or p.heads) * p.keys * (p.d + p.width)
    memory = size / read_bytes * times.median("read")
    compute = bench.flops(p) / peak_flops * times.median("peak")
    values = times.each(lambda t, r: (size / t) / (read_bytes / r), "heddle", "read")
    extra: dict[str, Any] = {"memory_seconds": memory, "compute_seconds": compute}
    extra["read_gbs"] = read_bytes / times.median("read") / 1e9
    if compute > memory:
        extra["possible"] = memory / compute
    return result(bench, row, times, values, **extra)


def scaling(bench: Bench, row: Row) -> dict[str, Any]:
    """Time on one thread over time on two."""
    if CORES < 2:
        raise NotImplementedError("this machine has one core")
    p = row.problem
    peak1, flops1 = bench.limits.peak(PEAK_OF[p.dtype], 1)
    peak2, flops2 = bench.limits.peak(PEAK_OF[p.dtype], 2)
    run = bench.heddle(p)

    def on(threads: int) -> Callable[[], Any]:
        def go() -> Any:
            bench.threads(threads)
            return run()

        return go

    times = bench.run({"heddle": on(2), "one thread": on(1), "peak": peak2, "peak, one thread": peak1})
    bench.threads(p.threads)
    of_peak = middle(times.each(lambda a, b: (flops2 / a) / (flops1 / b), "peak", "peak, one thread"))[0]
    values = times.each(lambda t, s: s / t, "heddle", "one thread")
    return result(bench, row, times, values, peak_scaling=of_peak)


def small_call(bench: Bench, row: Row) -> dict[str, Any]:
    """Seconds of one call from Python."""
    p = row.problem
    bench.threads(p.threads)
    import heddle as hd

    q, k, v = bench.qkv(p)
    runs = {"heddle": bench.heddle(p), "sdpa": bench.sdpa(p)}
    if row.options.get("numpy"):
        a, b, c = (x.numpy() for x in (q, k, v))
        runs["heddle"] = lambda: hd.attend(a, b, c)
    times = interleaved(runs, 5 if bench.quick else 41, budget=1, spinning=TORCH)
    return result(bench, row, times, [t * 1e6 for t in times.seconds("heddle")])


def score_cost(bench: Bench, row: Row) -> dict[str, Any]:
    """Time with the score region over time without it."""
    p = row.problem
    bench.threads(p.threads)
    plain = replace(p, score="", case="causal")
    times = bench.run({"heddle": bench.heddle(p), "plain": bench.heddle(plain)})
    return result(bench, row, times, times.each(lambda t, s: t / s, "heddle", "plain"))


def machine_speed(bench: Bench, row: Row) -> dict[str, Any]:
    """GFLOP/s of multiply-adds of a kind, or GB/s of reading."""
    kind = row.options.get("kind")
    threads = row.problem.threads
    run, work = bench.limits.peak(kind, threads) if kind else bench.limits.read(threads)
    times = interleaved({"run": run}, 3 if bench.quick else 21, budget=1)
    value, low, high = middle([work / t / 1e9 for t in times.seconds("run")])
    return {"value": value, "low": low, "high": high}


def executed_pairs(bench: Bench, row: Row) -> dict[str, Any]:
    """Computed pairs over live pairs, counted."""
    found = bench.executed(row.problem)
    value = found.get("executed_over_live") or bench.counted(replace(row.problem, heads=1))["executed_over_live"]
    return {"value": value, "low": value, "high": value, "live_pairs": bench.live(row.problem), **found}


def compile_times(bench: Bench, row: Row) -> dict[str, Any]:
    """Seconds of compilations: bench/compile_time.py over the bench's cases and random patterns, in one process."""
    found = compilations(12 if bench.quick else 1000)
    kind, part = row.options["kind"], row.options["part"]
    times = sorted(x[kind] for x in found if kind in x)
    value = times[min(int(part * len(times)), len(times) - 1)] * row.options["scale"]
    low, high = (times[int(q * (len(times) - 1))] * row.options["scale"] for q in (0.25, 0.75))
    refused = sum("error" in x for x in found)
    return {"value": value, "low": low, "high": high, "patterns": len(found), "refused": refused}


@functools.lru_cache
def compilations(count: int) -> list[dict[str, Any]]:
    """Rows of compile_time.py."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, str(HERE / "compile_time.py"), "--count", str(count), "--json", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return list(json.loads(path.read_text()))


FIRST_CALL = """
import sys, time
import numpy as np, heddle as hd
x = np.ones((1, 1, 64, 64), np.float32)
p = hd.parse(sys.argv[1])
begin = time.perf_counter()
hd.attend(x, x, x, where=p)
print(time.perf_counter() - begin)
"""


def first_call(bench: Bench, row: Row) -> dict[str, Any]:
    """Milliseconds of the first call in a fresh process: nothing cached, or cached on disk."""
    text = _cases.every_text()[row.problem.case]
    times = []
    for _ in range(1 if bench.quick else 5):
        with tempfile.TemporaryDirectory() as cache:
            env = {**os.environ, "HEDDLE_CACHE_DIR": cache}
            for _ in range(2 if row.options["cached"] else 1):
                command = [sys.executable, "-c", FIRST_CALL, text]
                done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
            times.append(float(done.stdout) * 1e3)
    value, low, high = middle(times)
    return {"value": value, "low": low, "high": high}


PEAK_MEMORY = """
import sys
import numpy as np, heddle as hd
name, n, d = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
hd.set_num_threads(int(sys.argv[4]))
sys.path.insert(0, sys.argv[5])
import _cases
def where(n):
    return hd.parse(_cases.every_text()[name], **_cases.operands(name, n))
def tensors(n):
    return [np.full((1, 8, n, d), x, np.float32) for x in (0.1, 0.2, 0.3, 0.0)]
def peak():
    with open("/proc/self/status") as file:
        return next(int(x.split()[1]) for x in file if x.startswith("VmHWM"))
q, k, v, out = tensors(64)
hd.attend(q, k, v, where=where(64), out=out)
q, k, v, out = tensors(n)
p = where(n)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = peak()
hd.attend(q, k, v, where=p, out=out)
print(peak() - before)
"""


def extra_memory(bench: Bench, row: Row) -> dict[str, Any]:
    """MiB a thread that a call adds to the peak resident size of a process, inputs and output not counted."""
    p = row.problem
    if not Path("/proc/self/clear_refs").exists():
        raise NotImplementedError("this system does not tell the peak resident size")
    grown = []
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "HEDDLE_CACHE_DIR": cache}
        for turn in range(2 if bench.quick else 4):
            sizes = [str(x) for x in (p.n, p.d, p.threads)]
            command = [sys.executable, "-c", PEAK_MEMORY, p.case, *sizes, str(HERE)]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
            if turn:  # the first one compiles
                grown.append(float(done.stdout) / 1024 / p.threads)
    value, low, high = middle(grown)
    return {"value": value, "low": low, "high": high, "a_mask_mib": p.heads * p.n * p.n / 2**20}


def scratch(bench: Bench, row: Row) -> dict[str, Any]:
    """MiB of scratch that the kernel asks for a thread."""
    import heddle as hd

    p = row.problem
    kernel = hd.compile(hd.spec(bench.where(p), d=p.d, dv=p.width, dtype=p.dtype))
    value = kernel.manifest["scratch_bytes"] / 2**20
    return {"value": value, "low": value, "high": value}


# ---------------------------------------------------------------------- rows


def rows() -> Iterator[Row]:
    """Every row, in the order of the table."""
    yield from machine_rows()
    yield from peak_rows()
    yield from peer_rows()
    yield from pair_rows()
    yield from shape_rows()
    yield from other_rows()
    yield from long_rows()


def machine_rows() -> Iterator[Row]:
    """What the machine does, for reference; other rows measure it again beside themselves."""
    for threads in sorted({1, CORES}):
        for kind in ("f32", "bf16", "avx2"):
            name = f"machine/{kind}-peak-{threads}thread{'s' * (threads > 1)}"
            options = {"kind": kind}
            p = Problem("", threads=threads)
            yield Row(name, "the machine", machine_speed, p, unit="GFLOP/s", options=options)
        name = f"machine/read-{threads}thread{'s' * (threads > 1)}"
        yield Row(name, "the machine", machine_speed, Problem("", threads=threads), unit="GB/s")


def peak_rows() -> Iterator[Row]:
    """Shares of what the machine does."""
    group = "share of the multiply-add peak"
    targets = {
        "f32": {"dense": (0.87, 0.91), "causal": (0.85, 0.89)},
        "bf16": {"dense": (0.78, 0.85), "causal": (0.75, 0.82)},
    }
    for dtype, kinds in targets.items():
        for case, pair in kinds.items():
            for d, target in zip((64, 128), pair, strict=True):
                p = Problem(case, d=d, dtype=dtype)
                yield Row(f"peak/{case}-{dtype}-d{d}", group, share_of_peak, p, target, unit="share")
    for case, pair in targets["f32"].items():
        for d, target in zip((64, 128), pair, strict=True):
            p = Problem(case, d=d, threads=1)
            yield Row(f"peak/{case}-f32-d{d}-1thread", group, share_of_peak, p, target, unit="share")
    for case, pair in targets["bf16"].items():
        for d, target in zip((64, 128), pair, strict=True):
            p = Problem(case, d=d, dtype="bf16", threads=1)
            yield Row(f"peak/{case}-bf16-d{d}-1thread", group, share_of_peak, p, target, unit="share")
    for d in (64, 128, 256):  # keys and values of one head beyond the second-level cache, at times the third
        for dtype, target in (("f32", 0.87), ("bf16", 0.78)):
            p = Problem(n=16384, d=d, heads=1, dtype=dtype)
            yield Row(f"peak/long-{dtype}-d{d}", group, share_of_peak, p, target, unit="share")
    for case in ("dense", "causal"):
        for d in (64, 128):
            p = Problem(case, d=d, dtype="f16")
            options = {"other": replace(p, dtype="f32")}
            yield Row(f"f16/{case}-d{d}", "f16 over f32, speed", against, p, 0.95, options=options)
    for d in (64, 128):
        for dtype in ("f32", "bf16"):
            p = Problem(d=d, dtype=dtype, threads=1)
            yield Row(f"limit/dense-{dtype}-d{d}", "speed over the hand-written program", against_limit, p, 1.0)
    for case in ("dense", "causal"):
        for d in (64, 128):
            p = Problem(case, d=d, target="x86-64-v3", threads=1)
            options = {"peak": "avx2"}
            group = "f32 on x86-64-v3, share of the AVX2 peak"
            yield Row(f"avx2/{case}-d{d}", group, share_of_peak, p, 0.85, unit="share", options=options)


REWRITTEN = (
    "stride_64", "dilated_256x4", "dilated_256x16", "sparse_transformer", "sparse_transformer_fixed", "window_512",
)  # fmt: skip


def peer_rows() -> Iterator[Row]:
    """Against PyTorch."""
    shares = {("f32", 64): 0.87, ("f32", 128): 0.91, ("bf16", 64): 0.78, ("bf16", 128): 0.85}
    causal = {("f32", 64): 0.85, ("f32", 128): 0.89, ("bf16", 64): 0.75, ("bf16", 128): 0.82}
    for case, table in (("dense", shares), ("causal", causal)):
        for (dtype, d), share in table.items():
            for n in (512, 1024, 2048, 4096, 8192) if d == 64 else (512, 2048):
                p = Problem(case, n=n, d=d, dtype=dtype)
                name = f"sdpa/{case}-{dtype}-d{d}-n{n}"
                yield Row(name, "speed over torch SDPA", against_sdpa, p, 1.5, options={"share": share})
    group = "speed over compiled FlexAttention"
    for case in ("causal", "window_512", "documents_512", "causal_documents_512"):
        yield Row(f"flex/{case}", group, against_flex, Problem(case), 2.0)
    for score in ("alibi", "softcap"):
        yield Row(f"flex/{score}", group, against_flex, Problem("causal", score=score), 2.0)
    for case in REWRITTEN:
        group = "speed over the best rewrite in PyTorch"
        yield Row(f"rewrite/{case}", group, against_rewrite, Problem(case, n=8192), 2.0)
    for case in ("mask_blocks", "mask_documents"):
        for dtype in ("f32", "bf16"):
            group = "speed over torch SDPA with the same boolean tensor"
            yield Row(f"mask/{case[5:]}-{dtype}", group, against_rewrite, Problem(case, dtype=dtype), 2.0)


def pair_rows() -> Iterator[Row]:
    """Time per live pair."""
    group = "time per live pair over our dense kernel"
    table = [
        ("window_1024", 4096, 1.1),
        ("window_512", 4096, 1.15),
        ("window_128", 4096, 1.4),
        ("stride_64", 8192, 1.5),
        ("sparse_transformer", 8192, 1.5),
        ("sparse_transformer_fixed", 8192, 1.5),
        ("longformer", 8192, 1.5),
        ("neighborhood_13x13", 4096, 2.3),
        ("documents_512", 4096, 1.15),
        ("routed", 4096, 2.0),
        ("block_256", 4096, 1.15),
    ]
    for dtype in ("f32", "bf16"):
        for case, n, target in table:
            yield Row(f"pair/{case}-{dtype}", group, per_pair, Problem(case, n=n, dtype=dtype), target, most=True)
        other = Problem(n=8192, heads=1, dtype=dtype)
        p = replace(other, case="stride_512", n=65536)
        yield Row(f"pair/stride_512-{dtype}", group, per_pair, p, 1.5, most=True, options={"other": other})
    group = "time per live pair over the undilated window"
    for dtype in ("f32", "bf16"):
        for dilation in (2, 4, 16):
            p = Problem(f"dilated_256x{dilation}", dtype=dtype)
            options = {"other": replace(p, case="window_256")}
            yield Row(f"dilated/x{dilation}-{dtype}", group, per_pair, p, 1.1, most=True, options=options)
    group = "time over the roofline"
    for dtype in ("f32", "bf16"):
        for case in ("block_64", "window_64", "stride_64", "neighborhood_7x7", "logsparse", "scattered_64"):
            yield Row(f"roofline/{case}-{dtype}", group, roofline, Problem(case, dtype=dtype), 1.3, most=True)
    group = "computed pairs over live pairs, counted"
    for case in _cases.every_text():
        if case != "dense":
            target = 1.15 if case == "window_512" else None
            yield Row(f"executed/{case}", group, executed_pairs, Problem(case), target, most=True)


def shape_rows() -> Iterator[Row]:
    """Head dims, decoding, threads, small calls, scores."""
    group = "speed over d = 64"
    for dtype in ("f32", "bf16"):
        for d, dv in ((40, 0), (72, 0), (80, 0), (96, 0), (192, 0), (256, 0), (576, 512)):
            p = Problem(d=d, dv=dv, dtype=dtype, n=4096 if d < 576 else 2048)
            name = f"headdim/{d}{f'x{dv}' if dv else ''}-{dtype}"
            yield Row(name, group, against, p, 0.8, options={"other": Problem(dtype=dtype, n=p.n)})
    group = "decoding, share of the read bandwidth"
    for dtype in ("f32", "bf16"):
        for nq in (1, 2, 4, 8):
            p = Problem(n=nq, nk=32768, d=128, heads=64, kv_heads=8, dtype=dtype, decode=True)
            yield Row(f"decode/nq{nq}-{dtype}", group, bandwidth, p, 0.85, unit="share")
        for nq in (1, 8):
            p = Problem(n=nq, nk=32768, d=64, heads=8, kv_heads=1, dtype=dtype, decode=True)
            p = replace(p, copies=(1 << 28) // (BYTES[dtype] * 2 * 32768 * 64))
            yield Row(f"decode/one-head-nq{nq}-{dtype}", group, bandwidth, p, 0.85, unit="share")
    group = "two threads over one"
    for dtype in ("f32", "bf16"):
        for case in ("dense", "causal"):
            for heads in (8, 1):
                p = Problem(case, heads=heads, dtype=dtype)
                yield Row(f"threads/{case}-{dtype}-h{heads}", group, scaling, p, 1.9)
    group = "small call from Python, µs"
    p = Problem(n=64, heads=1)
    yield Row("small/torch", group, small_call, p, 15, most=True, unit="us")
    yield Row("small/numpy", group, small_call, p, 15, most=True, unit="us", options={"numpy": True})
    group = "time with a score region over without"
    for score in ("alibi", "softcap", "relative_bias", "lambda"):
        yield Row(f"score/{score}", group, score_cost, Problem("causal", score=score), 1.25, most=True)


def other_rows() -> Iterator[Row]:
    """Memory and compile time."""
    group = "scratch a thread"
    for case, d, dv in (
        ("dense", 64, 0), ("dense", 128, 0), ("dense", 256, 0), ("dense", 576, 512), ("sparse_transformer", 64, 0),
        ("neighborhood_13x13", 64, 0), ("longformer", 64, 0),
    ):  # fmt: skip
        for dtype in ("f32", "bf16"):
            p = Problem(case, d=d, dv=dv, dtype=dtype)
            name = f"memory/scratch-{case}-d{d}-{dtype}"
            yield Row(name, group, scratch, p, 2.0, most=True, unit="MiB")
    group = "growth of the peak resident size in a call, a thread"
    for case in ("causal", "sparse_transformer", "longformer", "causal_documents_512"):
        for n in (4096, 16384):
            yield Row(f"memory/rss-{case}-n{n}", group, extra_memory, Problem(case, n=n), 2.0, most=True, unit="MiB")
    group = "first call in a fresh process"
    for case in ("causal", "sparse_transformer"):
        p = Problem(case, n=64, heads=1)
        yield Row(f"compile/first-{case}", group, first_call, p, None, most=True, unit="ms", options={"cached": False})
        yield Row(
            f"compile/first-{case}-from-disk", group, first_call, p, 10.0, most=True, unit="ms",
            options={"cached": True},
        )  # fmt: skip


def long_rows() -> Iterator[Row]:
    """What takes minutes comes last."""
    for case in REWRITTEN:
        group = "sparse, speed over compiled FlexAttention"
        yield Row(f"flex10/{case}", group, against_flex, Problem(case, n=8192), 10.0)
    group = "compile time, the bench's patterns and 1000 random nested ones"
    for name, kind, part, target, unit in (
        ("cold-p50", "cold", 0.5, 150.0, "ms"),
        ("cold-p99", "cold", 0.99, 500.0, "ms"),
        ("disk-p50", "disk", 0.5, 10.0, "ms"),
        ("disk-p99", "disk", 0.99, 10.0, "ms"),
        ("memory-p50", "memory", 0.5, 5.0, "us"),
        ("memory-p99", "memory", 0.99, 5.0, "us"),
    ):
        options = {"kind": kind, "part": part, "scale": 1e3 if unit == "ms" else 1e6}
        p = Problem("")
        yield Row(
            f"compile/{name}", group, compile_times, p, target, most=True, unit=unit, options=options, seconds=420
        )


def needless_when_quick(row: Row) -> bool:
    """FlexAttention takes seconds to compile, whatever the size: two rows show that it works."""
    return row.measure is against_flex and row.id not in ("flex/causal_documents_512", "flex/softcap")


def quick(p: Problem) -> Problem:
    """The same in small: does it work at all."""
    return replace(
        p, n=min(p.n, 1024 if "documents" in p.case or "neigh" in p.case else 512), nk=min(p.nk, 1024),
        heads=min(p.heads, 8), kv_heads=min(p.kv_heads, 1), copies=min(p.copies, 2),
    )  # fmt: skip


