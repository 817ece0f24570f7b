"""torch.compile(fullgraph=True) of functions that call `attend`."""

from __future__ import annotations

import pytest
import torch

import heddle as hd

torch.manual_seed(0)


def tensors(n: int = 24, b: int = 2, h: int = 4, hk: int = 2, d: int = 16) -> tuple[torch.Tensor, ...]:
    return torch.randn(b, h, n, d), torch.randn(b, hk, n, d), torch.randn(b, hk, n, d)


def compiled(fn):
    torch._dynamo.reset()
    return torch.compile(fn, fullgraph=True, backend="aot_eager")


def same(got, want) -> None:
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


def test_pattern_built_inside() -> None:
    def f(q, k, v):
        return hd.attend(q, k, v, where=hd.causal & (hd.window(7, 0) | hd.stride(5)), scale=0.3) * 2

    args = tensors()
    same(compiled(f)(*args), f(*args))


OUTSIDE = hd.causal & hd.block(6)
SLOPES = torch.tensor([0.5, 0.25, 0.125, 0.0625])


def bias(s, b, h, i, j):
    return s - SLOPES[h] * (i - j)


def test_pattern_score_and_lse_from_outside() -> None:
    def f(q, k, v):
        out, lse = hd.attend(q, k, v, where=OUTSIDE, score=bias, return_lse=True)
        return out + 1, lse

    args = tensors()
    for got, want in zip(compiled(f)(*args), f(*args), strict=True):
        same(got, want)


def test_lambdas_inside() -> None:
    def f(q, k, v):
        return hd.attend(q, k, v, where=lambda b, h, i, j: i - j < 5, score=lambda s, b, h, i, j: s * 0.5)

    args = tensors()
    same(compiled(f)(*args), f(*args))


def test_runtime_operands_of_the_graph() -> None:
    def f(q, k, v, docs, valid, sink):
        where = (hd.causal | hd.per_head([hd.block(4), hd.full - hd.stride(3)])) & hd.same(docs) & hd.keys(valid)
        return hd.attend(q, k, v, where=where - hd.keys([(0, 2)]), sink=sink, q_offset=0)

    args = tensors()
    docs, valid, sink = torch.randint(0, 2, (2, 24)), torch.rand(2, 24) < 0.7, torch.randn(4)
    g = compiled(f)
    same(g(*args, docs, valid, sink), f(*args, docs, valid, sink))
    docs, valid = torch.randint(0, 2, (2, 24)), torch.rand(2, 24) < 0.7
    same(g(*args, docs, valid, sink), f(*args, docs, valid, sink))


def test_captured_tensors_are_not_baked() -> None:
    slopes = torch.ones(4)

    def score(s, b, h, i, j):
        return s - slopes[h] * (i - j)

    def f(q, k, v):
        return hd.attend(q, k, v, where=hd.causal, score=score)

    g = compiled(f)
    args = tensors()
    same(g(*args), f(*args))
    slopes.mul_(0.25)
    same(g(*args), f(*args))


WIDTH = hd.scalar(3)
FACTOR = hd.scalar(0.5)


def of_scalars(s, b, h, i, j):
    return s * FACTOR


def test_what_patterns_and_functions_refer_to_is_looked_up_by_each_run() -> None:
    global SLOPES
    pattern = hd.window(WIDTH, 0)

    def f(q, k, v):
        return hd.attend(q, k, v, where=pattern, score=of_scalars) + hd.attend(q, k, v, where=hd.causal, score=bias)

    def of(factor):
        return lambda s, b, h, i, j: s * factor

    g = compiled(f)
    args = tensors()
    slopes = SLOPES
    for n in range(3):
        WIDTH.value, FACTOR.value, SLOPES = n, n / 3, torch.rand(4)
        same(g(*args), f(*args))
    SLOPES = slopes
    scored = compiled(lambda q, k, v, score: hd.attend(q, k, v, score=score))
    for n in range(3):
        same(scored(*args, of(n)), hd.attend(*args, score=of(n)))


