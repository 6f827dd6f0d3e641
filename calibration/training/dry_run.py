"""Plan of a calibration before it is made: its inputs, the missing parts, and whether it can be made."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from calibration.datasets.bids import read_names, remarks_on_names
from calibration.datasets.dataset_files import DatasetFiles
from calibration.datasets.masks import Region, notes_on_values
from calibration.datasets.runs import RunFiles
from calibration.features.images import first_few, list_categories
from calibration.features.shown_images import find_shown
from calibration.features.store import FeatureStore, is_store
from calibration.samples.plain import check_repeated, plain_stimuli
from calibration.samples.runs import check_first, settled
from calibration.training.same_volumes import check_different, same_trials
from rtgod.console import styled
from rtgod.errors import InputError
from rtgod.events.table import Trial
from rtgod.events.trials import TrialsRead, remarks_on
from rtgod.fit import subject_label, subject_note
from rtgod.messages import Run
from rtgod.preprocessing.alignment import Reference, check_run
from rtgod.settings import MotionSettings, PipelineSettings
from rtgod.sources import Source
from rtgod.text import called_alike, number_of, times

_FEWEST_RUNS = 2
#: Maximum number of unusable runs whose reasons are told.
_MOST_TOLD = 2
#: Fewer voxels than these are told of.
_FEW_VOXELS = 10
#: Categories that a table lists.
_MOST_CATEGORIES = 12


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """Run that a calibration will use.

    Attributes
    ----------
    run : Run
    trials : tuple of Trial
    read : TrialsRead or None
        The other contents of the events table.
    source : Source
        Source of the run's volumes.
    """

    run: Run
    trials: tuple[Trial, ...]
    read: TrialsRead | None
    source: Source = field(repr=False, compare=False)

    @property
    def trained_on(self) -> tuple[Trial, ...]:
        """The run's trials except one-back repeats and trials that begin after the run's end."""
        end_s = math.inf if self.run.n_volumes is None else self.run.n_volumes * self.run.tr_s
        return tuple(trial for trial in self.trials if not trial.repeat and trial.onset_s < end_s)


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a calibration: its inputs, problems and notes.

    Attributes
    ----------
    runs : tuple of PlannedRun
    region : str
    n_voxels : mapping of str to int
        Number of voxels of each region in the expression, and of the whole; empty if only the template will tell.
    shown, without_image : tuple of str
        Images that the runs show, and the images among them that have no file.
    n_not_shown : int
        Number of images that no run shows.
    candidates : mapping of str to int
        Number of images of each candidate category; 0 if the candidates are in a store.
    not_ranked : tuple of str
        Categories that are shown but are not candidates.
    problems : tuple of str
        Reasons why the calibration cannot be made, each with a remedy.
    notes : tuple of str
        Notes on decisions where files disagree, on tables that several runs share, and on files of the candidates'
        folder that are left out.
    plain : bool
        Whether the categories themselves are decoded, without images.
    """

    runs: tuple[PlannedRun, ...]
    region: str
    n_voxels: Mapping[str, int]
    shown: tuple[str, ...]
    without_image: tuple[str, ...]
    n_not_shown: int
    candidates: Mapping[str, int]
    not_ranked: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    plain: bool = False

    @property
    def reads(self) -> list[TrialsRead]:
        """Contents of the runs' tables of events."""
        return reads_of(self.runs)

    def check(self) -> None:
        """Raise `InputError` with every problem found."""
        raise_problems(self.problems)


@dataclass(slots=True)
class Problems:
    """Collector of problems, so that all of them are told at once."""

    found: list[str] = field(default_factory=list)

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if isinstance(error, InputError):
            self.found.append(str(error))
        return isinstance(error, InputError)

    def add_runs(self, of_runs: Problems) -> None:
        """Add the problems of runs: the first few, and the number of the others."""
        self.found += of_runs.found[:_MOST_TOLD]
        if (n_more := len(of_runs.found) - _MOST_TOLD) > 0:
            self.found.append(f"{n_more} other {'run' if n_more == 1 else 'runs'} cannot be used either")


