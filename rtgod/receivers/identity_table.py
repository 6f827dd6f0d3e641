"""The identity table: which run is of whom, for the lab alone; on the console's side, and never sent."""

from __future__ import annotations

import os
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from rtgod.errors import InputError
from rtgod.files import flush_folder
from rtgod.messages import Run
from rtgod.receivers.privacy import PATIENT_ID, patient_id
from rtgod.sources.dicom.fields import text_of
from rtgod.text import number_of
from rtgod.tsv import line_of

#: Elements that it is made of, besides those of the series: PatientID, dates and times of acquisition and series.
IDENTIFYING = (PATIENT_ID, *(Tag(0x00080000 + element) for element in (0x22, 0x2A, 0x32, 0x21, 0x31)))
COLUMNS = ("run_id", "subject", "series_number", "series_instance_uid", "patient_id", "acquired")
#: Only the user who runs the console's side may read it.
_MODE = 0o600


class IdentityTable:
    """Table with a row for each run; rows are appended, and on the disk before the run is sent.

    Parameters
    ----------
    path : Path
        File to make, or one made by an earlier call, to append to.
    watched : Path, optional
        Folder that is watched, in which nothing is written.

    Raises
    ------
    InputError
        If the file lies in that folder, cannot be written, or is another table.
    """

    def __init__(self, path: Path, watched: Path | None = None) -> None:
        if watched is not None and path.resolve().is_relative_to(watched.resolve()):
            raise InputError("--identity-table: lies in the folder that is watched; nothing is written there")
        self._path = path
        self._pending: list[str] = []
        head = line_of(COLUMNS)
        try:
            first = path.read_text(encoding="utf-8").split("\n", 1)[0] if path.exists() else ""
            if first not in ("", head):
                raise InputError(f"--identity-table {path}: is another table; choose another name")
            self._append("" if first else head + "\n")
            flush_folder(path.absolute().parent)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise InputError(f"--identity-table {path}: cannot be written ({why}); choose another") from error

    def add(self, run: Run, number: int, uid: str, identity: tuple[str, str]) -> list[str]:
        """Append the row of a run, and those that could not be written before.

        Parameters
        ----------
        run : Run
        number : int
            SeriesNumber.
        uid : str
            SeriesInstanceUID.
        identity : tuple of str
            From `identity_of`.

        Returns
        -------
        list of str
            Why it could not be written, for the operator; nothing of the row is in it. Empty if it was written.
        """
        self._pending.append(line_of((run.run_id, run.subject, number, uid, *identity)) + "\n")
        return self.flush()

    def flush(self) -> list[str]:
        """Write the rows that could not be written before; return why they still cannot be, as `add` does."""
        try:
            if self._pending:
                self._append("".join(self._pending))
        except OSError as error:
            n_rows = number_of(len(self._pending), "row")
            return [f"--identity-table: cannot be written ({error.strerror}); {n_rows} not in it yet"]
        self._pending.clear()
        return []

    def _append(self, text: str) -> None:
        """Append text whole, or not at all, and wait until it is on the disk."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self._path, flags, _MODE)
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, _MODE)
            size = os.fstat(descriptor).st_size
            content = text.encode()
            try:
                while content:
                    content = content[os.write(descriptor, content) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def identity_of(header: FileDataset) -> tuple[str, str]:
    """Return the patient's number and the date and time at which an image was acquired, as the file says them.

    Parameters
    ----------
    header : FileDataset
        With the elements of `IDENTIFYING`.
    """
    number = patient_id(header).decode("utf-8", "backslashreplace")
    moment = text_of(header, "AcquisitionDateTime")
    for kind in ("Acquisition", "Series"):
        moment = moment or text_of(header, f"{kind}Date") + text_of(header, f"{kind}Time")
    return number, moment
