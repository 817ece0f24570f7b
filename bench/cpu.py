"""CPU kernels against what the machine can do, PyTorch, and hand-written programs.

    tools/dev bench cpu                       everything; results, plot and docs/performance.md
    tools/dev bench cpu --only 'peak/*-f32-*' rows by name (glob, several allowed); writes nothing
    tools/dev bench cpu --only 'pair/*' --save    puts those rows into the newest results and the page
    tools/dev bench cpu --quick               small sizes in under two minutes: does it work (writes nothing)
    tools/dev bench cpu --check               everything, then the ratios against the committed results
    tools/dev bench cpu --list                the rows and their targets
    tools/dev bench cpu --page                the page and plot again from the newest results

What a row compares runs in one process in turn; figures are medians of rounds, ratios
medians of the rounds' ratios. A row that fails or crashes is reported and the rest go on.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import math
import os
import platform
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
sys.path.insert(0, str(HERE))


def say(text: str) -> None:
    """Progress, at once."""
    print(text, file=sys.stderr, flush=True)


# -------------------------------------------------------------------- worker


def busy_elsewhere() -> float:
    """CPU seconds that other processes have used so far (0 where the system does not tell)."""
    try:
        user, nice, system, _, _, irq, soft, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    except (OSError, ValueError):
        return 0.0
    own = os.times()
    spent = own.user + own.system + own.children_user + own.children_system
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK") - spent


def work(ids: list[str], quick: bool) -> None:
    """Measures rows, one JSON line before and one after each, on the pipe that stdout was."""
    pipe = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import _rows

    known = {row.id: row for row in _rows.rows()}
    bench = _rows.Bench(quick)
    for name in ids:
        row = known[name]
        if quick:
            row.problem = _rows.quick(row.problem)
            if "other" in row.options:
                row.options["other"] = _rows.quick(row.options["other"])
        print(json.dumps({"begin": name}), file=pipe)
        begin, busy = time.monotonic(), busy_elsewhere()
        try:
            out = row.measure(bench, row)
        except Exception as error:
            if not isinstance(error, NotImplementedError):
                traceback.print_exc()
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            out = {"error": f"{type(error).__name__}: {first}"[:300]}
        out["took"] = time.monotonic() - begin
        out["busy_elsewhere"] = max(0.0, busy_elsewhere() - busy) / out["took"]
        print(json.dumps({"row": name, **out}), file=pipe)


def messages(worker: Any, patience: Any, deadline: float) -> Iterator[dict[str, Any]]:
    """A worker's lines; "gave up" where the next does not come in `patience()` seconds, or before the deadline."""
    pipe, rest = worker.stdout.fileno(), b""
    while True:
        limit = min(time.monotonic() + patience(), deadline)
        ready, _, _ = select.select([pipe], [], [], max(0.0, limit - time.monotonic()))
        if not ready:
            late = time.monotonic() >= deadline
            yield {"gave up": "out of time" if late else f"gave up after {patience():.0f} s"}
            return
        data = os.read(pipe, 1 << 16)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield json.loads(line)


WORKER = [sys.executable, __file__, "--worker"]


