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
        text = re.sub(r"(?<![\w%.])[a-z]+\d+(?:_\d+)?(?!\w)", lambda m: known.get(m[0], m[0]), str(error))
        if text == str(error):
            raise
        raise type(error)(text) from None


def parameter_names(function: Callable[..., Any], skip: int = 0) -> dict[str, str]:
    """`a0`, `a1`, ... as the parameters of a function are called; those of `*rest` are numbered."""
    found: dict[str, str] = {}
    for p in list(inspect.signature(function).parameters.values())[skip:]:
        if p.kind is p.VAR_POSITIONAL:
            first = len(found)
            return found | {f"a{n}": f"{p.name}[{n - first}]" for n in range(first, first + 100)}
        found[f"a{len(found)}"] = p.name
    return found
