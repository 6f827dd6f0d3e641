"""Causal removal of drift, motion and noise from series: every number depends only on the volumes so far.

A series is the intensity of one voxel over volumes. Recursive least squares fits nuisance regressors and the responses
to trials together, so that neither is taken for the other; see `rtgod.preprocessing.design_matrix` for the regressors
and `rtgod.preprocessing.recursive_least_squares` for the fit.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from rtgod.messages import BoolArray, Float32Array, Float64Array, Motion, Run
from rtgod.preprocessing.crosstalk import Crosstalk
from rtgod.preprocessing.design_matrix import Design
from rtgod.preprocessing.recursive_least_squares import RecursiveLeastSquares
from rtgod.settings import PipelineSettings
from rtgod.state import Stateful

#: A voxel whose baseline is below this share of the voxels' median carries no signal: its change is given as 0.
_LEAST_BASELINE = 0.05
#: Least number of volumes in a standard deviation that is used to clip values.
_SD_VOLUMES = 10
#: Largest variance of a prediction, in units of the noise variance, whose error is used to estimate the noise.
_LARGEST_VARIANCE = 4.0
#: Below this reduction of the prior variance a trial counts as not yet seen.
_LEAST_RELIABILITY = 1e-3


class Denoised(NamedTuple):
    """Denoised values of all series in one volume.

    Attributes
    ----------
    values : ndarray of shape (n_series,), float32
        Change against the baseline that was predicted from earlier volumes, in the unit that the settings choose.
    residual : ndarray of shape (n_series,), float32
        Part that neither nuisance regressors nor trials predicted, in the unit of `values`, scaled so that its standard
        deviation is that of the noise.
    """

    values: Float32Array
    residual: Float32Array


class Denoiser(Stateful):
    """Filter that removes drift, motion and noise from series, and estimates responses to trials; one instance per run.

    Parameters
    ----------
    n_series : int
    run : Run
    settings : PipelineSettings
        Only `nuisance`, `response`, `scaling`, the window's mode and the clipping limit are used.
    n_components : int
        Number of noise components, whose values come with each volume.
    """

    changing: ClassVar = {
        "_seen": BoolArray,
        "_squares": Float64Array,
        "_n_squares": int,
        "_frozen": tuple[Float64Array, Float64Array] | None,
        "n_volumes": int,
    }
    parts = ("_design", "_fit", "_crosstalk")

    def __init__(self, n_series: int, run: Run, settings: PipelineSettings, n_components: int) -> None:
        follows_trials = settings.window.mode != "sliding"
        self._knows_trials = bool(run.blocks)
        self._settings = settings
        self._design = Design(run, settings.nuisance, settings.response, n_components, follows_trials)
        self._fit = RecursiveLeastSquares(n_series, self._design.prior_sd)
        n_trials = len(self._design.prior_sd) - self._design.n_nuisance
        self._crosstalk = Crosstalk(len(settings.response.peaks_s), self._design.n_nuisance, n_trials)
        self._seen = np.zeros(n_series, bool)
        self._squares = np.zeros(n_series)
        self._n_squares = 0
        self._frozen: tuple[Float64Array, Float64Array] | None = None
        self.n_volumes = 0

    def extend(self, run: Run) -> None:
        """Take in trials that the run did not list before.

        What follows is as if they had been known from the start, if none of them has begun.

        Parameters
        ----------
        run : Run
            The run, with new trials after those known, each of which begins later than all before it.
        """
        self._design.extend(run)
        self._fit.extend(self._design.prior_sd)
        self._crosstalk.extend(len(self._design.prior_sd) - self._design.n_nuisance)
        if not self._knows_trials:
            self._frozen = None  # a baseline ends with the first trial, and was over at once without any
        self._knows_trials = bool(run.blocks)

    @property
    def ready(self) -> bool:
        """Whether enough clean volumes were learned from to predict the next one."""
        return self.n_volumes >= self._settings.nuisance.warm_up_volumes

    def step(
        self, index: int, values: Float32Array, motion: Motion, gain: float, components: Float64Array, censored: bool
    ) -> Denoised | None:
        """Denoise the next volume, and learn from it unless it is censored.

        Parameters
        ----------
        index : int
            Index of the volume; larger than in the call before.
        values : ndarray of shape (n_series,), float32
            Intensities; NaN for voxels outside the field of view.
        motion : Motion
        gain : float
            Brightness of the head, relative to the template's.
        components : ndarray of shape (n_components,), float64
            Values of the noise components in this volume.
        censored : bool
            Whether the volume must not be learned from.

        Returns
        -------
        Denoised or None
            None while the baseline is still being learned.
        """
        for column in self._design.starting(index):
            self._fit.restart(column, self._settings.response.sd)
            self._crosstalk.restart(column)
        row = self._design.row(index, motion, gain, components)
        if not censored:
            self._start_late_series(values)
        measured = np.isfinite(values) & self._seen
        nuisance_row = row.copy()
        nuisance_row[self._design.n_nuisance :] = 0.0
        predicted, baseline, variance = self._fit.predict(row), self._fit.predict(nuisance_row), self._fit.variance(row)
        innovation = np.where(measured, values - predicted, 0.0)
        clipped = self._clip(innovation, variance)
        denoised = self._scaled(index, measured, predicted - baseline, clipped, variance) if self.ready else None
        if not censored:
            self._crosstalk.learn(row, self._design.responses(index), self._fit.gain(row))
            self._learn(row, clipped, variance)
        return denoised

    def response(self, trial: int) -> Float32Array | None:
        """Estimate the response to a trial from all volumes so far, as the height of a lasting response; (n_series,).

        The estimate is unbiased for this trial, as the prior's shrinkage is undone. None for a trial not yet seen.

        Parameters
        ----------
        trial : int
            Position in `Run.blocks`.
        """
        column = self._design.column_of(trial)
        if column is None:
            return None
        reliability = 1.0 - self._fit.covariance[column, column] / self._settings.response.sd**2
        if reliability < _LEAST_RELIABILITY:
            return None
        estimate = self._fit.coefficients[:, column] / reliability
        level, sd = self._reference()
        return self._in_unit(estimate, level, sd, np.isfinite(estimate))

    def crosstalk(self, trial: int) -> float:
        """Return the largest share of another trial's response in the estimate of this one, relative to its own.

        It is the largest within the uncertainty of the peak; infinite for a trial not yet seen.

        Parameters
        ----------
        trial : int
            Position in `Run.blocks`.
        """
        column = self._design.column_of(trial)
        return np.inf if column is None else self._crosstalk.of(column)

    def answered(self, index: int) -> dict[int, float]:
        """Return the trials whose responses volume `index` contains, and the expected response to each.

        Parameters
        ----------
        index : int
        """
        return self._design.answered(index)

    def _start_late_series(self, values: Float32Array) -> None:
        """Start voxels that enter the field of view late from their first values, as the common gain is low by then."""
        entering = np.isfinite(values) & ~self._seen
        if entering.any():
            self._fit.coefficients[entering] = 0.0
            self._fit.coefficients[entering, 0] = values[entering]
            self._seen |= entering

    def _clip(self, innovation: Float64Array, variance: float) -> Float64Array:
        n_sd = self._settings.censoring.clip_sd
        if not n_sd or self._n_squares < _SD_VOLUMES:
            return innovation
        limit = n_sd * np.sqrt(variance * self._squares / self._n_squares)
        return np.clip(innovation, -limit, limit)

    def _learn(self, row: Float64Array, innovation: Float64Array, variance: float) -> None:
        self._fit.update(row, innovation)
        self.n_volumes += 1
        if variance < _LARGEST_VARIANCE:
            self._squares += np.square(innovation) / variance
            self._n_squares += 1

    def _scaled(
        self, index: int, measured: BoolArray, responses: Float64Array, innovation: Float64Array, variance: float
    ) -> Denoised:
        level, sd = self._reference()
        freezes = self._settings.scaling.baseline == "frozen" and self._frozen is None
        if freezes and self._design.baseline_is_over(index):
            self._frozen = level, sd = level.copy(), sd.copy()
        moved = self._fit.coefficients[:, 0] - level  # 0, unless the baseline is frozen
        return Denoised(
            self._in_unit(moved + responses + innovation, level, sd, measured),
            self._in_unit(innovation / np.sqrt(variance), level, sd, measured),
        )

    def _reference(self) -> tuple[Float64Array, Float64Array]:
        """Return the baseline level of each series, and the standard deviation of its noise."""
        if self._frozen:
            return self._frozen
        return self._fit.coefficients[:, 0], np.sqrt(self._squares / max(self._n_squares, 1))

    def _in_unit(self, change: Float64Array, level: Float64Array, sd: Float64Array, usable: BoolArray) -> Float32Array:
        usable = usable & (level > max(_LEAST_BASELINE * float(np.median(level)), 0.0))
        scale = level / 100.0 if self._settings.scaling.unit == "percent" else sd
        out = np.zeros(len(change))
        np.divide(change, scale, out=out, where=usable & (scale > 0))
        return out.astype(np.float32)
