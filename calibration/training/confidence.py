"""Learn from rankings of cross-validation how sure a ranking is, and test this on rankings left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from calibration.metrics.identification import rank_of
from calibration.training.folds import leave_groups_out
from rtgod.decoding.chances import NEW, TRAINED, Chances, Presence, Weight
from rtgod.decoding.confidence import FIRST
from rtgod.messages import Array, BoolArray, Float64Array

#: Minimum number of trials, and of runs or categories to leave out, for learning chances.
FEWEST_TRIALS, FEWEST_GROUPS = 10, (2, 5)
#: Maximum number of candidates of each kind in a draw; draws of each ranking, from the truth's kind or from both kinds.
_MOST_CANDIDATES, _DRAWS = 300, ("some of one", "all of one", "some of both", "all of both")
#: Prior 1 / variance about 0 of each parameter of `_Loss`; 0 for the levels, which have no prior.
_PRECISION = np.array([0.0, 4.0, 4.0, 4.0, 0.1, 0.0, 4.0, 4.0, 4.0, 0.1, 0.25, 1.0])
#: Number of parameters of each kind's weight.
_OF_KIND = 5
#: Places of the parameters of both kinds that tell how the weight changes with the number of volumes.
_SLOPES = (1, 3, 6, 8)
#: Places of the parameters that tell how much less a score is worth after a first volume alone.
_FIRSTS = (4, 9)
_WHOSE = ("categories that were trained on", "new categories")


@dataclass(frozen=True, slots=True, eq=False)
class Rankings:
    """Rankings with known true category, by decoders that had not seen their trials.

    Attributes
    ----------
    scores : sequence of ndarray of shape (n_candidates,)
        Scores of each ranking, in the order of the candidates.
    is_new : sequence of ndarray of shape (n_candidates,), bool
        Marks the candidates that the decoder of each ranking had not been trained on.
    true : sequence of int
        Position of each ranking's true category among its candidates.
    n_volumes : sequence of int
        Number of volumes behind each ranking.
    trials : sequence of int
        Trial of each ranking: all rankings of one trial together count as one.
    groups : sequence of str
        Group that was left out for each ranking: its run, or its category.
    response : sequence of float or None
        Share of the mean response in the pattern of each ranking; empty if unknown.
    """

    scores: Sequence[Array]
    is_new: Sequence[BoolArray]
    true: Sequence[int]
    n_volumes: Sequence[int]
    trials: Sequence[int]
    groups: Sequence[str]
    response: Sequence[float | None] = ()

    @property
    def hit(self) -> BoolArray:
        """Hits of the true category in the first 1, 5 and 10 candidates: shape (n_rankings, 3), bool."""
        ranks = [rank_of(scores, position) for scores, position in zip(self.scores, self.true, strict=True)]
        return np.array(ranks, np.int64).reshape(-1, 1) <= np.array(FIRST)

    def select(self, rows: Array) -> Rankings:
        """Select some of the rankings.

        Parameters
        ----------
        rows : ndarray of shape (n_selected,), int
        """
        fields = (self.scores, self.is_new, self.true, self.n_volumes, self.trials, self.groups, self.response)
        return Rankings(*([field[row] for row in rows] if len(field) else () for field in fields))

    def judged(self, chances: Chances) -> Float64Array:
        """Return the probabilities that chances give for each ranking, shape (n_rankings, 3); NaN if they give none.

        Parameters
        ----------
        chances : Chances
        """
        probabilities = np.full((len(self.true), len(FIRST)), np.nan)
        responses = self.response or [None] * len(self.true)
        rows = zip(self.scores, self.is_new, self.n_volumes, responses, strict=True)
        for row, (scores, is_new, n, response) in enumerate(rows):
            order = np.argsort(-scores, kind="stable")
            given = chances.probabilities(scores[order], is_new[order], len(scores), n, response)
            if given is not None:
                probabilities[row] = given
        return probabilities


@dataclass(frozen=True, slots=True, eq=False)
class FittedChances:
    """Chances, with their performance on rankings that they were not learned from.

    Attributes
    ----------
    chances : Chances or None
        Chances learned from all rankings; None if nothing could be learned.
    held_out : tuple of 2 ndarray of shape (n_rankings, 3), float64
        For rankings of left-out runs, and of left-out categories: the probabilities given by chances that were
        learned without the ranking's group; NaN if nothing was learned.
    hit : tuple of 2 ndarray of shape (n_rankings, 3), bool
        Marks whether the true category was among the first 1, 5 and 10.
    notes : tuple of str
        Notes on the candidates whose chances are unknown, with the reasons.
    """

    chances: Chances | None
    held_out: tuple[Float64Array, Float64Array]
    hit: tuple[BoolArray, BoolArray]
    notes: tuple[str, ...]


def fit_chances(
    left_out_runs: Rankings | str | None,
    left_out_categories: Rankings | str | None,
    trained: Sequence[str],
    presence: Presence | None = None,
) -> FittedChances:
    """Learn the chances of candidates from their scores.

    The chance of a candidate is proportional to exp(weight · score) among all candidates (McFadden 1974), with one
    weight for candidates that were trained on, and another and a head start for new ones. One trial is added to each
    kind, whose true category is any candidate with equal chance: even if all rankings were right, none is certain.

    Parameters
    ----------
    left_out_runs : Rankings or str or None
        Rankings from other runs with true categories that were trained on; or a reason why there are none; None if no
        candidate was trained on.
    left_out_categories : Rankings or str or None
        Rankings with true categories that were not trained on; or a reason why there are none; None if every
        candidate was trained on.
    trained : sequence of str
        Identifiers of the categories that were trained on.
    presence : Presence or None
        Chance that a pattern holds a response; None assumes that every pattern holds one.
    """
    notes = []
    usable: list[Rankings | None] = []
    for whose, given in zip(_WHOSE, (left_out_runs, left_out_categories), strict=True):
        lacking = _lacking(given) if isinstance(given, Rankings) else given
        if lacking:
            notes.append(f"how sure a ranking of {whose} may be is unknown: {lacking}")
        usable.append(given if isinstance(given, Rankings) and not lacking else None)
    n_rankings = [0 if rankings is None else len(rankings.true) for rankings in usable]
    held_out = (np.full((n_rankings[0], len(FIRST)), np.nan), np.full((n_rankings[1], len(FIRST)), np.nan))
    hits = [np.empty((0, len(FIRST)), bool) if rankings is None else rankings.hit for rankings in usable]
    hit = (hits[0], hits[1])
    if not any(n_rankings):
        return FittedChances(None, held_out, hit, tuple(notes))
    draws = [
        None if rankings is None else _drawn(rankings, kind, all(n_rankings), presence)
        for kind, rankings in enumerate(usable)
    ]
    chances, parameters = _fit(draws, trained, np.zeros(len(_PRECISION)))
    for kept_rows in _folds(usable):
        kept_draws = [
            None if kind_draws is None else kind_draws.of(rows)
            for kind_draws, rows in zip(draws, kept_rows, strict=True)
        ]
        chances_without, _ = _fit(kept_draws, trained, parameters)
        for kind, rankings in enumerate(usable):
            if rankings is not None:
                left_out = np.setdiff1d(np.arange(len(rankings.true)), kept_rows[kind])
                held_out[kind][left_out] = rankings.select(left_out).judged(replace(chances_without, presence=presence))
    return FittedChances(replace(chances, presence=presence), held_out, hit, tuple(notes))


def _folds(usable: Sequence[Rankings | None]) -> list[list[Array]]:
    """Return each kind's kept rows, its groups left out in turn; the kind with fewer folds repeats them."""
    by_kind = [
        [] if rankings is None else [kept for kept, _ in leave_groups_out(rankings.groups)] for rankings in usable
    ]
    n_folds = max(map(len, by_kind))
    return [[folds[i % len(folds)] if folds else np.empty(0, np.int64) for folds in by_kind] for i in range(n_folds)]


