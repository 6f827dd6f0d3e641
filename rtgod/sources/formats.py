"""The format of a recorded run, by what lies at its path."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rtgod.errors import InputError

#: A folder of DICOM files, a 4-D NIfTI file, a folder of 3-D ones, a Philips PAR file.
Kind = Literal["dicom", "nifti", "nifti-series", "par"]


def kind_of(path: Path) -> Kind:
    """Return the format of a recorded run.

    Parameters
    ----------
    path : Path
        A folder that holds no DICOM files and no run of 3-D NIfTI files counts as one of DICOM files.

    Raises
    ------
    InputError
        If it is of none.
    """
    # Imported here because nibabel and pydicom each take a moment to load, and a run needs only one of them.
    if path.is_dir():
        from rtgod.sources.dicom.series import holds_dicom
        from rtgod.sources.nifti_series import holds_volumes

        return "nifti-series" if not holds_dicom(path) and holds_volumes(path) else "dicom"
    if path.is_file():
        name = path.name.lower()
        if name.endswith((".nii", ".nii.gz")):
            return "nifti"
        if name.endswith(".par"):
            return "par"
    problem = "is no recorded run" if path.exists() else "does not exist"
    raise InputError(
        f"{path} {problem}: give a 4-D NIfTI file or PAR file, or a folder of one run's DICOM or 3-D NIfTI files."
    )


def name_and_start(path: Path) -> tuple[str | None, float | None]:
    """Read the name that a recorded run is replayed under, and when it began; its events are not read.

    Parameters
    ----------
    path : Path
        As for `rtgod.sources.open_source`.

    Returns
    -------
    run_id : str or None
        None for a 4-D NIfTI file, which is called as its file is.
    started_s : float or None
        Earliest time of day at which a volume was acquired, in seconds; None if it is not known.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    from rtgod.sources import nifti_series, parrec
    from rtgod.sources.dicom import series

    kind = kind_of(path)
    if kind == "dicom":
        return series.name_and_start(path)
    if kind == "nifti-series":
        return nifti_series.name_of(path), None
    return parrec.name_of(path) if kind == "par" else None, None
