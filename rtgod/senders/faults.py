"""Faults of a scanner's export, and the schedule of what is sent when, as a pure function of them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import accumulate

from rtgod.errors import InputError

#: How late a late volume comes if that is not said, in repetition times: between the next one and the one after it.
USUAL_DELAY_TR = 1.5
_LONGEST_DELAY_TR = 1000.0
_WRITTEN = re.compile(
    r"(?P<kind>[a-z-]+):(?:(?P<number>[0-9]{1,6})|(?P<percent>[0-9]+(?:\.[0-9]+)?)%)(?:\+(?P<delay>[0-9]+(?:\.[0-9]+)?))?"
)


class Fault(StrEnum):
    """What goes wrong with a volume."""

    LATE = "late"
    DOUBLED = "doubled"
    MISSING = "missing"
    TRUNCATED = "truncated"
    OUT_OF_ORDER = "out-of-order"


@dataclass(frozen=True, slots=True)
class Wish:
    """A fault that somebody asks for.

    Attributes
    ----------
    fault : Fault
    number : int or None
        The volume, from 1; None if volumes are drawn.
    share : float
        Share of the volumes that are drawn.
    delay_tr : float
        How late a late volume comes, in repetition times.
    """

    fault: Fault
    number: int | None = None
    share: float = 0.0
    delay_tr: float = USUAL_DELAY_TR


@dataclass(frozen=True, slots=True)
class Send:
    """A volume that is sent, or would have been.

    Attributes
    ----------
    index : int
        The volume, from 0.
    due_tr : float
        When it is sent, in repetition times from the run's start; volume `index` is whole at `index + 1`.
    fault : Fault or None
        What is wrong with it: a volume that is missing is not sent, and a truncated one not to its end.
    """

    index: int
    due_tr: float
    fault: Fault | None = None


def read_faults(texts: Iterable[str]) -> tuple[Wish, ...]:
    """Read faults as they are written: "late:12,doubled:20", "late:12+3" (3 TR late), "missing:2%".

    Parameters
    ----------
    texts : iterable of str
        Each may hold several, with commas between them.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    wishes = []
    for written in (part.strip() for text in texts for part in text.split(",")):
        match = _WRITTEN.fullmatch(written)
        if match is None or match["kind"] not in set(Fault):
            raise InputError(
                f"--fault {written!r}: write one of {', '.join(Fault)}, and a volume counted from 1 or a share of all, "
                "such as late:12, late:12+3 (by 3 TR) or missing:2%"
            )
        fault, number = Fault(match["kind"]), match["number"]
        share, delay_tr = float(match["percent"] or 0) / 100, float(match["delay"] or USUAL_DELAY_TR)
        if match["delay"] and fault is not Fault.LATE:
            raise InputError(f"--fault {written!r}: only what is late has a delay")
        if not 0 < delay_tr <= _LONGEST_DELAY_TR or share > 1 or number == "0":
            raise InputError(
                f"--fault {written!r}: volumes count from 1, shares end at 100 %, and a delay is more than 0 and at "
                f"most {_LONGEST_DELAY_TR:g} TR"
            )
        wishes.append(Wish(fault, int(number) if number else None, share, delay_tr))
    return tuple(wishes)


def schedule(n_volumes: int, wishes: Sequence[Wish], seed: int = 0, *, in_stream: bool = False) -> tuple[Send, ...]:
    """Say what is sent when: every volume at its time, but for the faults.

    Parameters
    ----------
    n_volumes : int
    wishes : sequence of Wish
    seed : int
        Volumes are drawn from it where shares are asked for; a volume has one fault at most.
    in_stream : bool
        Whether nothing can overtake a volume that is late, as on a single connection.

    Returns
    -------
    tuple of Send
        In the order in which they are sent.

    Raises
    ------
    InputError
        If a fault is asked for a volume that the run does not have, or that has another one.
    """
    chosen = _chosen(n_volumes, wishes, seed)
    overtaking = {index + 1 for index, wish in chosen.items() if wish.fault is Fault.OUT_OF_ORDER}
    sends = []
    for index in range(n_volumes):
        wish, due_tr = chosen.get(index), index + 1.0
        if wish is None:
            sends.append(Send(index, due_tr))
        elif wish.fault is Fault.LATE:
            sends.append(Send(index, due_tr + wish.delay_tr, Fault.LATE))
        elif wish.fault is Fault.OUT_OF_ORDER:
            sends.append(Send(index, due_tr + 1, Fault.OUT_OF_ORDER))
        elif wish.fault is Fault.DOUBLED:
            sends += [Send(index, due_tr), Send(index, due_tr, Fault.DOUBLED)]
        else:
            sends.append(Send(index, due_tr, wish.fault))
    if in_stream:
        latest_tr = accumulate((send.due_tr for send in sends), max)
        return tuple(replace(send, due_tr=due_tr) for send, due_tr in zip(sends, latest_tr, strict=True))
    # Of those that are due at once, one that was overtaken comes after the one that overtook it.
    return tuple(sorted(sends, key=lambda one: (one.due_tr, one.index not in overtaking, one.fault is Fault.LATE)))


def _chosen(n_volumes: int, wishes: Sequence[Wish], seed: int) -> dict[int, Wish]:
    """Return the fault of each volume that has one: those that are asked for, then those that are drawn."""
    chosen: dict[int, Wish] = {}
    taken: set[int] = set()
    for wish in wishes:
        if wish.number is None:
            continue
        of_wish = _touched(wish.number - 1, wish.fault)
        if max(of_wish) >= n_volumes:
            there = f"the run has {n_volumes} volumes" + (", and none after it" if wish.number == n_volumes else "")
            raise InputError(f"--fault {wish.fault}:{wish.number}: {there}")
        if taken & of_wish:
            raise InputError(f"--fault {wish.fault}:{wish.number}: this volume, or its neighbour, has another fault")
        taken |= of_wish
        chosen[wish.number - 1] = wish
    drawn = random.Random(seed)  # noqa: S311 # no secret
    for wish in (wish for wish in wishes if wish.number is None):
        for index in range(n_volumes):
            is_drawn = drawn.random() < wish.share
            of_wish = _touched(index, wish.fault)
            if is_drawn and max(of_wish) < n_volumes and not taken & of_wish:
                taken |= of_wish
                chosen[index] = wish
    return chosen


def _touched(index: int, fault: Fault) -> set[int]:
    return {index, index + 1} if fault is Fault.OUT_OF_ORDER else {index}
