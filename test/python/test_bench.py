"""What the bench measures is right: its specs, its peers, and the arithmetic of its report."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import array
from oracle import attention, scalars, tolerance

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import _cases
import _measure
import _peers
import _rows


@pytest.mark.parametrize("name", _cases.specs())
def test_each_spec_of_the_bench(name: str) -> None:
    """The spec, its function in Python, and the judge give the same."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 8, 300, 64) for _ in range(3))
    judge = _cases.score(name, scalars, 8)
    want = attention.attend(*map(array, (q, k, v)), where="causal", score=judge)
    kernel = hd.compile(_cases.specs()[name])
    for got in (
        kernel(q, k, v, *_cases.CAPTURES[name](8)),
        hd.attend(q, k, v, where=hd.causal, score=_cases.score(name, hd, 8)),
    ):
        verdict = tolerance.check(array(got), want, "f32", None, name)
        assert verdict, verdict.message
    i, j = torch.arange(300)[:, None], torch.arange(300)[None]
    theirs = _peers.flex_score(name, 8)(torch.ones(300, 300), 0, torch.tensor(3), i, j)
    ours = judge(np.ones((300, 300)), 0, 3, i.numpy(), j.numpy())
    live = np.tril(np.ones((300, 300), bool))
    np.testing.assert_allclose(theirs.numpy()[live], ours[live], atol=1e-5)


@pytest.mark.parametrize("name", _peers.REWRITES)
def test_each_rewrite_in_pytorch(name: str) -> None:
    """A peer that computes something else would be no peer."""
    torch.manual_seed(0)
    n = 1024
    q, k, v = (torch.randn(1, 2, n, 16) for _ in range(3))
    want = attention.attend(
        *map(array, (q, k, v)), where=_cases.every_text()[name], operands=_cases.operands(name, n)
    )
    for rewrite in _peers.REWRITES[name]:
        verdict = tolerance.check(array(rewrite(q, k, v)), want, "f32", None, name)
        assert verdict, verdict.message


def test_rows_have_names_of_their_own_and_cases_that_exist() -> None:
    names = [row.id for row in _rows.rows()]
    assert len(set(names)) == len(names)
    for row in _rows.rows():
        for problem in (row.problem, *(x for x in row.options.values() if isinstance(x, _rows.Problem))):
            assert problem.case in _cases.every_text(), row.id
            assert not problem.score or problem.score == "lambda" or problem.score in _cases.specs(), row.id


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that slows down between rounds changes no ratio; a round somebody sat out does not count."""
    times = _measure.Times({"a": [1.0, 10.0, 3.0], "b": [2.0, 20.0, None]})
    assert times.each(lambda a, b: b / a, "a", "b") == [2.0, 2.0]
    assert times.median("a") == 3.0
    assert times.as_json()["b"]["rounds"] == 2


def test_contestants_take_turns() -> None:
    calls: list[str] = []
    runs = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    times = _measure.interleaved(runs, 3, sample=0)
    assert "".join(calls) == "aabb" + "abbaab"
    assert all(len(x) == 3 for x in times.rounds.values())
