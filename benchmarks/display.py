"""Delay of rankings on the screen, time of drawing, and timing of onsets against the schedule.

A run of closed-loop imagery is played as in an experiment, in a window without a monitor, while another process
publishes rankings of 1,000 candidates at moments unrelated to the frames. Drawing is measured to the end of the
renderer's work, with new names in the first of a ranking's frames and moving bars in the others.

    python -m benchmarks.display [--seconds S] [--json PATH]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import zmq

from benchmarks.figures import print_all, write_json
from rtgod.messages import Float64Array, Hello, Run
from rtgod.protocol.clients import Subscriber
from rtgod.protocol.frames import to_frames
from stimulus.drawing.psychopy_stage import PsychopyStage
from stimulus.drawing.psychopy_window import DEFAULT_SIZE_PX
from stimulus.drawing.xvfb import offscreen
from stimulus.paradigm.preview import made_up_ranking
from stimulus.paradigm.schedule import Schedule, feedback_run
from stimulus.paradigm.script import Paradigm, Script
from stimulus.paradigm.timing_settings import ProtocolSettings
from stimulus.recording.run_files import RunRecord
from stimulus.runtime.player import Operator, Outcome, Player
from stimulus.runtime.server_link import Link
from stimulus.screens.feedback import FeedbackSettings, View, feedback_scene
from stimulus.screens.screen import Easing
from stimulus.screens.texts import ENGLISH
from stimulus.settings import ButtonSettings, MonitorSettings
from stimulus.timing.realtime_priority import realtime_priority
from stimulus.timing.trigger_clock import TriggerClock
from stimulus.timing.triggers import EmulatedPulses

N_CANDIDATES = 1000
FRAME_S = 1 / 60
#: Number of rankings with which drawing is measured, and of frames of each, in which its bars move.
N_RANKINGS, N_FRAMES = 40, 18
MONITOR = MonitorSettings(width_cm=32.0, distance_cm=60.0, full_screen=False)
#: Durations that are no whole numbers of frames.
PROTOCOL = ProtocolSettings(
    tr_s=0.7, rest_s=0.71, end_s=0.53, cue_s=0.43, imagery_s=2.37, rating_s=0.37, feedback_pause_s=0.41,
    feedback_s=1.03, pause_s=0.29,
)  # fmt: skip
TRIAL_S = 4.9
NAMES = tuple(f"category number {place}" for place in range(N_CANDIDATES))
_SHOWN_WITHIN_S = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.display", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="that the run takes")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--publish", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.publish:
        publish()
        return 0
    with realtime_priority(), offscreen(*DEFAULT_SIZE_PX), _staged() as stage, tempfile.TemporaryDirectory() as folder:
        figures = drawing(stage) | played(stage, Path(folder), max(2, round(options.seconds / TRIAL_S)))
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


@contextmanager
def _staged() -> Iterator[PsychopyStage]:
    stage = PsychopyStage(MONITOR, off_screen=True, tones=False)
    try:
        stage.load((), 12.0, names=NAMES)
        yield stage
    finally:
        stage.close()


def drawing(stage: PsychopyStage) -> dict[str, float]:
    """Measure the milliseconds to draw a frame of a ten-row ranking."""
    easing, first_ms, later_ms = Easing(), [], []
    stage.draw(easing.target)
    for number in range(N_RANKINGS):
        ranking = made_up_ranking(N_CANDIDATES, number, None, number, sure=True)
        easing.aim(feedback_scene(FeedbackSettings(view=View.LIST), ranking, None, NAMES, ENGLISH, {}), number)
        for frame in range(N_FRAMES):
            screen = easing.at(number + frame * FRAME_S)
            stage.draw(screen)
            (later_ms if frame else first_ms).append(1e3 * stage.drawing_s)
    return {
        "draw_ms_median": float(np.median(first_ms + later_ms)),
        "draw_ms_p99": float(np.percentile(first_ms + later_ms, 99)),
        "draw_new_ranking_ms_median": float(np.median(first_ms)),
        "draw_new_ranking_ms_max": max(first_ms),
    }


@dataclass(slots=True)
class Collected:
    """A `Reporter` that sends nothing, and keeps when each answer was shown."""

    seen_s: dict[int, float] = field(default_factory=dict)
    offset_s: float | None = None
    offset_error_s: float | None = None

    def report(self, kind: str, at_s: float, run_id: str = "", value: str = "") -> None:
        """Keep the time at which an answer was shown."""
        del run_id
        if kind == "shown":
            self.seen_s[int(value)] = at_s

    def poll(self) -> None:
        """Do nothing: no replies come."""


def played(stage: PsychopyStage, folder: Path, n_trials: int) -> dict[str, float]:
    """Play a run while rankings are published, and measure how late rankings and steps are on the screen."""
    schedule = feedback_run("run-1", ["c"] * n_trials, PROTOCOL)
    script = Script(Paradigm.FEEDBACK, schedule, ENGLISH, candidates=NAMES, feedback=FeedbackSettings(view=View.LIST))
    collected = Collected()
    pulses = EmulatedPulses(stage.now, [stage.now() + 2.0 + n * PROTOCOL.tr_s for n in range(schedule.n_volumes)])
    with _publishing() as publisher, Subscriber(publisher.address) as subscriber:
        link = Link(subscriber, collected, print, stage.now)
        with RunRecord(folder, schedule, time.time()) as record:
            metronome = TriggerClock(PROTOCOL.tr_s)
            player = Player(script, stage, pulses, metronome, record, ButtonSettings(), Operator(), link=link)
            clock_less_utc_s = stage.now() - time.time()
            if player.run() is not Outcome.COMPLETE:
                raise RuntimeError("the run was stopped")
            onsets_s = record.happened.onsets_s
            started_s = metronome.started_s or 0.0
        sent_s = {index: utc_s + clock_less_utc_s - started_s for index, utc_s in publisher.sent().items()}
    seen_s = {index: at_s - started_s for index, at_s in collected.seen_s.items()}
    waited = _waited(schedule, onsets_s, sent_s, seen_s) / FRAME_S
    # The first step, rest, does not count: it is due at the trigger, before the trigger is known.
    late_ms = [1e3 * abs(at_s - schedule.steps[place].onset_s) for place, at_s in onsets_s.items() if place]
    return {
        "rankings": len(waited),
        "rankings_not_shown": int(np.isinf(waited).sum()),
        "arrival_to_flip_frames_median": float(np.median(waited)),
        "arrival_to_flip_frames_p99": float(np.percentile(waited, 99, method="higher")),
        "onsets": len(late_ms),
        "onsets_missing": len(schedule.steps) - len(onsets_s),
        "onset_error_ms_median": float(np.median(late_ms)),
        "onset_error_ms_p99": float(np.percentile(late_ms, 99)),
        "onset_error_ms_max": max(late_ms),
    }


def _waited(
    schedule: Schedule, onsets_s: dict[int, float], sent_s: dict[int, float], seen_s: dict[int, float]
) -> Float64Array:
    """Return the seconds from sending to flip of rankings sent while feedback was shown; infinite if never shown."""
    waited = []
    for place, onset_s in onsets_s.items():
        step = schedule.steps[place]
        if step.kind not in ("imagery", "feedback"):
            continue
        for index, at_s in sent_s.items():
            if onset_s <= at_s < step.end_s - _SHOWN_WITHIN_S:
                waited.append(seen_s.get(index, np.inf) - at_s)
    return np.array(waited)


# ---------------------------------------------------------------- the publisher


class Publisher:
    """The process that publishes rankings.

    Parameters
    ----------
    process : subprocess.Popen
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = process.stdout.readline().strip() if process.stdout else ""

    def sent(self) -> dict[int, float]:
        """Stop the process, and return when each ranking was sent, seconds since 1970, by its index."""
        output, _ = self._process.communicate("\n", timeout=30)
        return {int(index): float(utc_s) for index, utc_s in (line.split() for line in output.splitlines())}


