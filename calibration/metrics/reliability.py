"""Reliability of predicted probabilities: how often what they are about comes true.

The expected calibration error is the mean distance of prediction and outcome over bins. It is never negative, so that
chance alone makes it positive, the more so the fewer rankings there are: 0.05 with 600 perfectly predicted rankings at
0.5, in ten bins. `calibration` therefore gives beside it what perfect predictions would have, and what is left.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from rtgod.messages import Array, Float64Array

#: Maximum number of bins, and fewest rankings in a bin.
MOST_BINS, FEWEST_IN_BIN = 10, 30
#: Draws of outcomes that the error of perfect predictions is averaged over.
_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration error of predicted probabilities, against that of perfect ones.

    Attributes
    ----------
    error : float
        Expected calibration error in bins of about equal counts.
    of_chance : float
        Its mean if outcomes came as predicted: by chance alone.
    excess : float
        Error beyond chance: the root of error² − of_chance², 0 if that is negative.
    """

    error: float
    of_chance: float

    @property
    def excess(self) -> float:
        """Error beyond chance."""
        return float(np.sqrt(max(self.error**2 - self.of_chance**2, 0.0)))


def calibration(
    p: Array, hit: Array, units: Sequence[Hashable] | None = None, n_bins: int | None = None
) -> Calibration:
    """Compute the calibration error, and what chance alone would make of it.

    Parameters
    ----------
    p : ndarray of shape (n_rankings,), float
        Predicted probabilities.
    hit : ndarray of shape (n_rankings,), bool
        Outcomes.
    units : sequence of hashable, optional
        Trial of each ranking: if chance is with one ranking of a trial, it is with all, so that they count as one.
        By default each ranking is its own.
    n_bins : int, optional
        Maximum number of bins, by default `n_bins_for`.
    """
    unit = np.arange(len(p)) if units is None else _numbered(units)
    luck = np.random.default_rng(0).uniform(size=(_DRAWS, unit.max(initial=-1) + 1))
    by_chance = [calibration_error(p, draw[unit] < p, n_bins) for draw in luck]
    return Calibration(calibration_error(p, hit, n_bins), float(np.mean(by_chance)))


def n_bins_for(n: int) -> int:
    """Choose the number of bins: as many as `FEWEST_IN_BIN` allows, up to `MOST_BINS`.

    Parameters
    ----------
    n : int
        Number of rankings.
    """
    return min(max(n // FEWEST_IN_BIN, 1), MOST_BINS)


def reliability_bins(p: Array, hit: Array, n_bins: int | None = None) -> tuple[Float64Array, Float64Array, Array]:
    """Compare predictions with outcomes in bins of about equal counts; equal predictions share a bin.

    Parameters
    ----------
    p, hit : ndarray of shape (n_rankings,)
        Predicted probabilities, and outcomes.
    n_bins : int, optional
        Maximum number of bins, by default `n_bins_for`.

    Returns
    -------
    predicted, observed : ndarray of shape (n_found,), float64
        Mean prediction and share of hits in each bin.
    count : ndarray of shape (n_found,), int
    """
    n_bins = n_bins or n_bins_for(len(p))
    # Edges are predictions that occur, so that no bin is empty.
    edges = np.unique(np.quantile(p, np.arange(n_bins) / n_bins, method="higher"))
    of_bin = np.searchsorted(edges[1:], p, side="right")
    count = np.bincount(of_bin)
    return np.bincount(of_bin, p) / count, np.bincount(of_bin, hit) / count, count


def brier_score(p: Array, hit: Array) -> float:
    """Return the mean squared difference of prediction and outcome (Brier 1950); 0 is best.

    Parameters
    ----------
    p : ndarray of shape (n_rankings,), float
        Predicted probabilities.
    hit : ndarray of shape (n_rankings,), bool
        Outcomes.
    """
    return float(np.square(p - hit).mean())


def calibration_error(p: Array, hit: Array, n_bins: int | None = None) -> float:
    """Return the expected calibration error: mean distance of predicted and observed over bins, by their counts.

    Parameters
    ----------
    p : ndarray of shape (n_rankings,), float
        Predicted probabilities.
    hit : ndarray of shape (n_rankings,), bool
        Outcomes.
    n_bins : int, optional
        Maximum number of bins, by default `n_bins_for`.
    """
    predicted, observed, count = reliability_bins(p, hit, n_bins)
    return float(np.average(np.abs(predicted - observed), weights=count))


def _numbered(units: Sequence[Hashable]) -> Array:
    position = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    return np.array([position[unit] for unit in units], np.int64)
