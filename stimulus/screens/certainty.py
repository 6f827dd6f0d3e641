"""Certainty of a ranking, as numbers to draw: the strength of its colours and the lengths of its bars.

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

#: Number of scores that are read one by one; later candidates count as near as the last of these, which shortens bars.
_N_READ = 1000
#: Greatest number of steps of Newton's method; from below it never goes too far, and six are mostly enough.
_N_STEPS = 50
#: Falls no further: of any difference of scores nothing is left.
_STEEPEST = 1e9
UNKNOWN = (
    "the decoder's confidence is not known: its bundle has none, or none for rankings of this kind; nothing is drawn "
    "pale, and bars compare scores instead of showing chances"
)
#: Strength of a ranking that is at least as sure as `ClaritySettings.clear_from`, of one that is less sure, and of one
#: that is less sure than `ClaritySettings.pale_below`.
CLEAR, FAIR, NOT_SURE = 1.0, 0.7, 0.45


class ClaritySettings(Settings):
    """Limits of certainty at which the drawing changes, from 0, luck, to 1, certainty; see `certainty`."""

    #: A ranking less sure than this is drawn pale, with "not sure yet" beneath.
    pale_below: Annotated[float, Field(ge=0, le=1)] = 0.2
    #: A ranking at least as sure as this is drawn in full colour.
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
    """Choose 1, 5 or 10: the largest whose chance of holding the true category by luck is at most a tenth, or 1.

    Parameters
    ----------
    n_candidates : int
        Number of candidates that are ranked.
    """
    return max((k for k in FIRST if 10 * k <= n_candidates), default=FIRST[0])


def certainty(ranking: Ranking) -> float | None:
    """Place the chance that the true category is among the `n_first` between luck, 0, and certainty, 1.

    Parameters
    ----------
    ranking : Ranking

    Returns
    -------
    certainty : float or None
        None if the chance is not known, or if there are fewer than two candidates.
    """
    n_candidates = len(ranking.order)
    if ranking.probability is None or n_candidates < 2:
        return None
    k = n_first(n_candidates)
    luck = k / n_candidates
    return max((ranking.probability[FIRST.index(k)] - luck) / (1 - luck), 0.0)


def picture_certainty(ranking: Ranking, n_pictures: int) -> float | None:
    """Place the chance that what is seen is among the nearest pictures between luck, 0, and certainty, 1.

    Parameters
    ----------
    ranking : Ranking
    n_pictures : int
        Number of pictures among which the nearest were found.

    Returns
    -------
    certainty : float or None
        None if the chance is not known, or if there are no more pictures than are shown.
    """
    chances = [picture.probability for picture in ranking.pictures]
    if not chances or n_pictures <= len(chances):
        return None
    luck, total = len(chances) / n_pictures, 0.0
    for chance in chances:
        if chance is None:
            return None
        total += chance
    return max((total - luck) / (1 - luck), 0.0)


def strength(ranking: Ranking, settings: ClaritySettings) -> float:
    """Return the strength of a ranking's colours; full if its certainty is not known.

    Parameters
    ----------
    ranking : Ranking
    settings : ClaritySettings
    """
    return strength_of(certainty(ranking), settings)


def strength_of(sure: float | None, settings: ClaritySettings) -> float:
    """Return the strength of colours for a certainty; full if it is not known.

    Parameters
    ----------
    sure : float or None
        From 0, luck, to 1, certainty.
    settings : ClaritySettings
    """
    if sure is None or sure >= settings.clear_from:
        return CLEAR
    return FAIR if sure >= settings.pale_below else NOT_SURE


@lru_cache(maxsize=8)
def bar_lengths(ranking: Ranking, n_rows: int) -> tuple[float, ...]:
    """Return the lengths of the first candidates' bars, from 0 to 1; kept, as each frame asks for the same ranking.

    Parameters
    ----------
    ranking : Ranking
    n_rows : int
        Greatest number of bars.

    Returns
    -------
    lengths : tuple of float
        Chances, see `chances`; if the ranking has none, how far scores stand out, see `prominence`.
    """
    if ranking.probability is None:
        return tuple(prominence(ranking.scores, n_rows).tolist())
    return tuple(chances(ranking.scores, ranking.probability, n_rows).tolist())


def chances(scores: Array, probability: tuple[float, float, float], n_rows: int) -> Float64Array:
    """Divide the ranking's chances among its first candidates.

    The first has its own chance. The chances of the others fall exponentially with the distance of their scores from
    the first one's (a softmax, in which the first has that chance), and together are no more than the chances of the
    first five and ten leave; none has more than the one before.

    Parameters
    ----------
    scores : ndarray of shape (n_ranked,)
        Scores, best first.
    probability : tuple of 3 float
        Probability that the true category is first, in the first five, in the first ten.
    n_rows : int
        Greatest number of candidates that get a chance.

    Returns
    -------
    chances : ndarray of shape (min(n_rows, n_ranked),), float64
    """
    n = len(scores)
    if n == 0:
        return np.empty(0)
    best_chance = probability[0]
    below = _finite(scores[:_N_READ])
    below -= below[0]
    weights = np.ones(len(below))
    weights[-1] += n - len(below)
    lengths: Float64Array = best_chance * np.exp(_steepness(below, weights, best_chance) * below[:n_rows])
    within = [1.0 if n <= k else chance for k, chance in zip(FIRST, probability, strict=True)]
    within[0] = best_chance
    for place in (1, 2):
        group = lengths[FIRST[place - 1] : FIRST[place]]
        room, total = within[place] - within[place - 1], group.sum()
        if total > room:
            group *= room / total
    return np.minimum.accumulate(lengths)


def prominence(scores: Array, n_rows: int) -> Float64Array:
    """Measure how far the first scores stand out from all; the best of random scores rarely exceeds 0.5.

    The measure is the distance from the mean in SDs, divided by twice the distance that the best of as many random
    scores rarely exceeds.

    Parameters
    ----------
    scores : ndarray of shape (n_ranked,)
        Scores of all ranked candidates, best first.
    n_rows : int
        Greatest number of candidates that are measured.

    Returns
    -------
    prominence : ndarray of shape (min(n_rows, n_ranked),), float64
        From 0 to 1; 0 if all scores are equal.
    """
    n = len(scores)
    values = _finite(scores)
    sd = values.std() if n else 0.0
    if sd == 0:
        return np.zeros(min(n_rows, n))
    # The largest of n normal scores is further out than this in about one set of ten.
    furthest = math.sqrt(2 * math.log(n))
    return np.clip((values[:n_rows] - values.mean()) / sd / (2 * furthest), 0, 1)


def _steepness(below: Float64Array, weights: Float64Array, best_chance: float) -> float:
    """Solve sum(weights exp(b below)) = 1 / best_chance for b; return 0 if equal shares are at least as large."""
    if best_chance * weights.sum() <= 1:
        return 0.0
    steepness = 0.0
    for _ in range(_N_STEPS):
        parts = weights * np.exp(steepness * below)
        slope = float(parts @ below) / float(parts.sum())
        excess = math.log(parts.sum()) + math.log(best_chance)
        if slope == 0 or excess <= 1e-9:
            break
        # With more equal first scores than have room there is no solution; then the others have no share.
        steepness = min(steepness - excess / slope, _STEEPEST)
    return steepness


def _finite(scores: Array) -> Float64Array:
    """Convert scores to float64, best first; a score that is not finite counts as the lowest."""
    values = np.array(scores, dtype=np.float64)
    finite = np.isfinite(values)
    values[~finite] = values[finite].min() if finite.any() else 0.0
    return -np.sort(-values)
