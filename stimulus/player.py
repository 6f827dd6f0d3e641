"""The loop of a run: waits for the trigger, draws each step at its time, takes presses in, saves everything.

It owns time. What to show is decided in `paradigm`, how in `stage`; nothing here waits for anything but the next frame.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from rtgod.candidates import NO_CANDIDATES, Candidates
from rtgod.errors import InputError
from rtgod.messages import Answer, Hello, Message, NotReady, Ranking, Run
from stimulus.feedback import percentile, strength
from stimulus.link import Link
from stimulus.metronome import Metronome
from stimulus.paradigm import Script, Situation, Tone
from stimulus.record import RunRecord
from stimulus.scene import Scene
from stimulus.schedule import Step, StepKind
from stimulus.schedule_files import NOT_APPLICABLE, seconds
from stimulus.settings import ButtonSettings
from stimulus.triggers import KeyPress, Pulses
from stimulus.view import Easing, Screen, readable

#: A picture that does not change is drawn again this often, should the windowing system have lost it; it also keeps the
#: loop in step with the monitor.
REDRAW_S = 0.5
#: How long the last picture stays.
LINGER_S = 3.0
#: A picture is begun so many frames before it is due.
LEAD_FRAMES = 0.5
#: Between two looks at keys, triggers and messages.
POLL_S = 0.001
#: Presses of one key that follow each other faster come from a key that is held down, or bounces.
_HELD_S, _N_HELD = 0.08, 8
#: A server whose run ends so many volumes before the schedule's has stopped it.
_EARLY_VOLUMES = 2
_N_FIRST = 10


class Stage(Protocol):
    """Where scenes are drawn."""

    frame_s: float

    def now(self) -> float:
        """Seconds of the display's clock."""

    def draw(self, scene: Screen, due_s: float) -> float:
        """Show a scene at the monitor's refresh at `due_s`; returns when it was shown, by the display's clock."""

    def keys(self) -> list[KeyPress]:
        """What was pressed since the last call; never waits."""

    def play(self, tone: Tone) -> None:
        """Begin to sound; never waits."""


class Feedback(Protocol):
    """What the participant is shown in place of the server's answer."""

    def shown(self, answer: Answer, target: int | None) -> tuple[Answer, int | None]:
        """The answer to show, and the target as it is to be shown."""


