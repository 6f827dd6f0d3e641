"""Standardisation of candidates: some score high whatever is decoded, and their scores are brought to one level.

A candidate whose features lie near the middle of all is like every decoded pattern, and one with few strong units is
like none. Calibration measures this on rankings that were left out; this module only applies it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtgod.messages import Array, Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class Standardisation:
    """What is subtracted from each candidate's score, and what the rest is multiplied by.

    Attributes
    ----------
    offset : ndarray of shape (n_candidates,), float32
        In units of the score.
    scale : ndarray of shape (n_candidates,), float32
        Positive, and about 1, so that scores keep their unit.

    Raises
    ------
    ValueError
        If the arrays differ in shape, or hold values that are not finite, or scales that are not positive.
    """

    offset: Float32Array
    scale: Float32Array

    def __post_init__(self) -> None:
        if self.offset.ndim != 1 or self.offset.shape != self.scale.shape:
            raise ValueError(
                f"candidates' offsets have shape {self.offset.shape}, and their scales {self.scale.shape}, not one each"
            )
        if not (np.isfinite(self.offset).all() and np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ValueError("candidates' offsets and scales must be finite, and scales positive")

    def select(self, rows: Array) -> Standardisation:
        """Select some candidates.

        Parameters
        ----------
        rows : ndarray of shape (n_selected,), int
        """
        return Standardisation(self.offset[rows], self.scale[rows])

    def applied(self, scores: Float32Array, rows: Array | None = None) -> Float32Array:
        """Standardise scores; return the same shape, float32.

        Parameters
        ----------
        scores : ndarray of shape (n_candidates,) or (n_rows,), float32
        rows : ndarray of shape (n_rows,), int, or None
            Candidates that the scores are of; None for all.
        """
        offset, scale = (self.offset, self.scale) if rows is None else (self.offset[rows], self.scale[rows])
        return np.asarray((scores - offset) * scale, np.float32)
