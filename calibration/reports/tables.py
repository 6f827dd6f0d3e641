"""Tables of numbers for people and programs, with six significant digits, which is all that the numbers hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rtgod import tsv

_DIGITS = 6


def write_tsv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with six significant digits of floats, otherwise as `rtgod.tsv` does.

    Parameters
    ----------
    path : Path
    header : sequence of str
    rows : iterable of sequence
        Cells of each row.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    tsv.write_tsv(path, header, rows, digits=_DIGITS)
