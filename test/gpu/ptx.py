"""Runs PTX on the CPU: an interpreter of the instructions that Heddle's kernels use.

Written from the PTX ISA manual; it shares nothing with the code generator. All threads of all blocks run as
lanes of NumPy arrays, each with a program counter of its own. What would be undefined on a GPU is an error here:
a warp or block instruction that some threads never reach, an access outside an allocation, a misaligned address.
What `cp.async` copies is poison until the thread waits for its group, and shared memory starts as NaN.

`order` sets how warps of a block take turns between barriers: "together" (fastest), "forward" or "backward" (one warp
runs alone until a barrier stops it), so that a missing barrier shows as a wrong result.

What is asynchronous is as late as it may be: a tensor copy poisons its destination when it is issued and lands when
nothing else can run; a `wgmma` poisons its accumulators when it is issued and is computed at the wait, where its
registers and the shared memory it reads must be as they were. Shared memory that threads wrote and no
`fence.proxy.async` followed is an error for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import fragments, hopper

HEAP = 0x7000_0000_0000
PARAM = 0x1000_0000_0000
SHARED = 0x2000_0000_0000
"""Where shared memory lies among generic addresses."""
POISON = 0xFF

INTEGERS = {
    "s8": np.int8, "u8": np.uint8, "b8": np.uint8, "s16": np.int16, "u16": np.uint16, "b16": np.uint16,
    "s32": np.int32, "u32": np.uint32, "b32": np.uint32, "s64": np.int64, "u64": np.uint64, "b64": np.uint64,
}
TYPES: dict[str, Any] = {**INTEGERS, "f32": np.float32, "f64": np.float64, "f16": np.float16}
COLLECTIVE = ("shfl", "redux", "vote", "mma", "ldmatrix", "bar", "barrier", "wgmma", "setmaxnreg", "mbarrier")
WARPGROUP = ("wgmma", "setmaxnreg")


class PtxError(Exception):
    """PTX that cannot be run, or that did what the ISA leaves undefined."""


@dataclass
class Instruction:
    """One instruction: `@guard opcode operands`."""

    opcode: str
    operands: list[str]
    guard: str | None
    negated: bool
    text: str
    parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parts = self.opcode.split(".")


@dataclass
class Kernel:
    """An entry function."""

    name: str
    parameter_bytes: list[int]
    parameter_at: list[int]
    threads: int
    code: list[Instruction]
    labels: dict[str, int]
    targets: dict[str, list[str]]


def _operands(text: str) -> list[str]:
    out, depth, word = [], 0, ""
    for c in text:
        depth += (c in "[{") - (c in "]}")
        if c == "," and depth == 0:
            out.append(word.strip())
            word = ""
        else:
            word += c
    if word.strip():
        out.append(word.strip())
    return out


def parse(text: str) -> dict[str, Kernel]:
    """The entry functions of a PTX module."""
    text = re.sub(r"//[^\n]*", "", text)
    kernels = {}
    for match in re.finditer(r"\.visible\s+\.entry\s+(\w+)\s*\((.*?)\)(.*?)\{(.*?)\n\}", text, re.S):
        name, parameters, directives, body = match.groups()
        sizes, starts = [], []
        for align, size in re.findall(r"\.align\s+(\d+)\s+\.b8\s+\w+\[(\d+)\]", parameters):
            end = starts[-1] + sizes[-1] if sizes else 0
            starts.append(-(-end // int(align)) * int(align))
            sizes.append(int(size))
        threads = re.search(r"\.maxntid\s+(\d+)", directives)
        code: list[Instruction] = []
        labels: dict[str, int] = {}
        targets: dict[str, list[str]] = {}
        pending = ""
        for statement in re.split(r"(?<=[;:])\s*\n|\n", body):
            line = (pending + " " + statement).strip()
            pending = ""
            if not line or line.startswith((".reg", ".pragma", "{", "}")):
                continue
            table = re.match(r"(\$?\w+):\s*\.branchtargets(.*);", line, re.S)
            if table:
                targets[table.group(1)] = [t.strip() for t in table.group(2).split(",")]
                continue
            label = re.match(r"(\$?[\w.]+):\s*$", line)
            if label:
                labels[label.group(1)] = len(code)
                continue
            if not line.endswith(";"):
                pending = line
                continue
            found = re.match(r"(?:@(!?)(%\w+)\s+)?([\w.:]+)\s*(.*);$", line, re.S)
            if not found:
                raise PtxError(f"expected an instruction, but got {line!r}")
            negated, guard, opcode, rest = found.groups()
            code.append(Instruction(opcode, _operands(rest), guard, negated == "!", line))
        kernels[name] = Kernel(
            name, sizes, starts, int(threads.group(1)) if threads else 0, code, labels, targets
        )
    return kernels


class Memory:
    """Global memory: allocations in one heap with gaps that nobody may touch."""

    def __init__(self, capacity: int = 1 << 22) -> None:
        self.bytes = np.full(capacity, POISON, np.uint8)
        self.valid = np.zeros(capacity, bool)
        self.top = 256

    def reserve(self, size: int, misalign: int = 0) -> int:
        """Address of `size` new bytes, 256-aligned plus `misalign`."""
        at = (self.top + 255) // 256 * 256 + misalign
        self.top = at + size + 256
        while self.top > len(self.bytes):
            self.bytes = np.concatenate([self.bytes, np.full_like(self.bytes, POISON)])
            self.valid = np.concatenate([self.valid, np.zeros_like(self.valid)])
        self.valid[at : at + size] = True
        return HEAP + at

    def put(self, data: np.ndarray, misalign: int = 0) -> int:
        """Address of a copy of `data` (its memory, as it lies)."""
        raw = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
        address = self.reserve(max(raw.size, 1), misalign)
        self.bytes[address - HEAP : address - HEAP + raw.size] = raw
        return address

    def get(self, address: int, size: int) -> np.ndarray:
        """A view of `size` bytes."""
        return self.bytes[address - HEAP : address - HEAP + size]


def _round_bf16(x: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(x), 0x7FFF, rounded).astype(np.uint16)


def _round_tf32(x: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits.astype(np.uint64) + 0x1000).astype(np.uint32) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), rounded, bits & np.uint32(0xFFFFE000) | np.where(np.isnan(x), 0x400000, 0))


class Machine:
    """One launch."""

    def __init__(
        self, kernel: Kernel, memory: Memory, parameters: Sequence[bytes], blocks: Sequence[int], shared_bytes: int,
        order: str = "together", grid: int | None = None,
    ) -> None:
        self.kernel, self.memory = kernel, memory
        self.grid = len(blocks) if grid is None else grid
        ends = [at + size for at, size in zip(kernel.parameter_at, kernel.parameter_bytes, strict=True)]
        self.parameters = np.zeros(max(ends, default=0), np.uint8)
        for at, end, data in zip(kernel.parameter_at, ends, parameters, strict=True):
            self.parameters[at:end] = np.frombuffer(data, np.uint8)
        self.per_block = kernel.threads
        self.count = len(blocks) * kernel.threads
        self.tid = np.tile(np.arange(kernel.threads, dtype=np.uint32), len(blocks))
        self.ctaid = np.repeat(np.asarray(blocks, np.uint32), kernel.threads)
        self.block = np.repeat(np.arange(len(blocks)), kernel.threads)
        self.warp = np.arange(self.count) // 32
        self.shared_bytes = shared_bytes
        self.shared = np.full(len(blocks) * shared_bytes + 16, POISON, np.uint8)
        self.regs: dict[str, np.ndarray] = {}
        self.pc = np.zeros(self.count, np.int64)
        self.order = order
        self.commits = np.zeros(self.count, np.int64)
        self.pending: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self.async_ = hopper.Async(self)
        self.idx: Any = slice(None)
        self.executed = 0
        self.products = 0
        self.counts: dict[str, int] = {}
        self.functions = [self.compile(i) for i in kernel.code]
        starts = {0, *kernel.labels.values()}
        for n, i in enumerate(kernel.code):
            if i.parts[0] in ("bra", "brx", "ret", "exit") or i.parts[0] in COLLECTIVE:
                starts |= {n, n + 1}
        self.starts = starts

    # Registers ------------------------------------------------------------------------------------

    def register(self, name: str) -> np.ndarray:
        found = self.regs.get(name)
        if found is None:
            kind = re.match(r"%([a-z]+)", name)
            assert kind, name
            dtype = {"p": bool, "rs": np.uint16, "r": np.uint32, "rd": np.uint64}[kind.group(1)]
            found = self.regs[name] = np.zeros(self.count, dtype)
        return found

    def read(self, operand: str, kind: str) -> Callable[[], Any]:
        """A function that gives the operand's lanes as `kind` (a PTX type or "pred")."""
        if operand.startswith("%"):
            if operand == "%nctaid.x":
                grid = np.array([self.grid], np.uint32)
                return lambda: grid
            special = {"%tid.x": self.tid, "%ctaid.x": self.ctaid}.get(operand)
            if special is not None:
                return lambda: special[self.idx]
            r = self.register(operand)
            if kind == "pred":
                return lambda: r[self.idx]
            dtype = np.dtype(TYPES[kind])
            if dtype.itemsize == r.dtype.itemsize:
                return lambda: r[self.idx].view(dtype)
            if dtype.itemsize < r.dtype.itemsize and dtype.kind != "f":
                return lambda: r[self.idx].astype(dtype)
            raise PtxError(f"expected {operand} as {kind}")
        return self.constant(operand, kind)

    def constant(self, operand: str, kind: str) -> Callable[[], Any]:
        if operand.startswith("0f"):
            value: Any = np.array([int(operand[2:], 16)], np.uint32).view(np.float32)
        elif operand.startswith("0d"):
            value = np.array([int(operand[2:], 16)], np.uint64).view(np.float64)
        elif kind == "pred":
            value = np.array([int(operand) != 0])
        elif operand in ("heddle_shared",):
            value = np.array([0], np.uint64)
        elif operand.startswith(self.kernel.name + "_param"):
            number = int(operand[len(self.kernel.name) + 7 :])
            value = np.array([PARAM + self.kernel.parameter_at[number]], np.uint64)
        else:
            value = np.array([int(operand, 0) & 0xFFFF_FFFF_FFFF_FFFF], np.uint64)
        if kind != "pred":
            dtype = np.dtype(TYPES[kind])
            if value.dtype.kind == "f" and dtype.kind != "f":
                value = value.view(f"u{value.dtype.itemsize}")
            if value.dtype.kind == "u" and dtype.kind == "f":
                value = value.astype(f"u{dtype.itemsize}").view(dtype)
            value = value.astype(dtype)
        return lambda: value

    def write(self, operand: str, value: Any) -> None:
        if operand == "_":
            return
        r = self.register(operand)
        value = np.asarray(value)
        if r.dtype == bool:
            r[self.idx] = value
        elif value.dtype.kind == "f":
            r[self.idx] = value.view(f"u{value.dtype.itemsize}")
        else:
            r[self.idx] = value.astype(r.dtype) if value.dtype != r.dtype else value

    # Memory ---------------------------------------------------------------------------------------

    def address(self, operand: str, wide: bool = True) -> Callable[[], np.ndarray]:
        found = re.match(r"\[([%$\w.]+)(?:\+(-?\d+))?\]", operand)
        if not found:
            raise PtxError(f"expected an address, but got {operand}")
        base, offset = found.group(1), int(found.group(2) or 0)
        if base.startswith("%"):
            r = self.register(base)
            return lambda: r[self.idx].astype(np.int64) + offset
        value = self.constant(base, "u64")()
        return lambda: np.broadcast_to(value.astype(np.int64) + offset, self.lanes())

    def lanes(self) -> tuple[int]:
        return (self.count if isinstance(self.idx, slice) else len(self.idx),)

    def space(self, name: str, address: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The array that backs a space, and each lane's first byte in it."""
        if (address % size).any():
            raise PtxError(f"misaligned {name} access of {size} bytes at {address[address % size != 0][0]:#x}")
        if name == "" and ((address >= SHARED) & (address < HEAP)).all():
            name, address = "shared", address - SHARED
        if name == "shared":
            if ((address < 0) | (address + size > self.shared_bytes)).any():
                raise PtxError(f"shared access outside of {self.shared_bytes} bytes: {address.max()}")
            return self.shared, address + self.block[self.idx] * self.shared_bytes
        if name == "param" or (name == "" and (address < SHARED).all()):
            at = address - PARAM
            if ((at < 0) | (at + size > len(self.parameters))).any():
                raise PtxError("access outside of the parameters")
            return self.parameters, at
        at = address - HEAP
        bad = (at < 0) | (at + size > len(self.memory.bytes))
        if bad.any() or not (self.memory.valid[at].all() and self.memory.valid[at + size - 1].all()):
            raise PtxError(f"{name or 'generic'} access of {size} bytes outside of every allocation")
        return self.memory.bytes, at

    def gather(self, space: str, address: np.ndarray, size: int) -> np.ndarray:
        backing, at = self.space(space, address, size)
        if size == 1:
            return backing[at]
        n = len(backing) // size * size
        return backing[:n].view(f"u{size}")[at // size]

    def scatter(self, space: str, address: np.ndarray, value: np.ndarray, size: int) -> None:
        backing, at = self.space(space, address, size)
        n = len(backing) // size * size
        backing[:n].view(f"u{size}")[at // size] = value
        if backing is self.shared:
            self.async_.wrote(at[:, None] + np.arange(size), np.arange(self.count)[self.idx][:, None])

    # Running --------------------------------------------------------------------------------------

    def run(self) -> None:
        code = self.kernel.code
        end = len(code)
        while True:
            alive = self.pc < end
            if not alive.any():
                return
            lanes = self.pick(alive)
            if lanes is None and self.async_.land():
                continue
            if lanes is None:
                at = sorted(set(self.pc[alive].tolist()))
                raise PtxError(f"no thread can go on: waiting at {[code[p].text for p in at]}")
            pc = int(self.pc[lanes[0]])
            self.idx = slice(None) if len(lanes) == self.count else lanes
            while True:
                i = code[pc]
                self.executed += 1
                if i.parts[0] in ("bra", "brx", "ret", "exit"):
                    self.jump(i, lanes, pc)
                    break
                self.functions[pc]()
                pc += 1
                if pc in self.starts:
                    self.pc[lanes] = pc
                    break

    def pick(self, alive: np.ndarray) -> np.ndarray | None:
        """The threads that run next: those with the least program counter that can go on."""
        groups = [alive]
        if self.order != "together":
            within = self.tid // 32
            warps = sorted(set(within.tolist()), reverse=self.order == "backward")
            groups = [*(alive & (within == w) for w in warps), alive]
        for group in groups:
            pcs = self.pc[group]
            for pc in np.unique(pcs):
                here = group & (self.pc == pc)
                i = self.kernel.code[pc]
                if i.parts[0] in ("bar", "barrier") and i.parts[1] != "warp":
                    if group is not alive:
                        continue  # releases all warps at once
                    here = self.async_.barrier(i, here, alive)
                elif i.parts[0] == "mbarrier":
                    if i.parts[1] == "try_wait":
                        here = self.async_.ready(i, here)
                elif i.parts[0] in COLLECTIVE:
                    if group is not alive and i.parts[0] in WARPGROUP:
                        continue
                    unit = self.warp // 4 if i.parts[0] in WARPGROUP else self.warp
                    there = self.pc == pc
                    arrived = np.bincount(unit[alive & there], minlength=unit.max() + 1)
                    wanted = np.bincount(unit[alive], minlength=unit.max() + 1)
                    here &= (arrived == wanted)[unit]
                if here.any():
                    return np.nonzero(here)[0]
        return None

    def jump(self, i: Instruction, lanes: np.ndarray, pc: int) -> None:
        taken = np.ones(len(lanes), bool)
        if i.guard:
            taken = self.register(i.guard)[lanes] ^ i.negated
        goal: Any
        if i.parts[0] in ("ret", "exit"):
            goal = len(self.kernel.code)
        elif i.parts[0] == "brx":
            table = np.array([self.kernel.labels[t] for t in self.kernel.targets[i.operands[1]]])
            goal = table[self.register(i.operands[0])[lanes]]
        else:
            goal = self.kernel.labels[i.operands[0]]
        self.pc[lanes] = np.where(taken, goal, pc + 1)

    def compile(self, i: Instruction) -> Callable[[], None]:
        name = i.parts[0]
        if name in ("bra", "brx", "ret", "exit"):
            return lambda: None
        if i.guard and i.parts[0] != "nanosleep":
            raise PtxError(f"expected guards on branches only, but got {i.text}")
        method = getattr(self, "op_" + name, None)
        if method is None:
            raise PtxError(f"unknown instruction: {i.text}")
        return method(i)

    # Data movement --------------------------------------------------------------------------------

    def op_mov(self, i: Instruction) -> Callable[[], None]:
        target, source = i.operands
        kind = i.parts[-1]
        if target.startswith("{"):
            names = [x.strip() for x in target[1:-1].split(",")]
            part = {"b32": np.uint16, "b64": np.uint32}[kind]
            get = self.read(source, kind)

            def unpack() -> None:
                halves = np.ascontiguousarray(np.broadcast_to(get(), self.lanes())).view(part).reshape(-1, 2)
                for n, name in enumerate(names):
                    self.write(name, halves[:, n].copy())

            return unpack
        if source.startswith("{"):
            names = [x.strip() for x in source[1:-1].split(",")]
            half, shift = ("b16", 16) if kind == "b32" else ("b32", 32)
            low, high = (self.read(n, half) for n in names)
            whole = TYPES[kind]
            return lambda: self.write(target, low().astype(whole) | (high().astype(whole) << whole(shift)))
        get = self.read(source, "pred" if kind == "pred" else kind)
        return lambda: self.write(target, get())

    def vector(self, operand: str) -> list[str]:
        return [x.strip() for x in operand[1:-1].split(",")] if operand.startswith("{") else [operand]

    def space_of(self, i: Instruction) -> str:
        return next((s for s in ("shared", "global", "param") if s in i.parts), "")

    def op_ld(self, i: Instruction) -> Callable[[], None]:
        names, get, space = self.vector(i.operands[0]), self.address(i.operands[1]), self.space_of(i)
        dtype = np.dtype(TYPES[i.parts[-1]])
        size = dtype.itemsize

        def load() -> None:
            at = get()
            if len(names) > 1:
                self.space(space, at, size * len(names))
            for n, name in enumerate(names):
                v = self.gather(space, at + n * size, size)
                if dtype.kind == "i":
                    v = v.view(dtype).astype(f"i{self.register(name).dtype.itemsize}")
                self.write(name, v)

        return load

    def op_st(self, i: Instruction) -> Callable[[], None]:
        kind = i.parts[-1]
        get, space = self.address(i.operands[0]), self.space_of(i)
        values = [self.read(n, kind) for n in self.vector(i.operands[1])]
        size = np.dtype(TYPES[kind]).itemsize

        def store() -> None:
            at = get()
            if len(values) > 1:
                self.space(space, at, size * len(values))
            for n, v in enumerate(values):
                data = np.ascontiguousarray(np.broadcast_to(v(), self.lanes())).view(f"u{size}")
                self.scatter(space, at + n * size, data, size)

        return store

    def op_cvta(self, i: Instruction) -> Callable[[], None]:
        get = self.read(i.operands[1], "b64")
        base = np.uint64(SHARED if "shared" in i.parts else 0)
        if "to" in i.parts:
            return lambda: self.write(i.operands[0], get() - base)
        return lambda: self.write(i.operands[0], get() + base)

    def op_cp(self, i: Instruction) -> Callable[[], None]:
        if i.opcode == "cp.async.commit_group":

            def commit() -> None:
                self.commits[self.idx] += 1

            return commit
        if i.opcode in ("cp.async.wait_group", "cp.async.wait_all"):
            keep = int(i.operands[0]) if i.operands else 0
            return lambda: self.wait(keep)
        if i.opcode.startswith("cp.async.bulk.tensor."):
            return self.async_.tensor_copy(i)
        if i.opcode != "cp.async.cg.shared.global":
            raise PtxError(f"unknown copy: {i.text}")
        to, source = self.address(i.operands[0]), self.address(i.operands[1])
        size = self.read(i.operands[3], "u32") if len(i.operands) > 3 else (lambda: np.array([16]))
        if i.operands[2] != "16":
            raise PtxError(f"expected 16 bytes, but got {i.text}")

        def copy() -> None:
            at, address = to(), source()
            wanted = np.broadcast_to(size(), self.lanes()).astype(np.int64)
            self.space("shared", at, 16)
            if (address % 16).any():
                raise PtxError(f"misaligned source of {i.text}")
            first = at + self.block[self.idx] * self.shared_bytes
            bytes_of = np.arange(16)
            data = np.zeros((len(at), 16), np.uint8)
            reads = bytes_of < wanted[:, None]
            where = (address[:, None] - HEAP + bytes_of)[reads]
            if where.size:
                if where.min() < 0 or where.max() >= len(self.memory.bytes) or not self.memory.valid[where].all():
                    raise PtxError(f"outside of every allocation: {i.text}")
                data[reads] = self.memory.bytes[where]
            self.shared[first[:, None] + bytes_of] = POISON
            threads = np.arange(self.count)[self.idx]
            self.async_.wrote(first[:, None] + bytes_of, threads[:, None])
            self.pending.append((threads, first, data, self.commits[threads].copy()))

        return copy

    def wait(self, keep: int) -> None:
        waiting = np.zeros(self.count, bool)
        waiting[self.idx] = True
        rest = []
        for threads, first, data, group in self.pending:
            done = waiting[threads] & (group < self.commits[threads] - keep)
            self.shared[first[done, None] + np.arange(16)] = data[done]
            if not done.all():
                rest.append((threads[~done], first[~done], data[~done], group[~done]))
        self.pending = rest

    # Integers, bits, predicates -------------------------------------------------------------------

    def binary(self, i: Instruction, fn: Callable[[Any, Any], Any], kind: str | None = None) -> Callable[[], None]:
        kind = kind or i.parts[-1]
        x, y = self.read(i.operands[1], kind), self.read(i.operands[2], kind)
        return lambda: self.write(i.operands[0], fn(x(), y()))

    def op_add(self, i: Instruction) -> Callable[[], None]:
        return self.binary(i, lambda x, y: x + y)

    def op_sub(self, i: Instruction) -> Callable[[], None]:
        return self.binary(i, lambda x, y: x - y)

    def op_mul(self, i: Instruction) -> Callable[[], None]:
        kind = i.parts[-1]
        if kind.startswith("f"):
            return self.binary(i, lambda x, y: x * y)
        size = np.dtype(TYPES[kind]).itemsize * 8
        wide = f"{'i' if kind[0] == 's' else 'u'}{size // 4}"
        if "wide" in i.parts:
            return self.binary(i, lambda x, y: x.astype(wide) * y.astype(wide))
        if "hi" in i.parts:
            if size == 64:
                return self.binary(i, lambda x, y: _high64(x, y))
            return self.binary(i, lambda x, y: ((x.astype(wide) * y.astype(wide)) >> size).astype(TYPES[kind]))
        return self.binary(i, lambda x, y: x * y)

    def op_mad(self, i: Instruction) -> Callable[[], None]:
        kind = i.parts[-1]
        x, y = self.read(i.operands[1], kind), self.read(i.operands[2], kind)
        if "wide" in i.parts:
            wide = kind[0] + str(np.dtype(TYPES[kind]).itemsize * 16)
            z = self.read(i.operands[3], wide)
            return lambda: self.write(i.operands[0], x().astype(TYPES[wide]) * y().astype(TYPES[wide]) + z())
        z = self.read(i.operands[3], kind)
        return lambda: self.write(i.operands[0], x() * y() + z())

    def op_div(self, i: Instruction) -> Callable[[], None]:
        if i.parts[-1].startswith("f"):
            return self.binary(i, lambda x, y: x / y)
        return self.binary(i, _divide)

    def op_rem(self, i: Instruction) -> Callable[[], None]:
        return self.binary(i, lambda x, y: x - _divide(x, y) * y)

    def op_min(self, i: Instruction) -> Callable[[], None]:
        if "relu" in i.parts:
            return self.binary(i, lambda x, y: np.maximum(np.minimum(x, y), 0))
        return self.binary(i, np.fmin if i.parts[-1].startswith("f") else np.minimum)

    def op_max(self, i: Instruction) -> Callable[[], None]:
        if "relu" in i.parts:
            return self.binary(i, lambda x, y: np.maximum(np.maximum(x, y), 0))
        return self.binary(i, np.fmax if i.parts[-1].startswith("f") else np.maximum)

    def op_and(self, i: Instruction) -> Callable[[], None]:
        return self.binary(i, lambda x, y: x & y)

    def op_or(self, i: Instruction) -> Callable[[], None]:
        return self.binary(i, lambda x, y: x | y)

    def op_xor(self, i: Instruction) -> Callable[[], None]:
        return self.binary(i, lambda x, y: x ^ y)

    def op_not(self, i: Instruction) -> Callable[[], None]:
        x = self.read(i.operands[1], i.parts[-1])
        return lambda: self.write(i.operands[0], ~x())

    def op_neg(self, i: Instruction) -> Callable[[], None]:
        x = self.read(i.operands[1], i.parts[-1])
        return lambda: self.write(i.operands[0], -x())

    def op_abs(self, i: Instruction) -> Callable[[], None]:
        x = self.read(i.operands[1], i.parts[-1])
        return lambda: self.write(i.operands[0], abs(x()))

    def op_shl(self, i: Instruction) -> Callable[[], None]:
        return self.shift(i, lambda x, n: x << n, clamp=False)

    def op_shr(self, i: Instruction) -> Callable[[], None]:
        return self.shift(i, lambda x, n: x >> n, clamp=i.parts[-1].startswith("s"))

    def shift(self, i: Instruction, fn: Callable[[Any, Any], Any], clamp: bool) -> Callable[[], None]:
        kind = i.parts[-1]
        dtype = np.dtype(TYPES[kind])
        bits = dtype.itemsize * 8
        x, n = self.read(i.operands[1], kind), self.read(i.operands[2], "u32")

        def run() -> None:
            amount = n()
            v = fn(x(), np.minimum(amount, bits - 1).astype(dtype))
            self.write(i.operands[0], v if clamp else np.where(amount < bits, v, dtype.type(0)))

        return run

    def op_bfe(self, i: Instruction) -> Callable[[], None]:
        kind = i.parts[-1]
        bits = np.dtype(TYPES[kind]).itemsize * 8
        x, at, n = self.read(i.operands[1], kind), int(i.operands[2]), int(i.operands[3])
        up = TYPES[kind](bits - at - n)
        down = TYPES[kind](bits - n)
        return lambda: self.write(i.operands[0], (x() << up) >> down)

    def op_clz(self, i: Instruction) -> Callable[[], None]:
        kind = i.parts[-1]
        x = self.read(i.operands[1], kind)
        bits = np.dtype(TYPES[kind]).itemsize * 8

        def run() -> None:
            v, n = x().copy(), np.full(self.lanes(), bits, np.uint32)
            for bit in range(bits):
                n[(v >> TYPES[kind](bit)) & TYPES[kind](1) == 1] = bits - 1 - bit
            self.write(i.operands[0], n)

        return run

    def op_shf(self, i: Instruction) -> Callable[[], None]:
        if i.parts[1:] not in (["l", "wrap", "b32"], ["r", "wrap", "b32"]):
            raise PtxError(f"unknown shift: {i.text}")
        low, high, n = (self.read(o, "u32") for o in i.operands[1:])
        right = i.parts[1] == "r"

        def run() -> None:
            both = (high().astype(np.uint64) << np.uint64(32)) | low()
            amount = (n() & np.uint32(31)).astype(np.uint64)
            self.write(i.operands[0], both >> amount if right else (both << amount) >> np.uint64(32))

        return run

    def op_prmt(self, i: Instruction) -> Callable[[], None]:
        x, y, s = (self.read(o, "u32") for o in i.operands[1:])

        def run() -> None:
            both = x().astype(np.uint64) | (y().astype(np.uint64) << np.uint64(32))
            select, out = s(), np.uint64(0)
            for n in range(4):
                pick = (select >> np.uint32(4 * n)) & np.uint32(0xF)
                byte = (both >> ((pick & np.uint32(7)).astype(np.uint64) * np.uint64(8))) & np.uint64(0xFF)
                sign = np.where(byte & np.uint64(0x80), np.uint64(0xFF), np.uint64(0))
                out = out | (np.where(pick & 8, sign, byte) << np.uint64(8 * n))
            self.write(i.operands[0], out)

        return run

    def op_setp(self, i: Instruction) -> Callable[[], None]:
        test, kind = i.parts[1], i.parts[-1]
        base = test.rstrip("u") if test in ("equ", "neu", "ltu", "leu", "gtu", "geu") else test
        fn: Callable[[Any, Any], Any] = {
            "eq": lambda x, y: x == y, "ne": lambda x, y: x != y, "lt": lambda x, y: x < y, "le": lambda x, y: x <= y,
            "gt": lambda x, y: x > y, "ge": lambda x, y: x >= y,
            "num": lambda x, y: ~(np.isnan(x) | np.isnan(y)), "nan": lambda x, y: np.isnan(x) | np.isnan(y),
        }[base]
        x, y = self.read(i.operands[1], kind), self.read(i.operands[2], kind)
        floats, unordered = kind.startswith("f"), base != test

        def run() -> None:
            a, b = x(), y()
            v = fn(a, b)
            if floats and base in ("eq", "ne", "lt", "le", "gt", "ge"):
                nan = np.isnan(a) | np.isnan(b)
                v = (v | nan) if unordered else (v & ~nan)
            self.write(i.operands[0], v)

        return run

    def op_selp(self, i: Instruction) -> Callable[[], None]:
        kind = i.parts[-1]
        x, y, p = self.read(i.operands[1], kind), self.read(i.operands[2], kind), self.read(i.operands[3], "pred")
        return lambda: self.write(i.operands[0], np.where(p(), x(), y()))

    # Floats ---------------------------------------------------------------------------------------

    def unary(self, i: Instruction, fn: Callable[[Any], Any]) -> Callable[[], None]:
        x = self.read(i.operands[1], i.parts[-1])
        dtype = TYPES[i.parts[-1]]
        return lambda: self.write(i.operands[0], np.asarray(fn(x())).astype(dtype))

    def op_fma(self, i: Instruction) -> Callable[[], None]:
        kind = i.parts[-1]
        x, y, z = (self.read(o, kind) for o in i.operands[1:])
        if kind == "f64":
            return lambda: self.write(i.operands[0], x() * y() + z())
        return lambda: self.write(
            i.operands[0], (x().astype(np.float64) * y().astype(np.float64) + z().astype(np.float64)).astype(np.float32)
        )

    def op_ex2(self, i: Instruction) -> Callable[[], None]:
        def exp2(x: np.ndarray) -> np.ndarray:
            y = np.exp2(x.astype(np.float64)).astype(np.float32)
            return np.where(np.abs(y) < np.float32(2.0**-126), np.float32(0), y) if "ftz" in i.parts else y

        return self.unary(i, exp2)

    def op_lg2(self, i: Instruction) -> Callable[[], None]:
        return self.unary(i, lambda x: np.log2(x.astype(np.float64)))

    def op_rcp(self, i: Instruction) -> Callable[[], None]:
        return self.unary(i, lambda x: 1 / x.astype(np.float64))

    def op_sqrt(self, i: Instruction) -> Callable[[], None]:
        return self.unary(i, lambda x: np.sqrt(x))

    def op_cvt(self, i: Instruction) -> Callable[[], None]:
        to, kind = i.parts[-2], i.parts[-1]
        if to in ("bf16x2", "f16x2"):
            high, low = self.read(i.operands[1], "f32"), self.read(i.operands[2], "f32")
            convert = _round_bf16 if to == "bf16x2" else (lambda x: x.astype(np.float16).view(np.uint16))
            return lambda: self.write(
                i.operands[0],
                (convert(np.broadcast_to(high(), self.lanes())).astype(np.uint32) << np.uint32(16))
                | convert(np.broadcast_to(low(), self.lanes())),
            )
        if to in ("bf16", "tf32"):
            x = self.read(i.operands[1], "f32")
            convert = _round_bf16 if to == "bf16" else _round_tf32
            return lambda: self.write(i.operands[0], convert(np.broadcast_to(x(), self.lanes())))
        if kind == "bf16":
            x = self.read(i.operands[1], "b16")
            return lambda: self.write(i.operands[0], (x().astype(np.uint32) << np.uint32(16)).view(np.float32))
        x = self.read(i.operands[1], kind)
        source, target = np.dtype(TYPES[kind]), np.dtype(TYPES[to])
        rounding = {"rmi": np.floor, "rni": np.rint, "rzi": np.trunc, "rpi": np.ceil}
        fn = next((rounding[p] for p in i.parts if p in rounding), None)

        def convert_number() -> None:
            v = x()
            if source.kind == "f" and target.kind != "f":
                info = np.iinfo(target)
                v = np.nan_to_num(fn(v.astype(np.float64)), nan=0.0, posinf=float(info.max), neginf=float(info.min))
                v = np.where(v >= float(info.max), info.max, np.where(v <= info.min, info.min, v)).astype(target)
            elif source.kind == "f":
                v = (fn(v) if fn else v).astype(target)
            else:
                v = v.astype(target)
            register = self.register(i.operands[0])
            if target.kind == "i" and register.dtype.itemsize > target.itemsize:
                v = v.astype(f"i{register.dtype.itemsize}")
            self.write(i.operands[0], v)

        return convert_number

    # The warp and the block -----------------------------------------------------------------------

    def op_nanosleep(self, i: Instruction) -> Callable[[], None]:
        return lambda: None

    def op_bar(self, i: Instruction) -> Callable[[], None]:
        if i.parts[1] in ("sync", "warp") or i.opcode.startswith("barrier.cta.sync"):
            return lambda: None
        if i.parts[1] == "arrive":
            return lambda: None  # counted when it was picked
        if "red" in i.parts and "or" in i.parts:
            get = self.read(i.operands[-1], "pred")

            def reduce() -> None:
                block = self.block[self.idx]
                some = np.bincount(block, np.broadcast_to(get(), self.lanes()), minlength=block.max() + 1) > 0
                self.write(i.operands[0], some[block])

            return reduce
        raise PtxError(f"unknown barrier: {i.text}")

    op_barrier = op_bar

    def op_shfl(self, i: Instruction) -> Callable[[], None]:
        if i.parts[2] not in ("bfly", "idx") or i.operands[3:] != ["31", "-1"]:
            raise PtxError(f"unknown shuffle: {i.text}")
        get, mask = self.read(i.operands[1], "b32"), int(i.operands[2])
        target = i.operands[0].split("|")[0]
        source = np.arange(32) ^ mask if i.parts[2] == "bfly" else np.full(32, mask)

        def run() -> None:
            v = get().reshape(-1, 32)
            self.write(target, v[:, source].reshape(-1))

        return run

    def op_vote(self, i: Instruction) -> Callable[[], None]:
        if i.opcode != "vote.sync.any.pred" or i.operands[2] != "-1":
            raise PtxError(f"unknown vote: {i.text}")
        get = self.read(i.operands[1], "pred")

        def run() -> None:
            v = np.broadcast_to(get(), self.lanes()).reshape(-1, 32)
            self.write(i.operands[0], np.repeat(v.any(1), 32))

        return run

    def op_mbarrier(self, i: Instruction) -> Callable[[], None]:
        return self.async_.mbarrier(i)

    def op_fence(self, i: Instruction) -> Callable[[], None]:
        return self.async_.fence(i)

    def op_wgmma(self, i: Instruction) -> Callable[[], None]:
        return self.async_.wgmma(i)

    def op_setmaxnreg(self, i: Instruction) -> Callable[[], None]:
        return lambda: None

    def op_redux(self, i: Instruction) -> Callable[[], None]:
        fn = {"min": np.min, "max": np.max}[i.parts[2]]
        get = self.read(i.operands[1], i.parts[-1])
        return lambda: self.write(i.operands[0], np.repeat(fn(get().reshape(-1, 32), axis=1), 32))

    def op_ldmatrix(self, i: Instruction) -> Callable[[], None]:
        names, get = self.vector(i.operands[0]), self.address(i.operands[1])
        if "x4" not in i.parts or len(names) != 4:
            raise PtxError(f"unknown ldmatrix: {i.text}")
        transposed = "trans" in i.parts

        def run() -> None:
            rows = get()
            self.space("shared", rows, 16)
            first = rows + self.block[self.idx] * self.shared_bytes
            data = self.shared[first[:, None] + np.arange(16)].view(np.uint16).reshape(-1, 4, 8, 8)
            for n, name in enumerate(names):
                self.write(name, fragments.ldmatrix(data[:, n], transposed).reshape(-1))

        return run

    def op_mma(self, i: Instruction) -> Callable[[], None]:
        shape, kind = i.parts[3], i.parts[7]
        d, a, bb, c = (self.vector(o) for o in i.operands)
        get_a, get_b = [self.read(n, "b32") for n in a], [self.read(n, "b32") for n in bb]
        get_c = [self.read(n, "f32") for n in c]

        def stack(get: list[Callable[[], Any]]) -> np.ndarray:
            return np.stack([np.broadcast_to(g(), self.lanes()).reshape(-1, 32) for g in get], -1)

        def run() -> None:
            self.products += self.lanes()[0] // 32
            out = fragments.mma(shape, kind, stack(get_a), stack(get_b), stack(get_c))
            for n, name in enumerate(d):
                self.write(name, np.ascontiguousarray(out[:, :, n]).reshape(-1))

        return run


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rounds to zero; anything divided by zero is all ones, as a GPU's remainders are unspecified."""
    safe = np.where(y == 0, 1, y).astype(x.dtype)
    if x.dtype.kind == "u":
        return np.where(y == 0, ~x.dtype.type(0), x // safe)
    q = np.abs(x) // np.abs(safe)
    return np.where((x < 0) != (safe < 0), -q, q).astype(x.dtype)


def _high64(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    signed = x.dtype.kind == "i"
    product = np.array([(int(a) * int(b)) >> 64 for a, b in np.broadcast(x, y)], dtype=object)
    return np.array([int(v) for v in product], np.int64 if signed else np.uint64)


def launch(
    kernel: Kernel, memory: Memory, parameters: bytes | Sequence[bytes], blocks: int, shared_bytes: int,
    order: str = "together", batch: int = 48,
) -> dict[str, int]:
    """Runs `blocks` blocks, `batch` of them side by side; returns how many instructions were stepped, and how many
    matrix products warps and warpgroups did."""
    parameters = [parameters] if isinstance(parameters, bytes) else parameters
    if [len(p) for p in parameters] != kernel.parameter_bytes:
        got = [len(p) for p in parameters]
        raise PtxError(f"expected parameters of {kernel.parameter_bytes} bytes, but got {got}")
    executed = products = 0
    with np.errstate(all="ignore"):
        for first in range(0, blocks, batch):
            machine = Machine(
                kernel, memory, parameters, range(first, min(first + batch, blocks)), shared_bytes, order, blocks
            )
            machine.run()
            if any(len(p[0]) for p in machine.pending):
                raise PtxError("a cp.async was never waited for")
            machine.async_.finish()
            executed += machine.executed
            products += machine.products
    return {"executed": executed, "products": products}
