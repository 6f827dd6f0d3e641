"""Export of a journal to files that other programs read: NIfTI for volumes, tables for answers, motion and events.

The journal is read once, in order. A run's volumes wait in a temporary file until the run is over, as only then their
number and common data type are known.
"""

from __future__ import annotations

import gzip
import json
import logging
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np

from rtgod.errors import InputError
from rtgod.files import Closing, appearing_whole
from rtgod.journal.contents import ANSWER_COLUMNS, Cell, answer_row
from rtgod.journal.journal import read_journal
from rtgod.messages import Answer, Block, Event, Message, Motion, NewBlock, NotReady, Ranking, Run, RunEnd, Volume
from rtgod.text import file_stem
from rtgod.tsv import line_of

log = logging.getLogger(__name__)

#: Columns of head motion, with fMRIPrep's names: mm and radians.
_MOTION_COLUMNS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z", "framewise_displacement")
_EVENT_COLUMNS = (
    *("received_utc_s", "server_utc_s", "client_s", "offset_s", "offset_error_s"),
    *("client", "number", "run_id", "kind", "value"),
)
#: Largest dimension of a NIfTI-1 file; larger ones need NIfTI-2.
_MOST_NIFTI1 = 2**15 - 1
_LONGEST_NAME = 100

ExportRow = Callable[[Iterable[Cell]], None]


def export_journal(journal: Path, out: Path) -> list[str]:
    """Write the runs and events of a journal into a new folder.

    Parameters
    ----------
    journal : Path
        Journal to read, up to its last whole record; a server may be writing to it. Records that are not messages of
        this version are left out, and mentioned in the log.
    out : Path
        Folder to make; it must not exist. Each run gets NAME_bold.nii.gz with a sidecar NAME_bold.json that lists the
        lost volumes, which are zeros; NAME_events.tsv, its trials; NAME_answers.tsv, a row for each answer; and
        NAME_motion.tsv, a row for each volume. The clients' events of all runs are in client_events.tsv.

    Returns
    -------
    list of str
        NAME of each run: the run's id, without characters that file names cannot have.

    Raises
    ------
    JournalError
        If the journal cannot be read.
    InputError
        If the folder exists or cannot be written.
    """
    if out.exists():
        raise InputError(f"{out}: exists already; give a folder that does not")
    try:
        # Not "events.tsv": BIDS's inheritance principle would apply it as trials to every run in the folder.
        with appearing_whole(out) as folder, _table(folder / "client_events.tsv", _EVENT_COLUMNS) as write_event:
            messages = read_journal(journal, passed_over=lambda why: log.warning("passed over: %s", why))
            return _write_runs(messages, folder, write_event)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from error


def _write_runs(messages: Iterable[Message], folder: Path, write_event: ExportRow) -> list[str]:
    names = ["client"]
    with ExitStack() as stack:
        opened: dict[str, _RunFiles] = {}
        for message in messages:
            match message:
                case Event():
                    write_event(_event_row(message))
                case Run():
                    for files in opened.values():
                        files.close_if_ended()
                    names.append(_file_name(message.run_id, names))
                    opened[message.run_id] = stack.enter_context(_RunFiles(message, folder, names[-1]))
                # A run that did not end may be continued after another run came between.
                case Volume() | Ranking() | NotReady() | RunEnd() | NewBlock() if message.run_id in opened:
                    opened[message.run_id].write(message)
    return names[1:]


class _RunFiles(Closing):
    """Files of one run; files that need all its volumes are written when it is closed.

    Parameters
    ----------
    run : Run
    folder : Path
    name : str
        Beginning of the names of the files.
    """

    def __init__(self, run: Run, folder: Path, name: str) -> None:
        self._run, self._folder, self._name = run, folder, name
        self._places: dict[int, tuple[int, np.dtype[Any]]] = {}
        self._motion: dict[int, Motion] = {}
        self._n_volumes = 0
        self._is_closed = self._has_ended = False
        self._open = ExitStack()
        self._voxels = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 # open as long as the run is
        self._open.callback(self._voxels.close)
        self._write_answer = self._open.enter_context(_table(folder / f"{name}_answers.tsv", ANSWER_COLUMNS))

    def write(self, message: Volume | Answer | RunEnd | NewBlock) -> None:
        """Take in the next message of the run."""
        match message:
            case NewBlock():
                self._run = message.in_run(self._run)
            case Volume():
                self._places[message.index] = self._voxels.tell(), message.data.dtype
                self._voxels.write(message.data.tobytes(order="F"))
                self._n_volumes = max(self._n_volumes, message.index + 1)
            case Ranking() | NotReady():
                self._write_answer(_as_in_tables(cell) for cell in answer_row(message))
                if message.motion:
                    self._motion[message.index] = message.motion
                self._n_volumes = max(self._n_volumes, message.index + 1)
            case RunEnd():
                self._n_volumes = max(self._n_volumes, message.n_volumes)
                self._has_ended = True

    def close_if_ended(self) -> None:
        """Close the files if the run has ended, as no message will be added to them."""
        if self._has_ended:
            self.close()

    def close(self) -> None:
        """Write the files that need all of the run's volumes."""
        if self._is_closed:
            return
        self._is_closed = True
        run, n_volumes = self._run, self._n_volumes
        if run.blocks:
            with _table(self._folder / f"{self._name}_events.tsv", ("onset", "duration", "trial_type")) as write:
                for row in _block_rows(run.blocks):
                    write(row)
        with self._open:
            if self._places:
                path = self._folder / f"{self._name}_bold.nii.gz"
                _write_bold(path, run, n_volumes, self._places, self._voxels)
        with _table(self._folder / f"{self._name}_motion.tsv", _MOTION_COLUMNS) as write:
            for index in range(n_volumes):
                write(_motion_row(self._motion.get(index)))
        sidecar = {
            "RepetitionTime": run.tr_s,
            "RunId": run.run_id,
            "Subject": run.subject,
            "LostVolumes": [index for index in range(n_volumes) if index not in self._places],
        }
        path = self._folder / f"{self._name}_bold.json"
        path.write_text(json.dumps(sidecar, indent=1) + "\n", encoding="utf-8")


