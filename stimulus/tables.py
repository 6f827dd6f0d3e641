"""Tab-separated tables that grow line by line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rtgod.errors import InputError
from rtgod.files import Closing

NOT_APPLICABLE = "n/a"  # BIDS's word in tables


def line_of(cells: Iterable[str]) -> str:
    """A table's line, without its end; white space within a cell becomes a blank, as tables have no other."""
    return "\t".join(" ".join(cell.split()) for cell in cells)


class Lines(Closing):
    """A file that is added to; each line is on its way to the disk when `write` returns.

    A line that a crash cut short is cut off when the file is opened again.

    Parameters
    ----------
    path : Path
        Appended to where it exists.

    Raises
    ------
    InputError
        If it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
            self._file.seek(0)
            self._file.truncate(self._file.read().rfind(b"\n") + 1)
        except OSError as error:
            raise self._refusal(error) from error

    def write(self, cells: Iterable[str]) -> None:
        """Append a line.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        try:
            self._file.write(self._encoded(line_of(cells)) + b"\n")
        except OSError as error:
            raise self._refusal(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _encoded(self, line: str) -> bytes:
        return line.encode()

    def _refusal(self, error: OSError) -> InputError:
        return InputError(f"{self._path}: cannot be written ({error.strerror})")
