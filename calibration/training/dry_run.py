"""Plan of a calibration or an evaluation before it is made: its inputs, what is missing, and whether it can be made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from calibration.datasets.bids import HEAD, read_names, remarks_on_names
from calibration.datasets.dataset_files import DatasetFiles
from calibration.datasets.masks import Region, notes_on_values
from calibration.features.images import first_few, list_categories
from calibration.features.shown_images import find_shown
from calibration.features.store import FeatureStore, is_store
from calibration.samples.plain import check_repeated
from calibration.samples.study import check_halves
from calibration.samples.targets import check_pictures
from calibration.training.planned_runs import (
    PlannedRun,
    Problems,
    called_otherwise,
    check_images,
    check_images_named,
    check_one_subject,
    check_one_tr,
    check_some,
    check_told_apart,
    notes_on_early,
    notes_on_runs_alone,
    on_time,
    open_runs,
    raise_problems,
    reads_of,
)
from rtgod.decoding.category_index import check_matching
from rtgod.errors import InputError
from rtgod.events.trials import TrialsRead
from rtgod.messages import Run
from rtgod.settings import PipelineSettings
from rtgod.text import called_alike, number_of

_FEWEST_RUNS = 2
#: Fewer voxels than these are told of.
_FEW_VOXELS = 10


class ShownImages(NamedTuple):
    """Images that the runs of a plan show.

    Attributes
    ----------
    names : tuple of str
    missing : tuple of str
        Those that have no file.
    n_others : int
        Number of images that no run shows.
    """

    names: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    n_others: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a calibration or an evaluation: its inputs, problems and notes.

    Attributes
    ----------
    runs : tuple of PlannedRun
        Runs to train on.
    test : tuple of PlannedRun
        Runs to test on; empty for a calibration, and if the training runs are split.
    split : {"runs", "leave-one-run-out", "halves"} or None
        How an evaluation splits its runs; None for a calibration.
    region : str
        Expression over regions that is decoded from, or "head".
    n_voxels : mapping of str to int
        Number of voxels of each region, of a calibration also of each region in the expression; empty if only the
        template will tell.
    shown : ShownImages
        Images of a calibration's runs; those of an evaluation are looked for when they are needed.
    candidates : mapping of str to int
        Number of images of each candidate category; 0 if the candidates are in a store, or are the shown categories.
    not_ranked : tuple of str
        Categories that are shown but are not candidates.
    plain : bool
        Whether the categories themselves are decoded, without images.
    problems : tuple of str
        Reasons why it cannot be made, each with a remedy.
    notes : tuple of str
        Notes on decisions where files disagree, on tables that several runs share, and on files of the candidates'
        folder that are left out.
    """

    runs: tuple[PlannedRun, ...]
    test: tuple[PlannedRun, ...]
    split: str | None
    region: str
    n_voxels: Mapping[str, int]
    shown: ShownImages
    candidates: Mapping[str, int]
    not_ranked: tuple[str, ...]
    plain: bool
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def reads(self) -> list[TrialsRead]:
        """Contents of the runs' tables of events."""
        return reads_of((*self.runs, *self.test))

    def check(self) -> None:
        """Raise `InputError` with every problem found."""
        raise_problems(self.problems)


