"""Counts every instruction that a kernel executes.

The kernel's assembly gets a counter at the head of each basic block; assembled again
and put into its artefact, it runs as the kernel does, only slower. Multiply-adds of
the two products over what the live pairs need is the share of computed pairs that
were live, measured, not modelled.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAGIC = b"heddle counters\0"
# Flags are live across blocks, and leaf functions keep data below the stack pointer.
COUNT = "\tleaq\t-128(%rsp), %rsp\n\tpushfq\n\tincq\t.Lcounters+{at}(%rip)\n\tpopfq\n\tleaq\t128(%rsp), %rsp\n"


@dataclass
class Block:
    """A basic block: instructions that run together."""

    function: str
    instructions: list[str] = field(default_factory=list)


def instrument(assembly: str) -> tuple[str, list[Block]]:
    """The assembly with a counter for each basic block, and the blocks."""
    blocks: list[Block] = []
    out = []
    function, in_text, fresh = "", True, True
    for line in assembly.splitlines():
        code = line.split("#", 1)[0].strip()
        if code.startswith("."):
            if not code.endswith(":"):
                if code.startswith((".text", ".section", ".data")):
                    in_text = code.startswith(".text") or ".text" in code
            elif in_text:
                fresh = True
        elif code.endswith(":"):
            if in_text:
                function, fresh = code[:-1].strip('"'), True
        elif code and in_text:
            if fresh:
                out.append(COUNT.format(at=len(MAGIC) + 8 * len(blocks)))
                blocks.append(Block(function))
                fresh = False
            text = " ".join(code.split())
            blocks[-1].instructions.append(text)
            # What follows a jump runs another number of times.
            fresh = text.startswith("j")
        out.append(line)
    data = '\t.section\t.data.counters,"aw",@progbits\n\t.p2align\t6\n.Lcounters:\n'
    data += f'\t.asciz\t"{MAGIC[:-1].decode()}"\n\t.zero\t{8 * len(blocks)}\n'
    return "\n".join(out) + "\n" + data, blocks


def assemble(text: str) -> bytes:
    """The object of an assembly text."""
    compiler = shutil.which("clang-22") or shutil.which("clang") or "gcc"
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "kernel.s", Path(folder) / "kernel.o"
        source.write_text(text)
        subprocess.run([compiler, "-c", "-x", "assembler", str(source), "-o", str(target)], check=True)
        return target.read_bytes()


def with_object(artefact: bytes, code: bytes) -> bytes:
    """The artefact (docs/abi.md) with another object."""
    size, _ = struct.unpack_from("<QQ", artefact, 8)
    body = artefact[56 : 56 + size] + code
    return artefact[:8] + struct.pack("<QQ", size, len(code)) + hashlib.sha256(body).digest() + body


def mappings() -> dict[int, tuple[int, str]]:
    """Anonymous mappings of this process: start to end and protection."""
    out = {}
    for row in Path("/proc/self/maps").read_text().splitlines():
        parts = row.split()
        if len(parts) == 5:
            start, end = (int(x, 16) for x in parts[0].split("-"))
            out[start] = (end, parts[1])
    return out


def counters_of(before: dict[int, tuple[int, str]], n: int) -> list[int]:
    """The counters of the kernel that was loaded since `before`."""
    fresh = {s: e for s, e in mappings().items() if s not in before}
    for code, (_, protection) in fresh.items():
        if not protection.startswith("r-x"):
            continue
        for start, (end, kind) in mappings().items():
            if kind.startswith("rw") and code < start < code + (1 << 26):
                at = ctypes.string_at(start, end - start).find(MAGIC)
                if at >= 0:
                    return list((ctypes.c_uint64 * n).from_address(start + at + len(MAGIC)))
    raise ValueError("expected the counters in a writable mapping beside the kernel's code, but found none")


def run(kernel: Any, arguments: Sequence[Any]) -> list[tuple[Block, int]]:
    """Blocks of a compiled kernel with how often each ran in one call on one thread."""
    import heddle as hd

    text, blocks = instrument(kernel.ir("asm"))
    threads = hd.num_threads()
    hd.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "kernel.bundle"
            kernel.save(path)
            path.write_bytes(with_object(path.read_bytes(), assemble(text)))
            before = mappings()
            counted = hd.load(path)
            counted(*arguments)
            counts = counters_of(before, len(blocks))
    finally:
        hd.set_num_threads(threads)
    return list(zip(blocks, counts, strict=True))


def products(instruction: str) -> int:
    """Multiplications that are added to a sum by one instruction."""
    if re.match(r"vdpbf16ps", instruction):
        factor = 2
    elif re.match(r"vfn?m(add|sub)\d+[ps]s", instruction):
        factor = 1
    else:
        return 0
    if re.match(r"\w+ss\b", instruction):
        return factor
    return factor * (16 if "%zmm" in instruction else 8 if "%ymm" in instruction else 4)


def weight_products(block: Block) -> int:
    """The products of `block` that belong to 2^x: all that are not of pairs of bf16, or two for each scaling."""
    if "_bf16" in block.function:
        return sum(products(line) for line in block.instructions if not line.startswith("vdpbf16ps"))
    return 2 * 16 * sum(line.startswith("vscalefps") for line in block.instructions)


def pairs(counted: Sequence[tuple[Block, int]], d: int, dv: int) -> tuple[float, float]:
    """Pairs whose dot was computed, and pairs whose value was added."""
    sums: Counter[str] = Counter()
    for block, count in counted:
        if count:
            kind = "dots" if block.function.startswith(("tile_dots", "row_dots")) else "values"
            if block.function.startswith(("tile_dots", "tile_accumulate", "row_dots", "row_values")):
                sums[kind] += count * sum(map(products, block.instructions))
            if block.function.startswith("tile_accumulate_softmax"):
                sums[kind] -= count * weight_products(block)
            if block.function.startswith("row_dots"):  # the first product of a sum; the scale multiplies four sums
                firsts = [line for line in block.instructions if line.startswith("vmul") and "%xmm" not in line]
                sums[kind] += count * sum(products(line.replace("vmul", "vfmadd231")) for line in firsts)
    return sums["dots"] / d, sums["values"] / dv
