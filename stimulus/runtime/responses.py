"""Answers that the participant gives with the buttons, and targets that the operator chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stimulus.paradigm.schedule import Step, StepKind
from stimulus.paradigm.script import Script
from stimulus.recording.run_state import RunState
from stimulus.runtime.event_sink import EventSink
from stimulus.settings import ButtonSettings
from stimulus.timing.debounce import KeyDebouncer
from stimulus.timing.triggers import KeyPress


class Responses:
    """Presses turned into answers; the answers are kept in `happened`, and so outlive the display.

    Parameters
    ----------
    script : Script
    buttons : ButtonSettings
    notes : EventSink
    happened : RunState
    """

    def __init__(self, script: Script, buttons: ButtonSettings, notes: EventSink, happened: RunState) -> None:
        self._script, self._notes, self._happened = script, notes, happened
        self._names = frozenset({*buttons.response, buttons.left, buttons.right})
        self._moves = {buttons.left: -1, buttons.right: 1}
        self._presses = KeyDebouncer()

    def handle_keys(self, keys: Sequence[KeyPress], now_s: float, step_at: Callable[[float], Step | None]) -> None:
        """Take in keys.

        Parameters
        ----------
        keys : sequence of KeyPress
            Keys pressed since the last call, in their order; only the participant's buttons count.
        now_s : float
            Time by the display's clock, seconds.
        step_at : callable
            Returns the step that was on the screen at a time of the display's clock, seconds; None for none.
        """
        presses, lines = self._presses.without_bounces([key for key in keys if key.name in self._names], now_s)
        for line in lines:
            self._notes.warn(line)
        for press in presses:
            step = step_at(press.at_s)
            self._notes.log("response", press.at_s, step, press.name)
            self._notes.report("button", press.at_s, press.name)
            if step is not None and press.name in self._moves:
                self._answer(step, press)

    def choice(self, step: Step) -> int | None:
        """Return the position of the chosen answer to the step's question, from 0; None while none is chosen.

        Parameters
        ----------
        step : Step
        """
        place = self._notes.place(step)
        if place not in self._happened.answers:
            return None
        _, value = self._happened.answers[place]
        options = self._options(step)
        return options.index(value) if value in options else None

    def category_of(self, step: Step) -> str:
        """Return the category shown or imagined in a step's trial; empty while nobody has chosen one.

        Parameters
        ----------
        step : Step
        """
        return step.category or self._happened.chosen.get(step.trial, "")

    def want(self, category: str, at_s: float) -> None:
        """Take in that the operator wants a category to be imagined in the next free trial.

        Parameters
        ----------
        category : str
            Identifier of a candidate.
        at_s : float
            Time of the operator's wish by the display's clock, seconds.
        """
        self._notes.log("wanted", at_s, value=category)
        self._notes.tell(f"from the next trial without a target on: {category}")

    def before_onset(self, step: Step, at_s: float) -> None:
        """Make the wanted category the target of a free trial if `step` is its first step.

        Parameters
        ----------
        step : Step
            Step that comes on the screen.
        at_s : float
            Time at which it does, by the display's clock, seconds.
        """
        steps, place = self._script.schedule.steps, self._notes.place(step) or 0
        begins_trial = step.trial and (place == 0 or steps[place - 1].trial != step.trial)
        if begins_trial and self._happened.wanted and not self.category_of(step):
            self._notes.log("target", at_s, step, self._happened.wanted)

    def _answer(self, step: Step, press: KeyPress) -> None:
        """Take in a press: the first one marks the middle answer, others move the mark; the last mark is the answer."""
        options, before = self._options(step), self.choice(step)
        if not options:
            return
        moved = len(options) // 2 if before is None else before + self._moves[press.name]
        value = options[min(max(moved, 0), len(options) - 1)]
        self._notes.log("answer", press.at_s, step, value)
        self._notes.report("named" if step.kind is StepKind.NAMING else "rating", press.at_s, value)

    def _options(self, step: Step) -> tuple[str, ...]:
        """Return the answers to the step's question, as they are written in tables."""
        if step.kind is StepKind.NAMING:
            return self._script.choices
        return tuple(str(number) for number in range(1, self._script.n_choices(step) + 1))
