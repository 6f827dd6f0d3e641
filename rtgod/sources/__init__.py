"""Sources of volumes: each gives a `Run` once, then its `Volume`s in acquisition order.

This module holds what all sources share: the interface, the choice of a source, and the rules for repetition times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeGuard

from rtgod.errors import InputError
from rtgod.events.counting import n_used
from rtgod.events.overlaps import overlaps_in
from rtgod.events.table import beyond, blocks_of, read_events
from rtgod.events.trials import TrialsRead
from rtgod.messages import LONGEST_TR_S, SHORTEST_TR_S, Float64Array, Run, Volume
from rtgod.settings import EventsSettings
from rtgod.sources.echoes import Combine, Echo
from rtgod.text import encodable, plain

#: Relative difference above which repetition times contradict each other, and above which the difference is noted.
_CONTRADICTION, _ROUNDING = 0.01, 1e-3
#: Longest repetition time, in seconds, that is suggested for a number that cannot be one.
_LIKELY_TR_S = 20.0

#: Characters of a receive coil's name that are kept.
_LONGEST_COIL = 64


class Source(Protocol):
    """A run that can be read from its start any number of times.

    Examples
    --------
    >>> import rtgod
    >>> source = rtgod.open_run("sub-01_task-objects_run-01_bold.nii.gz")
    >>> [volume.index for volume in source][:3], source.notes
    ([0, 1, 2], ())
    """

    @property
    def run(self) -> Run:
        """Properties of the run that are common to its volumes."""
        ...

    @property
    def events(self) -> Path | None:
        """Path of the events table that gave the run its blocks; None without one."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Oddities of the files, and decisions made where they disagree; empty without any."""
        ...

    @property
    def contradiction(self) -> str:
        """Reason why the run should not be used as it is, although it can be read; empty without one."""
        ...

    @property
    def read(self) -> TrialsRead | None:
        """Trials from which the run's blocks are made, and the other rows of their table; None without a table."""
        ...

    def acquisition(self) -> str:
        """Return the identity of the run, which differs from that of any other run, even of the same name.

        It is equal each time the run is opened.
        """
        ...

    def __iter__(self) -> Iterator[Volume]:
        """Give the volumes in acquisition order: indices ascend, each comes once, and a lost volume leaves a gap."""
        ...


def open_source(
    path: Path,
    *,
    events: Path | None = None,
    reading: EventsSettings | None = None,
    run_id: str | None = None,
    subject: str | None = None,
    tr_s: float | None = None,
    series: int | None = None,
    echo: Echo = 0,
) -> Source:
    """Open a recorded run in any of the formats that rtgod reads.

    Parameters
    ----------
    path : Path
        A 4-D NIfTI file (.nii, .nii.gz); the .PAR file of a pair of Philips PAR and REC files; a folder of one series'
        DICOM files, of any format that `rtgod.sources.dicom.series` reads; or a folder of 3-D NIfTI files, one a
        volume.
    events : Path, optional
        BIDS events table that gives the run its blocks; by default that of `rtgod.sources.beside.find_events`.
    reading : EventsSettings, optional
        Rules by which volumes are discarded, and rows of the events table are trials, and are merged; see
        `rtgod.events.table.read_events`.
    run_id, subject : str, optional
        Name of the run and label of the subject, if they are to replace those that the source derives from its files.
    tr_s : float, optional
        Repetition time in seconds, if the files do not give one; it must not contradict them.
    series : int, optional
        SeriesNumber to read from a DICOM folder that holds several.
    echo : int or Combine
        Echo to read from a DICOM series or a PAR file that has several, from 1 by echo time; or all of a DICOM series,
        combined.

    Returns
    -------
    Source

    Raises
    ------
    InputError
        If `path` is of no such format or cannot be used as it is, or repetition times contradict each other by more
        than 1 %.
    """
    from rtgod.sources.formats import kind_of

    source: Source
    kind = kind_of(path)
    if series is not None and kind != "dicom":
        raise InputError(f"{path}: only a folder of DICOM files has a DICOM series; leave out --series.")
    if echo and kind.startswith("nifti"):
        raise InputError(f"{path}: NIfTI files are of one echo; leave out --echo.")
    # Imported here because nibabel and pydicom each take a moment to load, and a run needs only one of them.
    if kind == "dicom":
        from rtgod.sources.dicom.series import DicomSeries

        source = DicomSeries(
            path, events=events, reading=reading, run_id=run_id, subject=subject, tr_s=tr_s, series=series, echo=echo
        )
    elif kind == "nifti-series":
        from rtgod.sources.nifti_series import NiftiSeries

        source = NiftiSeries(path, events=events, reading=reading, run_id=run_id, subject=subject, tr_s=tr_s)
    elif kind == "nifti":
        from rtgod.sources.nifti import NiftiRun

        source = NiftiRun(path, events=events, reading=reading, run_id=run_id, subject=subject, tr_s=tr_s)
    else:
        from rtgod.sources.parrec import ParRecRun

        if isinstance(echo, Combine):
            raise InputError(f"{path}: echoes of PAR files are not combined; choose one with --echo N.")
        source = ParRecRun(path, events=events, reading=reading, run_id=run_id, subject=subject, tr_s=tr_s, echo=echo)
    if source.contradiction:
        raise InputError(source.contradiction)
    return source


