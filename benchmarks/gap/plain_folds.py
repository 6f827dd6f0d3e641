"""Runs of a recording as an evaluation takes them: some train, others test, and categories themselves are decoded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.gap.recordings import SETTINGS, Recording
from calibration.parallel.progress import quiet
from calibration.parallel.workers import workers
from calibration.samples.assemble import folds_of
from calibration.samples.plain import plain_stimuli
from calibration.samples.preparation import denoise_runs
from calibration.samples.study import CandidateFeatures, Fold, Samples
from rtgod.events.trials import Trial
from rtgod.messages import Array, Float32Array
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import PipelineSettings


def fold_without(recording: Recording, left_out: Collection[int], settings: PipelineSettings = SETTINGS) -> Fold:
    """Denoise all runs by what those that are kept tell of the response, and test on the others.

    Parameters
    ----------
    recording : Recording
    left_out : collection of int
        Numbers of the runs to test on.
    settings : PipelineSettings
    """
    training, test = (
        [run for number, run in enumerate(recording.runs) if (number in left_out) == is_test]
        for is_test in (False, True)
    )
    with workers(1) as pool:
        gathered = denoise_runs(training, test, recording.reference, Noise(), settings, pool, quiet, None)
    stimuli = plain_stimuli(recording.categories)

    def features_of(trials: Sequence[Trial]) -> dict[str, Float32Array]:
        return stimuli.of_categories([trial.category for trial in trials])

    return folds_of(gathered, features_of, "runs")[0]


def plain_candidates(categories: Sequence[str] | Array) -> CandidateFeatures:
    """Return categories as their own candidates.

    Parameters
    ----------
    categories : sequence of str
        Of all trials; repeats count once.
    """
    stimuli = plain_stimuli(categories)
    return CandidateFeatures.with_names(stimuli.candidate_ids, stimuli.candidates, {})


def exchanged(samples: Samples) -> Samples:
    """Exchange categories among the blocks of each run.

    Parameters
    ----------
    samples : Samples
    """
    rng, order = np.random.default_rng(0), np.arange(len(samples))
    for run in dict.fromkeys(samples.runs):
        rows = np.flatnonzero(np.array(samples.runs) == run)
        order[rows] = rng.permutation(rows)
    categories = tuple(samples.categories[row] for row in order)
    return replace(samples, categories=categories, Y={layer: Y[order] for layer, Y in samples.Y.items()})
