"""Runs the examples of systems and compares each with its oracle; writes docs/zoo.md.

    .venv/bin/python examples/zoo.py            # checks all, prints the table
    .venv/bin/python examples/zoo.py --write    # and writes docs/zoo.md
    .venv/bin/python examples/zoo.py linformer  # some

A folder with `example.py` (Heddle), `oracle.py` (the formula in NumPy, float64, nothing of Heddle), `spec.mlir` and
`README.md` is an example. `example.py` gives SYSTEM, SPEC, COST, VARIANTS (settings by name), `inputs(rng, n,
**settings)` and `run(*inputs, **settings)`; `oracle.py` gives `oracle(*inputs, **settings)`. The spec is of the variant
SPEC_VARIANT (the first by default) and for SPEC_LENGTHS (all by default); `spec_args(*inputs)` and `from_spec(out,
*inputs)` do what the host framework would do around it, or `run_with(kernel, *inputs, **settings)` all of it. Some have
a second witness: `witness.py` with PACKAGE and `witness(*inputs, **settings)`, the result of somebody else's code, or
None for a variant that it does not have.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import heddle as hd

HERE = Path(__file__).resolve().parent
LENGTHS = (1, 17, 48, 96, 130)
TOLERANCE = 5e-6
"""Of the largest magnitude that the oracle gives, for f32 at these lengths."""


@dataclass
class Check:
    """One comparison; `error` is relative to the largest magnitude of the oracle's result."""

    variant: str
    n: int
    form: str
    error: float
    tolerance: float = TOLERANCE

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


def names() -> list[str]:
    """All examples, in order."""
    return sorted(p.parent.name for p in HERE.glob("*/example.py"))


def load(name: str, part: str) -> Any:
    """A module of an example."""
    spec = importlib.util.spec_from_file_location(f"zoo_{name}_{part}", HERE / name / f"{part}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def compare(got: Any, expected: np.ndarray) -> float:
    """The largest error over the largest magnitude; inf where shapes or finiteness differ."""
    got = np.asarray(got, np.float64)
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - expected).max(initial=0) / max(np.abs(expected).max(initial=0), 1e-30))


def checks(name: str, lengths: tuple[int, ...] = LENGTHS) -> Iterator[Check]:
    """Every variant at every length, by the Python form; and the spec's variant by spec.mlir."""
    example, oracle = load(name, "example"), load(name, "oracle")
    tolerance = getattr(example, "TOLERANCE", TOLERANCE)
    of_spec = getattr(example, "SPEC_VARIANT", next(iter(example.VARIANTS)))
    kernel = hd.compile(HERE / name / "spec.mlir")
    for variant, settings in example.VARIANTS.items():
        for n in sorted({*lengths, *getattr(example, "SPEC_LENGTHS", ())}):
            inputs = example.inputs(np.random.default_rng(n), n, **settings)
            expected = oracle.oracle(*inputs, **settings)
            yield Check(variant, n, "python", compare(example.run(*inputs, **settings), expected), tolerance)
            if variant == of_spec and n in getattr(example, "SPEC_LENGTHS", lengths):
                got = by_spec(example, kernel, inputs, settings)
                yield Check(variant, n, "spec", compare(got, expected), tolerance)


def by_spec(example: Any, kernel: Any, inputs: tuple[Any, ...], settings: dict[str, Any]) -> Any:
    """The result of an example whose attention is a compiled spec."""
    if hasattr(example, "run_with"):
        return example.run_with(kernel, *inputs, **settings)
    out = kernel(*(example.spec_args(*inputs) if hasattr(example, "spec_args") else inputs))
    return example.from_spec(out, *inputs) if hasattr(example, "from_spec") else out


def witnesses(name: str, lengths: tuple[int, ...] = (17, 96)) -> Iterator[Check]:
    """Somebody else's code against the oracle, where it is there to run."""
    if not (HERE / name / "witness.py").exists():
        return
    try:
        other = load(name, "witness")
    except ImportError:
        return
    example, oracle = load(name, "example"), load(name, "oracle")
    for variant, settings in example.VARIANTS.items():
        for n in lengths:
            inputs = example.inputs(np.random.default_rng(n), n, **settings)
            got = other.witness(*inputs, **settings)
            if got is not None:
                error = compare(got, oracle.oracle(*inputs, **settings))
                yield Check(variant, n, other.PACKAGE, error, getattr(other, "TOLERANCE", TOLERANCE))


