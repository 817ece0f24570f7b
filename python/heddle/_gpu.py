"""GPU kernels without a compiler: read a bundle, check a call, fill the argument block.

Pure Python on purpose: a machine that runs bundles needs neither LLVM nor the extension module. `pack` knows nothing of
a device, so that tests can run the same block through an interpreter.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ._maps import TensorMap

LIMIT = 1 << 30
"""Sizes and positions are below this in magnitude."""

ITEM_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "f64": 8, "i1": 1, "i8": 1, "i32": 4, "i64": 8, "index": 8}

_HEADER, _RECORD, _MEMORY = 16, 9, 9
_SECTION_BYTES = 16 << 20
"""Keys and values of the heads that are worked on at a time: half of what a large device's second-level cache holds."""


@dataclass(frozen=True)
class View:
    """A tensor in device memory: address, the dialect's name of its dtype, sizes and strides in elements."""

    pointer: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Bundle:
    """An artefact for a GPU (docs/abi.md), checked."""

    manifest: dict[str, Any]
    ptx: bytes
    cubins: tuple[bytes, ...]
    """None where there was no ptxas; a kernel's manifest says which one holds it."""
    parts: tuple[Bundle, ...] = ()
    """The kernels of a program."""

    @property
    def is_program(self) -> bool:
        """Several kernels, one after another."""
        return bool(self.manifest["format"] == 2)

    @staticmethod
    def parse(data: bytes) -> Bundle:
        """Reads the bytes of an artefact; raises ValueError on damage or one for another kind of machine."""
        if len(data) < 56 or data[:8] != b"HEDDLE\0\1":
            raise ValueError("expected the bytes of a Heddle artefact, but got something else")
        manifest_size, object_size = struct.unpack_from("<QQ", data, 8)
        if len(data) != 56 + manifest_size + object_size or hashlib.sha256(data[56:]).digest() != data[24:56]:
            raise ValueError("expected an undamaged artefact, but its size or checksum is wrong")
        manifest = json.loads(data[56 : 56 + manifest_size])
        gpu = manifest.get("gpu")
        if gpu is None:
            raise ValueError(f"expected an artefact for a GPU, but got one for {manifest.get('target')}")
        code = data[56 + manifest_size :]
        if manifest["format"] == 2:
            parts = []
            for size in manifest["kernels"]:
                parts.append(Bundle.parse(code[:size]))
                code = code[size:]
            return Bundle(manifest, b"", (), tuple(parts))
        sizes = gpu.get("cubins", [gpu["cubin_bytes"]] if gpu["cubin_bytes"] else [])
        if gpu["ptx_bytes"] + gpu["cubin_bytes"] != len(code) or sum(sizes) != gpu["cubin_bytes"]:
            raise ValueError("expected PTX and cubins of the manifest's sizes, but got others")
        at, cubins = gpu["ptx_bytes"], []
        for size in sizes:
            cubins.append(code[at : at + size])
            at += size
        return Bundle(manifest, code[: gpu["ptx_bytes"]], tuple(cubins))


@dataclass(frozen=True)
class Step:
    """One kernel of a launch."""

    name: str
    blocks: int
    threads: int
    shared_bytes: int


@dataclass(frozen=True)
class Plan:
    """What a call launches: `block` is the argument block, in which word 9 is still to be the workspace's address.

    `maps` are the kernels' second parameter, 128 bytes each; where there are none, there is no such parameter.
    `otherwise` has the steps to take where the driver refuses one of the maps: kernels without that parameter.
    """

    steps: tuple[Step, ...]
    block: list[int]
    workspace_bytes: int
    maps: tuple[TensorMap, ...] = ()
    otherwise: tuple[Step, ...] = ()

    def parameters(self, workspace: int = 0) -> bytes:
        """The argument block's bytes."""
        words = list(self.block)
        words[_MEMORY] = workspace
        return struct.pack(f"<{len(words)}q", *words)


