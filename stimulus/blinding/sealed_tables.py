"""Tables that nobody can read in passing, in one file that grows at the same pace whatever their content.

Rows are written in records of one size, one record in each slot of time, even if there were no rows: neither the length
of the file or of its lines nor the times of writing tell what was on the screen. Rows that one record has no room for
come in the next. A record's content is made to look random, so that its compressibility tells nothing either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rtgod.errors import InputError
from rtgod.files import Closing
from stimulus.blinding.sealing import hidden, read_sealed, revealed
from stimulus.tables import Lines, line_of

#: Time from one record to the next, seconds; a crash loses at most the rows of this time.
SLOT_S = 0.25
#: Room in a record for each refresh of the monitor, and for the table of what was shown, bytes.
_FLIP_BYTES, _MORE_BYTES = 64, 1024
#: Opening byte of a process's first record, and of its others: a row left unfinished before a first record stays so.
_FIRST, _NEXT = b"\1", b"\0"


class SealedTables(Closing):
    """Tables that grow row by row, in one sealed file.

    Parameters
    ----------
    path : Path
        File to write; an existing one is appended to.
    columns : mapping of str to sequence of str
        Names of each table's columns, by the table's name.
    frame_hz : float
        Refreshes of the monitor in a second; each may give a row.

    Raises
    ------
    InputError
        If the file cannot be written when it is opened; never later.
    """

    def __init__(self, path: Path, columns: Mapping[str, Sequence[str]], frame_hz: float = 60.0) -> None:
        self._lines = Lines(path)
        self._n_bytes = math.ceil(1.25 * frame_hz * SLOT_S) * _FLIP_BYTES + _MORE_BYTES
        self._rows = bytearray()
        self._flag = _FIRST
        self._slot: int | None = None
        self._closed = False
        # Each process writes the columns' names anew, as earlier rows may be lost.
        for table, names in columns.items():
            self.write(table, names)
        self._record()

    def write(self, table: str, cells: Sequence[str]) -> None:
        """Append a row to a table; it is written at the end of its slot of time.

        Parameters
        ----------
        table : str
            Its name, one of those in `columns`.
        cells : sequence of str
            In the order of the table's columns.
        """
        self._rows += f"{table}\t{line_of(cells)}\n".encode()

    def poll(self, now_s: float) -> list[str]:
        """Write the records that are due; return lines for the operator.

        Parameters
        ----------
        now_s : float
            Time by a clock that nobody sets, seconds; the same clock at each call.
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
        """Write the rows that are left, and close the file."""
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
    """Read the tables that `SealedTables` wrote, by their names; a table's first row has its columns' names.

    A last record that a crash cut short is left out, and so is a row that was never finished.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If the file cannot be read, or one of its records is damaged.
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
