"""Presses among the events that a key sends, told apart from bounces and from the repeats of a key held down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stimulus.timing.triggers import KeyPress

#: Events of one key closer together than this are one press whose contact bounces, seconds.
_BOUNCE_S = 0.015
#: A key that is held down sends its repeats at most the first time apart, after a delay of at most the second, seconds.
_REPEAT_S, _DELAY_S = 0.1, 1.05
#: Number of repeats after which the operator is told.
_N_HELD = 8


@dataclass(slots=True)
class _Key:
    last_s: float = -math.inf
    waiting: KeyPress | None = None
    n_repeats: int = 0


class KeyDebouncer:
    """Filter that tells presses from bounces and repeats.

    An event that comes within `_DELAY_S` of another one of its key may be a press or the first repeat: the next event
    decides, so it waits for `_REPEAT_S`. An event after a longer pause is a press, and is returned at once.
    """

    def __init__(self) -> None:
        self._keys: dict[str, _Key] = {}

    def without_bounces(self, events: Sequence[KeyPress], now_s: float) -> tuple[list[KeyPress], list[str]]:
        """Take in events; return presses that are certain by now, and lines for the operator.

        Parameters
        ----------
        events : sequence of KeyPress
            New events of all keys, in the order in which they came.
        now_s : float
            Present time by the clock of the events, seconds.
        """
        presses: list[KeyPress] = []
        lines: list[str] = []
        for event in events:
            key = self._keys.setdefault(event.name, _Key())
            since_s = event.at_s - key.last_s
            if since_s < _BOUNCE_S:
                continue
            key.last_s = event.at_s
            if since_s <= _REPEAT_S:
                key.waiting = None
                key.n_repeats += 1
                if key.n_repeats == _N_HELD:
                    lines.append(f"button {event.name!r} is held down, or stuck; that counts as one press")
                continue
            key.n_repeats = 0
            if key.waiting is not None:
                presses.append(key.waiting)
            key.waiting = event
            if since_s > _DELAY_S:
                presses.append(event)
                key.waiting = None
        for key in self._keys.values():
            if key.waiting is not None and now_s - key.last_s > _REPEAT_S:
                presses.append(key.waiting)
                key.waiting = None
        return sorted(presses, key=lambda press: press.at_s), lines
