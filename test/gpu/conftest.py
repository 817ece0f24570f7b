"""Kernel tests of this folder run `heddle.attend` as the GPU kernel's PTX, interpreted.

That is slow: of the tests shared with the CPU kernels a fixed share runs, and all of them where HEDDLE_SWEEP is set.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

import heddle as hd
from heddle import _program

from . import run

SHARE = 5
"""One test in so many."""


package = hd.attend


def attend(q: Any, *args: Any, **kw: Any) -> Any:
    """By interpreted PTX, but for symbolic tensors of a function that is traced."""
    return (package if isinstance(q, _program.TensorValue) else run.attend)(q, *args, **kw)


@pytest.fixture(autouse=True)
def on_ptx(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package's attend and ops, as the GPU would compute them."""
    monkeypatch.setattr(hd, "attend", attend)
    monkeypatch.setattr(_program, "_alone", {})
    monkeypatch.setattr(_program, "kernel_for", run.Interpreted)
    yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out most of the shared tests."""
    if "HEDDLE_SWEEP" in os.environ or config.getoption("keyword"):
        return
    shared = (
        "test_gpu_decode.py", "test_gpu_features.py", "test_gpu_ops.py", "test_gpu_poison.py", "test_gpu_programs.py",
        "test_gpu_relative.py", "test_gpu_runtime.py",
    )  # fmt: skip

    def stays(item: pytest.Item) -> bool:
        return item.path.name not in shared or zlib.crc32(item.name.encode()) % SHARE == 0

    config.hook.pytest_deselected(items=[i for i in items if not stays(i)])
    items[:] = [i for i in items if stays(i)]
