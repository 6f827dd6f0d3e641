"""Terminal output of rtgod: names from people, files and clients are shown literally and never read as markup."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from rtgod.text import plain, plain_lines

#: Width of a table that is not printed on a screen: lines are never folded, as programs read them.
_UNLIMITED = 10_000


class PlainConsole(Console):
    """A console that prints strings literally: no markup, emoji codes, guessed colours or control characters.

    Parameters
    ----------
    stderr : bool
        Whether to write to standard error instead of standard output.
    is_table : bool
        Whether tables are printed; without a screen their lines are not folded.
    file : text file, optional
        File to write to instead of a standard stream.
    width : int, optional
        Columns to use instead of the terminal's width.
    """

    def __init__(
        self, *, stderr: bool = False, is_table: bool = False, file: TextIO | None = None, width: int | None = None
    ) -> None:
        if is_table and width is None and not (file or (sys.stderr if stderr else sys.stdout)).isatty():
            width = _UNLIMITED
        super().__init__(stderr=stderr, file=file, width=width, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """Convert a string to the text shown; rich calls this for all that it prints, including cells of tables.

        Parameters
        ----------
        text : str
        **how
            Options of `rich.console.Console.render_str`; those for markup, emoji codes and highlighting have no effect.
        """
        return super().render_str(plain_lines(text), **how | {"markup": False, "emoji": False, "highlight": False})


def styled(*parts: str | tuple[object, str]) -> Text:
    """Make a line of text for a console, with each part literal, as `plain` writes it, and never read as markup.

    Parameters
    ----------
    *parts : str or tuple of (object, str)
        Parts to join, in order; a tuple is a part and its rich style.
    """
    return Text.assemble(*((plain(part), "") if isinstance(part, str) else (plain(part[0]), part[1]) for part in parts))


def forgiving(stream: TextIO) -> TextIO:
    """Wrap a standard stream so that a failing print does not end a program that is writing files.

    A character that the stream cannot encode is written as an escape. Text printed after the reader has gone (as `head`
    does) or onto a full disk is dropped; `why_incomplete` reports the full disk.

    Parameters
    ----------
    stream : text file
        Standard output or error; any other kind of stream is returned unchanged.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        file = _ForgivingFile(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):  # a stream in memory
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
    """Return why a stream of `forgiving` lost text that was printed on it; empty if all of it was written.

    Parameters
    ----------
    stream : text file
        Standard output or error as `forgiving` returned it, which is flushed. Any other stream counts as written in
        full.
    """
    stream.flush()
    file = getattr(getattr(stream, "buffer", None), "raw", None)
    return file.why_incomplete if isinstance(file, _ForgivingFile) else ""


class _ForgivingFile(io.FileIO):
    """A file that reports bytes as written although their reader has gone or the disk is full."""

    #: Errors of a pipe without a reader; Windows calls it an invalid argument.
    _GONE = (errno.EPIPE, errno.EINVAL) if os.name == "nt" else (errno.EPIPE,)

    #: Errors of a full disk or an exhausted quota.
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
