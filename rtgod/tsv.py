"""Tab-separated tables as BIDS has them: the one reader and the one writer of all that rtgod reads and writes.

BIDS knows no quoting: a quotation mark is a character like any other, and what would end a cell or a line cannot stand
in a cell. The writer writes such characters as Python does (a tab as a backslash and a t), and `read_tsv` with
`escaped` takes them back. Tables of others are read as they stand: a backslash in them belongs to a path.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtgod.errors import InputError
from rtgod.files import write_whole
from rtgod.text import composed, encodable, plain

#: BIDS's word for what is not there.
NOT_APPLICABLE = "n/a"
NOTHING = frozenset({NOT_APPLICABLE, ""})
#: Line ends of all systems, and none of those that Unicode adds (U+0085, U+2028 …): these may stand in a cell.
_LINE_END = re.compile("\r\n|\r|\n")
#: What ends a cell or, to some programs, a line.
_ENDS = re.compile("[\t\n\r\v\f\x1c-\x1f\x85\u2028\u2029]+")
_BOM = "\ufeff"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: A longer cell comes of a file that is no table.
_LONGEST_CELL = 131_072
_ESCAPE = re.compile(r"\\(?:[\\tnr]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_SHORT = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table; what is wrong with a cell is said by file, line and column.

    Attributes
    ----------
    path : Path
    line : int
    cells : mapping of str to str
        By column, without blanks around them; a row that is too short lacks the last ones.
    """

    path: Path
    line: int
    cells: Mapping[str, str]

    def has(self, column: str) -> bool:
        """Whether there is something in the cell."""
        return self.cells.get(column, "") not in NOTHING

    def label(self, column: str) -> str:
        """What is in the cell; `InputError` if there is nothing."""
        if not self.has(column):
            raise self.refusal(column, "is empty, and a trial needs it; fill it in")
        return self.cells[column]

    def seconds(self, column: str) -> float:
        """The cell as seconds; `InputError` if it is no time."""
        text = self.cells.get(column, "")
        try:
            value = float(text)
        except ValueError:
            if _DECIMAL_COMMA.fullmatch(text):
                what = f"is {text[:40]!r}; write {text[:40].replace(',', '.')}, not {text[:40]}"
            else:
                what = f"is {text[:40]!r}; write a number of seconds"
            raise self.refusal(column, what) from None
        if not math.isfinite(value):
            raise self.refusal(column, f"is {text[:40]!r}; write a finite number of seconds")
        return value

    def duration(self) -> float:
        """The row's duration, seconds; `InputError` if it is none."""
        value = self.seconds("duration")
        if value < 0:
            raise self.refusal("duration", f"is {value:g} s; a trial cannot end before it starts, so correct it")
        return value

    def refusal(self, column: str, what: str) -> InputError:
        """The error that says what is wrong with a cell, and where it is."""
        return InputError(f"{self.path}, line {self.line}, column {column}: {what}.")


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was read.

    Attributes
    ----------
    path : Path
    columns : tuple of str
        Their names, in order; an empty one where a column has none.
    rows : tuple of Row
        Lines that hold anything.
    n_quoted : mapping of str to int
        Columns with cells in quotation marks, and in how many.
    too_long : tuple of int
        Lines with more cells than there are columns; what is beyond is not read.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    n_quoted: Mapping[str, int]
    too_long: tuple[int, ...]

    def remarks(self) -> list[str]:
        """What is odd about the table, a line each; no reason to refuse it."""
        told = []
        if self.n_quoted:
            cells = ", ".join(f"{n} of {column}" for column, n in self.n_quoted.items())
            told.append(
                f"cells in quotation marks ({cells}): BIDS knows no quoting, so the marks belong to the names; if a "
                "spreadsheet put them there, take them out"
            )
        if self.too_long:
            where = f"line {self.too_long[0]}" if len(self.too_long) == 1 else f"{len(self.too_long)} lines"
            told.append(f"{where} with more cells than there are columns, the first line {self.too_long[0]}: not read")
        return told


