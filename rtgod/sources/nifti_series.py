"""A run from a folder of 3-D NIfTI files, one a volume, in the order of the numbers at the end of their names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from rtgod.errors import InputError
from rtgod.events.counting import discard_notes, those_used
from rtgod.messages import MOST_VOLUMES, Array, Volume
from rtgod.settings import EventsSettings
from rtgod.sources import acquisition_id, agreed_tr, run_of
from rtgod.sources.beside import find_events
from rtgod.sources.nifti_file import NiftiLayout, is_nifti_name, read_layout, read_one, stem_and_number
from rtgod.text import number_of

#: Fewest files of one name that are taken for a run.
_FEWEST = 3
#: How the order is made, for the operator.
ORDER = "NIfTI files do not say when they were acquired: volumes count by the number at the end of their files' names"


class NiftiSeries:
    """A folder of 3-D NIfTI files as a source.

    Parameters
    ----------
    folder : Path
        Folder with .nii or .nii.gz files, or pairs of .hdr and .img, of one volume each, whose names end in numbers
        and are else alike. The lowest number is the first volume's. Other files are passed over.
    events : Path, optional
        Events table that gives the run its blocks; by default the one in the folder or beside it, if any.
    reading : EventsSettings, optional
        Rules by which rows of the events table are trials; see `rtgod.events.table.read_events`.
    run_id : str, optional
        By default that of `run_name`.
    subject : str, optional
        By default "unknown".
    tr_s : float, optional
        Repetition time in seconds, if the header of the first volume, with its unit, gives no possible one.

    Attributes
    ----------
    run : Run
    events : Path or None
        The events table that gave the run its blocks.
    notes : tuple of str
        The rule of the order, numbers that are missing, and files that are passed over.
    contradiction : str
        Reason why the run should not be used as it is; see `rtgod.sources.agreed_tr`.
    read : TrialsRead or None
        Trials and other rows of the events table; None without a table.

    Raises
    ------
    InputError
        If the folder holds no run, or several, or two files of one number, or the events table cannot be used. While
        iterating: if a file is damaged or cut short.
    """

    def __init__(
        self,
        folder: Path,
        *,
        events: Path | None = None,
        reading: EventsSettings | None = None,
        run_id: str | None = None,
        subject: str | None = None,
        tr_s: float | None = None,
    ) -> None:
        self._files, n_others = _choose(folder)
        first = min(self._files)
        path, self._layout = self._files[first]
        self._name = _name_of(path, self._layout)
        claim = self._layout.tr_claim(path)
        tr = agreed_tr(
            folder, [claim] if claim else [], tr_s, "no repetition time, with a unit, in the headers of its files"
        )
        self.events, self.contradiction = events or find_events(folder), tr.contradiction
        self._n_discarded = reading.discard_volumes if reading else 0
        n_volumes = max(self._files) - first + 1
        self.run, self.read = run_of(
            folder,
            self.events,
            reading,
            run_id=run_id or self._name,
            subject=subject or "unknown",
            tr_s=tr.tr_s,
            shape=self._layout.shape,
            affine=self._layout.affine,
            n_volumes=n_volumes,
        )
        n_lost = n_volumes - len(self._files)
        lost = [f"{folder}: {number_of(n_lost, 'number')} missing among those of its files: lost"] if n_lost else []
        others = [f"{folder}: {number_of(n_others, 'other NIfTI file')} passed over"] if n_others else []
        unused = discard_notes(reading, is_said=self.read is not None)
        self.notes = (*tr.notes, f"{folder}: {ORDER}; the first is number {first}", *lost, *others, *unused)

    def acquisition(self) -> str:
        """Return the identity of the run, from its first volume and its name."""
        return acquisition_id(self.run.run_id, self._name)

    def __iter__(self) -> Iterator[Volume]:
        """Read the volumes one by one."""
        return those_used(self._delivered(), self._n_discarded, self.run.tr_s)

    def _delivered(self) -> Iterator[Volume]:
        first = min(self._files)
        for number, (path, layout) in sorted(self._files.items()):
            index = number - first
            yield Volume(self.run.run_id, index, index * self.run.tr_s, _volume(path, layout))


def run_name(stem: str, first: Array) -> str:
    """Name a run by a digest, from which neither can be read, of its files' name and its first volume.

    Parameters
    ----------
    stem : str
        The files' name without number and extension.
    first : ndarray of shape (x, y, z)
    """
    return f"nifti-{hashlib.sha256(stem.encode(errors='surrogateescape') + first.tobytes()).hexdigest()[:10]}"


def name_of(folder: Path) -> str:
    """Return the name of the only run in a folder.

    Parameters
    ----------
    folder : Path
        As for `NiftiSeries`.

    Raises
    ------
    InputError
        If the folder does not hold one run, or its first file cannot be read.
    """
    files, _ = _choose(folder)
    return _name_of(*files[min(files)])


def holds_volumes(folder: Path) -> bool:
    """Return whether a folder directly holds the files of a run of 3-D NIfTI files.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    InputError
        If the folder cannot be read.
    """
    numbered: dict[str, int] = {}
    for path in _images(folder):
        stem, number = stem_and_number(path)
        if number is not None and _may_be_volume(path):
            numbered[stem] = numbered.get(stem, 0) + 1
            if numbered[stem] >= _FEWEST:
                return True
    return False


def _may_be_volume(path: Path) -> bool:
    """Return whether a file is a volume, or is damaged, of which the run's reader tells."""
    try:
        return read_layout(path).n_volumes == 1
    except InputError:
        return True


