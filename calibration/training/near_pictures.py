"""Learn how pictures are matched with what is decoded, and how sure it is that one of the nearest is the picture seen.

Both are learned from training trials that were decoded without their run and without their category, as if their
pictures were among the user's: each trial's own picture takes part in a ranking of its own and others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from calibration.training.confidence import FEWEST_GROUPS, FittedChances, Rankings, fit_chances
from calibration.training.fit import Trained
from calibration.training.folds import evenly
from calibration.training.held_out_rankings import LeftOut
from calibration.training.left_out_predictions import Predictions, windows_of
from rtgod.decoding.chances import NEW
from rtgod.decoding.picture_index import MOST_DIMENSIONS, N_NEAREST, Pictures, matched_rows
from rtgod.messages import Array, Float32Array

#: Number of the user's pictures, and of rankings, that chances are learned from.
_MOST_OTHERS, _MOST_RANKINGS = 1000, 1500
#: A picture whose units correlate with a trial's own by more than this is that picture.
_THE_SAME = 0.9999


@dataclass(frozen=True, slots=True, eq=False)
class LearnedPictures:
    """Pictures of a bundle, and how well the pictures of left-out trials were found.

    Attributes
    ----------
    pictures : Pictures
    hits : float
        Share of left-out trials whose own picture was among the nearest four of `n_compared`; NaN without any.
    hits_unreduced : float
        The same without reduction to fewer dimensions.
    hits_of_others : float
        The same of another trial's picture in place of the own one: what luck gives.
    n_compared : int
        Number of pictures in these rankings.
    confidence : FittedChances or None
        Chances, with those that were given to left-out categories.
    notes : tuple of str
    """

    pictures: Pictures
    hits: float
    hits_unreduced: float
    hits_of_others: float
    n_compared: int
    confidence: FittedChances | None
    notes: tuple[str, ...]


def learn_pictures(
    names: tuple[str, ...],
    pieces: Iterable[tuple[slice, Mapping[str, Array]]],
    left_out: LeftOut,
    trained: Trained,
    weights: Mapping[str, float],
    why_unknown: str = "",
) -> LearnedPictures:
    """Match pictures, and learn the chances of the nearest.

    Parameters
    ----------
    names : tuple of str
        Path of each picture below its folder.
    pieces : iterable of tuple of slice and mapping of str to ndarray of shape (n_rows, n_units), float32
        Features of all pictures, some after the other.
    left_out : LeftOut
        Predictions of training trials.
    trained : Trained
    weights : mapping of str to float
        Weight of each layer that counts.
    why_unknown : str
        Reason why chances cannot be learned from these trials; empty if they can.
    """
    matcher = _Matcher.of(left_out, trained, weights)
    n_dimensions = matcher.n_units if matcher.basis is None else len(matcher.basis)
    codes = np.empty((len(names), n_dimensions), np.float32)
    others = np.sort(np.random.default_rng(0).permutation(len(names))[:_MOST_OTHERS])
    other_rows = []
    for rows, features in pieces:
        matched = matcher.matched(features)
        codes[rows] = matcher.reduced(matched)
        other_rows.append(matched[others[(others >= rows.start) & (others < rows.stop)] - rows.start])
    trials = _Trials.of(left_out, matcher, np.concatenate(other_rows))
    confidence = None
    if not why_unknown:
        why_unknown = trials.why_not
    if not why_unknown:
        presence = left_out.presence.presence if left_out.presence else None
        confidence = fit_chances(None, trials.rankings(left_out), (), presence)
        why_unknown = "; ".join(confidence.notes)
    chances = confidence.chances if confidence else None
    hits = trials.hits()
    notes = _notes(names, codes, matcher, hits, trials, confidence, why_unknown)
    pictures = Pictures(names, codes, dict(weights), matcher.basis, chances)
    return LearnedPictures(pictures, *hits, trials.n_compared, confidence, notes)


@dataclass(frozen=True, slots=True, eq=False)
class _Matcher:
    """Turns features into rows whose dot products are scores, and reduces them by the training pictures alone."""

    trained: Trained
    weights: Mapping[str, float]
    shown: Float32Array
    basis: Float32Array | None

    @classmethod
    def of(cls, left_out: LeftOut, trained: Trained, weights: Mapping[str, float]) -> _Matcher:
        shown = matched_rows(left_out.samples.Y, trained.layers, weights)
        basis = None
        if shown.shape[1] > MOST_DIMENSIONS:
            seen = np.unique(shown[~left_out.samples.is_imagined], axis=0)
            basis = _directions(seen if len(seen) else shown, MOST_DIMENSIONS)
        return cls(trained, weights, shown, basis)

    @property
    def n_units(self) -> int:
        """Number of units of all layers that count."""
        return self.shown.shape[1]

    def matched(self, features: Mapping[str, Array]) -> Float32Array:
        return matched_rows(features, self.trained.layers, self.weights)

    def reduced(self, rows: Float32Array) -> Float32Array:
        return rows if self.basis is None else rows @ self.basis.T


def _directions(rows: Float32Array, most: int) -> Float32Array:
    """Return orthonormal rows that hold most of the squared length of some rows: (n_directions, n_columns), float32."""
    tall = np.asarray(rows, np.float64)
    values, vectors = np.linalg.eigh(tall @ tall.T)
    largest = np.argsort(-values)[:most]
    largest = largest[values[largest] > 1e-8 * values.max()]
    directions = (vectors[:, largest] / np.sqrt(values[largest])).T @ tall
    return np.ascontiguousarray(directions, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Trials:
    """Left-out windows of trials that were seen, with their scores.

    Attributes
    ----------
    windows : ndarray of shape (n_windows,)
        Rows of the windows.
    trial : ndarray of shape (n_windows,)
        Trial of each window.
    own, own_unreduced, of_other : ndarray of shape (n_windows,)
        Score of each trial's own picture, the same without reduction, and that of another trial's.
    others, others_unreduced : ndarray of shape (n_windows, n_others)
        Scores of the user's pictures; minus infinity for one that is the trial's own.
    complete : ndarray of shape (n_windows,), bool
        Marks each trial's last window.
    why_not : str
        Reason why chances cannot be learned from these; empty if they can.
    """

    windows: Array
    trial: Array
    own: Array
    own_unreduced: Array
    of_other: Array
    others: Array
    others_unreduced: Array
    complete: Array
    why_not: str

    @classmethod
    def of(cls, left_out: LeftOut, matcher: _Matcher, other_rows: Float32Array) -> _Trials:
        samples, all_windows = left_out.samples, windows_of(left_out.samples)
        predictions: Predictions = left_out.without_both or left_out.without_run
        seen = ~samples.is_imagined
        windows = np.flatnonzero((predictions.fold >= 0) & seen[all_windows.of])
        windows = evenly(windows, _MOST_RANKINGS)
        trial = all_windows.of[windows]
        queries = matcher.matched({layer: values[windows] for layer, values in predictions.layers.items()})
        own_rows = matcher.shown[trial]
        is_own = own_rows @ other_rows.T > _THE_SAME
        scores = {}
        for name, reduce in (("", matcher.reduced), ("_unreduced", lambda rows: rows)):
            query, own = reduce(queries), reduce(own_rows)
            scores["others" + name] = np.where(is_own, -np.inf, query @ reduce(other_rows).T)
            scores["own" + name] = np.einsum("ij,ij->i", query, own)
            if not name:
                scores["of_other"] = np.einsum("ij,ij->i", query, own[_of_others(samples.categories, trial)])
        n_categories = len({samples.categories[row] for row in trial})
        why_not = ""
        if left_out.without_both is None or n_categories < FEWEST_GROUPS[NEW]:
            why_not = (
                "it is learned from trials decoded without their category, which needs "
                f"{FEWEST_GROUPS[NEW]} categories, and there are {n_categories}"
            )
        return cls(windows, trial, complete=np.isin(windows, all_windows.last), why_not=why_not, **scores)

    @property
    def n_compared(self) -> int:
        """Number of pictures in a ranking."""
        return self.others.shape[1] + 1

    def hits(self) -> tuple[float, float, float]:
        """Return the shares of complete trials whose own picture is among the nearest: see `LearnedPictures`."""
        if not self.complete.any():
            return float("nan"), float("nan"), float("nan")
        shares = [
            float(((others >= own[:, np.newaxis]).sum(axis=1) < N_NEAREST)[self.complete].mean())
            for own, others in (
                (self.own, self.others),
                (self.own_unreduced, self.others_unreduced),
                (self.of_other, self.others),
            )
        ]
        return shares[0], shares[1], shares[2]

    def rankings(self, left_out: LeftOut) -> Rankings:
        """Make rankings in which each trial's own picture comes first among the candidates."""
        scores = [
            np.array([own, *others[np.isfinite(others)]]) for own, others in zip(self.own, self.others, strict=True)
        ]
        samples = left_out.samples
        return Rankings(
            scores=scores,
            is_new=[np.ones(len(each), bool) for each in scores],
            true=[0] * len(scores),
            n_volumes=windows_of(samples).n_volumes[self.windows].tolist(),
            trials=self.trial.tolist(),
            groups=[samples.categories[row] for row in self.trial],
            response=() if left_out.presence is None else left_out.presence.left_out[self.windows].tolist(),
        )


