"""What the kernels of sm_90a should take on one H100 (SXM): written down before a measurement, to be compared with it.

A model of five numbers. Two of them, the clocks of a tile, follow from what a hand-written kernel of the same plan
reaches for d of 64 and 128 (FlashAttention-3: about 0.43 and 0.65 of the matrix units' peak); the others are the
usual ones of the chip and guesses of what a block costs before its first tile and behind its last.

Blocks go to the multiprocessor that is free first, as the device hands them out, the longest first.

    python bench/gpu/predict.py      the table of docs/gpu.md
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

SMS, CLOCK, FLOPS_A_CLOCK = 132, 1.7e9, 4096
BANDWIDTH = 3.0e12
TILE_CLOCKS, OF_PRODUCTS = 1650, 0.73
"""Of a tile of 128 queries and 128 keys: what its exponentials take, and the share of its products beside them."""
BLOCK, LAUNCH = 2.5e-6, 4e-6
START = 1e-6
"""Of a block's, what a persistent grid could hide: its start and its first loads, beside the tile before."""
DECODE_SHARE = 0.75
"""Of the bandwidth, with two blocks a multiprocessor and two stages of 64 keys."""
TILE = 128


def ceil(x: float) -> int:
    """Tiles of so many keys."""
    return -(-int(x) // TILE)


def band(n: int, left: int, right: int = 0) -> list[float]:
    """Key tiles of each block of a window."""
    return [ceil(min(n, at + TILE + right) - max(0, at - left)) for at in range(0, n, TILE)]


def kernels(name: str, n: int) -> list[list[float]]:
    """Key tiles of each block of one head, kernel by kernel."""
    blocks = ceil(n)
    own: list[float] = [1] * blocks
    lattice: list[float] = [1] * max(128, blocks)  # a residue of 128 fills its block where n >= 16384
    all_of: dict[str, list[list[float]]] = {
        "dense": [[blocks] * blocks],
        "causal": [list(range(1, blocks + 1))],
        "causal window 1024": [band(n, 1023)],
        "window 256": [band(n, 256)],
        "window 256, dilation 8": [[t for r in range(8) for t in band(n // 8, 256)]],
        "stride 128": [lattice],
        "block 128": [own],
        "sparse transformer": [band(n, 127), lattice],
        "sparse transformer, fixed": [[1 + ceil(8 * b) for b in range(blocks)]],
        "window and global": [[blocks, *(t + 1 for t in band(n, 256, 256)[1:])]],
        "document mask": [[b % ceil(n / 8) + 1 for b in range(blocks)]],
        "per-head mix": [[(x + y) / 2 for x, y in zip(band(n, 1023), range(1, blocks + 1), strict=True)]],
        "neighborhood 80 x 80 of 256 x 256": [[ceil(87 * 95)] * blocks],
    }
    return all_of[name]


def makespan(costs: Sequence[float]) -> float:
    """When the last block ends, begun in this order."""
    free = [0.0] * SMS
    for cost in costs:
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


def seconds(name: str, n: int, heads: Sequence[int], d: int, block: float = BLOCK) -> float:
    """Time of a call with one batch, where a block takes `block` besides its tiles."""
    tile = (TILE_CLOCKS + OF_PRODUCTS * 4 * TILE * TILE * d / FLOPS_A_CLOCK) / CLOCK
    copied = 2 * n * d * 2 * (heads[0] + heads[1]) / BANDWIDTH
    total = 0.0
    for blocks in kernels(name, n):
        costs = [block + t * tile for t in sorted(blocks, reverse=True) for _ in range(heads[0])]
        total += LAUNCH + max(makespan(costs), copied)
    return total


def decoding(n: int, heads: Sequence[int], d: int, batch: int) -> float:
    """Time of one query a head: K and V are read once."""
    return 2 * LAUNCH + 2 * 2 * batch * heads[1] * n * d / (DECODE_SHARE * BANDWIDTH)


def row_name(name: str) -> str:
    """A timed row's pattern."""
    return name.split(" d")[0] if name.startswith(("dense", "causal d")) else name.split(", GQA")[0]


def predicted(name: str, case: dict[str, object], n: int, block: float = BLOCK) -> float:
    """Milliseconds of a timed row."""
    heads, d = case["heads"], case["d"]
    assert isinstance(heads, (tuple, list))
    assert isinstance(d, int)
    batch = case.get("batch")
    if isinstance(batch, int):
        return 1e3 * decoding(n, heads, d, batch)
    return 1e3 * seconds(row_name(name), n, heads, d, block)


def live_keys(name: str, n: int) -> Callable[[int], float]:
    """How many keys row i has, in the mean over heads."""
    rows: dict[str, Callable[[int], float]] = {
        "dense": lambda i: n,
        "causal": lambda i: i + 1,
        "causal window 1024": lambda i: min(i, 1023) + 1,
        "window 256": lambda i: min(i, 256) + 1,
        "window 256, dilation 8": lambda i: min(i // 8, 256) + 1,
        "stride 128": lambda i: n // 128,
        "block 128": lambda i: 128,
        "sparse transformer": lambda i: min(i, 127) + 1 + i // 128,
        "sparse transformer, fixed": lambda i: i % 128 + 1 + i // 128 * 8,
        "window and global": lambda i: n if i < 64 else 64 + min(n, i + 257) - max(64, i - 256),
        "document mask": lambda i: i % (n // 8) + 1,
        "per-head mix": lambda i: (min(i, 1023) + i) / 2 + 1,
        "neighborhood 80 x 80 of 256 x 256": lambda i: 6400,
    }
    return rows[name]


def bound(name: str, case: dict[str, object], n: int) -> float:
    """Milliseconds below which nothing can come: of the live products at our dense rate, and of the bytes.

    The predicted rate stands in for the measured one."""
    heads, d = case["heads"], case["d"]
    assert isinstance(heads, (tuple, list))
    assert isinstance(d, int)
    moved = 2 * n * d * 2 * (heads[0] + heads[1]) / BANDWIDTH
    batch = case.get("batch")
    if isinstance(batch, int):
        return 1e3 * (2 * 2 * batch * heads[1] * n * d / BANDWIDTH)
    own = live_keys(row_name(name), n)
    pairs = sum(own(i) for i in range(n)) * heads[0]
    rate = 16384**2 * 16 / seconds("dense", 16384, (16, 16), d)
    return 1e3 * max(pairs / rate, moved)


def main() -> None:
    """Prints the table."""
    from pack import TIMED, lengths

    print("| kernel | d | heads | predicted ms (n) | to its bound | a persistent grid, at best |")
    print("|---|---|---|---|---|---|")
    for name, case in TIMED.items():
        all_n = lengths(case)
        now = [predicted(name, case, n) for n in all_n]
        best = [predicted(name, case, n, BLOCK - START) for n in all_n]
        times = ", ".join(f"{ms:.3f} ({n})" for ms, n in zip(now, all_n, strict=True))
        over = f"{now[-1] / bound(name, case, all_n[-1]):.2f}"
        saved = ", ".join(f"{100 * (x / y - 1):+.0f}%" for x, y in zip(best, now, strict=True))
        print(f"| {name} | {case['d']} | {case['heads'][0]} / {case['heads'][1]} | {times} | {over} | {saved} |")


if __name__ == "__main__":
    main()
