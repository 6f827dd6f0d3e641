"""Runs of a plan: opened with their trials, compared, and what is wrong or odd about them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np

from calibration.datasets.masks import Region
from calibration.datasets.runs import RunFiles
from calibration.features.images import first_few
from calibration.samples.plain import plain_stimuli
from calibration.samples.runs import check_first, settled
from calibration.training.same_volumes import check_different, same_trials
from rtgod.errors import InputError
from rtgod.events.table import Trial
from rtgod.events.trials import TrialsRead
from rtgod.fit import subject_label, subject_note
from rtgod.messages import Run
from rtgod.preprocessing.alignment import Reference, check_run
from rtgod.settings import MotionSettings, PipelineSettings
from rtgod.sources import Source
from rtgod.text import number_of

#: Maximum number of unusable runs whose reasons are told.
_MOST_TOLD = 2


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
        """Add the problems of runs: the first few, and the number of the others.

        Parameters
        ----------
        of_runs : Problems
        """
        self.found += of_runs.found[:_MOST_TOLD]
        if (n_more := len(of_runs.found) - _MOST_TOLD) > 0:
            self.found.append(f"{n_more} other {'run' if n_more == 1 else 'runs'} cannot be used either")


def raise_problems(problems: Sequence[str]) -> None:
    """Raise every problem at once.

    Parameters
    ----------
    problems : sequence of str

    Raises
    ------
    InputError
        If there is one.
    """
    if problems:
        raise InputError("; and ".join(problem.removesuffix(".") for problem in problems))


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
            runs.append(PlannedRun(source.run, run.trials(settings.events, source.run.tr_s), source.read, source))
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


def check_one_subject(runs: Sequence[PlannedRun]) -> None:
    """Raise `InputError` if runs' files name several subjects.

    Parameters
    ----------
    runs : sequence of PlannedRun
    """
    by_subject: dict[str, list[Run]] = {}
    for planned in runs:
        if label := subject_label(planned.run.subject):
            by_subject.setdefault(label, []).append(planned.run)
    if len(by_subject) > 1:
        listed = "; ".join(
            f"{of[0].subject} in {first_few([run.run_id for run in of], 2)}" for of in by_subject.values()
        )
        raise InputError(f"runs of different subjects ({listed}); choose runs of one with --training")


def check_one_tr(runs: Sequence[PlannedRun]) -> None:
    """Raise `InputError` if runs differ in repetition time.

    Parameters
    ----------
    runs : sequence of PlannedRun
    """
    by_tr: dict[float, list[str]] = {}
    for planned in runs:
        by_tr.setdefault(planned.run.tr_s, []).append(planned.run.run_id)
    if len(by_tr) > 1:
        listed = "; ".join(f"{tr_s:g} s in {first_few(names, 2)}" for tr_s, names in by_tr.items())
        raise InputError(f"runs of different repetition times ({listed}); choose runs of one with --training")


def check_images_named(runs: Sequence[PlannedRun]) -> None:
    """Raise `InputError` if trials that are trained on name no image.

    Parameters
    ----------
    runs : sequence of PlannedRun
    """
    unnamed = [planned.run.run_id for planned in runs if any(not trial.images for trial in planned.trained_on)]
    if unnamed:
        raise InputError(
            f"trials of {first_few(unnamed, 2)} name no image; calibrate on runs in which images were shown"
        )


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
    """Collect the runs that cannot be aligned to the space of the first, whose volumes are not read yet.

    Parameters
    ----------
    runs : sequence of PlannedRun
    settings : MotionSettings
    problems : Problems
    """
    first = runs[0].run
    space = Reference(np.broadcast_to(np.float32(0), first.shape), first.affine, np.empty((0, 3), np.int32))
    unaligned = Problems()
    for planned in runs:
        with unaligned:
            check_run(planned.run, space, settings)
    problems.add_runs(unaligned)


def check_not_flat(runs: Sequence[PlannedRun], settings: PipelineSettings, problems: Problems) -> None:
    """Collect runs whose first settled volume is constant; a volume of each is read.

    Parameters
    ----------
    runs : sequence of PlannedRun
    settings : PipelineSettings
    problems : Problems
    """
    flat = Problems()
    for planned in runs:
        with flat:
            for volume in settled(planned.source, settings, 1):
                if volume.data.min() == volume.data.max():
                    raise InputError(
                        f"run {planned.run.run_id}: its volumes are constant; leave it out with --training"
                    )
    problems.add_runs(flat)


def check_told_apart(trials: Sequence[Trial]) -> None:
    """Raise `InputError` if trials have fewer than two categories, so that these cannot be decoded themselves.

    Parameters
    ----------
    trials : sequence of Trial
    """
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


def on_time(planned: PlannedRun, settings: PipelineSettings) -> list[Trial]:
    """Trials of a run that are answered after there is a baseline.

    Parameters
    ----------
    planned : PlannedRun
    settings : PipelineSettings
    """
    ready_s = settings.nuisance.discard_s + settings.nuisance.warm_up_volumes * planned.run.tr_s
    shift_s = settings.window.hrf_shift_s + settings.response.delay_s
    return [trial for trial in planned.trained_on if trial.onset_s + trial.duration_s + shift_s > ready_s]


def check_some(runs: Sequence[PlannedRun], settings: PipelineSettings) -> None:
    """Raise `InputError` if all trials come too early.

    Parameters
    ----------
    runs : sequence of PlannedRun
    settings : PipelineSettings
    """
    if any(planned.trained_on for planned in runs) and not any(on_time(planned, settings) for planned in runs):
        raise InputError(
            f"all trials come before there is a baseline, which takes {settings.nuisance.discard_s:g} s and "
            f"{settings.nuisance.warm_up_volumes} volumes; begin later, or set nuisance.discard_s and "
            "warm_up_volumes lower"
        )


def notes_on_runs_alone(runs: Sequence[PlannedRun]) -> tuple[str, ...]:
    """Say which categories are shown in one of several runs only, so that no other run can tell of them.

    Parameters
    ----------
    runs : sequence of PlannedRun
    """
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


def notes_on_early(runs: Sequence[PlannedRun], settings: PipelineSettings) -> tuple[str, ...]:
    """Say how many trials are answered before there is a baseline, and so may give no sample.

    Parameters
    ----------
    runs : sequence of PlannedRun
    settings : PipelineSettings
    """
    early = {planned.run.run_id: len(planned.trained_on) - len(on_time(planned, settings)) for planned in runs}
    early = {name: n for name, n in early.items() if n}
    if not early:
        return ()
    n_trials = number_of(sum(early.values()), "trial")
    listed = first_few([f"{n} in {name}" for name, n in early.items()])
    return (
        f"{n_trials} too early for a baseline, which takes the first volumes of a run: without a sample ({listed})",
    )


def reads_of(runs: Iterable[PlannedRun]) -> list[TrialsRead]:
    """Return the contents of the tables of events of some runs.

    Parameters
    ----------
    runs : iterable of PlannedRun
    """
    return [planned.read for planned in runs if planned.read]
