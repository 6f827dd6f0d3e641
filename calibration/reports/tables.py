"""Tables of numbers for people and programs: six significant digits say all that they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rtgod import tsv

_DIGITS = 6


def write_tsv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table; floats with six significant digits, otherwise as `rtgod.tsv` does.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    tsv.write_tsv(path, header, rows, digits=_DIGITS)
