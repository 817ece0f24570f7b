"""Boolean tensors of query and key: boxes that are skipped, squares that are transposed, and what is neither."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import array, compare
from oracle import attention, tolerance

B, H = 2, 2


def random(*shape: int, share: float = 0.1) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5)) < share


def blocks(n: int, m: int) -> torch.Tensor:
    coarse = random(B, H, n // 24 + 1, m // 64 + 1, share=0.3)
    return coarse.repeat_interleave(24, 2).repeat_interleave(64, 3)[:, :, :n, :m].contiguous()


MASKS: dict[str, Callable[[int, int], torch.Tensor]] = {
    "random": lambda n, m: random(B, H, n, m),
    "blocks": blocks,
    "all": lambda n, m: torch.ones(B, 1, n, m, dtype=torch.bool),
    "none": lambda n, m: torch.zeros(1, H, n, m, dtype=torch.bool),
    "of all heads": lambda n, m: blocks(n, m)[:1, :1],
    "transposed": lambda n, m: random(B, H, m, n).transpose(2, 3),
    "every other column": lambda n, m: random(B, H, n, 2 * m)[..., ::2],
    "columns of a wider one": lambda n, m: random(B, H, n, m + 50)[..., 20 : 20 + m],
}
WHERE = [
    "mask(%m)",
    "mask(%m) & causal",
    "mask(%m) | window(5, 5)",
    "causal & mask(%m) | holds(b, h, i, j : (i + j) % 7 == 0)",
    "~mask(%m) & (block(32) | stride(3))",
]


@pytest.mark.parametrize("n, m, offset", [(300, 300, 0), (70, 700, 500), (1, 400, 399), (17, 16, 0), (130, 64, 3)])
@pytest.mark.parametrize("name", MASKS)
def test_masks(name: str, n: int, m: int, offset: int) -> None:
    generator = torch.Generator().manual_seed(n)
    q, k, v = (torch.randn(B, H, rows, 24, generator=generator) for rows in (n, m, m))
    for where in WHERE:
        compare(q, k, v, where, operands={"m": MASKS[name](n, m)}, q_offset=offset, label=f"{name} {n} x {m}")


def test_masks_by_other_indices() -> None:
    """A function may read the tensor anywhere: only rows along the keys are taken as rows."""
    generator = torch.Generator().manual_seed(6)
    q, k, v = (torch.randn(B, H, 200, 24, generator=generator) for _ in range(3))
    t = hd.tensor(random(B, H, 200, 200))
    for fn in (
        lambda b, h, i, j: t[b, h, i, j + 3] | t[b, h, j, i],
        lambda b, h, i, j: t[b, h, 2 * i, j - 5] & (i >= j),
        lambda b, h, i, j: ~t[b, h, i, j] & t[b, h, i, 0],
        lambda b, h, i, j: t[b, h, i, j - i + 60],
    ):
        got, want = (array(f(q, k, v, where=fn)) for f in (hd.attend, hd.reference))
        assert abs(got - want).max() < 1e-5


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3"])
def test_masks_on_other_targets(target: str) -> None:
    generator = torch.Generator().manual_seed(7)
    q, k, v = (torch.randn(B, H, 150, 24, generator=generator) for _ in range(3))
    m = blocks(150, 150) | random(B, H, 150, 150, share=0.02)
    kernel = hd.compile(hd.spec(where=hd.mask(m) & hd.causal, heads=(H, H), d=24), target=target)
    want = attention.attend(*(x.double().numpy() for x in (q, k, v)), where="mask(%m) & causal", operands={"m": m})
    verdict = tolerance.check(array(kernel(q, k, v, m)), want, "f32", None, target)
    assert verdict, verdict.message


def test_queries_with_few_keys() -> None:
    """Each query decides by its own row whether it is taken by itself; so its bits are those that it has alone."""
    generator = torch.Generator().manual_seed(9)
    n, m = 200, 500
    q, k, v = (torch.randn(B, H, rows, 40, generator=generator) for rows in (n, m, m))
    share = torch.linspace(0, 0.5, n)[torch.randperm(n, generator=generator)][:, None]
    uniform = torch.rand(B, 1, n, m, generator=generator)
    bits = uniform < share
    k[:, :, 7] = float("nan")
    v[:, :, 7] = float("inf")
    bits[..., 7] = False
    whole = hd.attend(q, k, v, where=hd.mask(bits), q_offset=0)
    compare(q, k, v, "mask(%m)", operands={"m": bits}, q_offset=0)
    compare(q, k, v, "mask(%m) | window(9, 9)", operands={"m": bits}, q_offset=0)
    for lo, hi in ((0, 1), (100, 101), (37, 200), (64, 128)):
        part = hd.attend(q[:, :, lo:hi], k, v, where=hd.mask(bits[:, :, lo:hi].contiguous()), q_offset=lo)
        for row in range(hi - lo):
            if share[lo + row] < 0.1:
                assert torch.equal(part[:, :, row], whole[:, :, lo + row])


def test_tables_of_numbers_by_pair() -> None:
    """Comparisons of integers and floats that have a row for each query, read where they are adjacent and where not."""
    generator = torch.Generator().manual_seed(10)
    q, k, v = (torch.randn(1, H, 170, 24, generator=generator) for _ in range(3))
    kinds = torch.randint(0, 30, (170, 170), generator=generator)
    for t in (kinds, kinds.int(), kinds.to(torch.int8), kinds.float(), kinds.bfloat16(), kinds.T):
        table = hd.tensor(t)
        for fn in (
            lambda b, h, i, j, t=table: t[i, j] == 3,
            lambda b, h, i, j, t=table: (t[i, j] < 2) & (i >= j) | (t[i, j + 4] > 28),
            lambda b, h, i, j, t=table: (t[i, j - 3] == t[j, i]) & ((i + j) % 3 != 0),
            lambda b, h, i, j, t=table: (t[0, i + j - 60] < 3) & (t[i, 2 * j] < 9),
        ):
            got, want = (array(f(q, k, v, where=fn)) for f in (hd.attend, hd.reference))
            assert abs(got - want).max() < 1e-5


@pytest.mark.parametrize(
    "text",
    [
        "i * j % 17 == 0",
        "(i * 1103515245 + j * 12345) % 1000 < 20",
        "(i - j) * (i - j) % 31 == 1 and j <= i",
        "(i - j) % %s == 0",
        "(j - i) // %s == -3",
        "((i ^ j) & 63) == 5 or %t[j] == %t[i]",
    ],
)
@pytest.mark.parametrize("s", [48, -7, 0, 1 << 29])
def test_few_keys_of_opaque_conditions(text: str, s: int) -> None:
    """Conditions that each query tries on its keys, with run-time divisors of any sign and size."""
    generator = torch.Generator().manual_seed(11)
    q, k, v = (torch.randn(1, 2, rows, 24, generator=generator) for rows in (300, 700, 700))
    operands = {"s": hd.scalar(s), "t": np.arange(700) * 7 % 97}
    where = hd.parse(f"holds(b, h, i, j : {text})").bind(**{n: x for n, x in operands.items() if f"%{n}" in text})
    got, want = (array(f(q, k, v, where=where, q_offset=100)) for f in (hd.attend, hd.reference))
    assert abs(got - want).max() < 1e-5


@pytest.mark.parametrize("queries, keys", [(64, 64), (32, 48), (128, 300), (1, 64), (16, 131), (64, 16)])
def test_tensors_of_blocks(queries: int, keys: int) -> None:
    """Boxes are wholly live or dead where a tensor has one element for many pairs; offsets do not keep to them."""
    n, m = 200, 500
    generator = torch.Generator().manual_seed(queries * keys)
    q, k, v = (torch.randn(B, H, rows, 24, generator=generator) for rows in (n, m, m))
    rows, columns = -(-n // queries), -(-m // keys)
    level = torch.randint(0, 4, (B, H, rows + 2, columns + 2), generator=generator)
    huge = torch.where(level == 3, torch.tensor(2**62), level)
    t, far = hd.tensor(level), hd.tensor(huge)
    live = hd.tensor(level[:1] > 1)
    bits = level[..., :rows, :columns] == 2
    compare(q, k, v, f"coarse({queries}, {keys}, mask(%m))", operands={"m": bits}, q_offset=0)
    for fn in (
        lambda b, h, i, j: t[b, h, i // queries, (j + 7) // keys] == 2,
        lambda b, h, i, j: (t[b, h, (i + 100) // queries, j // keys] - i // queries < 1) & (j <= i + 300),
        lambda b, h, i, j: live[0, h, i // queries, j // keys] | (i - j == 5),
        lambda b, h, i, j: far[b, h, i // queries, j // keys] > 2,
        lambda b, h, i, j: t[b, h, 0, j // keys] != t[b, h, i // queries, 1],
    ):
        got, want = (array(f(q, k, v, where=fn, q_offset=-30, k_offset=11)) for f in (hd.attend, hd.reference))
        assert abs(got - want).max() < 1e-5
