"""Matrix products through the fragment layouts that the PTX manual defines."""

from __future__ import annotations

import numpy as np
import pytest

from . import fragments


@pytest.mark.parametrize(("shape", "depth"), [("m16n8k16", 16), ("m16n8k8", 8)])
def test_fragments_hold_each_element_once(shape: str, depth: int) -> None:
    a, b = (fragments.A16, fragments.B16) if depth == 16 else (fragments.A8, fragments.B8)
    for (row, column), size in ((a, (16, depth)), (b, (depth, 8)), (fragments.ACCUMULATOR, (16, 8))):
        seen = np.zeros(size, int)
        np.add.at(seen, (row, column), 1)
        assert (seen == 1).all()


def test_a_product_of_bf16() -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.integers(-8, 8, (16, 16)), rng.integers(-8, 8, (16, 8)), rng.integers(-8, 8, (16, 8))

    def registers(x: np.ndarray, where: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        bits = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)[where]
        return np.ascontiguousarray(bits).view(np.uint32)[None]

    got = fragments.mma(
        "m16n8k16", "bf16", registers(a, fragments.A16), registers(b, fragments.B16),
        c.astype(np.float32)[fragments.ACCUMULATOR][None],
    )  # fmt: skip
    assert (got[0] == (a @ b + c)[fragments.ACCUMULATOR]).all()


def test_ldmatrix_gives_the_fragments_of_a_and_of_a_transposed_b() -> None:
    """Four matrices, rows 0-7 and 8-15 of each half, are A; transposed ones of rows k are B."""
    x = np.arange(256, dtype=np.uint16).reshape(16, 16)
    quarters = np.stack([x[:8, :8], x[8:, :8], x[:8, 8:], x[8:, 8:]])
    plain = [fragments.ldmatrix(m[None], False)[0] for m in quarters]
    want = np.ascontiguousarray(x[fragments.A16]).view(np.uint32)
    assert (np.stack(plain, -1) == want).all()
    transposed = [fragments.ldmatrix(m[None], True)[0] for m in (x[:8, :8], x[8:, :8])]
    want = np.ascontiguousarray(x[:, :8][fragments.B16]).view(np.uint32)
    assert (np.stack(transposed, -1) == want).all()
