"""Functions of several ops: traced, compiled as one unit, against the oracle."""

from __future__ import annotations

import copy
import pickle
import types
from typing import Any

import numpy as np
import pytest
import torch

import heddle as hd
from oracle import attention
from oracle import tensor_ops as oracle
from oracle.attention import Segment


def rows(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def judge(q: np.ndarray, segments: list[Segment], **more: Any) -> np.ndarray:
    return attention.attend(q, segments=segments, **more).out


@hd.kernel
def linformer(q: Any, k: Any, v: Any, e: Any, f: Any) -> Any:
    return hd.attend(q, hd.project(k, e), hd.project(v, f))


@pytest.mark.parametrize("n", [1, 17, 300])
def test_two_summaries_and_an_attend(n: int) -> None:
    q, k, v = (rows(2, 3, n, 32, seed=s) for s in range(3))
    e, f = (rows(n, 24, seed=s) / n**0.5 for s in (3, 4))
    expected = judge(q, [Segment(oracle.project(k, e)[0], oracle.project(v, f)[0])])
    np.testing.assert_allclose(linformer(q, k, v, e, f), expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(linformer.reference(q, k, v, e, f), expected, rtol=0, atol=1e-9)


def test_lengths_do_not_recompile_and_dtypes_do() -> None:
    def call(n: int, dtype: torch.dtype) -> None:
        linformer(*(torch.randn(1, 2, n, 32).to(dtype) for _ in range(3)), *(torch.randn(n, 8).to(dtype) for _ in "ef"))

    call(40, torch.float32)
    count = hd.compile_count()
    call(41, torch.float32)
    call(1, torch.float32)
    assert hd.compile_count() == count
    call(41, torch.bfloat16)
    narrow = [torch.zeros(1, 2, 5, 32).bfloat16()] * 3 + [torch.zeros(5, 2).bfloat16()] * 2
    text = str(linformer.spec(*narrow))
    assert "tensor<?x?x?x32xbf16>" in text


def test_run_time_scalars_captures_and_lse() -> None:
    bias, width = hd.tensor(rows(3, seed=9)), hd.scalar(5)

    @hd.kernel
    def combiner(q: Any, k: Any, v: Any) -> Any:
        summary = hd.attend(hd.pool(q, "max", 16), k, v, where=hd.parent(16), q_offset=0)
        near = hd.segment(k, v, hd.causal & hd.block(16) & hd.window(width, 0), score=lambda s, b, h, i, j: s + bias[h])
        far = hd.segment(hd.pool(k, "max", 16), summary, hd.past_blocks(16))
        return hd.attend(q, segments=[near, far], q_offset=0, return_lse=True)

    q, k, v = (rows(2, 3, 96, 16, seed=s) for s in range(3))
    count = None
    for w in (5, 2):
        width.value = w
        summary = judge(oracle.pool(q, "max", 16)[0], [Segment(k, v, "parent(16)")], q_offset=0)
        near = Segment(k, v, f"causal & block(16) & window({w}, 0)", score=lambda s, b, h, i, j: s + bias.data[h])
        far = Segment(oracle.pool(k, "max", 16)[0], summary, "past_blocks(16)")
        expected = attention.attend(q, segments=[near, far], q_offset=0)
        out, lse = combiner(q, k, v)
        np.testing.assert_allclose(out, expected.out, rtol=0, atol=2e-5)
        np.testing.assert_allclose(lse, expected.lse, rtol=0, atol=2e-5)
        assert count is None or hd.compile_count() == count
        count = hd.compile_count()


def test_one_tensor_in_several_roles() -> None:
    """Operand of a pattern, capture of a score, a dot's side: its type stands in the op once."""

    @hd.kernel
    def weighed(q: Any, k: Any, v: Any, lo: Any, hi: Any) -> Any:
        def score(s: Any, t: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
            return s + t / (hi[b, i] - lo[b, i] + 1) + 0.25 * q[b, h, i, 0]

        segment = hd.segment(k, v, hd.between(lo, hi), score=score, dots=[(q, k), (q, v)])
        return hd.attend(hd.attend(q, k, v), segments=[segment])

    q, k, v = (rows(2, 3, 40, 8, seed=s) for s in range(3))
    lo = np.random.default_rng(3).integers(0, 40, (2, 40))
    hi = lo + np.random.default_rng(4).integers(0, 9, (2, 40))
    at, j = np.arange(40)[:, None], np.arange(40)
    live = (lo[:, None, :, None] <= j) & (j < hi[:, None, :, None])
    s = (q @ k.swapaxes(-1, -2) + q @ v.swapaxes(-1, -2) / (hi - lo + 1)[:, None, :, None]) / 8**0.5
    s = np.where(live, s + 0.25 * q[:, :, at, 0], -np.inf)
    p = np.exp(s - np.where(live.any(-1, keepdims=True), s.max(-1, keepdims=True), 0))
    expected = (p / np.maximum(p.sum(-1, keepdims=True), 1e-30)) @ v
    np.testing.assert_allclose(weighed(q, k, v, lo, hi), expected, rtol=0, atol=2e-5)


def test_errors_name_the_parameters_of_the_function() -> None:
    @hd.kernel
    def lowered(q: Any, keys: Any, values: Any, weights: Any) -> Any:
        return hd.attend(q, hd.project(keys, weights), hd.project(values, weights))

    q, k, v = (rows(1, 2, 33, 8, seed=s) for s in range(3))
    with pytest.raises(ValueError, match="expected dimension 2 of keys to be 32, but got 33"):
        lowered(q, k, v, rows(32, 4))
    with pytest.raises(ValueError, match="expected dimension 2 of x to be 32, but got 33"):
        hd.project(k, rows(32, 4))


NEAR = hd.window(3, 0) | hd.keys([0])


def test_a_function_that_reaches_patterns_is_traced_once() -> None:
    from heddle._trace import function_key

    flags = np.random.default_rng(5).random((1, 33)) < 0.5
    valid = hd.keys(flags)

    @hd.kernel
    def near(q: Any, k: Any, v: Any) -> Any:
        return hd.attend(hd.attend(q, k, v, where=NEAR), k, v, where=valid & hd.causal)

    assert function_key(near.function) is not None
    q, k, v = (rows(1, 2, 33, 8, seed=s).astype(np.float32) for s in range(3))
    past = np.tri(33, dtype=bool)

    def masked(queries: np.ndarray, live: np.ndarray) -> np.ndarray:
        s = np.where(live, queries @ k.swapaxes(-1, -2) / 8**0.5, -np.inf)
        p = np.exp(s - np.where(live.any(-1, keepdims=True), s.max(-1, keepdims=True), 0))
        return p / np.maximum(p.sum(-1, keepdims=True), 1e-30) @ v

    first = judge(q, [Segment(k, v, "window(3, 0) | keys([0])")])
    for _ in range(2):
        np.testing.assert_allclose(near(q, k, v), masked(first, past & flags), rtol=0, atol=2e-5)
        flags[:] = ~flags  # contents are read when the kernel runs
    valid = hd.keys(~flags)
    np.testing.assert_allclose(near(q, k, v), masked(first, past & ~flags), rtol=0, atol=2e-5)


def test_functions_of_torch_are_elementwise() -> None:
    @hd.kernel
    def gated(q: Any, k: Any, v: Any) -> Any:
        return hd.attend(torch.relu(q), k, v) * torch.sigmoid(q)

    q, k, v = (torch.from_numpy(rows(1, 2, 33, 8, seed=s)) for s in range(3))
    expected = judge(np.maximum(q.numpy(), 0), [Segment(k.numpy(), v.numpy())]) * torch.sigmoid(q).numpy()
    np.testing.assert_allclose(gated(q, k, v).numpy(), expected, rtol=0, atol=2e-5)


def test_constants_of_scores_beside_those_of_glue() -> None:
    """Constants that an op's region and the glue before it share stay with each of them."""

    @hd.kernel
    def shifted(q: Any, k: Any, v: Any) -> Any:
        return hd.attend(q, k * 2.0, v, where=hd.causal, score=lambda s, b, h, i, j: s * 2.0 + (j + 1) * (i - 2))

    q, k, v = (rows(1, 2, 33, 8, seed=s) / 4 for s in range(3))
    i, j = np.arange(33)[:, None], np.arange(33)
    s = 4.0 * q.astype(np.float64) @ k.swapaxes(-1, -2) / 8**0.5 + (j + 1) * (i - 2)
    s = np.where(j <= i, s, -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    np.testing.assert_allclose(shifted(q, k, v), p / p.sum(-1, keepdims=True) @ v, rtol=0, atol=2e-5)


def test_sizes_that_the_function_reads_are_part_of_the_kernel() -> None:
    @hd.kernel
    def quarters(x: Any) -> Any:
        return hd.pool(x, "sum", x.shape[2] // 4)

    for n in (16, 32, 16):
        x = rows(1, 2, n, 8)
        np.testing.assert_allclose(quarters(x), oracle.pool(x, "sum", n // 4)[0], atol=1e-5)


def test_a_captured_tensor_may_change() -> None:
    def make(e: np.ndarray) -> Any:
        return hd.kernel(lambda x: hd.project(x, e))

    x = rows(1, 2, 30, 8)
    for seed in (1, 2):
        e = rows(30, 4, seed=seed)
        np.testing.assert_allclose(make(e)(x), oracle.project(x, e)[0], atol=1e-4)


def test_saved_programs_load(tmp_path: Any) -> None:
    args = [rows(1, 2, 20, 32, seed=s) for s in range(3)] + [rows(20, 4, seed=3), rows(20, 4, seed=4)]
    kernel = hd.compile(linformer.spec(*args))
    path = tmp_path / "linformer.bundle"
    kernel.save(path)
    np.testing.assert_array_equal(hd.load(path)(*args), linformer(*args))
    for stage in ("attn", "schedule", "tiles", "vector", "llvm", "llvm-ir", "asm"):
        assert kernel.ir(stage)


def test_results_need_no_order_and_no_empty_batch_fails() -> None:
    @hd.kernel
    def both(x: Any) -> Any:
        y = hd.pool(x, "sum", 4)
        return hd.pool(y, "max", 2), y

    x = rows(2, 1, 32, 8)
    last, first = both(x)
    np.testing.assert_allclose(first, oracle.pool(x, "sum", 4)[0], atol=1e-5)
    np.testing.assert_allclose(last, oracle.pool(oracle.pool(x, "sum", 4)[0], "max", 2)[0], atol=1e-5)
    assert both(x[:0])[0].shape == (0, 1, 4, 8)


def test_errors_name_the_operand() -> None:
    q = rows(1, 2, 20, 32)
    with pytest.raises(ValueError, match=r"expected dimension 2 of .* to be 19, but got 20"):
        linformer(q, q, q, rows(19, 4), rows(20, 4))
    with pytest.raises(ValueError, match=r"the result of attn\.project"):
        linformer(q, q, q, rows(20, 4), rows(20, 5))
    with pytest.raises(TypeError, match=r"expected an hd\.kernel function that returns tensors, but got int"):
        hd.kernel(lambda x: 1)(q)
    with pytest.raises(TypeError, match="not depend on the contents"):
        hd.kernel(lambda x: hd.pool(x, "max", 2) if x else x)(q)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_arithmetic_between_ops(dtype: torch.dtype) -> None:
    @hd.kernel
    def gated(q: Any, k: Any, v: Any, gate: Any, scale: Any) -> Any:
        out = hd.attend(q, k * 2 - 1, v)
        mean = hd.pool(v, "mean", v.shape[2])
        return hd.sigmoid(gate) * (out + mean) / hd.elementwise(lambda g, s: hd.select(g > 0, s, 1.0), gate, scale)

    q, k, v, gate = (torch.randn(2, 3, 40, 16, generator=torch.Generator().manual_seed(s)).to(dtype) for s in range(4))
    for scale in (2.0, 4.0):
        got = gated(q, k, v, gate, hd.scalar(scale))
        assert got.dtype == dtype
        Q, K, V, G = (x.double().numpy() for x in (q, k, v, gate))
        expected = judge(Q, [Segment(K * 2 - 1, V)]) + V.mean(2, keepdims=True)
        expected = expected / (1 + np.exp(-G)) / np.where(G > 0, scale, 1.0)
        tolerance = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 5e-2}[dtype]
        np.testing.assert_allclose(got.double().numpy(), expected, rtol=0, atol=tolerance)
        exact = gated.reference(q, k, v, gate, hd.scalar(scale))
        np.testing.assert_allclose(np.asarray(exact), expected, rtol=0, atol=1e-9)


def test_arithmetic_broadcasts_any_strides_and_odd_sizes() -> None:
    bias = hd.tensor(rows(37, seed=5))

    @hd.kernel
    def glue(x: Any, y: Any) -> Any:
        return hd.maximum(x, y) * hd.exp(-abs(x)) + bias

    x = rows(37, 5, 3, 2).T
    y = rows(1, 3, 1, 37, seed=1)
    expected = np.maximum(x, y) * np.exp(-np.abs(x)) + bias.data
    np.testing.assert_allclose(glue(x, y), expected, rtol=1e-6, atol=1e-6)
    x = rows(2, 1, 4, 37)  # other axes repeat now
    expected = np.maximum(x, y) * np.exp(-np.abs(x)) + bias.data
    np.testing.assert_allclose(glue(x, y), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="expected shapes that broadcast"):
        hd.kernel(lambda x, y: x + y)(rows(2, 3), rows(2, 4))
    with pytest.raises(TypeError, match="expected tensors of floats in arithmetic, but got int32"):
        hd.kernel(lambda x, y: x + y)(rows(2, 3), np.zeros((2, 3), np.int32))


def test_text_with_arith_on_tensors() -> None:
    text = """
    func.func @twice(%x: tensor<?x?x?x8xf32>) -> tensor<?x?x?x8xf32> {
      %s = attn.pool sum %x size(4) : tensor<?x?x?x8xf32> -> tensor<?x?x?x8xf32>
      %d = arith.addf %s, %s : tensor<?x?x?x8xf32>
      %e = math.exp %d : tensor<?x?x?x8xf32>
      return %e : tensor<?x?x?x8xf32>
    }
    """
    x = rows(1, 2, 12, 8) / 4
    kernel = hd.compile(text)
    np.testing.assert_allclose(kernel(x), np.exp(2 * oracle.pool(x, "sum", 4)[0]), rtol=1e-5)


@hd.kernel
def doubled(x: Any) -> Any:
    return x + x


def test_a_function_that_reaches_another_kernel_is_traced_once() -> None:
    from heddle._trace import function_key

    @hd.kernel
    def outer(x: Any) -> Any:
        return doubled(x) * 2.0

    assert function_key(outer.function) is not None


def test_captured_tensors_of_other_sizes_and_what_is_made_of_them() -> None:
    x = rows(1, 2, 20, 16)
    held: dict[str, Any] = {}

    def check(kernel: Any, expected: Any, values: list[np.ndarray]) -> None:
        for value in values:
            held["t"] = value
            np.testing.assert_allclose(kernel()(x), expected(value), atol=1e-4)

    def closing(make: Any) -> Any:
        return lambda: hd.kernel(make(held["t"]))

    weights = [rows(1, 3, 16, 16, seed=1), rows(1, 4, 16, 8, seed=2), rows(2, 3, 16, seed=3)]
    check(closing(lambda t: lambda x: hd.convolve(x, t)), lambda w: oracle.convolve(x, w)[0], weights)
    biases = [rows(1, 2, 20, 1, seed=4), rows(1, 2, 20, 16, seed=5), rows(16, seed=6)]
    check(closing(lambda t: lambda x: x + t), lambda b: x + b, biases)
    sizes = [rows(1, 2, n, 4) for n in (4, 5)]
    check(
        closing(lambda t: lambda x: hd.pool(x, "sum", t.shape[2])),
        lambda t: oracle.pool(x, "sum", t.shape[2])[0],
        sizes,
    )
    # What tracing computes of a captured tensor is that tensor's.
    check(closing(lambda t: lambda x: x + t * 2), lambda t: x + t * 2, [rows(16, seed=7), rows(16, seed=8)])

    @hd.kernel
    def one(x: Any) -> Any:
        return hd.project(x, held["t"])

    for held["t"] in (rows(20, 4), rows(20, 8), rows(1, 2, 20, 4)):
        np.testing.assert_allclose(one(x), oracle.project(x, held["t"])[0], atol=1e-4)


def test_attributes_of_modules_and_classes_are_part_of_the_key() -> None:
    settings = types.ModuleType("settings")
    names: dict[str, Any] = {"settings": settings, "hd": hd}
    exec(
        "def pooled(x): return hd.pool(x, 'sum', settings.size)\ndef mask(b, h, i, j): return i - j < settings.size",
        names,
    )
    kernel, x = hd.kernel(names["pooled"]), rows(1, 2, 20, 8)
    for settings.size in (4, 5):
        np.testing.assert_allclose(kernel(x), oracle.pool(x, "sum", settings.size)[0], atol=1e-5)
        expected = judge(x, [Segment(x, x, f"window({settings.size - 1}, inf)")])
        np.testing.assert_allclose(hd.attend(x, x, x, where=names["mask"]), expected, atol=1e-5)


def test_values_and_names_of_arguments() -> None:
    kernel, x = hd.kernel(lambda x, size, kind="sum": hd.pool(x, kind, size)), rows(1, 2, 20, 8)
    np.testing.assert_array_equal(kernel(x, size=4), kernel(x, 4))
    np.testing.assert_array_equal(kernel(x, 4, kind="max"), kernel(x, 4, "max"))
    np.testing.assert_allclose(hd.kernel(lambda x: x**2 + np.exp(-x))(x), x**2 + np.exp(-x), rtol=1e-5)
    with pytest.raises(TypeError, match="expected tensors as arguments of their own, but got one inside of argument 0"):
        hd.kernel(lambda pair: pair[0])([x, x])
    with pytest.raises(TypeError, match="as argument 1, but got dict"):
        kernel(x, {})
    for wrong, message in (
        (lambda x: [row for row in x], "but got an iteration over its rows"),
        (lambda x: x > 0, "but got a comparison of tensors; hd.select"),
        (lambda x: hd.pool(x > 0, "max", 2), "but got a comparison of tensors; hd.select"),
        (lambda x: x if x > 0 else -x, "does not depend on the contents"),
        (lambda x: np.mean(x, 2), r"but got numpy\.mean; hd\.pool"),
        (lambda x: np.concatenate([x, x], 2), r"but got numpy\.concatenate"),
        (lambda x: torch.cat([x, x], 2), "but got torch's cat"),
        (lambda x: torch.softmax(x, -1), "but got torch's softmax; hd.pool"),
        (lambda x: torch.amax(x, 2), "but got torch's amax"),
        (lambda x: torch.max(x), "but got torch's max"),
        (lambda x: x[:, :, :4], r"expected whole dimensions and new ones .* but got \[:4\]"),
        (lambda x: x[..., None, 2], r"but got \[2\]"),
        (lambda x: x[..., ..., None], "one ellipsis"),
        (lambda x: x.reshape(1, 2, 4, 5, 8), r"but got \.reshape; do it outside"),
        (lambda x: x @ x, "but got @"),
        (lambda x: x.sum(), r"but got \.sum"),
        (lambda x: np.arctan(x), r"but got numpy\.arctan"),
        (lambda x: {"a": x}, "returns tensors, but got dict"),
    ):
        with pytest.raises((TypeError, AttributeError, IndexError), match=message):
            hd.kernel(wrong)(x)


def test_a_function_that_was_traced_can_be_compiled_and_saved(tmp_path: Any) -> None:
    @hd.kernel
    def summary(x: Any, w: Any) -> Any:
        return hd.pool(x, "mean", 4) * w

    x, w = rows(1, 2, 20, 8), hd.scalar(3.0)
    with pytest.raises(ValueError, match=r"traced for one signature, but got one traced for 0; compile f\.spec"):
        hd.compile(summary)
    want = summary(x, w)
    compiled = hd.compile(summary)
    np.testing.assert_array_equal(compiled(x, 3.0), want)
    compiled.save(tmp_path / "k.bundle")
    np.testing.assert_array_equal(hd.load(tmp_path / "k.bundle")(x, 3.0), want)
    summary(x.astype(np.float16), w)
    with pytest.raises(ValueError, match="traced for 2"):
        hd.compile(summary)


def test_a_kernel_takes_integers_as_they_are() -> None:
    kernel = hd.compile(hd.spec(where=hd.window(hd.scalar(3), 0), heads=(2, 2), d=16))
    x = rows(1, 2, 20, 16)
    assert np.isfinite(kernel(x, x, x, 5)).all()
    with pytest.raises(TypeError, match=r"expected an integer for p0, but got 1.5 \(float\)"):
        kernel(x, x, x, 1.5)


@hd.kernel
def pickled_by_name(q: Any, k: Any, v: Any) -> Any:
    return hd.attend(q, k, v, where=hd.causal)


def test_kernels_are_copied_and_pickled() -> None:
    q, k, v = (rows(1, 2, 9, 8, seed=n) for n in range(3))
    spec = hd.spec(where=hd.causal, heads=2, d=8)
    compiled = hd.compile(spec)
    assert pickle.loads(pickle.dumps(pickled_by_name)) is pickled_by_name
    local = hd.kernel(lambda q, k, v: hd.attend(q, k, v, where=hd.causal))
    want = pickled_by_name(q, k, v)
    before = hd.compile_count()
    for function in (copy.deepcopy(local), copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        np.testing.assert_array_equal(function(q, k, v), want)
    assert hd.compile_count() <= before + 1  # the copy of `local` alone may be new


def test_a_loaded_kernel_has_no_source_to_be_pickled_by(tmp_path: Any) -> None:
    hd.compile(hd.spec(where=hd.causal, heads=2, d=8)).save(tmp_path / "k.bundle")
    with pytest.raises(
        ValueError, match="expected a kernel that was compiled here for pickle or deepcopy, but got one"
    ):
        pickle.dumps(hd.load(tmp_path / "k.bundle"))


def test_new_and_swapped_dimensions_of_symbolic_tensors() -> None:
    @hd.kernel
    def gated(q: Any, k: Any, v: Any) -> Any:
        out, lse = hd.attend(q, k, v, return_lse=True)
        return out * hd.exp(-lse)[..., None] + lse[:, :, :, None], lse.swapaxes(1, 2)

    q, k, v = rows(2, 3, 7, 8), rows(2, 3, 9, 8), rows(2, 3, 9, 5)
    out, lse = hd.attend(q, k, v, return_lse=True)
    got, turned = gated(q, k, v)
    np.testing.assert_allclose(got, out * np.exp(-lse)[..., None] + lse[..., None], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(turned, lse.swapaxes(1, 2))
    got, turned = gated.reference(q, k, v)
    np.testing.assert_allclose(turned, lse.swapaxes(1, 2), atol=1e-5)


def test_arithmetic_on_new_dimensions_alone() -> None:
    for b, h, n in ((1, 1, 7), (2, 3, 7), (2, 3, 1)):
        x, y, z = rows(b, h, n), rows(b, h, n, 4), rows(h)
        e = np.exp(x)
        for function, expected in (
            (lambda x, y, z: y * hd.exp(x[..., None]), y * e[..., None]),
            (lambda x, y, z: hd.pool(hd.exp(x[..., None]), "sum", 1), e[..., None]),
            (lambda x, y, z: x[..., None], x[..., None]),
            (lambda x, y, z: (x * 2.0)[:, None] + 1.0, 2 * x[:, None] + 1),
            (lambda x, y, z: hd.exp(x[..., None]).swapaxes(2, 3) * x[:, :, None], (e * x)[:, :, None]),
            (lambda x, y, z: y * z[:, None, None], y * z[:, None, None]),
        ):
            f = hd.kernel(function)
            np.testing.assert_allclose(f(x, y, z), expected, rtol=1e-5)
            np.testing.assert_allclose(f.reference(x, y, z), expected, rtol=1e-5)


def test_ops_read_swapped_dimensions() -> None:
    @hd.kernel
    def channels(q: Any, k: Any, v: Any) -> Any:
        """Cross-covariance attention (XCiT): features attend to features."""
        q, k, v = (x.swapaxes(-1, -2) for x in (q, k, v))
        return hd.attend(q, k, v).transpose(-1, -2)

    for n in (1, 17):
        q, k, v = (rows(2, 3, n, 8) for _ in range(3))
        turned = [np.ascontiguousarray(x.swapaxes(-1, -2)) for x in (q, k, v)]
        np.testing.assert_allclose(channels(q, k, v), hd.attend(*turned).swapaxes(-1, -2), atol=1e-6)


def test_views_broadcast_where_a_size_is_one() -> None:
    f = hd.kernel(lambda x, y: x.swapaxes(-1, -2) * y)
    for a, b in (((1, 2, 1, 8), (1, 2, 8, 5)), ((1, 2, 5, 8), (1, 2, 8, 1)), ((1, 2, 5, 8), (1, 2, 8, 5))):
        x, y = rows(*a), rows(*b)
        np.testing.assert_array_equal(f(x, y), x.swapaxes(-1, -2) * y)


def test_conditions_on_symbolic_tensors() -> None:
    x, y = rows(1, 2, 9, 8), rows(1, 2, 9, 8)
    for function, expected in (
        (lambda x, y: hd.select(x > 0, x, hd.exp(x)), np.where(x > 0, x, np.exp(x))),
        (lambda x, y: hd.select((x > y) & ~(y < 0), x, y), np.where((x > y) & ~(y < 0), x, y)),
        (lambda x, y: torch.where((x >= 0) | (x <= y), x, 2.0), np.where((x >= 0) | (x <= y), x, 2)),
        (lambda x, y: np.where(x >= y, 1.0, y), np.where(x >= y, 1, y)),
        (lambda x, y: x * (y > 0) + (x > 0), x * (y > 0) + (x > 0)),
    ):
        np.testing.assert_allclose(hd.kernel(function)(x, y), expected, rtol=1e-5)


def test_activations_of_torch_on_symbolic_tensors() -> None:
    x = torch.linspace(-4, 4, 64).reshape(1, 1, 8, 8)
    for name in ("relu", "elu", "gelu", "silu", "softplus", "leaky_relu", "logsigmoid", "sigmoid", "tanh"):
        function = getattr(torch.nn.functional, name, None) or getattr(torch, name)
        got = hd.kernel(lambda x, function=function: function(x) + 0.0)(x)
        torch.testing.assert_close(got, function(x), rtol=2e-5, atol=2e-6, msg=name)
    tanh = hd.kernel(lambda x: torch.nn.functional.gelu(x, approximate="tanh"))(x)
    torch.testing.assert_close(tanh, torch.nn.functional.gelu(x, approximate="tanh"), rtol=2e-5, atol=2e-6)


def test_a_loop_makes_a_function_for_each_segment() -> None:
    @hd.kernel
    def levels(q: Any, k: Any, v: Any) -> Any:
        parts = []
        for size in (1, 2, 4):
            summary = hd.pool(k, "mean", size), hd.pool(v, "mean", size)
            parts.append(
                hd.segment(
                    *summary,
                    where=lambda b, h, i, j: i // size > j,
                    score=lambda s, b, h, i, j: s * size,
                )
            )
        return hd.attend(q, segments=parts, q_offset=0)

    q, k, v = (rows(1, 2, 21, 8) for _ in range(3))
    scores, values = [], []
    for size in (1, 2, 4):
        n = 21 // size
        kp, vp = (x[:, :, : n * size].reshape(1, 2, n, size, 8).mean(3) for x in (k, v))
        s = np.einsum("bhid,bhjd->bhij", q, kp) * 8**-0.5 * size
        scores.append(np.where(np.arange(21)[:, None] // size > np.arange(n), s, -np.inf))
        values.append(vp)
    s = np.concatenate(scores, -1)[:, :, 1:]
    weights = np.exp(s - s.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ np.concatenate(values, 2)
    got = levels(q, k, v)
    np.testing.assert_allclose(got[:, :, 1:], expected, atol=1e-5)
    assert not got[:, :, 0].any()


def test_one_kernel_for_every_length_of_masks_biases_and_read_heads() -> None:
    @hd.kernel
    def biased(q: Any, k: Any, v: Any, bits: Any, bias: Any) -> Any:
        k = hd.pool(k, "mean", 1)
        heads = k.shape[1]  # of a result: batch and heads become part of the kernel, lengths do not
        return hd.attend(q, k, v, where=hd.mask(bits), score=lambda s, b, h, i, j: s + heads * bias[0, h, i, j])

    def call(n: int) -> None:
        q, k, v, bias = rows(1, 2, n, 8), rows(1, 2, n, 8), rows(1, 2, n, 8), rows(1, 2, n, n)
        bits = rows(1, 2, n, n, seed=1) > 0
        s = np.einsum("bhid,bhjd->bhij", q, k) * 8**-0.5 + 2 * bias
        w = np.where(bits, np.exp(s), 0)
        z = w.sum(-1, keepdims=True)
        expected = np.where(z > 0, w / np.where(z > 0, z, 1), 0) @ v
        np.testing.assert_allclose(biased(q, k, v, bits, bias), expected, atol=1e-5)

    call(9)
    before = hd.compile_count()
    for n in (17, 33, 40):
        call(n)
    assert hd.compile_count() == before


def test_glue_and_features_share_constants() -> None:
    f = hd.kernel(lambda q, k, v: hd.linear_attend(q + 0.5, k, v, feature=lambda x: hd.abs(x) + 0.5))
    q, k, v = (rows(1, 2, 9, 8) for _ in range(3))
    made = hd.linear_attend(q + np.float32(0.5), k, v, feature=lambda x: hd.abs(x) + 0.5)
    np.testing.assert_allclose(f(q, k, v), made, atol=1e-6)


@pytest.mark.parametrize(
    ("pattern", "operands"),
    [
        (hd.lengths, [np.array([7], np.int32)]),
        (hd.cluster, [np.arange(20)[None] // 3]),
        (hd.same, [np.arange(20)[None] // 3, np.arange(20)[None] // 4]),
        (hd.between, [np.arange(20)[None] - 2, np.arange(20)[None] + 3]),
        (hd.between_queries, [np.arange(20)[None] - 2, np.arange(20)[None] + 3]),
        (hd.listed, [np.arange(20)[:, None] % 7]),
        (hd.csr, [np.arange(21), np.arange(20) // 2]),
        (hd.keys, [np.arange(20)[None] % 3 == 0]),
        (hd.queries, [np.arange(20)[None] % 3 == 0]),
        (hd.mask, [np.tri(20, dtype=bool)]),
        (hd.offsets, [np.array([0, 2, 5])]),
        (lambda p: hd.positions(p, p, hd.causal), [np.arange(20)[::-1].copy()]),
        (lambda c: hd.packed(c, c, hd.causal), [np.array([0, 5, 20])]),
    ],
    ids=[
        "lengths",
        "cluster",
        "same",
        "between",
        "between_queries",
        "listed",
        "csr",
        "keys",
        "queries",
        "mask",
        "offsets",
        "positions",
        "packed",
    ],
)
def test_patterns_of_symbolic_tensors(pattern: Any, operands: list[np.ndarray]) -> None:
    """A pattern's operands may be arguments of an hd.kernel function."""
    x = np.random.default_rng(5).standard_normal((1, 2, 20, 8)).astype(np.float32)
    operands = [o.astype(np.int32) if o.dtype != bool else o for o in operands]
    f = hd.kernel(lambda x, *operands: hd.attend(x, x, x, where=pattern(*operands)))
    np.testing.assert_array_equal(f(x, *operands), hd.attend(x, x, x, where=pattern(*operands)))
