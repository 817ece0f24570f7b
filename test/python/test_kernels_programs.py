"""Random programs of several ops as one kernel: every step against the oracle, at two lengths.

HEDDLE_SWEEP (seconds) tries as many seeds as fit; HEDDLE_SWEEP_SEED says from where.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sweep import sweep

import heddle as hd
from kernel_checks import array
from oracle import programs, scores
from oracle.cases import TORCH
from oracle.programs import Program, Step, program

FEW = 30
LENGTHS = ((17, 64), (33, 100), (48, 130), (21, 9))


def arguments(p: Program) -> dict[str, Any]:
    """The arguments as a call takes them; a run-time integer is a scalar."""
    tensors = {n: torch.tensor(x, dtype=torch.float32).to(TORCH[p.dtype]) for n, x in p.tensors.items()}
    others = {n: hd.scalar(x) if isinstance(x, int) else torch.as_tensor(x) for n, x in p.operands.items()}
    return tensors | others


def step(s: Step, x: dict[str, Any]) -> Any:
    """A step by the package's ops."""
    o, given = s.options, [x[n] for n in s.ins]
    if s.op == "attend":
        parts = []
        for g in o["segments"]:
            score = scores.SCORES[g["score"]](hd, x[s.ins[0]].shape[1]) if g["score"] else None
            where = hd.parse(g["where"]).bind(**{n: x[n] for n in g["names"]})
            parts.append(hd.segment(x[g["k"]], x[g["v"]], where, score=score, k_offset=g["k_offset"]))
        return hd.attend(given[0], segments=parts, q_offset=o["q_offset"], return_lse=len(s.outs) > 1)
    if s.op == "clustered":
        rows, ids, perm = given
        where = hd.cluster(ids) & hd.positions(perm, perm, hd.causal if o["causal"] else hd.full)
        return hd.attend(rows, rows, rows, where=where)
    if s.op == "merge":
        return hd.merge([(given[0], given[2]), (given[1], given[3])])
    if s.op == "linear_attend":
        decay = given[3] if len(given) > 3 else None
        return hd.linear_attend(*given[:3], feature=lambda t: hd.abs(t) + 0.5, decay=decay, **o)
    if s.op == "gate":
        return programs.gate(hd, *given)
    if s.op == "glue":
        return programs.glued(hd, o["form"], *given)
    return getattr(hd, "gather_rows" if s.op == "gather_ids" else s.op)(*given, **o)


def kernel_of(p: Program, names: list[str], results: list[str]) -> Any:
    """The program as one kernel that gives `results`."""

    def composed(*args: Any) -> Any:
        x = dict(zip(names, args, strict=True))
        for s in p.steps:
            made = step(s, x)
            x.update(zip(s.outs, made if len(s.outs) > 1 else [made], strict=True))
        return [x[n] for n in results]

    return hd.kernel(composed)


def tupled(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def check(seed: int) -> None:
    """Every step of the program of a seed at its first length, then the results alone at both."""
    first, second = LENGTHS[seed % len(LENGTHS)]
    before, shape = None, ""
    for n in (first, second):
        p = program(seed, n)
        same, shape = shape == str((p.steps, p.results)), str((p.steps, p.results))
        args = arguments(p)
        names, made = list(args), [x for s in p.steps for x in s.outs]
        every = dict(zip(made, tupled(kernel_of(p, names, made)(*args.values())), strict=True))
        stored = {n: array(t) if isinstance(t, torch.Tensor) else t.get() for n, t in (args | every).items()}
        exact = {n: t.astype(np.int64) if "int" in str((args | every)[n].dtype) else t for n, t in stored.items()
                 if isinstance(t, np.ndarray)}  # fmt: skip
        unrounded: dict[str, np.ndarray] = {}
        for s in p.steps:
            wrong = programs.judged(p, s, exact, [exact[o] for o in s.outs], unrounded)
            assert not wrong, f"n {n}, {', '.join(s.outs)}: {wrong}"
        before = hd.compile_count() if same else None  # sizes that meet at one length alone may be chosen there
        got = tupled(kernel_of(p, names, p.results)(*args.values()))
        for name, t in zip(p.results, got, strict=True):
            assert np.array_equal(array(t), stored[name], equal_nan=True), f"n {n}: {name} alone has other bits"
        assert before is None or before == hd.compile_count(), "a second length compiled again"


def test_programs() -> None:
    sweep(FEW, check, lambda seed: program(seed, LENGTHS[seed % len(LENGTHS)][0]).label)