def _bits(x: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", x))[0])


class Packer:
    """Checks one call against a manifest and fills the argument block."""

    def __init__(self, manifest: dict[str, Any], args: Sequence[Any], results: Sequence[View | None]) -> None:
        self.formal = manifest["args"]
        if len(args) != len(self.formal):
            names = ", ".join(a["name"] for a in self.formal)
            raise ValueError(f"expected {len(self.formal)} arguments ({names}), but got {len(args)}")
        if len(results) != len(manifest["results"]):
            raise ValueError(f"expected {len(manifest['results'])} results, but got {len(results)}")
        self.manifest, self.args, self.results = manifest, args, results
        self.by_role: dict[tuple[str, int], int] = {}
        for n, formal in enumerate(self.formal):
            for role in formal["roles"]:
                self.by_role.setdefault((role["role"], role.get("segment", 0)), n)
        q = self.view(self.by_role["q", 0])
        if len(q.shape) != 4:
            raise ValueError(f"expected q of shape [B, H, N, D], but got {list(q.shape)}")
        self.batch, self.heads, self.queries, self.width = q.shape

    def view(self, n: int) -> View:
        """Argument n, a tensor."""
        x, formal = self.args[n], self.formal[n]
        if not isinstance(x, View):
            raise TypeError(f"expected a tensor for {formal['name']}, but got {type(x).__name__}")
        return x

    def keys(self, segment: int) -> int:
        """Nk of a segment."""
        return self.view(self.by_role["v", segment]).shape[2]

    def check_tensor(self, name: str, x: View, dtype: str, dims: Sequence[int]) -> None:
        """Dtype, rank, static sizes and magnitude."""
        if x.dtype != dtype:
            raise TypeError(f"expected {name} to be {dtype}, but got {x.dtype}: convert it to {dtype}")
        if len(x.shape) != len(dims) or any(d >= 0 and d != s for d, s in zip(dims, x.shape, strict=True)):
            wanted = ", ".join("?" if d < 0 else str(d) for d in dims)
            raise ValueError(f"expected {name} to have shape [{wanted}], but got {list(x.shape)}")
        if any(s >= LIMIT for s in x.shape):
            raise ValueError(f"expected sizes of {name} below 2^30, but got {list(x.shape)}")

    def size(self, name: str, what: str, actual: int, *allowed: int) -> None:
        """One size against what follows from the others."""
        if actual not in allowed:
            wanted = " or ".join(str(a) for a in dict.fromkeys(allowed))
            raise ValueError(f"expected {name} to have {what} {wanted}, but got {actual}")

    def axis(self, name: str, segment: int) -> int:
        """The size that an axis means: b, h, q or k; ``q/64`` rounds up, ``q+1`` and ``q/64+1`` add."""
        name, _, more = name.partition("+")
        letter, _, divisor = name.partition("/")
        rows = {"b": self.batch, "h": self.heads, "q": self.queries, "k": self.keys(segment)}[letter]
        return -(-rows // int(divisor or 1)) + int(more or 0)

    def check_roles(self, n: int) -> int:
        """Sizes of an argument by its roles; returns the dimensions that broadcast, as bits."""
        formal, x = self.formal[n], self.view(n)
        broadcast, name = 0, formal["name"]
        for role in formal["roles"]:
            kind, segment = role["role"], role.get("segment", 0)
            if kind in ("k", "v", "dot_k", "dot_q", "relative"):
                self.size(name, "batch", x.shape[0], self.batch, 1)
                if kind == "relative" and x.shape[2] < 1:
                    raise ValueError(f"expected at least one row of {name}, but got shape {list(x.shape)}")
                if kind == "dot_q":
                    self.size(name, "heads", x.shape[1], self.heads)
                    self.size(name, "queries", x.shape[2], self.queries)
                else:
                    if kind != "relative":
                        self.size(name, "keys", x.shape[2], self.keys(segment))
                    if x.shape[1] < 1 or self.heads % x.shape[1]:
                        raise ValueError(
                            f"expected the number of heads of {name} to divide the {self.heads} of q, "
                            f"but got {x.shape[1]}"
                        )
            elif kind == "sink":
                self.size(name, "heads", x.shape[0], self.heads, 1)
            elif kind == "operand":
                if role.get("check") == "key_starts":
                    self.size(name, "starts", x.shape[0], self.view(role["pointers"]).shape[0])
                for d, axis in enumerate(role.get("axes", [])):
                    if axis == ".":
                        continue
                    shared = [1] if axis in ("b", "h") else []
                    if axis == "h":
                        shared.append(self.view(self.by_role["v", segment]).shape[1])
                    wanted = (self.axis(axis, segment), *shared)
                    if x.shape[d] not in wanted:
                        what = {"b": "batch", "h": "heads", "q": "queries", "k": "keys"}[axis[0]]
                        raise ValueError(
                            f"expected dimension {d} of {name} ({what}) to be {' or '.join(map(str, wanted))}, "
                            f"but got {x.shape[d]}"
                        )
                    broadcast |= 1 << d
            if kind in ("q", "k", "v", "dot_q", "dot_k", "relative", "sink"):
                broadcast |= 1
        return broadcast

    @staticmethod
    def record(x: View, broadcast: int) -> list[int]:
        """Address, four sizes, four strides; a dimension that broadcasts has stride 0."""
        sizes, strides = [1] * 4, [0] * 4
        for d, (size, stride) in enumerate(zip(x.shape, x.strides, strict=True)):
            sizes[d] = size
            strides[d] = 0 if size == 1 and broadcast >> d & 1 else stride
        return [x.pointer, *sizes, *strides]

    def scalar(self, n: int) -> list[int]:
        """The record of a scalar: its value stands in the second word."""
        formal, x = self.formal[n], self.args[n]
        if formal["type"] in ("f32", "f64", "f16", "bf16"):
            value = float(x)
            if any(r["role"] == "scale" for r in formal["roles"]) and value - value != 0:
                raise ValueError(f"expected {formal['name']} to be finite, but got {value}")
            return [0, _bits(value), *[0] * 7]
        value = int(x)
        for role in formal["roles"]:
            if value < role.get("min", value) or value > role.get("max", value):
                raise ValueError(f"expected {formal['name']} to be at least {role.get('min')}, but got {value}")
        if not -LIMIT < value < LIMIT:
            raise ValueError(f"expected {formal['name']} to be below 2^30 in magnitude, but got {value}")
        return [0, value, *[0] * 7]

    def offset(self, source: dict[str, Any], end: int) -> list[int]:
        """Address and stride of a number per batch, or 0 and the number itself."""
        kind = source["kind"]
        if kind != "arg":
            return [0, source["value"] if kind == "value" else end if kind == "end" else 0]
        n = source["arg"]
        x, name = self.args[n], self.formal[n]["name"]
        if not isinstance(x, View):
            if not -LIMIT < int(x) < LIMIT:
                raise ValueError(f"expected {name} to be below 2^30 in magnitude, but got {int(x)}")
            return [0, int(x)]
        if x.dtype != "i64" or len(x.shape) != 1 or x.shape[0] not in (1, self.batch):
            raise ValueError(
                f"expected an integer or int64 of shape [{self.batch}] for {name}, but got {x.dtype} {list(x.shape)}"
            )
        return [x.pointer, x.strides[0] if x.shape[0] > 1 else 0]

    def needs_offset(self) -> None:
        """An offset that is left out where it matters."""
        if self.manifest["q_offset"]["kind"] != "none" or self.queries == 0:
            return
        for g, segment in enumerate(self.manifest["segments"]):
            keys = self.keys(g)
            if segment.get("needs_q_offset", True) and keys not in (self.queries, 0):
                raise ValueError(
                    f"expected q_offset (Nq = {self.queries} differs from Nk = {keys} and the pattern depends on the "
                    'query\'s position): give the position of the first query, 0 or for example "end" (Nk - Nq)'
                )

    def plan(self) -> Plan:
        """Checks everything and gives the launch."""
        offsets_only = {"q_offset", "k_offset"}
        splits, per_split = self.splits()
        together = self.heads_together()
        block = [self.batch, self.heads, self.queries, 0, 0, 1, together, per_split, splits, 0, 0]
        block += [self.section(together), *[0] * (_HEADER - 12)]
        for n, formal in enumerate(self.formal):
            if formal["scalar"]:
                block += self.scalar(n)
                continue
            roles = {r["role"] for r in formal["roles"]}
            if roles and roles <= offsets_only:
                x = self.args[n]
                block += self.record(x, 0) if isinstance(x, View) else [0] * _RECORD
                continue
            self.check_tensor(formal["name"], self.view(n), formal["type"], formal["dims"])
            block += self.record(self.view(n), self.check_roles(n))
        dv = self.view(self.by_role["v", 0]).shape[3]
        for formal, result in zip(self.manifest["results"], self.results, strict=True):
            if result is None:
                if formal["role"] == "out":
                    raise ValueError("expected out, but got none")
                block += [0] * _RECORD
                continue
            self.check_tensor(formal["role"], result, formal["type"], formal["dims"])
            wanted = (self.batch, self.heads, self.queries) + ((dv,) if formal["role"] == "out" else ())
            if result.shape != wanted:
                raise ValueError(f"expected {formal['role']} of shape {list(wanted)}, but got {list(result.shape)}")
            block += self.record(result, 0)
        self.needs_offset()
        block += self.offset(self.manifest["q_offset"], self.keys(0) - self.queries)
        for segment in self.manifest["segments"]:
            block += self.offset(segment["k_offset"], 0)
        gpu = self.manifest["gpu"]
        rows = self.batch * self.heads * self.queries
        maps = self.maps() if splits == together == 1 else ()
        plain = self.steps("kernels", splits, together)
        steps = self.steps("tensor_kernels", splits, together) if maps else plain
        words = splits * gpu["state_words"] if splits > 1 else gpu["workspace_words"]
        return Plan(steps, block, rows * words * 4, maps, plain if maps else ())

    def steps(self, which: str, splits: int, together: int) -> tuple[Step, ...]:
        """The kernels of one kind, with their grids."""
        out = []
        for kernel in self.manifest["gpu"][which]:
            if kernel.get("merge"):
                blocks = self.batch * self.heads * self.queries if splits > 1 else 0
            else:
                span = kernel["span"]
                leads = 1 if together > 1 else (self.queries + 2 * span - 2) // span if self.queries else 0
                blocks = self.batch * (self.heads // together) * leads * kernel["inner"] * splits
            if blocks >= 1 << 31:
                raise ValueError(f"expected fewer than 2^31 blocks, but got {blocks}")
            if blocks:
                out.append(Step(kernel["name"], blocks, kernel["threads"], kernel["shared_bytes"]))
        return tuple(out)

    def section(self, together: int) -> int:
        """Heads (of all batches) whose keys and values are worked on at a time, all that share theirs together."""
        size, key_heads = 0, 1
        for g in range(len(self.manifest["segments"])):
            for n in (self.by_role.get(("k", g)), self.by_role.get(("v", g))):
                if n is not None:
                    x = self.view(n)
                    size += x.shape[2] * x.shape[3] * ITEM_BYTES[x.dtype]
                    key_heads = max(key_heads, x.shape[1])
        shared = max(self.heads // together // key_heads, 1)
        everything, sections = max(self.batch * self.heads, 1), max(_SECTION_BYTES // max(size, 1), 1)
        return min(sections * shared, everything) if sections < everything else everything

    def maps(self) -> tuple[TensorMap, ...]:
        """The tensor maps; none where a tensor has none (the kernels without maps are for that)."""
        recipes = self.manifest["gpu"].get("tensor_maps", [])
        made = [TensorMap.make(self.view(r["arg"]), r["step"], r["rows"]) for r in recipes]
        return tuple(m for m in made if m is not None) if None not in made else ()

    def heads_together(self) -> int:
        """Heads whose queries share a tile: a divisor of the number that share all their keys and values."""
        if not self.manifest.get("heads_share_tiles") or not self.queries or not self.heads:
            return 1
        shared = self.heads
        for n, formal in enumerate(self.formal):
            if any(r["role"] in ("k", "v", "dot_k") for r in formal["roles"]):
                shared = math.gcd(shared, self.heads // max(self.view(n).shape[1], 1))
        most = min(self.manifest["lanes"] // self.queries, shared)
        while most > 1 and shared % most:
            most -= 1
        return max(most, 1)

    def splits(self) -> tuple[int, int]:
        """Into how many splits the keys are cut, and keys of each: by the numbers of queries and keys alone."""
        least = self.manifest.get("keys_per_split", 0)
        keys = max(self.keys(g) for g in range(len(self.manifest["segments"])))
        if not least or keys <= least or self.queries > self.manifest["lanes"]:
            return 1, LIMIT
        count = -(-keys // least)
        each = least * -(-count // self.manifest["max_splits"])
        return -(-keys // each), each


_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add, "*": operator.mul, "/": operator.floordiv, "%": operator.mod, "^": lambda x, y: -(-x // y),
}  # fmt: skip


def _evaluate(text: str, shapes: Sequence[Sequence[int]]) -> int:
    """A postfix expression of sizes (docs/abi.md)."""
    stack: list[int] = []
    for token in text.split():
        if token[0] == "a":
            n, axis = map(int, token[1:].split("."))
            stack.append(shapes[n][axis] if axis < len(shapes[n]) else 1)
        elif token in _OPERATORS:
            y, x = stack.pop(), stack.pop()
            stack.append(0 if y == 0 and token not in "+*" else _OPERATORS[token](x, y))
        else:
            stack.append(int(token))
    return stack[0]


def _shapes(args: Sequence[Any]) -> list[tuple[int, ...]]:
    return [x.shape if isinstance(x, View) else () for x in args]


def infer(bundle: Bundle, args: Sequence[Any]) -> list[tuple[str, tuple[int, ...]]]:
    """Dtype and shape of each result for these arguments (`View`s and numbers); checks what sizes must agree."""
    values = _infer_all(bundle, args) if bundle.is_program else []
    if bundle.is_program:
        return [values[r["value"]] for r in bundle.manifest["results"]]
    return _infer_one(bundle.manifest, args)


def _check_form(formal: dict[str, Any], x: Any) -> None:
    if formal["scalar"]:
        if isinstance(x, View):
            raise TypeError(f"expected a number for {formal['name']}, but got a tensor")
        return
    if not isinstance(x, View):
        if len(formal["dims"]) == 1 and formal["type"] in ("i64", "i32"):
            return  # one offset for all batches
        raise TypeError(f"expected a tensor for {formal['name']}, but got {type(x).__name__}")
    dims = formal["dims"]
    if x.dtype != formal["type"]:
        raise TypeError(f"expected {formal['name']} to be {formal['type']}, but got {x.dtype}: convert it")
    if len(x.shape) != len(dims) or any(d >= 0 and d != s for d, s in zip(dims, x.shape, strict=True)):
        wanted = ", ".join("?" if d < 0 else str(d) for d in dims)
        raise ValueError(f"expected {formal['name']} to have shape [{wanted}], but got {list(x.shape)}")
    if any(n >= LIMIT for n in x.shape):
        raise ValueError(f"expected sizes of {formal['name']} below 2^30, but got {list(x.shape)}")


def _infer_one(manifest: dict[str, Any], args: Sequence[Any]) -> list[tuple[str, tuple[int, ...]]]:
    formal = manifest["args"]
    if len(args) != len(formal):
        raise ValueError(f"expected {len(formal)} arguments, but got {len(args)}")
    for f, x in zip(formal, args, strict=True):
        _check_form(f, x)
    shapes = _shapes(args)
    if manifest.get("kind") != "op":
        roles = {(r["role"], r.get("segment", 0)): n for n, f in reversed(list(enumerate(formal))) for r in f["roles"]}
        full = (*shapes[roles["q", 0]][:3], shapes[roles["v", 0]][3])
        return [(r["type"], full if r["role"] == "out" else full[:3]) for r in manifest["results"]]
    for check in manifest["checks"]:
        n, axis, kind = check["arg"], check["axis"], check["kind"]
        got, want = shapes[n][axis], _evaluate(check["size"], shapes)
        if got == want or (kind == "or_one" and got == 1) or (kind == "divides" and got > 0 and want % got == 0):
            continue
        text = f"a divisor of {want}" if kind == "divides" else f"1 or {want}" if kind == "or_one" else str(want)
        raise ValueError(
            f"expected dimension {axis} of {formal[n]['name']} to be {text}, but got {got} (shape {list(shapes[n])})"
        )
    out = []
    for r in manifest["results"]:
        shape = tuple(max(_evaluate(size, shapes), 0) for size in r["sizes"])
        if any(n >= LIMIT or (d >= 0 and d != n) for n, d in zip(shape, r["dims"], strict=True)):
            raise ValueError(f"expected a result of shape {r['dims']}, but the arguments give {list(shape)}")
        out.append((r["type"], shape))
    return out


def _dense(pointer: int, dtype: str, shape: Sequence[int]) -> View:
    strides: list[int] = []
    step = 1
    for n in reversed(shape):
        strides.insert(0, step)
        step *= max(n, 1)
    return View(pointer, dtype, tuple(shape), tuple(strides))


def _infer_all(bundle: Bundle, args: Sequence[Any]) -> list[tuple[str, tuple[int, ...]]]:
    """Dtype and shape of every value of a program: the arguments, then what the steps give."""
    for f, x in zip(bundle.manifest["args"], args, strict=True):
        _check_form(f, x)
    values: list[Any] = list(args)
    for step in bundle.manifest["steps"]:
        given = [values[v] for v in step["args"]]
        values += [_dense(0, d, s) for d, s in _infer_one(bundle.parts[step["kernel"]].manifest, given)]
    return [(v.dtype, v.shape) if isinstance(v, View) else ("", ()) for v in values]


def places(bundle: Bundle, args: Sequence[Any]) -> tuple[dict[int, int], int]:
    """Where each value between a program's steps lies in the memory for them, and the bytes of it.

    Two values share a place where no step needs both.
    """
    values, results = _infer_all(bundle, args), {r["value"] for r in bundle.manifest["results"]}
    last = {v: n for n, step in enumerate(bundle.manifest["steps"]) for v in (*step["results"], *step["args"])}
    offsets: dict[int, int] = {}
    live: list[tuple[int, int, int]] = []
    total = 0
    for n, step in enumerate(bundle.manifest["steps"]):
        live = sorted(p for p in live if last[p[2]] >= n)
        for v in step["results"]:
            if v in results:
                continue
            dtype, shape = values[v]
            size, begin = ITEM_BYTES[dtype], 0
            for d in shape:
                size *= d
            size = -(-max(size, 1) // 256) * 256
            for first, end, _ in live:
                if first >= begin + size:
                    break
                begin = max(begin, end)
            live = sorted([*live, (begin, begin + size, v)])
            offsets[v] = begin
            total = max(total, begin + size)
    return offsets, total


def pack_op(manifest: dict[str, Any], args: Sequence[Any], results: Sequence[View | None]) -> Plan:
    """`pack` of an op on whole tensors."""
    wanted = _infer_one(manifest, args)
    shapes, block = _shapes(args), [0] * _HEADER
    repeats = [0] * len(args)
    for check in manifest["checks"]:
        if check["kind"] == "or_one":
            repeats[check["arg"]] |= 1 << check["axis"]
    for n, x in enumerate(args):
        if isinstance(x, View):
            block += Packer.record(x, repeats[n])
        else:
            value = _bits(float(x)) if manifest["args"][n]["type"] in ("f32", "f64", "f16", "bf16") else int(x)
            block += [0, value, *[0] * 7]
    for n, ((dtype, shape), x) in enumerate(zip(wanted, results, strict=True)):
        if x is None:
            raise ValueError(f"expected result {n}, but got none")
        if x.dtype != dtype or x.shape != shape:
            raise ValueError(f"expected result {n} to be {dtype} {list(shape)}, but got {x.dtype} {list(x.shape)}")
        block += Packer.record(x, 0)
    tasks = max(_evaluate(manifest["tasks"], shapes), 0)
    if all(0 in shape for _, shape in wanted):
        tasks = 0
    block[0] = tasks
    kernel = manifest["gpu"]["kernels"][0]
    blocks = min(tasks, kernel["max_blocks"])
    steps = (Step(kernel["name"], blocks, kernel["threads"], kernel["shared_bytes"]),) if blocks else ()
    return Plan(steps, block, blocks * kernel["block_bytes"])


def plans(
    bundle: Bundle, args: Sequence[Any], results: Sequence[View | None], between: int = 0
) -> list[tuple[Bundle, Plan]]:
    """The launches of one call, in order: a kernel each. `between`: address of the memory that `places` asks for."""
    if not bundle.is_program:
        return [(bundle, pack(bundle.manifest, args, results))]
    if len(args) != len(bundle.manifest["args"]) or len(results) != len(bundle.manifest["results"]):
        raise ValueError(
            f"expected {len(bundle.manifest['args'])} arguments and {len(bundle.manifest['results'])} results, "
            f"but got {len(args)} and {len(results)}"
        )
    shapes, (offsets, _) = _infer_all(bundle, args), places(bundle, args)
    values: list[Any] = [*args, *[None] * (len(shapes) - len(args))]
    for v, offset in offsets.items():
        values[v] = _dense(between + offset, *shapes[v])
    for formal, x in zip(bundle.manifest["results"], results, strict=True):
        if x is None or (x.dtype, x.shape) != shapes[formal["value"]]:
            raise ValueError(f"expected a result of {shapes[formal['value']]}, but got {x}")
        values[formal["value"]] = x
    out = []
    for step in bundle.manifest["steps"]:
        part = bundle.parts[step["kernel"]]
        given, made = [values[v] for v in step["args"]], [values[v] for v in step["results"]]
        out.append((part, pack(part.manifest, given, made)))
    return out


def pack(manifest: dict[str, Any], args: Sequence[Any], results: Sequence[View | None]) -> Plan:
    """The launch of one call; raises ValueError or TypeError with what was expected and what came.

    Parameters
    ----------
    args
        A `View` for each tensor argument, a number for each scalar.
    results
        A `View` for each result; None for an lse that is not wanted.
    """
    if manifest.get("kind") == "op":
        return pack_op(manifest, args, results)
    return Packer(manifest, args, results).plan()
