"""The bench of the zoo: what PyTorch computes is what the examples compute, and the report's arithmetic."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import _zoo
import _zooreport

SYSTEMS = {s.id: s for s in _zoo.systems()}


@pytest.mark.parametrize("name", SYSTEMS)
def test_heddle_and_each_form_in_pytorch_agree(name: str) -> None:
    """A peer that computes something else would be no peer."""
    case = SYSTEMS[name].make(512)
    want = case.formula(*case.inputs).double()
    limit = 0.05 if name.endswith("bf16") else 1e-4
    for run in (lambda *_: case.heddle(), *case.rewrites):
        got = run(*case.inputs)
        assert got.shape == want.shape
        assert float((got.double() - want).abs().max() / want.abs().max()) < limit


def test_every_example_is_measured_or_named() -> None:
    """A new example gets a row."""
    measured = {name.split("/")[0] for name in SYSTEMS}
    unmeasured = {p.parent.name for p in _zoo.EXAMPLES.glob("*/example.py")} - measured
    assert unmeasured <= _zoo.UNMEASURED


def test_fit_finds_the_exponent() -> None:
    ns = [4096, 8192, 16384]
    assert _zooreport.fit(ns, [3e-9 * n**1.5 for n in ns]) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({}, []),
        ({"slope": 1.65}, ["slope"]),
        ({"over_torch": 0.9}, ["torch"]),
        ({"over_compiled": 2.0}, ["compiled"]),
        ({"over_compiled": 2.0, "kind": "dense"}, []),
        ({"over_bound": 1.8}, ["bound"]),
        ({"over_bound": 1.8, "kind": "run-time"}, []),
        ({"over_bound": 9.0, "over_compiled": 2.0, "kind": "lists"}, ["compiled"]),
    ],
)
def test_targets(change: dict, what: list[str]) -> None:
    row = {"slope": 1.52, "promised_slope": 1.5, "over_torch": 1.2, "over_compiled": 4.0, "over_bound": 1.3}
    assert _zooreport.missed({**row, "kind": "sparse", **change}) == what


def test_saved_rows_take_the_place_of_earlier_ones() -> None:
    before = {"format": 1, "rows": [{"id": "a", "slope": 1}, {"id": "b", "slope": 1}, {"id": "gone", "slope": 1}]}
    now = {"format": 1, "rows": [{"id": "b", "slope": 2}]}
    assert _zooreport.merged(before, now, ["a", "b"])["rows"] == [{"id": "a", "slope": 1}, {"id": "b", "slope": 2}]
