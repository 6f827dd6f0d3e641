"""Meaning of trigger pulses: when the run began, and whether the scanner keeps the schedule's time.

Pure: no clock, no I/O. Pulses and times are passed in, and lines for the operator are returned.
"""

from __future__ import annotations

import math
from statistics import median

#: Least time between two lines about pulses that are missing in a run, seconds.
_AGAIN_S = 60.0
#: Number of intervals that measure the scanner's TR, and share of the schedule's TR by which it may differ from that.
_N_INTERVALS, _TOLERANCE = 5, 0.05
#: Shortest and longest time between the repeats of a key held down, seconds, and number of them in a row that is no
#: chance.
_REPEAT_S, _N_REPEATS = (0.015, 0.15), 8


class TriggerClock:
    """Start of the run and timing of the scanner, found from pulses.

    Times are seconds by one clock, whichever it is. A pulse that comes less than half a TR after the last accepted one
    is counted as bounced and otherwise ignored.

    Parameters
    ----------
    tr_s : float
        The schedule's repetition time, seconds.
    n_dummies : int
        Number of accepted pulses before volume 0.
    patience_s : float
        Seconds without a pulse after which the operator is told, and told again at the same interval, until the run
        begins.

    Attributes
    ----------
    started_s : float or None
        Onset of volume 0: the pulse after the dummies; None before it.
    n_bounced : int
        Number of pulses that came too fast.
    """

    def __init__(self, tr_s: float, n_dummies: int = 0, patience_s: float = 60.0) -> None:
        self._tr_s, self._n_dummies, self._patience_s = tr_s, n_dummies, patience_s
        self.started_s: float | None = None
        self.n_bounced = 0
        self._n_dummies_seen = 0
        self._times: list[float] = []
        self._intervals: list[float] = []
        self._last_s = self._accepted_s = -math.inf
        self._n_repeats = 0
        self._silent_from_s: float | None = None
        self._tell_from_s = -math.inf
        self._first: int | None = None  # first and last volume whose pulses are due by now and could be heard here
        self._due = -1

    @property
    def n_pulses(self) -> int:
        """Number of accepted pulses, from volume 0 on."""
        return len(self._times)

    @property
    def errors_s(self) -> tuple[float, ...]:
        """Delay of each accepted pulse after the onset of the nearest volume, seconds, from volume 0 on."""
        if self.started_s is None:
            return ()
        return tuple(at_s - self.started_s - self._nearest(at_s) * self._tr_s for at_s in self._times)

    def rejoin(self, started_s: float) -> None:
        """Take in that the run began already, as after a restart of the display within the run.

        Parameters
        ----------
        started_s : float
            Onset of volume 0.
        """
        self.started_s = started_s
        self._times, self._first, self._due = [], None, -1
        self._silent_from_s, self._tell_from_s = None, -math.inf

    def pulse(self, at_s: float) -> list[str]:
        """Take in a pulse; return lines for the operator, often none.

        Parameters
        ----------
        at_s : float
        """
        shortest_s, longest_s = _REPEAT_S
        self._n_repeats = self._n_repeats + 1 if shortest_s <= at_s - self._last_s <= longest_s else 0
        self._last_s = at_s
        if at_s - self._accepted_s < self._tr_s / 2:
            self.n_bounced += 1
            return self._bounced()
        lines = self._missing(at_s) + self._measured(at_s - self._accepted_s)
        self._accepted_s = self._silent_from_s = at_s
        if self.started_s is None and self._n_dummies_seen < self._n_dummies:
            self._n_dummies_seen += 1
            return lines
        if self.started_s is None:
            self.started_s, self._tell_from_s = at_s, -math.inf
        self._times.append(at_s)
        self._due = max(self._due, self._nearest(at_s))
        if self._first is None:
            self._first = self._due
        return lines

    def tick(self, now_s: float) -> list[str]:
        """Take in the time, at least once a second; return lines for the operator, often none.

        Parameters
        ----------
        now_s : float
        """
        if self._silent_from_s is None:
            self._silent_from_s = now_s
        if self.started_s is not None:
            volumes = (now_s - self.started_s) / self._tr_s
            if self._first is None:
                self._first = math.ceil(volumes)
            self._due = max(self._due, math.floor(volumes - 0.5))
            return self._missing(now_s)
        silent_s = now_s - self._silent_from_s
        if silent_s < self._patience_s or now_s < self._tell_from_s:
            return []
        self._tell_from_s = now_s + self._patience_s
        return [
            f"no trigger for {silent_s:.0f} s: check the trigger's cable, that its key or port is the one in the "
            "settings, and that the scanner is running and set to send triggers"
        ]

    def summary(self) -> str:
        """Return a line for the log: pulses seen of those expected so far, bounced ones, timing errors."""
        bounced = f"{self.n_bounced} came too fast"
        if self.started_s is None:
            return f"triggers: no volume yet, {self._n_dummies_seen} of {self._n_dummies} dummies; {bounced}"
        n_expected = 0 if self._first is None else max(self._due - self._first + 1, 0)
        tally = f"triggers: {self.n_pulses} of {n_expected} expected; {bounced}"
        if not self._times:
            return tally
        errors_ms = [1e3 * abs(error_s) for error_s in self.errors_s]
        return f"{tally}; their timing error {max(errors_ms):.1f} ms at worst, {median(errors_ms):.1f} ms in the median"

    def _nearest(self, at_s: float) -> int:
        """Return the volume whose onset is nearest."""
        return round((at_s - self.started_s) / self._tr_s) if self.started_s is not None else 0

    def _bounced(self) -> list[str]:
        digits = str(self.n_bounced)
        if digits.strip("0") != "1":
            return []  # neither 1 nor 10, 100, ...
        came = "1 trigger pulse came" if self.n_bounced == 1 else f"{self.n_bounced} trigger pulses came"
        why = "; a key may be held down" if self._n_repeats >= _N_REPEATS else ""
        return [f"{came} too fast, within {self._tr_s / 2:g} s (half a TR) of the one before: ignored{why}"]

    def _measured(self, interval_s: float) -> list[str]:
        """Compare the scanner's TR with the schedule's, once."""
        if len(self._intervals) == _N_INTERVALS or not math.isfinite(interval_s):
            return []
        self._intervals.append(interval_s)
        measured_s = median(self._intervals)
        if len(self._intervals) < _N_INTERVALS or abs(measured_s - self._tr_s) <= _TOLERANCE * self._tr_s:
            return []
        return [
            f"triggers come every {measured_s:.3g} s, but the schedule's TR is {self._tr_s:g} s: "
            "is this the scanner protocol that the schedule was made for?"
        ]

    def _missing(self, now_s: float) -> list[str]:
        """Tell of a pulse over half a TR late; only once, if the scanner may send no pulse but the first."""
        if self.started_s is None or self._silent_from_s is None:
            return []
        silent_s = now_s - self._silent_from_s
        only_first_told = self.n_pulses <= 1 and self._tell_from_s > -math.inf
        if silent_s <= 1.5 * self._tr_s or now_s < self._tell_from_s or only_first_told:
            return []
        self._tell_from_s = now_s + _AGAIN_S
        return [f"no trigger for {silent_s:.1f} s; the run goes on by this computer's clock: check the trigger's cable"]
