"""Confidence of a ranking in bundles that were made before `rtgod.decoding.chances`.

A logistic regression on properties of the ranking, fitted on categories that the decoder was not trained on. No code
fits it any more; it is kept so that a journal made with such a bundle replays to the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rtgod.messages import Array, Float64Array

#: Numbers of first candidates; a chance is that of the true category being among them.
FIRST = (1, 5, 10)
#: A ranking is sure, and decides, if the chance of its first candidate exceeds this.
SURE = 0.8
#: Chances for each of `FIRST`, ascending.
Probability = tuple[float, float, float]
#: Predictors of the regression, in the order of `ranking_predictors`.
PREDICTORS = (
    "margin over the second",
    "margin over the sixth",
    "margin over the eleventh",
    "height of the first",
    "log number of candidates",
    "log number of volumes",
    "log number of trials",
)
#: Most scores that are used, as a ranking from a shortlist holds no more.
_N_READ = 1000


@dataclass(frozen=True, slots=True)
class Confidence:
    """Coefficients of three logistic regressions.

    Attributes
    ----------
    mean, sd : tuple of float
        Mean and standard deviation with which each of the `PREDICTORS` is standardised.
    lowest, highest : tuple of float
        Range of each predictor in the training data; a value beyond it is set to its nearer end.
    coefficients : tuple of 3 tuple of float
        Coefficients of the standardised predictors, for each of `FIRST`.
    intercepts : tuple of 3 float
        Intercept for each of `FIRST`.

    Raises
    ------
    ValueError
        If lengths do not fit, or a number is not finite.
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
    intercepts: tuple[float, float, float]

    def __post_init__(self) -> None:
        rows = (self.mean, self.sd, self.lowest, self.highest, *self.coefficients)
        if any(len(row) != len(PREDICTORS) for row in rows):
            raise ValueError(f"a confidence needs {len(PREDICTORS)} numbers in each of its rows")
        if not all(map(math.isfinite, (*self.intercepts, *(number for row in rows for number in row)))):
            raise ValueError("a confidence has numbers that are not finite")

    def of_ranking(
        self,
        order: Array,
        scores: Array,
        n_candidates: int,
        n_volumes: int,
        n_blocks: int,
        response: float | None = None,
        *,
        imagined: bool = False,
    ) -> Probability | None:
        """Compute the chances of one ranking.

        Parameters
        ----------
        order : ndarray of shape (n_ranked,), int32
            Positions of the ranked candidates, best first.
        scores : ndarray of shape (n_ranked,), float32
        n_candidates : int
            Number of all candidates.
        n_volumes, n_blocks : int
            Volumes and trials that the ranking rests on.
        response : float or None
            Share of a response in the pattern; such bundles do not use it.
        imagined : bool
            Whether the trial asked to imagine its category: such bundles know nothing of that, so that there are no
            chances.
        """
        del order, response  # neither has an influence here
        if imagined:
            return None
        return self.probabilities(ranking_predictors(scores, n_candidates, n_volumes, n_blocks))

    def probabilities(self, predictors: Float64Array) -> tuple[float, float, float]:
        """Compute the chances that the true category is first, in the first five and in the first ten, ascending.

        Parameters
        ----------
        predictors : ndarray of shape (7,), float64
            Values of `PREDICTORS` for the ranking, from `ranking_predictors`.
        """
        z = ((np.clip(predictors, self.lowest, self.highest) - self.mean) / self.sd).tolist()
        chances = [
            _logistic(intercept + sum(c * x for c, x in zip(row, z, strict=True)))
            for row, intercept in zip(self.coefficients, self.intercepts, strict=True)
        ]
        return chances[0], max(chances[:2]), max(chances)


def ranking_predictors(scores: Array, n_candidates: int, n_volumes: int, n_blocks: int) -> Float64Array:
    """Compute the `PREDICTORS` of a ranking, shape (7,): margins and height in SDs of the first 1,000 scores.

    Parameters
    ----------
    scores : ndarray of shape (n_ranked,)
        Scores of the ranked candidates, best first.
    n_candidates : int
        Number of all candidates, which may exceed n_ranked.
    n_volumes, n_blocks : int
        Volumes and trials that the ranking rests on.
    """
    read = np.asarray(scores[:_N_READ], dtype=np.float64)
    sd = float(read.std()) or 1.0  # if all scores are equal, all margins are 0
    margins = [(read[0] - read[min(k, read.size - 1)]) / sd for k in FIRST]
    numbers = [math.log(max(n, 1)) for n in (n_candidates, n_volumes, n_blocks)]
    return np.array([*margins, (read[0] - read.mean()) / sd, *numbers])


def _logistic(x: float) -> float:
    # Two forms, as exp of a large number overflows.
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))
