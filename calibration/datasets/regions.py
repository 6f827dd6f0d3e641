"""Region expressions as in the lab's toolbox: unions, differences and intersections of regions that have names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from rtgod.errors import InputError

#: Indices of voxels or of columns, sorted, each once.
IndexArray = np.ndarray[tuple[int], np.dtype[np.int64]]

_OPERATORS: Mapping[str, Callable[[Any, Any], IndexArray]] = {
    "+": np.union1d,
    "|": np.union1d,
    "-": np.setdiff1d,
    "&": np.intersect1d,
}
#: A name may be quoted; "= 1" may follow it, the toolbox's notation for a flag that is set.
_TOKEN = re.compile(r'\s*(?:(?:"(?P<quoted>[^"]+)"|(?P<bare>[\w.]+))(?:\s*=\s*1\b)?|(?P<sign>[-+|&()]))\s*')
_PREFIX = "ROI_"


def select_region(expression: str, regions: Mapping[str, IndexArray]) -> IndexArray:
    """Select the indices that an expression describes, such as `ROI_V1 + ROI_V2`, `VC - V1` or `(FFA + PPA) & VC`.

    Parameters
    ----------
    expression : str
        Names joined by `+` or `|` (union), `-` (difference) and `&` (intersection). As in BrainDecoderToolbox2 and bdpy
        no operator binds closer than another: they apply from left to right, and parentheses come first.
    regions : mapping of str to ndarray of shape (n,), int64
        Indices of each region, sorted. A name is found with and without `ROI_` before it.

    Returns
    -------
    ndarray of shape (n_selected,), int64
        Sorted; may be empty.

    Raises
    ------
    InputError
        If the text is no expression, or names a region that is absent.
    """
    values: list[IndexArray] = []
    pending: list[str] = []
    operand_next = True
    for sign, name in _tokens(expression):
        if operand_next != (bool(name) or sign == "("):
            raise InputError(f"region {expression!r}: {name or sign!r} is not expected there; {_HOW}")
        if sign == "(" or sign in _OPERATORS:
            pending.append(sign)
            operand_next = True
            continue
        if name:
            values.append(regions[find_name(name, regions)])
        elif not pending or pending.pop() != "(":
            raise InputError(f"region {expression!r}: a parenthesis closes that was not opened; {_HOW}")
        operand_next = False
        if pending and pending[-1] in _OPERATORS:
            right = values.pop()
            values.append(_OPERATORS[pending.pop()](values.pop(), right))
    if operand_next or pending:
        raise InputError(f"region {expression!r}: ends before it is complete; {_HOW}")
    return values.pop()


def names_in(expression: str) -> tuple[str, ...]:
    """Return the names in an expression, each once, in order.

    Parameters
    ----------
    expression : str
        As for `select_region`.

    Raises
    ------
    InputError
        If it is no expression.
    """
    names = tuple(dict.fromkeys(name for _, name in _tokens(expression) if name))
    select_region(expression, dict.fromkeys(names, np.empty(0, np.int64)))
    return names


def find_name(name: str, regions: Iterable[str]) -> str:
    """Find the region that a name means, with or without `ROI_` before it.

    Parameters
    ----------
    name : str
    regions : iterable of str
        Names of the regions that exist.

    Raises
    ------
    InputError
        If no region has that name; the message lists those that exist.
    """
    existing = sorted(regions)
    for variant in (name, name.removeprefix(_PREFIX), _PREFIX + name):
        if variant in existing:
            return variant
    raise InputError(f"no region {name!r}; there: {', '.join(existing) or 'none'}; choose from these with --region")


_HOW = "write names joined by +, - or &, such as 'V1 + V2' or '(FFA + PPA) - V1'"


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    """Yield each sign as (sign, ""), each name as ("", name)."""
    position = 0
    while position < len(expression):
        token = _TOKEN.match(expression, position)
        if not token:
            raise InputError(f"region {expression!r}: cannot be read from {expression[position:][:20]!r} on; {_HOW}")
        yield token["sign"] or "", token["quoted"] or token["bare"] or ""
        position = token.end()