def _images(folder: Path) -> list[Path]:
    """List the files that are called as NIfTI files are, each pair once."""
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}).") from error
    return [path for path in paths if is_nifti_name(path) and path.suffix.lower() != ".hdr"]


_Numbered = tuple[int, Path, NiftiLayout]


def _choose(folder: Path) -> tuple[dict[int, tuple[Path, NiftiLayout]], int]:
    """Return the files of the run in a folder by their numbers, and how many others are passed over."""
    paths = _images(folder)
    groups: list[tuple[str, list[_Numbered]]] = []
    unreadable: dict[str, InputError] = {}
    for path in paths:
        stem, number = stem_and_number(path)
        if number is None:
            continue
        try:
            layout = read_layout(path)
        except InputError as error:
            unreadable.setdefault(stem, error)
            continue
        if layout.n_volumes > 1:
            continue
        for known, files in groups:
            if known == stem and files[0][2].is_alike(layout):
                files.append((number, path, layout))
                break
        else:
            groups.append((stem, [(number, path, layout)]))
    runs = [(stem, files) for stem, files in groups if len(files) >= _FEWEST]
    if not runs and unreadable:
        raise next(iter(unreadable.values()))
    if len(runs) != 1:
        listed = ", ".join(f"{files[0][1].name} ({len(files)} files)" for _, files in runs[:6])
        several = f"{len(runs)} runs, of {listed}: they differ in name, matrix or place; give each a folder of its own"
        raise InputError(f"{folder}: {several if runs else 'no 3-D NIfTI files in it whose names end in numbers'}.")
    ((stem, chosen),) = runs
    if stem in unreadable:
        raise unreadable[stem]
    return _by_number(folder, chosen), len(paths) - len(chosen)


def _by_number(folder: Path, files: Sequence[_Numbered]) -> dict[int, tuple[Path, NiftiLayout]]:
    numbered: dict[int, tuple[Path, NiftiLayout]] = {}
    for number, path, layout in files:
        if number in numbered:
            raise InputError(
                f"{folder}: {numbered[number][0].name} and {path.name} have the same number; take one of them out."
            )
        numbered[number] = path, layout
    if max(numbered) - min(numbered) >= MOST_VOLUMES:
        raise InputError(
            f"{folder}: the numbers of its files go from {min(numbered)} to {max(numbered)}, and a run has at most "
            f"{MOST_VOLUMES} volumes; name them by the volumes' numbers."
        )
    return numbered


def _name_of(path: Path, layout: NiftiLayout) -> str:
    return run_name(stem_and_number(path)[0], _volume(path, layout))


def _volume(path: Path, layout: NiftiLayout) -> Array:
    raw = read_one(path, layout)
    if raw is None:
        raise InputError(f"{path}: its voxels cannot be read, the file is damaged or cut short; copy it again.")
    return layout.volume(raw)
