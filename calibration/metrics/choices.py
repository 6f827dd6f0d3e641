"""First choices compared with the categories shown: whether they fall on a few, and the score of one fixed answer.

Pure functions: positions of candidates in, counts and sentences out. Page, terminal and report say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from calibration.metrics.group_means import averaged_by
from calibration.metrics.identification import identification_accuracy
from rtgod.messages import Array, Float64Array

#: In at most this share of tests chance calls any of the ranked categories too often.
COLLAPSE_P = 0.01
#: Categories count as equally frequent if a ranking that never changes scores no more than this above chance.
_NEARLY_EQUAL = 0.025
#: Maximum number of categories that a sentence names.
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Collapse:
    """Collapse of first choices onto a few categories.

    Attributes
    ----------
    n : int
        Number of samples.
    categories : tuple of int
        Positions of the categories that are chosen first too often, most often first.
    n_called, n_shown : tuple of int
        Number of samples for which each of these categories is chosen first, and number that show it.
    p_value : float
        The highest p value of these categories.
    n_candidates : int
    """

    n: int
    categories: tuple[int, ...]
    n_called: tuple[int, ...]
    n_shown: tuple[int, ...]
    p_value: float
    n_candidates: int

    def sentence(self, kind: str, names: Sequence[str]) -> str:
        """Describe the collapse for samples of one kind.

        Parameters
        ----------
        kind : str
            Word that follows "blocks", such as "seen" or "imagined".
        names : sequence of str
            Names of all candidates, by position.
        """
        text = f"Of {self.n} blocks {kind}, {sum(self.n_called)} are called"
        is_single = len(self.categories) == 1
        if is_single:
            shown = self.n_shown[0]
            text += f" “{names[self.categories[0]]}”, which {shown or 'none'} of them {'is' if shown < 2 else 'are'}"
        else:
            most_called = list(zip(self.categories, self.n_called, self.n_shown, strict=True))[:_MOST_NAMED]
            listed = [f"“{names[i]}” ({n}; shown {shown})" for i, n, shown in most_called]
            if n_more := len(self.categories) - len(listed):
                listed.append(f"{n_more} more")
            text += f" one of {len(self.categories)} categories: {', '.join(listed[:-1])} and {listed[-1]}"
        all_of_them, each = ("it", "it") if is_single else ("them", "each")
        return (
            f"{text}. Decoding collapses on {all_of_them}: neither chance nor how often {each} was shown explains that "
            f"(binomial p ≤ {_rounded_up(self.p_value)}, for any of {self.n_candidates:,} candidates)."
        )


def collapse_of(first: Array, true: Array, n_candidates: int) -> Collapse | None:
    """Find categories chosen first more often than by chance; None unless they take over half of all samples.

    A decoder that is sometimes right and otherwise chooses among all candidates with equal chance calls a category, on
    average, no more often than the category is shown or than one in `n_candidates`. The p value of each count is that
    of the binomial distribution with the larger of these two shares, times the number of candidates (Bonferroni): noise
    is reported in at most one of a hundred tests, and right answers never.

    Parameters
    ----------
    first : ndarray of shape (n_samples,), int
        Position of the candidate ranked first.
    true : ndarray of shape (n_samples,), int
    n_candidates : int
    """
    n = len(first)
    if n == 0:
        return None
    called, shown = (np.bincount(positions, minlength=n_candidates) for positions in (first, true))
    p_values = n_candidates * stats.binom.sf(called - 1, n, np.maximum(shown / n, 1 / n_candidates))
    overcalled = np.flatnonzero((p_values <= COLLAPSE_P) & (called > 0))
    overcalled = overcalled[np.argsort(-called[overcalled], kind="stable")]
    if 2 * called[overcalled].sum() <= n:
        return None
    return Collapse(
        n=n,
        categories=tuple(overcalled.tolist()),
        n_called=tuple(called[overcalled].tolist()),
        n_shown=tuple(shown[overcalled].tolist()),
        p_value=float(p_values[overcalled].max()),
        n_candidates=n_candidates,
    )


@dataclass(frozen=True, slots=True)
class Balance:
    """Frequencies of categories, and the scores of answers that never change.

    Attributes
    ----------
    n : int
        Number of samples.
    most_frequent : int
        Position of a category with the highest frequency.
    share : float
        Share of samples of this category, so the share that is right if it is always chosen.
    constant : float
        Identification accuracy, among the shown categories, of one fixed ranking by frequency, most frequent first.
    """

    n: int
    most_frequent: int
    share: float
    constant: float

    @property
    def is_equal(self) -> bool:
        """Return whether categories are nearly equally frequent, so that frequencies need no remark."""
        return self.constant <= 0.5 + _NEARLY_EQUAL

    def sentence(self, kind: str, names: Sequence[str], balanced: float) -> str:
        """Describe the balance for samples of one kind, with their balanced accuracy.

        Parameters
        ----------
        kind : str
            Word that follows "categories", such as "seen" or "imagined".
        names : sequence of str
            Names of all candidates, by position.
        balanced : float
            Identification accuracy with each category counted alike, from 0 to 1.
        """
        return (
            f"The categories {kind} are not equally frequent: always saying “{names[self.most_frequent]}” would be "
            f"right for {100 * self.share:.0f} % of {self.n} blocks. With each category counted alike, identification "
            f"accuracy is {100 * balanced:.1f} % (balanced; chance, and any one answer to all, 50 %)."
        )


def balance_of(true: Array) -> Balance:
    """Count how often each category was shown.

    Parameters
    ----------
    true : ndarray of shape (n_samples,), int
        Position of each sample's category; at least one sample.
    """
    counts = np.bincount(true)
    shown = counts[counts > 0].astype(np.float64)
    accuracies = [identification_accuracy(shown, i) for i in range(len(shown))] if len(shown) > 1 else [0.5]
    most = int(counts.argmax())
    constant = float(np.average(accuracies, weights=shown))
    return Balance(len(true), most, float(counts[most] / len(true)), constant)


def balanced(labels: Sequence[object] | Array, values: Float64Array) -> float:
    """Return the mean of the categories' means.

    Parameters
    ----------
    labels : sequence
        Category of each value.
    values : ndarray of shape (n_samples,)
    """
    return float(averaged_by([str(label) for label in labels], values)[1].mean())


def remarks_on_choices(kind: str, scores: Array, true: Sequence[int] | Array, names: Sequence[str]) -> list[str]:
    """Remark on unequal frequencies of categories and on first choices that fall on few of them; empty without either.

    Parameters
    ----------
    kind : str
        "seen" or "imagined".
    scores : ndarray of shape (n_samples, n_candidates)
    true : sequence of int
        Position of each sample's true category.
    names : sequence of str
        Names of the candidates.
    """
    true = np.asarray(true)
    if len(true) == 0:
        return []
    sentences, frequencies = [], balance_of(true)
    if not frequencies.is_equal:
        accuracies = np.array([identification_accuracy(row, int(t)) for row, t in zip(scores, true, strict=True)])
        sentences.append(frequencies.sentence(kind, names, balanced(true, accuracies)))
    collapse = collapse_of(scores.argmax(axis=1), true, scores.shape[1])
    return sentences if collapse is None else [*sentences, collapse.sentence(kind, names)]


def _rounded_up(p_value: float) -> str:
    """Format an upper bound of one digit for a p value."""
    p_value = max(p_value, 1e-6)
    n_digits = -int(np.floor(np.log10(p_value)))
    return f"{np.ceil(p_value * 10**n_digits - 1e-9) / 10**n_digits:.{n_digits}f}"
