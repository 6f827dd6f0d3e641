"""Whom everything is told that happens in a run: the log, the server, the operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stimulus.paradigm.schedule import Step
from stimulus.recording.run_files import RunRecord
from stimulus.runtime.server_link import Link
from stimulus.timing.machine_time import MachineTime
from stimulus.timing.trigger_clock import TriggerClock


@dataclass(frozen=True, slots=True)
class Operator:
    """Who runs the session.

    Attributes
    ----------
    tell : callable
        Shows a line.
    asks : callable
        Lines that were typed since the last call: "target CATEGORY", "note WORDS", "stop".
    """

    tell: Callable[[str], object] = lambda line: None  # noqa: ARG005 # nobody is told
    asks: Callable[[], Sequence[str]] = tuple


class EventSink:
    """Notes what happens, with its time by every clock.

    Parameters
    ----------
    record : RunRecord
    metronome : TriggerClock
        Which knows when the run began.
    link : Link or None
        To the server, where there is one.
    operator : Operator
    now, utc : callable
        Seconds of the display's clock, and since 1970.
    speed : float
        Of the run: 1 in earnest.
    machine : callable
        Now, by a clock that nobody sets; None where there is none.
    """

    def __init__(
        self,
        record: RunRecord,
        metronome: TriggerClock,
        link: Link | None,
        operator: Operator,
        now: Callable[[], float],
        utc: Callable[[], float],
        speed: float,
        machine: Callable[[], MachineTime | None],
    ) -> None:
        self._record, self._metronome, self._link, self._operator = record, metronome, link, operator
        self._now, self._utc, self._speed, self._machine = now, utc, speed, machine
        self._places = {step: place for place, step in enumerate(record.happened.schedule.steps)}
        self._told: set[str] = set()

    def run_s(self, at_s: float) -> float | None:
        """Seconds into the run at a time of the display's clock; None before it."""
        started_s = self._metronome.started_s
        return None if started_s is None else (at_s - started_s) * self._speed

    def place(self, step: Step | None) -> int | None:
        """Where in the schedule a step is."""
        return None if step is None else self._places[step]

    def log(self, kind: str, at_s: float, step: Step | None = None, value: str = "") -> None:
        """Write a line of the log."""
        utc_s = self._utc() - (self._now() - at_s)
        offset = (None, None) if self._link is None else self._link.offset
        self._record.log(kind, utc_s, at_s, self.run_s(at_s), self.place(step), value, offset)

    def log_start(self, at_s: float) -> None:
        """Write the line that says when the run began: what a display that is started again goes by."""
        machine = self._machine()
        if machine is not None:
            machine = MachineTime(machine.boot, machine.at_s - (self._now() - at_s))
        self.log("started", at_s, value="" if machine is None else str(machine))

    def report(self, kind: str, at_s: float, value: str) -> None:
        """Tell the server."""
        if self._link is not None:
            self._link.report(kind, at_s, value)

    def tell(self, line: str) -> None:
        """Tell the operator."""
        self._operator.tell(line)

    def warn(self, line: str, *, once: bool = False) -> None:
        """Log a line and tell it the operator; if `once`, not again if it was told before."""
        if once and line in self._told:
            return
        self._told.add(line)
        self.log("warning", self._now(), value=line)
        self.tell(line)
