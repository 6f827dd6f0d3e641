"""Tables that nobody reads in passing, in one file that grows the same whatever is in them.

Rows are written in records of one size, one in each slot of time, whether there were rows or not: neither the length
of the file nor of its lines, nor when it was written to, tells what was on the screen. What one record has no room for
comes in the next. What a record holds is made to look random, so that it cannot be told by how well it compresses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rtgod.errors import InputError
from rtgod.files import Closing
from stimulus.blinding.sealing import hidden, read_sealed, revealed
from stimulus.tables import Lines, line_of

#: Seconds from one record to the next: what a crash loses at most.
SLOT_S = 0.25
#: Room in a record for each refresh of the monitor, and for what was shown.
_FLIP_BYTES, _MORE_BYTES = 64, 1024
#: What opens a process's first record, and any other: a row that was begun before the first will not be gone on with.
_FIRST, _NEXT = b"\1", b"\0"


class SealedTables(Closing):
    """Tables that grow row by row, in one sealed file.

    Parameters
    ----------
    path : Path
        Appended to where it exists.
    columns : mapping of str to sequence of str
        Names of each table's columns, by the table's name.
    frame_hz : float
        Refreshes in a second; each may give a row.

    Raises
    ------
    InputError
        If it cannot be written when it is opened; never later.
    """

    def __init__(self, path: Path, columns: Mapping[str, Sequence[str]], frame_hz: float = 60.0) -> None:
        self._lines = Lines(path)
        self._n_bytes = math.ceil(1.25 * frame_hz * SLOT_S) * _FLIP_BYTES + _MORE_BYTES
        self._rows = bytearray()
        self._flag = _FIRST
        self._slot: int | None = None
        self._closed = False
        # Each process names the columns anew, for the rows before it may be lost.
        for table, names in columns.items():
            self.write(table, names)
        self._record()

    def write(self, table: str, cells: Sequence[str]) -> None:
        """Append a row to a table; it is in the file at the end of its slot of time."""
        self._rows += f"{table}\t{line_of(cells)}\n".encode()

    def poll(self, now_s: float) -> list[str]:
        """Write the records that are due; returns lines for the operator.

        Parameters
        ----------
        now_s : float
            Of a clock that no one sets; the same one at each call.
        """
        slot = math.floor(now_s / SLOT_S)
        for _ in range(slot - (slot if self._slot is None else self._slot)):
            self._record()
        self._slot = slot
        return self._lines.poll(now_s)

    @property
    def n_waiting(self) -> int:
        """Records that are not in the file yet."""
        return self._lines.n_waiting

    def close(self) -> None:
        """Write what is left, and close the file."""
        if not self._closed:
            self._closed = True
            self._record()
            while self._rows:
                self._record()
        self._lines.close()

    def _record(self) -> None:
        n_rows = self._n_bytes - len(self._flag)
        content = self._flag + bytes(self._rows[:n_rows])
        del self._rows[:n_rows]
        self._flag = _NEXT
        self._lines.append(hidden(content, self._n_bytes))


def read_sealed_tables(path: Path) -> dict[str, list[list[str]]]:
    """Tables that `SealedTables` wrote, by their names: each its columns' names, then its rows.

    A last record that a crash cut short is left out, and so is a row that was never gone on with.

    Raises
    ------
    InputError
        If it cannot be read, or one of its records is damaged.
    """
    tables: dict[str, list[list[str]]] = {}
    rows = b""
    *lines, _ = read_sealed(path).split("\n")
    for number, line in enumerate([*lines, None], 1):
        try:
            content = _FIRST if line is None else revealed(line)
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: damaged ({error}), or sealed by another version of rtgod; restore a copy"
            ) from error
        if content[:1] == _FIRST:
            _add(tables, rows)
            rows = b""
        rows += content[1:]
    return tables


def _add(tables: dict[str, list[list[str]]], rows: bytes) -> None:
    for row in rows.decode(errors="replace").split("\n")[:-1]:
        name, *cells = row.split("\t")
        table = tables.setdefault(name, [])
        if not table or cells != table[0]:
            table.append(cells)
