"""What is asynchronous on sm_90a, from the PTX ISA manual: barriers in shared memory, tensor copies, wgmma.

A tensor map has NVIDIA's fields in a layout of our own (`encode`): the real one is opaque.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import fragments

if TYPE_CHECKING:
    from .ptx import Instruction, Machine

MAP_BYTES = 128
_MAP = struct.Struct("<II q5I4q5I")
_MAGIC = 0x70616D74


def encode(pointer: int, dims: Sequence[int], strides: Sequence[int], box: Sequence[int]) -> bytes:
    """A map of 16-bit elements, 128-byte swizzle, zeros outside: what cuTensorMapEncodeTiled is given, innermost first.

    The conditions are those of the driver's manual.
    """
    rank = len(dims)
    assert 1 <= rank <= 5 and len(strides) == rank - 1 and len(box) == rank
    assert pointer % 16 == 0 and all(0 < d < 1 << 32 for d in dims) and all(0 < b <= 256 for b in box)
    assert all(s % 16 == 0 and 0 < s < 1 << 40 for s in strides) and box[0] * 2 <= 128
    pad = [1] * (5 - rank)
    data = _MAP.pack(_MAGIC, rank, pointer, *dims, *pad, *strides, *[0] * (5 - rank), *box, *pad)
    return data.ljust(MAP_BYTES, b"\0")


@dataclass
class Barrier:
    """An mbarrier: phases complete when nothing is pending, neither arrivals nor bytes."""

    count: int
    pending: int
    bytes: int = 0
    phase: int = 0

    def settle(self) -> None:
        """Completes the phase."""
        if self.pending == 0 and self.bytes == 0:
            self.phase += 1
            self.pending = self.count


@dataclass
class Copy:
    """A tensor copy in flight."""

    barrier: tuple[int, int]
    where: np.ndarray
    data: np.ndarray


@dataclass
class Product:
    """A wgmma in flight."""

    text: str
    accumulators: list[str]
    accumulate: bool
    kind: str
    a: Any
    a_registers: list[tuple[str, np.ndarray]]
    b_where: np.ndarray
    shared: list[tuple[np.ndarray, np.ndarray]]


@dataclass
class Group:
    """Products of one warpgroup: those not yet committed, and committed ones in flight."""

    lanes: np.ndarray
    shadow: dict[str, np.ndarray] = field(default_factory=dict)
    open: list[Product] = field(default_factory=list)
    committed: list[list[Product]] = field(default_factory=list)


IN_FLIGHT = np.uint32(0x7FDEAD01)


class Async:
    """The asynchronous state of one launch."""

    def __init__(self, machine: Machine) -> None:
        self.m = machine
        self.barriers: dict[tuple[int, int], Barrier] = {}
        self.copies: list[Copy] = []
        self.groups: dict[int, Group] = {}
        self.arrived: dict[tuple[int, int], int] = {}
        self.unfenced = np.full(len(machine.shared), -1, np.int32)
        self.watched = any(i.parts[0] == "wgmma" for i in machine.kernel.code)

    def error(self, text: str) -> Exception:
        from .ptx import PtxError

        return PtxError(text)

    # Named barriers -------------------------------------------------------------------------------

    def operands(self, i: Instruction, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Number and thread count (None: all) of a bar instruction for some lanes."""
        names = list(i.operands)
        if "red" in i.parts:
            names = names[1:-1]
        values = []
        keep, self.m.idx = self.m.idx, lanes
        for name in names:
            values.append(np.broadcast_to(self.m.read(name, "u32")(), len(lanes)).astype(np.int64))
        self.m.idx = keep
        return values[0], values[1] if len(values) > 1 else None

    def barrier(self, i: Instruction, here: np.ndarray, alive: np.ndarray) -> np.ndarray:
        """Which lanes at a bar instruction may pass it."""
        lanes = np.nonzero(here)[0]
        name, count = self.operands(i, lanes)
        if "arrive" in i.parts:
            for block in np.unique(self.m.block[lanes]):
                for n in np.unique(name[self.m.block[lanes] == block]):
                    own = (self.m.block[lanes] == block) & (name == n)
                    key = (int(block), int(n))
                    self.arrived[key] = self.arrived.get(key, 0) + int(own.sum())
            return here
        passing = np.zeros_like(here)
        for block in np.unique(self.m.block[lanes]):
            for n in np.unique(name[self.m.block[lanes] == block]):
                own = (self.m.block[lanes] == block) & (name == n)
                key = (int(block), int(n))
                if count is None:
                    wanted = int((alive & (self.m.block == block)).sum())
                else:
                    wanted = int(count[own][0])
                got = int(own.sum()) + self.arrived.get(key, 0)
                if got > wanted:
                    raise self.error(f"{got} threads at a barrier of {wanted}: {i.text}")
                if got == wanted:
                    passing[lanes[own]] = True
                    self.arrived[key] = 0
        return passing

    # Barriers in shared memory --------------------------------------------------------------------

    def key(self, get: Callable[[], np.ndarray]) -> list[tuple[int, int]]:
        at = get()
        self.m.space("shared", at, 8)
        return list(zip(self.m.block[self.m.idx].tolist(), at.tolist(), strict=True))

    def find(self, key: tuple[int, int]) -> Barrier:
        found = self.barriers.get(key)
        if found is None:
            raise self.error(f"an mbarrier that is not initialised, at {key[1]} of block {key[0]}")
        return found

    def mbarrier(self, i: Instruction) -> Callable[[], None]:
        kind = i.parts[1]
        if kind == "init":
            get, count = self.m.address(i.operands[0]), self.m.read(i.operands[1], "u32")

            def init() -> None:
                for key, n in zip(self.key(get), np.broadcast_to(count(), self.m.lanes()), strict=True):
                    self.barriers[key] = Barrier(int(n), int(n))

            return init
        if kind == "arrive":
            get = self.m.address(i.operands[1])
            size = self.m.read(i.operands[2], "u32") if "expect_tx" in i.parts else None

            def arrive() -> None:
                extra = np.broadcast_to(size() if size else 0, self.m.lanes())
                for key, n in zip(self.key(get), extra, strict=True):
                    b = self.find(key)
                    b.bytes += int(n)
                    b.pending -= 1
                    if b.pending < 0:
                        raise self.error(f"more arrivals than the barrier counts: {i.text}")
                    b.settle()

            return arrive
        if kind == "try_wait":
            return lambda: self.m.write(i.operands[0], np.ones(self.m.lanes(), bool))
        raise self.error(f"unknown barrier: {i.text}")

    def ready(self, i: Instruction, here: np.ndarray) -> np.ndarray:
        """Lanes whose phase is complete: the others wait."""
        lanes = np.nonzero(here)[0]
        keep, self.m.idx = self.m.idx, lanes
        at = self.m.address(i.operands[1])()
        parity = np.broadcast_to(self.m.read(i.operands[2], "u32")(), len(lanes))
        self.m.idx = keep
        stride = self.m.shared_bytes
        codes, which = np.unique(self.m.block[lanes] * stride + at, return_inverse=True)
        phases = np.array([self.find((int(c) // stride, int(c) % stride)).phase & 1 for c in codes])
        out = np.zeros_like(here)
        out[lanes] = phases[which] != parity
        return out

    # Tensor copies --------------------------------------------------------------------------------

    def tensor_copy(self, i: Instruction) -> Callable[[], None]:
        if ".shared::cluster.global" not in i.opcode or "complete_tx::bytes" not in i.opcode:
            raise self.error(f"unknown copy: {i.text}")
        rank = int(i.opcode.split(".")[4][0])
        to, barrier = self.m.address(i.operands[0]), self.m.address(i.operands[2])
        found = re.match(r"\[(%\w+),\s*\{(.*)\}\]", i.operands[1])
        assert found, i.text
        source = self.m.read(found.group(1), "u64")
        coordinates = [self.m.read(c.strip(), "s32") for c in found.group(2).split(",")]
        assert len(coordinates) == rank

        def copy() -> None:
            at = to()
            if (at % 128).any():
                raise self.error(f"misaligned destination of {i.text}")
            places = np.stack([np.broadcast_to(c(), self.m.lanes()) for c in coordinates], 1).astype(np.int64)
            maps = np.broadcast_to(source(), self.m.lanes())
            for lane, key in enumerate(self.key(barrier)):
                self.issue(int(maps[lane]), places[lane], int(at[lane]), key, rank)

        return copy

    def issue(self, address: int, place: np.ndarray, at: int, key: tuple[int, int], rank: int) -> None:
        from .ptx import HEAP, PARAM, POISON

        if address % 64:
            raise self.error(f"a tensor map at {address:#x}")
        raw = self.m.parameters[address - PARAM : address - PARAM + MAP_BYTES].tobytes()
        magic, own_rank, pointer, *rest = _MAP.unpack(raw[: _MAP.size])
        if magic != _MAGIC or own_rank != rank:
            raise self.error("a tensor copy with a map that was not made, or of another rank")
        dims, strides, box = np.array(rest[:5]), np.array([2, *rest[5:9]]), rest[9:14]
        index = np.stack(np.meshgrid(*[np.arange(b) for b in reversed(box[:rank])], indexing="ij"), -1)
        index = index.reshape(-1, rank)[:, ::-1] + place  # innermost coordinate fastest, and first
        inside = ((index >= 0) & (index < dims[:rank])).all(1)
        where = pointer + (index * strides[:rank]).sum(1) - HEAP
        data = np.zeros(len(index), np.uint16)
        if inside.any():
            good = where[inside]
            heap = self.m.memory
            if good.min() < 0 or good.max() + 2 > len(heap.bytes) or not heap.valid[good].all():
                raise self.error("a tensor copy outside of every allocation")
            data[inside] = heap.bytes[good] | heap.bytes[good + 1].astype(np.uint16) << 8
        linear = at + 2 * np.arange(len(data))
        if linear[-1] + 2 > self.m.shared_bytes:
            raise self.error("a tensor copy past the end of shared memory")
        place2 = swizzle128(linear) + key[0] * self.m.shared_bytes
        self.m.shared[place2] = POISON
        self.m.shared[place2 + 1] = POISON
        self.unfenced[place2] = -1
        self.find(key)
        self.copies.append(Copy(key, place2, data))

    def land(self) -> bool:
        """Completes the copies in flight; false where there are none."""
        if not self.copies:
            return False
        for c in self.copies:
            self.m.shared[c.where] = c.data & 0xFF
            self.m.shared[c.where + 1] = c.data >> 8
            b = self.find(c.barrier)
            b.bytes -= 2 * len(c.data)
            b.settle()
        self.copies = []
        return True

    # Fences ---------------------------------------------------------------------------------------

    def wrote(self, where: np.ndarray, threads: np.ndarray) -> None:
        """Threads wrote bytes of shared memory."""
        if self.watched:
            self.unfenced[where] = threads

    def fence(self, i: Instruction) -> Callable[[], None]:
        if i.opcode == "fence.mbarrier_init.release.cluster":
            return lambda: None
        if i.opcode != "fence.proxy.async.shared::cta":
            raise self.error(f"unknown fence: {i.text}")

        def run() -> None:
            threads = np.zeros(self.m.count + 1, bool)
            threads[:-1][self.m.idx] = True
            self.unfenced[threads[self.unfenced]] = -1

        return run

    # wgmma ----------------------------------------------------------------------------------------

    def wgmma(self, i: Instruction) -> Callable[[], None]:
        kind = i.parts[1]
        if kind == "fence":
            return lambda: None
        if kind == "commit_group":
            return lambda: self.each(lambda g: (g.committed.append(g.open), setattr(g, "open", [])))
        if kind == "wait_group":
            keep = int(i.operands[0])
            return lambda: self.each(lambda g: self.complete(g, keep))
        shape = re.match(r"m64n(\d+)k16$", i.parts[4])
        if kind != "mma_async" or not shape or i.parts[5] != "f32" or i.parts[6] != i.parts[7]:
            raise self.error(f"unknown product: {i.text}")
        n, element = int(shape.group(1)), i.parts[6]
        d = self.m.vector(i.operands[0])
        from_registers = i.operands[1].startswith("{")
        wanted = 7 if from_registers else 8
        if len(i.operands) != wanted or len(d) != n // 2 or i.operands[4:6] != ["1", "1"]:
            raise self.error(f"unknown product: {i.text}")
        transposed = [int(x) for x in i.operands[6:]]
        accumulate = {"0": False, "1": True}[i.operands[3]]
        a_names = self.m.vector(i.operands[1])
        get_a = [self.m.read(x, "b32" if from_registers else "b64") for x in a_names]
        get_b = self.m.read(i.operands[2], "b64")
        if not from_registers and transposed[0]:
            raise self.error(f"unknown product: {i.text}")

        def issue() -> None:
            lanes = np.arange(self.m.count)[self.m.idx]
            self.m.products += len(lanes) // 128
            b_all = np.broadcast_to(get_b(), self.m.lanes())
            a_all = [np.broadcast_to(g(), self.m.lanes()) for g in get_a]
            for at in range(0, len(lanes), 128):
                own = lanes[at : at + 128]
                g = self.groups.setdefault(int(own[0]) // 128, Group(own))
                base = int(self.m.block[own[0]]) * self.m.shared_bytes
                read = []
                where_b = base + operand(self.same(b_all[at : at + 128]), n, 16, bool(transposed[-1]))
                read.append(where_b)
                registers = []
                if from_registers:
                    registers = [(x, v[at : at + 128].copy()) for x, v in zip(a_names, a_all, strict=True)]
                    a: Any = np.stack([v for _, v in registers], -1).reshape(4, 32, 4)
                else:
                    a = base + operand(self.same(a_all[0][at : at + 128]), 64, 16, False)
                    read.append(a)
                for where in read:
                    if where.min() < base or where.max() + 2 > base + self.m.shared_bytes:
                        raise self.error(f"shared access outside of {self.m.shared_bytes} bytes: {i.text}")
                    if (self.unfenced[where] >= 0).any():
                        raise self.error(f"shared memory that no fence.proxy.async made visible: {i.text}")
                for name in d:
                    if name not in g.shadow:
                        r = self.m.register(name)
                        g.shadow[name] = r[own].copy()
                        r[own] = IN_FLIGHT
                g.open.append(
                    Product(i.text, d, accumulate, element, a, registers, where_b,
                            [(w, self.halves(w)) for w in read])
                )  # fmt: skip

        return issue

    def same(self, v: np.ndarray) -> int:
        if (v != v[0]).any():
            raise self.error("a matrix descriptor that differs among the threads of a warpgroup")
        return int(v[0])

    def each(self, fn: Callable[[Group], Any]) -> None:
        lanes = np.arange(self.m.count)[self.m.idx]
        for at in range(0, len(lanes), 128):
            own = lanes[at : at + 128]
            fn(self.groups.setdefault(int(own[0]) // 128, Group(own)))

    def halves(self, where: np.ndarray) -> np.ndarray:
        return self.m.shared[where] | self.m.shared[where + 1].astype(np.uint16) << 8

    def complete(self, g: Group, keep: int) -> None:
        """Computes all groups but the last `keep`."""
        if g.open:
            raise self.error("a wgmma that was not committed before the wait")
        while len(g.committed) > keep:
            for p in g.committed.pop(0):
                self.compute(g, p)
        flying = {name for group in g.committed for p in group for name in p.accumulators}
        for name in [x for x in g.shadow if x not in flying]:
            r = self.m.register(name)
            if (r[g.lanes] != IN_FLIGHT).any():
                raise self.error(f"{name} was written while a wgmma was in flight")
            r[g.lanes] = g.shadow.pop(name)

    def compute(self, g: Group, p: Product) -> None:
        for name, v in p.a_registers:
            if (self.m.register(name)[g.lanes] != v).any():
                raise self.error(f"{name} was written while a wgmma read it: {p.text}")
        for where, v in p.shared:
            if (self.halves(where) != v).any():
                raise self.error(f"shared memory was written while a wgmma read it: {p.text}")
        b = decode(self.halves(p.b_where), p.kind)  # [n, 16]
        if p.a_registers:
            pieces = fragments.unpack(p.a, p.kind)  # [4 warps, 32, 8]
            a = np.zeros((4, 16, 16))
            a[:, fragments.A16[0], fragments.A16[1]] = pieces
            a = a.reshape(64, 16)
        else:
            a = decode(self.halves(p.a), p.kind)
        d = a @ b.T if np.isfinite(a).all() and np.isfinite(b).all() else (a[:, None] * b[None]).sum(-1)
        row, column = wgmma_accumulators(len(p.accumulators) * 2)
        for n, name in enumerate(p.accumulators):
            v = d[row[:, n], column[:, n]]
            if p.accumulate:
                v = v + g.shadow[name].view(np.float32)
            g.shadow[name] = v.astype(np.float32).view(np.uint32)

    def finish(self) -> None:
        """Nothing may be in flight at the end."""
        if self.copies or any(g.open or g.committed for g in self.groups.values()):
            raise self.error("a tensor copy or a wgmma was never waited for")
        if any(b.bytes for b in self.barriers.values()):
            raise self.error("a barrier that expects more bytes than came")


def decode(halves: np.ndarray, kind: str) -> np.ndarray:
    """16-bit elements as float64."""
    if kind == "f16":
        return halves.view(np.float16).astype(np.float64)
    return (halves.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def swizzle128(address: np.ndarray) -> np.ndarray:
    """The 128-byte swizzle of byte addresses: bits 4-6 are XORed with bits 7-9."""
    return address ^ ((address >> 3) & 0x70)


def operand(descriptor: int, outer: int, depth: int, transposed: bool) -> np.ndarray:
    """Byte addresses ``[outer, depth]`` of a 16-bit operand in shared memory, as its matrix descriptor says.

    PTX ISA, "Strides" and "Matrix descriptor format" of wgmma, in units of 16 bytes: with the 128-byte swizzle an
    operand whose summed dimension is contiguous is ((8, n), 2) : ((8, stride), 1); one whose outer dimension is, is
    ((8, n), (8, k)) : ((1, leading), (8, stride)).
    """
    start = (descriptor & 0x3FFF) << 4
    leading, stride = (descriptor >> 16 & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4
    if descriptor >> 62 != 1 or descriptor >> 49 & 7:
        raise ValueError(f"expected the 128-byte swizzle without base offset, but got {descriptor:#x}")
    x, k = np.meshgrid(np.arange(outer), np.arange(depth), indexing="ij")
    if transposed:
        linear = (x % 64) * 2 + (x // 64) * leading + (k % 8) * 128 + (k // 8) * stride
    else:
        linear = (x % 8) * 128 + (x // 8) * stride + k * 2
    return swizzle128(start + linear)


def wgmma_accumulators(n: int) -> tuple[np.ndarray, np.ndarray]:
    """(row, column) ``[128, n / 2]`` of the registers d of m64nNk16."""
    thread, i = np.arange(128)[:, None], np.arange(n // 2)[None]
    row = 16 * (thread // 32) + (thread % 32) // 4 + 8 * (i // 2 % 2)
    column = 8 * (i // 4) + 2 * (thread % 4) + i % 2
    return np.broadcast_to(row, (128, n // 2)), np.broadcast_to(column, (128, n // 2))
