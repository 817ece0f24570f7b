"""The order in which the tiles of a launch are numbered: each is done once, however heads are put in sections."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import heddle as hd
from heddle import _gpu

from . import ptx, run

WHERE = {
    "full": "full",
    "causal": "causal",
    "lattice": "window(9, 0, dilation = 5)",
    "several kernels": "causal & (window(63, 0) | stride(64))",
}


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("where", WHERE)
def test_every_tile_once(where: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each element of the result is stored once; sections of one head of keys and of all give the same bits."""
    count = np.zeros(1 << 24, np.uint8)
    real = ptx.Machine.scatter

    def scatter(machine: ptx.Machine, space: str, at: np.ndarray, data: np.ndarray, size: int) -> None:
        if space == "global":
            for n in range(size):
                np.add.at(count, at.astype(np.int64) - ptx.HEAP + n, 1)
        real(machine, space, at, data, size)

    monkeypatch.setattr(ptx.Machine, "scatter", scatter)
    devices: list[run.Device] = []
    result = run.Device.result

    def remember(device: run.Device, x: torch.Tensor) -> _gpu.View:
        devices.append(device)
        return result(device, x)

    monkeypatch.setattr(run.Device, "result", remember)
    g = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(2, h, 70, 16, generator=g).to(torch.float16) for h in (4, 2, 2))
    results = []
    for section in (1, 1 << 24):
        monkeypatch.setattr(_gpu, "_SECTION_BYTES", section)
        count[:] = 0
        out = run.attend(q, k, v, where=hd.parse(WHERE[where]), q_offset=0, target=target)
        base = devices[-1].back[0][0] - ptx.HEAP
        assert (count[base : base + out.numel() * 2] == 1).all()
        results.append(out.view(torch.int16))
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_sections_are_what_a_cache_holds() -> None:
    """All heads where they fit; else whole groups that share keys, at least one."""
    text = """func.func @f(%q: tensor<?x8x?x64xf16>, %k: tensor<?x2x?x64xf16>, %v: tensor<?x2x?x64xf16>)
        -> tensor<?x8x?x64xf16> {
      %o = attn.attend %q segment(%k, %v) where(causal) q_offset(0)
        : tensor<?x8x?x64xf16> segment(tensor<?x2x?x64xf16>, tensor<?x2x?x64xf16>) -> tensor<?x8x?x64xf16>
      return %o : tensor<?x8x?x64xf16>
    }
    """
    manifest = run.compile_bundle(text).manifest

    def section(batch: int, n: int) -> int:
        q, k = (_gpu._dense(0x1000, "f16", (batch, h, n, 64)) for h in (8, 2))
        return _gpu.pack(manifest, [q, k, k], [q]).block[11]

    assert section(2, 1000) == 16
    assert section(64, 16384) == 16  # 4 MiB for each head of keys: four of them, with four heads of queries each
    assert section(4, 1 << 20) == 4
