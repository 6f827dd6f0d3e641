"""Counting of a run's volumes: which the scanner delivers but nobody uses, and at which one an events table begins.

The scanner's volumes are numbered from 1, as people number them. Those that are used are indexed from 0, and onsets
count from the start of the first of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rtgod.errors import InputError
from rtgod.events.trials import Trial
from rtgod.messages import Volume
from rtgod.settings import EventsSettings
from rtgod.text import number_of

#: Share of a repetition time by which an onset may lie before a volume and still count as in it.
_ROUNDING_TR = 1e-6
#: A first trial that begins this long after a run's start is asked about, seconds: few runs last an hour.
_LATE_S = 3600.0


def onset_0_s(rules: EventsSettings, tr_s: float) -> float:
    """Return when a table's onset 0 is, in seconds from the start of the first volume that is used.

    Parameters
    ----------
    rules : EventsSettings
    tr_s : float
        Repetition time, seconds.
    """
    return (rules.count_from - 1 - rules.discard_volumes) * tr_s


def used(volume: Volume, n_discarded: int, tr_s: float) -> Volume:
    """Index a volume among those that are used.

    Parameters
    ----------
    volume : Volume
        As the scanner delivered it; it is not one of those that are discarded.
    n_discarded : int
    tr_s : float
        Repetition time, seconds.
    """
    if not n_discarded:
        return volume
    return replace(volume, index=volume.index - n_discarded, acquired_s=volume.acquired_s - n_discarded * tr_s)


def those_used(volumes: Iterable[Volume], n_discarded: int, tr_s: float) -> Iterator[Volume]:
    """Give the volumes that are used, indexed among themselves.

    Parameters
    ----------
    volumes : iterable of Volume
        As the scanner delivered them.
    n_discarded : int
    tr_s : float
        Repetition time, seconds.
    """
    return (used(volume, n_discarded, tr_s) for volume in volumes if volume.index >= n_discarded)


def n_used(n_volumes: int, rules: EventsSettings) -> int:
    """Return how many volumes of a run are used.

    Parameters
    ----------
    n_volumes : int
        Volumes that the scanner delivers.
    rules : EventsSettings

    Raises
    ------
    InputError
        If all are discarded.
    """
    if n_volumes <= rules.discard_volumes:
        raise InputError(
            f"its {number_of(n_volumes, 'volume')} would all be discarded (events.discard_volumes = "
            f"{rules.discard_volumes}, or --discard)"
        )
    return n_volumes - rules.discard_volumes


def is_usual(rules: EventsSettings) -> bool:
    """Return whether all volumes are used, and onsets count from the first.

    Parameters
    ----------
    rules : EventsSettings
    """
    return (rules.discard_volumes, rules.count_from) == (0, 1)


def discarded(n: int) -> str:
    """Say how many volumes are discarded.

    Parameters
    ----------
    n : int
    """
    return f"{number_of(n, 'volume')} {'is' if n == 1 else 'are'} discarded" if n else "no volume is discarded"


def discard_notes(rules: EventsSettings | None, *, is_said: bool) -> tuple[str, ...]:
    """Note that volumes are discarded, unless the remarks on an events table say it.

    Parameters
    ----------
    rules : EventsSettings or None
        None discards none.
    is_said : bool
        Whether there is an events table.
    """
    n_discarded = rules.discard_volumes if rules else 0
    return (discarded(n_discarded),) if n_discarded and not is_said else ()


def in_words(rules: EventsSettings, trials: Sequence[Trial] = (), tr_s: float | None = None) -> str:
    """Say which volumes are used, where a table's onset 0 is, and in which volume its first trial begins.

    Parameters
    ----------
    rules : EventsSettings
    trials : sequence of Trial
        With onsets from the start of the first volume that is used, or, without `tr_s`, from the table's onset 0.
    tr_s : float, optional
        Repetition time, seconds; None where it is not known yet.
    """
    from_1 = rules.count_from
    zero = f"the start of volume {from_1}" if from_1 > 0 else f"{1 - from_1} TR before the start of volume 1"
    said = f"{discarded(rules.discard_volumes)}; onset 0 is {zero}"
    if not trials:
        return said
    first_s = min(trial.onset_s for trial in trials)
    asked = ""
    if first_s >= _LATE_S:
        asked = f", {first_s / 60:.0f} minutes after the run's start; are these milliseconds, or another run's events?"
    if tr_s is None:
        return f"{said}; the first trial is at {first_s:g} s{asked}"
    number = int(first_s / tr_s + _ROUNDING_TR) + rules.discard_volumes + 1
    return f"{said}; the first trial, at {first_s - onset_0_s(rules, tr_s):g} s, begins in volume {number}{asked}"
