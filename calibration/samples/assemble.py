"""Turn recorded runs into a study: the pipeline's front half, then samples with the features of their images."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from calibration.datasets.bids import HEAD
from calibration.datasets.dataset_files import DatasetFiles
from calibration.features.network import Network
from calibration.parallel.progress import Report
from calibration.samples.left_out import LeftOutCounts, added, tally
from calibration.samples.preparation import GatheredRuns, gather_runs
from calibration.samples.runs import CleanedRun
from calibration.samples.study import (
    KINDS,
    Course,
    Fold,
    Samples,
    Study,
    check_halves,
    first_half,
    leave_one_run_out,
)
from calibration.samples.targets import FeaturesOf, TargetFiles
from rtgod.decoding.category_index import check_matching
from rtgod.errors import InputError
from rtgod.settings import PipelineSettings

#: Seconds before a trial's onset, and after its end, that its course covers.
_BEFORE_S, _AFTER_S = 3.0, 12.0


def gather_study(
    inputs: DatasetFiles, settings: PipelineSettings, network: Network | None, pool: Executor, report: Report
) -> Study:
    """Take all runs through the pipeline and pair their samples with features.

    Parameters
    ----------
    inputs : DatasetFiles
    settings : PipelineSettings
    network : Network or None
        Network whose features are decoded; without one, categories are decoded, each as a unit.
    pool : Executor
    report : callable
        Called with (stage, steps done, steps in all).

    Raises
    ------
    InputError
        If an input is missing or does not fit the others.
    """
    first_run = inputs.training[0].open(settings.events).run
    by_region = {name: region.voxels(first_run) for name, region in inputs.regions.items()}
    voxels = np.unique(np.concatenate(list(by_region.values())), axis=0) if by_region else None
    files = TargetFiles(inputs, network)
    check_matching(settings.ranking, files.are_plain)
    gathered = gather_runs(inputs, voxels, settings, pool, report)
    targets = files.targets((*gathered.training, *gathered.test), report)
    position = {tuple(voxel): column for column, voxel in enumerate(gathered.reference.voxels.tolist())}
    regions = {
        name: np.array([position[tuple(voxel)] for voxel in region_voxels.tolist()], np.int32)
        for name, region_voxels in by_region.items()
    }
    everywhere = {HEAD: np.arange(len(position), dtype=np.int32)}
    return Study(
        folds_of(gathered, targets.features_of, inputs.split),
        regions or everywhere,
        targets.candidates,
        (*targets.notes, *gathered.notes),
        tallies_of(gathered, inputs.split),
    )


def tallies_of(gathered: GatheredRuns, split: str) -> tuple[LeftOutCounts, ...]:
    """Count used and left-out trials and volumes: trials by the use of their run and by kind, volumes by run.

    Parameters
    ----------
    gathered : GatheredRuns
    split : {"runs", "leave-one-run-out", "halves"}
        Split of the runs, as in `folds_of`.
    """
    training_use = "runs trained on" if gathered.test else "runs trained and tested on"
    if split == "halves":
        training_use = "runs whose first halves are trained on, and second ones tested on"
    sets = {training_use: gathered.training, "runs tested on": gathered.test}
    trials = [
        tally(use, f"trials {name}", [run.why_left_out(block) for block in _of_kind(run, kind)])
        for use, runs in sets.items()
        for run in runs
        for name, kind in KINDS.items()
        if _of_kind(run, kind)
    ]
    volumes = [tally(run.run.run_id, "volumes", run.volumes) for runs in sets.values() for run in runs]
    return (*added(trials), *volumes)


def _of_kind(run: CleanedRun, kind: str) -> list[int]:
    return [block for block, trial in enumerate(run.trials) if trial.kind == kind]


def folds_of(gathered: GatheredRuns, features_of: FeaturesOf, split: str) -> tuple[Fold, ...]:
    """Split runs into folds of training and test samples.

    Parameters
    ----------
    gathered : GatheredRuns
    features_of : callable
        See `calibration.samples.targets.FeaturesOf`.
    split : {"runs", "leave-one-run-out", "halves"}
        "runs" tests on the test runs. "leave-one-run-out" tests on each training run in turn. "halves" trains on the
        first half of each category's blocks in each training run, and tests on the second half.

    Raises
    ------
    InputError
        If nothing is left to test on.
    """
    # Other runs are decoded as by a bundle, which is trained on what is seen and on what is imagined.
    training = samples_of(gathered.training, features_of, None if split == "runs" else KINDS["seen"])
    if training is None or all(training.imagined):
        raise InputError("no trial of the training runs shows anything; choose other runs with --training")
    noise = {run.run.run_id: run.noise for run in gathered.training}
    if split == "leave-one-run-out":
        if len(noise) < 2:
            raise InputError("leaving one run out needs at least two runs; with one, split it with --split halves")
        return leave_one_run_out(training, noise)
    if split == "halves":
        return (_halves(gathered.training, training),)
    tests, courses = {}, {}
    for name, kind in KINDS.items():
        if (samples := samples_of(gathered.test, features_of, kind)) is not None:
            tests[name] = samples
    if not tests:
        raise InputError("no trial of the test runs can be decoded; choose other runs with --test")
    if "imagined" in tests:
        course = course_of(gathered.test, features_of, KINDS["imagined"], gathered.settings.response.delay_s)
        courses["imagined"] = replace(course, cue_lead_s=gathered.cue_lead_s)
    return (Fold(training, noise, tests, courses),)


def samples_of(runs: Sequence[CleanedRun], features_of: FeaturesOf, kind: str | None = None) -> Samples | None:
    """Return samples of all trials of a kind except one-back repeats, each with its windows; None without any.

    Parameters
    ----------
    runs : sequence of CleanedRun
    features_of : callable
        See `calibration.samples.targets.FeaturesOf`.
    kind : {"stimulus", "imagery"}, optional
        Trial type; by default all.
    """
    run_blocks = [(run, block) for run in runs for block in run.sampled_blocks(kind)]
    if not run_blocks:
        return None
    trials = [run.trials[block] for run, block in run_blocks]
    return Samples.of_partial_windows(
        [run.windows[block] for run, block in run_blocks],
        [run.run.run_id for run, _ in run_blocks],
        [trial.category for trial in trials],
        features_of(trials),
        [trial.kind == KINDS["imagined"] for trial in trials],
    )


def course_of(runs: Sequence[CleanedRun], features_of: FeaturesOf, kind: str, delay_s: float = 0.0) -> Course:
    """Gather single volumes from a little before the onset of each trial of a kind to a little after its end.

    Parameters
    ----------
    runs : sequence of CleanedRun
        Runs of which at least one has a sample of the kind.
    features_of : callable
        See `calibration.samples.targets.FeaturesOf`.
    kind : {"stimulus", "imagery"}
        Trial type.
    delay_s : float
        How much later than events and peak say responses come, in seconds; onsets are counted that much later.

    Raises
    ------
    InputError
        If the runs differ in repetition time or their trials in length.
    """
    trials = [(run, run.trials[block]) for run in runs for block in run.sampled_blocks(kind)]
    tr_s, duration_s = trials[0][0].run.tr_s, trials[0][1].duration_s
    if any(run.run.tr_s != tr_s or abs(trial.duration_s - duration_s) > tr_s / 2 for run, trial in trials):
        raise InputError("trials of different lengths or repetition times have no common course; evaluate them apart")
    steps = np.arange(-round(_BEFORE_S / tr_s), round((duration_s + _AFTER_S) / tr_s), dtype=np.float64)
    X = np.full((len(trials), len(steps), runs[0].noise.shape[1]), np.nan, np.float32)
    clean = {run.run.run_id: {p.index: p.values for p in run.patterns if not p.censored} for run in runs}
    for row, (run, trial) in enumerate(trials):
        first_volume = round((trial.onset_s + delay_s) / tr_s)
        for column, step in enumerate(steps):
            values = clean[run.run.run_id].get(first_volume + int(step))
            if values is not None:
                X[row, column] = values
    return Course(
        times_s=(steps + 0.5) * tr_s,
        duration_s=duration_s,
        X=X,
        categories=tuple(trial.category for _, trial in trials),
        Y=features_of([trial for _, trial in trials]),
    )


def _halves(runs: Sequence[CleanedRun], samples: Samples) -> Fold:
    check_halves(samples.categories, samples.runs)
    in_first_half = first_half(samples.categories, samples.runs)
    run_blocks = [(run, block) for run in runs for block in run.sampled_blocks(KINDS["seen"])]
    noise = {}
    for run in runs:
        held_back = frozenset(
            block for (owner, block), early in zip(run_blocks, in_first_half, strict=True) if owner is run and not early
        )
        # A volume that responds to a test block must not shape the noise model.
        noise[run.run.run_id] = run.noise[[not answers & held_back for answers in run.answers]]
    return Fold(samples.select(in_first_half), noise, {"seen": samples.select(~in_first_half)}, {})
