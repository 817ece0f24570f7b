"""The systems of the zoo: how time grows with n, and the time against dense attention, PyTorch and the machine.

    tools/dev bench zoo                       everything; results, plot and docs/zoo.md
    tools/dev bench zoo --only 'linformer*'   rows by name (glob, several allowed); writes nothing
    tools/dev bench zoo --only 'aft/*' --save puts those rows into the newest results and plot (page: --page)
    tools/dev bench zoo --quick               short sequences: does it work (writes nothing)
    tools/dev bench zoo --list                the rows
    tools/dev bench zoo --page                plot and page again from the newest results

Each row checks that Heddle and PyTorch's formula agree before it measures. Slopes are of log time over log n, from
n = 4096; the promised one is of what the paper's cost counts at the same lengths. Dense attention is Heddle's own, at
the same n (past 8192: its time at 8192, by the square). The bound is the larger of the row's FLOPs at dense
attention's rate and its inputs and results, each once, at the bandwidth that a reading loop reaches.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import json
import math
import os
import statistics
import sys
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
sys.path.insert(0, str(HERE))

import _zooreport as report  # noqa: E402
import cpu  # noqa: E402

LENGTHS = (1024, 4096, 8192, 16384, 32768)
QUICK = (256, 1024)
DENSE = 8192  # longest n at which dense attention is timed
SLOPE_FROM = 4096


class Bench:
    """What rows share in one process."""

    def __init__(self, quick: bool) -> None:
        import torch
        from _limits import Limits

        import heddle as hd

        self.quick = quick
        self.torch = torch
        self.limits = Limits()
        self.threads = os.cpu_count() or 1
        torch.set_num_threads(self.threads)
        hd.set_num_threads(self.threads)
        torch.manual_seed(0)

    def run(self, runs: dict[str, Any], budget: float, rounds: int = 9) -> Any:
        """Interleaved rounds; all but Heddle and what is measured beside it are torch's."""
        from _measure import interleaved

        spinning = frozenset(runs) - {"heddle", "dense", "read"}
        return interleaved(runs, 2 if self.quick else rounds, budget=0.2 if self.quick else budget, spinning=spinning)

    def dense(self, n: int, dtype: Any) -> Any:
        """Dense attention of [1, 2, n, 64]."""
        import _zoo

        import heddle as hd

        q, k, v = _zoo.qkv(n, dtype=dtype)
        return lambda: hd.attend(q, k, v)

    def measure(self, system: Any) -> dict[str, Any]:
        """A row's figures."""
        lengths = QUICK if self.quick else [n for n in LENGTHS if n <= system.most]
        at = QUICK[0] if self.quick else system.compare
        with self.torch.inference_mode(False), self.torch.no_grad():
            out = {"compare": self.compare(system, at), "points": [self.point(system, n) for n in lengths]}
        self.summarise(system, out)
        return out

    def point(self, system: Any, n: int) -> dict[str, Any]:
        """Time at one length, beside dense attention and the reading loop."""
        import _zoo

        case = system.make(n)
        rate_n = min(n, DENSE)
        read, read_bytes = self.limits.read(self.threads)
        dense = self.dense(rate_n, case.inputs[0].dtype)
        times = self.run({"heddle": case.heddle, "dense": dense, "read": read}, 0.6, 5)
        dense_flops = _zoo.pairs_flops(float(rate_n) ** 2)

        def over_bound(t: float, d: float, r: float) -> float:
            return t / max(case.flops / dense_flops * d, case.bytes / read_bytes * r)

        compute = case.flops / dense_flops * times.median("dense")
        memory = case.bytes / read_bytes * times.median("read")
        return {
            "n": n,
            "seconds": times.as_json(),
            "flops": case.flops,
            "bytes": case.bytes,
            "over_dense": statistics.median(times.each(lambda t, d: (n / rate_n) ** 2 * d / t, "heddle", "dense")),
            "over_bound": statistics.median(times.each(over_bound, "heddle", "dense", "read")),
            "bound_by": "arithmetic" if compute > memory else "memory",
        }

    def compare(self, system: Any, n: int) -> dict[str, Any]:
        """Against PyTorch: the formula as written, compiled, and the fastest rewrite."""
        torch = self.torch
        case = system.make(n)
        want, got = case.formula(*case.inputs), case.heddle()
        bad = float((got.float() - want.float()).abs().max() / want.float().abs().max())
        limit = 0.05 if want.dtype != torch.float32 else 1e-3
        if not (got.shape == want.shape and bad < limit):
            raise AssertionError(f"expected Heddle and the formula to agree, but they differ by {bad:.3g}")
        runs = {"heddle": case.heddle, "eager": lambda: case.formula(*case.inputs)}
        torch._dynamo.reset()
        compiled = self.compiled(case.formula, case.inputs)
        if compiled is not None:
            runs["compiled"] = compiled
        best = self.fastest(case, want, limit)
        if best is not None:
            runs["rewrite"] = best
        times = self.run(runs, 3.0, 11)
        out: dict[str, Any] = {"n": n, "difference": bad, "seconds": times.as_json()}
        for name in runs:
            if name != "heddle":
                out[f"over_{name}"] = statistics.median(times.each(lambda t, s: s / t, "heddle", name))
        return out

    def compiled(self, function: Any, inputs: tuple[Any, ...]) -> Any:
        """torch.compile's form; None where it fails (which is said) or where it takes too long for a quick look."""
        if self.quick:
            return None
        try:
            made = self.torch.compile(function, dynamic=False)
            made(*inputs)
        except Exception as error:
            print(f"torch.compile: {str(error).splitlines()[0]}", file=sys.stderr)
            return None
        return lambda: made(*inputs)

    def fastest(self, case: Any, want: Any, limit: float) -> Any:
        """The fastest of the rewrites, also compiled; all must give the formula's result."""

        def spent(run: Any) -> float:
            got = run()
            bad = float((got.float() - want.float()).abs().max() / want.float().abs().max())
            if not bad < limit:
                raise AssertionError(f"expected a rewrite that agrees with the formula, but it differs by {bad:.3g}")
            found = []
            for _ in range(3):
                begin = time.perf_counter()
                run()
                found.append(time.perf_counter() - begin)
            return min(found)

        best, fast, rewrite = math.inf, None, None
        for way in case.rewrites:
            run = functools.partial(way, *case.inputs)
            took = spent(run)
            if took < best:
                best, fast, rewrite = took, run, way
        run = None if rewrite is None else self.compiled(rewrite, case.inputs)
        return run if run is not None and spent(run) < best else fast

    def summarise(self, system: Any, out: dict[str, Any]) -> None:
        """Slope, speed-ups and the bound, with what each should reach."""
        points = [p for p in out["points"] if p["n"] >= SLOPE_FROM] or out["points"]
        ns = [p["n"] for p in points]
        slope = report.fit(ns, [p["seconds"]["heddle"]["median"] for p in points])
        promised = report.fit(ns, [system.work(n) for n in ns])
        torch_code = [x for k, x in out["compare"].items() if k.startswith("over_")]
        out.update(
            slope=slope,
            promised_slope=promised,
            over_torch=min(torch_code),
            over_compiled=out["compare"].get("over_compiled"),
            over_dense=points[-1]["over_dense"],
            over_bound=points[-1]["over_bound"],
            bound_by=points[-1]["bound_by"],
        )


