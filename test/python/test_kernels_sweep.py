"""The long sweep: as many random problems as HEDDLE_SWEEP (seconds) allows.

Without the variable a few seeds run. With it, the slowest question on a pattern
is printed and must stay under a second.
"""

from __future__ import annotations

import time

import numpy as np
from sweep import SECONDS, seeds, sweep

import heddle as hd
from kernel_checks import compare_problem
from oracle import cases, patterns, random_patterns

FIRST = 200000


def test_sets_of_random_expressions() -> None:
    slowest, count = (0.0, ""), 0
    failures = []
    for seed in seeds(50, FIRST):
        text = random_patterns.seeded(seed, seed % 6)
        begin = time.process_time()
        p = hd.parse(text)
        mask, total = np.asarray(p.mask(57, 64, q_offset=5, h=0)), None
        if "per_head" not in text:
            total = p.count(60, 60)
        provable = "holds" not in text and "random" not in text and seed % 6 < 4
        empty = p.is_empty() if provable else None
        slowest = max(slowest, (time.process_time() - begin, text))
        count += 1
        if (mask != patterns.mask(text, 57, 64, q_offset=5)).any():
            failures.append(f"mask: {text}")
        if total is not None and total != patterns.mask(text, 60, 60).sum():
            failures.append(f"count: {text}")
        if empty and patterns.mask(text, 120, 120).any():
            failures.append(f"is_empty: {text}")
    assert not failures, "\n".join(failures[:20])
    if SECONDS:
        print(f"{count} expressions, slowest {slowest[0]:.3f} s: {slowest[1]}")
        assert slowest[0] < 1.0, slowest[1]


def random_problem(seed: int) -> cases.Problem:
    c = random_patterns.Seeded(seed)
    return cases.Problem(
        nq=c.choice([*cases.LENGTHS, c.integer(3, 400)]),
        nk=c.choice([*cases.LENGTHS, c.integer(3, 400)]),
        d=c.choice([8, 16, 40, 64]),
        dv=c.choice([8, 16, 40, 64]),
        dtype=c.choice(cases.DTYPES),
        group=c.choice([1, 3, 4]),
        layout=c.choice(cases.LAYOUTS),
        where=random_patterns.text(c, c.integer(0, 5)),
        offset=c.choice(["zero", "end", "five", "batch"]),
        b=c.choice([1, 2, 3]),
        hk=c.choice([1, 2]),
    )


def test_kernels_of_random_problems() -> None:
    sweep(10, lambda seed: compare_problem(random_problem(seed), seed), lambda seed: random_problem(seed).label, FIRST)
