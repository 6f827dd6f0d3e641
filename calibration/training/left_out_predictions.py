"""Predictions of training samples by decoders that know as little of them as the bundle will know of a new run.

Whitening, decoder and the presence of a response are all learned without the run of what they are applied to: patterns
of a run whose noise the whitening knows are smaller, cleaner and easier to decode than those of a run to come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.decoders.registry import QUICK, make_decoder
from calibration.decoders.ridge import fit_layers, predict_layers
from calibration.decoders.settings import DecoderSettings
from calibration.samples.study import Samples, Windows
from calibration.samples.whitening import Whitening
from calibration.training.fit import Trained
from calibration.training.folds import N_FOLDS, leave_groups_out
from rtgod.messages import Array, BoolArray, Float32Array, Int32Array

#: Folds of runs and of categories for decoders that fit quickly; others have `N_FOLDS`.
_QUICK_FOLDS = 10
#: Number of trials from which on not every pair of run and category is left out together: each pair is another fit.
_ENOUGH_TRIALS = 400
#: Fewest runs that whiten a run that is left out of them: by the noise of a single one, chances came out far too low.
_FEWEST_RUNS = 2
#: Number of noise patterns that measure how strongly decoders respond.
_NOISE_PATTERNS = 100


@dataclass(frozen=True, slots=True, eq=False)
class RunFold:
    """Samples of all runs, whitened as for a decoder of some.

    Attributes
    ----------
    kept, left_out : ndarray of shape (n_kept,), (n_left_out,), int
        Rows of the samples.
    samples : Samples
        All samples with their windows, whitened by the noise of the kept runs.
    """

    kept: Array
    left_out: Array
    samples: Samples


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predicted features of windows by decoders of folds.

    Attributes
    ----------
    layers : mapping of str to ndarray of shape (n_windows, n_units), float32
    fold : ndarray of shape (n_windows,), int32
        Number of the fold that predicted each window; −1 for windows that no fold predicted.
    kept_categories : sequence of frozenset of str
        Categories that the decoder of each fold was trained on.
    """

    layers: Mapping[str, Float32Array]
    fold: Int32Array
    kept_categories: Sequence[frozenset[str]]

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.kept_categories)

    def are_new_to(self, fold: int, ids: Sequence[str]) -> BoolArray:
        """Mark the categories that the decoder of a fold was not trained on: shape (n_ids,), bool.

        Parameters
        ----------
        fold : int
        ids : sequence of str
        """
        kept = self.kept_categories[fold]
        return np.array([category not in kept for category in ids], bool)


class _Collected:
    """Predictions that are being filled."""

    def __init__(self, n_windows: int, samples: Samples) -> None:
        self.layers = {layer: np.zeros((n_windows, Y.shape[1]), np.float32) for layer, Y in samples.Y.items()}
        self.fold = np.full(n_windows, -1, np.int32)
        self.kept_categories: list[frozenset[str]] = []

    def put(self, rows: BoolArray, kept_categories: frozenset[str], predicted: Mapping[str, Array]) -> None:
        for layer, values in predicted.items():
            self.layers[layer][rows] = values
        self.fold[rows] = len(self.kept_categories)
        self.kept_categories.append(kept_categories)

    def done(self) -> Predictions:
        return Predictions(self.layers, self.fold, tuple(self.kept_categories))


def run_folds(samples: Samples, whitening: Whitening | None, n_folds: int) -> Iterator[RunFold]:
    """Leave runs out in turn, and whiten all samples by the noise of the others; one run is both kept and left out.

    Parameters
    ----------
    samples : Samples
        Samples with their windows, not whitened.
    whitening : Whitening or None
        None leaves the samples unchanged.
    n_folds : int
        Maximum number of folds.
    """
    for kept, left_out in leave_groups_out(samples.runs, n_folds):
        runs = {samples.runs[row] for row in left_out}
        shape = None if whitening is None else whitening.shape_without(runs, _FEWEST_RUNS)
        yield RunFold(kept, left_out, samples.whitened(shape))


def n_folds_for(decoder: DecoderSettings) -> int:
    """Return the number of folds of runs, and of categories.

    Parameters
    ----------
    decoder : DecoderSettings
    """
    return _QUICK_FOLDS if decoder.name in QUICK else N_FOLDS


