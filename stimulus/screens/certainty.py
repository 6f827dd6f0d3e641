"""How far a ranking can be trusted, as numbers to draw: how clear it is, and how long its bars are.

Pure. A chance that is not known is never made up: then nothing is pale, and bars compare scores with each other.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from rtgod.decoding.confidence import FIRST
from rtgod.messages import Array, Float64Array, Ranking
from rtgod.settings import Settings

#: Scores that are read one by one; later candidates count as near as the last of these, which shortens bars.
_N_READ = 1000
#: Steps of Newton's method; from below it never goes too far, and most need six.
_N_STEPS = 50
UNKNOWN = (
    "the decoder's confidence is not known: its bundle has none, or none for rankings of this kind; nothing is drawn "
    "pale, and bars compare scores instead of showing chances"
)
#: How clearly a ranking is drawn that is as sure as `ClaritySettings.clear_from`, one that is less, and one that is
#: less than `ClaritySettings.pale_below`.
CLEAR, FAIR, NOT_SURE = 1.0, 0.7, 0.45


class ClaritySettings(Settings):
    """How sure is sure, from 0, luck, to 1, certainty; see `certainty`."""

    #: Less sure than this is drawn pale, and "not sure yet" stands beneath.
    pale_below: Annotated[float, Field(ge=0, le=1)] = 0.2
    #: As sure as this is drawn in full colour.
    clear_from: Annotated[float, Field(ge=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _pale_is_less_than_clear(self) -> Self:
        if self.pale_below > self.clear_from:
            raise ValueError(
                f"pale_below is {self.pale_below:g} and clear_from {self.clear_from:g}; it cannot be the larger one"
            )
        return self


USUAL = ClaritySettings()


def n_first(n_candidates: int) -> int:
    """Choose 1, 5 or 10: the largest whose chance of holding the true category by luck is at most a tenth, or 1."""
    return max((k for k in FIRST if 10 * k <= n_candidates), default=FIRST[0])


def certainty(ranking: Ranking) -> float | None:
    """Place the chance that the true category is among the `n_first` between luck, 0, and certainty, 1.

    Returns
    -------
    certainty : float or None
        None where it is not known, or nothing is to be chosen from.
    """
    n_candidates = len(ranking.order)
    if ranking.probability is None or n_candidates < 2:
        return None
    k = n_first(n_candidates)
    luck = k / n_candidates
    return max((ranking.probability[FIRST.index(k)] - luck) / (1 - luck), 0.0)


def strength(ranking: Ranking, settings: ClaritySettings) -> float:
    """How clearly a ranking is drawn; fully where nobody knows how sure it is."""
    sure = certainty(ranking)
    if sure is None or sure >= settings.clear_from:
        return CLEAR
    return FAIR if sure >= settings.pale_below else NOT_SURE


@lru_cache(maxsize=8)
def bar_lengths(ranking: Ranking, n_rows: int) -> tuple[float, ...]:
    """Lengths of the first candidates' bars, from 0 to 1; the same ranking is asked for at each frame.

    Parameters
    ----------
    ranking : Ranking
    n_rows : int
        How many bars at most.

    Returns
    -------
    lengths : tuple of float
        Chances, see `chances`; of a ranking without, how far scores stand out, see `prominence`.
    """
    if ranking.probability is None:
        return tuple(prominence(ranking.scores, n_rows).tolist())
    return tuple(chances(ranking.scores, ranking.probability, n_rows).tolist())


def chances(scores: Array, probability: tuple[float, float, float], n_rows: int) -> Float64Array:
    """Divide the ranking's chances among its first candidates.

    The first has its own chance. The others have less by a power of their distance from it (a softmax, in which the
    first has that chance), and no more together than the chances of the first five and ten leave; none has more than
    the one before.

    Parameters
    ----------
    scores : ndarray of shape (n_ranked,)
        Best first.
    probability : tuple of 3 float
        That the true category is first, in the first five, in the first ten.
    n_rows : int

    Returns
    -------
    chances : ndarray of shape (min(n_rows, n_ranked),), float64
    """
    n = len(scores)
    if n == 0:
        return np.empty(0)
    first = probability[0]
    below = _finite(scores[:_N_READ])
    below -= below[0]
    weights = np.ones(len(below))
    weights[-1] += n - len(below)
    lengths: Float64Array = first * np.exp(_steepness(below, weights, first) * below[:n_rows])
    within = [1.0 if n <= k else chance for k, chance in zip(FIRST, probability, strict=True)]
    within[0] = first
    for place in (1, 2):
        group = lengths[FIRST[place - 1] : FIRST[place]]
        room, total = within[place] - within[place - 1], group.sum()
        if total > room:
            group *= room / total
    return np.minimum.accumulate(lengths)


def prominence(scores: Array, n_rows: int) -> Float64Array:
    """Say how far the first scores stand out from all, in SDs; half of 1 is where the best of random ones ends.

    Parameters
    ----------
    scores : ndarray of shape (n_ranked,)
        Best first, of all that is ranked.
    n_rows : int

    Returns
    -------
    prominence : ndarray of shape (min(n_rows, n_ranked),), float64
        From 0 to 1; 0 where all scores are equal.
    """
    n = len(scores)
    values = _finite(scores)
    sd = values.std() if n else 0.0
    if sd == 0:
        return np.zeros(min(n_rows, n))
    # Of n normal scores none is further out than this, but for one in a few sets.
    furthest = math.sqrt(2 * math.log(n))
    return np.clip((values[:n_rows] - values.mean()) / sd / (2 * furthest), 0, 1)


def _steepness(below: Float64Array, weights: Float64Array, first: float) -> float:
    """Solve sum(weights exp(b below)) = 1 / first for b; 0 where even equal shares are larger than the first's."""
    if first * weights.sum() <= 1:
        return 0.0
    steepness = 0.0
    for _ in range(_N_STEPS):
        parts = weights * np.exp(steepness * below)
        slope = float(parts @ below) / float(parts.sum())
        excess = math.log(parts.sum()) + math.log(first)
        if slope == 0 or excess <= 1e-9:
            break
        steepness -= excess / slope
    return steepness


def _finite(scores: Array) -> Float64Array:
    """Scores as float64, best first; one that is not finite counts as the lowest."""
    values = np.array(scores, dtype=np.float64)
    finite = np.isfinite(values)
    values[~finite] = values[finite].min() if finite.any() else 0.0
    return -np.sort(-values)
