"""What the display hears of the server and tells it; nothing here waits, and without a server the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rtgod.errors import RtgodError
from rtgod.messages import Answer, Message, Run, RunEnd
from stimulus.view import SERVER_LOST_S, DisplayState

#: A flood of messages must not keep a frame from being drawn.
_MOST_MESSAGES = 100


class Subscriber(Protocol):
    """Where messages come from."""

    def poll(self) -> Message | None:
        """Give the next message, or None at once where there is none."""


class Reporter(Protocol):
    """Where the server is told what happened here."""

    @property
    def offset_s(self) -> float | None:
        """What to add to the display's clock for the server's; None while not measured."""

    @property
    def offset_error_s(self) -> float | None:
        """No more than this can it be wrong."""

    def report(self, kind: str, at_s: float, run_id: str = "", value: str = "") -> None:
        """Report something that happened at `at_s` of the display's clock; never waits."""

    def poll(self) -> None:
        """Take replies in, and send what is due; never waits."""


class Link:
    """A server, as the display knows it.

    Parameters
    ----------
    subscriber : Subscriber
    reporter : Reporter
    tell : callable
        Tells the operator.
    clock : callable
        The display's.

    Attributes
    ----------
    state : DisplayState
    """

    def __init__(
        self,
        subscriber: Subscriber,
        reporter: Reporter,
        tell: Callable[[str], object],
        clock: Callable[[], float],
    ) -> None:
        self._subscriber, self._reporter, self._tell, self._clock = subscriber, reporter, tell, clock
        self._heard_at_s = clock()
        self._is_lost = False
        self._complaint = ""
        self.state = DisplayState()

    def poll(self) -> list[Message]:
        """What came in since the last call, oldest first."""
        self._reporter.poll()
        messages: list[Message] = []
        try:
            while len(messages) < _MOST_MESSAGES and (message := self._subscriber.poll()) is not None:
                messages.append(message)
        except RtgodError as error:
            # A server of another version, or one that turns us away: the run goes on without it.
            if str(error) != self._complaint:
                self._complaint = str(error)
                self._tell(f"the server cannot be understood: {error}")
        now_s = self._clock()
        for message in messages:
            self.state.update(message)
        if messages:
            self._heard_at_s = now_s
        self._notice(now_s - self._heard_at_s > SERVER_LOST_S)
        return messages

    @property
    def answer(self) -> Answer | None:
        """The newest answer; None while the server is not heard."""
        return None if self._is_lost else self.state.answer

    @property
    def run(self) -> Run | None:
        """The run that the server receives."""
        return self.state.run

    @property
    def offset(self) -> tuple[float | None, float | None]:
        """Of the server's clock to the display's, and its possible error, seconds."""
        return self._reporter.offset_s, self._reporter.offset_error_s

    def report(self, kind: str, at_s: float, value: str) -> None:
        """Tell the server; it is sent again until it is acknowledged."""
        self._reporter.report(kind, at_s, self.state.run_id or "", value)

    def has_ended(self, messages: list[Message]) -> bool:
        """Whether these say that the current run ended."""
        return any(isinstance(message, RunEnd) and message.run_id == self.state.run_id for message in messages)

    def _notice(self, is_lost: bool) -> None:
        if is_lost != self._is_lost:
            self._is_lost = is_lost
            gone = f"the server was not heard for {SERVER_LOST_S:g} s; the run goes on without feedback"
            self._tell(gone if is_lost else "the server is heard again")
