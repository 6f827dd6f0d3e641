"""Sends a recorded run to a server: at the scanner's pace, faster, or as fast as the server takes it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rtgod.client import Sender
from rtgod.messages import RunEnd
from rtgod.sources import Source


@dataclass(frozen=True, slots=True)
class Sent:
    """One volume's delivery, in seconds of the computer's clock (UTC)."""

    index: int
    sent_utc_s: float
    acknowledged_utc_s: float


def send_run(
    source: Source, sender: Sender, speed: float, wait: Callable[[float], object] | None = None
) -> Iterator[Sent]:
    """Send a run, its volumes and its end.

    Parameters
    ----------
    source : Source
    sender : Sender
    speed : float
        1 is the scanner's pace: a volume leaves when its acquisition ends. `math.inf` does not wait.
    wait : callable, optional
        Waits for so many seconds; replaced in tests.

    Yields
    ------
    Sent
        As each volume is acknowledged.
    """
    wait = wait or threading.Event().wait
    sender.send(source.run)
    started_s = time.monotonic()
    n_volumes = 0
    for volume in source:
        if math.isfinite(speed):
            due_s = started_s + (volume.index + 1) * source.run.tr_s / speed
            if (left_s := due_s - time.monotonic()) > 0:
                wait(left_s)
        sent_s = time.time()
        sender.send(volume)
        n_volumes = volume.index + 1
        yield Sent(volume.index, sent_s, time.time())
    sender.send(RunEnd(source.run.run_id, n_volumes))
