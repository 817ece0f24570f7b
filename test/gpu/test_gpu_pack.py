"""The folder that goes to a machine with a GPU: made, and checked there as far as that can be without one."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

import heddle
from heddle import _cuda, _gpu
from oracle import patterns

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
    if not torch.cuda.is_available():
        done = subprocess.run(
            [sys.executable, "check.py"], capture_output=True, text=True, check=False, env=clean, cwd=tmp_path
        )
        assert done.returncode == 1
        assert done.stderr.startswith("expected ")
        assert "jobs were not begun" not in done.stdout


@pytest.mark.parametrize(
    ("cuda", "capability", "why"),
    [
        (None, None, "expected a PyTorch with CUDA, but got "),
        ("13.0", None, "expected a GPU that PyTorch can use, but got none"),
        ("13.0", (8, 0), "expected a GPU for sm_90a code, but got capability 8.0"),
        ("13.0", (10, 0), "expected a GPU for sm_90a code, but got capability 10.0"),
        ("13.0", (9, 0), ""),
    ],
)
def test_what_is_missing_is_told(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, cuda: str | None, capability: tuple[int, int] | None, why: str
) -> None:
    """With a driver, and a PyTorch and a device that do or do not suit."""
    monkeypatch.setattr(_cuda, "driver", lambda: None)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    said = check.missing("sm_90a")
    assert said.startswith(why) if why else not said


def test_rows_of_a_timed_kernel_are_the_pattern(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The masks that timed kernels are compared with are those of their patterns."""
    monkeypatch.setattr(check, "DEVICE", "cpu")
    sys.path.insert(0, str(ROOT / "bench" / "gpu"))
    from pack import TIMED

    for case in TIMED.values():
        where, n = case["where"], 65536 if case["where"].startswith("grid") else 300
        rows, docs = torch.tensor([0, 5, 127, 128, n // 2 + 3, n - 1]), torch.arange(n) // 70
        live = check.live_rows(where, 2, rows, n, docs if "%docs" in where else None)
        for head, rows_of_head in enumerate(live):
            for row, i in zip(rows_of_head, rows.tolist(), strict=True):
                text = where.replace("same(%docs, %docs)", "full")
                want = torch.from_numpy(patterns.mask(text, 1, n, q_offset=i, h=head)[0])
                want = want & (docs == docs[i]) if "%docs" in where else want
                assert torch.equal(row, want), (where, i)


WORKER = """
import json, os, sys, time
print("@heddle " + json.dumps({"machine": {"gpu": "none"}}), flush=True)
for job in json.loads(sys.stdin.readline()):
    if job[1] == "hangs":
        time.sleep(600)
    if job[1] == "dies":
        os.abort()
    print("something else", flush=True)
    print("@heddle " + json.dumps({"job": job, "result": "", "failed": False}), flush=True)
    if job[1] == "loses the context":
        sys.exit(0)
"""


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that goes along, beside the package's launcher."""
    for name, module in (("heddle_gpu", heddle), ("heddle_gpu._cuda", _cuda), ("heddle_gpu._gpu", _gpu)):
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("check", ROOT / "bench" / "gpu" / "check.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_case_that_hangs_or_dies_is_one_line(check: ModuleType, tmp_path: Path) -> None:
    """The cases behind it still run, in another process."""
    (tmp_path / "worker.py").write_text(WORKER)
    check.__file__, check.PATIENCE = str(tmp_path / "worker.py"), 2.0
    names = ["good", "hangs", "good", "loses the context", "dies", "good"]
    workers = check.Workers(time.monotonic() + 120)
    found = list(workers.run([("example", name, "plain") for name in names]))
    assert [job[1] for job, _, _ in found] == names
    assert [failed for _, _, failed in found] == [name in ("hangs", "dies") for name in names]
    assert found[1][1] == "it hangs"
    assert "ended with -6" in found[4][1]
    assert workers.machine == {"gpu": "none"}
    assert workers.starts == 4


def test_a_worker_that_does_not_begin_ends_it(check: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text("raise SystemExit(3)")
    check.__file__ = str(tmp_path / "worker.py")
    workers = check.Workers(time.monotonic() + 60)
    assert list(workers.run([("example", "good", "plain")])) == []
    assert workers.starts == 1
