"""Playing of a run as an export: every volume at its time, with the faults that were asked for."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from rtgod.errors import InputError
from rtgod.messages import Volume
from rtgod.senders.export import Export, StoppedError
from rtgod.senders.faults import Fault, Send, Wish, schedule
from rtgod.senders.voxels import range_of
from rtgod.sources import Source


def planned(source: Source, export: Export, wishes: Sequence[Wish], seed: int) -> tuple[Send, ...]:
    """Say what will be sent when.

    Parameters
    ----------
    source : Source
    export : Export
    wishes : sequence of Wish
        Faults.
    seed : int
        See `rtgod.senders.faults.schedule`.

    Raises
    ------
    InputError
        If the protocol has no such fault, or the run no such volume.
    """
    for wish in wishes:
        if why := export.impossible.get(wish.fault):
            raise InputError(f"--fault {wish.fault} with --as {export.name}: {why}")
    return schedule(source.run.n_volumes or 0, wishes, seed, in_stream=export.in_stream)


def play(
    source: Source,
    export: Export,
    speed: float,
    wishes: Sequence[Wish],
    seed: int,
    tell: Callable[[str], object],
    wait: Callable[[float], object] | None = None,
) -> Iterator[Send]:
    """Play a run.

    Parameters
    ----------
    source : Source
    export : Export
    speed : float
        Pace as a multiple of the scanner's: at 1 a volume is sent when its acquisition ends. `math.inf` does not wait.
    wishes : sequence of Wish
        Faults.
    seed : int
        See `rtgod.senders.faults.schedule`.
    tell : callable
        Shows the operator a line: each fault when it is played.
    wait : callable, optional
        Function that waits for a number of seconds; replaced in tests.

    Yields
    ------
    Send
        After each volume is sent; those that are missing, too.

    Raises
    ------
    InputError
        If the protocol cannot carry the run or has no such fault.
    ServerError
        If the receiver cannot be reached, or is gone.
    """
    run, sends = source.run, planned(source, export, wishes, seed)
    for note in export.begin(run, range_of(source)):
        tell(note)
    wait = wait or threading.Event().wait
    tr_s = run.tr_s / speed if math.isfinite(speed) else 0.0
    held, started_s = _Held(source, sends), time.monotonic()
    try:
        for send in sends:
            volume = held.volume(send.index)
            if (early_s := started_s + send.due_tr * tr_s - time.monotonic()) > 0:
                wait(early_s)
            if volume is None:
                tell(f"volume {send.index + 1} is not in the recording: not sent")
                continue
            if send.fault is not None:
                tell(_told(send))
            if send.fault is not Fault.MISSING:
                export.volume(volume, is_cut=send.fault is Fault.TRUNCATED)
            yield send
    except StoppedError as stopped:
        tell(str(stopped))
    export.end()


class _Held:
    """Volumes of a source by their index, kept as long as they are still to be sent."""

    def __init__(self, source: Source, sends: Sequence[Send]) -> None:
        self._coming, self._held = iter(source), dict[int, Volume]()
        self._n_uses = Counter(send.index for send in sends)
        self._next = 0

    def volume(self, index: int) -> Volume | None:
        """Return a volume; None if the source has none."""
        while self._next <= index and (volume := next(self._coming, None)) is not None:
            self._held[volume.index] = volume
            self._next = volume.index + 1
        self._n_uses[index] -= 1
        return self._held.get(index) if self._n_uses[index] else self._held.pop(index, None)


def _told(send: Send) -> str:
    late_tr = send.due_tr - send.index - 1
    what = {
        Fault.LATE: f"is late by {late_tr:g} TR",
        Fault.DOUBLED: "is sent twice",
        Fault.MISSING: "is missing",
        Fault.TRUNCATED: "is cut in the middle",
        Fault.OUT_OF_ORDER: "comes after the next one",
    }
    return f"fault: volume {send.index + 1} {what[send.fault or Fault.MISSING]}"
