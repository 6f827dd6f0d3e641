"""Volumes until rankings are sure, as rows and sentences: of an evaluation's tests, and of what a session showed."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from calibration.evaluation.accuracy import Confidences
from calibration.metrics.decisions import Decisions, decisions_of
from rtgod.decoding.confidence import SURE
from rtgod.text import number_of

TITLE = f"Volumes until a ranking is sure: a chance above {100 * SURE:g} % for its first category"
#: Columns of `rows_of`.
HEADER = (
    "", "blocks", "sure", "volumes, median of all", "of those sure", "said, %", "right, %", "90 % interval",
    "right at the end, %", "another block's, %",
)  # fmt: skip
#: What the columns mean, for people.
MEANING = (
    f"A block decides by its first ranking that gives more than {100 * SURE:g} % to its first category. Blocks that "
    "are never sure count in the median of all as those that take longest; – stands for a median that fewer than half "
    "reach. Right at the end: the last rankings of the same blocks. Another block's: decisions compared with the "
    "categories of other blocks instead of their own, which is what chance gives."
)
#: Names of the columns of `table_of`.
COLUMNS = (
    "kind", "n_blocks", "n_sure", "volumes_to_decision", "volumes_of_sure", "said", "right", "low", "high",
    "right_at_end", "right_of_another", "right_at_end_of_all",
)  # fmt: skip


def decided(by_kind: Mapping[str, Confidences]) -> dict[str, Decisions]:
    """Return the decisions of each kind's trials; of files of samples, whose volumes nobody knows, there are none.

    Parameters
    ----------
    by_kind : mapping of str to Confidences
    """
    return {
        kind: decisions_of(of.probability[:, 0], of.first, of.true, of.n_volumes, of.trials)
        for kind, of in by_kind.items()
        if all(n > 0 for n in of.n_volumes)
    }


def rows_of(by_kind: Mapping[str, Decisions]) -> list[tuple[str, ...]]:
    """Make a row for each kind, in the order of `HEADER`.

    Parameters
    ----------
    by_kind : mapping of str to Decisions
    """
    return [
        (
            kind,
            str(of.n_trials),
            str(of.n_decided),
            _number(of.volumes),
            _number(of.volumes_of_decided),
            _percent(of.said),
            _percent(of.right),
            f"{_percent(of.low)}–{_percent(of.high)}" if of.n_decided else "–",
            _percent(of.right_at_end),
            _percent(of.by_chance),
        )
        for kind, of in by_kind.items()
    ]


def table_of(by_kind: Mapping[str, Decisions]) -> list[tuple[object, ...]]:
    """Make a row of plain numbers for each kind, in the order of `COLUMNS`.

    Parameters
    ----------
    by_kind : mapping of str to Decisions
    """
    return [
        (
            kind,
            of.n_trials,
            of.n_decided,
            *(of.volumes, of.volumes_of_decided, of.said, of.right, of.low, of.high),
            *(of.right_at_end, of.by_chance, of.right_of_all),
        )
        for kind, of in by_kind.items()
    ]


def sentence(kind: str, of: Decisions) -> str:
    """Say after how many volumes rankings of a kind are sure, and how often they then are right.

    Parameters
    ----------
    kind : str
    of : Decisions
    """
    blocks = number_of(of.n_trials, "block")
    if not of.n_decided:
        return f"{kind}: none of {blocks} comes to be sure (more than {100 * SURE:g} % for its first category)"
    when = (
        f"after {number_of(int(of.volumes), 'volume')} at the median, "
        if isfinite(of.volumes)
        else "fewer than half, so that there is no median number of volumes: "
    )
    chance = "" if of.n_decided < 2 else f", {_percent(of.by_chance)} % if compared with other blocks' categories"
    return (
        f"{kind}: {of.n_decided} of {blocks} come to be sure (more than {100 * SURE:g} % for the first category), "
        f"{when}{_percent(of.right)} % of these decisions are right{chance}; at the end of the same blocks "
        f"{_percent(of.right_at_end)} % are"
    )


def figures_of(by_kind: Mapping[str, Decisions]) -> dict[str, float]:
    """Return the figures that sum decisions up, by their names; figures that are unknown are missing.

    Parameters
    ----------
    by_kind : mapping of str to Decisions
    """
    figures: dict[str, float] = {}
    for kind, of in by_kind.items():
        figures |= {
            f"{kind}_volumes_to_decision": of.volumes,
            f"{kind}_sure": of.n_decided / of.n_trials,
            f"{kind}_sure_right": of.right,
            f"{kind}_sure_right_of_another": of.by_chance,
        }
    return {name: value for name, value in figures.items() if isfinite(value)}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if isfinite(share) else "–"


def _number(n: float) -> str:
    return f"{n:g}" if isfinite(n) else "–"
