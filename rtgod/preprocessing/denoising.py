"""Series freed from what is no signal, causally: every number rests on the volumes so far alone.

A series is a voxel's intensity. Recursive least squares fits nuisance regressors and the responses
to trials together, so that neither is taken for the other; see `rtgod.preprocessing.design_matrix` for the
regressors and `rtgod.preprocessing.recursive_least_squares` for the fit.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from rtgod.messages import BoolArray, Float32Array, Float64Array, Motion, Run
from rtgod.preprocessing.design_matrix import Design
from rtgod.preprocessing.recursive_least_squares import RecursiveLeastSquares
from rtgod.settings import PipelineSettings
from rtgod.state import Stateful

#: A voxel whose baseline is below this share of the voxels' median carries no signal: its change is given as 0.
_LEAST_BASELINE = 0.05
#: Volumes that a standard deviation must rest on before values are clipped by it.
_SD_VOLUMES = 10
#: A prediction with a larger variance than this, in units of the noise, says nothing of the noise.
_LARGEST_VARIANCE = 4.0
#: A trial of which less than this share of the prior variance is gone has not been seen yet.
_LEAST_RELIABILITY = 1e-3


class Denoised(NamedTuple):
    """One volume's series.

    Attributes
    ----------
    values : ndarray of shape (n_series,), float32
        Change against the baseline that was predicted from the volumes before.
    residual : ndarray of shape (n_series,), float32
        What neither nuisance nor trials foretold, in the unit of `values`; its standard deviation is the noise's.
    """

    values: Float32Array
    residual: Float32Array


class Denoiser(Stateful):
    """Frees series from drift, motion and noise components, and estimates responses to trials; one instance per run.

    Parameters
    ----------
    n_series : int
    run : Run
    settings : PipelineSettings
        Of which nuisance, response, scaling, the window's mode and clipping count.
    n_components : int
        Noise components that each volume comes with.
    """

    changing: ClassVar = {
        "_seen": BoolArray,
        "_squares": Float64Array,
        "_n_squares": int,
        "_frozen": tuple[Float64Array, Float64Array] | None,
        "n_volumes": int,
    }
    parts = ("_design", "_fit")

    def __init__(self, n_series: int, run: Run, settings: PipelineSettings, n_components: int) -> None:
        follows_trials = bool(run.blocks) and settings.window.mode != "sliding"
        self._settings = settings
        self._design = Design(run, settings.nuisance, settings.response, n_components, follows_trials)
        self._fit = RecursiveLeastSquares(n_series, self._design.prior_sd)
        self._seen = np.zeros(n_series, bool)
        self._squares = np.zeros(n_series)
        self._n_squares = 0
        self._frozen: tuple[Float64Array, Float64Array] | None = None
        self.n_volumes = 0

    @property
    def ready(self) -> bool:
        """Whether enough clean volumes have been seen to predict the next one."""
        return self.n_volumes >= self._settings.nuisance.warm_up_volumes

    def step(
        self, index: int, values: Float32Array, motion: Motion, gain: float, components: Float64Array, censored: bool
    ) -> Denoised | None:
        """Take the next volume in.

        Parameters
        ----------
        index : int
            Larger than before.
        values : ndarray of shape (n_series,), float32
            NaN where a voxel lies outside the field of view.
        motion : Motion
        gain : float
            Brightness of the head as a share of the template's.
        components : ndarray of shape (n_components,), float64
        censored : bool
            Whether nothing must be learned from it.

        Returns
        -------
        Denoised or None
            None while the baseline is still being learned.
        """
        for column in self._design.starting(index):
            self._fit.restart(column, self._settings.response.sd)
        row = self._design.row(index, motion, gain, components)
        if not censored:
            self._start_late_series(values)
        known = np.isfinite(values) & self._seen
        nuisance_row = row.copy()
        nuisance_row[self._design.n_nuisance :] = 0.0
        predicted, baseline, variance = self._fit.predict(row), self._fit.predict(nuisance_row), self._fit.variance(row)
        innovation = np.where(known, values - predicted, 0.0)
        clipped = self._clip(innovation, variance)
        found = self._scaled(index, known, predicted - baseline, clipped, variance) if self.ready else None
        if not censored:
            self._learn(row, clipped, variance)
        return found

    def response(self, trial: int) -> Float32Array | None:
        """Estimated response to a trial from all volumes so far, at the height of a lasting one's; shape (n_series,).

        Unbiased for this trial: the prior's shrinkage is undone. None for a trial that nothing has been seen of.
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

    def answered(self, index: int) -> dict[int, float]:
        """Trials that volume `index` answers, and how far the expected response to each has got."""
        return self._design.answered(index)

    def _start_late_series(self, values: Float32Array) -> None:
        """Start a voxel that enters the field of view late from its first value: the common gain has fallen by then."""
        first = np.isfinite(values) & ~self._seen
        if first.any():
            self._fit.coefficients[first] = 0.0
            self._fit.coefficients[first, 0] = values[first]
            self._seen |= first

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
        self, index: int, known: BoolArray, responses: Float64Array, innovation: Float64Array, variance: float
    ) -> Denoised:
        level, sd = self._reference()
        freezes = self._settings.scaling.baseline == "frozen" and self._frozen is None
        if freezes and self._design.baseline_is_over(index):
            self._frozen = level, sd = level.copy(), sd.copy()
        moved = self._fit.coefficients[:, 0] - level  # nothing, unless the baseline is frozen
        return Denoised(
            self._in_unit(moved + responses + innovation, level, sd, known),
            self._in_unit(innovation / np.sqrt(variance), level, sd, known),
        )

    def _reference(self) -> tuple[Float64Array, Float64Array]:
        """Level and standard deviation of the noise of each series."""
        if self._frozen:
            return self._frozen
        return self._fit.coefficients[:, 0], np.sqrt(self._squares / max(self._n_squares, 1))

    def _in_unit(self, change: Float64Array, level: Float64Array, sd: Float64Array, usable: BoolArray) -> Float32Array:
        usable = usable & (level > max(_LEAST_BASELINE * float(np.median(level)), 0.0))
        scale = level / 100.0 if self._settings.scaling.unit == "percent" else sd
        out = np.zeros(len(change))
        np.divide(change, scale, out=out, where=usable & (scale > 0))
        return out.astype(np.float32)
