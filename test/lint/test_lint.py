"""Each rule of tools/lint finds the violation it is for, and lets the right spelling pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LINT = Path(__file__).resolve().parents[2] / "tools" / "lint"


def lint(root: Path, rule: str, files: dict[str, str]) -> tuple[int, str]:
    """Writes the files under root and runs one rule on it: exit status and output."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(LINT), "--root", str(root), "--only", rule], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def header(name: str, body: str, guard: str | None = None) -> str:
    text = f"//===- {name} - A file of a test ---===//\n//\n// What it does.\n//\n"
    return text + (f"#ifndef {guard}\n#define {guard}\n{body}\n#endif\n" if guard else body + "\n")


PASSES_TD = 'def TileAttendPass : Pass<"attn-tile-attend", "func::FuncOp"> {}\n'

BAD = [
    ("rooms", "dialect/A.cpp", '#include "passes/B.h"\n', "passes/B.h"),
    ("rooms", "dialect/A.cpp", '#include "mlir/ExecutionEngine/ExecutionEngine.h"\n', "must not include"),
    ("rooms", "passes/A.cpp", '#include "codegen/Compiler.h"\n', "codegen/Compiler.h"),
    ("rooms", "passes/A.cpp", "#include <fstream>\n", "must not include"),
    ("rooms", "passes/A.cpp", 'bool b = std::getenv("HEDDLE_X");\n', "must not call getenv"),
    ("rooms", "codegen/A.cpp", "#include <pybind11/pybind11.h>\n", "must not include"),
    ("rooms", "runtime/src/a.cpp", '#include "llvm/ADT/StringRef.h"\n', "must not include"),
    ("rooms", "runtime/src/a.cpp", '#include "dialect/Pattern.h"\n', "dialect/Pattern.h"),
    ("rooms", "python/core/A.cpp", '#include "mlir/IR/MLIRContext.h"\n', "must not include"),
    ("rooms", "python/core/A.cpp", '#include "codegen/SpecParser.h"\n', "expected only codegen/Compiler.h"),
    ("rooms", "test/oracle/attention.py", "import heddle as hd\n", "oracle"),
    ("presburger", "passes/A.cpp", '#include "mlir/Analysis/Presburger/PresburgerRelation.h"\n', "PatternSet.h"),
    ("presburger", "dialect/PatternSet.cpp", "auto c = a.subtract(b);\n", "not sound"),
    ("presburger", "dialect/PatternSet.cpp", "auto c = a.complement();\n", "not sound"),
    ("presburger", "dialect/PatternSet.cpp", "bool c = a.isSubsetOf(b);\n", "not sound"),
    ("presburger", "dialect/PatternSet.cpp", "bool c = a->isEqual(b);\n", "not sound"),
    ("presburger", "dialect/PatternSet.cpp", "auto c = a.simplify();\n", "not sound"),
    ("presburger", "dialect/PatternSet.cpp", "auto c = a.findSymbolicIntegerLexMin();\n", "not sound"),
    ("names", "passes/Passes.td", PASSES_TD, "passes/TileAttend.cpp"),
    ("names", "passes/Passes.td", 'def TileAttend : Pass<"attn-tile-attend"> {}\n', "ends in Pass"),
    ("names", "passes/Passes.td", 'def TileAttendPass : Pass<"tile-attend"> {}\n', "attn-tile-attend"),
    ("names", "passes/Stray.cpp", "#define GEN_PASS_DEF_STRAYPASS\n", "StrayPass"),
    ("constraints", "docs/spec.md", "1. `attend_c1`: q has rank 4.\n", "attend_c1"),
    ("headers", "dialect/A.h", "#ifndef HEDDLE_DIALECT_A_H\n#endif\n", "opening line"),
    ("headers", "dialect/A.h", header("A.h", "", guard="A_H"), "HEDDLE_DIALECT_A_H"),
    ("diagnostics", "dialect/A.cpp", 'return emitOpError("Expected a tensor");\n', "lower-case"),
    ("diagnostics", "dialect/A.cpp", 'return emitOpError() << "expected a tensor.";\n', "full stop"),
    ("diagnostics", "codegen/A.cpp", 'heddle_error_create(HEDDLE_SYSTEM, "No such file");\n', "lower-case"),
    ("diagnostics", "python/heddle/a.py", 'raise ValueError("Expected a tensor")\n', "lower-case"),
    ("diagnostics", "python/heddle/a.py", 'raise ValueError(f"expected {x}, but got y.")\n', "full stop"),
    ("text", "docs/a.md", "no newline", "newline"),
    ("text", "dialect/A.cpp", "int x; \n", "blanks"),
    ("text", "dialect/A.cpp", "\tint x;\n", "tab"),
    ("text", "docs/a.md", "see /home/someone/notes\n", "path of one machine"),
    ("text", "docs/a.md", "from files.example.org\n", "package host"),
    ("text", "dialect/A.cpp", "// FIX" + "ME later\n", "note to oneself"),
    ("clang-format", "dialect/A.cpp", "int  f( ) {return 1 ;}\n", "not formatted"),
    ("clang-format", "dialect/A.cpp", "int f(int a) {\n  return   a;\n}\n", "not formatted"),
    ("ruff", "python/heddle/a.py", "import os\n", "F401"),
    ("mypy", "python/heddle/a.py", "def f(x: int) -> str:\n    return x\n", "return-value"),
]


