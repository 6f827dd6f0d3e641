"""Plan of an evaluation before it is made: its inputs, the missing parts, and whether it can be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from calibration.datasets.dataset_files import DatasetFiles
from calibration.features.images import first_few
from calibration.samples.study import KINDS, check_halves
from calibration.training.dry_run import (
    PlannedRun,
    Problems,
    called_otherwise,
    check_images,
    check_some,
    check_told_apart,
    count_candidates,
    count_voxels,
    in_categories,
    notes_on_early,
    notes_on_masks,
    notes_on_names,
    notes_on_runs_alone,
    on_time,
    open_runs,
    print_events,
    print_notes,
    raise_problems,
    reads_of,
    table_of_runs,
)
from rtgod.console import styled
from rtgod.errors import InputError
from rtgod.events.trials import TrialsRead
from rtgod.settings import PipelineSettings
from rtgod.text import times


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """Plan of an evaluation: its inputs, problems and notes.

    Attributes
    ----------
    training, test : tuple of PlannedRun
    split : {"runs", "leave-one-run-out", "halves"}
    n_voxels : mapping of str to int
        Number of voxels of each region; empty if only the template will tell.
    candidates : mapping of str to int
        Number of images of each candidate category; 0 for each shown category if categories themselves are decoded.
    with_images : bool
        True if features of images are decoded, False for the categories themselves.
    problems : tuple of str
        Reasons why the evaluation cannot be made, each with a remedy.
    notes : tuple of str
        Notes as in `calibration.training.dry_run.Plan`.
    """

    training: tuple[PlannedRun, ...]
    test: tuple[PlannedRun, ...]
    split: str
    n_voxels: Mapping[str, int]
    candidates: Mapping[str, int]
    with_images: bool
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def reads(self) -> list[TrialsRead]:
        """Contents of the runs' tables of events."""
        return reads_of((*self.training, *self.test))

    def check(self) -> None:
        """Raise `InputError` with every problem found."""
        raise_problems(self.problems)


def plan_study(inputs: DatasetFiles, settings: PipelineSettings) -> StudyPlan:
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
    more_notes += called_otherwise(runs, inputs.subject)
    n_voxels: dict[str, int] = {}
    if training:
        first = training[0].run
        for name, region in inputs.regions.items():
            more_notes += region.notes
            with problems:
                counted = count_voxels(region, first)
                n_voxels[name] = counted[region.expression]
                more_notes += notes_on_masks(region, counted)
        options = "--training or --test" if test else "--training"
        more_notes += check_images(inputs.training[0], runs, inputs.region, settings, problems, options)
    more_notes += notes_on_early(runs, settings)
    shown = dict.fromkeys(trial.category for planned in runs for trial in planned.trained_on)
    candidates = dict.fromkeys(shown, 0)
    with_images = inputs.images is not None and inputs.candidates is not None
    if inputs.images is not None and inputs.candidates is not None:
        with problems:
            if not inputs.images.exists():
                raise InputError(f"{inputs.images}: no such folder; give the images that were shown with --images")
            candidates, left_out = count_candidates(inputs.candidates)
            more_notes += left_out
    elif training:
        more_notes += notes_on_runs_alone(training)
        with problems:
            check_some(training, settings)
            check_told_apart([trial for planned in runs for trial in on_time(planned, settings)])
    with problems:
        more_notes += notes_on_names(inputs.names, candidates)
    trials = [(trial.category, planned.run.run_id) for planned in training for trial in on_time(planned, settings)]
    if inputs.split == "halves" and trials:
        with problems:
            check_halves(*map(list, zip(*trials, strict=True)))
    if inputs.split == "leave-one-run-out" and len(inputs.training) < 2:
        with problems:
            raise InputError("leaving one run out needs at least two runs; with one, split it with --split halves")
    return StudyPlan(
        training=tuple(training),
        test=tuple(test),
        split=inputs.split,
        n_voxels=n_voxels,
        candidates=candidates,
        with_images=with_images,
        problems=tuple(problems.found),
        notes=tuple(dict.fromkeys((*notes, *more_notes))),
    )


def print_study_plan(plan: StudyPlan, console: Console) -> None:
    """Print tables of the inputs; `StudyPlan.check` raises the problems."""
    console.print("Trained on:" if plan.test else f"Trained and tested on, split by {plan.split}:")
    console.print(table_of_runs(plan.training))
    if plan.test:
        console.print("Tested on:", table_of_runs(plan.test))
    console.print(_table_of_the_rest(plan))
    print_events(plan.reads, console)
    print_notes(plan.notes, console)


def _table_of_the_rest(plan: StudyPlan) -> Table:
    table = Table(box=SIMPLE_HEAD, show_header=False)
    table.add_column("what")
    table.add_column("how much", justify="right")
    table.add_column("remarks")
    for what, runs in (("training runs", plan.training), ("test runs", plan.test)):
        grids = dict.fromkeys((planned.run.shape, planned.run.tr_s) for planned in runs)
        remarks = "; ".join(f"{times(shape)} voxels, TR {tr_s:g} s" for shape, tr_s in grids)
        if runs:
            table.add_row(what, str(len(runs)), remarks)
        for name, kind in KINDS.items():
            trials = [trial for planned in runs for trial in planned.trained_on if trial.kind == kind]
            if trials:
                table.add_row(f"{what[: -len(' runs')]} trials {name}", str(len(trials)), styled(in_categories(trials)))
    for name, n_voxels in plan.n_voxels.items():
        table.add_row("voxels", str(n_voxels), styled(name))
    if not plan.n_voxels:
        table.add_row("voxels", "?", "the head's")
    if plan.with_images:
        n_images = sum(plan.candidates.values())
        table.add_row("candidates", str(len(plan.candidates)), f"{n_images} images" if n_images else "")
    else:
        table.add_row("categories", str(len(plan.candidates)), styled(first_few(list(plan.candidates))))
    return table
