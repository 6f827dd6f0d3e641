"""A display, a scanner, a server and people, all of them simulated: a run is played in no time, to the millisecond.

Times are the laboratory's, from 0; the display's clock is `origin_s` ahead of it, and seconds since 1970 by `UTC_S`.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field

import numpy as np

from rtgod.candidates import Candidate, Candidates
from rtgod.messages import Hello, NotReady, Ranking, Reason, Run
from stimulus.paradigm.schedule import Schedule, Step, StepKind
from stimulus.paradigm.script import Paradigm, Script
from stimulus.recording.run_files import RunRecord
from stimulus.runtime.event_sink import Operator
from stimulus.runtime.player import Player
from stimulus.runtime.server_link import Link
from stimulus.screens.feedback import FeedbackSettings
from stimulus.screens.texts import ENGLISH
from stimulus.settings import ButtonSettings
from stimulus.timing.machine_time import MachineTime
from stimulus.timing.trigger_clock import TriggerClock
from stimulus.timing.triggers import KeyPress, KeyPulses
from tests.stimulus.conftest import STILL

UTC_S = 1_750_000_000.0
BUNDLE = "3f2a9c1e0b7d"
CANDIDATES = Candidates(BUNDLE, tuple(Candidate(f"n{n:02d}", f"thing_{n}") for n in range(12)))
HELLO = Hello("0.1.0", BUNDLE, 12, 400)


def schedule(*parts, name="sub-01_run-01", tr_s=1.0):
    """A schedule of (kind, duration, trial, category, stimulus), the last three of which may be left out."""
    steps = []
    for kind, duration_s, *more in parts:
        steps.append(Step(steps[-1].end_s if steps else 0.0, duration_s, StepKind(kind), *more))
    return Schedule(name, tr_s, tuple(steps))


def seeing(n=3, block_s=1.0, **more):
    """Rest, images, rest; the second image is shown twice."""
    shown = [0, 1, 1, *range(2, n)][:n]
    images = [("stimulus", block_s, trial, f"n{image:02d}", f"n{image:02d}_1") for trial, image in enumerate(shown, 1)]
    return schedule(("rest", 2.0), *images, ("rest", 1.0), **more)


def imagining(*categories, naming=False, **more):
    """Closed-loop imagery of 6.5 s a trial, or of 7.5 s where it is to be named; an empty category is free."""
    parts = [("rest", 2.0)]
    for trial, category in enumerate(categories, 1):
        for kind, duration_s in (
            ("cue", 1.0), ("imagery", 2.0), *([("naming", 1.0)] if naming else []), ("evaluation", 1.0),
            ("inter_rest", 0.5), ("feedback", 1.5), ("inter_rest", 0.5),
        ):  # fmt: skip
            parts.append((kind, duration_s, trial, category))
    return schedule(*parts, ("rest", 1.0), **more)


def ranking(index=5, block=0, run_id="run-1", order=range(12)):
    order = list(order)
    return Ranking(run_id, index, 1, block, False, (), order, np.linspace(0.5, -0.1, len(order)), STILL)


def not_ready(index, reason=Reason.WARMING_UP, run_id="run-1"):
    return NotReady(run_id, index, reason)


def run_header(n_volumes=None, run_id="run-1"):
    return Run(run_id, "01", 1.0, (4, 4, 4), np.eye(4), n_volumes)


def hellos(until_s, every_s=1.0, since_s=0.0):
    """What a server says that has nothing to say."""
    return [(since_s + n * every_s, HELLO) for n in range(int((until_s - since_s) / every_s) + 1)]


class Stage:
    """A monitor with refreshes, and a keyboard."""

    def __init__(
        self, *, frame_hz=60.0, true_hz=None, phase_s=0.0, draw_s=0.002, waits=True, origin_s=100.0, at_s=0.0, keys=()
    ):
        self.frame_s, self._true_s = 1 / frame_hz, 1 / (true_hz or frame_hz)
        self._phase_s, self._draw_s, self._waits = phase_s, draw_s, waits
        self.origin_s, self._now_s = origin_s, at_s
        self.wall_set_by_s, self.boot = 0.0, None
        self._keys = sorted((key_at_s, name) for key_at_s, name in keys if key_at_s >= at_s)
        self.drawn, self.tones, self.n_polls = [], [], 0
        self.fails_at_s = math.inf

    @property
    def at_s(self):
        return self._now_s

    def now(self):
        return self._now_s + self.origin_s

    def utc(self):
        return self._now_s + UTC_S + self.wall_set_by_s

    def machine(self):
        """By a clock that nobody sets, on machines that have one."""
        return MachineTime(self.boot, 5000.0 + self._now_s) if self.boot else None

    def sleep(self, duration_s):
        assert duration_s >= 0
        self._now_s += duration_s

    def draw(self, scene, due_s):
        if self._now_s >= self.fails_at_s:
            raise RuntimeError("the graphics card is gone")
        self.drawing_s = self._draw_s(scene) if callable(self._draw_s) else self._draw_s
        self._now_s += self.drawing_s
        if self._waits:
            n = math.ceil((self._now_s - self._phase_s) / self._true_s - 1e-6)
            self._now_s = self._phase_s + n * self._true_s
        else:
            self._now_s = max(self._now_s, due_s - self.origin_s)
        self.drawn.append((self._now_s, scene))
        return self.now()

    def keys(self):
        self.n_polls += 1
        pressed = []
        while self._keys and self._keys[0][0] <= self._now_s:
            at_s, name = self._keys.pop(0)
            pressed.append(KeyPress(name, at_s + self.origin_s))
        return pressed

    def play(self, tone):
        self.tones.append((self._now_s, tone))

    def scene_at(self, at_s):
        """What was on the screen."""
        return [scene for shown_s, scene in self.drawn if shown_s <= at_s][-1]


class Server:
    """Gives what it is to say at its time; what is an exception is raised."""

    def __init__(self, stage, says):
        self._stage = stage
        self._says = sorted(((at_s, n, what) for n, (at_s, what) in enumerate(says) if at_s >= stage.at_s))
        self.reports, self.received = [], []
        self.offset_s, self.offset_error_s = 7.0, 0.0005

    def next(self):
        if not self._says or self._says[0][0] > self._stage.at_s:
            return None
        what = self._says.pop(0)[2]
        if isinstance(what, Exception):
            raise what
        return what

    def report(self, kind, at_s, run_id="", value=""):
        self.reports.append((kind, at_s - self._stage.origin_s, run_id, value))
        self.received.append(self._stage.at_s)


class _Subscriber:
    def __init__(self, server):
        self.poll = server.next


class _Reporter:
    offset_s, offset_error_s = 7.0, 0.0005

    def __init__(self, server):
        self.report = server.report

    def poll(self):
        pass


@dataclass
class Laboratory:
    """All that it takes to play a run; `run` plays it."""

    folder: object
    schedule: Schedule
    stage: Stage
    says: list = field(default_factory=list)
    types: list = field(default_factory=list)
    paradigm: Paradigm = Paradigm.FEEDBACK
    feedback: FeedbackSettings = field(default_factory=FeedbackSettings)
    instead: object = None
    choices: tuple = ("n01", "n02", "n03")
    pulses: object = None
    n_dummies: int = 0
    sealed: bool = False
    commitment: str = ""
    speed: float = 1.0
    candidates: Candidates = CANDIDATES
    hears_every_volume: bool = True
    told: list = field(default_factory=list)

    def __post_init__(self):
        stage = self.stage
        self.server = Server(stage, self.says)
        self._types = sorted(line for line in self.types if line[0] >= stage.at_s)
        tell = lambda line: self.told.append((stage.at_s, line))  # noqa: E731
        self.record = RunRecord(
            self.folder, self.schedule, stage.utc(), speed=self.speed, sealed=self.sealed, machine=stage.machine(),
            tell=tell,
        )  # fmt: skip
        images = {step.stimulus: f"{step.stimulus}.png" for step in self.schedule.steps if step.stimulus}
        script = Script(
            self.paradigm, self.schedule, ENGLISH, images,
            dict(zip(CANDIDATES.ids, CANDIDATES.names, strict=True)), CANDIDATES.names, {}, self.choices, self.feedback,
        )  # fmt: skip
        link = Link(_Subscriber(self.server), _Reporter(self.server), tell, stage.now) if self.says else None
        self.player = Player(
            script, stage, self.pulses or KeyPulses(("5",)),
            TriggerClock(self.schedule.tr_s / self.speed, self.n_dummies), self.record, ButtonSettings(),
            Operator(tell, self._typed), link=link, feedback=self.instead, candidates=self.candidates,
            commitment=self.commitment, speed=self.speed, hears_every_volume=self.hears_every_volume, utc=stage.utc,
            sleep=stage.sleep, machine=stage.machine,
        )  # fmt: skip

    def run(self, stopped_at_s=math.inf):
        with self.record:
            return self.player.run(lambda: self.stage.at_s >= stopped_at_s)

    def dropped_after(self, n_frames):
        """Begin the run, and let it fall without a word after so many frames, as when the process is killed."""
        self.player._begin_to_wait()
        for _ in range(n_frames):
            self.player.frame()
            if self.player._outcome is not None:
                break
        self.record.close()

    def _typed(self):
        lines = [line for at_s, line in self._types if at_s <= self.stage.at_s]
        self._types = self._types[len(lines) :]
        return lines

    @property
    def lines(self):
        return [line for _, line in self.told]

    def table(self, what):
        return read(self.folder / f"{self.record.name}_{what}.tsv")

    def log(self, *kinds):
        return [line for line in self.table("log") if line["kind"] in kinds]


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def pulses(first_s, until_s, tr_s=1.0, key="5"):
    """The scanner's, by a keyboard."""
    return [(first_s + n * tr_s, key) for n in range(math.ceil((until_s - first_s) / tr_s))]
