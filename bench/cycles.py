"""Where the cycles of a row's kernel go: time by micro-kernel, by group of instructions, and the hottest loops.

Beside the samples stand the instructions that ran, by group, from an instrumented copy (_counters.py).

    tools/dev bench cycles peak/dense-f32-d64-1thread 'pair/stride*'   rows of the bench (see bench cpu --list)
    tools/dev bench cycles                                             every row under its target in the newest results
    tools/dev bench cycles --write ...                                 and keep them for docs/performance.md

The kernel runs on one thread and is interrupted ten thousand times a second (limits/sampler.c; no hardware counters
are needed). A sample counts for the instruction the thread was about to retire: trust sums over groups and loops, not
single instructions.
"""

from __future__ import annotations

import argparse
import bisect
import ctypes
import fnmatch
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "cycles.json"
sys.path.insert(0, str(HERE))

# Groups of instructions, the first match counts. `{memory}` marks an operand in memory.
GROUPS = [
    ("multiply-add", r"vfn?m(add|sub)|vdpbf16ps|tdp"),
    ("exponential, convert", r"vscalef|vrndscale|vcvt|vroundp|vgetexp|vfixup"),
    ("mask, compare", r"k[a-z]+[bwdq] |kmov|vp?cmp|vpmov[a-z0-9]*2m|vptestn?m|vpblend|vblend"),
    ("shuffle, broadcast", r"vperm|vshuf|vpshuf|vunpck|vpunpck|vinsert|vextract|vbroadcast|vpbroadcast|valign|vpalign"),
    ("maximum", r"vmaxp|vminp|vmaxs|vpmax"),
    ("other vector arithmetic", r"v(add|sub|mul|div|sqrt|rcp|p?and|p?or|p?xor|padd|psub|pmul|psl|psr|pternlog)"),
    ("gather", r"vp?gather|vp?scatter"),
    ("vector store", r"v(movup|movap|movdq|movnt|pmov|extract)\S*\s+.*,\s*\S*\("),
    ("vector load, move", r"v?mov(up|ap|dq|s|d|q|l|h)|vmov|vpinsr|vpextr|vld"),
    ("prefetch", r"prefetch"),
    ("branch, call", r"j[a-z]+ |call|ret|loop"),
    ("integer", r"[a-z]"),
]
COMPILED = [(name, re.compile(r"^" + f"(?:{pattern})")) for name, pattern in GROUPS]


def group_of(instruction: str) -> str:
    """The group of an instruction in AT&T syntax."""
    return next(name for name, pattern in COMPILED if pattern.match(instruction))


@dataclass
class Line:
    """One instruction; `offset` is in all text sections of the object, one behind the other."""

    offset: int
    text: str
    function: str
    block: int = 0


def object_of(artefact: bytes) -> bytes:
    """The ELF object in an artefact (docs/abi.md)."""
    manifest, size = struct.unpack_from("<QQ", artefact, 8)
    return artefact[56 + manifest : 56 + manifest + size]


