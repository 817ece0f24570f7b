"""`tools/dev new-pass` makes a pass whose names line up, and refuses what it cannot make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "passes").mkdir()
    (tmp_path / "passes/Passes.td").write_text("#ifndef A\n#define A\n#endif // A\n", encoding="utf-8")
    (tmp_path / "passes/CMakeLists.txt").write_text("add_library(HeddlePasses STATIC\n  A.cpp)\n", encoding="utf-8")
    return tmp_path


def new_pass(root: Path, name: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TOOLS / "new-pass"), name, "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_names_line_up(tree: Path) -> None:
    done = new_pass(tree, "FuseBarBaz")
    assert done.returncode == 0, done.stderr
    assert "passes/FuseBarBaz.cpp" in done.stdout
    assert "FuseBarBaz.cpp)" in (tree / "passes/CMakeLists.txt").read_text(encoding="utf-8")
    assert (tree / "passes/Passes.td").read_text(encoding="utf-8").endswith("#endif // A\n")
    command = [sys.executable, str(TOOLS / "lint"), "--root", str(tree)]
    for rule in ("names", "headers", "text"):
        checked = subprocess.run([*command, "--only", rule], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", ["fuseBar", "fuse-bar", "BarFuse", "", "Fuse_Bar"])
def test_refuses_a_bad_name(tree: Path, name: str) -> None:
    done = new_pass(tree, name)
    assert done.returncode == 1
    assert "expected a name in CamelCase" in done.stderr


def test_refuses_to_overwrite(tree: Path) -> None:
    assert new_pass(tree, "FuseBar").returncode == 0
    again = new_pass(tree, "FuseBar")
    assert again.returncode == 1
    assert "there is a pass FuseBar already" in again.stderr