def plan_calibration(inputs: DatasetFiles, settings: PipelineSettings) -> Plan:
    """Look at everything that a calibration needs, without reading an image, or more volumes than tell runs apart.

    Parameters
    ----------
    inputs : DatasetFiles
    settings : PipelineSettings
    """
    problems = Problems()
    runs, notes = open_runs(inputs.training, settings, problems)
    notes += called_otherwise(runs, inputs.subject)
    plain = inputs.are_plain
    with problems:
        check_matching(settings.ranking, plain)
    with problems:
        check_pictures(inputs)
    if not plain:
        with problems:
            _check_enough(inputs)
    for check in (check_one_subject, check_one_tr, *(() if plain else (check_images_named,))):
        with problems:
            check(runs)
    n_voxels: dict[str, int] = {}
    notes += inputs.region.notes if inputs.region else ()
    if runs:
        with problems:
            n_voxels = count_voxels(inputs.region, runs[0].run)
            notes += notes_on_masks(inputs.region, n_voxels)
        notes += check_images(inputs.training[0], runs, inputs.region, settings, problems, "--training")
    notes += (too_early := notes_on_early(runs, settings))
    notes += notes_on_runs_alone(runs) if plain else ()
    shown = _find_shown(inputs, runs, problems)
    candidates, more_notes = _candidates(inputs, runs, runs, settings, problems, too_early)
    return _plan(inputs, runs, (), None, n_voxels, shown, candidates, (*notes, *more_notes), problems)


def plan_study(inputs: DatasetFiles, settings: PipelineSettings) -> Plan:
    """Look at everything that an evaluation needs, without reading an image, or more volumes than tell runs apart.

    Parameters
    ----------
    inputs : DatasetFiles
    settings : PipelineSettings
    """
    problems = Problems()
    training, notes = open_runs(inputs.training, settings, problems)
    test, more_notes = open_runs(inputs.test, settings, problems)
    runs = [*training, *test]
    notes += (*more_notes, *called_otherwise(runs, inputs.subject))
    n_voxels: dict[str, int] = {}
    if training:
        for name, region in inputs.regions.items():
            notes += region.notes
            with problems:
                counted = count_voxels(region, training[0].run)
                n_voxels[name] = counted[region.expression]
                notes += notes_on_masks(region, counted)
        options = "--training or --test" if test else "--training"
        notes += check_images(inputs.training[0], runs, inputs.region, settings, problems, options)
    notes += notes_on_early(runs, settings)
    with problems:
        check_matching(settings.ranking, inputs.are_plain)
    if inputs.images is None or inputs.candidates is None:
        notes += notes_on_runs_alone(training) if training else ()
    elif not inputs.images.exists():
        with problems:
            raise InputError(f"{inputs.images}: no such folder; give the images that were shown with --images")
    candidates, more_notes = _candidates(inputs, training, runs, settings, problems)
    trials = [(trial.category, planned.run.run_id) for planned in training for trial in on_time(planned, settings)]
    if inputs.split == "halves" and trials:
        with problems:
            check_halves(*map(list, zip(*trials, strict=True)))
    if inputs.split == "leave-one-run-out" and len(inputs.training) < _FEWEST_RUNS:
        with problems:
            raise InputError("leaving one run out needs at least two runs; with one, split it with --split halves")
    notes = (*notes, *more_notes)
    return _plan(inputs, training, test, inputs.split, n_voxels, ShownImages(), candidates, notes, problems)


def _plan(
    inputs: DatasetFiles,
    runs: Sequence[PlannedRun],
    test: Sequence[PlannedRun],
    split: str | None,
    n_voxels: Mapping[str, int],
    shown: ShownImages,
    candidates: Mapping[str, int],
    notes: Sequence[str],
    problems: Problems,
) -> Plan:
    """Join what was found; each note once."""
    categories = dict.fromkeys(trial.category for planned in (*runs, *test) for trial in planned.trained_on)
    return Plan(
        runs=tuple(runs),
        test=tuple(test),
        split=split,
        region=inputs.region.expression if inputs.region else HEAD,
        n_voxels=n_voxels,
        shown=shown,
        candidates=candidates,
        not_ranked=tuple(category for category in categories if category not in candidates),
        plain=inputs.are_plain,
        problems=tuple(problems.found),
        notes=tuple(dict.fromkeys(notes)),
    )


def _check_enough(inputs: DatasetFiles) -> None:
    if len(inputs.training) < _FEWEST_RUNS:
        raise InputError("fewer than two runs, and penalties are chosen by leaving one out; add runs")


