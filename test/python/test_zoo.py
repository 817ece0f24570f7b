"""Every example of a system equals its formula, by its Python form and by its spec."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _zoo() -> Any:
    spec = importlib.util.spec_from_file_location("zoo", ROOT / "examples" / "zoo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["zoo"] = module
    spec.loader.exec_module(module)
    return module


zoo = _zoo()


@pytest.mark.parametrize("name", zoo.names())
def test_example(name: str) -> None:
    done = list(zoo.checks(name))
    assert {c.form for c in done} == {"python", "spec"}
    wrong = [c for c in done if not c.ok]
    assert not wrong, wrong


@pytest.mark.parametrize("name", [n for n in zoo.names() if (ROOT / "examples" / n / "witness.py").exists()])
def test_a_witness_agrees(name: str) -> None:
    done = list(zoo.witnesses(name))
    if not done:
        text = (ROOT / "examples" / name / "witness.py").read_text(encoding="utf-8")
        package = re.search(r'^PACKAGE = "([\w.-]+)"$', text, re.M)
        assert package
        pytest.skip(f"{package[1]} is not installed")
    wrong = [c for c in done if not c.ok]
    assert not wrong, wrong


@pytest.mark.parametrize("name", zoo.names())
def test_an_oracle_knows_nothing_of_heddle(name: str) -> None:
    text = (ROOT / "examples" / name / "oracle.py").read_text(encoding="utf-8")
    assert set(re.findall(r"^(?:import|from) (\w+)", text, re.M)) <= {"__future__", "math", "typing", "numpy"}


def test_a_wrong_result_fails() -> None:
    import numpy as np

    expected = np.ones((1, 2, 3))
    assert zoo.compare(expected, expected) == 0
    assert not zoo.Check("", 1, "python", zoo.compare(expected + 1e-4, expected)).ok
    assert not zoo.Check("", 1, "python", zoo.compare(expected * np.nan, expected)).ok
    assert not zoo.Check("", 1, "python", zoo.compare(expected[0], expected)).ok


def test_the_page_lists_every_example_as_green() -> None:
    page = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
    listed = re.findall(r"\(\.\./examples/(\w+)/README\.md\).*?\| (green|red) \|", page, re.M)
    assert sorted(n for n, _ in listed) == zoo.names()
    assert {state for _, state in listed} == {"green"}