def _lacking(rankings: Rankings) -> str:
    """Explain in words why there are too few trials; empty if there are enough."""
    if (n := len(set(rankings.trials))) < FEWEST_TRIALS:
        return f"it is learned from trials, which needs {FEWEST_TRIALS}, and there {'is' if n == 1 else 'are'} {n}"
    return ""


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    """Draws of candidates from rankings, end to end.

    Attributes
    ----------
    ranking : ndarray of shape (n_draws,)
        Row of the ranking that each draw is from.
    starts : ndarray of shape (n_draws + 1,)
    scores, is_new : ndarray of shape (n_scores,)
        The true candidate of each draw comes first.
    n_volumes : ndarray of shape (n_draws,)
    weight : ndarray of shape (n_draws,), float64
        Weight of each draw; a trial's weights add up to 1, unless draws of both kinds are weighted by their shares.
    trial : ndarray of shape (n_draws,)
    present : ndarray of shape (n_draws,), float64
        Chance that the pattern of each draw's ranking holds a response.
    """

    ranking: Array
    starts: Array
    scores: Float64Array
    is_new: BoolArray
    n_volumes: Array
    weight: Float64Array
    trial: Array
    present: Float64Array

    def of(self, rows: Array) -> _Draws:
        """Select the draws of some rankings."""
        keep = np.isin(self.ranking, rows)
        sizes = np.diff(self.starts)
        entries = np.repeat(keep, sizes)
        return _Draws(
            self.ranking[keep],
            np.concatenate([[0], np.cumsum(sizes[keep])]),
            self.scores[entries],
            self.is_new[entries],
            self.n_volumes[keep],
            self.weight[keep],
            self.trial[keep],
            self.present[keep],
        )


