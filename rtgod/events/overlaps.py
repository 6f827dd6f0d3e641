"""Trials that overlap in time: a volume would belong to both, and rtgod never guesses which one it shows.

Rows of one category at the same time are joined into one trial. A name whose rows all span, or lie within, rows of
several other names cannot be told apart from them ("block" around pictures, "catch" within blocks), and is left out.
Other categories at the same time are refused. An overlap of less than half of the shorter trial is reported and kept:
the model of the responses separates responses that follow each other closely.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtgod.errors import InputError
from rtgod.events.merging import as_one
from rtgod.events.trials import Trial, toml_list

#: Two trials count as at the same time if they share more than this part of the shorter one.
_SAME_TIME = 0.5
#: Largest rounding of onsets and durations, in seconds; also the assumed duration of an impulse.
_ROUNDING_S = 0.1
#: Duration, in seconds, that no real trial reaches.
_NO_TRIAL_S = 300.0
#: Most pairs that a message names, and most names that it proposes for events.ignore.
_MOST_TOLD, _MOST_NAMES = 2, 12


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two trials that overlap in time.

    Attributes
    ----------
    longer, shorter : Trial
        The longer and the shorter trial; of two equally long trials the earlier counts as the longer.
    shared_s : float
        Time in both trials, in seconds.
    """

    longer: Trial
    shorter: Trial
    shared_s: float

    @property
    def is_same_time(self) -> bool:
        """Whether the trials share more than half of the shorter one."""
        return self.shared_s > _SAME_TIME * _lasts_s(self.shorter)

    @property
    def is_of_one(self) -> bool:
        """Whether both trials have the same kind and category."""
        return _name(self.longer) == _name(self.shorter)

    def __str__(self) -> str:
        first, second = sorted((self.longer, self.shorter), key=lambda trial: trial.onset_s)
        return (
            f"{first.category or 'n/a'} at {first.onset_s:g} s and {second.category or 'n/a'} at {second.onset_s:g} s"
        )


def overlaps_in(trials: Sequence[Trial]) -> list[Overlap]:
    """Find pairs of trials that overlap by more than rounding.

    Parameters
    ----------
    trials : sequence of Trial
        In order of onset.
    """
    overlaps: list[Overlap] = []
    lasting: list[Trial] = []
    for trial in trials:
        lasting = [earlier for earlier in lasting if _end_s(earlier) > trial.onset_s]
        for earlier in lasting:
            longer, shorter = (earlier, trial) if _lasts_s(earlier) >= _lasts_s(trial) else (trial, earlier)
            overlap = Overlap(longer, shorter, min(_end_s(earlier), _end_s(trial)) - trial.onset_s)
            if overlap.shared_s > _ROUNDING_S or overlap.is_same_time:
                overlaps.append(overlap)
        lasting.append(trial)
    return overlaps


def names_that_say_nothing(overlaps: Sequence[Overlap], trials: Sequence[Trial], kept: Iterable[str]) -> frozenset[str]:
    """Find categories whose trials all coincide with trials of several others that coincide with no further category.

    Parameters
    ----------
    overlaps : sequence of Overlap
    trials : sequence of Trial
        All trials of the table.
    kept : iterable of str
        Names that the settings keep as categories, in upper or lower case.
    """
    kept_names = {name.casefold() for name in kept}
    beside: dict[str, set[str]] = {}
    coinciding: dict[str, set[Trial]] = {}
    for overlap in _at_same_time(overlaps):
        for trial, other in ((overlap.longer, overlap.shorter), (overlap.shorter, overlap.longer)):
            beside.setdefault(trial.category, set()).add(other.category)
            coinciding.setdefault(trial.category, set()).add(trial)
    return frozenset(
        name
        for name, others in beside.items()
        if len(others) > 1
        and all(beside[other] == {name} for other in others)
        and len(coinciding[name]) == sum(trial.category == name for trial in trials)
        and name.casefold() not in kept_names
    )


def check_told_apart(path: Path, overlaps: Sequence[Overlap], trials: Sequence[Trial], kept: Iterable[str]) -> None:
    """Refuse trials of several categories at the same time, unless the settings keep all of these categories.

    Parameters
    ----------
    path : Path
        The table, for the message.
    overlaps : sequence of Overlap
    trials : sequence of Trial
        All trials of the table.
    kept : iterable of str
        Names that the settings keep as categories, in upper or lower case.

    Raises
    ------
    InputError
        If such trials are left, or a duration seems to be in milliseconds.
    """
    longest_s = max((overlap.longer.duration_s for overlap in overlaps if overlap.is_same_time), default=0.0)
    if longest_s > max(_NO_TRIAL_S, 2 * (trials[-1].onset_s - trials[0].onset_s)):
        raise InputError(
            f"{path}: trials are at the same time as others, and the longest lasts {longest_s:g} s; are the durations "
            "in milliseconds?"
        )
    kept_names = {name.casefold() for name in kept}
    doubtful = [
        overlap
        for overlap in _at_same_time(overlaps)
        if not {overlap.longer.category.casefold(), overlap.shorter.category.casefold()} <= kept_names
    ]
    if not doubtful:
        return
    n = len({trial for overlap in doubtful for trial in (overlap.longer, overlap.shorter)})
    listed = "; ".join(map(str, doubtful[:_MOST_TOLD])) + ("; …" if len(doubtful) > _MOST_TOLD else "")
    problem = f"{n} of {len(trials)} trials are at the same time as trials of other categories ({listed})"
    sides = [dict.fromkeys(overlap.longer.category for overlap in doubtful)]
    sides.append(dict.fromkeys(overlap.shorter.category for overlap in doubtful))
    if sides[0].keys() & sides[1].keys() or max(map(len, sides)) > _MOST_NAMES:
        raise InputError(f"{path}: {problem}; a volume can be of one only, so correct the onsets and durations")
    either = " or ".join(toml_list(side) for side in sides)
    raise InputError(
        f"{path}: {problem}; a volume can be of one only: correct the table, or leave one kind out with events.ignore "
        f"= {either}; if both are meant, write events.keep = {toml_list(sides[0] | sides[1])}"
    )


def joined(trials: Sequence[Trial]) -> tuple[list[Trial], int]:
    """Join trials of one category that are at the same time.

    Parameters
    ----------
    trials : sequence of Trial
        In order of onset.

    Returns
    -------
    trials : list of Trial
    n_joined : int
        Trials that became part of another.
    """
    groups: list[list[Trial]] = []
    newest: dict[tuple[str, str], int] = {}
    for trial in trials:
        index = newest.get(_name(trial))
        if index is not None and any(overlap.is_same_time for overlap in overlaps_in([as_one(groups[index]), trial])):
            groups[index].append(trial)
        else:
            newest[_name(trial)] = len(groups)
            groups.append([trial])
    return [as_one(group) for group in groups], len(trials) - len(groups)


def _at_same_time(overlaps: Iterable[Overlap]) -> list[Overlap]:
    """Select the overlaps of two categories at the same time."""
    return [overlap for overlap in overlaps if overlap.is_same_time and not overlap.is_of_one]


def _name(trial: Trial) -> tuple[str, str]:
    return trial.kind, trial.category


def _lasts_s(trial: Trial) -> float:
    return max(trial.duration_s, _ROUNDING_S)


def _end_s(trial: Trial) -> float:
    return trial.onset_s + _lasts_s(trial)
