"""Replay of a recorded run to a server: at the scanner's pace, faster, or as fast as the server takes it."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from rtgod.events.table import cut_and_told
from rtgod.messages import Run, RunEnd
from rtgod.protocol.clients import Sender
from rtgod.sources import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sent:
    """One volume's delivery, in seconds of the computer's clock (UTC), and whether the server had it already."""

    index: int
    sent_utc_s: float
    acknowledged_utc_s: float
    had: bool = False


def cut_run(run: Run) -> Run:
    """Cut a recorded run's blocks at its end, before it is announced; warn in the log of blocks that begin after it.

    Parameters
    ----------
    run : Run

    Raises
    ------
    InputError
        If all trials of the run begin after its end, so that none could be decoded.
    """
    cut, note = cut_and_told(run)
    if note:
        log.warning("%s", note)
    return cut


def send_run(
    source: Source,
    sender: Sender,
    speed: float,
    wait: Callable[[float], object] | None = None,
    acquisition: str = "",
) -> Iterator[Sent]:
    """Send a run, its volumes and its end.

    Parameters
    ----------
    source : Source
        The recorded run.
    sender : Sender
        Connected to the server.
    speed : float
        Pace as a multiple of the scanner's: at 1 a volume leaves when its acquisition ends. `math.inf` does not wait.
    wait : callable, optional
        Function that waits for a number of seconds; replaced in tests.
    acquisition : str, optional
        Identity that distinguishes this run from another of its name, such as `Source.acquisition` returns.

    Yields
    ------
    Sent
        After each volume is acknowledged.

    Raises
    ------
    InputError
        If all trials of the run begin after its end, so that none could be decoded.

    Examples
    --------
    >>> import math
    >>> import rtgod
    >>> run = rtgod.open_run("sub-01_task-objects_run-01_bold.nii.gz")
    >>> with rtgod.Sender("tcp://127.0.0.1:5555") as sender:
    ...     sent = list(rtgod.send_run(run, sender, speed=math.inf))
    >>> len(sent), sum(sender.answers.values())
    (64, 64)
    """
    run = cut_run(source.run)
    wait = wait or threading.Event().wait
    tr_s = run.tr_s / speed if math.isfinite(speed) else 0.0
    is_resumed = sender.send(replace(run, acquisition=acquisition)).duplicate
    # An interrupted run goes on where it was: volumes that the server has already are sent without waiting.
    started_s = time.monotonic() - (tr_s if is_resumed else 0.0)
    n_volumes = 0
    for volume in source:
        due_s = started_s + (volume.index + 1) * tr_s
        if (late_s := time.monotonic() - due_s) < 0:
            wait(-late_s)
        late_s = max(0.0, time.monotonic() - due_s) if tr_s else 0.0
        sent_s = time.time()
        reply = sender.send(replace(volume, held_s=late_s, n_waiting=int(late_s // tr_s) if tr_s else 0))
        if reply.duplicate:
            started_s = time.monotonic() - (volume.index + 2) * tr_s
        n_volumes = volume.index + 1
        yield Sent(volume.index, sent_s, time.time(), reply.duplicate)
    sender.send(RunEnd(run.run_id, n_volumes))
