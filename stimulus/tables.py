"""Tab-separated tables that grow line by line; a disk that is full or gone does not stop them."""

from __future__ import annotations

import errno
import io
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from rtgod.errors import InputError
from rtgod.files import Closing
from rtgod.tsv import NOT_APPLICABLE as NOT_APPLICABLE
from rtgod.tsv import one_line

#: Time between tries to write after a failure, seconds.
AGAIN_S = 1.0
#: Largest number of bytes that a try after a failure writes, so that no picture waits for it.
_PIECE_BYTES = 1 << 18


def line_of(cells: Iterable[str]) -> str:
    """Join cells to a table's line, without a line end.

    Parameters
    ----------
    cells : iterable of str
        Tabs and line ends within a cell become a blank; blanks at its ends are cut off.
    """
    return "\t".join(map(one_line, cells))


class Lines(Closing):
    """A file that lines are appended to; when `write` returns, the line is handed to the system, or waits in memory.

    A line that a crash cut short is removed when the file is opened again. When the disk is full or gone, or the file
    was removed or replaced, lines wait in memory in their order, and `poll` writes them when that is possible again.
    The whole file is kept in memory, so that lines that a disk has lost can be written anew.

    Parameters
    ----------
    path : Path
        File to write; an existing one is appended to.
    columns : sequence of str, optional
        Names of the columns, the first line of a new file.

    Raises
    ------
    InputError
        If the file cannot be written when it is opened; never later.
    """

    def __init__(self, path: Path, columns: Sequence[str] = ()) -> None:
        self._path = path
        self._file: io.FileIO | None = None
        self._whole = bytearray()
        self._n_written = 0  # bytes of `_whole`; the rest waits
        self._n_waited = 0  # lines that waited in this outage
        self._why = ""
        self._news: list[str] = []
        self._again_s = -math.inf
        self._closed = False
        try:
            self._open()
            if columns and not self._whole:
                self._whole += (line_of(columns) + "\n").encode()
            self._write_waiting()
        except OSError as error:
            self._let_go()
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error

    @property
    def n_waiting(self) -> int:
        """Lines that are not in the file yet."""
        return self._whole.count(b"\n", self._n_written)

    def write(self, cells: Iterable[str]) -> None:
        """Append a line.

        Parameters
        ----------
        cells : iterable of str
            Joined as by `line_of`.
        """
        self.append(line_of(cells))

    def append(self, line: str) -> None:
        """Append a line as it is.

        Parameters
        ----------
        line : str
            Without its line end.
        """
        self._whole += line.encode() + b"\n"
        if self._why:
            self._n_waited += 1
        else:
            self._try()

    def poll(self, now_s: float) -> list[str]:
        """Try to write the waiting lines, `AGAIN_S` after the last try; return lines for the operator.

        Parameters
        ----------
        now_s : float
            Time by any clock, seconds; the same clock at each call.
        """
        if self._why and not self._closed:
            if self._again_s == -math.inf:
                self._again_s = now_s + AGAIN_S
            elif now_s >= self._again_s:
                self._again_s = now_s + AGAIN_S
                self._try()
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """Write the waiting lines and close the file; if they cannot be written, copy the whole file elsewhere.

        `poll` then returns where the copy is, or how many lines are lost.
        """
        if self._closed:
            return
        self._closed = True
        n_before = -1
        while self._n_written < len(self._whole) and self._n_written != n_before:
            n_before = self._n_written
            self._try()
        self._settle()
        self._let_go()
        if self._n_written < len(self._whole):
            self._rescue()

    def _try(self) -> None:
        """Try to write the waiting lines; tell the operator when a failure begins or ends."""
        try:
            as_left = self._is_as_left()
            if self._why or not as_left:
                self._open()
            if not as_left and not self._why:
                self._news.append(f"{self._path}: was removed, replaced or changed by another program; it goes on anew")
            self._write_waiting()
        except OSError as error:
            if not self._why:
                self._why = error.strerror or str(error)
                self._n_waited = self.n_waiting
                self._again_s = -math.inf
                self._news.append(
                    f"{self._path}: cannot be written ({self._why}); its lines wait in memory and everything goes on: "
                    "make room on that disk, or connect it again, and they are written"
                )
            return
        if self._why and self._n_written == len(self._whole):
            self._why = ""
            self._news.append(f"{self._path}: is written again, with the {self._n_waited} lines that had waited")

    def _write_waiting(self) -> None:
        """Write the waiting lines, or after a failure the next piece of them; a disk that fills up may take a part."""
        end = min(len(self._whole), self._n_written + _PIECE_BYTES) if self._why else len(self._whole)
        while self._n_written < end:
            if self._file is None:
                raise AssertionError("the file was opened before")
            n_taken = self._file.write(bytes(self._whole[self._n_written : end]))
            if not n_taken:
                raise BlockingIOError(None, "it takes nothing")
            self._n_written += n_taken

    def _is_as_left(self) -> bool:
        """Whether the path still leads to the file that was written to, and nobody else changed its length."""
        if self._file is None:
            return False
        try:
            path_stat, file_stat = self._path.stat(), os.fstat(self._file.fileno())
        except FileNotFoundError:
            return False
        return (path_stat.st_dev, path_stat.st_ino, path_stat.st_size) == (
            file_stat.st_dev,
            file_stat.st_ino,
            self._n_written,
        )

    def _open(self) -> None:
        """Open the file anew, cut off an unfinished last line, and find out which part of `_whole` it lacks."""
        self._let_go()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a+b", buffering=0)
        self._file.seek(0)
        content = self._file.readall()
        n_whole = content.rfind(b"\n") + 1
        if n_whole < len(content):
            self._file.truncate(n_whole)
        content = content[:n_whole]
        if self._whole.startswith(content):
            self._n_written = n_whole  # less than was written, if the disk has lost some
        else:
            # Another program changed the file, or it is opened for the first time: its content stays.
            waiting = self._whole[self._whole.rfind(b"\n", 0, self._n_written) + 1 :]
            self._whole, self._n_written = bytearray(content) + waiting, n_whole

    def _let_go(self) -> None:
        if self._file is not None:
            # A disk that is gone fails again on closing; its failure was told before.
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _settle(self) -> None:
        """Wait until the file is on the disk: some disks, such as a server's, only then report that they are full."""
        if self._file is None:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file that cannot be flushed has lost nothing
                self._why, self._n_written = error.strerror or str(error), 0

    def _rescue(self) -> None:
        """Copy all of the file to another place."""
        loss = f"{self._path}: its last {self.n_waiting} lines could not be written ({self._why})"
        self._news.append(f"{loss}; {copied_elsewhere(self._path, self._copy)}")

    def _copy(self, path: Path) -> None:
        path.write_bytes(self._whole)


def copied_elsewhere(path: Path, write: Callable[[Path], object]) -> str:
    """Write the content of `path` to the first other place that takes it; return a line for the operator about it.

    Parameters
    ----------
    path : Path
        File that could not be written; the copy has its name.
    write : callable
        Writes the content to the path that it is called with; if it raises OSError, RuntimeError or InputError, the
        next place is tried.
    """
    places: list[Callable[[], Path]] = [lambda: Path(tempfile.gettempdir()), Path.home, Path.cwd]
    for place in places:
        try:
            copy = Path(tempfile.mkdtemp(prefix="rtgod-", dir=place())) / path.name
            write(copy)
        except (OSError, RuntimeError, InputError):  # no such folder, no home, no room: try the next place
            continue
        return f"all of the file is in {copy}: copy it to {path}"
    return "there was no room elsewhere either: they are lost"
