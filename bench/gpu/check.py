#!/usr/bin/env python3
"""Checks and times GPU bundles on a machine with a GPU: needs torch and the folder that `pack.py` made, no compiler.

    python3 check.py [--out FOLDER] [--seconds 500] [--dry-run]

First correctness: every example and random pattern on fresh inputs, systems of several ops on packed ones, results
poisoned before the launch, against float64.
Then times by device events, medians, side by side with torch's SDPA backends, compiled FlexAttention and a rewrite by
hand, and the bandwidth of a copy, which bounds decoding. Prints two tables and writes results.json.

`--dry-run` needs no GPU: it packs every launch, timed ones too, on a driver that does nothing, and compares no numbers.
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import json
import statistics
import subprocess
import time
from collections.abc import Callable
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
    """An empty text, or what is wrong."""
    if DRY:
        return "" if out.shape == want.shape else f"{name}: shape {list(out.shape)}, not {list(want.shape)}"
    if not torch.isfinite(out).all():
        return f"{name}: {int((~torch.isfinite(out)).sum())} elements not finite (or never written)"
    norm = want.norm().item()
    error = (out.double() - want).norm().item() / (norm or 1.0)
    return f"{name}: error {error:.2e}, allowed {ALLOWED[dtype]:.1e}" if error > ALLOWED[dtype] else ""


def bundle(name: str) -> GpuKernel:
    """A bundle of the folder."""
    return GpuKernel(_gpu.Bundle.parse(gzip.decompress((HERE / f"{name}.bundle.gz").read_bytes())))


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
    out = launch(kernel, q, k, v, *extra, dv=case["dv"])
    return judge(f"{case['name']} {case['text']}", out, reference(q, k, v, live), case["dtype"])


def check_examples() -> list[str]:
    """Every example that has a bundle, by its formula."""
    problems = []
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
    for name, live in masks.items():
        if not (HERE / f"example-{name}.bundle.gz").exists():
            continue
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
        problems.append(judge(name, out, reference(q, k, v, live, bias, sink), kind))
    return problems


def median_ms(run: Callable[[], Any], seconds: float = 0.4) -> float:
    """Median of a call's time by device events, after a warm-up."""
    for _ in range(3):
        run()
    times, begin = [], time.monotonic()
    while len(times) < 10 or (time.monotonic() - begin < seconds and len(times) < 200):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        run()
        b.record()
        torch.cuda.synchronize()
        times.append(a.elapsed_time(b))
    return statistics.median(times)


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
            except RuntimeError as error:
                print(f"{name}: {str(error).splitlines()[0]}")
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
            print(f"flex: {type(error).__name__}: {str(error)[:200]}")
    return out


def copy_bandwidth() -> float:
    """Bytes read and written by a large copy on the device, in GB/s."""
    x = torch.empty(1 << 30, device=DEVICE, dtype=torch.uint8)
    y = torch.empty_like(x)
    return 2 * x.numel() / median_ms(lambda: y.copy_(x)) / 1e6


def time_decoding(case: dict[str, Any], kernel: GpuKernel, bandwidth: float) -> dict[str, Any]:
    """One query of each head against a cache of `n` keys: bound by reading K and V once."""
    hq, hk = case["heads"]
    q, k, v = (randn(case["batch"], h, n, case["d"], dtype=torch.bfloat16)
               for h, n in ((hq, 1), (hk, case["n"]), (hk, case["n"])))  # fmt: skip
    out = torch.empty_like(q)
    if DRY:
        kernel.launch([q, k, v], out)
        return {}
    ms = median_ms(lambda: kernel.launch([q, k, v], out))
    rate = 2 * k.numel() * 2 / ms / 1e6
    sdpa = torch.nn.functional.scaled_dot_product_attention
    foreseen = case["predicted"][str(case["n"])]
    row = {"name": case["name"], "n": case["n"], "ms": ms, "predicted": foreseen, "gb_per_s": rate,
           "of_copy": rate / bandwidth, "sdpa": median_ms(lambda: sdpa(q, k, v, enable_gqa=True))}  # fmt: skip
    print(f"{case['name']:36} {case['n']:6} {ms:9.3f} ms (predicted {foreseen:.3f}) {rate:7.0f} GB/s "
          f"({rate / bandwidth:.2f} of a copy)   "
          f"sdpa {row['sdpa']:.3f}", flush=True)  # fmt: skip
    return row


