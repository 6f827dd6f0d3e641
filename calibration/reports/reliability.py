"""Reliability of rankings' confidence, as figures and rows: of an evaluation's tests, and of what a session showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from calibration.evaluation.accuracy import Confidences
from calibration.metrics.reliability import brier_score, calibration, reliability_bins
from calibration.reports import figures
from rtgod.decoding.confidence import FIRST
from rtgod.messages import Ranking

#: Name of the picture that is written beside a report.
PICTURE = "reliability.png"
#: Columns of `rows_of`.
HEADER = (
    "", "true category", "predicted, %", "observed, %", "Brier score", "calibration error", "by chance alone", "n",
    "trials",
)  # fmt: skip
#: What the columns mean, for people.
MEANING = (
    "The calibration error is the mean distance of prediction and outcome in up to ten bins of equally many rankings; "
    "chance alone gives the number beside it if every prediction is right, rankings of one trial being right or wrong "
    "together."
)
_TITLES = ("first", "first five", "first ten")


def told_chances(n_candidates: int) -> list[tuple[int, str]]:
    """Return the informative chances: one of five candidates, for example, is always among the first five.

    Parameters
    ----------
    n_candidates : int
    """
    return [(i, title) for i, title in enumerate(_TITLES) if FIRST[i] < n_candidates]


def bins_of(of: Confidences, i: int) -> list[tuple[float, float, int]]:
    """Return bins of the chance of a place: mean prediction, observed share and number of rankings of each.

    Parameters
    ----------
    of : Confidences
    i : int
        Index of the place in `rtgod.decoding.confidence.FIRST`.
    """
    bins = reliability_bins(of.probability[:, i], of.hit[:, i])
    return [(float(predicted), float(share), int(n)) for predicted, share, n in zip(*bins, strict=True)]


def rows_of(by_kind: Mapping[str, Confidences], n_candidates: int) -> list[tuple[str, ...]]:
    """Make a row of numbers for each kind and place, in the order of `HEADER`.

    Parameters
    ----------
    by_kind : mapping of str to Confidences
    n_candidates : int
    """
    rows: list[tuple[str, ...]] = []
    for kind, of in by_kind.items():
        for i, title in told_chances(n_candidates):
            p, hit = of.probability[:, i], of.hit[:, i]
            found = calibration(p, hit, of.trials)
            rows.append(
                (
                    kind,
                    title,
                    f"{100 * p.mean():.1f}",
                    f"{100 * hit.mean():.1f}",
                    f"{brier_score(p, hit):.4f}",
                    f"{found.error:.4f}",
                    f"{found.of_chance:.4f}",
                    str(len(hit)),
                    str(len(set(of.trials))),
                )
            )
    return rows


def figure_of(by_kind: Mapping[str, Confidences], n_candidates: int) -> Figure:
    """Draw a panel for each kind and place: how often the true category was there, against how probable that was.

    Parameters
    ----------
    by_kind : mapping of str to Confidences
        At least one, of two candidates or more.
    n_candidates : int
    """
    panels = {
        f"{kind}: {title}" if len(by_kind) > 1 else title: bins_of(of, i)
        for kind, of in by_kind.items()
        for i, title in told_chances(n_candidates)
    }
    return figures.reliability(panels)


def shown_confidences(trials: Sequence[tuple[int, Sequence[Ranking]]]) -> Confidences | None:
    """Return the chances that rankings of trials were shown with, and whether they came true; None without any.

    Parameters
    ----------
    trials : sequence of (int, sequence of Ranking)
        For each trial the position of its true category among the bundle's candidates, and its rankings.
    """
    probability, hit, of_trial, numbers = [], [], [], list[tuple[int, int, int]]()
    for number, (true, rankings) in enumerate(trials):
        for ranking in rankings:
            if ranking.probability is not None:
                probability.append(ranking.probability)
                hit.append([true in ranking.order[:k] for k in FIRST])
                of_trial.append(number)
                numbers.append((int(ranking.order[0]), true, ranking.n_volumes))
    if not probability:
        return None
    first, truth, n_volumes = np.array(numbers, np.int64).T
    return Confidences(np.array(probability), np.array(hit, bool), tuple(of_trial), first, truth, n_volumes)
