"""Pictures and explanations of patterns."""

from __future__ import annotations

import json
import os
from typing import Any

from . import _core
from ._kernel import Kernel
from ._kernel import compile as compile_spec
from ._pattern import as_pattern
from ._spec import Spec, spec

TILE = 64


def explain(
    where: Any, n: int = 4096, *, nk: int | None = None, b: int = 1, heads: int | tuple[int, ...] = 8, d: int = 64,
    dtype: Any = "f32", score: Any = None, as_json: bool = False, q_offset: Any = None,
    run: bool = False,
) -> Any:  # fmt: skip
    """Live pairs, tiles, FLOPs, waste, the schedule and the predicted time of a pattern, in words.

    Parameters
    ----------
    where
        A `Pattern`, a function of (b, h, i, j), or a `Spec`.
    n, nk
        Numbers of queries and of keys (default: as many keys).
    b, heads, d, dtype
        Batch, (Hq, Hk), head dimension and type.
    as_json
        A dictionary instead of words.
    run
        Also compile and run it on random data, and give the measured time. Not for patterns with run-time operands.
    """
    heads = (heads, heads) if isinstance(heads, int) else heads
    if not isinstance(where, Spec):
        where = spec(where, score, d=d, dtype=dtype, q_offset=q_offset)
    nk = n if nk is None else nk
    if run:
        return _measured(where, (b, heads[0], n, d), (b, heads[1], nk, d), as_json)
    sizes = f"b={b},h={heads[0]},hk={heads[1]},nq={n},nk={nk},d={d}"
    text = _core.explain(str(where), sizes, as_json)
    return json.loads(text) if as_json else text


def _measured(spec: Spec, queries: tuple[int, ...], keys: tuple[int, ...], as_json: bool) -> Any:
    """The explanation after a run on random data."""
    import numpy as np

    kernel = compile_spec(spec)
    formal = kernel.manifest["args"]
    missing = [a["name"] for a in formal if a["roles"][0]["role"] not in ("q", "k", "v")]
    if missing:
        raise ValueError(f"expected a pattern without run-time operands for run=True, but got {', '.join(missing)}")
    random = np.random.default_rng(0)
    args = []
    for a in formal:
        x = random.standard_normal(queries if a["roles"][0]["role"] == "q" else keys).astype(np.float32)
        args.append(_core_type(x, a["type"]))
    assert isinstance(kernel, Kernel)
    return kernel.explain(*args, as_json=as_json, hk=keys[1])


def _core_type(x: Any, name: str) -> Any:
    """A float32 array as f32, f16 or (through torch) bf16."""
    if name != "bf16":
        return x.astype({"f32": "float32", "f16": "float16"}[name])
    import torch

    return torch.from_numpy(x).bfloat16()


def tile_kinds(live: Any, tile: int) -> Any:
    """0 empty, 1 partial, 2 full for each tile x tile tile of a mask ``[Nq, Nk]``."""
    import numpy as np

    nq, nk = live.shape
    rows, columns = -(-nq // tile), -(-nk // tile)
    kinds = np.zeros((rows, columns), dtype=np.int8)
    for r in range(rows):
        for c in range(columns):
            part = live[r * tile : (r + 1) * tile, c * tile : (c + 1) * tile]
            kinds[r, c] = 2 if part.all() else 1 if part.any() else 0
    return kinds


def show(
    where: Any, n: int = 256, path: str | os.PathLike[str] = "pattern.png", *, nk: int | None = None, tile: int = 0,
    q_offset: Any = 0, h: int = 0, b: int = 0, **tensors: Any,
) -> str:  # fmt: skip
    """Draws a pattern as a PNG: live pairs in colour, tiles by kind (full, partial, empty).

    Parameters
    ----------
    where
        A `Pattern` or a function of (b, h, i, j).
    n, nk
        Numbers of queries and of keys.
    path
        Where to write.
    tile
        Side of the tiles that are drawn; default: an eighth of n, at most 64.
    q_offset, h, b, **tensors
        As in `Pattern.mask`.

    Returns
    -------
    str
        The path.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import ListedColormap
        from matplotlib.figure import Figure
    except ImportError as e:
        raise RuntimeError("expected matplotlib for hd.show, but got none; pip install matplotlib") from e
    import numpy as np

    pattern = as_pattern(where)
    live = pattern.mask(n, nk, q_offset, h, b=b, **tensors)
    tile = tile or max(1, min(TILE, n // 8))
    kinds = np.kron(tile_kinds(live, tile), np.ones((tile, tile), dtype=np.int8))[: live.shape[0], : live.shape[1]]
    # Colours: dead in an empty tile, dead and live in a partial tile, live in a full tile.
    image = np.where(kinds == 2, 3, np.where(live, 2, np.where(kinds == 1, 1, 0)))
    figure = Figure(figsize=(7.2, 7.6), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = ["#ffffff", "#f6ddc8", "#d1603d", "#2a6f97"]
    axes.imshow(
        image, cmap=ListedColormap(colours), vmin=0, vmax=3, interpolation="nearest",
        extent=(-0.5, live.shape[1] - 0.5, live.shape[0] - 0.5, -0.5),
    )  # fmt: skip
    axes.set_xlabel("key j")
    axes.set_ylabel("query i")
    share = live.mean() if live.size else 0.0
    counts = [int((tile_kinds(live, tile) == kind).sum()) for kind in (2, 1, 0)]
    text = pattern.text if len(pattern.text) <= 72 else pattern.text[:69] + "..."
    axes.set_title(
        f"{text}\n{int(live.sum())} live pairs ({share:.1%}); tiles of {tile}: {counts[0]} full, "
        f"{counts[1]} partial, {counts[2]} empty",
        fontsize=9,
    )
    figure.tight_layout()
    figure.savefig(os.fspath(path))
    return os.fspath(path)
