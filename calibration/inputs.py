"""Everything that a calibration is made from, found where it usually lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.bids import find_region, is_data_set, search_runs
from calibration.masks import Region, single_mask
from calibration.runs import FoundRuns, RunFiles, find_plain_runs
from rtgod.errors import InputError

#: What is taken of a BIDS data set unless something else is asked for: training runs, and all of visual cortex.
_TRAINING, REGION = "Training", "VC"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a calibration is made from.

    Attributes
    ----------
    subject : str
    runs : tuple of RunFiles
    mask : Region or None
        Voxels to decode from, in the space of the first run; None takes the head's, as the template shows it.
    images : Path
        Folder with the shown images, or a store of their features.
    candidates : Path
        Folder with a folder of images for each candidate category, or a store of their features.
    names : Path or None
        Table of category names.
    noise_mask : Path or None
        Voxels without the signal of interest, which noise components are read from; by default the noisiest.
    missing : tuple of str
        Runs that were left out, each with its reason.
    """

    subject: str
    runs: tuple[RunFiles, ...]
    mask: Region | None
    images: Path
    candidates: Path
    names: Path | None
    noise_mask: Path | None = None
    missing: tuple[str, ...] = ()


def find_any_runs(
    paths: Sequence[Path],
    subject: str,
    pattern: str | None,
    events: Sequence[Path] = (),
    tr_s: float | None = None,
) -> FoundRuns:
    """Runs of a BIDS data set, or files and folders of runs without one.

    Parameters
    ----------
    paths : sequence of Path
        The root of a BIDS data set, or what `find_plain_runs` takes.
    subject : str
        Which is looked for in a data set.
    pattern : str or None
        Only runs whose name contains it; those that are given as files are all taken. None takes a data set's training
        runs, and all of a folder's.
    events : sequence of Path
        For runs that are given as files: the table of each, where it does not lie beside.
    tr_s : float or None
        Repetition time of such files, seconds, where they give none.

    Raises
    ------
    InputError
        If there are none, or options that go with files only come with a data set.
    """
    root = data_set_in(paths)
    if root is None:
        return find_plain_runs(paths, events, pattern or "", tr_s)
    if events or tr_s is not None:
        raise InputError(f"{root}: a BIDS data set says which events and TR are whose; leave out --events and --tr")
    return search_runs(root, subject, _TRAINING if pattern is None else pattern)


def data_set_in(paths: Sequence[Path]) -> Path | None:
    """The BIDS data set that is meant, if not runs without one."""
    return paths[0] if len(paths) == 1 and is_data_set(paths[0]) else None


def find_inputs(
    paths: Sequence[Path],
    subject: str,
    training: str | None,
    region: str | None,
    mask: Path | None,
    images: Path | None,
    candidates: Path | None,
    names: Path | None = None,
    noise_mask: Path | None = None,
    events: Sequence[Path] = (),
    tr_s: float | None = None,
) -> Inputs:
    """What is to be trained on, with a BIDS data set's usual places for what was not given.

    Raises
    ------
    InputError
        If something is neither given nor found, or voxels are given twice.
    """
    found = find_any_runs(paths, subject, training, events, tr_s)
    root = data_set_in(paths)
    if root is None:
        if region is not None:
            raise InputError(f"--region {region}: regions are those of a BIDS data set; give a mask image with --mask")
        if images is None or candidates is None:
            raise InputError("runs outside of a BIDS data set: give --images and --candidates")
        return Inputs(
            subject,
            found.runs,
            single_mask(mask) if mask else None,
            images,
            candidates,
            names,
            noise_mask,
            found.missing,
        )
    if mask is not None and region is not None:
        raise InputError(f"--mask says which voxels are decoded from; leave out --region {region}")
    stimuli = root / "stimuli"
    default_names = stimuli / "categories.tsv"
    return Inputs(
        subject=subject,
        runs=found.runs,
        mask=single_mask(mask) if mask else find_region(root, subject, region or REGION),
        images=images or stimuli,
        candidates=candidates or stimuli / "candidates",
        names=names or (default_names if default_names.is_file() else None),
        noise_mask=noise_mask,
        missing=found.missing,
    )
