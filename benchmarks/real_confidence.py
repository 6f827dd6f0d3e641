"""Confidence on real runs, for `benchmarks.confidence`: bundles of some runs of a localizer judge the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.confidence import Calibrated, Outcome
from benchmarks.gap.plain_folds import fold_without, plain_candidates
from benchmarks.gap.recordings import SETTINGS, read_haxby
from calibration.datasets.runs import find_plain_runs
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.confidences import learn_fold
from calibration.evaluation.predictions import fit_fold
from calibration.parallel.progress import quiet
from calibration.samples.plain import plain_stimuli
from calibration.samples.study import Samples
from calibration.training.fit import train
from calibration.training.folds import parts_of_one_run
from calibration.training.held_out_rankings import learn_from_rankings
from rtgod.settings import PipelineSettings, RankingSettings

#: Numbers of runs that bundles are made of, and how far apart their first runs are.
_N_TRAINED_ON, _STEP = (4, 8), 2
_VOLUMES = {"first": 0, "middle": 4, "last": 8}
_SUBSETS = (2, 8)


def real_cells(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """Calibrate on some runs of haxby2001, and judge the others: names of cells, with probabilities and hits."""
    recording = read_haxby(folder)
    n_runs, candidates = len(recording.runs), plain_candidates(recording.categories)
    rng = np.random.default_rng(0)
    for n in _N_TRAINED_ON:
        for start in range(0, n_runs, _STEP):
            kept = {(start + i) % n_runs for i in range(n)}
            fold = fold_without(recording, set(range(n_runs)) - kept)
            fitted = fit_fold(fold, SETTINGS.noise, DecoderSettings())
            learned = learn_fold(fold, fitted, candidates, SETTINGS, fitted.choice.decoder)
            bundle = Calibrated(fitted.trained, learned, candidates)
            tested = fold.tests["seen"].whitened(fitted.shape)
            true = candidates.positions(tested.categories)
            n_candidates = len(candidates.ids)
            scored = {name: bundle.scored(tested, volume) for name, volume in _VOLUMES.items()}
            for name, size in ((name, size) for name in _VOLUMES for size in _SUBSETS):
                chosen = [
                    np.concatenate([[t], rng.permutation(np.delete(np.arange(n_candidates), t))[: size - 1]])
                    for t in true
                ]
                outcome = bundle.judged(scored[name], chosen, imagined=False)
                if outcome is not None:
                    yield f"haxby2001_{n}_runs_{name}_volume_of_{size}", outcome


def localizer_is_unknown(folder: Path) -> bool:
    """Return whether nothing is said of a localizer of one run, from which nothing can be learned."""
    (recorded,) = find_plain_runs([folder], pattern="oneback").runs
    categories = [trial.category for trial in recorded.trials(PipelineSettings().events, 2.0)]
    stimuli = plain_stimuli(categories)
    n = len(categories)
    X = np.random.default_rng(0).standard_normal((n, 50)).astype(np.float32)
    samples = Samples(X, ("run",) * n, tuple(categories), stimuli.of_categories(categories))
    trained = train(X, parts_of_one_run(categories), samples.Y, DecoderSettings(name="ridge"), quiet)
    learned = learn_from_rankings(
        samples, trained, DecoderSettings(name="ridge"), plain_candidates(categories), RankingSettings()
    )
    return learned.confidence.chances is None