def measured() -> dict[str, list[dict[str, Any]]]:
    """Rows of the newest results of `tools/dev bench zoo`, by example."""
    files = sorted((HERE.parent / "bench" / "results").glob("zoo-*.json"))
    rows = json.loads(files[-1].read_text(encoding="utf-8"))["rows"] if files else []
    out: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "error" not in row:
            out.setdefault(row["id"].split("/")[0], []).append(row)
    return out


def speed(rows: list[dict[str, Any]]) -> list[str]:
    """Slope and promised slope; speed over dense attention, and over the fastest of the PyTorch forms, by bench row."""

    def column(text: Callable[[dict[str, Any]], str]) -> str:
        return "<br>".join(dict.fromkeys(text(r) for r in rows)) or "-"

    def name(r: dict[str, Any]) -> str:
        return f" {r['id'].partition('/')[2]}".rstrip() if len(rows) > 1 else ""

    return [
        column(lambda r: f"{r['slope']:.2f} ({r['promised_slope']:.2f}){name(r)}"),
        column(lambda r: f"{r['over_dense']:.3g}x at {r['points'][-1]['n'] // 1024}k"),
        column(lambda r: f"{r['over_torch']:.3g}x"),
    ]


def on_gpu(name: str) -> str:
    """Whether the spec is assembled for sm_90a."""
    try:
        hd.compile(HERE / name / "spec.mlir", target="sm_90a")
    except (ValueError, NotImplementedError):
        return "-"
    return "assembled"


def table(wanted: list[str]) -> tuple[str, bool]:
    """Markdown of the examples, and whether all hold."""
    lines = [
        "# The zoo",
        "",
        "Generated by `.venv/bin/python examples/zoo.py --write` from the examples' tests. Each row is a folder of",
        "`examples/`; its oracle is NumPy code written from the formula alone. The error is the largest one of all",
        f"variants, lengths ({', '.join(map(str, LENGTHS))}) and forms (Python, spec.mlir), over the largest magnitude",
        f"of the result; a row is green where it is at most {TOLERANCE:g} (of storage in 16 bits: 2^-7). A second",
        "witness is somebody else's code for some variants, with its error against the oracle.",
        "",
        "Slope, and speed over dense attention and over the fastest PyTorch form of the same formula (as written,",
        "compiled, rewritten by hand) are the newest of `tools/dev bench zoo` (bench/results); the promised slope, of",
        "what the paper's cost counts at the same lengths, is in brackets. GPU says whether the spec is assembled for",
        "sm_90a.",
        "",
    ]
    header = [
        "| system | spec | variants | cost | error | CPU | second witness | slope | over dense | over PyTorch | GPU |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    beyond = [name for name in wanted if getattr(load(name, "example"), "BEYOND", False)]
    lines += header
    good = True
    figures = measured()
    for name in [*(n for n in wanted if n not in beyond), *beyond]:
        if beyond and name == beyond[0]:
            lines += ["", "Systems that Heddle was not built for, written with its pieces as they are:", "", *header]
        example = load(name, "example")
        done, seconds = [], []
        try:
            done, seconds = list(checks(name)), list(witnesses(name))
        except Exception as error:
            print(f"{name}: {error}", file=sys.stderr)
        worst = max((c.error for c in done), default=float("inf"))
        ok = bool(done) and all(c.ok for c in done + seconds)
        good &= ok
        witness = max(seconds, key=lambda c: c.error, default=None)
        variants = ", ".join(v for v in example.VARIANTS if v) or "one"
        spec = example.SPEC.replace("|", "\\|")
        system = f"[{example.SYSTEM}](../examples/{name}/README.md)"
        state = "green" if ok else "red"
        cells = [f"`{spec}`", variants, example.COST, f"{worst:.1e}", state]
        cells.append(f"{witness.form} ({witness.error:.0e})" if witness else "-")
        cells += [*speed(figures.get(name, [])), on_gpu(name)]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n", good


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="examples; default: all")
    parser.add_argument("--write", action="store_true", help="write docs/zoo.md")
    options = parser.parse_args()
    text, good = table(options.names or names())
    print(text)
    if options.write and not options.names:
        (HERE.parent / "docs" / "zoo.md").write_text(text, encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
