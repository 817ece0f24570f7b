"""Errors of kernels in the words of the call: a kernel knows its arguments by the names in its spec."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def in_words(names: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """Raises what a kernel raises, with the names of its arguments replaced by what `names()` calls them."""
    try:
        yield
    except (TypeError, ValueError) as error:
        known = names()
        name = r"(?<![\w%.])(?:argument \d+|[a-z_]+\d+(?:_\d+)?)(?!\w)"
        text = re.sub(name, lambda m: known.get(m[0], m[0]), str(error))
        if text == str(error):
            raise
        raise type(error)(text) from None


def parameter_names(function: Callable[..., Any], skip: int = 0) -> dict[str, str]:
    """`a0`, `a1`, ... and `argument 0`, ... as a function's parameters are called; those of `*rest` are numbered."""
    names: list[str] = []
    for p in list(inspect.signature(function).parameters.values())[skip:]:
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}[{n}]" for n in range(100)]
            break
        names.append(p.name)
    return {f"{kind}{n}": name for n, name in enumerate(names) for kind in ("a", "argument ")}