def run_rows(
    patience: dict[str, float], quick: bool, deadline: float, report: Any, program: list[str] = WORKER
) -> dict[str, dict[str, Any]]:
    """Rows by name, `patience` seconds each. A worker that dies or hangs takes only its current row with it."""
    found: dict[str, dict[str, Any]] = {}
    left = list(patience)
    while left:
        command = [*program, json.dumps(left)] + ["--quick"] * quick
        worker = subprocess.Popen(command, stdout=subprocess.PIPE)
        current, why = None, ""
        for message in messages(worker, lambda: patience[current] if current else 60.0, deadline):
            if "begin" in message:
                current = message["begin"]
            elif "gave up" in message:
                why = message["gave up"]
                worker.kill()
            else:
                name = message.pop("row")
                found[name] = message
                left.remove(name)
                current = None
                report(name, message)
        code = worker.wait()
        if time.monotonic() >= deadline:
            for name in left:
                found[name] = {"error": "skipped: out of time"}
            break
        if left and (current is not None or code != 0):
            lost = current or left[0]
            found[lost] = {"error": why or f"the process died with status {code}"}
            report(lost, found[lost])
            left.remove(lost)
    return found


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
    return {
        "cpu": cpu,
        "isa": isa,
        "cores": os.cpu_count(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "commit": commit(),
        "load": os.getloadavg()[0],
    }


def commit() -> str:
    """The commit that is measured."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def round_numbers(x: Any) -> Any:
    """Four significant digits are what the measurement gives."""
    if isinstance(x, float):
        return float(f"{x:.4g}") if math.isfinite(x) else None
    if isinstance(x, dict):
        return {k: round_numbers(v) for k, v in x.items()}
    if isinstance(x, list):
        return [round_numbers(v) for v in x]
    return x


def complete(row: Any, found: dict[str, Any]) -> dict[str, Any]:
    """A result with what the row says of itself, and whether it reached its target."""
    import _report

    p = row.problem
    out = {
        "id": row.id, "group": row.group, "target": row.target, "most": row.most, "unit": row.unit,
        "problem": p.text() if p.case else "", "case": "decode" if p.decode else p.score or p.case,
        "threads": p.threads, **found,
    }  # fmt: skip
    out["met"] = _report.met(out)
    return out


def main() -> int:
    """Measures, prints, compares, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="GLOB", help="only rows whose names match")
    parser.add_argument("--quick", action="store_true", help="small sizes, two rounds; writes nothing")
    parser.add_argument("--save", action="store_true", help="with --only: put the rows into the newest results")
    parser.add_argument("--check", action="store_true", help="exit 1 where a ratio is worse than the committed one")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    parser.add_argument("--page", action="store_true", help="write page and plot from the newest results and stop")
    parser.add_argument("--minutes", type=float, default=30, help="rows that do not fit are left out (default 30)")
    parser.add_argument("--again", type=int, default=0, metavar="N", help="measure disturbed rows again, up to N times")
    parser.add_argument("--out", type=Path, help="results file (default: bench/results/cpu-DATE.json)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(json.loads(args.worker), args.quick)
        return 0
    import _report
    import _rows

    rows = [r for r in _rows.rows() if not args.only or any(fnmatch.fnmatch(r.id, g) for g in args.only)]
    if args.quick and not args.only:
        rows = [r for r in rows if not _rows.needless_when_quick(r)]
    if args.list:
        for r in rows:
            print(f"{r.id:40} {_report.target_text(vars(r)):>10}  {r.group}: {r.problem.text()}")
        return 0
    if args.page:
        _report.write(_report.newest(RESULTS), ROOT)
        return 0
    if not rows:
        parser.error(f"expected rows that match {' '.join(args.only)}, but got none; --list shows them")
    before = _report.load(_report.newest(RESULTS))
    data: dict[str, Any] = {"format": 2, "machine": machine(), "rows": []}
    if data["machine"]["load"] > 0.5 and not args.quick:
        say(f"warning: the machine is busy (load {data['machine']['load']:.1f}); figures will be noisy")
    known = {r.id: r for r in rows}
    done = 0
    begin = time.monotonic()

    def report(name: str, found: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        say(f"[{time.monotonic() - begin:4.0f} s, {done}/{len(rows)}] {_report.line(complete(known[name], found))}")

    deadline = time.monotonic() + 60 * args.minutes
    found = run_rows({r.id: r.seconds for r in rows}, args.quick, deadline, report)
    for _ in range(args.again):
        # Where other processes took time: the calmer of two measurements.
        loud = {r.id: r.seconds for r in rows if found[r.id].get("busy_elsewhere", 0) > _report.DISTURBED}
        if not loud or time.monotonic() >= deadline:
            break
        say(f"{len(loud)} rows were disturbed: again")
        done -= len(loud)
        for name, more in run_rows(loud, args.quick, deadline, report).items():
            if "error" not in more and more["busy_elsewhere"] < found[name]["busy_elsewhere"]:
                found[name] = more
    stamp = {"commit": data["machine"]["commit"], "date": data["machine"]["date"]}
    data["rows"] = [{**complete(r, found[r.id]), **stamp} for r in rows]
    say(f"done in {time.monotonic() - begin:.0f} s")
    if args.quick:
        # Ratios of small sizes say nothing: only whether everything runs.
        bad = [r for r in data["rows"] if "error" in r and "NotImplementedError" not in r["error"]]
        return 1 if bad else 0
    worse = _report.compare(data, before)
    print(_report.summary(data))
    if args.save or args.out or not args.only:
        path = args.out or RESULTS / f"cpu-{data['machine']['date'][:10]}.json"
        if args.only and args.save and before:
            data = _report.merged(before, data, [r.id for r in _rows.rows()])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(round_numbers(data), indent=1) + "\n")
        if not args.out:
            _report.write(path, ROOT)
    return 1 if args.check and worse else 0


if __name__ == "__main__":
    sys.exit(main())
