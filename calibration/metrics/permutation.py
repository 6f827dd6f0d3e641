"""Permutation tests: compare a sum over samples with its values under other labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import permutations
from math import factorial, prod

import numpy as np

from rtgod.messages import Array, Float64Array

#: Number of random exchanges in a test that has too many to go through all.
N_PERMUTATIONS = 2000
#: With fewer categories, exchanges of whole categories have too few outcomes for a test: 120 for five, two for two.
FEW_CATEGORIES = 6
#: A test whose lowest possible p value is above this cannot find anything.
SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class ExchangeTest:
    """Result of a permutation test of labels.

    Attributes
    ----------
    p_value : float
        Share of exchanges, the observed labels included, with at least the observed sum.
    least : float
        Lowest p value that any result could have had: with few samples no result is significant.
    exchanged : {"categories", "blocks"}
    """

    p_value: float
    least: float
    exchanged: str

    @property
    def is_found(self) -> bool:
        """Return whether the labels were found to matter."""
        return self.p_value <= SIGNIFICANT

    @property
    def can_find(self) -> bool:
        """Return whether there are enough samples to find anything."""
        return self.least <= SIGNIFICANT


def exchange_test(
    values: Array,
    labels: Sequence[int] | Array,
    runs: Sequence[Hashable] | None = None,
    *,
    folded: bool = False,
    seed: int = 0,
    n: int = N_PERMUTATIONS,
) -> ExchangeTest:
    """Test whether samples have a higher sum with their own labels than with others.

    Each exchanged category has the same weight for any number of samples: otherwise a decoder that always answers the
    frequent categories would seem to tell them apart.

    If there are at most `n` exchanges, all are computed and the p value is exact; otherwise `n` random ones are, as in
    `share_at_least`.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_labels)
        Contribution of each sample to the sum under each label.
    labels : sequence of int
        Each sample's own label.
    runs : sequence of hashable, optional
        Run of each sample. With it, the labels of single samples are exchanged within runs: this tests that the values
        know which of these categories was shown. Without it, all samples of a category keep a common label, and
        categories are exchanged: samples of a category may err alike, and the test holds for other categories, too.
    folded : bool
        Whether every run is tested on by decoders that were trained on the others. The similarity of two runs then
        counts twice, as training and as test, and a sum without any signal has twice the variance that exchanging test
        labels alone gives it; exchanges are spread out by √2: exact for a sum that is linear in the similarities, else
        cautious.
    seed, n : int
        Seed and number of the random exchanges.
    """
    labels, values = np.asarray(labels), np.asarray(values, np.float64)
    if runs is None:
        values = values / np.bincount(labels)[labels][:, np.newaxis]
    observed = float(values[np.arange(len(labels)), labels].sum())
    rng = np.random.default_rng(seed)
    if runs is None:
        sums, n_all = _with_categories_exchanged(values, labels, rng, n)
    else:
        sums, n_all = _with_blocks_exchanged(values, labels, runs, rng, n)
    if folded:
        sums = spread_out(sums)
    if n_all <= n:  # the observed labels are among the exchanges
        p_value, least = max(_n_at_least(observed, sums), 1) / n_all, 1 / n_all
    else:
        p_value, least = share_at_least(observed, sums), 1 / (1 + n)
    return ExchangeTest(p_value, least, "categories" if runs is None else "blocks")


def spread_out(sums: Float64Array) -> Float64Array:
    """Return sums under other labels, spread out by √2 about their mean, as for `folded` in `exchange_test`.

    Parameters
    ----------
    sums : ndarray of shape (n_exchanges,), float64
    """
    return np.asarray(sums.mean() + np.sqrt(2) * (sums - sums.mean()))


def share_at_least(observed: float, shuffled: Float64Array) -> float:
    """Return the p value of random shuffles, (1 + number at least as high) / (1 + number) (Phipson & Smyth 2010).

    Parameters
    ----------
    observed : float
        Statistic under the labels as they are, high if they matter.
    shuffled : ndarray of shape (n_shuffles,), float64
        The same statistic under shuffled labels.
    """
    return (1 + _n_at_least(observed, shuffled)) / (1 + len(shuffled))


def _n_at_least(observed: float, sums: Float64Array) -> int:
    # Rounding must not make an exchange that changes nothing count as lower.
    return int((sums >= observed - 1e-12 * max(1.0, abs(observed))).sum())


def _with_categories_exchanged(
    values: Float64Array, labels: Array, rng: np.random.Generator, n: int
) -> tuple[Float64Array, int]:
    """Return sums under exchanged categories, and the number of possible exchanges."""
    shown, position = np.unique(labels, return_inverse=True)
    # Entry (i, j) is the sum over the samples of category i if they are taken for category j.
    summed = np.zeros((len(shown), len(shown)))
    np.add.at(summed, position, values[:, shown])
    order = np.arange(len(shown))
    n_all = factorial(len(shown))
    exchanged = np.array(list(permutations(order))) if n_all <= n else rng.permuted(np.tile(order, (n, 1)), axis=1)
    return summed[order, exchanged].sum(axis=1), n_all


def _with_blocks_exchanged(
    values: Float64Array, labels: Array, runs: Sequence[Hashable], rng: np.random.Generator, n: int
) -> tuple[Float64Array, int]:
    """Return sums under labels exchanged within runs, and the number of possible exchanges."""
    position = {run: i for i, run in enumerate(dict.fromkeys(runs))}
    run_of_sample = np.array([position[run] for run in runs])
    rows = [np.flatnonzero(run_of_sample == i) for i in range(len(position))]
    n_all = prod(_n_arrangements(labels[members]) for members in rows)
    if n_all <= n:
        by_run = [
            np.array(
                [values[members, list(order)].sum() for order in _arrangements(tuple(sorted(labels[members].tolist())))]
            )
            for members in rows
        ]
        return reduce(np.add.outer, by_run).ravel(), n_all
    sums = np.zeros(n)
    for members in rows:
        sums += values[members, rng.permuted(np.tile(labels[members], (n, 1)), axis=1)].sum(axis=1)
    return sums, n_all


def _n_arrangements(labels: Array) -> int:
    """Return the number of different orders of labels."""
    return factorial(len(labels)) // prod(factorial(int(count)) for count in np.unique(labels, return_counts=True)[1])


def _arrangements(labels: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield every different order of sorted labels, once."""
    if not labels:
        yield ()
    for i, label in enumerate(labels):
        if i == 0 or label != labels[i - 1]:
            for rest in _arrangements(labels[:i] + labels[i + 1 :]):
                yield (label, *rest)
