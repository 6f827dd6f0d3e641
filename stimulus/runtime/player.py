"""The loop of a run: it waits for the trigger, draws each step at its time, takes in keys and messages, saves all.

It owns time. `stimulus.paradigm` decides what to show, and the stage draws it; nothing here waits for anything but the
next frame.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from statistics import median
from typing import Protocol

from rtgod.candidates import NO_CANDIDATES, Candidates
from rtgod.errors import InputError
from rtgod.messages import COMMITMENT, Answer, Hello, Message, NotReady, Ranking
from rtgod.text import composed
from stimulus.blinding.blunted import Blunted
from stimulus.blinding.conditions import Feedback
from stimulus.paradigm.bids_events import seconds
from stimulus.paradigm.schedule import TRIAL_KINDS, Step
from stimulus.paradigm.script import Script, Situation, Tone
from stimulus.recording.run_files import RunRecord
from stimulus.runtime.event_sink import EventSink, Operator
from stimulus.runtime.responses import Responses
from stimulus.runtime.server_link import Link
from stimulus.runtime.shown_feedback import FeedbackState
from stimulus.runtime.told_blocks import ToldBlocks
from stimulus.screens.certainty import UNKNOWN
from stimulus.screens.scene import Scene
from stimulus.screens.screen import Easing, Screen
from stimulus.settings import ButtonSettings
from stimulus.tables import NOT_APPLICABLE
from stimulus.timing.flip_scheduler import FlipScheduler
from stimulus.timing.machine_time import MachineTime, Moment
from stimulus.timing.trigger_clock import TriggerClock
from stimulus.timing.triggers import KeyPress, Pulses

#: Time after which an unchanged picture is drawn again, seconds, as the windowing system may have lost it; this also
#: keeps the loop in step with the monitor.
REDRAW_S = 0.5
#: Time that the last picture stays, seconds.
LINGER_S = 3.0
#: Time between two looks at keys, triggers and messages, seconds.
POLL_S = 0.001
#: If the server's run ends more than this number of volumes before the schedule, the run stops.
_EARLY_VOLUMES = 2


class Stage(Protocol):
    """Interface of a stage, which draws scenes, plays tones and has a clock and keys."""

    frame_s: float
    #: Time that the last scene took to draw, without the wait for a refresh, seconds.
    drawing_s: float

    def now(self) -> float:
        """Return the time by the display's clock, seconds."""

    def draw(self, scene: Screen, due_s: float) -> float:
        """Show a scene at a refresh of the monitor; return when it was shown, seconds by the display's clock.

        Parameters
        ----------
        scene : Screen
        due_s : float
            Time of that refresh by the display's clock, seconds.
        """

    def keys(self) -> list[KeyPress]:
        """Return the keys pressed since the last call, without waiting."""

    def play(self, tone: Tone) -> None:
        """Begin a tone, without waiting.

        Parameters
        ----------
        tone : Tone
        """


