"""Find all files that a calibration is made from in their usual places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from calibration.datasets.bids import HEAD, find_masks, find_region, is_data_set, label_of, search_runs
from calibration.datasets.mask_choice import MaskFor, mask_for
from calibration.datasets.masks import Region, single_mask
from calibration.datasets.run_patterns import RunPatterns
from calibration.datasets.runs import FoundRuns, RunFiles, find_plain_runs
from rtgod.errors import InputError
from rtgod.settings import EventsSettings

#: Default choice in a BIDS data set: runs with "Training" in their names, and all of visual cortex.
_TRAINING, REGION = "Training", "VC"
#: Values of `--training` or `--test`; None where the option is not given.
Patterns = str | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class CalibrationFiles:
    """Files that a calibration is made from.

    Attributes
    ----------
    subject : str
    runs : tuple of RunFiles
    mask : Region or None
        Voxels to decode from, in the space of the first run. None takes the head's voxels, by the template's
        brightness; a data set without any mask gets None.
    images : Path or None
        Folder with the shown images, or a store of their features; None where the categories themselves are decoded.
    candidates : Path or None
        Folder with a folder of images for each candidate category, or a store of their features; None with `images`.
    names : Path or None
        Table of category names.
    noise_mask : Path or None
        Voxels without the signal of interest, which noise components are read from; by default the noisiest voxels.
    missing : tuple of str
        Runs that were left out, each with its reason.
    """

    subject: str
    runs: tuple[RunFiles, ...]
    mask: Region | None
    images: Path | None
    candidates: Path | None
    names: Path | None
    noise_mask: Path | None = None
    missing: tuple[str, ...] = ()


def find_any_runs(
    paths: Sequence[Path],
    subject: str,
    patterns: Patterns,
    events: Sequence[Path] = (),
    tr_s: float | None = None,
    option: str = "--training",
    default: str = _TRAINING,
    reading: EventsSettings | None = None,
) -> FoundRuns:
    """Find the runs of a BIDS data set, or runs given as files and folders.

    Parameters
    ----------
    paths : sequence of Path
        The root of a BIDS data set, or paths as `find_plain_runs` takes them.
    subject : str
        Label of the subject that is searched for in a data set, with or without `sub-`.
    patterns : str, sequence of str, or None
        Patterns that choose runs; see `calibration.datasets.run_patterns`. None takes a data set's training runs, and
        without a data set all runs.
    events : sequence of Path
        Table of events of each run that is given as a file, if the table does not lie beside it.
    tr_s : float or None
        Repetition time, seconds, of runs whose files give none.
    option : str
        The option that the patterns come from, for messages.
    default : str
        Pattern that chooses from a data set if `patterns` gives none.
    reading : EventsSettings, optional
        Settings that choose the rows of an events table that are trials; see `rtgod.events.table.read_events`.

    Raises
    ------
    InputError
        If no run is found, or `events` or `tr_s` is given although the data set states both.
    """
    root = data_set_in(paths)
    if root is None:
        return find_plain_runs(paths, events, RunPatterns.parse(patterns), tr_s, option)
    given = [patterns] if isinstance(patterns, str) else list(patterns or ())
    asked_for_all = bool(given) and not any(given)
    found = search_runs(root, subject, RunPatterns.parse(given, "" if asked_for_all else default), tr_s, option)
    if events or (tr_s is not None and all(_says_its_tr(files, reading) for files in found.runs)):
        raise InputError(f"{root}: a BIDS data set says which events and TR are whose; leave out --events and --tr")
    return found


def _says_its_tr(files: RunFiles, reading: EventsSettings | None) -> bool:
    """Return whether a run can be opened without being told its repetition time."""
    try:
        replace(files, tr_s=None).open(reading)
    except InputError:
        return False
    return True


def data_set_in(paths: Sequence[Path]) -> Path | None:
    """Return the root of a BIDS data set if the paths are just that, else None."""
    return paths[0] if len(paths) == 1 and is_data_set(paths[0]) else None


def region_of(root: Path, subject: str, region: str | None, of: MaskFor) -> Region | None:
    """Return the region of a data set to decode from, by default VC; None is the whole head, the default without masks.

    Raises
    ------
    InputError
        If the data set has masks, but none of that region, or it is unclear which masks are meant.
    """
    masks = find_masks(root, subject)
    if (region is None and not masks) or (region == HEAD and HEAD not in masks):
        return None
    return find_region(root, subject, region or REGION, of)


def find_inputs(
    paths: Sequence[Path],
    subject: str,
    training: Patterns,
    region: str | None,
    mask: Path | None,
    images: Path | None,
    candidates: Path | None,
    names: Path | None = None,
    noise_mask: Path | None = None,
    events: Sequence[Path] = (),
    tr_s: float | None = None,
    plain: bool = False,
    reading: EventsSettings | None = None,
) -> CalibrationFiles:
    """Find the inputs of a calibration; a BIDS data set's usual places supply what is not given.

    The categories themselves are decoded if `plain` is set, or if no images are given or in the usual place.

    Raises
    ------
    InputError
        If an input is neither given nor found, or voxels are given twice.
    """
    if plain and (images or candidates):
        raise InputError("--plain-categories decodes the categories themselves; leave out --images and --candidates")
    found = find_any_runs(paths, subject, training, events, tr_s, reading=reading)
    root = data_set_in(paths)
    if root is None:
        if region is not None and region != HEAD:
            raise InputError(f"--region {region}: regions are those of a BIDS data set; give a mask image with --mask")
        if (images is None) != (candidates is None):
            raise InputError(
                "runs outside of a BIDS data set: give --images and --candidates, or neither: then the categories "
                "themselves are decoded"
            )
        return CalibrationFiles(
            label_of(subject),
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
    if not plain and (stimuli.is_dir() or images or candidates):
        images, candidates = images or stimuli, candidates or stimuli / "candidates"
    return CalibrationFiles(
        subject=label_of(subject),
        runs=found.runs,
        mask=single_mask(mask) if mask else region_of(root, subject, region, mask_for(found.runs)),
        images=images,
        candidates=candidates,
        names=names or (default_names if default_names.is_file() else None),
        noise_mask=noise_mask,
        missing=found.missing,
    )
