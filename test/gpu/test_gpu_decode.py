"""Few queries: the CPU kernels' tests, on the GPU kernels' PTX; heads share tiles, keys are split."""

from typing import Any

import pytest
import torch
from test_kernels_decode import *  # noqa: F403

from heddle import _gpu

from . import ptx, run

# The package's own threads and memory; bits of the CPU's tiles.
del test_bits_do_not_depend_on_the_thread_count, test_bits_of_one_row_alone  # noqa: F821
del test_dead_splits_do_not_leak, test_extra_memory_is_bounded  # noqa: F821

SPEC = """func.func @f(%q: tensor<?x8x?x16xbf16>, %k: tensor<?x2x?x16xbf16>, %v: tensor<?x2x?x16xbf16>)
    -> (tensor<?x8x?x16xbf16>, tensor<?x8x?xf32>) {
  %o, %l = attn.attend %q segment(%k, %v) where(causal) q_offset(end) lse
    : tensor<?x8x?x16xbf16> segment(tensor<?x2x?x16xbf16>, tensor<?x2x?x16xbf16>)
      -> tensor<?x8x?x16xbf16>, tensor<?x8x?xf32>
  return %o, %l : tensor<?x8x?x16xbf16>, tensor<?x8x?xf32>
}
"""


def plan(b: int, nq: int, nk: int) -> _gpu.Plan:
    bundle = run.compile_bundle(SPEC)

    def view(dtype: str, *shape: int) -> Any:
        return _gpu._dense(4096, dtype, shape)

    args = [view("bf16", b, 8, nq, 16), view("bf16", b, 2, nk, 16), view("bf16", b, 2, nk, 16)]
    return _gpu.pack(bundle.manifest, args, [view("bf16", b, 8, nq, 16), view("f32", b, 8, nq)])


def test_what_a_decoding_step_launches() -> None:
    """Four heads share their keys: one tile for each key head and split; then the splits of each row are merged."""
    step = plan(3, 2, 5000)
    assert [(s.name, s.blocks) for s in step.steps] == [("heddle_gpu_0", 3 * 2 * 5), ("heddle_gpu_1", 3 * 8 * 2)]
    assert step.workspace_bytes == 3 * 8 * 2 * 5 * (16 + 2) * 4
    assert step.block[6:9] == [4, 1024, 5]
    # Many queries fill tiles by themselves, and short caches are not split.
    assert [s.blocks for s in plan(1, 200, 5000).steps] == [8 * 5]
    assert [s.blocks for s in plan(1, 1, 1024).steps] == [2]
    assert plan(1, 1, 1024).workspace_bytes == 0
    # No more than 64 splits; their number depends on nothing but the keys.
    assert plan(1, 1, 10**6).block[7:9] == [1024 * 16, 62]
    assert plan(7, 2, 5000).block[8] == plan(1, 1, 5000).block[8]


@pytest.mark.parametrize("order", ["forward", "backward"])
def test_dead_splits_do_not_leak_on_a_gpu(order: str) -> None:
    g = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, 4, n, 16, generator=g) for n in (3, 4000, 4000))
    import heddle as hd

    want = run.attend(q, k[:, :, :1100], v[:, :, :1100], where=hd.causal, q_offset=1097)
    k[:, :, 1100:] = v[:, :, 1100:] = float("nan")
    got = run.attend(q, k, v, where=hd.causal, q_offset=1097, order=order)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_splits_write_all_that_is_merged() -> None:
    """The workspace is poison before the launch; each of its words that is read was written."""
    device, bundle = run.Device(), run.compile_bundle(SPEC)
    g = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(2, h, n, 16, generator=g).bfloat16() for h, n in ((8, 3), (2, 2500), (2, 2500)))
    out, lse = torch.full_like(q, float("nan")), torch.full(q.shape[:3], float("nan"))
    run.launch(device, bundle, [device.view(x) for x in (q, k, v)], [device.result(out), device.result(lse)])
    device.fetch()
    assert torch.isfinite(out).all()
    assert torch.isfinite(lse).all()
    assert ptx.POISON == 0xFF, "poison is NaN in f32"