@pytest.mark.parametrize(("rule", "name", "text", "expected"), BAD, ids=[f"{b[0]}-{n}" for n, b in enumerate(BAD)])
def test_finds(tmp_path: Path, rule: str, name: str, text: str, expected: str) -> None:
    status, output = lint(tmp_path, rule, {name: text})
    assert status == 1
    assert expected in output
    assert f"{name}:" in output
    assert f"[{rule}]" in output


GOOD = [
    ("rooms", {"passes/A.cpp": '#include "dialect/Pattern.h"\n#include "mlir/IR/Builders.h"\n'}),
    ("rooms", {"runtime/src/a.cpp": '#include "heddle/runtime.h"\n#include <dlfcn.h>\n'}),
    ("rooms", {"passes/A.cpp": "// getenv() is not for passes\n"}),
    ("rooms", {"python/core/A.cpp": '#include "codegen/Compiler.h"\n#include "dialect/Pattern.h"\n'}),
    ("presburger", {"test/unit/A.cpp": '#include "mlir/Analysis/Presburger/Set.h"\nauto c = a.subtract(b);\n'}),
    ("presburger", {"dialect/PeriodicSet.cpp": "auto c = a.complement();\n"}),
    ("presburger", {"dialect/PatternSet.cpp": "// a.subtract(b) drops points\n"}),
    (
        "names",
        {
            "passes/Passes.td": PASSES_TD,
            "passes/TileAttend.cpp": "#define GEN_PASS_DEF_TILEATTENDPASS\n",
            "test/passes/tile-attend.mlir": "// RUN: heddle-opt --attn-tile-attend %s\n",
        },
    ),
    (
        "constraints",
        {
            "docs/spec.md": "1. `attend_c1`: q has rank 4.\n",
            "dialect/Attn.cpp": "// attend_c1\n",
            "test/dialect/invalid.mlir": "func.func @attend_c1() { return }\n",
        },
    ),
    ("headers", {"dialect/A.h": header("A.h", "", guard="HEDDLE_DIALECT_A_H")}),
    ("diagnostics", {"dialect/A.cpp": 'return emitOpError("expected Hq, but got ") << n;\n'}),
    ("diagnostics", {"dialect/A.cpp": 'return emitOpError("Hq must be a multiple of ...");\n'}),
    ("clang-format", {"dialect/A.cpp": "int f() { return 1; }\n"}),
    ("ruff", {"python/heddle/a.py": "x = 1\n"}),
    ("mypy", {"python/heddle/a.py": "def f(x: int) -> int:\n    return x\n"}),
]


@pytest.mark.parametrize(("rule", "files"), GOOD, ids=[f"{g[0]}-{n}" for n, g in enumerate(GOOD)])
def test_passes(tmp_path: Path, rule: str, files: dict[str, str]) -> None:
    # clang-format reads the style of the tree it runs in.
    files = {".clang-format": "BasedOnStyle: LLVM\nColumnLimit: 120\nInsertBraces: true\n", **files}
    status, output = lint(tmp_path, rule, files)
    assert status == 0, output


def test_junit_names_the_rule_that_fails(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("no newline", encoding="utf-8")
    report = tmp_path / "build" / "lint.xml"
    command = [sys.executable, str(LINT), "--root", str(tmp_path), "--only", "text", "--only", "names"]
    done = subprocess.run([*command, "--junit", str(report)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    text = report.read_text(encoding="utf-8")
    assert 'tests="2" failures="1"' in text
    assert "docs/a.md:1: expected a newline at the end" in text
