"""Incremental detrending: percent signal change against a baseline that is predicted from the past only.

Each voxel's baseline is a local linear trend (Harvey 1989, ch. 2): a level that wanders slowly plus a slope with a
prior of zero, followed by a Kalman filter. The model is the same for every voxel, so one 2 × 2 covariance and one gain
serve all of them. The prior matters early in a run, where a free line would follow the noise.
"""

from __future__ import annotations

import numpy as np

from rtgod.messages import Float32Array, Float64Array
from rtgod.settings import BaselineSettings

#: Variance of the level before the first volume, in units of the noise variance: as good as unknown.
DIFFUSE = 1e8
#: A voxel whose baseline is below this share of the voxels' median carries no signal: its change is given as 0.
_LEAST_BASELINE = 0.05


class Baseline:
    """Predicts each voxel's baseline; one instance per run.

    Parameters
    ----------
    n_voxels : int
    tr_s : float
    settings : BaselineSettings
    """

    def __init__(self, n_voxels: int, tr_s: float, settings: BaselineSettings) -> None:
        self._settings = settings
        self._tr_s = tr_s
        self._state = np.zeros((2, n_voxels))
        self._seen = np.zeros(n_voxels, bool)
        self._covariance = np.diag([DIFFUSE, settings.slope_sd**2])
        self._last_index = 0
        self.n_volumes = 0

    @property
    def ready(self) -> bool:
        """Whether enough clean volumes have been seen to predict."""
        return self.n_volumes >= self._settings.warm_up_volumes

    def settled(self, index: int) -> bool:
        """Whether volume `index` comes after the volumes that are discarded at the start of a run."""
        return index * self._tr_s >= self._settings.discard_s - 1e-6

    def predict(self, index: int) -> Float64Array:
        """Baseline of volume `index` from the volumes before it: intensities of shape (n_voxels,)."""
        elapsed, _ = self._elapse(index)
        return self._state[0] + elapsed * self._state[1]

    def change(self, index: int, values: Float32Array) -> Float32Array:
        """Percent signal change of one volume against its predicted baseline, without learning from it.

        Parameters
        ----------
        index : int
        values : ndarray of shape (n_voxels,), float32
            Intensities; NaN outside the field of view.

        Returns
        -------
        ndarray of shape (n_voxels,), float32
            0 where the value or the baseline is missing.
        """
        predicted = self.predict(index)
        usable = np.isfinite(values) & (predicted > max(_LEAST_BASELINE * float(np.median(predicted)), 0.0))
        change = np.zeros(values.shape)
        np.divide(100.0 * (values - predicted), predicted, out=change, where=usable)
        return change.astype(np.float32)

    def update(self, index: int, values: Float32Array) -> None:
        """Learn from one clean volume; `values` as in `change`, `index` larger than before."""
        elapsed, covariance = self._elapse(index)
        self._state[0] += elapsed * self._state[1]
        gain = covariance[:, 0] / (covariance[0, 0] + 1.0)
        innovation = values - self._state[0]
        finite = np.isfinite(innovation)
        self._state += np.outer(gain, np.where(finite, innovation, 0.0))
        # A voxel that enters the field of view late starts from its first value: the common gain has fallen by then.
        first = finite & ~self._seen
        self._state[0, first] = values[first]
        self._state[1, first] = 0.0
        self._seen |= finite
        self._covariance = covariance - np.outer(gain, covariance[0])
        self._last_index = index
        self.n_volumes += 1

    def _elapse(self, index: int) -> tuple[float, Float64Array]:
        """Time since the last volume in units of the memory, and the covariance predicted for `index`."""
        volumes = index - self._last_index if self.n_volumes else 0
        elapsed = volumes * self._tr_s / self._settings.memory_s
        transition = np.array([[1.0, elapsed], [0.0, 1.0]])
        covariance = transition @ self._covariance @ transition.T
        # With this much wandering per volume the filter's steady gain is about one volume's share of the memory.
        covariance[0, 0] += volumes * (self._tr_s / self._settings.memory_s) ** 2
        return elapsed, covariance
