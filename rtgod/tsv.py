"""Tab-separated tables in the format of BIDS: the reader and the writer of all tables that rtgod reads and writes.

BIDS has no quoting: a quotation mark is a character like any other, and a cell cannot hold characters that end a cell
or a line. The writer escapes such characters as Python does (a tab as a backslash and a t), and `read_tsv` with
`escaped` restores them. Tables of other programs are read without escapes: a backslash in them belongs to a path.
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

#: BIDS's word for a missing value.
NOT_APPLICABLE = "n/a"
NOTHING = frozenset({NOT_APPLICABLE, ""})
#: Line ends of all systems, without those that Unicode adds (U+0085, U+2028 …), which a cell may hold.
_LINE_END = re.compile("\r\n|\r|\n")
#: Characters that end a cell or, in some programs, a line.
_ENDS = re.compile("[\t\n\r\v\f\x1c-\x1f\x85\u2028\u2029]+")
_BOM = "\ufeff"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
#: Most characters of a cell; a longer one shows that the file is not a table.
_LONGEST_CELL = 131_072
_ESCAPE = re.compile(r"\\(?:[\\tnr]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_SHORT = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table, whose errors name file, line and column.

    Attributes
    ----------
    path : Path
    line : int
    cells : mapping of str to str
        Cells by column, without blanks around them; a row that is too short lacks the last ones.
    """

    path: Path
    line: int
    cells: Mapping[str, str]

    def has(self, column: str) -> bool:
        """Return whether a cell holds a value.

        Parameters
        ----------
        column : str
            A column that the table lacks holds no value.
        """
        return self.cells.get(column, "") not in NOTHING

    def label(self, column: str) -> str:
        """Return the value of a cell; raise `InputError` if it has none.

        Parameters
        ----------
        column : str
        """
        if not self.has(column):
            raise self.refusal(column, "is empty, and a trial needs it; fill it in")
        return self.cells[column]

    def seconds(self, column: str) -> float:
        """Return a cell as seconds; raise `InputError` if it is not a finite number.

        Parameters
        ----------
        column : str
        """
        text = self.cells.get(column, "")
        try:
            value = float(text)
        except ValueError:
            if _DECIMAL_COMMA.fullmatch(text):
                problem = f"is {text[:40]!r}; write {text[:40].replace(',', '.')}, not {text[:40]}"
            else:
                problem = f"is {text[:40]!r}; write a number of seconds"
            raise self.refusal(column, problem) from None
        if not math.isfinite(value):
            raise self.refusal(column, f"is {text[:40]!r}; write a finite number of seconds")
        return value

    def duration(self) -> float:
        """Return the row's duration in seconds; raise `InputError` if it is not a number from 0."""
        value = self.seconds("duration")
        if value < 0:
            raise self.refusal("duration", f"is {value:g} s; a trial cannot end before it starts, so correct it")
        return value

    def refusal(self, column: str, what: str) -> InputError:
        """Make the error that says what is wrong with a cell, and where the cell is.

        Parameters
        ----------
        column : str
        what : str
            Clause about the cell, without a full stop: "is empty; fill it in".
        """
        return InputError(f"{self.path}, line {self.line}, column {column}: {what}.")


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was read.

    Attributes
    ----------
    path : Path
    columns : tuple of str
        Names of the columns, in order; empty for a column without a name.
    rows : tuple of Row
        Lines that are not blank.
    n_quoted : mapping of str to int
        Number of cells in quotation marks, for each column that has any.
    too_long : tuple of int
        Numbers of lines with more cells than columns; the surplus cells are not read.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    n_quoted: Mapping[str, int]
    too_long: tuple[int, ...]

    def remarks(self) -> list[str]:
        """List oddities of the table that are no reason to refuse it, a line each."""
        oddities = []
        if self.n_quoted:
            cells = ", ".join(f"{n} of {column}" for column, n in self.n_quoted.items())
            oddities.append(
                f"cells in quotation marks ({cells}): BIDS knows no quoting, so the marks belong to the names; if a "
                "spreadsheet put them there, take them out"
            )
        if self.too_long:
            where = f"line {self.too_long[0]}" if len(self.too_long) == 1 else f"{len(self.too_long)} lines"
            oddities.append(
                f"{where} with more cells than there are columns, the first line {self.too_long[0]}: not read"
            )
        return oddities


def read_tsv(path: Path, *, escaped: bool = False, what: str = "a table") -> Table:
    """Read a table: UTF-8 with or without a byte order mark, and the line ends of any system.

    Parameters
    ----------
    path : Path
    escaped : bool
        Whether the table was written by `write_tsv`, so that its escapes are to be replaced.
    what : str
        Kind of table, for messages.

    Raises
    ------
    InputError
        If the file cannot be read, is not UTF-8 text, is empty, or has two columns of one name.
    """
    text = _text_of(path)
    # A table of `write_tsv` is read back exactly as written; names in other tables are compared and shown composed.
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
    """Write a table, which appears complete or not at all.

    Parameters
    ----------
    path : Path
    columns : sequence of str
    rows : iterable of iterable
        Cells of each row; see `cell_of`.
    digits : int, optional
        Significant digits of floats; all by default.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    write_whole(path, "".join(line_of(cells, digits) + "\n" for cells in [columns, *rows]))


def line_of(cells: Iterable[object], digits: int | None = None) -> str:
    """Write the cells of a line, without a line end.

    Parameters
    ----------
    cells : iterable of object
        See `cell_of`.
    digits : int, optional
        Significant digits of floats; all by default.
    """
    return "\t".join(cell_of(cell, digits) for cell in cells)


def cell_of(value: object, digits: int | None = None) -> str:
    """Write a value as a cell of a file.

    Parameters
    ----------
    value : object
        Value of the cell; None, nan and an empty text are written n/a.
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
    # A reader strips blanks around a cell, and a byte order mark at the file's beginning.
    before, after = (_escape_all(text[:start]), _escape_all(text[start + len(inner) :]))
    return before + plain(inner.replace("\\", "\\\\")).replace(_BOM, "\\ufeff") + after


def one_line(text: str) -> str:
    """Write a cell for tables that are read without escapes: characters that end a cell or a line become one blank.

    Other blanks, such as two in a row or an ideographic one, belong to a name and stay.

    Parameters
    ----------
    text : str
    """
    return encodable(_ENDS.sub(" ", text).strip())


def _escape_all(blanks: str) -> str:
    return "".join(plain(c) if plain(c) != c else _escape(c) for c in blanks)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _unescaped(cell: str) -> str:
    return _ESCAPE.sub(lambda match: _SHORT.get(match[0][1]) or chr(int(match[0][2:], 16)), cell)


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
