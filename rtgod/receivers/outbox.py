"""Messages on their way to the server: sent in order, kept while it is away, and never sent on after a refusal.

Volumes that are discarded go no further, and those that follow are counted without them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rtgod.errors import RefusedError, ServerError
from rtgod.events.counting import discarded, used
from rtgod.messages import Run, RunEnd, Volume
from rtgod.protocol.clients import Sender
from rtgod.text import number_of


class Outbox:
    """Queue of what a receiver sends.

    Parameters
    ----------
    sender : Sender
    tell : callable
        Shows the operator a line.
    n_discarded : int
        Number of volumes at the start of each run that are discarded.

    Attributes
    ----------
    n_sent : int
        Number of volumes that the server has on disk.
    """

    def __init__(self, sender: Sender, tell: Callable[[str], object], n_discarded: int = 0) -> None:
        self._sender, self._tell, self._n_discarded = sender, tell, n_discarded
        self._came: dict[str, int] = {}
        self._messages: deque[Run | Volume | RunEnd] = deque()
        self._runs: dict[str, Run] = {}
        self._refused: set[str] = set()
        self._again = ""
        self.n_sent = 0

    def put(self, message: Run | Volume | RunEnd) -> None:
        """Queue a message; a run is named to the operator, and volumes that are discarded are counted.

        Parameters
        ----------
        message : Run, Volume or RunEnd
            A run without what is discarded; its volumes and its end as the scanner delivered them.
        """
        if self._n_discarded and isinstance(message, Volume):
            if message.index < self._n_discarded:
                self._came[message.run_id] = self._came.get(message.run_id, 0) + 1
                return
            self._tell_discarded(message.run_id)
            message = used(message, self._n_discarded, self._runs[message.run_id].tr_s)
        if self._n_discarded and isinstance(message, RunEnd):
            self._tell_discarded(message.run_id)
            message = RunEnd(message.run_id, max(0, message.n_volumes - self._n_discarded))
        self._messages.append(message)
        if isinstance(message, Run):
            grid = " × ".join(map(str, message.shape))
            n_trials = number_of(len(message.blocks), "trial")
            self._tell(f"{message.run_id}: begins, {grid} voxels, TR {message.tr_s:g} s, {n_trials}")
            self._runs[message.run_id] = message

    def send(self) -> None:
        """Send what is queued; what cannot be sent now stays, and is tried again."""
        while self._messages:
            message = self._messages[0]
            if message.run_id in self._refused:
                self._messages.popleft()
                continue
            try:
                self._sender.send(message)
            except RefusedError as error:
                run = self._runs.get(message.run_id)
                if isinstance(message, Volume) and run is not None and self._again != message.run_id:
                    self._again = message.run_id
                    self._messages.appendleft(run)  # another server, which has not heard of the run
                    continue
                self._tell(f"{message.run_id}: the server refuses it: {error}")
                if not isinstance(message, RunEnd):
                    self._refused.add(message.run_id)
            except ServerError as error:
                self._tell(f"{number_of(len(self._messages), 'message')} wait for the server: {error}")
                return
            else:
                if isinstance(message, Volume):
                    self.n_sent += 1
                    self._again = ""
                if isinstance(message, RunEnd):
                    self._tell(f"{message.run_id}: ended after {number_of(message.n_volumes, 'volume')}")
            self._messages.popleft()

    def _tell_discarded(self, run_id: str) -> None:
        n = self._came.pop(run_id, 0)
        if n:
            self._tell(f"{run_id}: {discarded(n)}")

    def end(self) -> None:
        """Send what is left, and say what could not be sent."""
        self.send()
        if self._messages:
            n_volumes = sum(isinstance(message, Volume) for message in self._messages)
            self._tell(f"{number_of(n_volumes, 'volume')} could not be sent: lost")
