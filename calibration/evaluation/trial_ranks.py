"""Rank of the true category in each trial of new runs, with a decoder that other runs trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from calibration.features.stimuli import Stimuli
from calibration.metrics.identification import identification_accuracy, rank_of
from calibration.parallel.progress import Report, in_pool
from calibration.samples.runs import AlignedRun
from calibration.samples.study import KINDS
from calibration.training.fit import Trained
from rtgod.decoding.category_index import CategoryIndex
from rtgod.decoding.decoder import Decoder
from rtgod.messages import Features, Float64Array
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.preprocessor import Noise, VolumeCleaner
from rtgod.preprocessing.stopwatch import Stopwatch
from rtgod.preprocessing.windows import RepeatAverager
from rtgod.settings import PipelineSettings


@dataclass(frozen=True, slots=True)
class RankedTrial:
    """Ranking of one trial of a new run.

    Attributes
    ----------
    key : tuple of str and int
        Run, and position of the trial in it.
    kind : {"stimulus", "imagery"}
    accuracy : float
        Share of the other candidates that score lower than the true one.
    rank : int
        Rank of the true category, from 1.
    """

    key: tuple[str, int]
    kind: str
    accuracy: float
    rank: int


def rank_trials(
    aligned: Sequence[AlignedRun],
    reference: Reference,
    settings: PipelineSettings,
    noise: Noise,
    trained: Trained,
    stimuli: Stimuli,
    pool: Executor,
    report: Report,
) -> list[RankedTrial]:
    """Decode new runs volume by volume, and rank the candidates for each trial once it is complete.

    One-back repeats and trials whose category is not a candidate are left out.
    """
    arguments = [(run, reference, settings, noise, trained.decoder()) for run in aligned]
    decoded = in_pool(pool, "decoding new runs", report, decode_run, arguments)
    category_index = CategoryIndex(stimuli.candidates, trained.layers)
    return [
        ranked
        for run, features in zip(aligned, decoded, strict=True)
        for ranked in rank_features(run, features, category_index, stimuli.candidate_ids)
    ]


def rank_features(
    run: AlignedRun, features: Mapping[int, Features], category_index: CategoryIndex, candidate_ids: Sequence[str]
) -> list[RankedTrial]:
    """Rank the candidates by the features of each trial of a run; `features` has the trials' positions as keys."""
    position = {category: i for i, category in enumerate(candidate_ids)}
    ranked = []
    for block, found in sorted(features.items()):
        trial = run.trials[block]
        if not trial.repeat and trial.category in position:
            scores, true = category_index.scores(found), position[trial.category]
            accuracy = identification_accuracy(scores, true)
            ranked.append(RankedTrial((run.run.run_id, block), trial.kind, accuracy, rank_of(scores, true)))
    return ranked


def decode_run(
    aligned: AlignedRun, reference: Reference, settings: PipelineSettings, noise: Noise, decoder: Decoder
) -> dict[int, Features]:
    """Decode each trial's last volume into features, by the trial's position in the run."""
    cleaner = VolumeCleaner(reference, aligned.run, settings, noise, RepeatAverager())
    latest: dict[int, Features] = {}
    for volume in aligned.volumes:
        sample = cleaner.clean(volume, Stopwatch()).sample
        if sample is not None and sample.block is not None:
            latest[sample.block] = decoder.decode(sample.index, sample.values)
    return latest


def by_kind(ranked: Sequence[RankedTrial]) -> dict[str, list[RankedTrial]]:
    """Group trials by kind, named as people call them: seen and imagined; a kind without trials is left out."""
    found = {name: [r for r in ranked if r.kind == kind] for name, kind in KINDS.items()}
    return {name: trials for name, trials in found.items() if trials}


def paired_difference(a: Sequence[RankedTrial], b: Sequence[RankedTrial]) -> tuple[float, float]:
    """Return the mean difference of accuracy, `a` minus `b`, over the trials that both have, and its standard error."""
    of_b = {r.key: r.accuracy for r in b}
    differences: Float64Array = np.array([r.accuracy - of_b[r.key] for r in a if r.key in of_b])
    if len(differences) < 2:
        return float("nan"), float("nan")
    return float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(len(differences)))
