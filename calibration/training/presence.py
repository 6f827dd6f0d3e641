"""Learn to tell a response from none, by the part of patterns that all responses share and by noise alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from calibration.decoders.columns import column_moments
from calibration.decoders.ridge import PENALTIES_PER_VOXEL
from calibration.samples.study import Samples, Windows
from calibration.training.folds import N_FOLDS
from calibration.training.left_out_predictions import RunFold, run_folds, windows_of
from rtgod.decoding.chances import Presence
from rtgod.messages import Array, Float32Array, Float64Array

#: Assumed share of rankings without a response: nobody looks, or the scanner sees none.
NO_RESPONSE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class LearnedPresence:
    """Presence of a response, learned from training samples.

    Attributes
    ----------
    weights : ndarray of shape (n_voxels,), float32
        Weights whose product with a pattern is about 1 for a response, and 0 for none.
    left_out : ndarray of shape (n_windows,), float64
        Product for each window, with weights learned from other runs.
    presence : Presence
        Log odds of a response, given the product.
    """

    weights: Float32Array
    left_out: Float64Array
    presence: Presence


class PresenceLearner:
    """Learns the part of patterns that all trials share, fold by fold of runs, and noise from differences of trials.

    The weights are those of a ridge regression through the origin whose target is 1 for every trial. Noise alone is the
    difference of two trials' patterns over √2: their common part cancels, and noise keeps its size. The two are from
    different runs, because the part that a run has to itself is noise, and from one category if possible.

    Parameters
    ----------
    samples : Samples
        Training samples.
    """

    def __init__(self, samples: Samples) -> None:
        self._left_out = np.empty((len(PENALTIES_PER_VOXEL), len(windows_of(samples).of)))

    def take(self, fold: RunFold) -> None:
        """Learn from the kept runs of a fold, and apply this to those left out.

        Parameters
        ----------
        fold : RunFold
        """
        windows, X = windows_of(fold.samples), fold.samples.X[fold.kept]
        rows = np.isin(windows.of, fold.left_out)
        sd = column_moments(X.astype(np.float64))[1]
        kernel = (X / sd) @ (X / sd).T
        similarity = (windows.X[rows] @ (X / np.square(sd)).astype(np.float32).T).astype(np.float64)
        for response, penalty in zip(self._left_out, PENALTIES_PER_VOXEL, strict=True):
            response[rows] = similarity @ _dual(kernel, penalty * X.shape[1])

    def learned(self, samples: Samples) -> LearnedPresence | None:
        """Choose the penalty, and learn weights from all samples.

        Parameters
        ----------
        samples : Samples
            Samples as given to the decoder.

        Returns
        -------
        LearnedPresence or None
            None with one run, or if responses cannot be told from noise.
        """
        windows = windows_of(samples)
        if len(set(samples.runs)) < 2:
            return None
        partners, is_response = _partners(samples), np.arange(2 * len(windows.of)) < len(windows.of)
        best: tuple[float, float, Float64Array, Presence] | None = None
        for response, penalty in zip(self._left_out, PENALTIES_PER_VOXEL, strict=True):
            values = np.concatenate([response, (response - response[partners]) / np.sqrt(2)])
            loss, presence = _fit(values, is_response, windows, len(samples))
            if presence is not None and (best is None or loss < best[0]):
                best = loss, penalty * samples.X.shape[1], response, presence
        if best is None:
            return None
        _, alpha, response, presence = best
        sd = column_moments(samples.X.astype(np.float64))[1]
        weights = (samples.X / sd).T @ _dual((samples.X / sd) @ (samples.X / sd).T, alpha) / sd
        return LearnedPresence(weights.astype(np.float32), response, presence)


def learn_presence(samples: Samples) -> LearnedPresence | None:
    """Learn the presence of a response from samples that are not to be whitened.

    Parameters
    ----------
    samples : Samples

    Returns
    -------
    LearnedPresence or None
        None with one run, or if responses cannot be told from noise.
    """
    learner = PresenceLearner(samples)
    for fold in run_folds(samples, None, N_FOLDS):
        learner.take(fold)
    return learner.learned(samples)


def _dual(kernel: Float64Array, alpha: float) -> Float64Array:
    return np.asarray(np.linalg.solve(kernel + alpha * np.eye(len(kernel)), np.ones(len(kernel))), np.float64)


def _fit(values: Float64Array, is_response: Array, windows: Windows, n_trials: int) -> tuple[float, Presence | None]:
    """Fit log odds of a response given the windows' values; return log loss and odds, None if these do not rise."""
    log_volumes = np.tile(np.log(np.maximum(windows.n_volumes, 1)), 2)
    # A trial's windows together count as one; one more trial with either label is added, so that nothing is certain.
    weight = np.tile(1 / np.bincount(windows.of)[windows.of], 2)
    doubt = 0.5 / (n_trials + 1)
    spread, middle = float(values.std()) or 1.0, float(log_volumes.mean())
    predictors = np.stack([values / spread, log_volumes - middle, values / spread * (log_volumes - middle)], axis=1)
    twice, labels = np.tile(predictors, (2, 1)), np.concatenate([is_response, ~is_response])
    weights = np.concatenate([weight * (1 - doubt), weight * doubt])
    model = LogisticRegression(C=100.0).fit(twice, labels, weights)
    likelihood = model.predict_proba(twice)[np.arange(len(labels)), labels.astype(int)]
    of_response, of_volumes, of_both = model.coef_[0].tolist()
    prior = float(np.log((1 - NO_RESPONSE) / NO_RESPONSE))
    presence = Presence(
        level=float(model.intercept_[0]) - of_volumes * middle + prior,
        response=(of_response - of_both * middle) / spread,
        volumes=of_volumes,
        response_by_volumes=of_both / spread,
        met=(float(values.min()), float(values.max())),
    )
    return float(-weights @ np.log(likelihood)), presence if of_response > 0 else None


def _partners(samples: Samples) -> Array:
    """Choose for each window one of another run's trial after about as many volumes: shape (n_windows,), int."""
    windows = windows_of(samples)
    categories, runs = np.array(samples.categories), np.array(samples.runs)
    partners = np.empty(len(windows.of), np.int64)
    for row in np.unique(windows.of):
        elsewhere = np.flatnonzero(runs != runs[row])
        same_category = elsewhere[categories[elsewhere] == categories[row]]
        choices = same_category if len(same_category) else elsewhere
        partner_windows = np.flatnonzero(windows.of == choices[np.searchsorted(choices, row) % len(choices)])
        own_windows = np.flatnonzero(windows.of == row)
        distance = np.abs(windows.n_volumes[partner_windows] - windows.n_volumes[own_windows, np.newaxis])
        partners[own_windows] = partner_windows[np.argmin(distance, axis=1)]
    return partners
