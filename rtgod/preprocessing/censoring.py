"""Censoring of volumes that differ too much from the others to be learned from."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rtgod.messages import Float32Array, Motion
from rtgod.settings import CensoringSettings
from rtgod.state import Stateful

#: Number of previous volumes whose median DVARS is the reference, and the least number for a comparison.
_DVARS_VOLUMES, _FEWEST_DVARS = 50, 5


class Censor(Stateful):
    """Detector of volumes that moved, or that differ from the one before by more than usual; one instance per run.

    Parameters
    ----------
    settings : CensoringSettings
    """

    changing: ClassVar = {"_before": Float32Array | None, "_usual": list[float]}

    def __init__(self, settings: CensoringSettings) -> None:
        self._settings = settings
        self._before: Float32Array | None = None
        self._usual: list[float] = []

    def problem_with(self, values: Float32Array, motion: Motion) -> str:
        """Return why a volume must not be used; an empty string if it may be.

        Parameters
        ----------
        values : ndarray of shape (n_voxels,), float32
            Intensities; NaN outside the field of view.
        motion : Motion
        """
        before, self._before = self._before, values
        if motion.framewise_displacement_mm > self._settings.fd_mm:
            return f"moved {motion.framewise_displacement_mm:.2f} mm in one volume"
        if before is None:
            return ""
        # DVARS (Power et al. 2012): root mean square over voxels of the change since the volume before.
        squares = np.square((values - before)[np.isfinite(values) & np.isfinite(before)], dtype=np.float64)
        dvars = float(np.sqrt(squares.mean())) if squares.size else 0.0
        usual = float(np.median(self._usual)) if len(self._usual) >= _FEWEST_DVARS else np.inf
        self._usual = [*self._usual, dvars][-_DVARS_VOLUMES:]
        if usual > 0 and dvars > self._settings.dvars_ratio * usual:
            return f"differs from the volume before {dvars / usual:.1f} times as much as is usual (DVARS)"
        return ""