def acquisition_id(run_id: str, content: str) -> str:
    """Return a short identity of a run: a digest of its name and content, from which neither can be read.

    Parameters
    ----------
    run_id : str
    content : str
        Text that differs between recordings: a checksum of the file, or the scanner's identity of the series.
    """
    return hashlib.sha256(f"{run_id} {content}".encode()).hexdigest()[:16]


def checked_tr_s(value: object, origin: str) -> float:
    """Return `value` as a repetition time in seconds; raise InputError, which names its `origin`, if it is none.

    Parameters
    ----------
    value : object
        Number that may be a repetition time: `SHORTEST_TR_S` to `LONGEST_TR_S`.
    origin : str
        File and field, or option, that gives the number.
    """
    if _is_tr_s(value):
        return float(value)
    raise InputError(f"{origin}: {_no_tr(value)}; {_was_it(value)}correct it.")


@dataclass(frozen=True, slots=True)
class TrClaim:
    """Statement of a file about the repetition time.

    Attributes
    ----------
    value : object
        Repetition time in seconds, if the file is right.
    origin : str
        The file and the field.
    unit : str
        Unit in the file; empty if it has none.
    number : float or None
        Number in the file, in that unit; None without a unit.
    """

    value: object
    origin: str
    unit: str = ""
    number: float | None = None


@dataclass(frozen=True, slots=True)
class RepetitionTime:
    """Repetition time of a run, with notes on its choice.

    Attributes
    ----------
    tr_s : float
        Repetition time, in seconds.
    notes : tuple of str
        Decisions between numbers that differ by more than rounding, or cannot be repetition times.
    contradiction : str
        Reason why the run should not be used as it is: two numbers that differ by more than 1 %; empty without one.
    """

    tr_s: float
    notes: tuple[str, ...] = ()
    contradiction: str = ""


def agreed_tr(path: Path, said: Sequence[TrClaim], given: float | None, without: str) -> RepetitionTime:
    """Choose the repetition time of a run from its files and the command line.

    Parameters
    ----------
    path : Path
        The run, for messages.
    said : sequence of TrClaim
        Statements of the files, of which the first counts.
    given : float or None
        The value of `--tr`. It counts if the files give no possible repetition time; if they contradict each other, the
        number nearest to it counts.
    without : str
        Error text for a run without any repetition time.

    Raises
    ------
    InputError
        If neither the files nor `given` give a repetition time, or the number that counts cannot be one.
    """
    if given is not None:
        given = checked_tr_s(given, "--tr")
    if not said:
        if given is None:
            raise InputError(f"{path}: {without}; give it with --tr.")
        return RepetitionTime(given)
    if not _is_tr_s(said[0].value) and given is None:
        raise InputError(_impossible(said[0]))
    possible = {claim.origin: claim.value for claim in said if _is_tr_s(claim.value)}
    notes = [
        f"{claim.origin}: {_no_tr(claim.value)}, so it does not count" for claim in said if not _is_tr_s(claim.value)
    ]
    if given is not None and not possible:
        return RepetitionTime(given, tuple(notes))
    origin = min(possible, key=lambda o: _apart(possible[o], given)) if given is not None else next(iter(possible))
    tr_s = float(possible[origin])
    numbers = possible if given is None else {"--tr": given} | possible
    notes += [
        f"the repetition time is {tr_s:g} s, of {origin}; {other} says {value:g} s"
        for other, value in numbers.items()
        if _apart(value, tr_s) > _ROUNDING
    ]
    contradiction = ""
    if given is not None and _apart(given, tr_s) > _CONTRADICTION:
        contradiction = f"--tr {given:g} s contradicts the {tr_s:g} s of {origin}; leave --tr out, or correct the file."
    elif given is None and (wrong := [o for o in possible if _apart(possible[o], tr_s) > _CONTRADICTION]):
        contradiction = (
            f"{path}: its repetition time is {tr_s:g} s in {origin}, and {possible[wrong[0]]:g} s in {wrong[0]}; "
            "correct the wrong one (a JSON file far up may be meant for other runs), or say which is right with --tr."
        )
    return RepetitionTime(tr_s, tuple(notes), contradiction)


