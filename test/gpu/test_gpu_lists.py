"""Run-time lists and ids: the stream of keys comes from the lists; its cost does not grow with the keys there are."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import heddle as hd
from kernel_checks import compare

from . import ptx, run

TARGETS = ["sm_80", "sm_90a"]


class Counted:
    """Names and products of the kernels launched."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.products = 0

    def take(self) -> int:
        """Products since the last call."""
        found, self.products = self.products, 0
        return found


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    real, count = ptx.launch, Counted()

    def launch(kernel: ptx.Kernel, *args: Any, **kw: Any) -> Any:
        done = real(kernel, *args, **kw)
        count.names.append(kernel.name)
        count.products += done["products"]
        return done

    monkeypatch.setattr(ptx, "launch", launch)
    yield count


def inputs(nq: int, nk: int, heads: int = 2, dtype: torch.dtype = torch.bfloat16) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(nq + nk)
    return [torch.randn(1, h, n, 16, generator=g).to(dtype) for h, n in ((heads, nq), (1, nk), (1, nk))]


def rows(nq: int, n: int, below: int, lead: tuple[int, ...] = (1, 1)) -> np.ndarray:
    """For each query n distinct keys below `below`, in any order."""
    rng = np.random.default_rng(n)
    return np.stack([rng.permutation(below)[:n] for _ in range(int(np.prod(lead)) * nq)]).reshape(*lead, nq, n)