def _drawn(rankings: Rankings, kind: int, mixed: bool, presence: Presence | None) -> _Draws:
    """Draw subsets of candidates: of the truth's kind alone, and of both kinds if both can be judged.

    In a draw of both kinds the truth is equally likely any candidate, so the draw is weighted by the share of its kind.
    """
    rng = np.random.default_rng(kind)
    rows, parts, weights = [], [], []
    for row, (scores, is_new, true) in enumerate(zip(rankings.scores, rankings.is_new, rankings.true, strict=True)):
        same_kind = np.flatnonzero(is_new == bool(kind))
        same_kind, other_kind = same_kind[same_kind != true], np.flatnonzero(is_new != bool(kind))
        n_same, n_other = min(len(same_kind), _MOST_CANDIDATES), min(len(other_kind), _MOST_CANDIDATES)
        for draw in _DRAWS[: 4 if mixed and n_other else 2]:
            takes_all = draw.startswith("all")
            n = n_same if takes_all else _any_number(n_same, rng)
            m = 0 if draw.endswith("one") else n_other if takes_all else _any_number(n_other, rng)
            if n + m == 0:
                continue
            chosen = [true, *rng.permutation(same_kind)[:n], *rng.permutation(other_kind)[:m]]
            rows.append(row)
            parts.append((scores[chosen], is_new[chosen]))
            weights.append(2 * (n + 1) / (n + 1 + m) if m else 1.0)
    sizes = [len(scores) for scores, _ in parts]
    ranking = np.array(rows, np.int64)
    trial = np.unique(np.asarray(rankings.trials)[ranking], return_inverse=True)[1]
    present = np.ones(len(rankings.true))
    if presence is not None:
        responses = zip(rankings.response, rankings.n_volumes, strict=True)
        present = np.array([1.0 if r is None else presence.probability(r, max(n, 1)) for r, n in responses])
    return _Draws(
        ranking=ranking,
        starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        scores=np.concatenate([scores for scores, _ in parts]).astype(np.float64),
        is_new=np.concatenate([is_new for _, is_new in parts]),
        n_volumes=np.asarray(rankings.n_volumes, np.int64)[ranking],
        weight=np.array(weights) / np.bincount(trial)[trial],
        trial=trial,
        present=present[ranking],
    )