class Outcome(StrEnum):
    """Outcome of a run."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    NO_MORE_VOLUMES = "no more volumes"
    NOT_SAVED = "not saved"


class Player:
    """Player of one run.

    Parameters
    ----------
    script : Script
    stage : Stage
    pulses : Pulses
    metronome : TriggerClock
    record : RunRecord
    buttons : ButtonSettings
    operator : Operator
    link : Link, optional
        Link to a server; without one no feedback is shown.
    feedback : Feedback, optional
        Feedback shown in place of the server's answers; by default the answers are shown.
    candidates : Candidates, optional
        Candidates of the server's bundle.
    commitment : str, optional
        Commitment of the sealed conditions; it is reported to the server, so that its journal shows which conditions
        the session had.
    speed : float
        Speed of the run: 1 in an experiment, more to rehearse in less time.
    hears_every_volume : bool
        Whether a pulse is expected for each volume; False if only the first has one.
    tells_blocks : bool
        Whether a server whose run lists no blocks is told those of the schedule.
    utc, sleep : callable, optional
        Clock of seconds since 1970, and function that waits.
    machine : callable, optional
        Returns the time now by the machine's clock, which nobody sets; None without one.
    """

    def __init__(
        self,
        script: Script,
        stage: Stage,
        pulses: Pulses,
        metronome: TriggerClock,
        record: RunRecord,
        buttons: ButtonSettings,
        operator: Operator,
        *,
        link: Link | None = None,
        feedback: Feedback | None = None,
        candidates: Candidates = NO_CANDIDATES,
        commitment: str = "",
        speed: float = 1.0,
        hears_every_volume: bool = True,
        tells_blocks: bool = False,
        utc: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        machine: Callable[[], MachineTime | None] = lambda: None,
    ) -> None:
        self._script, self._schedule = script, script.schedule
        self._stage, self._pulses, self._metronome = stage, pulses, metronome
        self._record, self._buttons, self._operator, self._link = record, buttons, operator, link
        self._candidates, self._speed, self._hears_every_volume = candidates, speed, hears_every_volume
        self._commitment = commitment
        self._utc, self._sleep, self._machine = utc, sleep, machine
        self._notes = EventSink(record, metronome, link, operator, stage.now, utc, speed, machine)
        tell = self._notes.tell
        self._told = ToldBlocks(self._schedule, link, tell, is_asked_for=tells_blocks) if link else None
        self._responses = Responses(script, buttons, self._notes, record.happened)
        self._shown = FeedbackState(script, candidates, self._responses.category_of, feedback)
        # Reports of a sealed run give the server's true answers, and the times at which they were due.
        self._true = FeedbackState(script, candidates, self._responses.category_of, None)
        self._blunted = Blunted(self._notes.report) if record.sealed else None
        self._answered_s = -math.inf
        self._flips, self._easing = FlipScheduler(stage.frame_s, steady=record.sealed), Easing()
        self._before: Step | None = None
        self._step: Step | None = None
        self._onset_s = -math.inf  # onset of the step on the screen, by the display's clock
        self._drawn: Screen | None = None
        self._drawn_s = -math.inf
        self._device_failed = False
        self._outcome: Outcome | None = None

    def run(self, stopped: Callable[[], bool] = lambda: False) -> Outcome:
        """Play the run to its end, or until somebody stops it; its events are saved in any case.

        Parameters
        ----------
        stopped : callable, optional
            Returns whether somebody has stopped the run; asked after every frame.

        Raises
        ------
        InputError
            If the server has another bundle. Such a run, like any that fails, can be continued.
        """
        try:
            self._begin_to_wait()
            self._notes.tell(self._keys())
            while self._outcome is None:
                self.frame()
                if stopped():
                    self._end(Outcome.STOPPED)
        except Exception as error:
            self._notes.log("failed", self._stage.now(), value=f"{type(error).__name__}: {error}")
            raise
        finally:
            if self._record.happened.started_utc_s is not None:
                self._record.save_events()
        self._linger(self._outcome)
        return self._outcome

    def frame(self) -> None:
        """Take in keys and messages until the next picture must be begun, and draw it if something is new."""
        due_s = self._flips.next_s(self._stage.now())
        while self._outcome is None:
            self._poll()
            left_s = due_s - self._flips.lead_s - self._stage.now()
            if left_s <= 0:
                break
            self._sleep(min(POLL_S, left_s))
        due_s = self._flips.still_s(due_s, self._stage.now())  # a later refresh, if that took long
        # Half a frame later, a step is drawn at this flip if its onset is nearer to it than to the next flip.
        at_s = due_s + self._stage.frame_s / 2
        run_s = self._notes.run_s(at_s)
        if run_s is not None and run_s >= self._schedule.duration_s:
            self._end(Outcome.COMPLETE)
        if self._outcome is not None:
            return
        step = None if run_s is None else self._schedule.at(run_s)
        scene = self._scene(step, at_s)
        is_same = scene == self._drawn and step is self._step and not self._shown.is_news(step)
        if is_same and not self._draws_all_of(step) and due_s - self._drawn_s < REDRAW_S:
            self._flips.skipped(due_s)
        else:
            self._draw(scene, step, due_s)

    # ------------------------------------------------------------------------------------------------ time

    def _begin_to_wait(self) -> None:
        """Begin to wait for the trigger, or continue a run that began before this display did."""
        now_s = self._stage.now()
        pressed = self._stage.keys()
        early = [key.name for key in pressed]
        if self._buttons.stop in early:
            self._end(Outcome.STOPPED)
        happened = self._record.happened
        if happened.started_utc_s is None:
            if early:
                self._notes.warn(
                    f"pressed before the trigger was waited for: {', '.join(early)}; that does not count. If that was "
                    "the scanner, stop it, and start it again now"
                )
            return
        since_s, line = happened.since_start(Moment(self._utc(), self._machine()))
        self._metronome.rejoin(now_s - since_s)
        if self._link is not None:
            self._link.rejoin()
        if happened.onsets_s:
            self._step = self._schedule.steps[max(happened.onsets_s)]
        self._notes.log("rejoined", now_s)
        self._tell_commitment(now_s)
        self._notes.tell(f"{self._record.name}: goes on at {self._notes.run_s(now_s):.1f} s of the run")
        if line:
            self._notes.warn(line)

    def _keys(self) -> str:
        """Return a line about what the operator can do during the run."""
        target = "`target ID` to choose what is imagined from the next trial without a target on, "
        return (
            f"type `stop`, or press {self._buttons.stop} on the display, to end the run with everything saved; "
            f"{target if self._candidates.ids else ''}`note WORDS` to write a remark into the log"
        )

    def _tell_commitment(self, at_s: float) -> None:
        if self._commitment:
            self._notes.log(COMMITMENT, at_s, value=self._commitment)
            self._notes.report(COMMITMENT, at_s, self._commitment)

    # --------------------------------------------------------------------------------------------- drawing

    def _draws_all_of(self, step: Step | None) -> bool:
        """Whether every refresh is drawn: in a sealed run the loop's pace may not tell whether a picture is new."""
        return self._blunted is not None and step is not None and self._script.shows_feedback(step)

    def _scene(self, step: Step | None, at_s: float) -> Screen:
        """Return the screen of a frame whose middle is at `at_s`."""
        run_s = self._notes.run_s(at_s)
        if step is None or run_s is None:
            return self._script.before() if run_s is None else Scene()
        if step is not self._step:
            self._responses.before_onset(step, at_s)
            self._easing = Easing()  # nothing glides from one trial's result to the next one's
        answer = self._answer()
        self._shown.update(answer, step)
        if self._blunted is not None:
            self._true.update(answer, step)
        situation = Situation(
            self._shown.answer, self._shown.target, self._responses.choice(step), self._responses.category_of(step)
        )
        scene = self._script.at(step, self._since_s(step, at_s, run_s), situation)
        if not self._script.shows_feedback(step):
            return scene
        # Aimed one frame earlier, so that the first picture of an answer differs from the picture before.
        self._easing.aim(scene, at_s - self._stage.frame_s)
        return self._easing.at(at_s)

    def _since_s(self, step: Step, at_s: float, run_s: float) -> float:
        """Return the time since a step's first picture, seconds; with it every flash lasts equally many frames."""
        if step is not self._step:
            return self._stage.frame_s / 2
        if self._onset_s > -math.inf:
            return at_s - self._onset_s
        return (run_s - step.onset_s) / self._speed  # another display, before a restart, drew its first picture

    def _draw(self, scene: Screen, step: Step | None, due_s: float) -> None:
        flip_s = self._stage.draw(scene, due_s)
        self._flips.flipped(flip_s, self._stage.drawing_s)
        is_news = self._shown.is_news(step)
        changed = "same" if scene == self._drawn else "scene"
        if step is not self._step:
            self._begin(step, flip_s)
            changed = "step"
        elif is_news:
            changed = "answer"
        if is_news:
            run_s = self._notes.run_s(flip_s)
            cells = self._shown.note()
            self._record.shown([NOT_APPLICABLE if run_s is None else seconds(run_s), *cells])
            if self._blunted is None:
                self._notes.report("shown", flip_s, cells[0])
        if self._blunted is not None and step is not None and self._true.is_news(step):
            answer_due_s = max(self._answered_s, self._planned_s(step))
            self._blunted.shown(self._planned_s(None), answer_due_s, flip_s, self._true.seen())
        self._record.flip(flip_s, self._notes.run_s(flip_s), self._notes.place(step), 1e3 * (flip_s - due_s), changed)
        self._drawn, self._drawn_s = scene, flip_s

    def _begin(self, step: Step | None, flip_s: float) -> None:
        """Take in that a step is on the screen for the first time: play its tone, report and log its onset."""
        tone = self._script.tone(self._step, step)
        if tone is not None:
            self._stage.play(tone)
        self._before, self._step, self._onset_s = self._step, step, flip_s
        if step is None:
            return
        at_s, about = flip_s, step.stimulus or self._responses.category_of(step)
        if self._blunted is None:
            self._notes.report(step.kind, at_s, about)
        else:
            at_s = self._blunted.onset_s(self._planned_s(step), flip_s)
            self._blunted.onset(step.kind, at_s, about)
            exact_s, rough_s = (self._notes.run_s(time_s) or 0.0 for time_s in (flip_s, at_s))
            self._record.sealed_onset(self._notes.place(step) or 0, exact_s, rough_s)
        late_ms = 1e3 * ((self._notes.run_s(at_s) or 0.0) - step.onset_s) / self._speed
        self._notes.log("onset", at_s, step, f"{step.kind} {late_ms:+.2f} ms")
        if step.kind in TRIAL_KINDS:
            trials = self._schedule.trials
            self._notes.tell(f"{step.kind} {trials.index(step) + 1} of {len(trials)}")

    def _planned_s(self, step: Step | None) -> float:
        """Return the planned onset of a step by the display's clock; for None, the start of the run."""
        return (self._metronome.started_s or 0.0) + (0.0 if step is None else step.onset_s / self._speed)

    def _linger(self, outcome: Outcome) -> None:
        """Show the last picture for a while, and tell how the run ended and how the triggers' timing was."""
        now_s, summary = self._stage.now(), self._metronome.summary()
        self._notes.log("triggers", now_s, value=summary.removeprefix("triggers: "))
        self._notes.tell(f"{self._record.name}: {outcome}; {summary}{self._lateness()}")
        until_s = now_s + LINGER_S / self._speed
        self._draw(self._script.after(stopped=outcome is not Outcome.COMPLETE), None, self._flips.next_s(now_s))
        while self._stage.now() < until_s:
            if self._link is not None:
                self._link.poll()
            self._keep_up(self._stage.now())
            self._sleep(self._stage.frame_s)
        if self._blunted is not None:
            self._blunted.poll()

    def _lateness(self) -> str:
        """Return words about how late steps were on the screen; empty in a sealed run, in which nobody may know."""
        steps, onsets_s = self._schedule.steps, self._record.happened.onsets_s
        # The first step does not count: it is due at the trigger, before the trigger is known, so it is always late.
        late_ms = [1e3 * abs(at_s - steps[place].onset_s) / self._speed for place, at_s in onsets_s.items() if place]
        if self._blunted is not None or not late_ms:
            return ""
        return (
            f"; steps on the screen: {len(onsets_s)} of {len(steps)}, off by {max(late_ms):.1f} ms at worst, "
            f"{median(late_ms):.1f} ms in the median"
        )

    def _keep_up(self, now_s: float) -> None:
        """Write the lines and send the reports that are due by now."""
        for line in self._record.poll(now_s):
            self._notes.warn(line)
        if self._blunted is not None:
            self._blunted.poll(now_s)

    # --------------------------------------------------------------------------------------- what comes in

    def _poll(self) -> None:
        keys = self._stage.keys()
        messages = self._link.poll() if self._link is not None else []
        self._take_pulses(keys, messages)
        now_s = self._stage.now()
        self._keep_up(now_s)
        if self._hears_every_volume or self._metronome.started_s is None:
            for line in self._metronome.tick(now_s):
                self._notes.warn(line)
        if self._buttons.stop in (key.name for key in keys):
            self._end(Outcome.STOPPED)
        self._responses.handle_keys(keys, now_s, self._step_at)
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
            self._notes.warn(str(error))
            return
        for at_s in pulses:
            waited, n_bounced = self._metronome.started_s is None, self._metronome.n_bounced
            for line in self._metronome.pulse(at_s):
                self._notes.warn(line)
            if self._metronome.n_bounced == n_bounced:
                errors_s = self._metronome.errors_s[-1:]
                self._notes.log("trigger", at_s, value="".join(f"{1e3 * error_s:+.2f} ms" for error_s in errors_s))
            if waited and (started_s := self._metronome.started_s) is not None:
                if self._link is not None:
                    self._link.begin()
                self._notes.log_start(started_s)
                self._notes.report("started", started_s, self._record.name)
                self._tell_commitment(started_s)
                self._notes.tell(f"{self._record.name}: began")

    def _step_at(self, at_s: float) -> Step | None:
        """Return the step that was on the screen at a time shortly before now."""
        return self._step if at_s >= self._onset_s else self._before

    def _ask(self, line: str) -> None:
        """Carry out a command that the operator typed."""
        match line.split():
            case []:
                pass
            case ["stop"]:
                self._end(Outcome.STOPPED)
            case ["target", category] if composed(category) in self._candidates.ids:
                self._responses.want(composed(category), self._stage.now())
            case ["note", _, *_]:
                self._note(line.split(maxsplit=1)[1])
            case _:
                self._notes.tell(
                    f"{line!r} is not understood; type `stop`, `note WORDS`, or `target CATEGORY` with a candidate's "
                    "identifier"
                )

    def _note(self, words: str) -> None:
        """Log and report a remark of the operator, with its time."""
        now_s = self._stage.now()
        self._notes.log("note", now_s, value=words)
        self._notes.report("note", now_s, words)
        self._notes.tell(f"noted: {words}")

    def _take_messages(self, messages: Sequence[Message]) -> None:
        if self._link is None or not messages:
            return
        for message in messages:
            if isinstance(message, Ranking | NotReady):
                self._answered_s = self._stage.now()
            # The warning is about the server's answers, even if others are shown in their place.
            if isinstance(message, Ranking) and message.probability is None and self._candidates.ids:
                self._notes.warn(UNKNOWN, once=True)
            if isinstance(message, Hello) and self._candidates.bundle_id and not self._is_ours(message):
                self._refuse_bundle(message)
        if self._told is not None and self._metronome.started_s is not None:
            self._told.poll()
        run, n_needed = self._link.run, self._schedule.n_volumes
        if run is not None and run.n_volumes and run.n_volumes < n_needed:
            self._notes.warn(
                f"the scanner's run has {run.n_volumes} volumes and the schedule needs {n_needed}: its end will not be "
                "recorded",
                once=True,
            )
        run_s = self._notes.run_s(self._stage.now())
        if run_s is None or not self._link.has_ended(messages):
            return
        left_s = self._schedule.duration_s - run_s
        if left_s > _EARLY_VOLUMES * self._schedule.tr_s:
            self._notes.warn(f"the server's run ended {left_s:.0f} s before the schedule; it stops here")
            self._end(Outcome.NO_MORE_VOLUMES)

    def _refuse_bundle(self, hello: Hello) -> None:
        """Refuse a server with another bundle, as its answers would be about other candidates; in a run only warn."""
        line = (
            f"the server decodes with bundle {hello.bundle_id}, and --bundle is {self._candidates.bundle_id}: their "
            "candidates may differ; give the folder that the server was started with"
        )
        if self._metronome.started_s is None:
            raise InputError(line)
        self._notes.warn(f"{line}. No feedback is shown", once=True)

    def _answer(self) -> Answer | None:
        """Return the server's newest answer, if it is about the display's candidates."""
        if self._link is None or (self._candidates.bundle_id and not self._is_ours(self._link.hello)):
            return None
        answer = self._link.answer
        if isinstance(answer, Ranking) and not self._knows(answer):
            self._notes.warn(
                f"the server ranks candidates that are not among the {len(self._candidates.ids)} of --bundle: give the "
                "folder that the server was started with. Its answer is not shown",
                once=True,
            )
            return None
        return answer

    def _knows(self, ranking: Ranking) -> bool:
        """Whether everything ranked is among the display's candidates; True if it has none."""
        n_all, order = len(self._candidates.ids), ranking.order
        return n_all == 0 or order.size == 0 or bool(order.min() >= 0 and order.max() < n_all)

    def _is_ours(self, hello: Hello | None) -> bool:
        """Whether a server has the bundle that the display was given."""
        return hello is not None and hello.bundle_id == self._candidates.bundle_id

    def _end(self, outcome: Outcome) -> None:
        if self._outcome is None:
            self._outcome = outcome
            now_s = self._stage.now()
            if self._blunted is not None and outcome is Outcome.COMPLETE:
                now_s = self._planned_s(None) + self._schedule.duration_s / self._speed
            self._notes.log("ended" if outcome is Outcome.COMPLETE else "stopped", now_s, value=outcome)
            self._notes.report("ended", now_s, outcome)
