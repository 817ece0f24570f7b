"""Random cases by seed: a few, or, with HEDDLE_SWEEP (seconds), as many as fit; HEDDLE_SWEEP_SEED says from where."""

from __future__ import annotations

import gc
import os
import time
import warnings
from collections.abc import Callable, Iterator

SECONDS = float(os.environ.get("HEDDLE_SWEEP", "0"))
START = int(os.environ.get("HEDDLE_SWEEP_SEED", "0"))


def seeds(few: int, first: int = 0) -> Iterator[int]:
    """A few seeds, or all that fit in the time, from HEDDLE_SWEEP_SEED or else `first` on."""
    begin = time.monotonic()
    start = START or first
    seed = start
    while seed < start + few or time.monotonic() - begin < SECONDS:
        yield seed
        seed += 1


def sweep(few: int, check: Callable[[int], None], label: Callable[[int], str], first: int = 0) -> None:
    """Runs check(seed) for all seeds, and fails with those that failed; few may be refused for their code's size."""
    failures, count, refused = [], 0, 0
    for seed in seeds(few, first):
        count += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check(seed)
        except Exception as e:  # every failure counts, the sweep goes on
            if isinstance(e, ValueError) and "operations, but got" in str(e):
                refused += 1  # a pattern past the cap on code size says so
                continue
            failures.append(f"seed {seed}: {type(e).__name__}: {str(e)[:1500]} | {label(seed)}")
            if SECONDS:
                print(failures[-1], flush=True)
        if count % 50 == 0:
            gc.collect()
    print(f"{count} cases, {refused} refused, {len(failures)} failures")
    assert refused <= count // 10
    assert not failures, "\n".join(failures[:20])
