"""Decode and rank a study's test samples by the decoder that its training samples made."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.decoders.settings import DecoderSettings
from calibration.metrics.group_means import averaged_by
from calibration.parallel.progress import quiet
from calibration.samples.study import CandidateFeatures, Course, Fold, Samples
from calibration.samples.whitening import TrainingSamples, Whitening
from calibration.training.chosen_fit import Labelled, choose_and_train
from calibration.training.decoder_choice import DecoderChoice
from calibration.training.fit import Trained
from calibration.training.folds import parts_of_one_run
from calibration.training.penalty_choice import PenaltyChoice, choose_left_out
from rtgod.decoding.category_index import CategoryIndex
from rtgod.messages import Array, Features, Float32Array, Int32Array
from rtgod.preprocessing.noise_model import NoiseCovariance
from rtgod.settings import NoiseSettings


@dataclass(frozen=True, slots=True, eq=False)
class CandidateScores:
    """Candidates' scores for samples of one kind.

    Attributes
    ----------
    scores : ndarray of shape (n_samples, n_candidates), float32
    true : ndarray of shape (n_samples,), int32
        Position of the true category among the candidates.
    n_volumes : ndarray of shape (n_samples,), int32
        Number of clean volumes behind each sample; 0 if unknown.
    n_blocks : ndarray of shape (n_samples,), int32
    runs : tuple of str
        Run of each sample; for an average, the names of all tested runs in one string. Empty if runs are unknown.
    """

    scores: Float32Array
    true: Int32Array
    n_volumes: Int32Array
    n_blocks: Int32Array
    runs: tuple[str, ...] = ()

    def select(self, rows: Array) -> CandidateScores:
        """Select some of the samples.

        Parameters
        ----------
        rows : ndarray of shape (n_selected,), int
        """
        runs = tuple(np.array(self.runs, object)[rows]) if self.runs else ()
        return CandidateScores(self.scores[rows], self.true[rows], self.n_volumes[rows], self.n_blocks[rows], runs)


@dataclass(frozen=True, slots=True, eq=False)
class DecodedCondition:
    """All decoded samples of one kind of trials, "seen" or "imagined".

    Attributes
    ----------
    categories : tuple of str
        Category of each sample.
    predicted, true : mapping of str to ndarray of shape (n_samples, n_units), float32
        Features per layer.
    blocks : CandidateScores
        Scores of single trials, each complete.
    by_layer : mapping of str to ndarray of shape (n_samples, n_candidates), float32
        Correlations with each layer's features alone, for layers that are ranked by.
    windows : CandidateScores or None
        Scores of the trials as they grew, volume by volume.
    earliest : CandidateScores or None
        Scores of the first of each trial's windows: one volume, or two if the trial's response begins within one.
    averages : CandidateScores or None
        Scores of the mean over the repeats of each category; None if no category repeats.
    """

    categories: tuple[str, ...]
    predicted: Mapping[str, Float32Array]
    true: Mapping[str, Float32Array]
    blocks: CandidateScores
    by_layer: Mapping[str, Float32Array]
    windows: CandidateScores | None
    earliest: CandidateScores | None
    averages: CandidateScores | None


@dataclass(frozen=True, slots=True, eq=False)
class FittedFold:
    """Decoder of one fold, with the whitening of its patterns.

    Attributes
    ----------
    trained : Trained
    shape : NoiseCovariance or None
        Whitens patterns; with None they stay unchanged.
    choice : DecoderChoice
        The decoder that was fitted, and how it was chosen from the training samples.
    """

    trained: Trained
    shape: NoiseCovariance | None
    choice: DecoderChoice

    def decode(self, X: Float32Array) -> dict[str, Float32Array]:
        """Decode samples by the server's code into features: per layer, (n_samples, n_units).

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_voxels), float32
            Patterns that are not whitened.
        """
        decoder, shape = self.trained.decoder(), self.shape
        rows = [decoder.decode(i, x if shape is None else shape.whiten(x)).layers for i, x in enumerate(X)]
        return {layer: np.stack([row[layer] for row in rows]) for layer in rows[0]}


def fit_fold(
    fold: Fold, noise: NoiseSettings, decoder: DecoderSettings, choice: PenaltyChoice | None = None
) -> FittedFold:
    """Learn the noise's shape and the decoder from a fold's training samples; `auto` is chosen by these alone.

    Parameters
    ----------
    fold : Fold
    noise : NoiseSettings
        Without components, patterns are not whitened.
    decoder : DecoderSettings
    choice : PenaltyChoice, optional
        What is left out of the training samples to choose penalties and a decoder; by default runs, or parts of the
        only run. See `penalty_choice_of`.

    Raises
    ------
    InputError
        If there are too few samples or runs, or values that are not finite.
    """
    whitening = Whitening.of(fold.noise, noise)
    shape = whitening.shape
    training = fold.training.whitened(shape)
    runs = _groups_of(fold)
    if choice is None:
        choice = PenaltyChoice("runs" if len(set(fold.training.runs)) > 1 else "parts of the run", "", tuple(runs))
    labelled = Labelled(training.X, training.Y, training.categories, runs, choice)
    unwhitened = TrainingSamples(fold.training, whitening)
    trained, chosen = choose_and_train(
        labelled, decoder, quiet, whitened=lambda left_out: unwhitened.whitened_complete(left_out).X
    )
    return FittedFold(trained, shape, chosen)


def penalty_choice_of(fold: Fold, candidates: CandidateFeatures) -> PenaltyChoice:
    """Return what a fold's decoder leaves out to choose penalties.

    Parameters
    ----------
    fold : Fold
    candidates : CandidateFeatures
        Categories that will be ranked.
    """
    one_run = len(set(fold.training.runs)) < 2
    return choose_left_out(fold.training.categories, _groups_of(fold), candidates, one_run=one_run)


def _groups_of(fold: Fold) -> Sequence[Hashable]:
    """Return the run of each training sample, or its part of the only run."""
    training = fold.training
    return training.runs if len(set(training.runs)) > 1 else parts_of_one_run(training.categories)


def decode_kind(
    samples: Samples, fitted: FittedFold, index: CategoryIndex, candidates: CandidateFeatures
) -> DecodedCondition:
    """Decode and rank the test samples of one kind; samples whose category is not a candidate are left out.

    Parameters
    ----------
    samples : Samples
        Samples that are not whitened.
    fitted : FittedFold
    index : CategoryIndex
        Index of `candidates`, in their order.
    candidates : CandidateFeatures
    """
    position = candidates.positions(samples.categories)
    samples = samples.select(position >= 0)
    true, runs = position[position >= 0], samples.runs
    windows = earliest = averages = None
    if samples.windows:
        sample_rows, last = samples.windows.of, samples.windows.last
        on_the_way = fitted.decode(samples.windows.X)
        window_runs = tuple(runs[row] for row in sample_rows)
        ones = np.ones(len(sample_rows), np.int32)
        windows = _ranked(index, on_the_way, true[sample_rows], samples.windows.n_volumes, ones, window_runs)
        earliest, blocks = windows.select(samples.windows.first), windows.select(last)
        predicted = {layer: values[last] for layer, values in on_the_way.items()}
    else:
        predicted = fitted.decode(samples.X)
        unknown, single = np.zeros(len(true), np.int32), np.ones(len(true), np.int32)
        blocks = _ranked(index, predicted, true, unknown, single, runs)
    if len(set(samples.categories)) < len(samples):
        averages = _averages(samples.categories, predicted, blocks, index)
    correlations = np.stack([index.correlations(features) for features in _rows(predicted)], axis=1)
    return DecodedCondition(
        categories=samples.categories,
        predicted=predicted,
        true=samples.Y,
        blocks=blocks,
        by_layer=dict(zip(index.layers, correlations, strict=True)),
        windows=windows,
        earliest=earliest,
        averages=averages,
    )


def decode_course(course: Course, fitted: FittedFold) -> dict[str, Float32Array]:
    """Decode every clean volume: per layer, (n_trials, n_times, n_units), NaN at times without a clean volume.

    Parameters
    ----------
    course : Course
    fitted : FittedFold
    """
    n_trials, n_times, n_voxels = course.X.shape
    flat = course.X.reshape(-1, n_voxels)
    clean = np.isfinite(flat).all(axis=1)
    decoded = fitted.decode(flat[clean])
    features = {}
    for layer, values in decoded.items():
        padded = np.full((len(flat), values.shape[1]), np.nan, np.float32)
        padded[clean] = values
        features[layer] = padded.reshape(n_trials, n_times, -1)
    return features


def joined(parts: Sequence[DecodedCondition]) -> DecodedCondition:
    """Join one kind's results of several folds. Averages stay within folds, because each fold has its own decoder.

    Parameters
    ----------
    parts : sequence of DecodedCondition
        Results of each fold.
    """
    if len(parts) == 1:
        return parts[0]

    def layers(per_part: Sequence[Mapping[str, Float32Array]]) -> dict[str, Float32Array]:
        return {layer: np.concatenate([features[layer] for features in per_part]) for layer in per_part[0]}

    return DecodedCondition(
        categories=tuple(category for part in parts for category in part.categories),
        predicted=layers([part.predicted for part in parts]),
        true=layers([part.true for part in parts]),
        blocks=_all([part.blocks for part in parts]),
        by_layer=layers([part.by_layer for part in parts]),
        windows=_all_there([part.windows for part in parts]),
        earliest=_all_there([part.earliest for part in parts]),
        averages=_all_there([part.averages for part in parts]),
    )


def _averages(
    categories: Sequence[str], predicted: Mapping[str, Float32Array], blocks: CandidateScores, index: CategoryIndex
) -> CandidateScores:
    # The decoder is linear: the mean of decoded samples equals the decoded mean.
    features = {layer: averaged_by(categories, values)[1].astype(np.float32) for layer, values in predicted.items()}
    names = list(dict.fromkeys(categories))
    rows = [np.flatnonzero(np.array(categories) == name) for name in names]
    true = np.array([blocks.true[members[0]] for members in rows], np.int32)
    n_volumes = np.array([blocks.n_volumes[members].sum() for members in rows], np.int32)
    n_blocks = np.array([len(members) for members in rows], np.int32)
    runs = (", ".join(dict.fromkeys(blocks.runs)),) * len(rows)
    return _ranked(index, features, true, n_volumes, n_blocks, runs)


def _rows(features: Mapping[str, Float32Array]) -> list[Features]:
    n = len(next(iter(features.values())))
    return [Features(i, {layer: values[i] for layer, values in features.items()}) for i in range(n)]


def _ranked(
    index: CategoryIndex,
    features: Mapping[str, Float32Array],
    true: Int32Array,
    n_volumes: Int32Array,
    n_blocks: Int32Array,
    runs: tuple[str, ...],
) -> CandidateScores:
    return CandidateScores(np.stack([index.scores(row) for row in _rows(features)]), true, n_volumes, n_blocks, runs)


def _all_there(parts: Sequence[CandidateScores | None]) -> CandidateScores | None:
    present = [part for part in parts if part is not None]
    return _all(present) if present else None


def _all(parts: Sequence[CandidateScores]) -> CandidateScores:
    return CandidateScores(
        scores=np.concatenate([part.scores for part in parts]),
        true=np.concatenate([part.true for part in parts]),
        n_volumes=np.concatenate([part.n_volumes for part in parts]),
        n_blocks=np.concatenate([part.n_blocks for part in parts]),
        runs=tuple(run for part in parts for run in part.runs),
    )
