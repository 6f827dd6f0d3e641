"""Confidence on real runs, for `benchmarks.confidence`: bundles of some runs of a localizer judge the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.confidence import Calibrated, Outcome
from benchmarks.gap.recordings import SETTINGS, Recording, read_haxby
from calibration.datasets.runs import find_plain_runs
from calibration.decoders.settings import DecoderSettings
from calibration.parallel.progress import quiet
from calibration.parallel.workers import workers
from calibration.samples.assemble import samples_of
from calibration.samples.plain import plain_stimuli
from calibration.samples.preparation import denoise_runs
from calibration.samples.runs import CleanedRun
from calibration.samples.study import CandidateFeatures, Samples
from calibration.samples.whitening import TrainingSamples, Whitening
from calibration.training.chosen_fit import Labelled, choose_and_train
from calibration.training.fit import train
from calibration.training.folds import parts_of_one_run
from calibration.training.held_out_rankings import learn_from_rankings
from calibration.training.penalty_choice import choose_left_out
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import NoiseSettings, PipelineSettings, RankingSettings

#: Numbers of runs that bundles are made of, and how far apart their first runs are.
_N_TRAINED_ON, _STEP = (4, 8), 2
_VOLUMES = {"first": 0, "middle": 4, "last": 8}
_SUBSETS = (2, 8)


def real_cells(folder: Path) -> Iterator[tuple[str, Outcome]]:
    """Calibrate on some runs of haxby2001, and judge the others: names of cells, with probabilities and hits."""
    recording = read_haxby(folder)
    n_runs = len(recording.runs)
    rng = np.random.default_rng(0)
    for n in _N_TRAINED_ON:
        for start in range(0, n_runs, _STEP):
            kept, others = _cleaned(recording, [(start + i) % n_runs for i in range(n)])
            bundle, whitening = _calibrated(kept)
            tested = _samples(others).whitened(whitening.shape)
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


def _cleaned(recording: Recording, kept: Sequence[int]) -> tuple[Sequence[CleanedRun], Sequence[CleanedRun]]:
    """Return the kept runs and the others, denoised by what the kept ones tell of the response."""
    training = [recording.runs[number] for number in kept]
    test = [run for number, run in enumerate(recording.runs) if number not in kept]
    with workers(1) as pool:
        denoised = denoise_runs(training, test, recording.reference, Noise(), SETTINGS, pool, quiet, None)
    return denoised.training, denoised.test


def _samples(runs: Sequence[CleanedRun]) -> Samples:
    stimuli = plain_stimuli(trial.category for run in runs for trial in run.trials)
    samples = samples_of(runs, lambda trials: stimuli.of_categories([trial.category for trial in trials]))
    if samples is None:
        raise AssertionError("every run has trials")
    return samples


def _calibrated(runs: Sequence[CleanedRun]) -> tuple[Calibrated, Whitening]:
    samples = _samples(runs)
    whitening = Whitening.of({run.run.run_id: run.noise for run in runs}, NoiseSettings())
    whitened = samples.whitened(whitening.shape)
    stimuli = plain_stimuli(samples.categories)
    candidates = CandidateFeatures(stimuli.candidate_ids, stimuli.candidate_ids, stimuli.candidates)
    choice = choose_left_out(samples.categories, samples.runs, candidates)
    labelled = Labelled(whitened.X, samples.Y, samples.categories, samples.runs, choice)
    unwhitened = TrainingSamples(samples, whitening)
    trained, chosen = choose_and_train(
        labelled, DecoderSettings(), quiet, whitened=lambda left_out: unwhitened.whitened_complete(left_out).X
    )
    learned = learn_from_rankings(samples, trained, chosen.decoder, candidates, RankingSettings(), whitening)
    return Calibrated(trained, learned, candidates), whitening
