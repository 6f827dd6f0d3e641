"""Gain of a delay that is learned and of a decoder that is chosen, on real runs (Haxby et al. 2001), online.

Two thirds of the runs train and the others are decoded, in turn, so that each of the 96 blocks is decoded once: its
sample is that after its last volume, as a server has it. Decoder, its settings, and when responses come are learned
from the training runs alone, as by `rtgod calibrate`. The best single decoder is the best of all in hindsight, which
favours it. Differences have paired 95 % intervals of a bootstrap over runs. With categories exchanged within runs the
chosen decoder must be at chance.

    python -m benchmarks.decoder_gain [--data FOLDER] [--json PATH]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.figures import print_all, shared_data, write_json
from benchmarks.gap.intervals import Bootstrap, middle_95
from benchmarks.gap.recordings import SETTINGS, Recording, read_haxby
from calibration.decoders.settings import DecoderSettings
from calibration.metrics.statistics import wilson
from calibration.parallel.progress import quiet
from calibration.parallel.workers import workers
from calibration.samples.assemble import samples_of
from calibration.samples.plain import plain_stimuli
from calibration.samples.preparation import GatheredRuns, denoise_runs
from calibration.samples.runs import AlignedRun, CleanedRun
from calibration.samples.study import CATEGORIES, CandidateFeatures, Samples
from calibration.samples.whitening import TrainingSamples, Whitening
from calibration.training.chosen_fit import Labelled, choose_and_train
from calibration.training.penalty_choice import choose_left_out
from rtgod.errors import InputError
from rtgod.messages import BoolArray, Float64Array
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import PipelineSettings

#: Decoders that are tried, each tuned where it can be; the first is the one that is chosen among the others.
DECODERS = ("auto", "ridge", "lda", "svm")
_N_FOLDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoder_gain", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=shared_data() / "haxby2001", help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    try:
        recording = read_haxby(options.data)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    figures = figures_of(recording)
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


def figures_of(recording: Recording, n_folds: int = _N_FOLDS) -> dict[str, float]:
    """Decode all blocks of a recording by every decoder, with and without times that are learned.

    Parameters
    ----------
    recording : Recording
    n_folds : int
        Number of groups of runs that are left out in turn.
    """
    as_set = SETTINGS.model_copy(update={"response": SETTINGS.response.model_copy(update={"learn_peak": False})})
    learned = [_denoised(recording, left_out, SETTINGS) for left_out in _folds(recording, n_folds)]
    not_learned = [_denoised(recording, left_out, as_set) for left_out in _folds(recording, n_folds)]
    right = {name: _right(learned, name) for name in DECODERS}
    undelayed = _right(not_learned, "auto")
    chance = _right([_exchanged(fold) for fold in learned], "auto")
    runs = np.concatenate(
        [np.full(len(recording.runs[run].trials), run) for fold in _folds(recording, n_folds) for run in fold]
    )
    bootstrap = Bootstrap([runs])
    best = max(DECODERS[1:], key=lambda name: right[name].mean())
    figures: dict[str, float] = {"n_blocks": len(runs)}
    for name, of_blocks in {**right, "auto_without_learned_times": undelayed, "null": chance}.items():
        figures |= _figure(f"right_{name}", float(of_blocks.mean()), wilson(float(of_blocks.sum()), len(of_blocks)))
    for name, a, b in (("delay_gain", right["auto"], undelayed), ("auto_over_best_single", right["auto"], right[best])):
        draws = bootstrap.means([a.astype(np.float64)]) - bootstrap.means([b.astype(np.float64)])
        figures |= _figure(name, float(a.mean() - b.mean()), middle_95(draws))
    return figures


def _figure(name: str, value: float, interval: Sequence[float]) -> dict[str, float]:
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}


def _folds(recording: Recording, n_folds: int) -> list[list[int]]:
    return [part.tolist() for part in np.array_split(np.arange(len(recording.runs)), n_folds)]


def _denoised(recording: Recording, left_out: Sequence[int], settings: PipelineSettings) -> GatheredRuns:
    training = [run for number, run in enumerate(recording.runs) if number not in left_out]
    test: list[AlignedRun] = [recording.runs[number] for number in left_out]
    with workers(1) as pool:
        return denoise_runs(training, test, recording.reference, Noise(), settings, pool, quiet, None)


def _exchanged(fold: GatheredRuns) -> GatheredRuns:
    """Exchange the categories of the training runs' trials within each run."""
    rng = np.random.default_rng(0)

    def exchanged(run: CleanedRun) -> CleanedRun:
        order = rng.permutation(len(run.trials))
        trials = [replace(trial, category=run.trials[i].category) for trial, i in zip(run.trials, order, strict=True)]
        return replace(run, trials=tuple(trials))

    return replace(fold, training=tuple(exchanged(run) for run in fold.training))


def _right(folds: Sequence[GatheredRuns], decoder: str) -> BoolArray:
    """Return whether the first category of each block's last ranking is its own, fold by fold, shape (n_blocks,)."""
    return np.concatenate([_right_in(fold, DecoderSettings(name=decoder)) for fold in folds])


def _right_in(fold: GatheredRuns, decoder: DecoderSettings) -> BoolArray:
    training, test = _samples(fold.training), _samples(fold.test)
    whitening = Whitening.of({run.run.run_id: run.noise for run in fold.training}, fold.settings.noise)
    whitened = training.whitened(whitening.shape)
    stimuli = plain_stimuli(training.categories)
    candidates = CandidateFeatures(stimuli.candidate_ids, stimuli.candidate_ids, stimuli.candidates)
    choice = choose_left_out(training.categories, training.runs, candidates)
    labelled = Labelled(whitened.X, whitened.Y, training.categories, training.runs, choice)
    of_training = TrainingSamples(training, whitening)
    trained, _ = choose_and_train(labelled, decoder, quiet, whitened=lambda runs: of_training.whitened_complete(runs).X)
    online, layer = trained.decoder(), trained.layers[CATEGORIES]
    patterns = test.whitened(whitening.shape).X
    units = np.stack([online.decode(0, pattern).layers[CATEGORIES] for pattern in patterns])
    scores: Float64Array = (units - layer.unit_mean) / layer.unit_sd
    return np.asarray(scores.argmax(axis=1) == candidates.positions(test.categories))


def _samples(runs: Sequence[CleanedRun]) -> Samples:
    stimuli = plain_stimuli(trial.category for run in runs for trial in run.trials)
    samples = samples_of(runs, lambda trials: stimuli.of_categories([trial.category for trial in trials]))
    if samples is None:
        raise AssertionError("every run has trials")
    return samples


if __name__ == "__main__":
    sys.exit(main())
