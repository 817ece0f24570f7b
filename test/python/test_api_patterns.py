"""Patterns in Python: text, algebra, meaning, comparison, errors."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch

import heddle as hd

CLOSED = [
    "full", "causal", "causal(3)", "window(3, 2)", "window(2, 0, 3)", "stride(5)", "stride(4, 1)", "block(6)",
    "keys([0 to 3, 7])", "queries([1, 4 to 9])", "global_tokens([0, 5])", "key_mod(6, 1, 4)", "query_mod(5, 0, 2)",
    "offsets([0, 1, 2, 4, 8])", "coarse(4, causal)", "coarse(1, 3, causal)", "grid(4, window(1, 1), block(2))",
    "shift(2, block(4))", "neighborhood(5, 20)", "past_blocks(4)", "parent(3)", "random_blocks(4, 2, 7)",
    "per_head([causal, block(4)])", "affine_set<(i, j) : (i - j >= 0, j - i + 5 >= 0)>",
    "holds(b, h, i, j : ((i - j) mod 3 == 0))", "remap(affine_map<(x) -> (x floordiv 4)>, causal)",
]  # fmt: skip


@pytest.mark.parametrize("text", CLOSED)
def test_text_round_trip(text: str) -> None:
    p = hd.parse(text)
    again = hd.parse(repr(p))
    assert repr(again) == repr(p)
    assert (again.mask(20) == p.mask(20)).all()
    assert (hd.parse(str(p)).mask(20) == p.mask(20)).all()


@pytest.mark.parametrize(
    ("built", "text"),
    [
        (hd.causal, "causal"),
        (hd.causal(2), "causal(2)"),
        (hd.window(3, 2), "window(3, 2)"),
        (hd.window(2, 0, 3), "window(2, 0, 3)"),
        (hd.window(hd.inf, 0), "window(inf, 0)"),
        (hd.window(float("inf"), 0), "window(inf, 0)"),
        (hd.stride(4, 1), "stride(4, 1)"),
        (hd.block(6), "block(6)"),
        (hd.keys([(0, 3), 7]), "keys([0 to 3, 7])"),
        (hd.keys([range(0, 3), 7]), "keys([0 to 3, 7])"),
        (hd.queries([1, (4, 9)]), "queries([1, 4 to 9])"),
        (hd.global_tokens([0, 5]), "global_tokens([0, 5])"),
        (hd.key_mod(6, 1, 4), "key_mod(6, 1, 4)"),
        (hd.query_mod(5, 0, 2), "query_mod(5, 0, 2)"),
        (hd.offsets([0, 1, 2]), "offsets([0, 1, 2])"),
        (hd.coarse(4, hd.causal), "coarse(4, causal)"),
        (hd.coarse(1, 3, hd.causal), "coarse(1, 3, causal)"),
        (hd.grid(4, hd.window(1, 1), hd.block(2)), "grid(4, window(1, 1), block(2))"),
        (hd.shift(2, hd.block(4)), "shift(2, block(4))"),
        (hd.neighborhood(5, 20, 1, 2, True), "neighborhood(5, 20, 1, 2, true)"),
        (hd.past_blocks(4, inclusive=True), "past_blocks(4, 4, true)"),
        (hd.parent(3), "parent(3)"),
        (hd.random_blocks(4, 2, 7), "random_blocks(4, 2, 7)"),
        (hd.per_head([hd.causal, hd.block(4)]), "per_head([causal, block(4)])"),
        (hd.remap("affine_map<(x) -> (x floordiv 4)>", hd.causal), "remap(affine_map<(x) -> (x floordiv 4)>, causal)"),
        (
            hd.remap(lambda x: (x // 4, x % 4), hd.causal, hd.full),
            "remap(affine_map<(x) -> (x floordiv 4, x mod 4)>, causal, full)",
        ),
        (hd.affine_set("(i, j)[nq, nk] : (nk - 4 - j >= 0)"), "affine_set<(i, j)[nq, nk] : (nk - 4 - j >= 0)>"),
        (hd.causal & (hd.window(3, 0) | hd.block(4)) - hd.keys([0]), "causal & (window(3, 0) | block(4)) - keys([0])"),
        (~hd.causal, "~causal"),
    ],
)  # fmt: skip
def test_constructors_are_the_text_form(built: hd.Pattern, text: str) -> None:
    want = hd.parse(text)
    for offset in (0, 3):
        assert (built.mask(24, 30, offset, h=1) == want.mask(24, 30, offset, h=1)).all()


def test_operators_are_set_operations() -> None:
    p, q = hd.window(4, 1), hd.stride(3)
    a, b = p.mask(30), q.mask(30)
    assert ((p & q).mask(30) == (a & b)).all()
    assert ((p | q).mask(30) == (a | b)).all()
    assert ((p - q).mask(30) == (a & ~b)).all()
    assert ((~p).mask(30) == ~a).all()


def test_precedence_is_pythons() -> None:
    p = hd.parse("causal | window(1, 1) & ~block(4) - stride(3)")
    q = hd.causal | hd.window(1, 1) & ~hd.block(4) - hd.stride(3)
    assert (p.mask(24) == q.mask(24)).all()


def test_ends_are_those_of_the_range() -> None:
    p = hd.keys([(0, 2), (hd.end - 3, hd.end)])
    live = p.mask(4, 10)[0]
    assert list(np.flatnonzero(live)) == [0, 1, 7, 8, 9]
    assert list(np.flatnonzero(hd.keys([hd.end - 1]).mask(1, 10)[0])) == [9]


def test_count_and_mask_agree() -> None:
    p = hd.causal & hd.window(5, 0) | hd.keys([0])
    for nq, nk, offset in itertools.product((0, 1, 17), (1, 20), (0, 4)):
        assert p.count(nq, nk, offset) == int(p.mask(nq, nk, offset).sum())
    assert hd.causal.count(3, 8, "end") == 6 + 7 + 8


def test_per_head_goes_by_query_head() -> None:
    p = hd.per_head([hd.causal, hd.full])
    assert (p.mask(5, h=0) == hd.causal.mask(5)).all()
    assert p.mask(5, h=1).all()
    assert (p.mask(5, h=2) == hd.causal.mask(5)).all()


def test_print_draws() -> None:
    lines = str(hd.causal).splitlines()
    assert lines[0] == "causal"
    assert lines[1].startswith("■ · ·")
    assert lines[2].startswith("■ ■ ·")
    assert f"{hd.causal}" == repr(hd.causal) == "causal"
    assert hd.causal.draw(2, 3) == "■ · ·\n■ ■ ·"


def test_comparisons_are_of_sets() -> None:
    assert hd.causal == hd.window(hd.inf, 0)
    assert hd.causal & hd.window(63, 63) == hd.window(63, 0)
    assert hd.causal != hd.causal(1)
    assert ~~hd.stride(5) == hd.stride(5)
    assert hd.window(3, 0) <= hd.causal
    assert hd.causal >= hd.window(3, 0)
    assert hd.window(3, 0) < hd.causal
    assert hd.causal > hd.window(3, 0)
    assert not hd.window(3, 1) <= hd.causal
    assert not hd.causal < hd.causal
    assert (hd.causal & ~hd.causal).is_empty()
    assert not hd.causal.is_empty()
    assert (hd.causal == 3) is False


def test_example_is_in_one_and_not_in_the_other() -> None:
    found = hd.causal.example(hd.window(5, 0))
    assert found is not None
    i, j = found
    assert j <= i - 6
    assert hd.window(5, 0).example(hd.causal) is None
    member = hd.stride(7, 3).example()
    assert member is not None
    assert (member[0] - member[1]) % 7 == 3


def test_hash_agrees_with_equality() -> None:
    spellings = [hd.window(63, 0), hd.causal & hd.window(63, 63), hd.holds(lambda b, h, i, j: (i >= j) & (i - j < 64))]
    assert len({hash(p) for p in spellings}) == 1
    assert len(set(spellings)) == 1
    ids = torch.zeros(1, 8, dtype=torch.int64)
    assert hash(hd.same(ids) & hd.causal) == hash(hd.causal & hd.same(ids))
    assert hd.same(ids) & hd.causal == hd.causal & hd.same(ids)


def test_canonical_text_joins_spellings() -> None:
    assert hd.window(63, 0).canonical().text == (hd.causal & hd.window(63, 63)).canonical().text


# Run-time operands


def test_operands_are_merged_by_identity() -> None:
    docs = torch.tensor([[0, 0, 1, 1]])
    other = docs.clone()
    assert len((hd.same(docs) & hd.same(docs)).operands) == 1
    assert len((hd.same(docs) & hd.same(other)).operands) == 2
    p = hd.same(other) & (hd.same(docs) | hd.keys(torch.tensor([[True, False, True, True]])))
    want = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], bool)
    both = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], bool)
    assert (p.mask(4) == both & (both | np.array([1, 0, 1, 1], bool))).all()
    assert want.shape == p.mask(4).shape


def test_runtime_patterns_mean_what_the_table_says() -> None:
    rng = np.random.default_rng(0)
    n = 12
    ids = rng.integers(-1, 3, (2, n))
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    for b in range(2):
        row = ids[b]
        assert (hd.same(ids).mask(n, b=b) == ((row[i] == row[j]) & (row[i] >= 0))).all()
        assert (hd.cluster(ids).mask(n, b=b) == ((row[i] == row[j]) & (row[i] >= 0))).all()
    lens = np.array([3, 9])
    assert (hd.lengths(lens).mask(n, b=1) == (j < 9)).all() and hd.lengths(lens).mask(n).shape == (n, n)
    lo, hi = rng.integers(0, n, (2, n)), rng.integers(0, n, (2, n))
    assert (hd.between(lo, hi).mask(n, b=1) == ((lo[1][i] <= j) & (j < hi[1][i]))).all()
    flags = rng.random((2, n)) < 0.5
    assert (hd.keys(flags).mask(n, b=1) == np.broadcast_to(flags[1], (n, n))).all()
    assert (hd.queries(flags).mask(n, b=1) == np.broadcast_to(flags[1][:, None], (n, n))).all()


def test_runtime_operands_go_by_rows_and_batch_broadcasts() -> None:
    flags = np.array([[True, False, True]])
    live = hd.keys(flags).mask(2, 3, q_offset=5, k_offset=4, b=1)
    assert (live == np.array([[1, 0, 1], [1, 0, 1]], bool)).all()


def test_scalars_are_read_when_asked() -> None:
    w = hd.scalar(1)
    p = hd.window(w, 0)
    assert p.count(6) == 11
    w.value = 3
    assert p.count(6) == hd.window(3, 0).count(6)


def test_names_are_bound_later() -> None:
    p = hd.parse("causal & keys(%valid) & window(%w, 0)")
    flags = np.array([[True, True, False, True]])
    want = (hd.causal & hd.keys(flags) & hd.window(1, 0)).mask(4)
    assert (p.mask(4, valid=flags, w=1) == want).all()
    assert (p.bind(valid=flags, w=1).mask(4) == want).all()
    assert (hd.parse(repr(p), valid=flags, w=1).mask(4) == want).all()
    with pytest.raises(ValueError, match="expected a value for the operand %valid"):
        p.mask(4)
    with pytest.raises(ValueError, match="expected names among"):
        p.bind(valid=flags, nobody=1)


def test_runtime_patterns_are_equal_on_their_data() -> None:
    ids = torch.zeros(1, 4, dtype=torch.int64)
    assert hd.same(ids) != hd.causal
    assert hd.same(ids) == hd.same(ids + 3)
    assert hd.same(torch.tensor([[0, 0, 1, 1]])) == hd.block(2)
    assert hd.same(torch.tensor([[0, 0, 1, 2]])) != hd.block(2)


def test_proofs_about_runtime_patterns_are_refused() -> None:
    ids = torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="without run-time operands"):
        _ = hd.window(hd.scalar(3), 0) == hd.causal
    with pytest.raises(ValueError, match="without run-time operands"):
        _ = hd.same(ids) <= hd.causal
    with pytest.raises(ValueError, match="without run-time operands"):
        hd.same(ids).is_empty()


# Errors


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: hd.window(-1, 0), ValueError, "expected .*left.*at least 0.*got -1"),
        (lambda: hd.stride(4, 7), ValueError, r"phase in \[0, 4\).*got 7"),
        (lambda: hd.stride(0), ValueError, "expected .*got 0"),
        (lambda: hd.block(0), ValueError, "expected .*got 0"),
        (lambda: hd.key_mod(4, 3, 3), ValueError, "expected .*got"),
        (lambda: hd.window(1.5, 0), TypeError, "expected an integer or hd.scalar for left of window, but got 1.5"),
        (lambda: hd.window("3", 0), TypeError, "expected an integer"),
        (lambda: hd.block(hd.scalar(4)), ValueError, "expected .*got"),
        (lambda: hd.keys([(1, 2, 3)]), ValueError, "expected half-open ranges"),
        (lambda: hd.keys(np.zeros((2, 3))), TypeError, "boolean flags"),
        (lambda: hd.keys(np.zeros(3, bool)), ValueError, r"flags of shape \[B, N\].*got \[3\]"),
        (lambda: hd.same(np.zeros((1, 3), np.float32)), TypeError, "tensor of integers"),
        (lambda: hd.same(np.zeros(3, np.int64)), ValueError, "expected the query ids of shape"),
        (lambda: hd.lengths(np.zeros((2, 2), np.int64)), ValueError, r"expected lengths of shape \[B\]"),
        (lambda: hd.per_head(hd.causal), TypeError, "expected a list of patterns"),
        (lambda: hd.remap("affine_map<(x) -> (x, x)>", hd.causal), ValueError, "expected 2 patterns.*got 1"),
        (lambda: hd.parse("causal & windw(3, 0)"), ValueError, "expected .*but got 'windw'"),
        (lambda: hd.parse("causal &"), ValueError, "expected"),
        (lambda: hd.parse("causal and full"), ValueError, r"expected &, \|, - or the end of the text, but got 'and'"),
        (lambda: hd.parse("über(3)"), ValueError, "expected a pattern, but got 'ü'"),
        (lambda: hd.parse("causal \x80"), ValueError, "but got"),
        (lambda: hd.causal.mask(1 << 20, 1 << 30), MemoryError, "one of 1048576 x 1073741824 pairs"),
        (lambda: hd.parse("window(3"), ValueError, "expected"),
        (lambda: hd.causal and hd.full, TypeError, "write P & Q"),
        (lambda: not hd.causal, TypeError, "write P & Q"),
        (lambda: hd.causal & 3, TypeError, "unsupported operand"),
        (lambda: hd.causal.mask(-1, 2), ValueError, "expected sizes of at least 0"),
        (lambda: hd.scalar("x"), TypeError, "expected an integer or a float"),
        (lambda: hd.window(hd.scalar(1.5), 0), TypeError, "expected an integer hd.scalar"),
        (lambda: -hd.inf, ValueError, "got -inf"),
        (lambda: hd.window(2**63, 0), ValueError, "integer of 64 bits for left of window, but got 9223372036854775808"),
        (lambda: hd.keys([hd.end - 2**70]), ValueError, "integer of 64 bits for a position of keys"),
        (lambda: hd.random_blocks(4, 2, 2**64), ValueError, "integer of 64 bits for seed of random_blocks"),
        (lambda: hd.holds(lambda b, h, i, j: i + 2**70 >= j), ValueError, "integer of 64 bits in a traced function"),
        (lambda: hd.parse(None), TypeError, "expected the text of a pattern, but got NoneType"),
        (lambda: hd.causal.count(5.5), TypeError, "expected an integer for nq, but got 5.5"),
        (lambda: hd.causal.count(2**40), ValueError, r"expected nq of at most 2\^30"),
        (lambda: hd.packed(np.zeros(3, np.int32), np.zeros(4, np.int32)), ValueError, "as many starts .*got 3 and 4"),
        (
            lambda: hd.parse("causal & block(0)"),
            ValueError,
            r"as the block in 'block', but got 0\n  causal & block\(0\)\n {11}\^",
        ),
        (lambda: hd.causal.mask(4, 4, "begin"), TypeError, "expected an integer for q_offset, but got 'begin'"),
    ],
)
def test_errors_say_what_was_expected(make: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()  # type: ignore[operator]


def test_parse_error_shows_the_place_in_a_long_or_a_later_line() -> None:
    with pytest.raises(ValueError) as e:
        hd.parse("causal | " * 5000 + "windw(3, 0)" + " | causal" * 5000)
    message = str(e.value).splitlines()
    assert len(message) == 3 and max(map(len, message)) < 200
    assert message[-1].index("^") == message[-2].index("windw")
    with pytest.raises(ValueError) as e:
        hd.parse("causal\n | windw(3, 0)\n | full")
    message = str(e.value).splitlines()
    assert message[-2].strip() == "| windw(3, 0)"
    assert message[-1].index("^") == message[-2].index("windw")


def test_parse_error_points_at_the_place() -> None:
    with pytest.raises(ValueError) as e:
        hd.parse("causal & windw(3, 0)")
    message = str(e.value).splitlines()
    assert message[-1].index("^") == message[-2].index("windw")


def test_patterns_are_copied_and_pickled() -> None:
    ids = np.arange(12, dtype=np.int32)[None] // 5
    table = hd.tensor(np.arange(12) % 3)
    width = hd.scalar(4)
    patterns = [
        hd.causal(2) & ~hd.stride(3),
        hd.window(width, 0) & hd.same(ids, ids) | hd.keys(ids > 1),
        hd.holds(lambda b, h, i, j: (table[i] == table[j]) | (i - j < width)),
        hd.per_head([hd.causal, hd.listed(np.arange(12)[:, None])]),
    ]
    for pattern in patterns:
        for other in (pickle.loads(pickle.dumps(pattern)), copy.deepcopy(pattern), copy.copy(pattern)):
            assert other.text == pattern.text
            np.testing.assert_array_equal(other.mask(12, 12), pattern.mask(12, 12))
    named = copy.deepcopy(hd.parse("window(%w, 0) & same(%a, %a)"))
    assert repr(named) == "window(%w, 0) & same(%a, %a)"
    assert copy.deepcopy(hd.causal) is hd.causal and pickle.loads(pickle.dumps(hd.full)) is hd.full
