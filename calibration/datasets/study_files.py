"""Find all files that an evaluation is made from in their usual places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from calibration.datasets.bids import HEAD, find_masks, find_region, label_of
from calibration.datasets.dataset_files import REGION, Patterns, data_set_in, find_any_runs, region_of
from calibration.datasets.mask_choice import MaskFor, mask_for
from calibration.datasets.masks import Region, single_mask
from calibration.datasets.runs import FoundRuns, RunFiles
from calibration.features.images import first_few
from rtgod.errors import InputError
from rtgod.settings import EventsSettings
from rtgod.text import number_of

Split = Literal["runs", "leave-one-run-out", "halves"]
#: Default choice of test runs in a BIDS data set.
_TEST = "Test"
#: The study's areas from low to high, then the larger areas that they make up.
REGIONS = ("V1", "V2", "V3", "V4", "LOC", "FFA", "PPA", "LVC", "HVC", "VC")


@dataclass(frozen=True, slots=True)
class EvaluationFiles:
    """Files that an evaluation is made from.

    Attributes
    ----------
    subject : str
    training, test : tuple of RunFiles
        Runs to train on, and runs to test on; `test` is empty if the training runs are split.
    split : {"runs", "leave-one-run-out", "halves"}
        See `calibration.samples.assemble.folds_of`.
    regions : mapping of str to Region
        Decoding uses the first; the others are compared with it. If empty, the head's voxels are decoded from.
    images, candidates : Path or None
        Images and candidates as in `CalibrationFiles`; without images, the categories themselves are decoded.
    names : Path or None
    noise_mask : Path or None
    missing : tuple of str
        Runs that were left out, each with its reason.
    """

    subject: str
    training: tuple[RunFiles, ...]
    test: tuple[RunFiles, ...]
    split: Split
    regions: Mapping[str, Region]
    images: Path | None
    candidates: Path | None
    names: Path | None
    noise_mask: Path | None
    missing: tuple[str, ...]


def find_study_inputs(
    paths: Sequence[Path],
    subject: str,
    training: Patterns,
    test: Patterns,
    split: Split,
    region: str | None,
    areas: Sequence[str],
    mask: Path | None,
    images: Path | None,
    candidates: Path | None,
    names: Path | None = None,
    noise_mask: Path | None = None,
    events: Sequence[Path] = (),
    tr_s: float | None = None,
    reading: EventsSettings | None = None,
) -> EvaluationFiles:
    """Find the runs to train on and to test on, and the other inputs, in a BIDS data set's usual places if not given.

    Parameters
    ----------
    paths, subject, training, events, tr_s, reading
        As in `calibration.datasets.dataset_files.find_any_runs`.
    test : str, sequence of str, or None
        Patterns of the runs to test on. Without a data set, either of `training` and `test` may be left out:
        then it stands for all other runs.
    split : {"runs", "leave-one-run-out", "halves"}
    region, mask, images, candidates, names, noise_mask
        As in `calibration.datasets.dataset_files.find_inputs`.
    areas : sequence of str
        Regions to compare, or expressions over them; if empty, the study's areas that have masks.

    Raises
    ------
    InputError
        If an input is neither given nor found, or a run would be both trained on and tested on.
    """
    root = data_set_in(paths)
    test_runs: tuple[RunFiles, ...] = ()
    if split != "runs":
        if test:
            raise InputError(f"--split {split} tests on the training runs themselves; leave out --test")
        found = find_any_runs(paths, subject, training, events, tr_s, reading=reading)
    elif root is None and not training and not test:
        raise InputError(
            "runs outside of a BIDS data set: say which to train on and which to test on, by --training and --test "
            "(parts of their names), or split them by --split leave-one-run-out or --split halves"
        )
    else:
        found = find_any_runs(paths, subject, training, events, tr_s, reading=reading)
        tested = find_any_runs(paths, subject, test, events, tr_s, "--test", _TEST, reading)
        if root is None and not training:
            found = _others(found, tested)
        elif root is None and not test:
            tested = _others(tested, found)
        if shared := {run.bold for run in found.runs} & {run.bold for run in tested.runs}:
            named = first_few(sorted(path.name for path in shared), 2)
            raise InputError(
                f"--training and --test share {number_of(len(shared), 'run')} ({named}); test on runs that "
                "nothing was trained on"
            )
        test_runs = tested.runs
        found = FoundRuns(found.runs, tuple(dict.fromkeys((*found.missing, *tested.missing))))
    if (images is None) != (candidates is None) and root is None:
        raise InputError("give both --images and --candidates, or neither: then the categories themselves are decoded")
    stimuli = root / "stimuli" if root and (root / "stimuli").is_dir() else None
    default_names = stimuli / "categories.tsv" if stimuli else None
    return EvaluationFiles(
        subject=label_of(subject),
        training=found.runs,
        test=test_runs,
        split=split,
        regions=_regions(root, subject, region, areas, mask, mask_for(found.runs)),
        images=images or stimuli,
        candidates=candidates or (stimuli / "candidates" if stimuli else None),
        names=names or (default_names if default_names and default_names.is_file() else None),
        noise_mask=noise_mask,
        missing=found.missing,
    )


def _others(found: FoundRuns, tested: FoundRuns) -> FoundRuns:
    """Return the runs of one side that the other side does not use.

    Raises
    ------
    InputError
        If none are left.
    """
    taken = {run.bold for run in tested.runs}
    if not (left := tuple(run for run in found.runs if run.bold not in taken)):
        raise InputError("--training and --test: no run is left for the other of the two; give more runs")
    return FoundRuns(left, found.missing)


def _regions(
    root: Path | None, subject: str, region: str | None, areas: Sequence[str], mask: Path | None, of: MaskFor
) -> dict[str, Region]:
    if root is None:
        if (region is not None and region != HEAD) or areas:
            raise InputError("regions are those of a BIDS data set; give a mask image with --mask")
        return {"mask": single_mask(mask)} if mask else {}
    if mask is not None:
        if region is not None or areas:
            raise InputError("--mask says which voxels are decoded from; leave out --region and --area")
        return {"mask": single_mask(mask)}
    main = region_of(root, subject, region, of)
    if main is None:
        if areas:
            raise InputError(
                "--area compares regions, and the whole head is decoded from; give --region, or leave it out"
            )
        return {}
    there = find_masks(root, subject)
    chosen = dict.fromkeys(areas or [name for name in REGIONS if name in there])
    return {region or REGION: main} | {
        name: find_region(root, subject, name, of) for name in chosen if name != (region or REGION)
    }
