"""Interleaved timing: every contestant once a round, so that drift hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

PAUSE = 0.03  # seconds
WARM = 0.02  # seconds


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return (values[0],) * 3
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return statistics.median(values), low, high


@dataclass
class Times:
    """Seconds of one call by contestant, one entry a round (None where it sat out)."""

    rounds: dict[str, list[float | None]] = field(default_factory=dict)

    def seconds(self, name: str) -> list[float]:
        """The rounds that it ran in."""
        return [t for t in self.rounds[name] if t is not None]

    def median(self, name: str) -> float:
        """Median seconds of one call."""
        return statistics.median(self.seconds(name))

    def each(self, f: Callable[..., float], *names: str) -> list[float]:
        """f of the seconds of `names`, round by round: what is compared ran at the same time."""
        columns = zip(*(self.rounds[n] for n in names), strict=True)
        return [f(*row) for row in columns if None not in row]

    def as_json(self) -> dict[str, dict[str, float]]:
        """Plain numbers for the results file."""
        out = {}
        for name in self.rounds:
            median, low, high = middle(self.seconds(name))
            out[name] = {"median": median, "low": low, "high": high, "rounds": len(self.seconds(name))}
        return out


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    sample: float = 0.004,
    budget: float = 2.5,
    spinning: frozenset[str] = frozenset(),
) -> Times:
    """Times each of `runs`, one sample each in turn, the order turning from round to round.

    A sample repeats a short call until it lasts `sample` seconds. After three rounds,
    a contestant that has used its share of `budget` seconds sits out, and the rounds
    end once the first one (what is measured) does. After those of `spinning` comes a
    pause: OpenMP's threads go on to spin for some milliseconds after their work.
    """
    first = {}
    for run in runs.values():
        run()
    time.sleep(PAUSE if spinning & runs.keys() else 0)
    for name, run in runs.items():
        begin = time.perf_counter()
        run()
        first[name] = time.perf_counter() - begin
        if name in spinning:
            time.sleep(PAUSE)
    counts = {name: max(1, round(sample / max(took, 1e-7))) for name, took in first.items()}
    names = list(runs)
    times = Times({name: [] for name in names})
    spent = dict.fromkeys(names, 0.0)
    share = budget / len(names)
    done = 0
    if all(count == 1 for count in counts.values()):
        # What took long enough was a round already.
        done, spent = 1, first
        times.rounds = {name: [took] for name, took in first.items()}
    for r in range(done, rounds):
        if r >= 3 and spent[names[0]] > share:
            break
        turn = r % len(names)
        for name in names[turn:] + names[:turn]:
            if r >= 3 and spent[name] > share:
                times.rounds[name].append(None)
                continue
            run, count = runs[name], counts[name]
            begin = time.perf_counter()
            while spinning & runs.keys() and first[name] < WARM / 2 and time.perf_counter() - begin < WARM:
                run()
            begin = time.perf_counter()
            for _ in range(count):
                run()
            took = time.perf_counter() - begin
            spent[name] += took
            times.rounds[name].append(took / count)
            if name in spinning:
                time.sleep(PAUSE)
    return times
