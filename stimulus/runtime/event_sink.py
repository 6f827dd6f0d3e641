"""Receivers of everything that happens in a run: the log, the server, the operator."""

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
    """Channels to the person who runs the session.

    Attributes
    ----------
    tell : callable
        Shows the operator a line.
    asks : callable
        Returns the lines typed since the last call: "target CATEGORY", "note WORDS", "stop".
    """

    tell: Callable[[str], object] = lambda line: None  # noqa: ARG005 # nobody is told
    asks: Callable[[], Sequence[str]] = tuple


class EventSink:
    """Sink for events: it logs them with their times by every clock, reports them to the server, tells the operator.

    Parameters
    ----------
    record : RunRecord
    metronome : TriggerClock
        Knows when the run began.
    link : Link or None
        Link to the server; None without one.
    operator : Operator
    now, utc : callable
        The display's clock, seconds, and a clock of seconds since 1970.
    speed : float
        Speed of the run: 1 in an experiment, more to rehearse.
    machine : callable
        Returns the time now by a clock that nobody sets; None if the machine has none.
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
        """Convert a time of the display's clock to seconds into the run; None before the run.

        Parameters
        ----------
        at_s : float
        """
        started_s = self._metronome.started_s
        return None if started_s is None else (at_s - started_s) * self._speed

    def place(self, step: Step | None) -> int | None:
        """Return a step's place in the schedule; None for no step.

        Parameters
        ----------
        step : Step or None
        """
        return None if step is None else self._places[step]

    def log(self, kind: str, at_s: float, step: Step | None = None, value: str = "") -> None:
        """Write a line of the log.

        Parameters
        ----------
        kind : str
            Kind of the event, as in `Entry`.
        at_s : float
            Time of the event by the display's clock, seconds.
        step : Step, optional
            Step that the event is about.
        value : str
            Details of the event.
        """
        utc_s = self._utc() - (self._now() - at_s)
        offset = (None, None) if self._link is None else self._link.offset
        self._record.log(kind, utc_s, at_s, self.run_s(at_s), self.place(step), value, offset)

    def log_start(self, at_s: float) -> None:
        """Write the line with the start of the run; a display that is started again takes the time from it.

        Parameters
        ----------
        at_s : float
            Onset of volume 0 by the display's clock, seconds.
        """
        machine = self._machine()
        if machine is not None:
            machine = MachineTime(machine.boot, machine.at_s - (self._now() - at_s))
        self.log("started", at_s, value="" if machine is None else str(machine))

    def report(self, kind: str, at_s: float, value: str) -> None:
        """Report an event to the server, if there is one.

        Parameters
        ----------
        kind : str
            Kind of the event, such as "started", "button" or "shown".
        at_s : float
            Time of the event by the display's clock, seconds.
        value : str
            Details of the event.
        """
        if self._link is not None:
            self._link.report(kind, at_s, value)

    def tell(self, line: str) -> None:
        """Show the operator a line.

        Parameters
        ----------
        line : str
        """
        self._operator.tell(line)

    def warn(self, line: str, *, once: bool = False) -> None:
        """Log a line and show it to the operator.

        Parameters
        ----------
        line : str
        once : bool
            Whether the line is left out if it was logged by `warn` before.
        """
        if once and line in self._told:
            return
        self._told.add(line)
        self.log("warning", self._now(), value=line)
        self.tell(line)
