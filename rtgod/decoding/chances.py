"""Confidence of a ranking: each candidate's chance of being the true category, computed from the scores.

A score is evidence. Its weight is learned in calibration (`calibration.training.confidence`), separately for categories
that the decoder was trained on and for new ones; this module only applies it. Before scores are known all candidates
are equally likely, so each of the two kinds counts by its number of candidates in a ranking.

Scores say to which candidate a response belongs, not whether the pattern holds a response: noise has a best candidate,
too. The chance of a response is read from the pattern (`Presence`); without a response all candidates are equally
likely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from rtgod.decoding.confidence import FIRST, Probability
from rtgod.messages import Array, BoolArray, Float32Array, Float64Array

#: The two kinds of candidates, in the order of `Chances.weights`.
TRAINED, NEW = 0, 1


@dataclass(frozen=True, slots=True)
class Weight:
    """Log odds that one unit of score is worth.

    They are exp(level + volumes · log n_volumes + curve · (log n_volumes)² + first / n_volumes² + candidates ·
    log n_candidates).

    Attributes
    ----------
    level : float
    volumes, candidates : float
        Exponents of the number of volumes and of candidates of a ranking.
    curve : float
        Factor of the squared logarithm of the number of volumes; 0 in bundles of older versions.
    first : float
        Change after the first volume, of which later volumes keep less and less; 0 in bundles of older versions.

    Raises
    ------
    ValueError
        If a number is not finite.
    """

    level: float
    volumes: float
    candidates: float
    curve: float = 0.0
    first: float = 0.0

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.level, self.volumes, self.candidates, self.curve, self.first))):
            raise ValueError("the weight of a score has numbers that are not finite")


@dataclass(frozen=True, slots=True)
class Presence:
    """Model of the chance that a pattern holds a response.

    With n volumes, log odds are level + volumes · log n + (response + response_by_volumes · log n) · share, with the
    factor of the share not below 0.

    Attributes
    ----------
    level, response, volumes, response_by_volumes : float
        Coefficients of the log odds. The share of a response is 0 without one and 1 if it is as in training trials.
    met : tuple of float, float
        Range of the shares in the training data; a share beyond it is set to its nearer end.

    Raises
    ------
    ValueError
        If a number is not finite or the range is empty.
    """

    level: float
    response: float
    volumes: float
    response_by_volumes: float
    met: tuple[float, float]

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.level, self.response, self.volumes, self.response_by_volumes, *self.met))):
            raise ValueError("the chances' presence of a response has numbers that are not finite")
        if self.met[0] > self.met[1]:
            raise ValueError("the chances' range of responses must ascend")

    def probability(self, response: float, n_volumes: int) -> float:
        """Compute the chance of a response.

        Parameters
        ----------
        response : float
            Share of a response in the pattern, from `rtgod.decoding.decoder.response_of`.
        n_volumes : int
            Volumes that the pattern rests on; 1 or more.
        """
        share, log_volumes = min(max(response, self.met[0]), self.met[1]), math.log(n_volumes)
        slope = max(self.response + self.response_by_volumes * log_volumes, 0.0)
        log_odds = self.level + self.volumes * log_volumes + slope * share
        return 1 / (1 + math.exp(-min(max(log_odds, -700.0), 700.0)))


@dataclass(frozen=True, slots=True)
class Chances:
    """Model that turns scores into chances.

    Attributes
    ----------
    trained : tuple of str
        Identifiers of the categories that the decoder was trained on; every other candidate is new to it.
    weights : tuple of Weight or None, Weight or None
        Weight of a score of a trained candidate, learned from left-out runs, and of a new one, learned from left-out
        categories; None if calibration had no data to learn it from.
    head_start : tuple of float, float
        Log odds of a new candidate against a trained one, both with a score of 0, after one volume; and the change per
        unit of the natural logarithm of the number of volumes.
    n_volumes, n_candidates : tuple of int, int
        Lowest and highest number in the training data; a number beyond this range is set to its nearer end.
    presence : Presence or None
        Chance of a response; with None every pattern counts as a response, as in bundles of older versions.
    repeats, most_repeats : float
        An average over trials has as many times the volumes of the longest trial as trials could give; its scores are
        worth this number, up to `most_repeats`, to the power of `repeats` more. 0 in bundles of older versions.

    Raises
    ------
    ValueError
        If a number is not finite or a range is empty.
    """

    trained: tuple[str, ...]
    weights: tuple[Weight | None, Weight | None]
    head_start: tuple[float, float]
    n_volumes: tuple[int, int]
    n_candidates: tuple[int, int]
    presence: Presence | None = None
    repeats: float = 0.0
    most_repeats: float = 1.0

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.head_start, self.repeats, self.most_repeats))):
            raise ValueError("the chances' head start or repeats are not finite")
        if any(not 1 <= low <= high for low, high in (self.n_volumes, self.n_candidates)):
            raise ValueError("the chances' ranges must ascend from 1 or more")

    def are_new(self, candidate_ids: Sequence[str]) -> BoolArray:
        """Return for each candidate whether it is new to the decoder: shape (n_candidates,), bool.

        Parameters
        ----------
        candidate_ids : sequence of str
        """
        trained = set(self.trained)
        return np.array([candidate_id not in trained for candidate_id in candidate_ids], bool)

    def probabilities(
        self,
        scores: Array,
        is_new: BoolArray,
        n_candidates: int,
        n_volumes: int,
        response: float | None = None,
        n_blocks: int = 1,
    ) -> Probability | None:
        """Compute the chances that the true category is first, in the first five and in the first ten.

        Parameters
        ----------
        scores : ndarray of shape (n_ranked,)
            Scores of the ranked candidates, best first.
        is_new : ndarray of shape (n_ranked,), bool
            Whether each ranked candidate is one that the decoder was not trained on.
        n_candidates : int
            Number of all candidates. If it exceeds n_ranked, the scores that are not given are taken to be the lower
            part of a normal distribution that fits the last given ones.
        n_volumes : int
            Volumes that the ranking rests on.
        response : float or None
            Share of a response in the pattern, from `rtgod.decoding.decoder.response_of`; with None the pattern counts
            as a response.
        n_blocks : int
            Trials that the ranking rests on.

        Returns
        -------
        tuple of 3 float or None
            None if the ranking holds a kind of candidate whose weight was not learned.
        """
        odds_of_all = self._odds(scores, is_new, n_candidates, n_volumes, n_blocks)
        if odds_of_all is None:
            return None
        odds, total = odds_of_all
        # With no more than k candidates, the true one is among the first k, whatever rounding leaves.
        chances = [1.0 if k >= n_candidates else min(float(odds[:k].sum()) / total, 1.0) for k in FIRST]
        if self.presence is not None and response is not None:
            present = self.presence_of(response, n_volumes)
            luck = [min(k / n_candidates, 1.0) for k in FIRST]
            chances = [present * p + (1 - present) * by_luck for p, by_luck in zip(chances, luck, strict=True)]
        # Sums of different lengths are rounded differently; the chances must not descend.
        return chances[0], max(chances[:2]), max(chances)

    def posterior(
        self,
        scores: Array,
        is_new: BoolArray,
        n_candidates: int,
        n_volumes: int,
        response: float | None = None,
        n_blocks: int = 1,
    ) -> Float64Array | None:
        """Compute each ranked candidate's chance of being the true category: shape (n_ranked,), float64.

        The first k chances add up to those of `probabilities`; candidates that are not ranked have the rest.

        Parameters
        ----------
        scores, is_new, n_candidates, n_volumes, response, n_blocks
            As for `probabilities`.

        Returns
        -------
        ndarray of shape (n_ranked,), float64, or None
            None if the ranking holds a kind of candidate whose weight was not learned.
        """
        odds_of_all = self._odds(scores, is_new, n_candidates, n_volumes, n_blocks)
        if odds_of_all is None:
            return None
        odds, total = odds_of_all
        present = self.presence_of(response, n_volumes)
        return np.asarray(present * odds / total + (1 - present) / n_candidates, np.float64)

    def _odds(
        self, scores: Array, is_new: BoolArray, n_candidates: int, n_volumes: int, n_blocks: int
    ) -> tuple[Float64Array, float] | None:
        """Compute odds of the ranked candidates, shape (n_ranked,), and the sum of those of all candidates."""
        worth = np.empty(len(scores))
        at_one, per_log = self.head_start
        head_start = at_one + per_log * math.log(_within(n_volumes, self.n_volumes))
        groups = [np.flatnonzero(~is_new), np.flatnonzero(is_new)]
        weights = [self.weight(kind, n_candidates, n_volumes) if len(groups[kind]) else 0.0 for kind in (TRAINED, NEW)]
        if self.repeats and n_blocks > 1:
            more = self._repeats_in(n_volumes, n_blocks) ** self.repeats
            weights = [None if weight is None else weight * more for weight in weights]
        for kind, rows in enumerate(groups):
            weight = weights[kind]
            if weight is None:
                return None
            worth[rows] = weight * np.asarray(scores, np.float64)[rows] + kind * head_start
        highest = float(worth.max())
        odds = np.exp(worth - highest)
        total = float(odds.sum())
        if n_candidates > len(scores):
            unranked = NEW if len(groups[NEW]) else TRAINED
            total += math.exp(unranked * head_start - highest) * _odds_beyond(
                np.asarray(scores, np.float64), n_candidates, weights[unranked] or 0.0
            )
        return odds, total

    def _repeats_in(self, n_volumes: int, n_blocks: int) -> float:
        """Return how many of the longest trials have as many volumes: from 1 up to the number of trials met or had."""
        return max(min(n_volumes / self.n_volumes[1], n_blocks, self.most_repeats), 1.0)

    def presence_of(self, response: float | None, n_volumes: int) -> float:
        """Return the chance that a pattern holds a response; 1 if nothing is known of it.

        Parameters
        ----------
        response : float or None
            Share of a response in the pattern.
        n_volumes : int
            Volumes that the pattern rests on.
        """
        if self.presence is None or response is None:
            return 1.0
        return self.presence.probability(response, _within(n_volumes, self.n_volumes))

    def weight(self, kind: int, n_candidates: int, n_volumes: int) -> float | None:
        """Return the log odds that one unit of a candidate's score is worth; None if they were not learned.

        Parameters
        ----------
        kind : int
            `TRAINED` or `NEW`.
        n_candidates : int
            Number of all candidates.
        n_volumes : int
            Volumes that the ranking rests on.
        """
        weight = self.weights[kind]
        if weight is None:
            return None
        n_within = _within(n_volumes, self.n_volumes)
        log_volumes = math.log(n_within)
        log_candidates = math.log(_within(n_candidates, self.n_candidates))
        by_volumes = weight.volumes * log_volumes
        if weight.curve:
            by_volumes += weight.curve * log_volumes * log_volumes
        if weight.first:
            by_volumes += weight.first / (n_within * n_within)
        return math.exp(weight.level + by_volumes + weight.candidates * log_candidates)


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Model of chances together with the candidates of a decoder, ready to be applied to rankings.

    Attributes
    ----------
    chances : Chances or None
        Chances of what is seen; None if they are unknown.
    is_new : ndarray of shape (n_all,), bool
        Whether each candidate of the decoder is new, that is, not trained on.
    weights : ndarray of shape (n_voxels,), float32, or None
        Weights whose product with a pattern is the share of a response in it; None if they were not learned.
    imagined : Chances or None
        Chances of what is imagined; None if they are unknown: those of what is seen would be too high.
    """

    chances: Chances | None
    is_new: BoolArray
    weights: Float32Array | None = None
    imagined: Chances | None = None

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
        """Compute the chances of one ranking; see `Chances.probabilities`. None if they are unknown.

        Parameters
        ----------
        order : ndarray of shape (n_ranked,), int32
            Positions of the ranked candidates in `is_new`, best first.
        scores : ndarray of shape (n_ranked,), float32
            Scores of the ranked candidates, best first.
        n_candidates : int
            Number of all candidates, which may exceed n_ranked.
        n_volumes : int
            Volumes that the ranking rests on.
        n_blocks : int
            Trials that the ranking rests on.
        response : float or None
            Share of a response in the pattern; with None the pattern counts as a response.
        imagined : bool
            Whether the trial asked to imagine its category.
        """
        chances = self.imagined if imagined else self.chances
        if chances is None:
            return None
        return chances.probabilities(scores, self.is_new[order], n_candidates, n_volumes, response, n_blocks)

    def posterior(
        self,
        order: Array,
        scores: Array,
        n_candidates: int,
        n_volumes: int,
        n_blocks: int,
        response: float | None = None,
        *,
        imagined: bool = False,
    ) -> Float64Array | None:
        """Compute each ranked candidate's chance: shape (n_ranked,), float64; None if chances are unknown.

        Parameters
        ----------
        order, scores, n_candidates, n_volumes, n_blocks, response, imagined
            As for `of_ranking`.
        """
        chances = self.imagined if imagined else self.chances
        if chances is None:
            return None
        return chances.posterior(scores, self.is_new[order], n_candidates, n_volumes, response, n_blocks)


def _within(n: int, limits: tuple[int, int]) -> int:
    return min(max(n, limits[0]), limits[1])


def _odds_beyond(scores: Float64Array, n_candidates: int, weight: float) -> float:
    """Estimate the sum of exp(weight · score) over the candidates that are not ranked.

    Two of the ranked scores, as quantiles of all, give a normal distribution; the scores not ranked are its lower part.
    For X normal, E[exp(w X); X < t] = exp(w m + w² s² / 2) Φ((t − m − w s²) / s).
    """
    normal, n_ranked = NormalDist(), len(scores)
    earlier = max(n_ranked // 10, 1)
    at_last, at_earlier = (normal.inv_cdf(1 - n / n_candidates) for n in (n_ranked, earlier))
    sd = max(float(scores[earlier - 1] - scores[-1]) / (at_earlier - at_last), 0.0) if at_earlier > at_last else 0.0
    mean = float(scores[-1]) - at_last * sd
    share = normal.cdf(at_last - weight * sd) or 1e-300
    return n_candidates * math.exp(min(weight * mean + (weight * sd) ** 2 / 2 + math.log(share), 700.0))