def _write_bold(
    path: Path, run: Run, n_volumes: int, places: Mapping[int, tuple[int, np.dtype[Any]]], voxels: IO[bytes]
) -> None:
    """Write a run's volumes, with one of them in memory at a time.

    Parameters
    ----------
    path : Path
    run : Run
    n_volumes : int
    places : mapping of int to tuple of int and dtype
        Offset of each received volume in `voxels`, in bytes, and its data type.
    voxels : binary file
        Voxels of the received volumes, one volume after the other.
    """
    # Sources that scale their volumes may give volumes of different data types.
    dtype = np.result_type(*(dtype for _, dtype in places.values())).newbyteorder("<")
    n_voxels = math.prod(run.shape)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as file:
        _header(run, n_volumes, dtype).write_to(file)
        for index in range(n_volumes):
            volume = np.zeros(n_voxels, dtype)
            if index in places:
                position, volume_dtype = places[index]
                voxels.seek(position)
                volume[:] = np.frombuffer(voxels.read(n_voxels * volume_dtype.itemsize), volume_dtype)
            file.write(volume.data)


def _header(run: Run, n_volumes: int, dtype: np.dtype[Any]) -> Any:
    fits = max(*run.shape, n_volumes) <= _MOST_NIFTI1
    header = (nib.Nifti1Header if fits else nib.Nifti2Header)(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape((*run.shape, n_volumes))
    header.set_slope_inter(1, 0)
    header.set_sform(run.affine, "scanner")
    header.set_qform(run.affine, "scanner")
    header.set_zooms((*header.get_zooms()[:3], run.tr_s))
    header.set_xyzt_units("mm", "sec")
    return header


def _block_rows(blocks: Iterable[Block]) -> Iterator[tuple[Cell, ...]]:
    for number, block in enumerate(blocks):
        # A block without a label gets a name of its own: "n/a" would be read as rest.
        yield block.onset_s, block.duration_s, block.label or f"block {number}"


def _as_in_tables(cell: Cell) -> Cell:
    return ("true" if cell else "false") if isinstance(cell, bool) else cell


def _motion_row(motion: Motion | None) -> tuple[Cell, ...]:
    if motion is None:
        return (None,) * len(_MOTION_COLUMNS)
    return *motion.translation_mm, *map(math.radians, motion.rotation_deg), motion.framewise_displacement_mm


def _event_row(event: Event) -> tuple[Cell, ...]:
    server_utc_s = None if event.offset_s is None else event.at_s + event.offset_s
    return (
        *(event.received_utc_s, server_utc_s, event.at_s, event.offset_s, event.offset_error_s),
        *(event.client, event.number, event.run_id, event.kind, event.value),
    )


def _file_name(run_id: str, taken: Iterable[str]) -> str:
    """Return a file name for a run: unique, not hidden, not like an option, and never in another folder."""
    # Shorten first, as the cut may leave a point or a device's name at the end.
    stem = file_stem(re.sub(r"[^\w.+~-]", "-", run_id, flags=re.ASCII).lstrip("-.")[:_LONGEST_NAME])
    # Some file systems do not tell upper from lower case.
    casefolded = {name.casefold() for name in taken}
    name, number = stem, 1
    while name.casefold() in casefolded:
        number += 1
        name = f"{stem}+{number}"
    return name


@contextmanager
def _table(path: Path, columns: Iterable[str]) -> Iterator[ExportRow]:
    """Open a new table in the format of BIDS; give the function that writes a row."""
    with path.open("w", encoding="utf-8", newline="\n") as file:

        def write(cells: Iterable[Cell]) -> None:
            file.write(line_of(cells) + "\n")

        write(columns)
        yield write
