"""Finds what calibration needs in a BIDS data set: runs with their events, regions, images."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from rtgod.errors import InputError
from rtgod.messages import Int32Array, Run

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


@dataclass(frozen=True, slots=True)
class RunFiles:
    """A recorded run and the table of its events."""

    bold: Path
    events: Path


def find_runs(dataset: Path, subject: str, pattern: str) -> list[RunFiles]:
    """Runs of one subject whose file name contains `pattern`, in the order of their names.

    Raises
    ------
    InputError
        If the folder, the subject or the runs are not there, or a run has no events.
    """
    if not dataset.is_dir():
        raise InputError(f"{dataset}: no such folder; give the root of a BIDS data set")
    folder = dataset / f"sub-{subject}"
    if not folder.is_dir():
        there = ", ".join(sorted(p.name.removeprefix("sub-") for p in dataset.glob("sub-*") if p.is_dir())) or "none"
        raise InputError(f"{dataset}: no subject {subject!r}; subjects found: {there}")
    bold = sorted(p for p in folder.rglob("*_bold.nii*") if pattern in p.name and p.suffix in (".gz", ".nii"))
    if not bold:
        raise InputError(f"{folder}: no *_bold.nii.gz whose name contains {pattern!r}; choose runs with --training")
    runs = [RunFiles(path, path.with_name(path.name.split("_bold.nii")[0] + "_events.tsv")) for path in bold]
    if missing := [run.events.name for run in runs if not run.events.is_file()]:
        raise InputError(
            f"{folder}: runs without events: {', '.join(missing)}; add them or choose runs with --training"
        )
    return runs


def find_mask(dataset: Path, subject: str, region: str) -> Path:
    """The mask of a region under derivatives/rois.

    Raises
    ------
    InputError
        If there is none, naming those there are.
    """
    folder = dataset / "derivatives" / "rois"
    found = sorted(folder.rglob(f"sub-{subject}_*label-{region}_mask.nii*"))
    if not found:
        names = {p.name.split("label-")[1].split("_")[0] for p in folder.rglob(f"sub-{subject}_*label-*_mask.nii*")}
        there = ", ".join(sorted(names)) or "none"
        raise InputError(
            f"{folder}: no mask of region {region!r} for subject {subject}; there: {there}; "
            "choose one with --region, or give a mask image with --mask"
        )
    return found[0]


def read_mask(path: Path, run: Run) -> Int32Array:
    """Voxels of a mask in the space of a run, shape (n_voxels, 3), int32.

    Raises
    ------
    InputError
        If the image cannot be read, is empty, or lies in another space.
    """
    try:
        image = nib.load(path)
        mask = np.asarray(image.dataobj)
    except (OSError, ImageFileError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"mask {path}: cannot be read ({error})") from error
    if mask.shape != run.shape or not np.allclose(image.affine, run.affine, atol=0.01):
        raise InputError(
            f"mask {path}: shape {mask.shape} or affine differ from those of run {run.run_id} {run.shape}; "
            "resample it to the functional images"
        )
    voxels = np.argwhere(mask > 0).astype(np.int32)
    if not len(voxels):
        raise InputError(f"mask {path}: no voxel above 0")
    return voxels


def find_images(folder: Path) -> dict[str, Path]:
    """Image files below a folder by their name without suffix; `InputError` if there are none."""
    images = {p.stem: p for p in sorted(folder.rglob("*")) if p.suffix.lower() in _IMAGE_SUFFIXES}
    if not images:
        raise InputError(f"{folder}: no images; give the folder of the shown images with --images")
    return images


def find_candidates(folder: Path) -> list[tuple[str, Path]]:
    """Candidate images as (category_id, file), from a folder with one folder per category.

    Raises
    ------
    InputError
        If there are no categories with images.
    """
    found = [
        (category.name, image)
        for category in (sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else [])
        for image in sorted(category.iterdir())
        if image.suffix.lower() in _IMAGE_SUFFIXES
    ]
    if len({category for category, _ in found}) < 2:
        raise InputError(f"{folder}: needs a folder of images for each of at least two categories; see --candidates")
    return found


def read_names(path: Path | None) -> dict[str, str]:
    """Names of categories for people, from a table with category_id and name; without a file none.

    Raises
    ------
    InputError
        If the file cannot be read or lacks the columns.
    """
    if path is None:
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"names {path}: cannot be read ({error})") from error
    header = lines[0].split("\t") if lines else []
    if "category_id" not in header or "name" not in header:
        raise InputError(f"names {path}: needs tab-separated columns category_id and name, has {header}")
    key, name = header.index("category_id"), header.index("name")
    rows = [line.split("\t") for line in lines[1:] if line.strip()]
    if short := [i for i, row in enumerate(rows, start=2) if len(row) <= max(key, name)]:
        raise InputError(f"names {path}: line {short[0]} has too few columns")
    return {row[key]: row[name] for row in rows}