def _find_shown(inputs: DatasetFiles, runs: Sequence[PlannedRun], problems: Problems) -> ShownImages:
    """Look for the files of all images that are shown."""
    names = tuple(dict.fromkeys(name for planned in runs for trial in planned.trained_on for name in trial.images))
    images = ShownImages(names)
    if inputs.images is None:
        return images
    with problems:
        files = find_shown(names, inputs.images)
        images = ShownImages(names, files.missing, files.n_others)
        if files.missing:
            raise InputError(
                f"{inputs.images}: no file of {len(files.missing)} of the {len(names)} images that are shown: "
                f"{first_few(files.missing)}; add them or give another folder with --images"
            )
    return images


def _candidates(
    inputs: DatasetFiles,
    training: Sequence[PlannedRun],
    runs: Sequence[PlannedRun],
    settings: PipelineSettings,
    problems: Problems,
    too_early: tuple[str, ...] | None = None,
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Count the candidates' images, or take the shown categories as candidates; return notes on files and names.

    With `too_early`, notes on trials without a sample, shown categories must repeat.
    """
    candidates: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    with problems:
        if inputs.images is not None and inputs.candidates is not None:
            candidates, notes = count_candidates(inputs.candidates)
        elif training:  # without a readable run nothing more can be checked
            trials = [trial for planned in runs for trial in planned.trained_on]
            candidates = dict.fromkeys(sorted({trial.category for trial in trials}), 0)
            check_some(training, settings)
            usable = [trial for planned in runs for trial in on_time(planned, settings)]
            check_told_apart(usable)
            if too_early is not None:
                check_repeated([trial.category for trial in usable], too_early)
    with problems:
        notes += notes_on_names(inputs.names, candidates)
    return candidates, notes


def count_voxels(region: Region | None, run: Run) -> dict[str, int]:
    """Count the voxels of a region, and of each region that its expression names; empty without one.

    Parameters
    ----------
    region : Region or None
    run : Run
        Run in whose grid the region lies.
    """
    if region is None:
        return {}
    parts = {name: Region(f'"{name}"', {name: files}) for name, files in region.masks.items()}
    counted = {region.expression: region} | {name: part for name, part in parts.items() if len(parts) > 1}
    return {name: len(part.voxels(run)) for name, part in counted.items()}


def notes_on_masks(region: Region | None, n_voxels: Mapping[str, int]) -> tuple[str, ...]:
    """Say that a region has hardly a voxel, and of which of its images more is taken than one label.

    Parameters
    ----------
    region : Region or None
    n_voxels : mapping of str to int
        From `count_voxels`.
    """
    if region is None:
        return ()
    n = n_voxels[region.expression]
    few = (f"region {region.expression}: {number_of(n, 'voxel')} only",) if n < _FEW_VOXELS else ()
    return (*few, *(note for path in region.files for note in notes_on_values(path)))


def count_candidates(candidates: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Count the images of each candidate category, 0 if they are in a store; and return notes on files left out.

    Parameters
    ----------
    candidates : Path
        Folder with a folder of images for each category, or a store of features.
    """
    if is_store(candidates):
        return dict.fromkeys(FeatureStore(candidates).category_ids, 0), ()
    images = list_categories(candidates)
    return dict(Counter(images.categories)), tuple(f"candidates: {note}" for note in images.notes)


def notes_on_names(names: Path | None, candidates: Iterable[str]) -> tuple[str, ...]:
    """Note oddities of a table of names, and candidates that share a name, so that people cannot tell them apart.

    Parameters
    ----------
    names : Path or None
        Table of names.
    candidates : iterable of str

    Raises
    ------
    InputError
        If the table of names cannot be used.
    """
    called = read_names(names)
    alike = called_alike({category: called.get(category, category) for category in candidates})
    listed = first_few([f"{' and '.join(of)} as {name!r}" for name, of in alike.items()], 3)
    same = (f"categories that are shown by the same name: {listed}",) if alike else ()
    return (*remarks_on_names(names), *same)