class LeftOutPredictor:
    """Predicts, fold by fold, every window without its run, and some windows without their run and category.

    Parameters
    ----------
    samples : Samples
        Training samples with their windows.
    trained : Trained
        Decoder of all samples; decoders of folds use its penalties.
    decoder : DecoderSettings
    in_scale : bool
        Whether to stretch predictions about their mean until noise varies them as much as those of the decoder of all
        samples: a decoder of more samples responds more strongly to everything, noise included.
    without_categories : bool
        Whether to leave out categories as well.
    """

    def __init__(
        self,
        samples: Samples,
        trained: Trained,
        decoder: DecoderSettings,
        *,
        in_scale: bool,
        without_categories: bool,
    ) -> None:
        self._trained, self._decoder, self._in_scale = trained, decoder, in_scale
        windows = windows_of(samples)
        self._without_run = _Collected(len(windows.of), samples)
        self._without_both = _Collected(len(windows.of), samples) if without_categories else None
        self._category_folds: list[Array] = []
        if without_categories:
            folds = leave_groups_out(samples.categories, n_folds_for(decoder))
            self._category_folds = [left_out for _, left_out in folds]
        self._noise = np.zeros((0, samples.X.shape[1]), np.float32)
        if in_scale:
            white = np.random.default_rng(0).standard_normal((_NOISE_PATTERNS, samples.X.shape[1]))
            self._noise = (white * trained.voxel_sd).astype(np.float32)
            of_all = trained.decoder()
            decoded = [of_all.decode(0, x).layers for x in self._noise]
            self._loudness = {layer: np.stack([each[layer] for each in decoded]).std(axis=0) for layer in samples.Y}

    def take(self, fold: RunFold, number: int) -> None:
        """Predict what a fold leaves out.

        Parameters
        ----------
        fold : RunFold
        number : int
            Number of the fold, from 0; it chooses the categories that are left out as well.
        """
        samples, of = fold.samples, windows_of(fold.samples).of
        self._fit_and_predict(samples, fold.kept, np.isin(of, fold.left_out), self._without_run)
        if self._without_both is None:
            return
        for categories in self._categories_with(number, len(samples), alone=len(fold.kept) == len(samples)):
            kept = np.setdiff1d(fold.kept, categories)
            rows = np.isin(of, np.intersect1d(fold.left_out, categories))
            if len(kept) and rows.any():
                self._fit_and_predict(samples, kept, rows, self._without_both)

    def _categories_with(self, number: int, n_samples: int, *, alone: bool) -> list[Array]:
        """Return rows of the categories to leave out beside a fold of runs: all in turn if samples are few."""
        n = len(self._category_folds)
        n_chosen = min(-(-_ENOUGH_TRIALS * n // n_samples), n) if self._decoder.name == "ridge" else 1
        n_chosen = n if alone else n_chosen
        return [self._category_folds[(number + i) % n] for i in range(n_chosen)]

    def _fit_and_predict(self, samples: Samples, kept: Array, rows: BoolArray, into: _Collected) -> None:
        X = np.concatenate([windows_of(samples).X[rows], self._noise])
        kept_features = {layer: Y[kept] for layer, Y in samples.Y.items()}
        if self._decoder.name == "ridge":
            penalties = {layer: value for layer, value in self._trained.penalties.items() if value is not None}
            decoded = predict_layers(fit_layers(samples.X[kept], kept_features, penalties), X)
        else:
            model = make_decoder(self._decoder)
            decoded = {layer: model.fit(samples.X[kept], Y).predict(X) for layer, Y in kept_features.items()}
        n_rows = int(rows.sum())
        predicted = {layer: self._stretched(layer, values, n_rows) for layer, values in decoded.items()}
        into.put(rows, frozenset(samples.categories[row] for row in kept), predicted)

    def _stretched(self, layer: str, values: Array, n_rows: int) -> Array:
        if not self._in_scale:
            return values
        mean, quiet = self._trained.layers[layer].unit_mean, values[n_rows:].std(axis=0)
        stretch = float(np.mean(self._loudness[layer]) / np.mean(quiet)) if quiet.any() else 1.0
        return np.asarray(mean + (values[:n_rows] - mean) * stretch)

    def done(self) -> tuple[Predictions, Predictions | None]:
        """Return the predictions without runs, and those without runs and categories."""
        return self._without_run.done(), self._without_both.done() if self._without_both is not None else None


def windows_of(samples: Samples) -> Windows:
    """Return the windows of samples; complete samples whose windows are unknown are one each.

    Parameters
    ----------
    samples : Samples
    """
    if samples.windows is not None:
        return samples.windows
    n = len(samples)
    return Windows(np.arange(n, dtype=np.int32), np.ones(n, np.int32), samples.X)