def _of_others(categories: tuple[str, ...], trial: Array) -> Array:
    """Return for each window the position of one of another category, half of all windows further on if possible."""
    labels = np.array([categories[row] for row in trial])
    n = len(labels)
    chosen = np.arange(n)
    for step in (n // 2, n // 3, n // 5, 1):
        shifted = np.roll(np.arange(n), step)
        still = (labels[chosen] == labels) & (labels[shifted] != labels)
        chosen[still] = shifted[still]
    return chosen


def _notes(
    names: tuple[str, ...],
    codes: Float32Array,
    matcher: _Matcher,
    hits: tuple[float, float, float],
    trials: _Trials,
    confidence: FittedChances | None,
    why_unknown: str,
) -> tuple[str, ...]:
    """Say how pictures are matched, how well left-out trials find their own, and how sure the nearest may be."""
    dimensions = f"{codes.shape[1]} dimensions" + (f" of {matcher.n_units}" if matcher.basis is not None else "")
    notes = [f"pictures: {len(names):,} in {dimensions}"]
    if np.isfinite(hits[0]):
        n = int(trials.complete.sum())
        without = "run and category" if not trials.why_not else "run"
        found = (
            f"pictures: of {n} trials, decoded without their {without}, {100 * hits[0]:.1f} % have their own picture "
            f"among the nearest {N_NEAREST} of {trials.n_compared:,}; with another trial's in its place "
            f"{100 * hits[2]:.1f} %, by chance {100 * min(N_NEAREST / trials.n_compared, 1):.1f} %"
        )
        if matcher.basis is not None:
            found += f"; without the reduction of dimensions {100 * hits[1]:.1f} %"
        notes.append(found)
    if confidence is not None and confidence.chances is not None:
        said, right = confidence.held_out[NEW][:, 0], confidence.hit[NEW][:, 0]
        _, of_trial = np.unique(trials.trial, return_inverse=True)
        by_trial = np.bincount(of_trial, right) / np.bincount(of_trial)
        error = by_trial.std(ddof=1) / np.sqrt(len(by_trial))
        notes.append(
            "pictures: the first is said to be the own one with a chance of "
            f"{100 * np.nanmean(said):.1f} % on average, and {100 * right.mean():.1f} ± {100 * error:.1f} % are, on "
            "categories that chances were not learned from; a chance holds if the picture that is seen is in the folder"
        )
    else:
        notes.append(f"pictures: how sure the nearest may be is unknown, so that they are never pale: {why_unknown}")
    return tuple(notes)
