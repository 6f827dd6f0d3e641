"""Find the recorded runs that a path stands for: a file, a folder of a run's files, or the runs inside a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtgod.errors import InputError
from rtgod.sources.beside import find_events
from rtgod.sources.dicom.series import holds_dicom
from rtgod.sources.nifti import count_volumes
from rtgod.sources.nifti_series import holds_volumes
from rtgod.sources.parrec import count_dynamics

_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True, slots=True)
class Recordings:
    """Runs that a path stands for.

    Attributes
    ----------
    runs : tuple of Path
        NIfTI files, PAR files, and folders of DICOM files or of 3-D NIfTI files.
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
        A file, which is taken as it is; a folder of a run's files; or a folder that holds such runs at any depth.

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
    if holds_dicom(path) or holds_volumes(path):
        return Recordings((path,))
    inside = sorted(path.rglob("*"))
    dicom = [p for p in inside if p.is_dir() and holds_dicom(p)]
    volumes = [p for p in inside if p.is_dir() and p not in dicom and holds_volumes(p)]
    images = [p for p in inside if p.name.lower().endswith(_SUFFIXES) and p.is_file() and p.parent not in volumes]
    called_bold = [image for image in images if "bold" in image.name]
    series = [image for image in images if image not in called_bold and count_volumes(image) > 1]
    others = [(p, _DICOM) for p in dicom] + [(p, _VOLUMES) for p in volumes]
    others += [(p, _PAR) for p in inside if p.suffix.lower() == ".par" and p.is_file() and count_dynamics(p) > 1]
    if not called_bold and not series:
        return Recordings(tuple(sorted(p for p, _ in others)))
    passed_over = others
    if called_bold:
        beside = [image for image in series if find_events(image)]
        passed_over = [(p, 'no "bold" in its name, as others have; give it by itself') for p in beside] + passed_over
    reasons = tuple(f"{p.relative_to(path)}: {why}" for p, why in passed_over)
    return Recordings(tuple(called_bold or series), reasons)


_DICOM = "DICOM files beside NIfTI files, which may be the same runs; give the folder by itself"
_VOLUMES = "3-D NIfTI files beside 4-D ones, which may be the same runs; give the folder by itself"
_PAR = "a PAR file beside NIfTI files, which may be the same run; give it by itself"