def _any_number(most: int, rng: np.random.Generator) -> int:
    """Draw a number from 1 to `most`, uniform in its logarithm; 0 if `most` is 0."""
    return round(float(np.exp(rng.uniform(0, np.log(most))))) if most else 0


def _fit(draws: Sequence[_Draws | None], trained: Sequence[str], begin: Float64Array) -> tuple[Chances, Float64Array]:
    """Fit the most likely chances to the draws of one or both kinds; return them, and where the next fit may begin."""
    present = [kind_draws for kind_draws in draws if kind_draws is not None]
    scores, is_new, n_volumes = (
        np.concatenate([getattr(kind_draws, name) for kind_draws in present])
        for name in ("scores", "is_new", "n_volumes")
    )
    sizes = np.concatenate([np.diff(kind_draws.starts) for kind_draws in present])
    starts = np.cumsum(sizes) - sizes
    n_trials = np.array([len(np.unique(kind_draws.trial)) for kind_draws in present])
    # Both kinds have equal weight: how often candidates of each will be shown is unknown here.
    kind_weights = n_trials.mean() / n_trials
    weight = np.concatenate(
        [kind_draws.weight * kind_weight for kind_draws, kind_weight in zip(present, kind_weights, strict=True)]
    )
    presences = np.concatenate([kind_draws.present for kind_draws in present])
    doubt = np.concatenate(
        [np.full(len(kind_draws.weight), 1 / (n + 1)) for kind_draws, n in zip(present, n_trials, strict=True)]
    )
    sd = float(np.sqrt(np.mean(np.square(scores - np.repeat(np.add.reduceat(scores, starts) / sizes, sizes))))) or 1.0
    logs = np.log(np.stack([np.maximum(n_volumes, 1), sizes]))
    middle = logs.mean(axis=1)
    centred = logs - middle[:, np.newaxis]
    inverse = 1.0 / np.square(np.maximum(n_volumes, 1))
    usual = float(inverse.mean())
    terms = np.stack([*centred, np.square(centred[0]), inverse - usual])
    loss = _Loss(scores / sd, is_new, starts, sizes, terms, weight, doubt, presences)
    slopes = _by_end_slopes(centred[0])
    bounds = [(0, 16) if i in _SLOPES else (-8, 0) if i in _FIRSTS else (-8, 8) for i in range(len(begin))]

    def loss_of_slopes(at: Float64Array) -> tuple[float, Float64Array]:
        value, gradient = loss(slopes @ at)
        return value, slopes.T @ gradient

    begin = minimize(loss_of_slopes, begin, jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-6).x
    parameters = slopes @ begin
    weights: list[Weight | None] = [None, None]
    for kind in (TRAINED, NEW):
        if (is_new == bool(kind)).any():
            level, volumes, candidates, curve, early = parameters[_OF_KIND * kind : _OF_KIND * (kind + 1)].tolist()
            level += (curve * middle[0] - volumes) * middle[0] - candidates * middle[1] - early * usual - np.log(sd)
            weights[kind] = Weight(float(level), float(volumes - 2 * curve * middle[0]), candidates, curve, early)
    chances = Chances(
        trained=tuple(trained),
        weights=(weights[TRAINED], weights[NEW]),
        head_start=(float(parameters[-2] - parameters[-1] * middle[0]), float(parameters[-1])),
        n_volumes=(max(int(n_volumes.min()), 1), max(int(n_volumes.max()), 1)),
        n_candidates=(int(sizes.min()), int(sizes.max())),
    )
    return chances, begin