@contextmanager
def _publishing() -> Iterator[Publisher]:
    command = [sys.executable, "-m", "benchmarks.display", "--publish"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Publisher(process)
    finally:
        process.kill()
        process.wait()


def publish() -> None:
    """Publish a run's rankings until a line comes in on standard input; then print when each was sent."""
    rng = np.random.default_rng(0)
    rankings = [made_up_ranking(N_CANDIDATES, n % N_CANDIDATES, None, n, sure=True) for n in range(50)]
    sent: list[tuple[int, float]] = []
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.linger = 0
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        print(f"tcp://127.0.0.1:{port}", flush=True)
        poller = zmq.Poller()
        poller.register(sys.stdin, zmq.POLLIN)
        socket.send_multipart(to_frames(Run("run-1", "01", PROTOCOL.tr_s, (9, 9, 9), np.eye(4))))
        while not poller.poll(rng.uniform(250, 450)):
            index = len(sent)
            frames = to_frames(replace(rankings[index % len(rankings)], run_id="run-1", index=index))
            sent.append((index, time.time()))
            socket.send_multipart(frames)
            if index % 3 == 0:
                socket.send_multipart(to_frames(Hello("1", None, N_CANDIDATES, 0)))
    for index, utc_s in sent:
        print(index, f"{utc_s:.6f}")


if __name__ == "__main__":
    sys.exit(main())
