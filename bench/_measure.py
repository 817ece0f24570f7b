"""Interleaved timing: every contestant once a round, so that drift hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass
class Timing:
    """Seconds of one call: median and quartiles over the rounds."""

    median: float
    low: float
    high: float
    rounds: int

    def as_json(self) -> dict[str, float]:
        """Plain numbers for the results file."""
        return {"median": self.median, "low": self.low, "high": self.high, "rounds": self.rounds}


def interleaved(
    runs: Mapping[str, Callable[[], object]], rounds: int, sample: float = 0.004, budget: float = 20.0
) -> dict[str, Timing]:
    """Times each of `runs`, one sample each in turn.

    A sample repeats a short call until it lasts `sample` seconds. The rounds end
    early, but not before three, once `budget` seconds are spent.
    """
    counts = {}
    for name, run in runs.items():
        run()
        begin = time.perf_counter()
        run()
        counts[name] = max(1, round(sample / max(time.perf_counter() - begin, 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    for r in range(rounds):
        if r >= 3 and time.perf_counter() - start > budget:
            break
        for name, run in runs.items():
            count = counts[name]
            begin = time.perf_counter()
            for _ in range(count):
                run()
            samples[name].append((time.perf_counter() - begin) / count)
    out = {}
    for name, times in samples.items():
        low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
        out[name] = Timing(statistics.median(times), low, high, len(times))
    return out