def _by_end_slopes(log_volumes: Float64Array) -> Float64Array:
    """Return the matrix, shape (12, 12), that makes parameters of `_Loss` of some that hold slopes instead.

    A parabola's slope is a line, so that one that is not negative at either end of the data is not negative between.
    In the place of each kind's factors of the logarithm of the number of volumes and of its square, the slopes at the
    lowest and the highest number are bounded: more volumes never make a score worth less.
    """
    matrix = np.eye(len(_PRECISION))
    low, high = log_volumes.min(), log_volumes.max()
    if high > low:
        for first, last in zip(_SLOPES[::2], _SLOPES[1::2], strict=True):
            matrix[first, [first, last]] = high / (high - low), -low / (high - low)
            matrix[last, [first, last]] = -0.5 / (high - low), 0.5 / (high - low)
    return matrix


@dataclass(frozen=True, slots=True, eq=False)
class _Loss:
    """Negative log-likelihood of the draws, plus the prior's, with its gradient.

    Parameters are, for each kind, a level and the factors of `terms`; then the head start and its slope over volumes.

    Attributes
    ----------
    scores, is_new : ndarray of shape (n_scores,)
    starts, sizes : ndarray of shape (n_draws,)
    terms : ndarray of shape (4, n_draws)
        Logarithms of the numbers of volumes and candidates, minus their means; the square of the former; and 1 over
        the squared number of volumes, minus its mean.
    weight : ndarray of shape (n_draws,)
    doubt : ndarray of shape (n_draws,)
        Share of each draw's probability that goes to all candidates equally instead of the true one.
    present : ndarray of shape (n_draws,)
        Chance that each draw's pattern holds a response; without one, all candidates are equally likely.
    """

    scores: Float64Array
    is_new: BoolArray
    starts: Array
    sizes: Array
    terms: Float64Array
    weight: Float64Array
    doubt: Float64Array
    present: Float64Array

    def __call__(self, parameters: Float64Array) -> tuple[float, Float64Array]:
        by_kind, head_start = parameters[:-2].reshape(2, _OF_KIND), parameters[-2] + parameters[-1] * self.terms[0]
        slopes = np.exp(by_kind[:, :1] + by_kind[:, 1:] @ self.terms)
        of_trained, of_new = np.repeat(slopes, self.sizes, axis=1)
        evidence = np.where(self.is_new, of_new, of_trained) * self.scores
        worth = evidence + np.repeat(head_start, self.sizes) * self.is_new
        worth -= np.repeat(np.maximum.reduceat(worth, self.starts), self.sizes)
        odds = np.exp(worth)
        share = odds / np.repeat(np.add.reduceat(odds, self.starts), self.sizes)
        expected = np.repeat(self.doubt / self.sizes, self.sizes)
        expected[self.starts] += 1 - self.doubt
        by_score = np.repeat(self.present, self.sizes) * share
        chance = by_score + np.repeat((1 - self.present) / self.sizes, self.sizes)
        # No chance is 0 where one is expected: doubt spreads it over all candidates.
        chance = np.maximum(chance, 1e-300)
        unlikely = -np.add.reduceat(expected * np.log(chance), self.starts)
        owed = expected * by_score / chance
        missing = share * np.repeat(np.add.reduceat(owed, self.starts), self.sizes) - owed
        missing *= np.repeat(self.weight, self.sizes)
        gradient = np.empty(len(parameters))
        for kind, of_kind in enumerate((~self.is_new, self.is_new)):
            by_draw = np.add.reduceat(missing * evidence * of_kind, self.starts)
            gradient[_OF_KIND * kind : _OF_KIND * (kind + 1)] = by_draw.sum(), *(self.terms @ by_draw)
        by_draw = np.add.reduceat(missing * self.is_new, self.starts)
        gradient[-2:] = by_draw.sum(), self.terms[0] @ by_draw
        prior = _PRECISION * parameters
        return float(self.weight @ unlikely + prior @ parameters / 2), gradient + prior
