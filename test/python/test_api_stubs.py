"""The package's surface: stubs, documentation, what importing it loads."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import heddle as hd
from heddle import _core


def test_the_stub_names_what_the_extension_has() -> None:
    tree = ast.parse((Path(hd.__file__).parent / "_core.pyi").read_text())
    found = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    assert set(found) == {n for n in dir(_core) if not n.startswith("_")}
    for name, node in found.items():
        if isinstance(node, ast.ClassDef):
            members = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
            real = {n for n, v in vars(getattr(_core, name)).items() if not n.startswith("_") and v is not None}
            assert {n for n in members if not n.startswith("__")} == real, name


def test_everything_public_is_documented() -> None:
    for name in hd.__all__:
        thing = getattr(hd, name)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert (thing.__doc__ or "").strip(), name
    assert (Path(hd.__file__).parent / "py.typed").exists()


def test_importing_loads_neither_torch_nor_the_compiler() -> None:
    body = (
        "import sys, heddle\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules\n"
        "assert 'libLLVM' not in open('/proc/self/maps').read()\n"
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_missing_compiler_is_named() -> None:
    import os

    env = {**os.environ, "HEDDLE_COMPILER_LIBRARY": "/nowhere/libheddle-compiler.so"}
    body = "import heddle as hd\ntry:\n    hd.causal.is_empty()\nexcept RuntimeError as e:\n    print(e)\n"
    done = subprocess.run([sys.executable, "-c", body], env=env, capture_output=True, text=True, timeout=120)
    assert "/nowhere/libheddle-compiler.so: no such file" in done.stdout
