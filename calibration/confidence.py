"""Fits how sure a ranking may be to rankings of cross-validation, and says how far that can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from calibration.folds import N_FOLDS, leave_groups_out
from calibration.identification import rank_of
from rtgod.confidence import CLUES, FIRST, Confidence, describe
from rtgod.errors import InputError
from rtgod.messages import Array, BoolArray, Float64Array

#: Inverse penalties that are tried; the first hardly lets the clues speak.
_INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
#: Fewer tell nothing about what makes a hit.
_FEWEST = {"hits": 10, "misses": 10, "categories": N_FOLDS}


@dataclass(frozen=True, slots=True, eq=False)
class FittedConfidence:
    """A confidence and how it does on rankings that it was not fitted to.

    Attributes
    ----------
    confidence : Confidence
        Fitted to all rankings.
    held_out : ndarray of shape (n_rankings, 3), float64
        Each ranking's probabilities from a fit without its category's rankings, for each of `FIRST`.
    hit : ndarray of shape (n_rankings, 3), bool
        Whether the true category was among the first 1, 5 and 10.
    notes : tuple of str
        Which of the three are base rates only, and why.
    """

    confidence: Confidence
    held_out: Float64Array
    hit: BoolArray
    notes: tuple[str, ...]


def fit_confidence(
    scores: Sequence[Array],
    true: Sequence[int],
    n_volumes: Sequence[int],
    n_blocks: Sequence[int],
    groups: Sequence[str],
) -> FittedConfidence:
    """Fit to held-out rankings.

    Where there are fewer than 10 hits, 10 misses or 5 categories, the probability is the share of hits, whatever the
    ranking looks like.

    Parameters
    ----------
    scores : sequence of ndarray of shape (n_candidates,)
        Each ranking's scores in the order of the candidates, from a decoder that had not seen its trials. Rankings may
        be of different sets of candidates.
    true : sequence of int
        Position of each ranking's true category among its candidates.
    n_volumes, n_blocks : sequence of int
        How many volumes and trials each ranking rests on.
    groups : sequence of str
        Category of each ranking: its rankings are not independent, so whole categories are left out.

    Raises
    ------
    InputError
        If there is no ranking.
    """
    if not len(scores):
        raise InputError("no ranking to learn a confidence from: no shown category is among the candidates")
    rankings = zip(scores, n_volumes, n_blocks, strict=True)
    X = np.array([describe(-np.sort(-each), len(each), *numbers) for each, *numbers in rankings])
    ranks = np.array([rank_of(each, position) for each, position in zip(scores, true, strict=True)])
    hit = ranks[:, np.newaxis] <= np.array(FIRST)
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    held_out = np.empty(hit.shape)
    for kept, left_out in leave_groups_out(labels):
        confidence = _fit(X[kept], hit[kept], labels[kept])
        held_out[left_out] = [confidence.probabilities(clues) for clues in X[left_out]]
    notes = [
        f"chance that the true category is in the first {k}: the same for every ranking, for too few are {lacking}"
        for k, column in zip(FIRST, hit.T, strict=True)
        if (lacking := _lacking(column, labels))
    ]
    return FittedConfidence(_fit(X, hit, labels), held_out, hit, tuple(notes))


def reliability_bins(p: Array, hit: Array, n_bins: int = 10) -> tuple[Float64Array, Float64Array, Array]:
    """Predicted against observed, in bins of about equal counts; equal predictions share a bin.

    Parameters
    ----------
    p, hit : ndarray of shape (n_rankings,)
        Predicted probabilities, and what came true.
    n_bins : int
        At most.

    Returns
    -------
    predicted, observed : ndarray of shape (n_found,), float64
        Mean prediction and share of hits in each bin.
    count : ndarray of shape (n_found,), int
    """
    # Edges are predictions that were made, so that no bin is empty.
    edges = np.unique(np.quantile(p, np.arange(n_bins) / n_bins, method="higher"))
    of_bin = np.searchsorted(edges[1:], p, side="right")
    count = np.bincount(of_bin)
    return np.bincount(of_bin, p) / count, np.bincount(of_bin, hit) / count, count


def brier_score(p: Array, hit: Array) -> float:
    """Mean squared difference of prediction and outcome (Brier 1950); 0 is best."""
    return float(np.square(p - hit).mean())


def calibration_error(p: Array, hit: Array, n_bins: int = 10) -> float:
    """Expected calibration error: mean distance of predicted and observed over the bins, by their counts."""
    predicted, observed, count = reliability_bins(p, hit, n_bins)
    return float(np.average(np.abs(predicted - observed), weights=count))


def _fit(X: Float64Array, hit: BoolArray, labels: Array) -> Confidence:
    """`X` of shape (n_rankings, n_clues), `hit` of shape (n_rankings, 3)."""
    mean, sd = X.mean(axis=0), X.std(axis=0)
    sd[sd < 1e-12] = 1.0
    Z = (X - mean) / sd
    models = [_logistic(Z, column, labels) for column in hit.T]
    return Confidence(
        mean=tuple(mean.tolist()),
        sd=tuple(sd.tolist()),
        lowest=tuple(X.min(axis=0).tolist()),
        highest=tuple(X.max(axis=0).tolist()),
        coefficients=tuple(coefficients.tolist() for coefficients, _ in models),
        intercepts=tuple(intercept for _, intercept in models),
    )


def _logistic(Z: Float64Array, hit: BoolArray, labels: Array) -> tuple[Float64Array, float]:
    """Coefficients and intercept, with the penalty whose predictions for other categories are the most likely."""
    if _lacking(hit, labels):
        return _share(hit)
    losses = [_held_out_loss(Z, hit, labels, inverse_penalty) for inverse_penalty in _INVERSE_PENALTIES]
    return _regress(Z, hit, _INVERSE_PENALTIES[int(np.argmin(losses))])


def _held_out_loss(Z: Float64Array, hit: BoolArray, labels: Array, inverse_penalty: float) -> float:
    """Mean of the negative log-likelihood, each category predicted from the others."""
    loss = 0.0
    for kept, left_out in leave_groups_out(labels):
        coefficients, intercept = _regress(Z[kept], hit[kept], inverse_penalty)
        signed = np.where(hit[left_out], -1, 1) * (Z[left_out] @ coefficients + intercept)
        loss += np.logaddexp(0, signed).sum()
    return loss / len(hit)


def _regress(Z: Float64Array, hit: BoolArray, inverse_penalty: float) -> tuple[Float64Array, float]:
    if hit.all() or not hit.any():
        return _share(hit)
    # Newton's method: of few clues, ten times quicker than the default.
    model = LogisticRegression(C=inverse_penalty, solver="newton-cholesky").fit(Z, hit)
    return model.coef_[0], float(model.intercept_[0])


def _share(hit: BoolArray) -> tuple[Float64Array, float]:
    """The share of hits for every ranking; half a hit and half a miss more, so that nothing is taken for certain."""
    hits = hit.sum() + 0.5
    return np.zeros(len(CLUES)), float(np.log(hits / (hit.size + 1 - hits)))


def _lacking(hit: BoolArray, labels: Array) -> str:
    """What there is too little of to fit; empty if nothing."""
    counts = {"hits": hit.sum(), "misses": (~hit).sum(), "categories": np.unique(labels).size}
    return ", ".join(f"{name} ({n})" for name, n in counts.items() if n < _FEWEST[name])
