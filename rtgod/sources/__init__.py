"""Where volumes come from: each source gives a `Run` once, then its `Volume`s in acquisition order.

This file owns what all sources share: their interface, the choice among them and what counts as a repetition time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from rtgod.errors import InputError
from rtgod.events import blocks, read_trials
from rtgod.messages import LONGEST_TR_S, SHORTEST_TR_S, Float64Array, Run, Volume
from rtgod.text import encodable


class Source(Protocol):
    """A run that can be read from its start any number of times."""

    @property
    def run(self) -> Run:
        """What is constant over the run."""
        ...

    def acquisition(self) -> str:
        """Tells this run from any other, of the same name, too; the same whenever it is opened."""
        ...

    def __iter__(self) -> Iterator[Volume]:
        """Volumes in acquisition order: indices ascend, each comes once, and a lost volume leaves a gap."""
        ...


def open_source(
    path: Path,
    *,
    events: Path | None = None,
    merge_gap_s: float = 0.0,
    run_id: str | None = None,
    subject: str | None = None,
    tr_s: float | None = None,
    series: int | None = None,
) -> Source:
    """Open a recorded run, whatever it is stored as.

    Parameters
    ----------
    path : Path
        A 4-D NIfTI file (.nii, .nii.gz) or a folder of Siemens mosaic DICOM files.
    events : Path, optional
        BIDS events table that gives the run its blocks.
    merge_gap_s : float
        Rows of the events table that are one trial; see `rtgod.events.read_trials`.
    run_id, subject : str, optional
        Instead of what the source derives from its files.
    tr_s : float, optional
        Repetition time, seconds, used where the files do not give one.
    series : int, optional
        SeriesNumber to read from a DICOM folder that holds several.

    Returns
    -------
    Source

    Raises
    ------
    InputError
        If `path` is neither, or cannot be used as it is.
    """
    # Imported here because nibabel and pydicom each take a moment to load, and a run needs only one of them.
    if path.is_dir():
        from rtgod.sources.mosaic import MosaicSeries

        return MosaicSeries(
            path, events=events, merge_gap_s=merge_gap_s, run_id=run_id, subject=subject, tr_s=tr_s, series=series
        )
    if path.is_file() and path.name.lower().endswith((".nii", ".nii.gz")):
        from rtgod.sources.nifti import NiftiRun

        if series is not None:
            raise InputError(f"{path}: a NIfTI file has no DICOM series; leave out --series.")
        return NiftiRun(path, events=events, merge_gap_s=merge_gap_s, run_id=run_id, subject=subject, tr_s=tr_s)
    what = "is neither" if path.exists() else "does not exist"
    raise InputError(f"{path} {what}: give a 4-D NIfTI file (.nii, .nii.gz) or a folder of Siemens mosaic DICOM files.")


def acquisition_id(run_id: str, content: str) -> str:
    """Short identity of a run, by its name and what it holds, which cannot be read from it."""
    return hashlib.sha256(f"{run_id} {content}".encode()).hexdigest()[:16]


def checked_tr_s(value: object, origin: str) -> float:
    """`value` as a repetition time in seconds; `origin` names where it was found, for the InputError if it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and SHORTEST_TR_S <= value <= LONGEST_TR_S:
        return float(value)
    raise InputError(
        f"{origin}: {value!r} is not a repetition time in seconds ({SHORTEST_TR_S:g} to {LONGEST_TR_S:g}); correct it."
    )


def run_of(
    origin: Path,
    events: Path | None,
    merge_gap_s: float,
    *,
    run_id: str,
    subject: str,
    tr_s: float,
    shape: tuple[int, int, int],
    affine: Float64Array,
    n_volumes: int,
) -> Run:
    """The run of a recording, with the trials of an events table as its blocks.

    Parameters
    ----------
    origin : Path
        The recording, for messages.
    events : Path or None
    merge_gap_s : float
        Rows of the events table that are one trial; see `rtgod.events.read_trials`.
    run_id, subject, tr_s, shape, affine, n_volumes
        As in `Run`; what UTF-8 cannot encode in the names, such as a file's of another encoding, is written as escapes.

    Raises
    ------
    InputError
        If the recording is none of a head, or its events cannot be used.
    """
    trials = read_trials(events, merge_gap_s) if events else ()
    try:
        found = blocks(trials)
    except ValueError as error:
        raise InputError(f"{events}: {error}; correct the row.") from error
    try:
        return Run(encodable(run_id), encodable(subject), tr_s, shape, affine, n_volumes, found)
    except ValueError as error:
        raise InputError(f"{origin}: {error}.") from error
