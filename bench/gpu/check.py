#!/usr/bin/env python3
"""Checks and times GPU bundles on a machine with a GPU: needs torch and the folder that `pack.py` made, no compiler.

    python3 check.py [--out FOLDER] [--seconds 500] [--dry-run]

First correctness: every example and random pattern on fresh inputs, systems of several ops on packed ones, results
poisoned before the launch, against float64; where a bundle has kernels on tensor copies, once with them and once
without. Then times by device events, medians, of launches that a CUDA graph replays with a cold second-level cache,
side by side with torch's SDPA backends, compiled FlexAttention and a rewrite by hand, and the bandwidth of a copy,
which bounds decoding. Prints what it finds at once and keeps results.json up to date.

All of it runs in a process of its own, which is killed where it does not answer and started again behind the case
that it was at: a kernel that hangs or loses the context is one line of the report.

`--dry-run` needs no GPU: it packs every launch, timed ones too, on a driver that does nothing, and compares no numbers.
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from heddle_gpu import _cuda, _gpu
from heddle_gpu._cuda import GpuKernel

HERE = Path(__file__).resolve().parent
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
ALLOWED = {"f32": 1e-5, "f16": 1.5e-3, "bf16": 1.2e-2}
"""Largest |out - ref| / |ref| over a tensor (Frobenius norms)."""

BIGBIRD = 64
PATIENCE, TIMING_PATIENCE = 60.0, 150.0
"""Seconds without an answer after which a case hangs; FlexAttention is compiled in the second."""
MOST_STARTS = 16
SAMPLED = 48
"""Queries of a timed kernel that are compared at each end, and between."""
SHORT = (100, 128, 777)
"""Lengths at which timed kernels are compared first: a tile and less, a ring that wraps."""
COLD_BYTES = 256 << 20
"""Written before each timed launch: more than a second-level cache, and time to queue the launch meanwhile."""
DEVICE = "cuda"
DRY = False


class Notes:
    """A driver that does nothing, for a dry run; a device of capability 9.0. What the driver's manual forbids is an
    error here."""

    def __init__(self) -> None:
        self.launches = self.maps = 0
        self.shared: dict[int, int] = {}
        """Dynamic shared memory that a function may take."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *args: 0

    def cuDeviceGetAttribute(self, value: Any, attribute: Any, device: Any) -> int:
        value._obj.value = {75: 9, 76: 0}[attribute.value]
        return 0

    def cuModuleLoadData(self, module: Any, image: Any) -> int:
        if ctypes.string_at(image, 4) != b"\x7fELF":
            return 200
        module._obj.value = 1
        return 0

    def cuModuleGetFunction(self, function: Any, module: Any, name: Any) -> int:
        function._obj.value = len(self.shared) + 1
        self.shared[function._obj.value] = 48 * 1024
        return 0

    def cuFuncSetAttribute(self, function: Any, attribute: Any, value: Any) -> int:
        if attribute.value != 8 or value.value > 227 * 1024:
            return 1
        self.shared[function.value] = value.value
        return 0

    def cuTensorMapEncodeTiled(
        self, into: Any, dtype: Any, rank: Any, address: Any, dims: Any, strides: Any, box: Any, steps: Any,
        interleave: Any, swizzle: Any, promotion: Any, fill: Any,
    ) -> int:  # fmt: skip
        n = rank.value
        rules = {
            "a map at a multiple of 64": into.value % 64 == 0,
            "1 to 5 dimensions": 1 <= n <= 5,
            "an address at a multiple of 16": address.value % 16 == 0,
            "sizes of 1 to 2^32": all(1 <= d <= 1 << 32 for d in dims),
            "strides that are multiples of 16 below 2^40": all(x % 16 == 0 and 0 < x < 1 << 40 for x in strides),
            "boxes of 1 to 256": all(1 <= x <= 256 for x in box),
            "steps of 1": all(x == 1 for x in steps),
            "a box as wide as the swizzle": swizzle.value == 3 and box[0] * 2 <= 128 and box[0] * 2 % 16 == 0,
            "no interleaving": interleave.value == 0,
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise ValueError(f"expected {', '.join(broken)}, but got {[*dims]}, {[*strides]}, {[*box]}")
        self.maps += 1
        return 0

    def cuLaunchKernel(self, function: Any, blocks: int, *rest: Any) -> int:
        self.launches += 1
        fits = 0 < rest[2] <= 1024 and rest[2] % 32 == 0 and rest[5] <= self.shared[function.value]
        return 0 if 0 < blocks < 1 << 31 and fits else 1


def no_gpu() -> Notes:
    """Sets everything up for a dry run."""
    global DEVICE, DRY
    DEVICE, DRY = "cpu", True
    notes = Notes()
    api = _cuda.Driver(notes)

    def view(x: Any, name: str, device: int | None = None) -> _gpu.View:
        dtype = _cuda._TORCH[str(x.dtype).rsplit(".", 1)[-1]]
        return _gpu.View(x.data_ptr(), dtype, tuple(x.shape), tuple(x.stride()))

    _cuda.driver = lambda: api  # type: ignore[assignment]
    _cuda.view = view
    _cuda.on_gpu = lambda x: hasattr(x, "data_ptr")
    _cuda.stream_of = lambda x: 0
    return notes


def finish() -> None:
    """Waits for the GPU."""
    if not DRY:
        torch.cuda.synchronize()


def randn(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Fresh normal numbers on the GPU."""
    if DRY:
        return torch.empty(*shape, dtype=dtype)
    return torch.randn(*shape, device=DEVICE, dtype=torch.float32).to(dtype)


def reference(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, live: torch.Tensor, bias: torch.Tensor | None = None,
    sink: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """The formula in float64; `live` is [.., Hq, Nq, Nk]."""
    q, k, v = (x.double() for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    s = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    s = s if bias is None else s + bias.double()
    s = s.masked_fill(~live, float("-inf"))
    m = s.amax(-1, keepdim=True)
    if sink is not None:
        m = torch.maximum(m, sink.double().view(1, -1, 1, 1))
    m = torch.where(torch.isinf(m), torch.zeros_like(m), m)
    w = torch.exp(s - m)
    z = w.sum(-1, keepdim=True)
    if sink is not None:
        z = z + torch.exp(sink.double().view(1, -1, 1, 1) - m)
    return torch.where(z == 0, 0.0, (w @ v) / torch.where(z == 0, 1.0, z))


def judge(name: str, out: torch.Tensor, want: torch.Tensor, dtype: str) -> str:
    """An empty text, or what is wrong, how much of it and where it begins."""
    if DRY:
        return "" if out.shape == want.shape else f"{name}: shape {list(out.shape)}, not {list(want.shape)}"

    def place(bad: torch.Tensor) -> str:
        first = bad.nonzero()[0].tolist() if bad.any() else "none alone"
        return f"{int(bad.sum())} of {bad.numel()} elements, first {first}"

    bad = ~torch.isfinite(out)
    if bad.any():
        return f"{name}: not finite, or never written: {place(bad)}"
    size = want.norm().item()
    error = (out.double() - want).norm().item() / (size or 1.0)
    if error <= ALLOWED[dtype]:
        return ""
    far = (out.double() - want).abs() > 8 * ALLOWED[dtype] * (size or 1.0) / max(want.numel(), 1) ** 0.5
    return f"{name}: error {error:.2e}, allowed {ALLOWED[dtype]:.1e}; far off: {place(far)}"


def bundle(name: str) -> GpuKernel:
    """A bundle of the folder."""
    return GpuKernel(_gpu.Bundle.parse(gzip.decompress((HERE / f"{name}.bundle.gz").read_bytes())))


def has_tensor_kernels(name: str) -> bool:
    """Whether some of a bundle's kernels are on tensor copies."""
    found = bundle(name).bundle
    return any("tensor_kernels" in part.manifest["gpu"] for part in found.parts or (found,))


def launch(kernel: GpuKernel, *args: Any, dv: int) -> torch.Tensor:
    """Runs on a poisoned result."""
    q = args[0]
    out = torch.full((*q.shape[:3], dv), float("nan"), device=DEVICE, dtype=q.dtype)
    kernel.launch(args, out)
    finish()
    return out


def check_system(case: dict[str, Any]) -> str:
    """A spec of any kind on packed arguments, against the packed results of the float64 interpreter."""
    kernel = bundle(case["name"])
    data = np.load(HERE / f"{case['name']}.npz")
    args: list[Any] = []
    for n, (formal, given) in enumerate(zip(kernel.manifest["args"], case["args"], strict=True)):
        if given is not None:
            args.append(given)
            continue
        x = torch.tensor(data[f"a{n}"], device=DEVICE)
        args.append(x.to(DTYPES[formal["type"]]) if formal["type"] in DTYPES else x)
    results = []
    for dtype, shape in _gpu.infer(kernel.bundle, kernel.views(args)):
        kind = DTYPES.get(dtype, torch.int32)
        results.append(torch.full(shape, float("nan") if dtype in DTYPES else -77, device=DEVICE, dtype=kind))
    kernel.launch(args, *results)
    finish()
    for n, out in enumerate(results):
        want = torch.tensor(data[f"r{n}"], device=DEVICE)
        dtype = kernel.manifest["results"][n]["type"]
        if dtype in DTYPES:
            wrong = judge(f"{case['name']} result {n}", out, want, dtype)
        else:
            wrong = "" if DRY or torch.equal(out, want.to(out.dtype)) else f"{case['name']} result {n}: other integers"
        if wrong:
            return wrong
    return ""


def check_random(case: dict[str, Any]) -> str:
    """One random pattern against its mask."""
    kernel = bundle(case["name"])
    hq, hk = case["heads"]
    nq, nk, dtype = case["nq"], case["nk"], DTYPES[case["dtype"]]
    bits = np.unpackbits(np.load(HERE / f"{case['name']}.npy"))[: hq * nq * nk].reshape(hq, nq, nk)
    live = torch.tensor(bits.astype(bool), device=DEVICE)[None]
    q, k = randn(2, hq, nq, case["d"], dtype=dtype), randn(2, hk, nk, case["d"], dtype=dtype)
    v = randn(2, hk, nk, case["dv"], dtype=dtype)
    extra = [case["offset"]] if len(kernel.manifest["args"]) > 3 else []
    # What no query sees must not matter, whatever it is.
    unseen = ~live.any(2).any(1)[0]
    poisoned = [x.masked_fill(unseen[:, None], float("nan")) for x in (k, v)]
    out = launch(kernel, q, *poisoned, *extra, dv=case["dv"])
    return judge(f"{case['name']} {case['text']}", out, reference(q, k, v, live), case["dtype"])


EXAMPLES = (
    "dense", "causal", "gqa", "alibi", "decode", "window", "prefix_lm", "sinks", "sparse_transformer", "neighborhood2d",
    "longformer", "document",
)  # fmt: skip


def check_example(name: str) -> str:
    """An example by its formula."""
    n = 777
    i, j = (torch.arange(n, device=DEVICE) for _ in range(2))
    i, j = i[:, None], j[None, :]
    causal = j <= i
    side = [x // 32 for x in (i, j)], [x % 32 for x in (i, j)]

    def near(pair: list[torch.Tensor]) -> torch.Tensor:
        start = (pair[0] - 3).clamp(0, 25)
        return (pair[1] >= start) & (pair[1] < start + 7)

    heads = [(i - j).abs() <= 32] * 2 + [((i - j).abs() <= 64) & ((i - j) % 2 == 0)] * 2
    masks: dict[str, torch.Tensor] = {
        "dense": torch.ones(n, n, dtype=torch.bool, device=DEVICE),
        "causal": causal, "gqa": causal, "alibi": causal, "decode": causal,
        "window": causal & (i - j <= 50), "prefix_lm": causal | (j < 100),
        "sinks": causal & ((j < 4) | (i - j <= 127)),
        "sparse_transformer": causal & ((i - j <= 63) | ((i - j) % 64 == 0)),
        "neighborhood2d": near(side[0]) & near(side[1]),
        "longformer": torch.stack(heads) | (j < 4),
        "document": causal,
    }  # fmt: skip
    live = masks[name]
    kernel = bundle(f"example-{name}")
    formal = kernel.manifest["args"]
    hq, hk, d = formal[0]["dims"][1], formal[1]["dims"][1], formal[0]["dims"][3]
    kind = formal[0]["type"]
    q, k, v = (randn(2, h, n, d, dtype=DTYPES[kind]) for h in (hq, hk, hk))
    extra: list[Any] = []
    bias = sink = None
    if name == "window":
        extra = [50]
    elif name == "prefix_lm":
        extra = [100]
    elif name == "decode":
        extra = [torch.zeros(2, dtype=torch.int64, device=DEVICE)]
    elif name == "sinks":
        sink = randn(hq, dtype=torch.float32)
        extra = [sink]
    elif name == "alibi":
        slope = torch.rand(hq, device=DEVICE)
        extra, bias = [slope], -slope.view(1, -1, 1, 1) * (i - j)
    elif name == "document":
        docs = torch.randint(0, 5, (2, n), device=DEVICE, dtype=torch.int32).sort(1).values
        extra, live = [docs], live & (docs[:, None, :, None] == docs[:, None, None, :])
    out = launch(kernel, q, k, v, *extra, dv=d)
    return judge(name, out, reference(q, k, v, live, bias, sink), kind)


def check_graph(name: str) -> str:
    """A launch that a CUDA graph captured, replayed on other inputs."""
    kernel = bundle(f"example-{name}")
    formal = kernel.manifest["args"]
    shapes = [(2, f["dims"][1], 300, f["dims"][3]) for f in formal]
    kind = formal[0]["type"]
    q, k, v = (randn(*shape, dtype=DTYPES[kind]) for shape in shapes)
    out = torch.full(shapes[0], float("nan"), device=DEVICE, dtype=q.dtype)
    kernel.launch((q, k, v), out)
    finish()
    if not DRY:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kernel.launch((q, k, v), out)
        for x in (q, k, v):
            x.copy_(randn(*x.shape, dtype=x.dtype))
        out.fill_(float("nan"))
        graph.replay()
        finish()
    live = torch.ones(300, 300, dtype=torch.bool, device=DEVICE)
    return judge(f"{name} in a graph", out, reference(q, k, v, live.tril() if name == "causal" else live), kind)


def captured(run: Callable[[], Any]) -> Callable[[], Any]:
    """The call as a CUDA graph, so that a short kernel does not wait for the host; else itself."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
    except Exception as error:
        print(f"not captured: {type(error).__name__}: {str(error)[:200]}", flush=True)
        torch.cuda.synchronize()
        return run
    return graph.replay


def median_ms(call: Callable[[], Any], seconds: float = 0.4) -> float:
    """Median of a call's time by device events, with a cold second-level cache, after a warm-up."""
    run = captured(call)
    cold = torch.empty(COLD_BYTES, dtype=torch.uint8, device=DEVICE)
    run()
    times: list[float] = []
    begin = time.monotonic()
    while len(times) < 10 or (time.monotonic() - begin < seconds and len(times) < 200):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        cold.zero_()
        a.record()
        run()
        b.record()
        torch.cuda.synchronize()
        times.append(a.elapsed_time(b))
    return statistics.median(times)


def host_us(call: Callable[[], Any]) -> float:
    """Microseconds that the host takes for a launch, without waiting for the device."""
    call()
    finish()
    begin = time.perf_counter()
    for _ in range(100):
        call()
    end = time.perf_counter()
    finish()
    return (end - begin) * 1e4


def predicate(where: str, docs: torch.Tensor | None = None) -> Callable[..., Any] | None:
    """The mask_mod of a timed pattern."""
    if docs is not None:
        return lambda b, h, i, j: (j <= i) & (docs[i] == docs[j])
    return {
        "per_head([window(1023, 0), causal])": lambda b, h, i, j: (j <= i) & ((h % 2 == 1) | (i - j <= 1023)),
        "causal & (block(128) | key_mod(128, 120, 128))": lambda b, h, i, j: (
            (j <= i) & ((i // 128 == j // 128) | (j % 128 >= 120))
        ),
        "causal": lambda b, h, i, j: j <= i,
        "window(1023, 0)": lambda b, h, i, j: (j <= i) & (i - j <= 1023),
        "window(256, 0)": lambda b, h, i, j: (j <= i) & (i - j <= 256),
        "window(256, 0, dilation = 8)": lambda b, h, i, j: (j <= i) & (i - j <= 2048) & ((i - j) % 8 == 0),
        "stride(128)": lambda b, h, i, j: (i - j) % 128 == 0,
        "block(128)": lambda b, h, i, j: i // 128 == j // 128,
        "causal & (window(127, 0) | stride(128))": lambda b, h, i, j: (
            (j <= i) & ((i - j <= 127) | ((i - j) % 128 == 0))
        ),
        "window(256, 256) | global_tokens([0 to 64])": lambda b, h, i, j: (
            ((i - j <= 256) & (j - i <= 256)) | (i < BIGBIRD) | (j < BIGBIRD)
        ),
    }.get(where)


def rewrite(where: str) -> Callable[..., torch.Tensor] | None:
    """What one would write by hand: a permutation into dense problems and SDPA."""

    def blocks(x: torch.Tensor, n: int) -> torch.Tensor:
        return x.reshape(x.shape[0], x.shape[1] * (x.shape[2] // n), n, x.shape[3])

    def residues(x: torch.Tensor, n: int) -> torch.Tensor:
        b, h, m, d = x.shape
        return x.view(b, h, m // n, n, d).transpose(2, 3).reshape(b, h * n, m // n, d)

    sdpa = torch.nn.functional.scaled_dot_product_attention
    if where == "block(128)":
        return lambda q, k, v: sdpa(blocks(q, 128), blocks(k, 128), blocks(v, 128))
    if where == "stride(128)":
        return lambda q, k, v: sdpa(residues(q, 128), residues(k, 128), residues(v, 128))
    return None


def live_pairs(where: str, n: int, docs: torch.Tensor | None = None) -> float:
    """Live pairs of one head, or their mean over two."""
    if where == "full":
        return float(n) * n
    if where.startswith("grid"):
        return float(n) * 80 * 80
    mod = predicate(where, docs)
    assert mod is not None
    j = torch.arange(n, device=DEVICE)[None]
    rows = torch.arange(n, device=DEVICE)[:, None].split(1024)
    return sum(int(mod(0, h, i, j).sum()) for i in rows for h in (0, 1)) / 2


def peers(
    where: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, flex: bool, docs: torch.Tensor | None = None
) -> dict[str, float]:
    """Milliseconds of what torch offers for the same pattern."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    out: dict[str, float] = {}
    gqa = q.shape[1] != k.shape[1]
    if where in ("full", "causal"):
        for name, backend in (("cudnn", SDPBackend.CUDNN_ATTENTION), ("flash", SDPBackend.FLASH_ATTENTION)):
            try:
                with sdpa_kernel(backend):
                    out[name] = median_ms(
                        lambda: torch.nn.functional.scaled_dot_product_attention(
                            q, k, v, is_causal=where == "causal", enable_gqa=gqa
                        )
                    )
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
    by_hand = rewrite(where)
    if by_hand is not None:
        out["rewrite"] = median_ms(lambda: by_hand(q, k, v))
    mod = predicate(where, docs)
    if flex and mod is not None:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        try:
            mask = create_block_mask(
                mod, None, q.shape[1] if "per_head" in where else None, q.shape[2], k.shape[2], device=DEVICE
            )
            compiled = torch.compile(flex_attention, dynamic=False)
            out["flex"] = median_ms(lambda: compiled(q, k, v, block_mask=mask, enable_gqa=gqa))
        except Exception as error:
            print(f"flex: {type(error).__name__}: {str(error)[:200]}", flush=True)
    return out


def copy_bandwidth() -> float:
    """Bytes read and written by a large copy on the device, in GB/s."""
    x = torch.empty(1 << 30, device=DEVICE, dtype=torch.uint8)
    y = torch.empty_like(x)
    return 2 * x.numel() / median_ms(lambda: y.copy_(x)) / 1e6


Timed = tuple[dict[str, Any], Callable[[], Any], list[torch.Tensor], torch.Tensor, "torch.Tensor | None"]


def timed_call(case: dict[str, Any], n: int) -> Timed:
    """A row's facts, the launch, q, k and v, the result, and the documents."""
    kernel = bundle(case["bundle"])
    hq, hk = case["heads"]
    decodes = "batch" in case
    shapes = ((hq, 1 if decodes else n), (hk, n), (hk, n))
    qkv = [randn(case.get("batch", 1), h, rows, case["d"], dtype=torch.bfloat16) for h, rows in shapes]
    docs = torch.arange(n, device=DEVICE, dtype=torch.int32) // (n // 8) if "%docs" in case["where"] else None
    extra: list[Any] = [docs[None]] if docs is not None else [0] if len(kernel.manifest["args"]) > 3 else []
    out = torch.empty_like(qkv[0])
    facts = {"name": case["name"], "n": n, "predicted": case["predicted"].get(str(n))}
    return facts, lambda: kernel.launch([*qkv, *extra], out), qkv, out, docs


def live_rows(where: str, heads: int, rows: torch.Tensor, n: int, docs: torch.Tensor | None) -> torch.Tensor:
    """The mask of some queries: [heads or 1, rows, n]."""
    h, i, j = (torch.arange(heads, device=DEVICE)[:, None, None], rows[:, None], torch.arange(n, device=DEVICE)[None])
    if where == "full":
        return torch.ones(1, len(rows), n, dtype=torch.bool, device=DEVICE)
    if where.startswith("grid"):
        first = [(x - 40).clamp(0, 256 - 80) for x in (i // 256, i % 256)]
        near = [(x >= f) & (x < f + 80) for x, f in zip((j // 256, j % 256), first, strict=True)]
        return (near[0] & near[1])[None]
    mod = predicate(where, docs)
    assert mod is not None
    live = mod(0, h, i, j)
    return live.expand(heads if live.ndim == 3 else 1, len(rows), n)


def check_row(case: dict[str, Any], n: int) -> str:
    """A timed kernel at one length: its first and last queries and some between."""
    _, call, (q, k, v), out, docs = timed_call(case, n)
    out.fill_(float("nan"))
    call()
    finish()
    if DRY:
        return ""
    count = q.shape[2]
    some = torch.randint(0, count, (SAMPLED,), device=DEVICE)
    ends = torch.arange(count, device=DEVICE)
    rows = torch.cat([ends[:SAMPLED], some, ends[-SAMPLED:]]).unique()
    live = live_rows(case["where"], q.shape[1], rows, k.shape[2], docs)
    ends = torch.tensor(sorted({0, q.shape[0] - 1}), device=DEVICE)  # of many batches, two
    want = reference(q[ends][:, :, rows], k[ends], v[ends], live)
    wrong = judge(f"n {n}", out[ends][:, :, rows], want, "bf16")
    return wrong or judge(f"n {n}, all rows", out, out.double(), "bf16")


def time_own(case: dict[str, Any], n: int) -> dict[str, Any]:
    """Time of one row."""
    row, call, qkv, _, docs = timed_call(case, n)
    if DRY:
        call()
        return row
    row["ms"], row["host_us"] = median_ms(call), host_us(call)
    if "batch" in case:
        bandwidth = copy_bandwidth()
        row["gb_per_s"] = 2 * qkv[1].numel() * 2 / row["ms"] / 1e6
        row["of_copy"] = row["gb_per_s"] / bandwidth
        speed = f"{row['gb_per_s']:7.0f} GB/s ({row['of_copy']:.2f} of a copy's {bandwidth:.0f})"
    else:
        row["tflops"] = 4 * live_pairs(case["where"], n, docs) * case["heads"][0] * case["d"] / row["ms"] / 1e9
        speed = f"{row['tflops']:7.1f} TFLOP/s"
    more = f"(predicted {row['predicted']:.3f}, host {row['host_us']:.0f} us)"
    print(f"{case['name']:36} {n:6} {row['ms']:9.3f} ms {more} {speed}", flush=True)
    return row


def time_peers(case: dict[str, Any], n: int) -> dict[str, Any]:
    """Times of what torch has for the same row."""
    row, _, (q, k, v), _, docs = timed_call(case, n)
    if "batch" in case:
        sdpa = torch.nn.functional.scaled_dot_product_attention
        row["sdpa"] = median_ms(lambda: sdpa(q, k, v, enable_gqa=True))
    else:
        row.update(peers(case["where"], q, k, v, n == max(case["lengths"]), docs))
    others = ", ".join(f"{p} {row[p]:.3f}" for p in ("cudnn", "flash", "sdpa", "flex", "rewrite") if p in row)
    print(f"{case['name']:36} {n:6} {others or 'no peer'}", flush=True)
    return row


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    ask = "name,driver_version,clocks.sm,clocks.mem,temperature.gpu"
    try:
        said = subprocess.run(["nvidia-smi", f"--query-gpu={ask}", "--format=csv,noheader"], capture_output=True,
                              text=True, check=False).stdout.strip()  # fmt: skip
    except OSError as error:
        said = f"nvidia-smi: {error}"
    date = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    found = {"gpu": said, "torch": torch.__version__, "cuda": torch.version.cuda, "date": date}
    if torch.cuda.is_available():
        p = torch.cuda.get_device_properties(0)
        found |= {"multiprocessors": p.multi_processor_count, "capability": f"{p.major}.{p.minor}"}
    return found


Job = tuple[str, Any, str]
"""What to do, the case's number or name, and `tensor`, `plain` (kernels without tensor copies) or nothing."""


def check_lengths(case: dict[str, Any]) -> list[int]:
    """The lengths at which a timed kernel is compared: short ones too, where its pattern has a meaning there."""
    own = [max(case["lengths"])]
    return own if "batch" in case or case["where"].startswith("grid") else [*SHORT, *own]


def jobs(cases: dict[str, Any]) -> list[Job]:
    """Checks, the simplest first; then times; then those of others."""
    examples = [name for name in EXAMPLES if (HERE / f"example-{name}.bundle.gz").exists()]
    named: list[tuple[str, Any, str]] = [("example", name, f"example-{name}") for name in examples]
    named += [("graph", name, f"example-{name}") for name in ("dense", "causal") if name in examples]
    for kind in ("system", "random"):
        named += [(kind, n, case["name"]) for n, case in enumerate(cases[f"{kind}s" if kind == "system" else kind])]
    checks = []
    for kind, which, name in named:
        checks.append((kind, which, "plain"))
        if has_tensor_kernels(name):
            checks.append((kind, which, "tensor"))
    for n, case in enumerate(cases["timed"]):
        checks += [("row", (n, length), v) for length in check_lengths(case) for v in ("plain", "tensor")]

    # The examples without tensor copies are the plainest kernels: if these are wrong, everything is. Then one tile of
    # the timed ones, two, many.
    def rank(job: Job) -> tuple[bool, int, bool]:
        kind, which, variant = job
        return kind in ("system", "random"), which[1] if kind == "row" else 0, variant != "plain"

    checks.sort(key=rank)
    rows = [(n, length) for n, case in enumerate(cases["timed"]) for length in case["lengths"]]
    times = [("own", row, "") for row in rows]
    return checks + times + ([] if DRY else [("peers", row, "") for row in rows])


def perform(cases: dict[str, Any], job: Job) -> Any:
    """A verdict (empty where all is right), or a row of times."""
    kind, which, variant = job
    if kind in ("own", "peers"):
        n, length = which
        return (time_own if kind == "own" else time_peers)(cases["timed"][n], length)
    whole = _cuda.encoded
    try:
        if variant == "plain":
            _cuda.encoded = lambda *_: None
        if kind == "example":
            return check_example(which)
        if kind == "graph":
            return check_graph(which)
        if kind == "row":
            return check_row(cases["timed"][which[0]], which[1])
        return check_system(cases["systems"][which]) if kind == "system" else check_random(cases["random"][which])
    finally:
        _cuda.encoded = whole


def work(cases: dict[str, Any], todo: list[Job]) -> Iterator[tuple[Job, Any, bool]]:
    """Job, result and whether it is an error, as they come."""
    for job in todo:
        try:
            yield job, perform(cases, job), False
        except Exception as error:
            yield job, f"{type(error).__name__}: {str(error)[:400]}", True


MARK = "@heddle "


def missing(target: str) -> str:
    """What keeps anything from running here; empty where nothing does."""
    try:
        _cuda.driver()
    except _cuda.CudaError as error:
        return str(error)
    if torch.version.cuda is None:
        return f"expected a PyTorch with CUDA, but got {torch.__version__}"
    if not torch.cuda.is_available():
        return "expected a GPU that PyTorch can use, but got none"
    found = torch.cuda.get_device_capability()
    fits = _cuda._runs(target, found)
    return "" if fits else f"expected a GPU for {target} code, but got capability {found[0]}.{found[1]}"


def be_worker() -> None:
    """Takes jobs as JSON from stdin and answers each on a line; ends where the context is lost."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # one kernel at a time
    cases = json.loads((HERE / "cases.json").read_text())
    if why := missing(cases["target"]):
        print(MARK + json.dumps({"missing": why}), flush=True)
        return
    torch.manual_seed(int(time.time()))
    print(MARK + json.dumps({"machine": machine()}), flush=True)
    for job, result, failed in work(cases, json.loads(sys.stdin.readline())):
        print(MARK + json.dumps({"job": job, "result": result, "failed": failed}), flush=True)
        if failed and job[0] not in ("peers",):
            try:
                torch.cuda.synchronize()
            except Exception:
                return


class Workers:
    """Runs jobs in a process of its own, and in another one behind a job that it does not survive."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.machine: dict[str, Any] = {}
        self.missing = ""
        self.starts = 0

    @staticmethod
    def answers(child: subprocess.Popen[bytes], patience: Callable[[], float]) -> Iterator[dict[str, Any] | None]:
        """Its answers; None where it stays silent for too long. Other lines are printed."""
        assert child.stdout is not None
        left, heard = b"", time.monotonic()
        while True:
            if not select.select([child.stdout], [], [], 1.0)[0]:
                if child.poll() is not None:  # what it started may hold the pipe
                    return
                if time.monotonic() - heard > patience():
                    yield None
                    return
                continue
            more, heard = os.read(child.stdout.fileno(), 1 << 16), time.monotonic()
            if not more:
                return
            *lines, left = (left + more).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                if text.startswith(MARK):
                    yield json.loads(text[len(MARK) :])
                else:
                    print(text, flush=True)

    def run(self, todo: list[Job]) -> Iterator[tuple[Job, Any, bool]]:
        """Job, result and whether it is an error, of all jobs until the deadline."""
        began = True
        while todo and began and self.starts < MOST_STARTS and time.monotonic() < self.deadline:
            self.starts += 1
            began, silent = False, False
            command = [sys.executable, __file__, "--worker"]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert child.stdin is not None
            child.stdin.write(json.dumps(todo).encode() + b"\n")
            child.stdin.flush()

            def patience() -> float:
                own = TIMING_PATIENCE if todo and todo[0][0] in ("own", "peers") else PATIENCE
                return min(own, self.deadline - time.monotonic())

            for answer in self.answers(child, patience):
                if answer is None:
                    silent = True
                elif "missing" in answer:
                    self.missing = answer["missing"]
                elif "machine" in answer:
                    began, self.machine = True, self.machine or answer["machine"]
                else:
                    yield todo.pop(0), answer["result"], answer["failed"]
            if silent:
                child.kill()
            try:
                code = child.wait(30)
            except subprocess.TimeoutExpired:
                print("the driver does not let the process end", flush=True)
                break
            # Where it ends by itself it gave up behind an answer, and the next job has not begun.
            if todo and began and code != 0 and time.monotonic() < self.deadline:
                yield todo.pop(0), "it hangs" if silent else f"the process ended with {code}", True
        if todo and not self.missing:
            print(f"{len(todo)} jobs were not begun", flush=True)


def report(results: Iterator[tuple[Job, Any, bool]], cases: dict[str, Any], save: Callable[..., None]) -> bool:
    """Prints and keeps what comes; whether all checks are right."""
    verdicts: dict[str, list[int]] = {"plain": [0, 0], "tensor": [0, 0]}
    wrong: list[str] = []
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    told = False

    def tell() -> None:
        right, all_of = (sum(v[n] for v in verdicts.values()) for n in (0, 1))
        kinds = ", ".join(f"{k} {v[0]} of {v[1]}" for k, v in verdicts.items())
        print(f"correct: {right} of {all_of} ({kinds})", flush=True)

    for (kind, which, variant), result, failed in results:
        if kind in ("own", "peers"):
            if not told:
                tell()
                told = True
            n, length = which
            row = rows.setdefault((cases["timed"][n]["name"], length), {})
            row.update({f"{kind}_error": result} if failed else result)
            if failed:
                print(f"{cases['timed'][n]['name']} {length}: {result}", flush=True)
        else:
            verdicts[variant][1] += 1
            verdicts[variant][0] += not result
            if result:
                text = cases["random"][which]["text"] if kind == "random" else ""
                text = cases["timed"][which[0]]["name"] if kind == "row" else text
                wrong.append(f"[{variant}] {kind} {which} {text}: {result}")
                print(wrong[-1], flush=True)
        save(verdicts=verdicts, wrong=wrong, times=list(rows.values()))
    if not told:
        tell()
    return not wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--dry-run", action="store_true", help="no GPU: pack every launch, compare nothing")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return be_worker()
    cases = json.loads((HERE / "cases.json").read_text())
    if options.dry_run:
        notes = no_gpu()
        good = report(work(cases, jobs(cases)), cases, lambda **_: None)
        print(f"maps: {notes.maps}\nlaunches: {notes.launches}")
        raise SystemExit(0 if good else 1)
    workers = Workers(time.monotonic() + options.seconds)

    def save(**found: Any) -> None:
        text = json.dumps({"machine": workers.machine, **found}, indent=1)
        (options.out / "results.json").write_text(text)

    good = report(workers.run(jobs(cases)), cases, save)
    if workers.missing:
        raise SystemExit(workers.missing)
    print(workers.machine)
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
