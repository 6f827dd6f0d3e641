"""Find the recorded runs that a path stands for: a file, a folder of DICOM files, or the runs inside a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtgod.errors import InputError
from rtgod.sources.beside import find_events
from rtgod.sources.dicom_series import holds_dicom
from rtgod.sources.nifti import count_volumes

_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True, slots=True)
class Recordings:
    """Runs that a path stands for.

    Attributes
    ----------
    runs : tuple of Path
        NIfTI files and folders of DICOM files.
    passed_over : tuple of str
        Images that might have been meant but are not taken as runs, each with its reason.
    """

    runs: tuple[Path, ...]
    passed_over: tuple[str, ...] = ()


def list_recordings(path: Path) -> Recordings:
    """Find the runs that a path stands for.

    Parameters
    ----------
    path : Path
        A file, which is taken as it is; a folder of DICOM files; or a folder that holds such runs at any depth.

    Raises
    ------
    InputError
        If nothing is at the path.
    """
    if path.is_file():
        return Recordings((path,))
    if not path.is_dir():
        raise InputError(
            f"{path}: no such file or folder; give the root of a BIDS data set, or NIfTI files with their events"
        )
    if holds_dicom(path):
        return Recordings((path,))
    images = [p for p in sorted(path.rglob("*")) if p.name.lower().endswith(_SUFFIXES) and p.is_file()]
    called_bold = [image for image in images if "bold" in image.name]
    series = [image for image in images if image not in called_bold and count_volumes(image) > 1]
    folders = [p for p in sorted(path.rglob("*")) if p.is_dir() and holds_dicom(p)]

    def passed(paths: list[Path], why: str) -> list[str]:
        return [f"{p.relative_to(path)}: {why}" for p in paths]

    if called_bold:
        beside = [image for image in series if find_events(image)]
        passed_over = passed(beside, 'no "bold" in its name, as others have; give it by itself')
        return Recordings(tuple(called_bold), (*passed_over, *passed(folders, _DICOM)))
    if series:
        return Recordings(tuple(series), tuple(passed(folders, _DICOM)))
    return Recordings(tuple(folders))


_DICOM = "DICOM files beside NIfTI files, which may be the same runs; give the folder by itself"