def time_all(cases: list[dict[str, Any]], deadline: float) -> list[dict[str, Any]]:
    """Times of every kernel and its peers until the deadline."""
    rows = []
    bandwidth = 1.0 if DRY else copy_bandwidth()
    print(f"copy: {bandwidth:.0f} GB/s")
    for case in cases:
        kernel = bundle(case["bundle"])
        if "n" in case:
            rows.append(time_decoding(case, kernel, bandwidth))
            continue
        hq, hk = case["heads"]
        for n in case["lengths"]:
            if time.monotonic() > deadline:
                print("out of time")
                return rows
            q, k, v = (randn(1, h, n, case["d"], dtype=torch.bfloat16) for h in (hq, hk, hk))
            docs = torch.arange(n, device=DEVICE, dtype=torch.int32) // (n // 8) if "%docs" in case["where"] else None
            extra: list[Any] = [docs[None]] if docs is not None else [0] if len(kernel.manifest["args"]) > 3 else []
            out = torch.empty_like(q)
            if DRY:
                kernel.launch([q, k, v, *extra], out)
                continue
            ms = median_ms(lambda kernel=kernel, q=q, k=k, v=v, e=extra, o=out: kernel.launch([q, k, v, *e], o))
            flops = 4 * live_pairs(case["where"], n, docs) * hq * case["d"]
            foreseen = case["predicted"][str(n)]
            row = {"name": case["name"], "n": n, "ms": ms, "predicted": foreseen, "tflops": flops / ms / 1e9}
            row.update(peers(case["where"], q, k, v, n == max(case["lengths"]), docs))
            rows.append(row)
            others = ", ".join(f"{p} {row[p]:.3f}" for p in ("cudnn", "flash", "flex", "rewrite") if p in row)
            print(
                f"{case['name']:36} {n:6} {ms:9.3f} ms (predicted {foreseen:.3f}) {row['tflops']:7.1f} TFLOP/s   "
                f"{others}",
                flush=True,
            )
    return rows


def machine() -> dict[str, str]:
    """What the numbers were taken on."""
    ask = "name,driver_version,clocks.sm,clocks.mem,temperature.gpu"
    done = subprocess.run(["nvidia-smi", f"--query-gpu={ask}", "--format=csv,noheader"], capture_output=True, text=True,
                          check=False)  # fmt: skip
    date = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    return {"gpu": done.stdout.strip(), "torch": torch.__version__, "date": date}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--dry-run", action="store_true", help="no GPU: pack every launch, compare nothing")
    options = parser.parse_args()
    notes = no_gpu() if options.dry_run else None
    deadline = time.monotonic() + options.seconds
    cases = json.loads((HERE / "cases.json").read_text())
    torch.manual_seed(int(time.time()))
    found = {} if DRY else machine()
    print(found)
    verdicts = check_examples()
    for check, case in [*((check_system, c) for c in cases["systems"]), *((check_random, c) for c in cases["random"])]:
        try:
            verdicts.append(check(case))
        except Exception as error:
            verdicts.append(f"{case['name']} {case.get('text', '')}: {type(error).__name__}: {error}")
            if "illegal" in str(error) or "unspecified launch" in str(error):
                break  # the context is lost
    wrong = [v for v in verdicts if v]
    print("\n".join(wrong[:40]))
    print(f"correct: {len(verdicts) - len(wrong)} of {len(verdicts)}", flush=True)
    if notes is not None:
        time_all(cases["timed"], deadline)
        print(f"maps: {notes.maps}\nlaunches: {notes.launches}")
        raise SystemExit(1 if wrong else 0)
    rows = time_all(cases["timed"], deadline)
    report = {"machine": found, "checked": len(verdicts), "wrong": wrong, "times": rows}
    (options.out / "results.json").write_text(json.dumps(report, indent=1))
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