def disassemble(elf: Path) -> list[Line]:
    """Instructions with their functions and basic blocks."""
    sizes = iter([len(text) for text in texts_of(elf.read_bytes())])
    begin = end = 0
    program = shutil.which("llvm-objdump-22") or shutil.which("llvm-objdump") or shutil.which("objdump")
    if program is None:
        raise SystemExit("expected llvm-objdump-22 or objdump, but found neither")
    command = [program, "-d", "--no-show-raw-insn", str(elf)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines: list[Line] = []
    targets: set[int] = set()
    function = ""
    for row in text.splitlines():
        if row.startswith("Disassembly of section"):
            begin, end = end, end + next(sizes)
        elif match := re.match(r"^[0-9a-f]+ <(.+)>:$", row):
            function = match.group(1)
        elif match := re.match(r"^\s*([0-9a-f]+):\s+(\S.*)$", row):
            text = match.group(2).replace("\t", " ")
            lines.append(Line(begin + int(match.group(1), 16), text, function))
            if match := re.match(r"j\w+\s+(?:0x)?([0-9a-f]+)", text):
                targets.add(begin + int(match.group(1), 16))
    block = 0
    for n, line in enumerate(lines):
        before = lines[n - 1] if n else None
        if line.offset in targets or (before and (before.text[0] == "j" or before.function != line.function)):
            block += 1
        line.block = block
    return lines


def code_mappings() -> dict[int, int]:
    """Anonymous executable mappings of this process: start to end."""
    out = {}
    for row in Path("/proc/self/maps").read_text().splitlines():
        parts = row.split()
        if parts[1].startswith("r-x") and len(parts) == 5:
            start, end = (int(x, 16) for x in parts[0].split("-"))
            out[start] = end
    return out


def texts_of(elf: bytes) -> list[bytes]:
    """The bytes of each section .text: micro-kernels have their own."""
    at, each, n, names = struct.unpack_from("<Q", elf, 40)[0], *struct.unpack_from("<HHH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, at + each * i) for i in range(n)]
    found = []
    for s in sections:
        start = sections[names][4] + s[0]
        if elf[start : elf.index(b"\0", start)] == b".text" and s[5] > 0:
            found.append(elf[s[4] : s[4] + s[5]])
    return found


def place(text: bytes, mappings: dict[int, int]) -> int:
    """The address that a section was loaded at: where most of its bytes agree (relocations change a few)."""
    def same(memory: bytes, offset: int, size: int) -> float:
        pairs = zip(memory[offset : offset + size], text[:size], strict=False)
        return sum(a == b for a, b in pairs) / size

    best, found = 0.0, 0
    head = min(len(text), 64)
    for start, end in mappings.items():
        memory = ctypes.string_at(start, end - start)
        for offset in range(0, max(1, len(memory) - len(text) + 1), 16):
            if same(memory, offset, head) > 0.4:
                score = same(memory, offset, len(text))
                if score > best:
                    best, found = score, start + offset
    if best < 0.6:
        raise ValueError("expected to find the kernel's code in this process, but did not")
    return found


class Sampler:
    """limits/sampler.c."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "sampler.so"
            compiler = shutil.which("clang-22") or shutil.which("clang") or "gcc"
            command = [compiler, "-O2", "-shared", "-fPIC", str(HERE / "limits" / "sampler.c"), "-o", str(library)]
            subprocess.run([*command, "-lrt"], check=True)
            self.lib = ctypes.CDLL(str(library))
        self.lib.sampler_stop.restype = ctypes.c_long
        self.lib.sampler_places.restype = ctypes.POINTER(ctypes.c_uint64)
        self.lib.sampler_start.argtypes = [ctypes.c_long]

    def run(self, work: Any, seconds: float) -> list[int]:
        """Addresses while `work` is repeated."""
        if self.lib.sampler_start(100_000) != 0:
            raise OSError("expected a timer for this thread, but the system gave none")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            work()
        n = self.lib.sampler_stop()
        return list(self.lib.sampler_places()[:n])


def profile(row: Any, sampler: Sampler, seconds: float) -> dict[str, Any]:
    """Shares of time of one row's kernel."""
    import _rows

    import heddle as hd

    bench = _rows.Bench(False)
    p = replace(row.problem, threads=1)
    bench.threads(1)
    before = code_mappings()
    call = bench.heddle(p)
    call()
    elf = only_kernel(Path(hd.cache_path()))
    fresh = {s: e for s, e in code_mappings().items() if s not in before}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.o"
        path.write_bytes(elf)
        lines = disassemble(path)
    texts = texts_of(elf)
    sections = [(place(text, fresh), len(text)) for text in texts]
    begin = time.thread_time()  # what other processes take does not count
    call()
    took = time.thread_time() - begin
    found = count(lines, sections, sampler.run(call, seconds))
    executed = Counter[str]()
    for block, n in bench.blocks(p):
        for instruction in block.instructions:
            executed[group_of(instruction)] += n
    total = sum(executed.values())
    return {
        "problem": p.text(),
        "seconds_one_call": took,
        "gflops": bench.flops(p) / took / 1e9,
        **found,
        "executed": {k: v / total for k, v in executed.most_common()},
        "instructions_a_live_pair": total / bench.live(p),
    }


def only_kernel(folder: Path) -> bytes:
    """The object of the one kernel in a cache that was empty."""
    files = list(folder.glob("*/kernel"))
    if len(files) != 1:
        raise ValueError(f"expected one kernel in the cache, but got {len(files)}")
    return object_of(files[0].read_bytes())


def count(lines: list[Line], sections: list[tuple[int, int]], places: list[int]) -> dict[str, Any]:
    """Samples by function, group and hottest block; `sections` are addresses and sizes."""
    offsets = [x.offset for x in lines]
    inside = Counter[int]()
    first = 0
    for base, size in sections:
        for address in places:
            if base <= address < base + size:
                inside[bisect.bisect_right(offsets, first + address - base) - 1] += 1
        first += size
    total = len(places)
    outside = total - inside.total()
    functions, groups, blocks = Counter[str](), Counter[str](), Counter[int]()
    for n, samples in inside.items():
        functions[lines[n].function] += samples
        groups[group_of(lines[n].text)] += samples
        blocks[lines[n].block] += samples
    hottest = []
    for block, samples in blocks.most_common(8):
        body = [x for x in lines if x.block == block]
        mix = Counter(group_of(x.text) for x in body)
        hottest.append(
            {
                "function": body[0].function, "offset": body[0].offset, "share": samples / total,
                "instructions": len(body), "groups": dict(mix.most_common()),
            }
        )  # fmt: skip
    spills = Counter(x.function for x in lines if re.search(r"zmm\d+|ymm\d+", x.text) and "(%rsp" in x.text)
    return {
        "samples": total,
        "outside": outside / total,
        "functions": {k: v / total for k, v in functions.most_common()},
        "groups": {k: v / total for k, v in groups.most_common()},
        "blocks": hottest,
        "vector_stack_accesses": dict(spills),
    }


def show(name: str, found: dict[str, Any]) -> Iterator[str]:
    """A profile in words."""
    speed = f"{found['seconds_one_call'] * 1e3:.3g} ms, {found['gflops']:.0f} GFLOP/s"
    yield f"{name}: {found['problem']}, one thread: {speed}"
    for key in ("functions", "groups"):
        for what, share in found[key].items():
            if share >= 0.005:
                yield f"  {100 * share:5.1f}%  {what}"
        yield ""
    mix = ", ".join(f"{k} {100 * x:.0f}%" for k, x in found["executed"].items() if x >= 0.01)
    yield f"  executed, {found['instructions_a_live_pair']:.3g} instructions a live pair: {mix}"
    if found["outside"] >= 0.005:
        yield f"  {100 * found['outside']:5.1f}%  outside the kernel (libm, Python, page faults)"
    yield "  hottest blocks:"
    for b in found["blocks"]:
        if b["share"] >= 0.02:
            mix = ", ".join(f"{n} {g}" for g, n in b["groups"].items())
            where = f"{b['function']}+{b['offset']:#x}"
            yield f"  {100 * b['share']:5.1f}%  {where}: {b['instructions']} instructions: {mix}"
    for function, n in found["vector_stack_accesses"].items():
        yield f"  {function}: {n} vector accesses to the stack"


def brief(found: dict[str, Any]) -> dict[str, Any]:
    """A profile without what is small."""
    out = {**found, "blocks": found["blocks"][:3]}
    for key in ("functions", "groups", "executed"):
        out[key] = {k: x for k, x in found[key].items() if x >= 0.005}
    return out


def under_target() -> list[Any]:
    """The rows that the newest results find short of their targets, one a problem."""
    import _report
    import _rows

    data = _report.load(_report.newest(HERE / "results")) or {"rows": []}
    short = {r["id"] for r in data["rows"] if r["met"] is False}
    seen: dict[Any, Any] = {}
    for row in _rows.rows():
        if row.id in short and row.problem.case:
            seen.setdefault(replace(row.problem, threads=1), row)
    return list(seen.values())


def main() -> int:
    """Profiles rows, each in a process of its own (an empty cache makes its kernel known)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="GLOB")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--write", action="store_true", help="keep in bench/results/profile.json")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    import _rows

    rows = [r for r in _rows.rows() if any(fnmatch.fnmatch(r.id, g) for g in args.rows) and r.problem.case]
    if not args.rows:
        rows = under_target()
    if not rows:
        parser.error(f"expected rows that match {' '.join(args.rows)}, but got none")
    if args.json:
        print(json.dumps(profile(rows[0], Sampler(), args.seconds)))
        return 0
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    failed = 0
    for row in rows:
        with tempfile.TemporaryDirectory() as cache:
            command = [sys.executable, __file__, row.id, "--seconds", str(args.seconds), "--json"]
            env = {**os.environ, "HEDDLE_CACHE_DIR": cache}
            done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            failed += 1
            print(f"{row.id}: no profile (status {done.returncode})")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        print("\n".join(show(row.id, found)))
        kept[row.id] = brief(found)
    if args.write:
        import cpu

        RESULT.write_text(json.dumps(cpu.round_numbers(kept), indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
