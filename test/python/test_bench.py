"""What the bench measures is right: its specs, its peers, and the arithmetic of its report."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import array
from oracle import attention, scalars, tolerance

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import _cases
import _counters
import _measure
import _peers
import _report
import _rows
import cpu
import cycles


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
    want = attention.attend(*map(array, (q, k, v)), where=_cases.every_text()[name], operands=_cases.operands(name, n))
    for rewrite in _peers.REWRITES[name]:
        verdict = tolerance.check(array(rewrite(q, k, v)), want, "f32", None, name)
        assert verdict, verdict.message


def test_rows_have_names_of_their_own_and_cases_that_exist() -> None:
    names = [row.id for row in _rows.rows()]
    assert len(set(names)) == len(names)
    for row in _rows.rows():
        for problem in (row.problem, *(x for x in row.options.values() if isinstance(x, _rows.Problem))):
            assert problem.case in ("", *_cases.every_text()), row.id
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
    # Once to warm up, once timed (the first round), then with turns.
    assert "".join(calls) == "ab" + "ab" + "baab"
    assert all(len(x) == 3 for x in times.rounds.values())


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("vfmadd231ps (%rax){1to16}, %zmm1, %zmm2", "multiply-add"),
        ("vdpbf16ps %zmm1, %zmm2, %zmm3", "multiply-add"),
        ("vbroadcastss 4(%rsi), %zmm3", "shuffle, broadcast"),
        ("vmovups %zmm3, 64(%rdi)", "vector store"),
        ("vmovups 64(%rdi), %zmm3", "vector load, move"),
        ("vscalefps %zmm1, %zmm2, %zmm3", "exponential, convert"),
        ("vcmpltps %zmm1, %zmm2, %k1", "mask, compare"),
        ("jne 0x40", "branch, call"),
        ("addq $64, %rsi", "integer"),
    ],
)
def test_instructions_have_groups(text: str, group: str) -> None:
    assert cycles.group_of(text) == group


def test_samples_are_counted_by_function_group_and_block() -> None:
    lines = [
        cycles.Line(0, "vmovups (%rdi), %zmm0", "f", 0),
        cycles.Line(6, "vfmadd231ps %zmm0, %zmm1, %zmm2", "f", 1),
        cycles.Line(12, "jne 0x6", "f", 1),
        cycles.Line(14, "ret", "g", 2),
    ]
    found = cycles.count(lines, [(1000, 14), (2000, 1)], [1006, 1006, 1007, 1012, 2000, 5])
    assert found["functions"] == pytest.approx({"f": 4 / 6, "g": 1 / 6})
    assert found["groups"] == pytest.approx({"multiply-add": 3 / 6, "branch, call": 2 / 6})
    assert found["blocks"][0]["share"] == pytest.approx(4 / 6)
    assert found["outside"] == pytest.approx(1 / 6)


def row(value: float | None, most: bool = False, spread: float = 0.0, target: float = 1.0) -> dict[str, object]:
    found: dict[str, object] = {"id": "r", "most": most, "target": target, "unit": "x", "value": value}
    if value is None:
        return {**found, "error": "broke"}
    return {**found, "low": value - spread, "high": value + spread}


@pytest.mark.parametrize(
    ("now", "then", "worse"),
    [
        (row(1.0), row(1.0), False),
        (row(0.85), row(1.0), True),
        (row(0.85, spread=0.1), row(1.0), False),
        (row(1.3, most=True), row(1.0, most=True), True),
        (row(0.7, most=True), row(1.0, most=True), False),
        (row(None), row(1.0), True),
    ],
)
def test_regressions_are_judged_by_sense_and_spread(
    now: dict, then: dict, worse: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = {"cpu": "x"}
    found = _report.compare({"machine": machine, "rows": [now]}, {"machine": machine, "rows": [then]})
    assert found == (["r"] if worse else [])
    value, earlier = now["value"], then["value"]
    better = value is not None and (earlier / value if now["most"] else value / earlier) > 1.1
    assert ("better" in capsys.readouterr().out) == better
    assert _report.met(row(0.9)) is False
    assert _report.met(row(0.9, most=True)) is True
    assert _report.met(row(None)) is None


WORKER = """
import json, os, sys, time
for name in json.loads(sys.argv[1]):
    print(json.dumps({"begin": name}), flush=True)
    if name == "dies":
        os._exit(7)
    if name == "hangs":
        time.sleep(600)
    print(json.dumps({"row": name, "value": 1.0}), flush=True)
