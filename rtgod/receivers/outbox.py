"""Messages on their way to the server: sent in order, kept while it is away, and never sent on after a refusal.

Volumes that are discarded go no further, and those that follow are counted without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from rtgod.errors import RefusedError, ServerError
from rtgod.events.counting import discarded, used
from rtgod.messages import Run, RunEnd, Volume
from rtgod.receivers.backlog import MOST_BYTES, Backlog
from rtgod.text import number_of


class Destination(Protocol):
    """Place that messages go to: a `rtgod.protocol.clients.Sender`, or whatever keeps them in its stead."""

    def send(self, message: Run | Volume | RunEnd) -> object:
        """Take a message, which is safe once this returns.

        Parameters
        ----------
        message : Run, Volume or RunEnd

        Raises
        ------
        RefusedError
            If it is refused, and would be again.
        ServerError
            If it cannot be taken now.
        """


class Outbox:
    """Queue of what a receiver sends.

    Parameters
    ----------
    sender : Destination
    tell : callable
        Shows the operator a line.
    n_discarded : int
        Number of volumes at the start of each run that are discarded.
    most_bytes : int
        Bytes of voxels that wait in memory for the server; further ones wait in a temporary file.
    n_receivers : int
        Number of receivers that put messages into it, and end it.

    Attributes
    ----------
    n_sent : int
        Number of volumes that the server has on disk.
    n_discarded : int
        As given; it may be changed, for the runs that are put from then on.
    """

    def __init__(
        self,
        sender: Destination,
        tell: Callable[[str], object],
        n_discarded: int = 0,
        most_bytes: int = MOST_BYTES,
        n_receivers: int = 1,
    ) -> None:
        self._sender, self._tell, self.n_discarded = sender, tell, n_discarded
        self._n_discarded: dict[str, int] = {}
        self._n_receivers = n_receivers
        self._came: dict[str, int] = {}
        self._backlog = Backlog(most_bytes)
        self._runs: dict[str, Run] = {}
        self._refused: set[str] = set()
        self._again = ""
        self._told_waiting = ("", 0)
        self._told_stored = self._told_problem = False
        self.n_sent = 0

    def put(self, message: Run | Volume | RunEnd) -> None:
        """Queue a message; a run is named to the operator, and volumes that are discarded are counted.

        Parameters
        ----------
        message : Run, Volume or RunEnd
            A run without what is discarded; its volumes and its end as the scanner delivered them.
        """
        if isinstance(message, Run):
            self._n_discarded[message.run_id] = self.n_discarded
        n_discarded = self._n_discarded.get(message.run_id, self.n_discarded)
        if n_discarded and isinstance(message, Volume):
            if message.index < n_discarded:
                self._came[message.run_id] = self._came.get(message.run_id, 0) + 1
                return
            self._tell_discarded(message.run_id)
            message = used(message, n_discarded, self._runs[message.run_id].tr_s)
        if n_discarded and isinstance(message, RunEnd):
            self._tell_discarded(message.run_id)
            message = RunEnd(message.run_id, max(0, message.n_volumes - n_discarded))
        self._backlog.append(message)
        if isinstance(message, Run):
            grid = " × ".join(map(str, message.shape))
            n_trials = number_of(len(message.blocks), "trial")
            self._tell(f"{message.run_id}: begins, {grid} voxels, TR {message.tr_s:g} s, {n_trials}")
            self._runs[message.run_id] = message
        if self._backlog.n_stored and not self._told_stored:
            self._tell("the volumes that wait for the server fill their share of memory: further ones are in a file")
        if self._backlog.problem and not self._told_problem:
            self._tell(
                f"no temporary file for volumes that wait for the server ({self._backlog.problem}): they are kept in "
                "memory, as long as that lasts; make room, or let the server come back"
            )
        self._told_stored, self._told_problem = self._backlog.n_stored > 0, bool(self._backlog.problem)

    def send(self) -> None:
        """Send what is queued; what cannot be sent now stays, and is tried again."""
        while self._backlog:
            message = self._next()
            if message is None or message.run_id in self._refused:
                self._backlog.popleft()
                continue
            try:
                self._sender.send(message)
            except RefusedError as error:
                run = self._runs.get(message.run_id)
                if isinstance(message, Volume) and run is not None and self._again != message.run_id:
                    self._again = message.run_id
                    self._backlog.appendleft(run)  # another server, which has not heard of the run
                    continue
                self._tell(f"{message.run_id}: the server refuses it: {error}")
                if not isinstance(message, RunEnd):
                    self._refused.add(message.run_id)
            except ServerError as error:
                self._tell_waiting(str(error))
                return
            else:
                if isinstance(message, Volume):
                    self.n_sent += 1
                    self._again = ""
                if isinstance(message, RunEnd):
                    self._tell(f"{message.run_id}: ended after {number_of(message.n_volumes, 'volume')}")
            self._backlog.popleft()
        self._told_waiting = ("", 0)

    def _tell_discarded(self, run_id: str) -> None:
        n = self._came.pop(run_id, 0)
        if n:
            self._tell(f"{run_id}: {discarded(n)}")

    def end(self) -> None:
        """Send what is left; once all receivers have ended, say what could not be sent."""
        self.send()
        self._n_receivers -= 1
        if self._n_receivers > 0:
            return
        if self._backlog:
            n_volumes = number_of(self._backlog.n_volumes, "volume")
            self._tell(f"{n_volumes} could not be sent: lost, but where files are kept `rtgod replay` sends them later")
        self._backlog.close()

    def _next(self) -> Run | Volume | RunEnd | None:
        """Return the first message; None if it cannot be read any more, which is told."""
        try:
            return self._backlog.first()
        except OSError as error:
            self._tell(f"a volume that waited for the server cannot be read again ({error}): lost")
            return None

    def _tell_waiting(self, why: str) -> None:
        """Say that messages wait: at first, for another reason, and once twice as many do."""
        kind, n = re.sub(r"\d+(\.\d+)?", "0", why), len(self._backlog)
        said, n_said = self._told_waiting
        if kind != said or n >= 2 * n_said:
            self._told_waiting = kind, n
            self._tell(f"waiting for the server: {number_of(n, 'message')}; {why}")


def outbox_of(to: Destination | Outbox, tell: Callable[[str], object], n_discarded: int) -> Outbox:
    """Return the outbox of a receiver: the one that it shares with others, or one of its own.

    Parameters
    ----------
    to : Destination or Outbox
    tell : callable
        Shows the operator a line.
    n_discarded : int
        Number of volumes at the start of each run that are discarded.
    """
    return to if isinstance(to, Outbox) else Outbox(to, tell, n_discarded)
