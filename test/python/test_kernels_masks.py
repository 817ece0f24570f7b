"""P.mask, P.count, equality and text of every primitive and of random expressions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

import heddle as hd
from oracle import cases, patterns, random_patterns

SHAPES = [(1, 1, 0), (17, 40, 0), (40, 17, 3), (64, 64, 0), (33, 70, 37)]


def agree(text: str, nq: int, nk: int, off: int = 0, h: int = 0) -> None:
    """Mask and count of `text` are those of the formula."""
    p = hd.parse(text)
    want = patterns.mask(text, nq, nk, q_offset=off, h=h)
    got = np.asarray(p.mask(nq, nk, q_offset=off, h=h))
    assert got.shape == (nq, nk), text
    assert got.dtype == bool, text
    if not (got == want).all():
        i, j = np.argwhere(got != want)[0]
        raise AssertionError(
            f"{text} [{nq} x {nk}, q_offset {off}, head {h}]: {int((got != want).sum())} pairs differ, "
            f"first row {i} key {j}: expected {want[i, j]}, but got {got[i, j]}"
        )


@pytest.mark.parametrize("name", cases.PRIMITIVES)
def test_mask_of_each_primitive(name: str) -> None:
    text = cases.PRIMITIVES[name]
    for nq, nk, off in SHAPES:
        for h in range(3 if "per_head" in text else 1):
            agree(text, nq, nk, off, h)


@pytest.mark.parametrize("name", cases.PRIMITIVES)
def test_count_of_each_primitive(name: str) -> None:
    text = cases.PRIMITIVES[name]
    if "per_head" in text:
        pytest.skip("a count is of one head")
    for n in (1, 17, 130):
        assert hd.parse(text).count(n, n) == patterns.mask(text, n, n).sum(), (text, n)
    assert hd.parse(text).count(40, 90) == patterns.mask(text, 40, 90).sum(), text


@pytest.mark.parametrize("name", cases.PRIMITIVES)
def test_text_of_each_primitive_means_the_same(name: str) -> None:
    text = cases.PRIMITIVES[name]
    again = hd.parse(text).text
    assert (patterns.mask(again, 50, 45) == patterns.mask(text, 50, 45)).all(), again


@pytest.mark.parametrize("depth", range(6))
def test_masks_of_random_expressions(depth: int) -> None:
    for seed in range(40):
        text = random_patterns.seeded(1000 * depth + seed, depth)
        agree(text, 41, 37, h=seed % 3)
        agree(text, 19, 30, 11, h=seed % 3)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_printed_random_expressions_mean_the_same(depth: int) -> None:
    for seed in range(40):
        text = random_patterns.seeded(7000 + 1000 * depth + seed, depth)
        again = hd.parse(text).text
        assert (patterns.mask(again, 30, 33, h=1) == patterns.mask(text, 30, 33, h=1)).all(), text


@settings(max_examples=60, deadline=None)
@given(random_patterns.texts(depth=3))
def test_mask_of_any_expression(text: str) -> None:
    agree(text, 23, 26, 2)


# Rewritings of one set; {a}, {b}, {c} are random expressions.
SAME = [
    ("{a}", "~~({a})"),
    ("~({a} | {b})", "~({a}) & ~({b})"),
    ("~({a} & {b})", "~({a}) | ~({b})"),
    ("({a}) - ({b})", "({a}) & ~({b})"),
    ("({a}) | ({b})", "({b}) | ({a})"),
    ("({a}) & (({b}) | ({c}))", "(({a}) & ({b})) | (({a}) & ({c}))"),
    ("({a}) | (({a}) & ({b}))", "{a}"),
    ("({a}) | ({b})", "({a}) | (({b}) - ({a}))"),
    ("({a}) - ({a})", "~full"),
    ("coarse(3, ({a}) & ({b}))", "coarse(3, {a}) & coarse(3, {b})"),
    ("~shift(2, {a})", "shift(2, ~({a}))"),
]
# Without conditions and tables, whose equality may be past a cap.
CLOSED = [x for x in random_patterns.LEAVES if x not in ("holds", "affine_set", "random_blocks")]
PLAIN_NODES = ["not", "and", "or", "sub", "coarse", "shift"]


@pytest.mark.parametrize("rule", range(len(SAME)))
def test_rewritten_forms_are_equal(rule: int) -> None:
    for seed in range(6):
        sub = [
            "(" + random_patterns.seeded(90_000 + 100 * rule + 3 * seed + x, 1, leaves=CLOSED, nodes=PLAIN_NODES) + ")"
            for x in range(3)
        ]
        left, right = (t.format(a=sub[0], b=sub[1], c=sub[2]) for t in SAME[rule])
        assert hd.parse(left) == hd.parse(right), f"{left}\n{right}"


def test_different_sets_are_unequal_and_show_a_pair() -> None:
    for seed in range(40):
        a = random_patterns.seeded(50_000 + seed, 1, leaves=CLOSED, nodes=PLAIN_NODES)
        b = random_patterns.seeded(60_000 + seed, 1, leaves=CLOSED, nodes=PLAIN_NODES)
        if "end" in a + b:
            continue
        la, lb = (patterns.mask(t, 90, 90) for t in (a, b))
        if (la == lb).all():
            continue
        p, q = hd.parse(a), hd.parse(b)
        assert p != q, f"{a}\n{b}"
        first, second, ta, tb = (p, q, a, b) if (la & ~lb).any() else (q, p, b, a)
        assert not first <= second, f"{ta}\n{tb}"
        i, j = first.example(second)
        assert min(i, j) >= 0
        inside, outside = (patterns.mask(t, 1, 1, q_offset=i, k_offset=j)[0, 0] for t in (ta, tb))
        assert inside, f"({i}, {j}) is not in {ta}"
        assert not outside, f"({i}, {j}) is in {tb}"


def test_containment_of_random_expressions() -> None:
    for seed in range(30):
        a, b = (random_patterns.seeded(s + seed, 1, leaves=CLOSED, nodes=PLAIN_NODES) for s in (70_000, 80_000))
        p, q = hd.parse(a), hd.parse(b)
        assert (p & q) <= p, f"{a}\n{b}"
        assert p <= (p | q), f"{a}\n{b}"
        assert (p - q) <= ~q, f"{a}\n{b}"
        assert ((p & q) & ~p).is_empty(), f"{a}\n{b}"
