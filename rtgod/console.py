"""The terminal, as rtgod writes to it: what people, files and clients named is shown as it is, and is no markup."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from rtgod.text import plain, plain_lines

#: Where no screen limits a table, it is as wide as it must be: programs read its lines.
_UNLIMITED = 10_000


class PlainConsole(Console):
    """A console on which strings are what they say: no markup, emoji codes, guessed colours or control characters.

    Parameters
    ----------
    stderr : bool
        Whether it writes to standard error instead of output.
    is_table : bool
        Whether tables are printed, which are not folded where there is no screen.
    file : text file, optional
        Where to write instead.
    width : int, optional
        Columns, where they are not the terminal's.
    """

    def __init__(
        self, *, stderr: bool = False, is_table: bool = False, file: TextIO | None = None, width: int | None = None
    ) -> None:
        if is_table and width is None and not (file or (sys.stderr if stderr else sys.stdout)).isatty():
            width = _UNLIMITED
        super().__init__(stderr=stderr, file=file, width=width, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """Make a string what is shown of it; called by rich for all that is printed, tables' cells included."""
        return super().render_str(plain_lines(text), **how | {"markup": False, "emoji": False, "highlight": False})


def styled(*parts: str | tuple[object, str]) -> Text:
    """Text for a console, one line of it: what comes from outside is in it as `plain` writes it, and no markup.

    Parameters
    ----------
    *parts : str or tuple of (object, str)
        One after the other; one with a style of rich's beside it has that.
    """
    return Text.assemble(*((plain(part), "") if isinstance(part, str) else (plain(part[0]), part[1]) for part in parts))


def forgiving(stream: TextIO) -> TextIO:
    """Make a standard stream one that ends no work: for what a program prints while it writes files.

    A character that the stream cannot encode is written as an escape, and what is printed after the reader has gone, as
    `head` does, or onto a full disk, is dropped; `why_incomplete` tells of the latter.

    Parameters
    ----------
    stream : text file
        Standard output or error; another is returned as it is.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        file = _ForgivingFile(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):  # one in memory
        stream.reconfigure(errors="backslashreplace")
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        stream.encoding,
        "backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def why_incomplete(stream: TextIO) -> str:
    """Why not all that was printed on a stream of `forgiving` was written, in words; empty if it was."""
    stream.flush()
    file = getattr(getattr(stream, "buffer", None), "raw", None)
    return file.why_incomplete if isinstance(file, _ForgivingFile) else ""


class _ForgivingFile(io.FileIO):
    """Takes what nobody reads any more, and what has no room, for written."""

    #: A pipe without a reader; Windows calls it an invalid argument.
    _GONE = (errno.EPIPE, errno.EINVAL) if os.name == "nt" else (errno.EPIPE,)

    #: A disk that is full, or a share of it.
    _FULL = (errno.ENOSPC, errno.EDQUOT)
    why_incomplete = ""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno in self._FULL:
                self.why_incomplete = error.strerror or str(error)
            elif error.errno not in self._GONE:
                raise
            return memoryview(data).nbytes