def raise_problems(problems: Sequence[str]) -> None:
    """Raise `InputError` with every problem, if there is one."""
    if problems:
        raise InputError("; and ".join(problem.removesuffix(".") for problem in problems))


def plan_calibration(inputs: DatasetFiles, settings: PipelineSettings, options: str = "--training") -> Plan:
    """Look at everything that a calibration needs, without reading an image, or more volumes than tell runs apart.

    Parameters
    ----------
    inputs : DatasetFiles
    settings : PipelineSettings
    options : str
        Option that leaves a run out, for messages.
    """
    problems = Problems()
    runs, notes = open_runs(inputs.training, settings, problems)
    notes += called_otherwise(runs, inputs.subject)
    plain = inputs.images is None or inputs.candidates is None
    if not plain:
        with problems:
            _enough(inputs.training)
    for check in (_of_one, _alike) if plain else (_of_one, _alike, _named):
        with problems:
            check(runs)
    n_voxels: dict[str, int] = {}
    notes += inputs.region.notes if inputs.region else ()
    if runs:
        with problems:
            n_voxels = count_voxels(inputs.region, runs[0].run)
            notes += notes_on_masks(inputs.region, n_voxels)
        notes += check_images(inputs.training[0], runs, inputs.region, settings, problems, options)
    notes += (too_early := notes_on_early(runs, settings))
    notes += notes_on_runs_alone(runs) if plain else ()
    trials = [trial for planned in runs for trial in planned.trained_on]
    shown = tuple(dict.fromkeys(name for trial in trials for name in trial.images))
    n_not_shown = 0
    without_image: tuple[str, ...] = ()
    with problems:
        if inputs.images is not None:
            found = find_shown(shown, inputs.images)
            without_image, n_not_shown = found.missing, found.n_others
        if without_image:
            raise InputError(
                f"{inputs.images}: no file of {len(without_image)} of the {len(shown)} images that are shown: "
                f"{first_few(without_image)}; add them or give another folder with --images"
            )
    candidates: dict[str, int] = {}
    with problems:
        if inputs.candidates is not None:
            candidates, left_out = count_candidates(inputs.candidates)
            notes += left_out
        elif runs:  # without a readable run nothing more can be checked
            candidates = dict.fromkeys(sorted({trial.category for trial in trials}), 0)
            check_some(runs, settings)
            usable = [trial for planned in runs for trial in on_time(planned, settings)]
            check_told_apart(usable)
            check_repeated([trial.category for trial in usable], too_early)
    with problems:
        notes += notes_on_names(inputs.names, candidates)
    categories = dict.fromkeys(trial.category for trial in trials)
    return Plan(
        runs=tuple(runs),
        region=inputs.region.expression if inputs.region else "head",
        n_voxels=n_voxels,
        shown=shown,
        without_image=without_image,
        n_not_shown=n_not_shown,
        candidates=candidates,
        not_ranked=tuple(category for category in categories if category not in candidates),
        problems=tuple(problems.found),
        notes=notes,
        plain=plain,
    )


def open_runs(
    files: Sequence[RunFiles], settings: PipelineSettings, problems: Problems
) -> tuple[list[PlannedRun], tuple[str, ...]]:
    """Open runs with their trials, and collect notes on them; runs that cannot be opened are skipped.

    Parameters
    ----------
    files : sequence of RunFiles
    settings : PipelineSettings
    problems : Problems
        Collects the reasons why runs cannot be opened.
    """
    runs: list[PlannedRun] = []
    notes: list[str] = []
    of_runs = Problems()
    for run in files:
        with of_runs:
            source = run.open(settings.events)
            runs.append(PlannedRun(source.run, run.trials(settings.events), source.read, source))
            notes += source.notes
    problems.add_runs(of_runs)
    sharing: dict[Path, list[PlannedRun]] = {}
    for planned in runs:
        if planned.read:
            sharing.setdefault(planned.read.path, []).append(planned)
    for table, of_table in sharing.items():
        if len({planned.run.shape for planned in of_table}) > 1:
            problems.found.append(
                f"{first_few([planned.run.run_id for planned in of_table], 3)} have one table of events and different "
                "grids: one acquisition in several forms; choose one with --training"
            )
        elif len(of_table) > 1:
            notes.append(f"{len(of_table)} runs share one table of events, {table}")
    return runs, tuple(dict.fromkeys(notes))