def read_tsv(path: Path, *, escaped: bool = False, what: str = "a table") -> Table:
    """Read a table: UTF-8 with or without a byte order mark, and the line ends of any system.

    Parameters
    ----------
    path : Path
    escaped : bool
        Whether the table was written by `write_tsv`, so that escapes stand for what it could not write.
    what : str
        What the table is, for messages.

    Raises
    ------
    InputError
        If it cannot be read, is no UTF-8 text, is empty, or has two columns of one name.
    """
    text = _text_of(path)
    # A table that `write_tsv` wrote gives back what was written; in others, names are compared and shown composed.
    numbered = [
        (number, [cell.strip() for cell in line.split("\t")])
        for number, line in enumerate(_LINE_END.split(text if escaped else composed(text)), 1)
        if line.strip()
    ]
    for number, cells in numbered:
        if max(map(len, cells)) > _LONGEST_CELL:
            raise InputError(
                f"{path}, line {number}: a cell of more than {_LONGEST_CELL} characters; save it as tab-separated text."
            )
    if not numbered:
        raise InputError(f"{path}: empty; {what} has a line of column names and a row for each entry.")
    if escaped:
        numbered = [(number, [_unescaped(cell) for cell in cells]) for number, cells in numbered]
    (_, columns), *lines = numbered
    if twice := [name for name, n in Counter(columns).items() if n > 1 and name]:
        raise InputError(f"{path}, line 1: column {twice[0]!r} is there twice; remove or rename one of the two.")
    rows = tuple(Row(path, number, dict(zip(columns, cells, strict=False))) for number, cells in lines)
    n_quoted = Counter(name for row in rows for name, cell in row.cells.items() if _is_quoted(cell))
    too_long = tuple(number for number, cells in lines if any(cells[len(columns) :]))
    return Table(path, tuple(columns), rows, n_quoted, too_long)


def write_tsv(
    path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]], *, digits: int | None = None
) -> None:
    """Write a table, whole or not at all.

    Parameters
    ----------
    path : Path
    columns : sequence of str
    rows : iterable of iterable
        See `cell_of`.
    digits : int, optional
        Significant digits of floats; all by default.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    write_whole(path, "".join(line_of(cells, digits) + "\n" for cells in [columns, *rows]))


def line_of(cells: Iterable[object], digits: int | None = None) -> str:
    """A line of a table, without its end; parameters as of `write_tsv`."""
    return "\t".join(cell_of(cell, digits) for cell in cells)


def cell_of(value: object, digits: int | None = None) -> str:
    """A cell as it stands in a file.

    Parameters
    ----------
    value : object
        None, nan and an empty text are written n/a.
    digits : int, optional
        Significant digits of a float; all by default.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return NOT_APPLICABLE
    if isinstance(value, float) and digits is not None:
        return f"{value:.{digits}g}"
    text = str(value)
    inner = text.strip()
    if inner == text and text.isascii() and text.isprintable() and "\\" not in text:
        return text
    start = len(text) - len(text.lstrip())
    # A reader takes off the blanks around a cell, and a mark at the file's beginning.
    before, after = (_escape_all(text[:start]), _escape_all(text[start + len(inner) :]))
    return before + plain(inner.replace("\\", "\\\\")).replace(_BOM, "\\ufeff") + after


def one_line(text: str) -> str:
    """Write a cell for tables that are read without escapes: what would end a cell or a line becomes one blank.

    Blanks of other kinds, such as two in a row or an ideographic one, belong to a name and stay.
    """
    return encodable(_ENDS.sub(" ", text).strip())


def _escape_all(blanks: str) -> str:
    return "".join(plain(c) if plain(c) != c else _escape(c) for c in blanks)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _unescaped(cell: str) -> str:
    return _ESCAPE.sub(lambda found: _SHORT.get(found[0][1]) or chr(int(found[0][2:], 16)), cell)


def _is_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def _text_of(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    if raw.startswith(_UTF16_MARKS) or b"\0" in raw[:4]:
        raise InputError(
            f"{path}, line 1: not UTF-8 but UTF-16 text (a spreadsheet's 'Unicode text'); save the table as UTF-8."
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text; save the table as UTF-8.") from error