def work(ids: list[str], quick: bool) -> None:
    """Measures rows, one JSON line before and one after each, on the pipe that stdout was."""
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import _zoo

    known = {s.id: s for s in _zoo.systems()}
    bench = Bench(quick)
    for name in ids:
        print(json.dumps({"begin": name}), file=pipe)
        begin, busy = time.monotonic(), cpu.busy_elsewhere()
        try:
            out = bench.measure(known[name])
        except Exception as error:
            traceback.print_exc()
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            out = {"error": f"{type(error).__name__}: {first}"[:300]}
        out["took"] = time.monotonic() - begin
        out["busy_elsewhere"] = max(0.0, cpu.busy_elsewhere() - busy) / out["took"]
        print(json.dumps({"row": name, **cpu.round_numbers(out)}), file=pipe)


WORKER = [sys.executable, __file__, "--worker"]


def main() -> int:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="GLOB", help="only rows whose names match")
    parser.add_argument("--quick", action="store_true", help="short sequences, two rounds; writes nothing")
    parser.add_argument("--save", action="store_true", help="with --only: put the rows into newest results and plot")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    parser.add_argument("--page", action="store_true", help="write page and plot from the newest results and stop")
    parser.add_argument("--minutes", type=float, default=40, help="rows that do not fit are left out (default 40)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(json.loads(args.worker), args.quick)
        return 0
    import _zoo

    everything = _zoo.systems()
    rows = [s for s in everything if not args.only or any(fnmatch.fnmatch(s.id, g) for g in args.only)]
    if args.list:
        for s in rows:
            print(f"{s.id:32} {s.promise:24} {s.kind}, n <= {s.most}, PyTorch at {s.compare}")
        return 0
    if args.page:
        report.write(RESULTS, ROOT)
        return 0
    if not rows:
        parser.error(f"expected rows that match {' '.join(args.only)}, but got none; --list shows them")
    known = {s.id: s for s in rows}
    begin, done = time.monotonic(), 0

    def complete(s: Any, found: dict[str, Any]) -> dict[str, Any]:
        out = {"id": s.id, "promise": s.promise, "kind": s.kind, **found}
        return {**out, "missed": report.missed(out)}

    def tell(name: str, found: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        line = report.line(complete(known[name], found))
        cpu.say(f"[{time.monotonic() - begin:4.0f} s, {done}/{len(rows)}] {line}")

    deadline = begin + 60 * args.minutes
    found = cpu.run_rows({s.id: 240.0 for s in rows}, args.quick, deadline, tell, WORKER)
    if args.quick:
        return 1 if any("error" in x for x in found.values()) else 0
    machine = cpu.machine()
    stamp = {"commit": machine["commit"], "date": machine["date"]}
    data = {"format": 1, "machine": machine, "rows": [{**complete(s, found[s.id]), **stamp} for s in rows]}
    print(report.summary(data))
    if args.save or not args.only:
        before = report.newest(RESULTS)
        if before is not None and args.only:
            data = report.merged(before, data, [s.id for s in everything])
        path = RESULTS / f"zoo-{machine['date'][:10]}.json"
        path.write_text(json.dumps(data, indent=1) + "\n")
        if args.only:
            report.plot(RESULTS)
        else:
            report.write(RESULTS, ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