def called_otherwise(runs: Sequence[PlannedRun], subject: str) -> tuple[str, ...]:
    """Note that runs' files call the subject by another label than the given one; empty if they do not.

    Parameters
    ----------
    runs : sequence of PlannedRun
    subject : str
        The subject's label as given.
    """
    others = {label: planned.run.subject for planned in runs if (label := subject_label(planned.run.subject))}
    others.pop(subject_label(subject), None)
    if not others:
        return ()
    named = ", ".join(others.values())
    n = sum(subject_label(planned.run.subject) in others for planned in runs)
    return (subject_note(f"the files of {n} of {len(runs)} runs call their subject {named}", subject),)


def _enough(runs: Sequence[RunFiles]) -> None:
    if len(runs) < _FEWEST_RUNS:
        raise InputError("fewer than two runs, and penalties are chosen by leaving one out; add runs")


def _of_one(runs: Sequence[PlannedRun]) -> None:
    by_subject: dict[str, list[Run]] = {}
    for planned in runs:
        if label := subject_label(planned.run.subject):
            by_subject.setdefault(label, []).append(planned.run)
    if len(by_subject) > 1:
        listed = "; ".join(
            f"{of[0].subject} in {first_few([run.run_id for run in of], 2)}" for of in by_subject.values()
        )
        raise InputError(f"runs of different subjects ({listed}); choose runs of one with --training")


def _alike(runs: Sequence[PlannedRun]) -> None:
    by_tr: dict[float, list[str]] = {}
    for planned in runs:
        by_tr.setdefault(planned.run.tr_s, []).append(planned.run.run_id)
    if len(by_tr) > 1:
        listed = "; ".join(f"{tr_s:g} s in {first_few(names, 2)}" for tr_s, names in by_tr.items())
        raise InputError(f"runs of different repetition times ({listed}); choose runs of one with --training")


def _named(runs: Sequence[PlannedRun]) -> None:
    unnamed = [planned.run.run_id for planned in runs if any(not trial.images for trial in planned.trained_on)]
    if unnamed:
        raise InputError(
            f"trials of {first_few(unnamed, 2)} name no image; calibrate on runs in which images were shown"
        )


def count_voxels(region: Region | None, run: Run) -> dict[str, int]:
    """Count the voxels of a region, and of each region that its expression names; {} without a region."""
    if region is None:
        return {}
    parts = {name: Region(f'"{name}"', {name: files}) for name, files in region.masks.items()}
    counted = {region.expression: region} | {name: part for name, part in parts.items() if len(parts) > 1}
    return {name: len(one.voxels(run)) for name, one in counted.items()}


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


def check_images(
    first: RunFiles,
    runs: Sequence[PlannedRun],
    region: Region | None,
    settings: PipelineSettings,
    problems: Problems,
    options: str,
) -> tuple[str, ...]:
    """Collect the problems that runs' images have, of which few volumes are read; return notes.

    Parameters
    ----------
    first : RunFiles
        Files of the first run, whose volumes make the template.
    runs : sequence of PlannedRun
    region : Region or None
        Voxels to decode from; None for the head's.
    settings : PipelineSettings
    problems : Problems
        Collects runs that do not fit the first, are constant, or are one run twice.
    options : str
        Option that leaves a run out, for messages.
    """
    check_aligned(runs, settings.motion, problems)
    if not problems.found:
        with problems:
            check_first(first, region, settings)
        check_not_flat(runs[1:], settings, problems)
    sources = [planned.source for planned in runs]
    with problems:
        check_different(sources, options)
        return same_trials(sources)
    return ()


