"""Shares of right blocks, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rtgod.messages import Array, Float64Array

#: Draws of the bootstrap.
N_DRAWS = 5000


class Bootstrap:
    """Draws of units with replacement: the same for all that is compared, so that differences are paired.

    Parameters
    ----------
    units : sequence of ndarray of shape (n_blocks,), int
        For each recording, the unit that each block is drawn with: its run, or itself. Each recording is drawn from
        alone.
    """

    def __init__(self, units: Sequence[Array]) -> None:
        rng = np.random.default_rng(0)
        self._weights = []
        for of_blocks in units:
            numbers = np.unique(of_blocks, return_inverse=True)[1]
            n_units = int(numbers.max()) + 1
            drawn = rng.multinomial(n_units, np.full(n_units, 1 / n_units), N_DRAWS)
            self._weights.append(drawn[:, numbers].astype(np.float64))

    def means(self, right: Sequence[Float64Array]) -> Float64Array:
        """Return the mean over all blocks in every draw, shape (N_DRAWS,).

        Parameters
        ----------
        right : sequence of ndarray of shape (n_blocks,)
            Share of each block that was right, for each recording.
        """
        total = sum(weights @ of_blocks for weights, of_blocks in zip(self._weights, right, strict=True))
        return np.asarray(total / sum(weights.sum(axis=1) for weights in self._weights))


def middle_95(draws: Float64Array) -> tuple[float, float]:
    """Return the percentiles 2.5 and 97.5.

    Parameters
    ----------
    draws : ndarray of shape (n_draws,)
    """
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
