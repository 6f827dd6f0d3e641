"""How sure a ranking may be, as bundles say it that were made before `rtgod.decoding.chances`.

A logistic regression on what the ranking looks like and rests on, of categories that were not trained on. Nothing fits
it any more; a journal of such a bundle replays to the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rtgod.messages import Array, Float64Array

#: The true category is among so many first ones.
FIRST = (1, 5, 10)
#: Chances of that, ascending.
Probability = tuple[float, float, float]
#: What is known of a ranking, in the order of `describe`.
PREDICTORS = (
    "margin over the second",
    "margin over the sixth",
    "margin over the eleventh",
    "height of the first",
    "log number of candidates",
    "log number of volumes",
    "log number of trials",
)
#: Scores that are read: of a shortlist, no more are good.
_N_READ = 1000


@dataclass(frozen=True, slots=True)
class Confidence:
    """Coefficients of three logistic regressions.

    Attributes
    ----------
    mean, sd : tuple of float
        What each of the `PREDICTORS` is standardised with.
    lowest, highest : tuple of float
        The range that was met in fitting; what lies beyond counts as its end, for nothing is known about it.
    coefficients : tuple of 3 tuple of float
        For each of `FIRST`, on the standardised clues.
    intercepts : tuple of 3 float

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
    ) -> Probability:
        """Chances of one ranking.

        Parameters
        ----------
        order : ndarray of shape (n_ranked,), int32
            Positions of the ranked candidates, best first.
        scores : ndarray of shape (n_ranked,), float32
        n_candidates : int
            Candidates that were ranked among.
        n_volumes, n_blocks : int
            Volumes and trials that the ranking rests on.
        response : float or None
            Share of a response in the pattern, of which such bundles know nothing.
        """
        del order, response  # whichever they are, they count alike
        return self.probabilities(ranking_predictors(scores, n_candidates, n_volumes, n_blocks))

    def probabilities(self, clues: Float64Array) -> tuple[float, float, float]:
        """Chances that the true category is first, in the first five and in the first ten; they never descend.

        Parameters
        ----------
        clues : ndarray of shape (n_clues,), float64
            Of the ranking, from `ranking_predictors`.
        """
        z = ((np.clip(clues, self.lowest, self.highest) - self.mean) / self.sd).tolist()
        found = [
            _logistic(intercept + sum(c * x for c, x in zip(row, z, strict=True)))
            for row, intercept in zip(self.coefficients, self.intercepts, strict=True)
        ]
        return found[0], max(found[:2]), max(found)


def ranking_predictors(scores: Array, n_candidates: int, n_volumes: int, n_blocks: int) -> Float64Array:
    """The `PREDICTORS` of a ranking, shape (7,): margins and height in SDs of the first 1,000 scores.

    Parameters
    ----------
    scores : ndarray of shape (n_ranked,)
        Best first.
    n_candidates : int
        Among how many was ranked, where not all scores are given.
    n_volumes, n_blocks : int
        How many volumes and trials the ranking rests on.
    """
    read = np.asarray(scores[:_N_READ], dtype=np.float64)
    sd = float(read.std()) or 1.0  # equal scores have no margins, in any unit
    margins = [(read[0] - read[min(k, read.size - 1)]) / sd for k in FIRST]
    numbers = [math.log(max(n, 1)) for n in (n_candidates, n_volumes, n_blocks)]
    return np.array([*margins, (read[0] - read.mean()) / sd, *numbers])


def _logistic(x: float) -> float:
    # Of a large number, exp overflows.
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))