def check_aligned(runs: Sequence[PlannedRun], settings: MotionSettings, problems: Problems) -> None:
    """Collect the runs that cannot be aligned to the space of the first, whose volumes are not read yet."""
    first = runs[0].run
    space = Reference(np.broadcast_to(np.float32(0), first.shape), first.affine, np.empty((0, 3), np.int32))
    unaligned = Problems()
    for planned in runs:
        with unaligned:
            check_run(planned.run, space, settings)
    problems.add_runs(unaligned)


def check_not_flat(runs: Sequence[PlannedRun], settings: PipelineSettings, problems: Problems) -> None:
    """Collect runs whose first settled volume is constant; a volume of each is read."""
    flat = Problems()
    for planned in runs:
        with flat:
            for volume in settled(planned.source, settings, 1):
                if volume.data.min() == volume.data.max():
                    raise InputError(
                        f"run {planned.run.run_id}: its volumes are constant; leave it out with --training"
                    )
    problems.add_runs(flat)


def count_candidates(candidates: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Count the images of each candidate category, 0 if they are in a store; and return notes on files left out."""
    if is_store(candidates):
        return dict.fromkeys(FeatureStore(candidates).category_ids, 0), ()
    images = list_categories(candidates)
    return dict(Counter(images.categories)), tuple(f"candidates: {note}" for note in images.notes)


def check_told_apart(trials: Sequence[Trial]) -> None:
    """Raise `InputError` if trials have fewer than two categories, so that these cannot be decoded themselves."""
    try:
        plain_stimuli(trial.category for trial in trials)
    except InputError as error:
        folders = dict.fromkeys(str(PurePath(name).parent) for trial in trials for name in trial.images)
        if len(folders) < 2:
            raise
        raise InputError(
            f"{error}; the images lie in folders ({first_few(list(folders))}): if these are the categories, name them "
            "in the column trial_type"
        ) from error


def notes_on_names(names: Path | None, candidates: Iterable[str]) -> tuple[str, ...]:
    """Note oddities of a table of names, and candidates that share a name, so that people cannot tell them apart.

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


def print_notes(notes: Sequence[str], console: Console) -> None:
    """Print notes on the runs, a line each."""
    for note in notes:
        console.print(styled(("note", "yellow"), f" {note}"), soft_wrap=True)


def print_plan(plan: Plan, console: Console) -> None:
    """Print tables of the inputs, and notes on the events' other rows; `Plan.check` raises the problems."""
    console.print(table_of_runs(plan.runs), _table_of_the_rest(plan))
    print_events(plan.reads, console)
    print_notes(plan.notes, console)


def reads_of(runs: Iterable[PlannedRun]) -> list[TrialsRead]:
    """Return the contents of the tables of events of some runs."""
    return [planned.read for planned in runs if planned.read]


def in_categories(trials: Sequence[Trial]) -> str:
    """Write how many trials each category has: "of 2 categories: 8 face, 8 house"; of many, the first few."""
    counts = Counter(trial.category for trial in trials)
    listed = [f"{n} {category or 'unnamed'}" for category, n in counts.items()]
    more = ", …" if len(listed) > _MOST_CATEGORIES else ""
    what = "category" if len(counts) == 1 else "categories"
    return f"of {len(counts)} {what}: {', '.join(listed[:_MOST_CATEGORIES])}{more}"


def notes_on_runs_alone(runs: Sequence[PlannedRun]) -> tuple[str, ...]:
    """Say which categories are shown in one of several runs only, so that no other run can tell of them."""
    shown: dict[str, set[str]] = {}
    for planned in runs:
        for trial in planned.trained_on:
            shown.setdefault(trial.category, set()).add(planned.run.run_id)
    alone = [category for category, of in shown.items() if len(of) == 1]
    if len(runs) < 2 or not alone:
        return ()
    return (
        f"{len(alone)} of {len(shown)} categories are shown in one run only: {first_few(alone)}; is one named "
        "otherwise in other runs?",
    )


def on_time(planned: PlannedRun, settings: PipelineSettings) -> list[Trial]:
    """Trials of a run that are answered after there is a baseline."""
    ready_s = settings.nuisance.discard_s + settings.nuisance.warm_up_volumes * planned.run.tr_s
    shift_s = settings.window.hrf_shift_s
    return [trial for trial in planned.trained_on if trial.onset_s + trial.duration_s + shift_s > ready_s]


def check_some(runs: Sequence[PlannedRun], settings: PipelineSettings) -> None:
    """Raise `InputError` if all trials come too early."""
    if any(planned.trained_on for planned in runs) and not any(on_time(planned, settings) for planned in runs):
        raise InputError(
            f"all trials come before there is a baseline, which takes {settings.nuisance.discard_s:g} s and "
            f"{settings.nuisance.warm_up_volumes} volumes; begin later, or set nuisance.discard_s and "
            "warm_up_volumes lower"
        )


def notes_on_early(runs: Sequence[PlannedRun], settings: PipelineSettings) -> tuple[str, ...]:
    """Say how many trials are answered before there is a baseline, and so may give no sample."""
    early = {planned.run.run_id: len(planned.trained_on) - len(on_time(planned, settings)) for planned in runs}
    early = {name: n for name, n in early.items() if n}
    if not early:
        return ()
    n_trials = number_of(sum(early.values()), "trial")
    listed = first_few([f"{n} in {name}" for name, n in early.items()])
    return (
        f"{n_trials} too early for a baseline, which takes the first volumes of a run: without a sample ({listed})",
    )


def print_events(reads: Sequence[TrialsRead], console: Console) -> None:
    """Print notes on the events' rows that are no ordinary trials, a line each."""
    for line in remarks_on(reads):
        console.print(styled(("events", "yellow"), f" {line}"), soft_wrap=True)


def table_of_runs(runs: Sequence[PlannedRun]) -> Table:
    """Make a table of runs with their trials, and the numbers of events' rows that are not trials."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    some_beyond = any(planned.read and planned.read.n_beyond for planned in runs)
    for column in ("volumes", "trials", "repeats", *(["after its end"] if some_beyond else []), "no trials"):
        table.add_column(column, justify="right")
    for planned in runs:
        run, read = planned.run, planned.read
        table.add_row(
            styled(run.run_id.removeprefix(f"sub-{run.subject}_")),
            "?" if run.n_volumes is None else str(run.n_volumes),
            str(len(planned.trained_on)),
            str(sum(trial.repeat for trial in planned.trials)),
            *([str(read.n_beyond if read else 0)] if some_beyond else []),
            str(read.n_left_out if read else 0),
        )
    return table


def _table_of_the_rest(plan: Plan) -> Table:
    table = Table(box=SIMPLE_HEAD, show_header=False)
    table.add_column("what")
    table.add_column("how much", justify="right")
    table.add_column("remarks")
    grids = Counter((planned.run.shape, planned.run.tr_s) for planned in plan.runs)
    for (shape, tr_s), n_runs in grids.items():
        table.add_row("runs", str(n_runs), f"{times(shape)} voxels, TR {tr_s:g} s")
    trials = [trial for planned in plan.runs for trial in planned.trained_on]
    table.add_row("trials", str(len(trials)), styled(in_categories(trials)))
    if not plan.plain:
        n_found = len(plan.shown) - len(plan.without_image)
        table.add_row("images shown", str(len(plan.shown)), f"{n_found} with a file, {len(plan.without_image)} without")
    if plan.n_not_shown:
        table.add_row("other images", str(plan.n_not_shown), "not shown in these runs")
    for name, n_voxels in plan.n_voxels.items():
        table.add_row("voxels" if name == plan.region else "voxels of part", str(n_voxels), styled(name))
    if not plan.n_voxels:
        table.add_row("voxels", "?", "the head's" if plan.region == "head" else "")
    n_images = sum(plan.candidates.values())
    remark = "the categories themselves" if plan.plain else f"{n_images} images" if n_images else ""
    table.add_row("candidates", str(len(plan.candidates)), remark)
    if plan.candidates and plan.not_ranked:
        only = styled(f"trained on only: {first_few(plan.not_ranked, 3)}")
        table.add_row("not candidates", str(len(plan.not_ranked)), only)
    return table
