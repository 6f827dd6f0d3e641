"""The display's link to the server, in both directions; nothing here waits, and without a server the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rtgod.errors import RtgodError
from rtgod.messages import Answer, Hello, Message, Run, RunEnd, Status
from rtgod.protocol.restarts import OperatorNotice, ProblemNotice, RestartNotice
from stimulus.screens.screen import SERVER_LOST_S, DisplayState

#: Greatest number of messages taken in by a call: a flood of them must not keep a frame from being drawn.
_MOST_MESSAGES = 100


class AnswerStream(Protocol):
    """Interface of a source of the server's messages."""

    def poll(self) -> Message | None:
        """Return the next message, or None at once if none has come."""


class EventReceiver(Protocol):
    """Interface of a channel that reports events to the server."""

    @property
    def offset_s(self) -> float | None:
        """Seconds to add to the display's clock to get the server's; None while not measured."""

    @property
    def offset_error_s(self) -> float | None:
        """Greatest possible error of `offset_s`, seconds; None while not measured."""

    def report(self, kind: str, at_s: float, run_id: str = "", value: str = "") -> None:
        """Report an event at `at_s` by the display's clock, without waiting."""

    def poll(self) -> None:
        """Take in replies, and send the reports that are due, without waiting."""


class Link:
    """A server, as the display knows it.

    Answers about a run that was over when the display's run began are ignored.

    Parameters
    ----------
    subscriber : AnswerStream
    reporter : EventReceiver
    tell : callable
        Shows the operator a line.
    clock : callable
        The display's clock, seconds.
    server : str, optional
        Address at which the server publishes, for the operator to read.
    """

    def __init__(
        self,
        subscriber: AnswerStream,
        reporter: EventReceiver,
        tell: Callable[[str], object],
        clock: Callable[[], float],
        server: str = "",
    ) -> None:
        self._subscriber, self._reporter, self._tell, self._clock = subscriber, reporter, tell, clock
        self._server = server
        self._state = DisplayState()
        self._heard_at_s = clock()
        self._is_lost = self._has_begun = False
        self._restarts, self._problems, self._notices = RestartNotice(), ProblemNotice(), OperatorNotice()
        self._told: set[str] = set()
        self._news_at_s = self._heard_at_s
        self._known: Answer | None = None  # the newest answer before the last call of `poll`
        self._earlier_run_id: str | None = None

    def poll(self) -> list[Message]:
        """Return the messages that came in since the last call, oldest first."""
        messages: list[Message] = []
        with self._telling():
            self._reporter.poll()
        with self._telling():
            while len(messages) < _MOST_MESSAGES and (message := self._subscriber.poll()) is not None:
                messages.append(message)
        now_s, self._known = self._clock(), self._state.answer
        for message in messages:
            known = self._state.server
            if isinstance(message, Hello) and known is not None and message.bundle_id != known.bundle_id:
                self._state.answer = None  # the answer was about other candidates
            if isinstance(message, Hello) and (line := self._restarts.hear(message.n_starts)):
                self._tell(line)
            if isinstance(message, Status):
                for line in filter(None, (self._problems.hear(message.problem), self._notices.hear(message.notice))):
                    self._tell(line)
            if self._state.update(message):
                self._news_at_s = now_s
        if messages:
            self._heard_at_s = now_s
        self._notice(now_s - self._heard_at_s > SERVER_LOST_S)
        return messages

    def begin(self) -> None:
        """Take in that the display's run begins now.

        If the server already answered later volumes than the first, its run is over, or it began before the trigger,
        which the operator is told.
        """
        self._has_begun, answer = True, self._known
        if answer is None or answer.index == 0 or answer.run_id != self._state.run_id:
            return
        if answer.run_id in self._state.ended_runs or self._clock() - self._news_at_s > SERVER_LOST_S:
            self._earlier_run_id = answer.run_id
        else:
            self._tell(
                f"the server's run {answer.run_id} had {answer.index + 1} volumes before the trigger came here: is the "
                "number of dummies right? What is shown may be about another trial"
            )

    def rejoin(self) -> None:
        """Take in that the display's run began before: it is the server's run under way."""
        self._has_begun = True

    @property
    def hello(self) -> Hello | None:
        """The server's last hello; None until it was heard."""
        return self._state.server

    @property
    def run(self) -> Run | None:
        """Header of the display's run, from the server; None while it is not known."""
        return None if self._is_of_another_run() else self._state.run

    @property
    def answer(self) -> Answer | None:
        """The newest answer of the display's run; None while the server is not heard."""
        return None if self._is_lost or self._is_of_another_run() else self._state.answer

    @property
    def offset(self) -> tuple[float | None, float | None]:
        """Seconds to add to the display's clock to get the server's, and their greatest possible error."""
        return self._reporter.offset_s, self._reporter.offset_error_s

    def report(self, kind: str, at_s: float, value: str) -> None:
        """Report an event to the server; the report is sent again until the server acknowledges it."""
        run_id = None if self._is_of_another_run() else self._state.run_id
        self._reporter.report(kind, at_s, run_id or "", value)

    def has_ended(self, messages: Sequence[Message]) -> bool:
        """Whether the messages tell that the display's run ended."""
        ended = {message.run_id for message in messages if isinstance(message, RunEnd)}
        return self._state.run_id in ended and not self._is_of_another_run()

    def _is_of_another_run(self) -> bool:
        """Whether the server's messages are about an earlier run than the display's."""
        if self._has_begun:
            return self._earlier_run_id is not None and self._earlier_run_id == self._state.run_id
        answer = self._state.answer
        return answer is not None and answer.index > 0

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Catch errors of a server of another version, or that refuses this client; tell each once, and go on."""
        try:
            yield
        except RtgodError as error:
            line = f"the run goes on without the server: {error}"
            if line not in self._told:
                self._told.add(line)
                self._tell(line)

    def _notice(self, is_lost: bool) -> None:
        if is_lost != self._is_lost:
            self._is_lost = is_lost
            where = f" at {self._server}" if self._server else ""
            there = " (is `rtgod serve` running there?)" if self._server and self._state.server is None else ""
            gone = f"the server{where} was not heard for {SERVER_LOST_S:g} s{there}; the run goes on without feedback"
            self._tell(gone if is_lost else "the server is heard again")