"""


def test_a_row_that_dies_or_hangs_takes_no_other_with_it() -> None:
    seen: list[str] = []
    found = cpu.run_rows(
        {"a": 60, "dies": 60, "b": 60, "hangs": 0.5, "c": 60}, False, time.monotonic() + 60,
        lambda name, result: seen.append(name), [sys.executable, "-c", WORKER],
    )  # fmt: skip
    assert seen == ["a", "dies", "b", "hangs", "c"]
    assert [name for name in found if found[name].get("value") == 1.0] == ["a", "b", "c"]
    assert "status 7" in found["dies"]["error"]
    assert "gave up" in found["hangs"]["error"]


def test_rows_that_do_not_fit_the_time_are_named() -> None:
    found = cpu.run_rows(
        {"a": 60, "hangs": 60, "b": 60}, False, time.monotonic() + 1, lambda *_: None, [sys.executable, "-c", WORKER]
    )
    assert found["a"]["value"] == 1.0
    assert "out of time" in found["hangs"]["error"]
    assert "out of time" in found["b"]["error"]


def test_one_row_of_each_kind_runs() -> None:
    """In small, in the bench's own process; nothing is written."""
    kinds: dict[object, str] = {}
    for r in _rows.rows():
        if r.measure not in (_rows.against_flex, _rows.compile_times):
            kinds.setdefault(r.measure, r.id)
    results = Path(cpu.__file__).parent / "results"
    before = {f: f.stat().st_mtime_ns for f in results.iterdir()}
    command = [sys.executable, cpu.__file__, "--quick", "--only", *kinds.values()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in kinds.values():
        assert any(name in line and "[" in line for line in done.stderr.splitlines()), done.stderr
    assert before == {f: f.stat().st_mtime_ns for f in results.iterdir()}


ASSEMBLY = """
    .text
    .globl    f
f:
    xorl    %eax, %eax
.LBB0_1:
    vfmadd231ps    (%rdi){1to16}, %zmm1, %zmm2  # a comment
    incl    %eax
    cmpl    $9, %eax
    jl    .LBB0_1
    vfmadd231ps    %ymm0, %ymm1, %ymm2
    retq
.Lfunc_end0:
    .section    .rodata,"a",@progbits
.LCPI0_0:
    .long    7
"""


def test_every_basic_block_gets_a_counter() -> None:
    text, blocks = _counters.instrument(ASSEMBLY)
    assert [(b.function, len(b.instructions)) for b in blocks] == [("f", 1), ("f", 4), ("f", 2)]
    assert text.count("incq\t.Lcounters") == 3
    assert [sum(map(_counters.products, b.instructions)) for b in blocks] == [0, 16, 8]
    assert _counters.products("vdpbf16ps %zmm1, %zmm2, %zmm3") == 32
    assert _counters.products("vfmadd231ss %xmm1, %xmm2, %xmm3") == 1
    assert _counters.products("vmulps %zmm1, %zmm2, %zmm3") == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_counted_pairs(dtype: torch.dtype) -> None:
    """A dense problem that fills its tiles computes each pair once; a window computes no less than its live pairs."""
    q, k, v = (torch.randn(1, 2, 384, 64).to(dtype) for _ in range(3))
    blocks = _counters.run(hd.compile(hd.spec(hd.full, d=64, dtype=dtype)), (q, k, v))
    dots, sums = _counters.pairs(blocks, 64, 64)
    assert sums == 2 * 384 * 384
    assert dots >= sums
    where = hd.window(20, 3)
    blocks = _counters.run(hd.compile(hd.spec(where, d=64, dtype=dtype)), (q, k, v))
    dots, sums = _counters.pairs(blocks, 64, 64)
    assert 2 * where.count(384, 384) <= sums <= dots < 2 * 384 * 384


def test_saved_rows_take_the_place_of_earlier_ones() -> None:
    before = {"rows": [{"id": "b", "value": 1}, {"id": "gone", "value": 1}, {"id": "a", "value": 1}]}
    found = _report.merged(before, {"rows": [{"id": "b", "value": 2}, {"id": "c", "value": 2}]}, ["a", "b", "c", "d"])
    assert found["rows"] == [{"id": "a", "value": 1}, {"id": "b", "value": 2}, {"id": "c", "value": 2}]
