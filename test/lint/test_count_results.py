"""The closing line of `tools/dev test` counts every report, and silence is a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COUNT = Path(__file__).resolve().parents[1] / "count_results.py"

PYTEST = (
    '<testsuites><testsuite><testcase name="a"/><testcase name="b"><failure/></testcase>'
    '<testcase name="c"><skipped/></testcase></testsuite></testsuites>'
)
CTEST = '<testsuite><testcase name="a" status="run"/><testcase name="b" status="fail"/></testsuite>'
FINE = '<testsuite><testcase name="a"/><testcase name="b"/></testsuite>'


@pytest.mark.parametrize(
    ("reports", "status", "last"),
    [
        ({"x": (0, FINE)}, 0, "heddle: 2 passed, 0 failed"),
        ({"x": (0, FINE), "y": (1, PYTEST)}, 1, "heddle: 3 passed, 1 failed, 1 skipped"),
        ({"x": (8, CTEST)}, 1, "heddle: 1 passed, 1 failed"),
        ({"x": (3, FINE)}, 1, "heddle: 2 passed, 1 failed (x exited with status 3)"),
        ({"x": (0, "<testsuite/>")}, 1, "heddle: 0 passed, 1 failed (x ran no test)"),
        ({"x": (0, None)}, 1, "heddle: 0 passed, 1 failed (x left no report)"),
        ({"x": (0, "<testsu")}, 1, "heddle: 0 passed, 1 failed (x left no report)"),
        ({}, 1, "heddle: 0 passed, 1 failed (no suite was named)"),
    ],
)
def test_closing_line(tmp_path: Path, reports: dict, status: int, last: str) -> None:
    arguments = []
    for name, (exit_status, text) in reports.items():
        path = tmp_path / f"{name}.xml"
        if text is not None:
            path.write_text(text, encoding="utf-8")
        arguments.append(f"{name}={exit_status}={path}")
    done = subprocess.run([sys.executable, str(COUNT), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stdout.splitlines()[-1] == last
