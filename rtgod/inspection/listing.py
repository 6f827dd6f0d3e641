"""Files of a finished export, with the times that tell when each was acquired and when it came."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag

from rtgod.errors import InputError
from rtgod.inspection.arrival_times import ArrivalTimes, Stamp, judged
from rtgod.receivers.arrivals import UNFINISHED
from rtgod.sources.dicom.fields import integer_of, seconds_of_day
from rtgod.sources.dicom.file import shielded

#: Files by whose times those of all are judged.
_SAMPLE = 400
#: AcquisitionDate, AcquisitionDateTime, AcquisitionTime, SeriesInstanceUID, SeriesNumber, InstanceNumber,
#: TemporalPositionIdentifier.
_TAGS = (0x00080022, 0x0008002A, 0x00080032, 0x0020000E, 0x00200011, 0x00200013, 0x00200100)
_LAST_TAG = max(_TAGS)
#: Bytes of a file's beginning that most often hold them.
_FRONT_BYTES = 2**14
#: Time between files of one acquisition time that are played as one after the other, seconds.
_STEP_S = 1e-4
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of the folder.

    Attributes
    ----------
    path : Path
    changed_s : float
        Its last change: seconds by this machine's clock, in its time zone.
    """

    path: Path
    changed_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """Files in the order in which they are played.

    Attributes
    ----------
    files : tuple of (Path, float)
        Each with the time at which it comes, seconds by the scanner's clock.
    times : ArrivalTimes
        What these times are worth.
    """

    files: tuple[tuple[Path, float], ...]
    times: ArrivalTimes


def listed(folder: Path) -> Listing:
    """List the files below a folder in the order in which they arrived, or were acquired if that is not known.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    InputError
        If the folder cannot be read, or holds no DICOM file.
    """
    files = sorted(_files(folder), key=lambda file: (file.changed_s, file.path))
    if not files:
        raise InputError(f"{folder}: no files in it; give the folder of a finished export")
    stamps = {file.path: _stamp(file) for file in _sampled(files)}
    if not any(stamps.values()):
        stamps = {file.path: _stamp(file) for file in files}
    if not any(stamps.values()):
        raise InputError(f"{folder}: no DICOM files in it; {_advice(files)}")
    times = judged([numbered.stamp for numbered in stamps.values() if numbered is not None])
    if times.are_known:
        return Listing(tuple((file.path, file.changed_s - times.offset_s) for file in files), times)
    stamps |= {file.path: _stamp(file) for file in files if file.path not in stamps}
    return Listing(tuple(_by_acquisition(stamps)), times)


def _advice(files: Sequence[ListedFile]) -> str:
    names = [file.path.name.lower() for file in files]
    if any(name.endswith((".nii", ".nii.gz", ".img", ".par")) for name in names):
        return (
            "NIfTI and PAR files say too little to be checked; see what is read of them with `rtgod replay --dry-run`"
        )
    if any(name.endswith(".gz") for name in names):
        return "unpack its .gz files first"
    return "give the folder into which the scanner exports"


def _files(folder: Path) -> Iterable[ListedFile]:
    def refuse(error: OSError) -> None:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); give a folder that is there") from error

    for inside, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith(".") or name.lower().endswith(UNFINISHED):
                continue
            path = Path(inside, name)
            try:
                changed_s = path.stat().st_mtime
            except OSError:
                continue  # removed, or a link to nothing: a watcher would not see it either
            yield ListedFile(path, changed_s + time.localtime(changed_s).tm_gmtoff)


def _sampled(files: Sequence[ListedFile]) -> Sequence[ListedFile]:
    step = max(len(files) // _SAMPLE, 1)
    return [*files[::step], files[-1]]


@dataclass(frozen=True, slots=True)
class _Numbered:
    """Times of a file, and its numbers."""

    stamp: Stamp
    instance: int
    temporal: int

    @property
    def acquired_s(self) -> float:
        return (self.stamp.day or 0) * _DAY_S + (self.stamp.clock_s or 0.0)


def _stamp(file: ListedFile) -> _Numbered | None:
    """Read a file's times and numbers; None if it is no DICOM file that can be read."""
    try:
        with file.path.open("rb") as stream:
            front = stream.read(_FRONT_BYTES)
        if front[128:132] != b"DICM":
            return None
        with shielded(file.path):
            header = _read(front)
            if header is None:
                header = _read(file.path.read_bytes())
            if header is None:
                return None
            key = integer_of(header.get("SeriesNumber")) or 0, str(header.get("SeriesInstanceUID", ""))
            return _Numbered(
                Stamp(key, *_acquired(header), file.changed_s),
                integer_of(header.get("InstanceNumber")) or 0,
                integer_of(header.get("TemporalPositionIdentifier")) or 0,
            )
    except (InputError, OSError):
        return None  # what is wrong with it is said when it is played


def _read(content: bytes) -> Dataset | None:
    """Read the elements of a file, or of its beginning; None if it ends before the last of them."""
    passed: list[int] = []

    def is_behind(tag: BaseTag, _: str | None, __: int) -> bool:
        if tag > _LAST_TAG:
            passed.append(tag)
        return tag > _LAST_TAG

    try:
        header = read_partial(io.BytesIO(content), stop_when=is_behind, specific_tags=list(_TAGS))
    except (EOFError, OSError):  # it ends within an element
        return None
    return header if passed else None


def _acquired(header: Dataset) -> tuple[int | None, float | None]:
    """Return the day and the time of a file's acquisition, as far as it says them."""
    both = str(header.get("AcquisitionDateTime") or "")
    day = str(header.get("AcquisitionDate") or "") or both[:8]
    clock_s = seconds_of_day(str(header.get("AcquisitionTime") or "") or both)
    try:
        return date.fromisoformat(day.replace(".", "-")).toordinal() - date(1970, 1, 1).toordinal(), clock_s
    except ValueError:
        return None, clock_s


def _by_acquisition(stamps: Mapping[Path, _Numbered | None]) -> Iterable[tuple[Path, float]]:
    """Order files by when they were acquired; those that are no images come first."""
    images = sorted(
        (numbered.temporal, numbered.acquired_s, numbered.instance, path)
        for path, numbered in stamps.items()
        if numbered is not None
    )
    series_of = {path: numbered.stamp.series for path, numbered in stamps.items() if numbered is not None}
    paces: dict[Hashable, _Pace] = {}
    keyed = []
    for temporal, acquired_s, instance, path in images:
        pace = paces.setdefault(series_of[path], _Pace())
        keyed.append((pace.next(temporal, acquired_s) if temporal else acquired_s, temporal, instance, path))
    keyed.sort()
    at_s = keyed[0][0] if keyed else 0.0
    for path, numbered in stamps.items():
        if numbered is None:
            yield path, at_s
    for acquired_s, _, _, path in keyed:
        at_s = max(at_s + _STEP_S, acquired_s)
        yield path, at_s


class _Pace:
    """Times of volumes in the order of their temporal positions, which count where the clock goes back."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self._step_s = 0.0

    def next(self, temporal: int, acquired_s: float) -> float:
        if self._last is not None:
            position, latest_s = self._last
            if temporal == position:
                return latest_s
            step_s = (acquired_s - latest_s) / (temporal - position)
            if step_s < 0:
                acquired_s = latest_s + self._step_s * (temporal - position)
            else:
                self._step_s = self._step_s or step_s
        self._last = temporal, acquired_s
        return acquired_s