def graph(nq: int, n: int, below: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 0 to n entries."""
    counts = np.arange(nq) % (n + 1)
    idx = np.concatenate([rows(1, n, below).reshape(-1)[:c] for c in counts])
    return np.concatenate([[0], np.cumsum(counts)]), idx.astype(np.int32)


def documents(n: int, length: int) -> np.ndarray:
    return (np.arange(n) // length)[None]


NQ = 130
SYSTEMS = {
    "listed": lambda nk: hd.listed(rows(NQ, 9, 200).astype(np.int32)),
    "listed by head": lambda nk: hd.causal & hd.listed(rows(NQ, 5, 200, (1, 2)).astype(np.int32)),
    "csr": lambda nk: hd.csr(*graph(NQ, 7, 200)),
    "offsets": lambda nk: hd.offsets(np.array([0, 1, 5, 60, 190])),
    "blocks of lists": lambda nk: hd.coarse(64, 64, hd.listed(rows(3, 2, 4).astype(np.int32))),
    "blocks and nothing": lambda nk: hd.coarse(
        64, 64, hd.listed(np.array([0, -1, -1, 2, -1, -1, -1, 1, -1], np.int32).reshape(1, 1, 3, 3))
    ),
    "small blocks": lambda nk: hd.coarse(16, 8, hd.listed(rows(9, 3, 25).astype(np.int32))),
    "runs of keys": lambda nk: hd.coarse(1, 32, hd.listed(rows(NQ, 2, 6).astype(np.int32))),
    "list and window": lambda nk: hd.window(3, 0) | hd.listed(rows(NQ, 4, 200).astype(np.int32)),
    "sorted documents": lambda nk: hd.same(documents(NQ, 50), documents(nk, 50)),
    "documents and causal": lambda nk: hd.causal & hd.same(documents(NQ, 50), documents(nk, 50)),
    "flagged keys": lambda nk: hd.keys(np.isin(np.arange(nk), [3, 150])[None]),
    "padding": lambda nk: hd.causal & hd.keys((np.arange(nk) < 120)[None]),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_twice_the_keys_cost_no_more(name: str, target: str, counted: Counted) -> None:
    """The same lists in twice, and in eight times the keys: as many matrix products, to one."""
    found = []
    for nk in (256, 512, 2048):
        q, k, v = inputs(NQ, nk)
        run.attend(q, k, v, where=SYSTEMS[name](nk), q_offset=0, target=target)
        found.append(counted.take())
    assert found[0] > 0
    assert found[0] == found[1] == found[2], found


def test_cost_follows_the_entries(counted: Counted) -> None:
    """Twice the entries are twice the products; entries that are no keys are none."""
    q, k, v = inputs(64, 2048)

    def products(entries: np.ndarray) -> int:
        run.attend(q, k, v, where=hd.listed(entries.astype(np.int32)))
        return counted.take()

    few, many = rows(64, 8, 2048), rows(64, 16, 2048)
    padded = np.concatenate([few, np.full_like(few, -1)], -1)
    assert products(many) == 2 * products(few)
    # Entries lie in the list's order: tiles of 64 keys hold four rows' lists instead of eight.
    assert products(padded) <= products(many)
    assert products(np.full_like(few, -1)) == 0


def test_far_flags_cost_no_tiles_between(counted: Counted) -> None:
    """Tiles without a flagged key take no products."""
    for nk in (512, 4096):
        q, k, v = inputs(64, nk)
        run.attend(q, k, v, where=hd.keys(np.isin(np.arange(nk), [3, nk - 1])[None]))
    assert counted.products > 0
    assert counted.take() == 2 * 2 * 2 * 4 * (8 + 8)


def test_blocks_take_each_list_once(counted: Counted) -> None:
    """64 queries share a list of blocks: as many products as a dense tile of so many keys has."""
    q, k, v = inputs(64, 1024)
    run.attend(q, k, v, where=hd.coarse(64, 64, hd.listed(np.array([[[[3, 9]]]], np.int32))))
    listed = counted.take()
    run.attend(q, k[:, :, :128], v[:, :, :128])
    assert listed == counted.take()


@pytest.mark.parametrize("order", ["forward", "backward"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_warps_that_run_one_by_one(name: str, target: str, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A barrier that is missing shows when one warp runs ahead of the others."""
    monkeypatch.setattr(hd, "attend", functools.partial(run.attend, target=target))
    q, k, v = inputs(NQ, 256)
    where = SYSTEMS[name](256)
    want = hd.reference(q.float(), k.float(), v.float(), where=where, q_offset=0)
    got = hd.attend(q, k, v, where=where, q_offset=0, order=order)
    torch.testing.assert_close(got.float(), torch.as_tensor(want).float(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("where", ["listed(%rows)", "coarse(200, 16, listed(%wide))", "csr(%ptr, %idx)"])
def test_lists_on_hopper(where: str, monkeypatch: pytest.MonkeyPatch, counted: Counted) -> None:
    """Lists that a whole tile shares take tensor copies; others the kernels of sm_80."""
    monkeypatch.setattr(hd, "attend", functools.partial(run.attend, target="sm_90a"))
    q, k, v = inputs(300, 400)
    ptr, idx = graph(300, 7, 400)
    operands = {"rows": rows(300, 9, 400), "wide": rows(2, 5, 25), "ptr": ptr, "idx": idx}
    compare(q, k, v, where, operands=operands, dtype="bf16", q_offset=0)
    assert set(counted.names) == {"heddle_tma_0" if "wide" in where else "heddle_gpu_0"}


@pytest.mark.parametrize("nq", [1, 3])
def test_lists_of_few_queries(nq: int) -> None:
    """Heads share a tile, and the lists' keys are split."""
    q, k, v = inputs(nq, 5000, heads=4, dtype=torch.float32)
    rng = np.random.default_rng(5)
    far = rng.permutation(5000)[:2500] + nq
    compare(q, k, v, "offsets(%far)", operands={"far": far}, q_offset=5000)


def test_dead_keys_of_a_list_do_not_reach_a_row() -> None:
    """A key of one row's list is dead for the rows beside it."""
    q, k, v = inputs(64, 300)
    lists = rows(64, 4, 250)
    lists[..., 0] = 250 + np.arange(64) % 40
    v[:, :, 250], k[:, :, 251] = float("nan"), float("inf")
    compare(q, k, v, "listed(%rows)", operands={"rows": lists}, dtype="bf16", q_offset=0)


@pytest.mark.parametrize("where", ["random_blocks(64, 4, 3)", "causal & (random_blocks(16, 5, 1) | window(7, 0))"])
@pytest.mark.parametrize("target", TARGETS)
def test_drawn_blocks(where: str, target: str, counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks drawn on the device: in eight times the keys about the same products, whatever lies between them."""
    monkeypatch.setattr(hd, "attend", functools.partial(run.attend, target=target))
    q, k, v = inputs(130, 2048)
    compare(q, k, v, where, dtype="bf16", q_offset=2048 - 130)
    many = counted.take()
    compare(q, k[:, :, :256].contiguous(), v[:, :, :256].contiguous(), where, dtype="bf16", q_offset=256 - 130)
    assert many < 2 * counted.take()


@pytest.mark.parametrize("target", TARGETS)
def test_many_drawn_blocks_are_one_stratum(target: str) -> None:
    """The code does not grow with the blocks of a row, nor their rows' copies with the keys of a block."""
    sizes = []
    for count in (4, 64):
        text = run.text_of(*inputs(130, 130), where=hd.random_blocks(64, count, 3), q_offset=0)
        bundle = run.compile_bundle(text, target)
        sizes.append(len(bundle.ptx))
        maps = bundle.manifest["gpu"].get("tensor_maps", [])
        assert [m["rows"] for m in maps] == [64] * len(maps)
    assert max(sizes) < 1.05 * min(sizes)
