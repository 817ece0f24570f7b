"""Patterns that no case names: what a live pair costs of each, over one of dense attention.

    tools/dev bench survey                    all of them, the dearest pair first; writes nothing
    tools/dev bench survey --only holds 'i ^' those whose text has one of these
    tools/dev bench survey --quick            short sequences: does each compile and agree with the reference
    tools/dev bench survey --flex             also compiled FlexAttention, where it can say the pattern
    tools/dev bench survey --save             the table into results/survey.json

A pattern and dense attention (of 1024 positions) run in turn in one process, on one thread; `pair` is the time of a
live pair over that of a dense one, `row` the nanoseconds of a query, `dense` the whole time over what dense attention
of this length would take. Few keys a query cost what a query costs, so both columns count. `compile` is a first call.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
DENSE = 1024

# One pattern a line; what stands behind a percent sign is made by `operand`.
PATTERNS = """
# plain
causal
full
window(127, 0)
window(511, 0)
window(31, 32)
block(64)
block(100)
causal & block(256)
causal | block(256)
window(3, 0)
window(0, 0)
causal(1)
~causal
causal - window(63, 0)
~window(255, 255)
# strides, dilations
stride(64) & causal
stride(7)
stride(100) & causal
window(15, 15, dilation = 16)
window(7, 0, dilation = 100)
window(31, 0) | window(31, 0, dilation = 32)
window(7, 0) | window(7, 0, dilation = 8) | window(7, 0, dilation = 64) | window(7, 0, dilation = 512)
causal & (stride(64) | stride(48))
causal & (window(31, 0) | stride(32) | keys([0 to 4]))
causal & (block(64) | key_mod(64, 60, 64))
key_mod(8, 0, 1)
query_mod(8, 0, 1) | window(15, 15)
causal & (key_mod(16, 15, 16) | window(15, 0))
stride(64) & block(1024)
window(63, 0) & stride(4)
# distances
offsets([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048])
offsets([0, 7, 130, 411, 1000, 2500])
offsets([0, 1, 2, 300, 301, 302, 1500, 1501, 1502])
offsets([-64, 0, 64])
offsets([0, 64, 128, 192, 256, 320, 384, 448, 512])
offsets([5])
window(31, 0) | offsets([100, 200, 400, 800, 1600])
coarse(64, offsets([0, 1, 5, 20]))
coarse(16, offsets([0, 3, 9, 40, 100]))
# globals, lists
window(64, 64) | global_tokens([0 to 4])
keys([0 to 16])
keys([0, 100, 500, 1000, 2000, 3000])
queries([0 to 16])
window(31, 31) | keys([0, 64, 128, 192, 256, 320])
causal & (window(127, 0) | keys([0 to 4]))
global_tokens([0, 100, 500, 1000, 2000])
# grids (images of 64 columns)
grid(64, window(3, 3), window(3, 3))
grid(64, window(0, 0), full) | grid(64, full, window(0, 0))
grid(64, neighborhood(7, 64), neighborhood(7, 64))
grid(64, full, stride(8))
grid(64, stride(8), stride(8))
grid(64, block(8), block(8))
grid(64, causal, window(4, 4))
grid(64, offsets([-9, 0, 4]), offsets([-20, -3, 0, 5, 17]))
grid(64, window(8, 8, dilation = 2), window(8, 8, dilation = 2))
grid(64, window(20, 20), offsets([-13, -4, 0, 9, 25]))
window(400, 400) & grid(64, full, offsets([-13, -4, 0, 9, 25]))
grid(16, grid(16, window(2, 2), window(2, 2)), window(2, 2))
coarse(64, causal) & grid(64, full, block(16))
neighborhood(31, 4096, dilation = 4)
neighborhood(16, 4096, stride = 8)
# nested and random
random_blocks(64, 3, 7) | window(63, 63) | global_tokens([0 to 64])
random_blocks(16, 4, 1)
random_blocks(4, 8, 1)
coarse(64, random_blocks(1, 4, 3)) & causal
coarse(8, window(8, 0)) & stride(2)
coarse(64, causal(1)) | block(64)
shift(13, block(128))
past_blocks(64)
parent(4)
coarse(16, 16, stride(4) & causal)
per_head([window(63, 0), stride(64) & causal, block(128), causal])
per_head([window(15, 0), window(31, 0), window(63, 0), window(127, 0), window(255, 0), window(511, 0), causal])
# conditions on positions
holds(b, h, i, j : i - j >= 0 and i - j < 128)
holds(b, h, i, j : (i ^ j) < 64)
holds(b, h, i, j : (i ^ j) < 100)
holds(b, h, i, j : j <= i and (i ^ j) < 256)
holds(b, h, i, j : (i >> 6) == (j >> 6))
holds(b, h, i, j : ((i ^ j) & 63) == 0)
holds(b, h, i, j : ((i ^ j) & 7) == 0 and i - j < 512 and j - i < 512)
holds(b, h, i, j : ((i ^ j) & ((i ^ j) - 1)) == 0)
holds(b, h, i, j : j <= i and ((i - j) & (i - j - 1)) == 0)
holds(b, h, i, j : j <= i and (i & j) == j)
holds(b, h, i, j : (i & j & 127) == 0)
holds(b, h, i, j : (i & -64) == (j & -64))
holds(b, h, i, j : (i & 63) == (j & 63))
holds(b, h, i, j : (i | 31) == (j | 31))
holds(b, h, i, j : i * j % 17 == 0)
holds(b, h, i, j : (i * 7 + j * 3) % 64 == 0)
holds(b, h, i, j : (i + j) % 64 == 0)
holds(b, h, i, j : (i + j) % 64 < 4)
holds(b, h, i, j : i + j == 4095)
holds(b, h, i, j : abs(i + j - 4095) <= 32)
holds(b, h, i, j : abs(i - j) <= 64 or abs(i + j - 4095) <= 64)
holds(b, h, i, j : abs(i - 2 * j) <= 32)
holds(b, h, i, j : abs(2 * i - j) <= 32)
holds(b, h, i, j : j <= i and j >= i - i // 16)
holds(b, h, i, j : j <= i and i - j <= 16 + i // 32)
holds(b, h, i, j : j <= i and (i - j) * (i - j) <= 4096)
holds(b, h, i, j : (i // 64 - j // 64) * (i // 64 - j // 64) + (i % 64 - j % 64) * (i % 64 - j % 64) <= 30)
holds(b, h, i, j : abs(i // 64 - j // 64) + abs(i % 64 - j % 64) <= 6)
holds(b, h, i, j : max(abs(i // 64 - j // 64), abs(i % 64 - j % 64)) <= 4)
holds(b, h, i, j : i // 64 == j // 64 or i % 64 == j % 64)
holds(b, h, i, j : i // 64 - i % 64 == j // 64 - j % 64)
holds(b, h, i, j : j <= i and (i - j < 32 or j % 128 == 0))
holds(b, h, i, j : j <= i and i - j < 16 * (h + 1))
holds(b, h, i, j : (i - j) % (h + 1) == 0 and j <= i)
holds(b, h, i, j : j <= i and (i - j) % (2 << h) == 0)
holds(b, h, i, j : j <= i and j % (1 << h) == 0 and (i - j) < (64 << h))
holds(b, h, i, j : (i // 64 + j // 64) % 4 == 0)
holds(b, h, i, j : (i // 64 * 7 + 3) % 64 == j // 64)
holds(b, h, i, j : i // 128 >= j // 128 and i // 128 - j // 128 <= 2)
holds(b, h, i, j : j < 100 or j <= i)
holds(b, h, i, j : select(i < 2000, j <= i, i - j < 64 and j <= i))
holds(b, h, i, j : select(h % 2 == 0, i - j < 64, j < 64) and j <= i)
holds(b, h, i, j : min(i, j) % 64 == 0)
holds(b, h, i, j : max(i, j) % 64 == 63 and j <= i)
holds(b, h, i, j : i % 3 == 0 or j % 3 == 0)
holds(b, h, i, j : (i - j) % 3 == 0 and (i - j) % 5 != 0 and j <= i)
holds(b, h, i, j : (i - j) * (i - j) % 31 == 1)
holds(b, h, i, j : i * 0.5 <= j and j <= i)
holds(b, h, i, j : (i * 1103515245 + j * 12345) % 1000 < 20)
holds(b, h, i, j : i != j and i - j < 64 and j - i < 64)
# run-time integers
window(%w, 0)
window(%w, 0) | keys([0 to %g])
holds(b, h, i, j : j <= i and i - j < %w)
holds(b, h, i, j : (i - j) % %s == 0 and j <= i)
holds(b, h, i, j : i // %s == j // %s)
holds(b, h, i, j : abs(i - j) <= %s or abs(i - j) % %s == 0 and abs(i - j) <= 8 * %s)
holds(b, h, i, j : (i % %s == 0 or i - j < %s) and j <= i)
# ids and documents
cluster(%docs)
cluster(%docs) & causal
cluster(%docs) & window(63, 0)
cluster(%routed)
cluster(%routed) & causal
cluster(%routed) | window(31, 31)
cluster(%headed)
holds(b, h, i, j : %doc[i] == %doc[j])
holds(b, h, i, j : %doc[i] == %doc[j] and j <= i)
holds(b, h, i, j : %doc[i] == %doc[j] and j <= i and i - j < 256)
holds(b, h, i, j : %doc[i] != %doc[j])
holds(b, h, i, j : %doc[j] <= %doc[i])
holds(b, h, i, j : j >= %start[i] and j <= i)
holds(b, h, i, j : j >= %start[i] and j < %stop[i])
between(%starts, %stops)
between(%starts, %stops) & causal
between_queries(%starts, %stops)
packed(%cu, %cu, causal)
packed(%cu, %cu, full)
packed(%cu, %cu, window(63, 0))
packed(%cu, %cu, stride(16) & causal)
positions(%place, %place, causal)
positions(%place, %place, causal) & cluster(%docs)
holds(b, h, i, j : %doc[i] == %doc[j] and %at[j] <= %at[i])
# prefixes, lengths, flags
lengths(%len)
lengths(%len) & causal
causal | lengths(%prefix)
holds(b, h, i, j : j <= i or j < %pre[b])
keys(%some)
keys(%most) & causal
window(63, 0) | keys(%few)
window(63, 0) | holds(b, h, i, j : bool(%glob[j]) or bool(%glob[i]))
causal & (window(63, 0) | keys(%few))
holds(b, h, i, j : j <= i and (i - j < 64 or bool(%glob[j])))
holds(b, h, i, j : bool(%keep[j]) and j <= i)
holds(b, h, i, j : %kind[i] == 1 or %kind[j] == 1 or abs(i - j) < 32)
holds(b, h, i, j : %kind[i] * 2 + %kind[j] != 1 and j <= i)
# windows from tables
holds(b, h, i, j : j <= i and i - j < %wide[i])
holds(b, h, i, j : abs(i - j) < %wide[j])
holds(b, h, i, j : j <= i and i - j < %hw[h])
holds(b, h, i, j : abs(i - j) % %hd[h] == 0 and abs(i - j) < 512)
holds(b, h, i, j : j <= i and j >= %sink[h] or j < %hw[h])
holds(b, h, i, j : j <= %last[i])
holds(b, h, i, j : %blockmap[i // 64, j // 64] != 0)
holds(b, h, i, j : bool(%blockbits[i // 64, j // 64]))
holds(b, h, i, j : bool(%blockbits[i // 64, j // 64]) and j <= i)
holds(b, h, i, j : bool(%headbits[h, i // 64, j // 64]))
holds(b, h, i, j : %tin[j] <= %tin[i] and %tin[i] < %tout[j])
holds(b, h, i, j : %perm[i] >= %perm[j])
holds(b, h, i, j : bool(%bydist[i - j]) and j <= i)
# lists
listed(%idx)
listed(%idx) | window(15, 0)
csr(%ptr, %col)
coarse(64, 64, listed(%bidx))
coarse(64, 64, listed(%bidx)) & causal
coarse(64, 64, listed(%bidx)) | window(31, 0)
coarse(1, 64, listed(%pages))
offsets(%far)
offsets(%far) | window(15, 0)
# tensors of pairs
mask(%random)
mask(%blocky)
mask(%causalish)
mask(%tree)
mask(%random) & window(255, 0)
holds(b, h, i, j : %level[i, j] == 2)
holds(b, h, i, j : %level[i, j] != 0 and j <= i)
holds(b, h, i, j : float(%affinity[i, j]) > 0.9)
holds(b, h, i, j : bool(%half[i // 2, j // 2]))
""".strip().splitlines()

# The same as functions for FlexAttention, by text; `t` has the operands as tensors.
FLEX: dict[str, Any] = {
    "window(127, 0)": lambda t: lambda b, h, i, j: (i >= j) & (i - j <= 127),
    "cluster(%docs) & causal": lambda t: lambda b, h, i, j: (t["docs"][0][i] == t["docs"][0][j]) & (i >= j),
}
"""Texts of `holds` are evaluated with tensors; the others stand here."""


def operand(name: str, n: int, heads: int) -> Any:
    """The run-time operand of that name, for n positions."""
    rng = np.random.default_rng(sum(map(ord, name)))
    at = np.arange(n)
    cuts = np.unique(np.concatenate([[0], np.random.default_rng(3).integers(1, n, 8), [n]]))
    doc = np.searchsorted(cuts, at, "right") - 1
    blocks = -(-n // 64)
    some = {
        "w": 100, "g": 4, "s": 48,
        "docs": doc[None], "doc": doc, "at": at - cuts[doc], "place": (at - cuts[doc])[None],
        "start": cuts[doc], "stop": cuts[doc + 1], "starts": cuts[doc][None], "stops": cuts[doc + 1][None],
        "cu": cuts, "len": np.array([n * 3 // 4]), "prefix": np.array([n // 8]), "pre": np.array([n // 8]),
        "hw": 16 << np.arange(heads) % 6, "hd": 1 + np.arange(heads), "sink": n // 2 + 8 * np.arange(heads),
    }  # fmt: skip
    if name in some:
        x = some[name]
        return x if np.ndim(x) == 0 else np.ascontiguousarray(x)
    make = {
        "routed": lambda: rng.integers(0, 64, (1, n)),
        "headed": lambda: rng.integers(0, 32, (1, heads, n)),
        "some": lambda: rng.random((1, n)) < 0.1,
        "most": lambda: rng.random((1, n)) < 0.9,
        "few": lambda: rng.random((1, n)) < 0.01,
        "glob": lambda: rng.random(n) < 0.01,
        "keep": lambda: rng.random(n) < 0.5,
        "kind": lambda: (rng.random(n) < 0.02).astype(np.int32),
        "wide": lambda: rng.integers(8, 128, n),
        "last": lambda: np.maximum(at, np.sort(rng.integers(0, n, n))),
        "blockmap": lambda: (rng.random((blocks, blocks)) < 0.1).astype(np.int32),
        "blockbits": lambda: rng.random((blocks, blocks)) < 0.1,
        "headbits": lambda: rng.random((heads, blocks, blocks)) < 0.1,
        "perm": lambda: rng.permutation(n),
        "bydist": lambda: rng.random(n) < 0.02,
        "idx": lambda: np.stack([rng.permutation(n)[:32] for _ in range(n)]),
        "ptr": lambda: np.arange(n + 1) * 16,
        "col": lambda: np.concatenate([rng.permutation(n)[:16] for _ in range(n)]),
        "bidx": lambda: np.stack([rng.permutation(blocks)[:6] for _ in range(blocks)]),
        "pages": lambda: np.stack([rng.permutation(blocks)[:3] for _ in range(n)]),
        "far": lambda: np.unique(np.concatenate([[0], rng.permutation(n)[:20]])),
        "random": lambda: rng.random((1, 1, n, n)) < 0.02,
        "blocky": lambda: np.kron(rng.random((blocks, blocks)) < 0.1, np.ones((64, 64), bool))[None, None, :n, :n],
        "causalish": lambda: (at[:, None] >= at)[None, None],
        "level": lambda: rng.integers(0, 20, (n, n), np.int32),
        "affinity": lambda: rng.random((n, n), np.float32),
        "half": lambda: rng.random((n // 2 + 1, n // 2 + 1)) < 0.1,
    }
    if name in make:
        return np.ascontiguousarray(make[name]())
    parent = np.maximum(at - 1 - rng.integers(0, 3, n) ** 3, 0)  # a tree in order of its nodes
    if name == "tree":
        above = np.eye(n, dtype=bool)
        for x in range(1, n):
            above[x] |= above[parent[x]]
        return above[None, None]
    # Intervals that nest, as of a tree in the order of a walk.
    size = np.minimum(2 ** rng.integers(0, 10, n), n - at)
    return {"tin": at, "tout": at + size}[name]


def names_of(text: str) -> list[str]:
    """The operands of a text, in order, each once (a percent sign before a space divides)."""
    out = []
    for part in text.split("%")[1:]:
        name = ""
        for c in part:
            if not c.isalnum():
                break
            name += c
        if name and not name.isdigit():
            out.append(name)
    return list(dict.fromkeys(out))


def bound(hd: Any, text: str, n: int, heads: int) -> Any:
    """The pattern with its operands."""
    values = {name: operand(name, n, heads) for name in names_of(text)}
    return hd.parse(text).bind(**{k: hd.scalar(v) if np.ndim(v) == 0 else v for k, v in values.items()})


def flex_mod(torch: Any, text: str, n: int, heads: int) -> Any:
    """The pattern as a mask function of FlexAttention; None where it is not said so easily."""
    values = {name: torch.as_tensor(operand(name, n, heads)) for name in names_of(text)}
    if text in FLEX:
        return FLEX[text](values)
    if not text.startswith("holds(") or "select(" in text:
        return None
    body = text[len("holds(b, h, i, j : ") : -1]
    for name in values:
        body = body.replace(f"%{name}", f"t['{name}']")
    # A parenthesis stands before and behind every operand of `and` and `or`, at its own depth.
    body = "(" + body.replace(" and ", ") & (").replace(" or ", ") | (") + ")"
    scope = {
        "t": values, "abs": torch.abs, "min": torch.minimum, "max": torch.maximum,
        "bool": lambda x: x, "float": lambda x: x,
    }  # fmt: skip
    return eval(f"lambda b, h, i, j: {body}", scope)  # of the texts above


class Survey:
    """What all patterns share: inputs, and the dense kernel that every one is compared with."""

    def __init__(self, n: int, heads: int, d: int) -> None:
        import torch

        import heddle as hd

        torch.set_num_threads(1)
        hd.set_num_threads(1)
        self.hd, self.torch, self.n, self.heads, self.d = hd, torch, n, heads, d
        self.q, self.k, self.v = (torch.randn(1, heads, n, d) for _ in range(3))
        self.few = [torch.randn(1, heads, DENSE, d) for _ in range(3)]
        self.ones = torch.ones(1, heads, n, 1)

    def live(self, where: Any) -> float:
        """The live pairs of all heads: with weights and values of one, a row's sum is their number."""
        q = self.ones[:, :, :, :]
        got = self.hd.attend(q, q, q, where=where, score=lambda s, b, h, i, j: s * 0.0 + 1.0, normalizer="none")
        return float(got.double().sum())

    def check(self, where: Any) -> float:
        """The largest difference from the reference."""
        got, want = (f(self.q, self.k, self.v, where=where) for f in (self.hd.attend, self.hd.reference))
        return float(np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64)).max())

    def measure(self, text: str, budget: float, flex: bool) -> dict[str, Any]:
        """One line of the table."""
        from _measure import interleaved

        where = bound(self.hd, text, self.n, self.heads)
        runs = {
            "pattern": lambda: self.hd.attend(self.q, self.k, self.v, where=where),
            "dense": lambda: self.hd.attend(*self.few),
        }
        begin = time.perf_counter()
        runs["pattern"]()
        compile_ms = 1e3 * (time.perf_counter() - begin)
        if flex and (mod := flex_mod(self.torch, text, self.n, self.heads)):
            runs["flex"] = self.flex(mod)
        times = interleaved(runs, 7, budget=budget)
        live = self.live(where)
        dense_pair = times.median("dense") / (self.heads * DENSE * DENSE)
        ms = 1e3 * times.median("pattern")
        out = {
            "text": text,
            "pair": 1e-3 * ms / max(live, 1) / dense_pair,
            "dense": 1e-3 * ms / (self.heads * self.n * self.n * dense_pair),
            "row_ns": 1e6 * ms / (self.heads * self.n),
            "ms": ms,
            "live": live / (self.heads * self.n * self.n),
            "compile_ms": compile_ms - ms,
        }
        if "flex" in runs:
            out["flex"] = times.median("flex") / times.median("pattern")
        return out

    def flex(self, mod: Any) -> Any:
        """Compiled FlexAttention; its block mask is made beforehand."""
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        self.torch._dynamo.reset()
        compiled = self.torch.compile(flex_attention, dynamic=False)
        mask = create_block_mask(mod, 1, self.heads, self.n, self.n, device="cpu")

        def run() -> Any:
            with self.torch.no_grad():
                return compiled(self.q, self.k, self.v, block_mask=mask)

        return run


def line(x: dict[str, Any]) -> str:
    """A row of the table."""
    if "error" in x:
        return f"{'':45} {x['text']}: {x['error']}"
    flex = f"{x['flex']:6.1f}x" if "flex" in x else " " * 7
    return (
        f"{x['pair']:8.2f} {x['dense']:7.3f} {x['row_ns']:8.0f} {x['ms']:8.2f} {100 * x['live']:7.2f}% "
        f"{x['compile_ms']:7.0f} {flex} {x['text']}"
    )


HEADER = f"{'pair':>8} {'dense':>7} {'row ns':>8} {'ms':>8} {'live':>8} {'compile':>7} {'flex':>7}"


def main() -> int:
    """Measures, sorts, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="only patterns that contain one of these")
    parser.add_argument("--quick", action="store_true", help="300 positions, compared with the reference, not timed")
    parser.add_argument("--flex", action="store_true", help="compiled FlexAttention beside it (10 s each)")
    parser.add_argument("--save", action="store_true", help="put the table into results/survey.json")
    parser.add_argument("-n", type=int, default=4096, help="positions (default 4096)")
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("-d", type=int, default=64)
    parser.add_argument("--budget", type=float, default=0.3, help="seconds a pattern (default 0.3)")
    args = parser.parse_args()
    texts = [x for x in PATTERNS if not x.startswith("#")]
    texts = [x for x in texts if not args.only or any(part in x for part in args.only)]
    survey = Survey(300, 3, 40) if args.quick else Survey(args.n, args.heads, args.d)
    rows: list[dict[str, Any]] = []
    worst = 0.0
    for at, text in enumerate(texts):
        print(f"\r[{at + 1}/{len(texts)}]", end="", file=sys.stderr, flush=True)
        try:
            if args.quick:
                worst = max(worst, error := survey.check(bound(survey.hd, text, survey.n, survey.heads)))
                if error > 1e-4:
                    rows.append({"text": text, "error": f"differs by {error:.2g}"})
            else:
                rows.append(survey.measure(text, args.budget, args.flex))
        except Exception as error:
            rows.append({"text": text, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"})
    print(file=sys.stderr)
    rows.sort(key=lambda x: -x.get("pair", 1e9))
    print("\n".join([HEADER, *map(line, rows)]) if rows else f"{len(texts)} patterns, largest difference {worst:.2g}")
    if args.save and not args.quick:
        from cpu import machine, round_numbers

        data = {"machine": machine(), "n": args.n, "heads": args.heads, "d": args.d, "rows": rows}
        (HERE / "results" / "survey.json").write_text(json.dumps(round_numbers(data), indent=1) + "\n")
    return 1 if any("error" in x for x in rows) else 0


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HEDDLE_CACHE_DIR"] = cache  # every first call compiles
        sys.exit(main())
