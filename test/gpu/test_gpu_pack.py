"""The folder that goes to a machine with a GPU: made, and checked there as far as that can be without one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ONLY = "" if "HEDDLE_SWEEP" in os.environ else "causal|gqa|linformer|routing|bert|decode"


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="no ptxas")
def test_a_packed_folder_needs_nothing_else(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "gpu" / "pack.py"), str(tmp_path), "--random", "3", "--only", ONLY],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    plan = json.loads((tmp_path / "cases.json").read_text())
    assert plan["systems"]
    assert plan["random"]
    assert plan["timed"]
    # Nothing of Heddle but what is in the folder.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "HEDDLE"))}
    code = (
        "import sys, runpy; sys.modules['heddle'] = None; sys.argv[1:] = ['--dry-run']; sys.path.insert(0, '.'); "
        "runpy.run_path('check.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=clean, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checked = int(done.stdout.split("correct: ")[1].split(" of ")[1].split()[0])
    assert checked > len(plan["systems"]) + len(plan["random"]), done.stdout
    assert int(done.stdout.split("launches: ")[1]) >= checked
    assert int(done.stdout.split("maps: ")[1].split()[0]) > len(plan["timed"])  # kept to the driver's rules
