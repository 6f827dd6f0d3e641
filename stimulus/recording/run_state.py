"""What happened in a run, line by line of its log, and the table of events that is made of it."""

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
    utc_s : float
        Seconds since 1970.
    run_s : float or None
        Seconds into the run; None before it.
    step : int or None
        Place in the schedule of the step that it is about.
    value : str
    """

    kind: str
    utc_s: float
    run_s: float | None = None
    step: int | None = None
    value: str = ""


@dataclass(slots=True)
class RunState:
    """What is known of a run.

    Attributes
    ----------
    schedule : Schedule
    started_utc_s : float or None
        Onset of volume 0, seconds since 1970; None while no trigger came.
    started_machine : MachineTime or None
        The same by a clock that nobody sets, where the machine has one.
    ended : bool
        Whether it came to an end, or was stopped.
    stopped_s : float or None
        When it was stopped, seconds into the run.
    onsets_s : dict of int to float
        When each step was first on the screen, by its place in the schedule; seconds into the run.
    rejoined_s : list of float
        When a display that was started again went on.
    presses : list of (int, float)
        Step and time of each press of a button.
    answers : dict of int to (float, str)
        By the place of the step that asked: when it was last answered, and how.
    chosen : dict of int to str
        Category by trial, where the schedule leaves it open: what the operator set, or the participant named later.
    wanted : str
        What the operator wants to be imagined in the next such trial.
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

    def take(self, entry: Entry) -> None:
        """Take a line in; kinds that change nothing are passed over."""
        match entry:
            case Entry("started"):
                # A run that was given up before it began may begin after all.
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
        """Seconds since volume 0, and what the operator should know of them; the run must have begun."""
        if self.started_utc_s is None:
            raise ValueError("the run has not begun")
        return now.since(Moment(self.started_utc_s, self.started_machine))

    def rows(self) -> list[dict[str, str]]:
        """The events table: what was shown, as it was shown; steps that never were have no row."""
        return [self._row(place) for place in sorted(self.onsets_s)]

    def _row(self, place: int) -> dict[str, str]:
        step, onset_s = self.schedule.steps[place], self.onsets_s[place]
        cells = planned_cells(step)
        cells |= {"planned_onset": cells["onset"], "onset": seconds(onset_s)}
        cells["duration"] = seconds(self._end_s(place) - onset_s)
        if step.trial in self.chosen and not step.category:
            cells["category_name"] = self.chosen[step.trial]
        for of, (_, value) in self.answers.items():
            asking = self.schedule.steps[of]
            if asking.kind is StepKind.EVALUATION and step.trial and asking.trial == step.trial:
                cells["evaluation"] = value
        if place in self.answers:
            cells["response_time"] = seconds(self.answers[place][0])
        elif pressed := [at_s for of, at_s in self.presses if of == place]:
            cells["response_time"] = seconds(pressed[0])
        return cells

    def _end_s(self, place: int) -> float:
        """Until when a step was shown; its planned end where the display was away then, so that nobody knows."""
        planned_s, next_s = self.schedule.steps[place].end_s, self.onsets_s.get(place + 1)
        if next_s is not None and not any(planned_s < at_s <= next_s for at_s in self.rejoined_s):
            return next_s
        return planned_s if self.stopped_s is None else min(planned_s, self.stopped_s)