class Outcome(StrEnum):
    """How a run ended."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    NO_MORE_VOLUMES = "no more volumes"


@dataclass(frozen=True, slots=True)
class Operator:
    """Who runs the session.

    Attributes
    ----------
    tell : callable
        Shows a line.
    asks : callable
        Lines that were typed since the last call: "target CATEGORY", "stop".
    """

    tell: Callable[[str], object] = lambda line: None  # noqa: ARG005 # nobody is told
    asks: Callable[[], Sequence[str]] = tuple


class Player:
    """Plays one run.

    Parameters
    ----------
    script : Script
    stage : Stage
    pulses : Pulses
    metronome : Metronome
    record : RunRecord
    buttons : ButtonSettings
    operator : Operator
    link : Link, optional
        To a server; without one there is no feedback.
    feedback : Feedback, optional
        What is shown in place of the server's answers; by default they themselves.
    candidates : Candidates, optional
        Of the server's bundle.
    speed : float
        Above 1 to rehearse in less time.
    hears_every_volume : bool
        Whether a pulse is to come with each volume; False where only the first has one.
    utc, sleep : callable, optional
        Seconds since 1970, and waiting.
    """

    def __init__(
        self,
        script: Script,
        stage: Stage,
        pulses: Pulses,
        metronome: Metronome,
        record: RunRecord,
        buttons: ButtonSettings,
        operator: Operator,
        *,
        link: Link | None = None,
        feedback: Feedback | None = None,
        candidates: Candidates = NO_CANDIDATES,
        speed: float = 1.0,
        hears_every_volume: bool = True,
        utc: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._script, self._schedule = script, script.schedule
        self._stage, self._pulses, self._metronome = stage, pulses, metronome
        self._record, self._buttons, self._operator = record, buttons, operator
        self._link, self._feedback, self._speed = link, feedback, speed
        self._bundle_id, self._hears_every_volume = candidates.bundle_id, hears_every_volume
        self._positions: Mapping[str, int] = {category: place for place, category in enumerate(candidates.ids)}
        self._utc, self._sleep = utc, sleep
        self._places = {id(step): place for place, step in enumerate(self._schedule.steps)}
        self._step: Step | None = None
        self._situation = Situation()
        self._chosen: dict[int, str] = {}
        self._wanted = ""
        self._answer: Answer | None = None
        self._unseen = False
        self._easing = Easing()
        self._drawn: Screen | None = None
        self._flip_s = self._drawn_s = -math.inf
        self._pressed_s: dict[str, float] = {}
        self._n_held: dict[str, int] = {}
        self._device_failed = self._is_foreign = False
        self._outcome: Outcome | None = None

    def run(self, stopped: Callable[[], bool] = lambda: False) -> Outcome:
        """Play the run to its end, or until somebody stops it; everything is saved in any case."""
        began_s = self._stage.now()
        try:
            self._rejoin(began_s)
            while self._outcome is None:
                if stopped():
                    self._end(Outcome.STOPPED)
                self.frame()
            self._linger(self._outcome)
            return self._outcome
        finally:
            if self._record.happened.started_utc_s is not None:
                self._record.write_events()

    def frame(self) -> None:
        """Take in what comes until the next picture is due, and draw it."""
        due_s = self._next_flip_s(self._stage.now())
        while True:
            self._poll()
            left_s = due_s - LEAD_FRAMES * self._stage.frame_s - self._stage.now()
            if left_s <= 0:
                break
            self._sleep(min(POLL_S, left_s))
        # The step that is nearer to this flip than to the next one.
        at_s = due_s + self._stage.frame_s / 2
        step = self._step_at(at_s)
        if step is not self._step:
            self._situation = Situation(self._situation.answer, self._situation.target, None, self._wanted)
        scene = self._scene(step, at_s)
        if scene == self._drawn and step is self._step and due_s - self._drawn_s < REDRAW_S:
            self._flip_s = due_s  # would have been one
            return
        self._draw(scene, step, due_s)

    # ------------------------------------------------------------------------------------------------ time

    def _rejoin(self, now_s: float) -> None:
        """Go on with a run that began before this display did."""
        started_utc_s = self._record.happened.started_utc_s
        if started_utc_s is None:
            return
        self._metronome.rejoin(now_s - (self._utc() - started_utc_s))
        self._log("rejoined", now_s)
        for place, (_, value) in self._record.happened.answers.items():
            if self._schedule.steps[place].kind is StepKind.NAMING:
                self._chosen[self._schedule.steps[place].trial] = value
        self._operator.tell(f"{self._record.name}: goes on at {self._run_s(now_s):.1f} s of the run")

    def _run_s(self, at_s: float) -> float | None:
        """Seconds into the run at a time of the display's clock; None before it."""
        started_s = self._metronome.started_s
        return None if started_s is None else (at_s - started_s) * self._speed

    def _step_at(self, at_s: float) -> Step | None:
        run_s = self._run_s(at_s)
        if run_s is None:
            return None
        if run_s >= self._schedule.duration_s:
            self._end(Outcome.COMPLETE)
            return None
        return self._schedule.at(max(run_s, 0.0))

    def _next_flip_s(self, now_s: float) -> float:
        """When a picture that is begun now will be seen, in step with the flips before."""
        frame_s = self._stage.frame_s
        if not math.isfinite(self._flip_s):
            return now_s + frame_s
        n_frames = max(1, math.ceil((now_s - self._flip_s) / frame_s + LEAD_FRAMES - 0.1))
        return self._flip_s + n_frames * frame_s

    # --------------------------------------------------------------------------------------------- drawing

    def _scene(self, step: Step | None, at_s: float) -> Screen:
        if step is None:
            return self._script.before() if self._metronome.started_s is None else Scene()
        since_s = (self._run_s(at_s) or 0.0) - step.onset_s
        scene = self._script.at(step, since_s / self._speed, self._situation)
        if not self._script.shows_feedback(step):
            return scene
        self._easing.aim(scene, at_s)
        return self._easing.at(at_s)

    def _draw(self, scene: Screen, step: Step | None, due_s: float) -> None:
        flip_s = self._stage.draw(scene, due_s)
        changed = "same" if scene == self._drawn else "scene"
        if step is not self._step:
            self._begin(step, flip_s)
            changed = "step"
        elif self._unseen and step is not None and self._script.shows_feedback(step):
            changed = "answer"
        if self._unseen and step is not None and self._script.shows_feedback(step):
            self._was_shown(flip_s)
        where = None if step is None else self._places[id(step)]
        self._record.flip(flip_s, self._run_s(flip_s), where, 1e3 * (flip_s - due_s), changed)
        self._drawn, self._drawn_s, self._flip_s = scene, flip_s, flip_s

    def _begin(self, step: Step | None, flip_s: float) -> None:
        """A step is on the screen for the first time."""
        tone = self._script.tone(self._step, step)
        if tone is not None:
            self._stage.play(tone)
        self._step = step
        if step is None:
            return
        late_ms = 1e3 * ((self._run_s(flip_s) or 0.0) - step.onset_s) / self._speed
        self._log("onset", flip_s, self._places[id(step)], f"{step.kind} {late_ms:+.2f} ms")
        if self._wanted and step.trial and not step.category and step.trial not in self._chosen:
            self._chosen[step.trial] = self._wanted
            self._log("target", flip_s, self._places[id(step)], self._wanted)
        what = step.stimulus or step.category or self._chosen.get(step.trial, "")
        self._report(step.kind, flip_s, what)
        if step.kind in (StepKind.STIMULUS, StepKind.IMAGERY):
            n_trials = len(self._schedule.trials)
            block = self._schedule.block_of(step)
            self._operator.tell(f"{step.kind} {0 if block is None else block + 1} of {n_trials}")

    def _was_shown(self, flip_s: float) -> None:
        """The newest answer is on the screen for the first time."""
        self._unseen = False
        answer, target = self._situation.answer, self._situation.target
        if answer is None:
            return
        run_s = self._run_s(flip_s)
        cells = [NOT_APPLICABLE if run_s is None else seconds(run_s), str(answer.index)]
        if isinstance(answer, Ranking):
            named = NOT_APPLICABLE if target is None else self._script.candidates[target]
            level = NOT_APPLICABLE if target is None else f"{percentile(answer, target):.6f}"
            first = ", ".join(readable(self._script.candidates[i]) for i in answer.order[:_N_FIRST])
            cells += [self._script.feedback.view, named, level, f"{strength(answer):.2f}", first]
        else:
            cells += [f"not ready: {answer.reason}", *[NOT_APPLICABLE] * 4]
        self._record.shown(cells)
        self._report("shown", flip_s, str(answer.index))

    def _linger(self, outcome: Outcome) -> None:
        """The last picture; and what the trigger's timing was."""
        self._operator.tell(f"{self._record.name}: {outcome}; {self._metronome.summary()}")
        scene = self._script.after(stopped=outcome is not Outcome.COMPLETE)
        until_s = self._stage.now() + LINGER_S / self._speed
        while self._stage.now() < until_s:
            due_s = self._next_flip_s(self._stage.now())
            if scene != self._drawn:
                self._draw(scene, None, due_s)
            if self._link is not None:
                self._link.poll()
            self._sleep(self._stage.frame_s)

    # --------------------------------------------------------------------------------------- what comes in

    def _poll(self) -> None:
        now_s = self._stage.now()
        keys = self._stage.keys()
        messages = self._link.poll() if self._link is not None else []
        self._take_pulses(keys, messages)
        if self._hears_every_volume or self._metronome.started_s is None:
            for line in self._metronome.tick(now_s):
                self._warn(line)
        for key in keys:
            self._press(key)
        for line in self._operator.asks():
            self._ask(line.strip())
        self._take_messages(messages)

    def _take_pulses(self, keys: Sequence[KeyPress], messages: Sequence[Message]) -> None:
        if self._device_failed:
            return
        try:
            pulses = self._pulses.poll(keys, messages)
        except InputError as error:
            self._device_failed = True
            self._warn(str(error))
            return
        for at_s in pulses:
            waited = self._metronome.started_s is None
            for line in self._metronome.pulse(at_s):
                self._warn(line)
            self._log("trigger", at_s)
            if waited and (started_s := self._metronome.started_s) is not None:
                self._log("started", started_s)
                self._report("started", started_s, self._record.name)
                self._operator.tell(f"{self._record.name}: began")

    def _press(self, key: KeyPress) -> None:
        if key.name == self._buttons.stop:
            self._log("key", key.at_s, value=key.name)
            self._end(Outcome.STOPPED)
            return
        if key.name not in {*self._buttons.response, self._buttons.left, self._buttons.right}:
            return
        before_s = self._pressed_s.get(key.name, -math.inf)
        self._pressed_s[key.name] = key.at_s
        if key.at_s - before_s < _HELD_S:
            self._n_held[key.name] = self._n_held.get(key.name, 0) + 1
            if self._n_held[key.name] == _N_HELD:
                self._warn(f"button {key.name!r} is held down, or stuck; its presses count once")
            return
        self._n_held[key.name] = 0
        place = None if self._step is None else self._places[id(self._step)]
        self._log("response", key.at_s, place, key.name)
        self._report("button", key.at_s, key.name)
        if self._step is not None and (n_choices := self._script.n_choices(self._step)):
            self._choose(self._step, key, n_choices)

    def _choose(self, step: Step, key: KeyPress, n_choices: int) -> None:
        move = {self._buttons.left: -1, self._buttons.right: 1}.get(key.name)
        if move is None:
            return
        before = self._situation.choice
        choice = n_choices // 2 if before is None else min(max(before + move, 0), n_choices - 1)
        self._situation = Situation(self._situation.answer, self._situation.target, choice, self._wanted)
        value = str(choice + 1)
        if step.kind is StepKind.NAMING:
            value = self._chosen[step.trial] = self._script.choices[choice]
        self._log("answer", key.at_s, self._places[id(step)], value)
        self._report("rating" if step.kind is StepKind.EVALUATION else "named", key.at_s, value)

    def _ask(self, line: str) -> None:
        """Do what the operator typed."""
        command, _, argument = line.partition(" ")
        if command == "stop":
            self._end(Outcome.STOPPED)
        elif command == "target" and argument in self._positions:
            self._wanted = argument
            self._operator.tell(f"from the next trial without a target on: {argument}")
        elif line:
            self._operator.tell(
                f"{line!r} is not understood; type `stop`, or `target CATEGORY` with a candidate's identifier"
            )

    def _take_messages(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if isinstance(message, Run) and message.n_volumes and message.n_volumes < self._schedule.n_volumes:
                self._warn(
                    f"the scanner's run has {message.n_volumes} volumes and the schedule needs "
                    f"{self._schedule.n_volumes}: its end will not be recorded"
                )
            if isinstance(message, Hello) and self._bundle_id and message.bundle_id != self._bundle_id:
                self._refuse_bundle(message)
        if self._link is None:
            return
        answer = None if self._is_foreign else self._link.answer
        if answer is not self._answer:
            self._answer = answer
            self._unseen = answer is not None
            self._situation = self._seeing(answer)
        run_s = self._run_s(self._stage.now())
        left_s = math.inf if run_s is None else self._schedule.duration_s - run_s
        if run_s is not None and self._link.has_ended(messages) and left_s > _EARLY_VOLUMES * self._schedule.tr_s:
            self._warn(f"the server's run ended {left_s:.0f} s before the schedule; it stops here")
            self._end(Outcome.NO_MORE_VOLUMES)

    def _refuse_bundle(self, hello: Hello) -> None:
        """What the server says would be about other candidates than the display's."""
        line = (
            f"the server decodes with bundle {hello.bundle_id}, and --bundle is {self._bundle_id}: their candidates "
            "may differ; give the folder that the server was started with"
        )
        if self._metronome.started_s is None:
            raise InputError(line)
        if not self._is_foreign:
            self._is_foreign = True
            self._warn(f"{line}. No feedback is shown")

    def _seeing(self, answer: Answer | None) -> Situation:
        """The situation once an answer came, as it is to be shown."""
        target = self._target_of(answer)
        if answer is not None and self._feedback is not None:
            answer, target = self._feedback.shown(answer, target)
        return Situation(answer, target, self._situation.choice, self._wanted)

    def _target_of(self, answer: Answer | None) -> int | None:
        """What was imagined in the trial that an answer is about."""
        step = self._step
        if isinstance(answer, Ranking) and answer.block is not None and answer.block < len(self._schedule.trials):
            step = self._schedule.trials[answer.block]
        if step is None or isinstance(answer, NotReady | None):
            return None
        return self._positions.get(step.category or self._chosen.get(step.trial, "") or self._wanted)

    # --------------------------------------------------------------------------------------- what goes out

    def _end(self, outcome: Outcome) -> None:
        if self._outcome is None:
            self._outcome = outcome
            now_s = self._stage.now()
            self._log("ended" if outcome is Outcome.COMPLETE else "stopped", now_s, value=outcome)
            self._report("ended", now_s, outcome)

    def _warn(self, line: str) -> None:
        self._log("warning", self._stage.now(), value=line)
        self._operator.tell(line)

    def _log(self, kind: str, at_s: float, place: int | None = None, value: str = "") -> None:
        utc_s = self._utc() - (self._stage.now() - at_s)
        offset = (None, None) if self._link is None else self._link.offset
        self._record.log(kind, utc_s, at_s, self._run_s(at_s), place, value, offset)

    def _report(self, kind: str, at_s: float, value: str) -> None:
        if self._link is not None:
            self._link.report(kind, at_s, value)
