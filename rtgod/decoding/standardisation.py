"""Standardisation of candidates: some score high whatever is decoded, and their scores are brought to one level.

A candidate whose features lie near the middle of all is like every decoded pattern, and one with few strong units is
like none. Calibration measures this on rankings that were left out; this module only applies it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtgod.decoding.shortlist import COLUMNS_PER_CODE
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

    def coded(self, vectors: Float32Array, rows: Array) -> Float32Array:
        """Return vectors for a shortlist whose dot products with `coded_query` are about standardised scores.

        With a score of (level + d) / unit, d being a dot product, the standardised score times the unit is
        scale · d + (level − middle · unit) · scale + unit · scale · (middle − offset), for any middle. The middle is
        that with which the last term varies least over candidates. Each of the last two terms is a column with a code
        of its own, as codes are coarse.

        Parameters
        ----------
        vectors : ndarray of shape (n_rows, n_columns), float32
        rows : ndarray of shape (n_rows,), int
            Candidates that the vectors are of.
        """
        scale, level = self.scale[rows], self._level()[rows]
        columns = np.zeros((len(rows), 2 * COLUMNS_PER_CODE), np.float32)
        columns[:, 0], columns[:, COLUMNS_PER_CODE] = scale, level
        return np.concatenate([columns, vectors * scale[:, np.newaxis]], axis=1)

    def coded_query(self, vector: Float32Array, level: float, unit: float) -> Float32Array:
        """Return the query for such vectors.

        Parameters
        ----------
        vector : ndarray of shape (n_columns,), float32
        level, unit : float
            A score times `unit` is about `level` and a dot product.
        """
        columns = np.zeros(2 * COLUMNS_PER_CODE, np.float32)
        columns[0], columns[COLUMNS_PER_CODE] = level - self._middle() * unit, unit
        return np.concatenate([columns, vector])

    def _middle(self) -> float:
        """Return the score about which candidates are scaled."""
        scale = self.scale.astype(np.float64)
        deviation = scale - scale.mean()
        variance = float((deviation * deviation).sum())
        return float((deviation * (scale * self.offset)).sum()) / variance if variance > 0 else 0.0

    def _level(self) -> Float32Array:
        level = self.scale.astype(np.float64) * (self._middle() - self.offset)
        return (level - level.mean()).astype(np.float32)