class Biased(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slopes = torch.ones(4)

    def method(self, s, b, h, i, j):
        return s - self.slopes[h] * (i - j)

    def forward(self, q, k, v, form: str, x):
        if form == "method":
            return hd.attend(q, k, v, score=self.method)
        if form == "self":
            return hd.attend(q, k, v, score=lambda s, b, h, i, j: s - self.slopes[h] * (i - j))
        if form == "tensor":
            slopes = x * 2
            return hd.attend(q, k, v, score=lambda s, b, h, i, j: s - slopes[h] * (i - j))
        if form == "default":
            return hd.attend(q, k, v, score=lambda s, b, h, i, j, n=x: s * n)
        if form == "holds":
            return hd.attend(q, k, v, where=hd.causal & hd.holds(lambda b, h, i, j: i - j < x))
        n = q.shape[2] // 2
        return hd.attend(q, k, v, where=lambda b, h, i, j: i - j < n)


@pytest.mark.parametrize("form", ["method", "self", "tensor", "default", "holds", "length"])
def test_functions_around_variables_of_the_graph_run_outside_of_it(form: str) -> None:
    module = Biased()
    torch._dynamo.reset()
    g = torch.compile(module, backend="aot_eager")
    for n in range(4):
        module.slopes = torch.rand(4)
        args = (*tensors(20 + n), form, n if form in ("default", "holds") else torch.rand(4))
        same(g(*args), module(*args))
    with pytest.raises(Exception, match="expected where and score to be patterns, functions at module level"):
        compiled(module)(*args)


def test_functions_in_combinations_and_holds() -> None:
    def f(q, k, v):
        where = hd.causal & (lambda b, h, i, j: i - j < 9) & hd.holds(lambda b, h, i, j: (i + j) % 2 == 0)
        return hd.attend(q, k, v, where=where)

    args = tensors()
    same(compiled(f)(*args), f(*args))


def test_offsets_and_segments() -> None:
    def f(q, k, v, offset):
        one = hd.segment(k[:, :, :8], v[:, :, :8], hd.full)
        two = hd.segment(k[:, :, 8:], v[:, :, 8:], hd.causal, k_offset=8)
        last = hd.attend(q[:, :, :3], k, v, where=hd.causal, q_offset="end")
        return hd.attend(q, segments=[one, two], q_offset=offset) + last[:, :, :1]

    args = tensors()
    offset = torch.tensor([0, 3])
    same(compiled(f)(*args, offset), f(*args, offset))


def test_lengths_stay_dynamic() -> None:
    def f(q, k, v):
        return hd.attend(q, k, v, where=hd.causal & hd.window(4, 0))

    torch._dynamo.reset()
    g = torch.compile(f, fullgraph=True, backend="aot_eager", dynamic=True)
    hd.attend(*tensors(), where=hd.causal & hd.window(4, 0))
    before = hd.compile_count()
    for n in (9, 17, 24, 40):
        args = tensors(n)
        same(g(*args), f(*args))
    assert hd.compile_count() == before


def test_strides_of_the_result_are_those_of_the_fake() -> None:
    def f(q, k, v):
        out = hd.attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return out.transpose(1, 2).reshape(2, 24, -1)

    q, k, v = (x.transpose(1, 2).contiguous() for x in tensors())
    same(compiled(f)(q, k, v), f(q, k, v))


def test_opcheck() -> None:
    from heddle import _torch

    captured = {}

    def backend(gm, inputs):
        for node in gm.graph.nodes:
            if node.op == "call_function" and "heddle" in str(node.target):
                captured["plan"] = node.args[3]
        return gm.forward

    def f(q, k, v):
        return hd.attend(q, k, v, where=hd.causal, scale=0.5, return_lse=True)

    torch._dynamo.reset()
    torch.compile(f, fullgraph=True, backend=backend)(*tensors())
    torch.library.opcheck(
        _torch.attend_op, (list(tensors()), [], [0.5], captured["plan"]), test_utils=("test_schema", "test_faketensor")
    )


def test_gradients_are_refused() -> None:
    def f(q, k, v):
        return hd.attend(q, k, v)

    q, k, v = tensors()
    with pytest.raises(Exception, match="requires grad"):
        compiled(f)(q.requires_grad_(), k, v)
    q = q.detach()
    with pytest.raises(Exception, match="requires grad"):
        compiled(lambda q, k, v: hd.attend(q, segments=[hd.segment(k, v)]))(q, k, v.clone().requires_grad_())
    slopes = torch.ones(4, requires_grad=True)
    with pytest.raises(Exception, match="requires grad"):
        compiled(lambda q, k, v, score: hd.attend(q, k, v, score=score))(
            q, k, v.detach(), lambda s, b, h, i, j: s - slopes[h]
        )


@pytest.mark.parametrize(
    ("given", "text"),
    [({"layout": "hbnd"}, "expected a layout among bhnd, bnhd, nhd"), ({"max_waste": 0.5}, "expected no max_waste")],
)
def test_arguments_that_have_no_meaning_are_refused(given: dict[str, object], text: str) -> None:
    q, k, v = tensors()
    with pytest.raises(Exception, match=text):
        compiled(lambda q, k, v: hd.attend(q, k, v, **given))(q, k, v)


def test_torch_jit_trace_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a call outside of torch"):
        torch.jit.trace(lambda q, k, v: hd.attend(q, k, v), tensors(), check_trace=False)


def with_number(q, k, v, n):
    return hd.attend(q, k, v, where=hd.window(hd.scalar(n), 0))


def with_object(q, k, v, n):
    return hd.attend(q, k, v, where=hd.causal(hd.scalar(n - 3)) | hd.window(left=WIDTH, right=WIDTH))


def with_tensor(q, k, v, n):
    return hd.attend(q, k, v, where=hd.keys([(0, hd.scalar(torch.tensor(n))), 9]) & hd.causal)


def with_nested(q, k, v, n):
    ids = torch.arange(24)[None] // 10
    own = hd.same(ids, ids) & hd.shift(hd.scalar(n), hd.block(8))
    return hd.attend(
        q, k, v, where=own | hd.per_head([hd.causal(hd.scalar(n)), hd.parent(2)]), q_offset=hd.scalar(n)
    )


def with_offsets(q, k, v, n):
    near = hd.segment(k, v, hd.window(WIDTH, 1), k_offset=torch.tensor(2))
    return hd.attend(q, segments=[near, hd.segment(k, v, hd.causal, k_offset=n)], q_offset=torch.tensor(1))


def with_literal(q, k, v, n):
    return hd.attend(q, k, v, where=hd.window(n, 0), q_offset=n, k_offset=torch.tensor(3))


@pytest.mark.parametrize("f", [with_number, with_object, with_tensor, with_nested, with_offsets, with_literal])
def test_runtime_integers_inside(f) -> None:
    args = tensors()
    run = compiled(f)
    kept = WIDTH.value
    try:
        for n in (3, 7, 1, 9):
            WIDTH.value = n + 2
            same(run(*args, n), f(*args, n))
    finally:
        WIDTH.value = kept


def test_runtime_integers_inside_do_not_recompile() -> None:
    args = tensors()
    run = compiled(with_number)
    run(*args, 2)
    before = hd.compile_count()
    for n in (4, 6, 8):
        run(*args, n)
    assert hd.compile_count() == before


def test_float_of_a_pattern_inside_is_an_error() -> None:
    with pytest.raises(Exception, match=r"expected an integer hd\.scalar in a pattern, but got a float"):
        compiled(with_number)(*tensors(), 2.5)
