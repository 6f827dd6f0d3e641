"""State of a run, built line by line from its log, and the table of events that is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from stimulus.paradigm.bids_events import planned_cells, seconds
from stimulus.paradigm.schedule import Schedule, StepKind
from stimulus.timing.machine_time import MachineTime, Moment


class Entry(NamedTuple):
    """A line of the log.

    Attributes
    ----------
    kind : str
        Kind of the event, such as "started", "onset" or "answer".
    utc_s : float
        Time of the event, seconds since 1970.
    run_s : float or None
        Time of the event, seconds into the run; None before the run.
    step : int or None
        Place in the schedule of the step that the line is about; None if it is about no step.
    value : str
        Details of the event.
    """

    kind: str
    utc_s: float
    run_s: float | None = None
    step: int | None = None
    value: str = ""


@dataclass(slots=True)
class RunState:
    """State of a run, from the lines of its log.

    Attributes
    ----------
    schedule : Schedule
    started_utc_s : float or None
        Onset of volume 0, seconds since 1970; None before the trigger.
    started_machine : MachineTime or None
        Onset of volume 0 by a clock that nobody sets, if the machine has one.
    ended : bool
        Whether the run came to its end, or was stopped.
    stopped_s : float or None
        Time at which the run was stopped, seconds into the run.
    onsets_s : dict of int to float
        Time at which each step was first on the screen, seconds into the run, by the step's place in the schedule.
    rejoined_s : list of float
        Times at which a display that was started again continued the run, seconds into the run.
    presses : list of (int, float)
        Place of the step, and seconds into the run, of each press of a button.
    answers : dict of int to (float, str)
        Time of the last answer, seconds into the run, and the answer, by the place of the step that asked.
    chosen : dict of int to str
        Category by number of the trial, for trials without a scheduled one: set by the operator, or named later by the
        participant.
    wanted : str
        Category that the operator wants to be imagined in the next such trial.
    """

    schedule: Schedule
    started_utc_s: float | None = None
    started_machine: MachineTime | None = None
    ended: bool = False
    stopped_s: float | None = None
    onsets_s: dict[int, float] = field(default_factory=dict)
    rejoined_s: list[float] = field(default_factory=list)
    presses: list[tuple[int, float]] = field(default_factory=list)
    answers: dict[int, tuple[float, str]] = field(default_factory=dict)
    chosen: dict[int, str] = field(default_factory=dict)
    wanted: str = ""

    def apply(self, entry: Entry) -> None:
        """Take in a line of the log; kinds of lines that change nothing are skipped.

        Parameters
        ----------
        entry : Entry
        """
        match entry:
            case Entry("started"):
                # A run that was stopped before it began may begin after all.
                self.started_utc_s, self.ended, self.stopped_s = entry.utc_s, False, None
                self.started_machine = MachineTime.read(entry.value)
            case Entry("ended" | "stopped"):
                self.ended = True
                self.stopped_s = entry.run_s if entry.kind == "stopped" else None
            case Entry("rejoined", run_s=float(run_s)):
                self.rejoined_s.append(run_s)
            case Entry("wanted"):
                self.wanted = entry.value
            case Entry("onset", run_s=float(run_s), step=int(place)):
                self.onsets_s.setdefault(place, run_s)
            case Entry("response", run_s=float(run_s), step=int(place)):
                self.presses.append((place, run_s))
            case Entry("answer", run_s=float(run_s), step=int(place)):
                self.answers[place] = run_s, entry.value
                step = self.schedule.steps[place]
                if step.kind is StepKind.NAMING:
                    self.chosen[step.trial] = entry.value
            case Entry("target", step=int(place)):
                self.chosen[self.schedule.steps[place].trial] = entry.value

    def since_start(self, now: Moment) -> tuple[float, str]:
        """Return the seconds since volume 0, and a line for the operator or an empty one; the run must have begun.

        Parameters
        ----------
        now : Moment
        """
        if self.started_utc_s is None:
            raise ValueError("the run has not begun")
        return now.since(Moment(self.started_utc_s, self.started_machine))

    def rows(self) -> list[dict[str, str]]:
        """Return the rows of the events table, with times as they happened; steps that were never shown have no row."""
        return [self._row(place) for place in sorted(self.onsets_s)]

    def _row(self, place: int) -> dict[str, str]:
        step, onset_s = self.schedule.steps[place], self.onsets_s[place]
        cells = planned_cells(step)
        cells |= {"planned_onset": cells["onset"], "onset": seconds(onset_s)}
        cells["duration"] = seconds(self._end_s(place) - onset_s)
        if step.trial in self.chosen and not step.category:
            cells["category_name"] = self.chosen[step.trial]
        for question, (_, value) in self.answers.items():
            asking = self.schedule.steps[question]
            if asking.kind is StepKind.EVALUATION and step.trial and asking.trial == step.trial:
                cells["evaluation"] = value
        if place in self.answers:
            cells["response_time"] = seconds(self.answers[place][0])
        elif pressed := [at_s for press_place, at_s in self.presses if press_place == place]:
            cells["response_time"] = seconds(pressed[0])
        return cells

    def _end_s(self, place: int) -> float:
        """Return when a step ended, seconds into the run; its planned end if the display was not running then."""
        planned_s, next_s = self.schedule.steps[place].end_s, self.onsets_s.get(place + 1)
        if next_s is not None and not any(planned_s < at_s <= next_s for at_s in self.rejoined_s):
            return next_s
        return planned_s if self.stopped_s is None else min(planned_s, self.stopped_s)
