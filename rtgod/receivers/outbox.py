"""Messages on their way to the server: sent in order, kept while it is away, and never sent on after a refusal.

What is sent may be sent by a thread of its own, so that no wait for the server keeps a receiver from its scanner.
Volumes that are discarded go no further, and those that follow are counted without them. Which these are, and a run's
trials, may be decided only when the run is sent, as the server's rules are not known before.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rtgod.errors import RefusedError, ServerError
from rtgod.events.counting import discarded, used
from rtgod.messages import Run, RunEnd, Volume
from rtgod.receivers.backlog import MOST_BYTES, Backlog
from rtgod.receivers.run_options import RunOptions
from rtgod.receivers.server_rules import ServerRules
from rtgod.text import number_of

#: Time after which it is said at the end that volumes are still being sent, seconds.
_LONG_S = 2.0


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


@dataclass(slots=True)
class _Outgoing:
    """A run on its way.

    It is as the scanner delivers it while there are options by which it is to be decided on.
    """

    run: Run | None = None
    options: RunOptions | None = None
    n_discarded: int = 0
    #: Numbers of volumes that were discarded and not told of yet, that were sent, and that were not for a refusal.
    n_left: int = 0
    n_sent: int = 0
    n_refused: int = 0
    is_refused: bool = False
    #: Whether the run was sent again, as another server might be there, and no volume was taken since.
    is_again: bool = False


class Outbox:
    """Queue of what a receiver sends; within `with` it is sent by a thread, else by whoever calls `send`.

    Parameters
    ----------
    sender : Destination
    tell : callable
        Shows the operator a line.
    most_bytes : int
        Bytes of voxels that wait in memory for the server; further ones wait in a temporary file.
    n_receivers : int
        Number of receivers that put messages into it, and end it.
    is_hurried : callable, optional
        Whether what is left is to be given up, once all receivers have ended.

    Attributes
    ----------
    n_sent : int
        Number of volumes that the server has on disk.
    """

    def __init__(
        self,
        sender: Destination,
        tell: Callable[[str], object],
        most_bytes: int = MOST_BYTES,
        n_receivers: int = 1,
        is_hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        self._sender, self._tell, self._is_hurried = sender, tell, is_hurried
        self._n_receivers = n_receivers
        self._backlog, self._lock = Backlog(most_bytes), threading.Lock()
        self._runs: dict[str, _Outgoing] = {}
        self._told_waiting, self._is_back = ("", 0), False
        self._told_stored = self._told_problem = False
        self.n_sent, self._n_refused, self._n_lost = 0, 0, 0
        self._thread: threading.Thread | None = None
        self._wake, self._is_ending = threading.Event(), False
        self._failure: Exception | None = None
        self._rules: ServerRules | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._send_on, name="outbox", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_hurried = lambda: True  # what is left after `end`, or when something has failed
        self._stop()

    @property
    def summary(self) -> str:
        """What became of all volumes, in words."""
        said = [f"{number_of(self.n_sent, 'volume')} sent"]
        if self._n_refused:
            said.append(f"{number_of(self._n_refused, 'volume')} not, as the server refused what they belong to")
        if self._n_lost:
            said.append(f"{number_of(self._n_lost, 'volume')} not, as the server was away")
        return "; ".join(said)

    def ask(self, rules: ServerRules) -> None:
        """Ask a server that did not answer for its rules again, while nothing else is to be sent.

        Parameters
        ----------
        rules : ServerRules
        """
        self._rules = rules

    def put(self, message: Run | Volume | RunEnd, options: RunOptions | None = None) -> None:
        """Queue a message; a run is named to the operator.

        Parameters
        ----------
        message : Run, Volume or RunEnd
            A run as `RunOptions.run` made it; its volumes and its end as the scanner delivered them.
        options : RunOptions, optional
            Those that made the run.
        """
        if isinstance(message, Run):
            self._begin(message, options or RunOptions())
        with self._lock:
            self._backlog.append(message)
            is_stored, problem = self._backlog.n_stored > 0, self._backlog.problem
        if is_stored and not self._told_stored:
            self._tell("the volumes that wait for the server fill their share of memory: further ones are in a file")
        if problem and not self._told_problem:
            self._tell(
                f"no temporary file for volumes that wait for the server ({problem}): they are kept in memory, as long "
                "as that lasts; make room, or let the server come back"
            )
        self._told_stored, self._told_problem = is_stored, bool(problem)

    def _begin(self, run: Run, options: RunOptions) -> None:
        is_open = options.server_rules is not None
        self._runs[run.run_id] = _Outgoing(run, options if is_open else None, options.n_discarded)
        grid = " × ".join(map(str, run.shape))
        trials = number_of(len(run.blocks), "trial")
        if is_open:
            trials = "its trials and discarded volumes are decided on once the server has said its bundle's rules"
        self._tell(f"{run.run_id}: begins, {grid} voxels, TR {run.tr_s:g} s, {trials}")

    def send(self) -> None:
        """Send what is queued; what cannot be sent now stays, and is tried again."""
        if self._thread is None:
            self._send_all()
        else:
            self._wake.set()
            self._raise_failure()

    def end(self) -> None:
        """Send what is left; once all receivers have ended, say what could not be sent."""
        self._n_receivers -= 1
        if self._n_receivers > 0 or self._thread is None:
            self.send()
        if self._n_receivers > 0:
            return
        self._stop()
        self._n_lost = self._backlog.n_volumes
        if self._n_lost:
            n_volumes = number_of(self._n_lost, "volume")
            self._tell(f"{n_volumes} could not be sent: lost, but where files are kept `rtgod replay` sends them later")
        elif self._backlog:
            self._tell("no volume is lost, but the server could not be told that a run has begun or ended")
        self._backlog.close()

    # ---------------------------------------------------------------- the thread

    def _send_on(self) -> None:
        try:
            while self._wake.wait():
                self._wake.clear()
                is_last = self._is_ending  # before the queue is looked at
                if not self._send_all():
                    is_last = self._is_ending
                if is_last:
                    return
        except Exception as error:  # noqa: BLE001 # raised where the receiver is
            self._failure = error

    def _stop(self) -> None:
        """Let the thread send what is left, if there is one; it gives up when the server is away."""
        thread = self._thread
        if thread is None:
            return
        self._is_ending = True
        self._wake.set()
        thread.join(_LONG_S)
        if thread.is_alive() and not self._told_waiting[0] and (n_volumes := self._n_waiting()):
            self._tell(f"{number_of(n_volumes, 'volume')} still go to the server; Ctrl-C again gives them up")
        thread.join()
        self._thread = None
        self._raise_failure()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _n_waiting(self) -> int:
        with self._lock:
            return self._backlog.n_volumes

    # ---------------------------------------------------------------- the way to the server

    def _send_all(self) -> bool:
        """Send what is queued, as far as that is possible; return whether nothing is left."""
        while (message := self._next()) is not None:
            if self._is_ending and self._is_hurried():
                return False
            outgoing = self._runs.setdefault(message.run_id, _Outgoing())
            try:
                self._send_one(message, outgoing)
            except RefusedError as error:
                if isinstance(message, Volume) and outgoing.run is not None and not outgoing.is_again:
                    outgoing.is_again = True
                    with self._lock:
                        self._backlog.appendleft(outgoing.run)  # another server, which has not heard of the run
                    continue
                self._refuse(message, outgoing, str(error).removeprefix("the server refused: "))
            except ServerError as error:
                self._tell_waiting(str(error))
                return False
            with self._lock:
                self._backlog.popleft()
        self._told_waiting, self._is_back = ("", 0), False
        self._ask()
        return True

    def _ask(self) -> None:
        """Ask the server for its rules between runs, so that they are told before the next one begins."""
        if self._rules is None or self._is_ending:
            return
        try:
            self._rules.ask_later()
        except (RefusedError, ServerError):
            return  # it was told, and is tried again
        self._rules = None
        self._tell("the server answers now")

    def _send_one(self, message: Run | Volume | RunEnd, outgoing: _Outgoing) -> None:
        """Send a message, unless it is one of those that go no further."""
        if isinstance(message, Run) and outgoing.options is not None:
            self._decide(outgoing, outgoing.options)
        if outgoing.is_refused:
            self._pass_over(message, outgoing)
            return
        if isinstance(message, Run):
            message = outgoing.run or message
        elif isinstance(message, Volume) and message.index < outgoing.n_discarded:
            outgoing.n_left += 1
            return
        elif outgoing.n_left:
            self._tell(f"{message.run_id}: {discarded(outgoing.n_left)}")
            outgoing.n_left = 0
        if isinstance(message, Volume) and outgoing.run is not None:
            message = used(message, outgoing.n_discarded, outgoing.run.tr_s)
        if isinstance(message, RunEnd):
            message = RunEnd(message.run_id, max(0, message.n_volumes - outgoing.n_discarded))
        self._sender.send(message)
        self._tell_back()
        if isinstance(message, Volume):
            self.n_sent, outgoing.n_sent, outgoing.is_again = self.n_sent + 1, outgoing.n_sent + 1, False
        if isinstance(message, RunEnd):
            self._tell(f"{message.run_id}: {_end_in_words(message, outgoing)}")

    def _decide(self, outgoing: _Outgoing, options: RunOptions) -> None:
        """Give a run its trials by the rules of the server, which is asked for them."""
        run = outgoing.run
        if options.server_rules is None or run is None:
            raise ValueError("there is nothing to decide")
        options.server_rules.ask_later()
        self._tell_back()
        options = options.renewed()
        outgoing.options = None
        try:
            outgoing.run, notes = options.decided(run)
        except ValueError as error:
            outgoing.is_refused = True
            self._tell(f"{run.run_id}: {error}: nothing of it is sent")
            return
        outgoing.n_discarded = options.n_discarded
        for note in notes:
            self._tell(note)
        self._tell(f"{run.run_id}: {number_of(len(outgoing.run.blocks), 'trial')}")

    def _refuse(self, message: Run | Volume | RunEnd, outgoing: _Outgoing, why: str) -> None:
        if isinstance(message, RunEnd):
            self._tell(f"{message.run_id}: the server refuses it: {why}")
            return
        more = " more" if outgoing.n_sent else ""
        self._tell(f"{message.run_id}: the server refuses it: {why}: nothing{more} of it is sent")
        outgoing.is_refused = True
        if isinstance(message, Volume):
            self._pass_over(message, outgoing)

    def _pass_over(self, message: Run | Volume | RunEnd, outgoing: _Outgoing) -> None:
        """Count what is not sent of a run that was refused."""
        if isinstance(message, Volume):
            outgoing.n_refused, self._n_refused = outgoing.n_refused + 1, self._n_refused + 1
        if isinstance(message, RunEnd):
            n_volumes = number_of(outgoing.n_refused, "volume")
            self._tell(f"{message.run_id}: ended; {n_volumes} of it not sent, as was said when it was refused")

    def _next(self) -> Run | Volume | RunEnd | None:
        """Return the first message; one that cannot be read any more is told, and left out."""
        while True:
            with self._lock:
                if not self._backlog:
                    return None
                try:
                    return self._backlog.first()
                except OSError as error:
                    why = str(error)
                    self._backlog.popleft()
            self._tell(f"a volume that waited for the server cannot be read again ({why}): lost")

    def _tell_waiting(self, why: str) -> None:
        """Say that messages wait: at first, for another reason, and once twice as many do."""
        with self._lock:
            n = len(self._backlog)
        kind = re.sub(r"\d+(\.\d+)?", "0", why)
        said, n_said = self._told_waiting
        if kind != said or n >= 2 * n_said:
            self._told_waiting, self._is_back = (kind, n), False
            self._tell(f"waiting for the server: {number_of(n, 'message')}, as long as this goes on; {why}")

    def _tell_back(self) -> None:
        """Say so once when the server is there again."""
        if self._told_waiting[0] and not self._is_back:
            self._is_back = True
            with self._lock:
                n = len(self._backlog)
            self._tell(f"the server is there again: {number_of(n, 'message')} that waited go to it now")


def _end_in_words(end: RunEnd, outgoing: _Outgoing) -> str:
    n_planned = (outgoing.run.n_volumes if outgoing.run is not None else None) or 0
    of_planned = f" of {n_planned} planned ones" if end.n_volumes < n_planned else ""
    sent = f", of which {outgoing.n_sent} were sent" if outgoing.n_sent < end.n_volumes else ""
    beside = f" beside the {outgoing.n_discarded} first ones" if outgoing.n_discarded else ""
    return f"ended after {number_of(end.n_volumes, 'volume')}{of_planned}{beside}{sent}"


def outbox_of(to: Destination | Outbox, tell: Callable[[str], object]) -> Outbox:
    """Return the outbox of a receiver: the one that it shares with others, or one of its own.

    Parameters
    ----------
    to : Destination or Outbox
    tell : callable
        Shows the operator a line.
    """
    return to if isinstance(to, Outbox) else Outbox(to, tell)