def _apart(tr_s: float, other_s: float) -> float:
    return abs(tr_s - other_s) / min(tr_s, other_s)


def _is_tr_s(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and SHORTEST_TR_S <= value <= LONGEST_TR_S


def _no_tr(value: object) -> str:
    return f"{value!r} is not a repetition time in seconds ({SHORTEST_TR_S:g} to {LONGEST_TR_S:g})"


def _impossible(claim: TrClaim) -> str:
    if claim.unit and _is_tr_s(claim.number):
        return (
            f"{claim.origin}: {_no_tr(claim.value)}; its unit says {claim.unit}, was {claim.number:g} s meant? Give "
            "--tr or correct the header."
        )
    return f"{claim.origin}: {_no_tr(claim.value)}; {_was_it(claim.value)}give --tr or correct it."


def _was_it(value: object) -> str:
    """Write a question if a number seems to be in milliseconds, or to be divided by 1000 by mistake; else nothing."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        for factor in (1e-3, 1e3):
            if _is_tr_s(meant := value * factor) and meant <= _LIKELY_TR_S:
                return f"was {meant:g} s meant? If so, "
    return ""


def run_of(
    origin: Path,
    events: Path | None,
    reading: EventsSettings | None,
    *,
    run_id: str,
    subject: str,
    tr_s: float,
    shape: tuple[int, int, int],
    affine: Float64Array,
    n_volumes: int,
    coil: str = "",
) -> tuple[Run, TrialsRead | None]:
    """Make the run of a recording, with the trials of an events table as its blocks.

    Parameters
    ----------
    origin : Path
        The recording, for messages.
    events : Path or None
        The events table, if any.
    reading : EventsSettings or None
        Rules by which volumes are discarded, and rows of the events table are trials; see
        `rtgod.events.table.read_events`.
    run_id, subject, tr_s, shape, affine, n_volumes, coil
        Fields of `Run`, with all volumes of the recording. Characters that UTF-8 cannot encode, as in file names of
        another encoding, are escaped.

    Returns
    -------
    run : Run
    read : TrialsRead or None
        None without a table.

    Raises
    ------
    InputError
        If the recording cannot be of a head, or its events cannot be used, for instance as all begin after the run's
        end.
    """
    try:
        n_volumes = n_used(n_volumes, reading or EventsSettings())
    except InputError as error:
        raise InputError(f"{origin}: {error}.") from error
    read = read_events(events, reading, tr_s) if events else None
    trials = read.trials if read else ()
    if read:
        try:
            n_beyond, n_cut = beyond(trials, n_volumes, tr_s)
            overlaps = overlaps_in([trial for trial in trials if trial.onset_s < n_volumes * tr_s])
            read = replace(read, n_beyond=n_beyond, n_cut=n_cut, overlaps=tuple(map(str, overlaps)))
        except InputError as error:
            raise InputError(f"{events}: run {plain(run_id)}: {error}") from error
    try:
        blocks = blocks_of(trials, tr_s)
    except ValueError as error:
        raise InputError(f"{events}: {error}; correct the row.") from error
    try:
        run = Run(
            encodable(run_id),
            encodable(subject),
            tr_s,
            shape,
            affine,
            n_volumes,
            blocks,
            coil=encodable(coil)[:_LONGEST_COIL],
        )
    except ValueError as error:
        raise InputError(f"{origin}: {error}.") from error
    return run, read
