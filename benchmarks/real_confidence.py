"""Confidence on real runs, for `benchmarks.confidence`: bundles of some runs of a localizer judge the others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.causal_gap import read_runs, reference_of, settings_for
from benchmarks.confidence import Calibrated, Outcome
from calibration.datasets.runs import find_plain_runs
from calibration.decoders.settings import DecoderSettings
from calibration.parallel.progress import quiet
from calibration.samples.assemble import samples_of
from calibration.samples.plain import plain_stimuli
from calibration.samples.runs import CleanedRun, clean_run
from calibration.samples.study import CandidateFeatures, Samples
from calibration.samples.whitening import Whitening
from calibration.training.fit import train
from calibration.training.folds import parts_of_one_run
from calibration.training.held_out_rankings import learn_from_rankings
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import NoiseSettings, PipelineSettings, RankingSettings

#: Numbers of runs that bundles are made of, and how far apart their first runs are.
_N_TRAINED_ON, _STEP = (4, 8), 2
_VOLUMES = {"first": 0, "middle": 4, "last": 8}
_SUBSETS = (2, 8)


def real_cells(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """Calibrate on some runs of haxby2001, and judge the others: names of cells, with probabilities and hits."""
    runs = _cleaned(folder)
    rng = np.random.default_rng(0)
    for n in _N_TRAINED_ON:
        for start in range(0, len(runs), _STEP):
            kept = [runs[(start + i) % len(runs)] for i in range(n)]
            bundle, whitening = _calibrated(kept)
            tested = _samples([run for run in runs if run not in kept]).whitened(whitening.shape)
            true = bundle.candidates.positions(tested.categories)
            n_candidates = len(bundle.candidates.ids)
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
    ids, n = stimuli.candidate_ids, len(categories)
    X = np.random.default_rng(0).standard_normal((n, 50)).astype(np.float32)
    samples = Samples(X, ("run",) * n, tuple(categories), stimuli.of_categories(categories))
    trained = train(X, parts_of_one_run(categories), samples.Y, DecoderSettings(name="ridge"), quiet)
    candidates = CandidateFeatures(ids, ids, stimuli.candidates)
    learned = learn_from_rankings(samples, trained, DecoderSettings(name="ridge"), candidates, RankingSettings())
    return learned.confidence.chances is None


@cache
def _cleaned(folder: Path) -> tuple[CleanedRun, ...]:
    settings = settings_for()
    return tuple(clean_run(run, reference_of(run), settings, Noise()) for run in read_runs(folder))


def _samples(runs: list[CleanedRun]) -> Samples:
    stimuli = plain_stimuli(trial.category for run in runs for trial in run.trials)
    samples = samples_of(runs, lambda trials: stimuli.of_categories([trial.category for trial in trials]))
    if samples is None:
        raise AssertionError("every run has trials")
    return samples


def _calibrated(runs: list[CleanedRun]) -> tuple[Calibrated, Whitening]:
    samples = _samples(runs)
    whitening = Whitening.of({run.run.run_id: run.noise for run in runs}, NoiseSettings())
    whitened = samples.whitened(whitening.shape)
    trained = train(whitened.X, samples.runs, samples.Y, DecoderSettings(name="ridge"), quiet)
    stimuli = plain_stimuli(samples.categories)
    candidates = CandidateFeatures(stimuli.candidate_ids, stimuli.candidate_ids, stimuli.candidates)
    learned = learn_from_rankings(
        samples, trained, DecoderSettings(name="ridge"), candidates, RankingSettings(), whitening
    )
    return Calibrated(trained, learned, candidates), whitening
