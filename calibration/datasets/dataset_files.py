"""Everything that a calibration is made from, found where it usually lies."""

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

#: What is taken of a BIDS data set unless something else is asked for: training runs, and all of visual cortex.
_TRAINING, REGION = "Training", "VC"
#: Values of `--training` or `--test`; None where the option is not given.
Patterns = str | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class CalibrationFiles:
    """What a calibration is made from.

    Attributes
    ----------
    subject : str
    runs : tuple of RunFiles
    mask : Region or None
        Voxels to decode from, in the space of the first run; None takes the head's, as the template shows it. That is
        what is taken of a data set without any mask.
    images : Path or None
        Folder with the shown images, or a store of their features; None where the categories themselves are decoded.
    candidates : Path or None
        Folder with a folder of images for each candidate category, or a store of their features; None with `images`.
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
    """Runs of a BIDS data set, or files and folders of runs without one.

    Parameters
    ----------
    paths : sequence of Path
        The root of a BIDS data set, or what `find_plain_runs` takes.
    subject : str
        Which is looked for in a data set, with or without `sub-`.
    patterns : str, sequence of str, or None
        Only runs that they mean; see `calibration.datasets.run_patterns`. None takes a data set's training runs, and
        all others.
    events : sequence of Path
        For runs that are given as files: the table of each, where it does not lie beside.
    tr_s : float or None
        Repetition time, seconds, of runs whose files give none.
    option : str
        Where the patterns come from, for messages.
    default : str
        Pattern that chooses from a data set where none is given.
    reading : EventsSettings, optional
        Which rows of an events table are trials; see `rtgod.events.table.read_events`.

    Raises
    ------
    InputError
        If there are none, or options come with a data set that says itself what they say.
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
    """Whether a run can be opened without being told its repetition time."""
    try:
        replace(files, tr_s=None).open(reading)
    except InputError:
        return False
    return True


def data_set_in(paths: Sequence[Path]) -> Path | None:
    """The BIDS data set that is meant, if not runs without one."""
    return paths[0] if len(paths) == 1 and is_data_set(paths[0]) else None


def region_of(root: Path, subject: str, region: str | None, of: MaskFor) -> Region | None:
    """The region to decode from in a data set, by default VC; None for the whole head, as where there is no mask.

    Raises
    ------
    InputError
        If masks are there, but not that region's, or it cannot be said which are meant.
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
    """What is to be trained on, with a BIDS data set's usual places for what was not given.

    Without images, given or in the usual place, or with `plain`, the categories themselves are decoded.

    Raises
    ------
    InputError
        If something is neither given nor found, or voxels are given twice.
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
