"""A server as a display hears it, and the link of a run to it in both directions; nothing here waits for the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rtgod.errors import RtgodError
from rtgod.messages import Answer, Block, Hello, Message, Run, RunEnd, Status
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
        """Report an event, without waiting.

        Parameters
        ----------
        kind : str
            Kind of the event, such as "shown".
        at_s : float
            Time by the display's clock, seconds.
        run_id : str, optional
            Run that the event belongs to; empty if none is known.
        value : str, optional
            What belongs to the event.
        """

    def tell_block(self, run_id: str, block: Block) -> None:
        """Tell the server of a block of a run under way, without waiting.

        Parameters
        ----------
        run_id : str
            Name of the run, as the server publishes it.
        block : Block
        """

    def poll(self) -> None:
        """Take in replies, and send the reports that are due, without waiting."""


class ServerListener:
    """A server as it is heard: its messages become the display's state, and its troubles lines for the operator.

    Parameters
    ----------
    subscriber : AnswerStream
    tell : callable
        Shows the operator a line.
    now_s : float
        Time by the display's clock, seconds; silence counts from it.
    address : str, optional
        Address at which the server publishes, for people to read.

    Attributes
    ----------
    state : DisplayState
    is_lost : bool
        Whether the server has been silent for longer than `SERVER_LOST_S`, as `note_silence` last found.
    """

    def __init__(
        self, subscriber: AnswerStream, tell: Callable[[str], object], now_s: float, address: str = ""
    ) -> None:
        self._subscriber, self._tell = subscriber, tell
        self.state, self.is_lost = DisplayState(address=address), False
        self._heard_at_s = now_s
        self._restarts, self._problems, self._notices = RestartNotice(), ProblemNotice(), OperatorNotice()

    def take_in(self, now_s: float, n_most: int) -> Iterator[tuple[Message, bool]]:
        """Yield the messages that have arrived, each once it is in the state, and whether it was news.

        Parameters
        ----------
        now_s : float
            Time by the display's clock, seconds.
        n_most : int
            Greatest number of messages: a flood of them must not keep a frame from being drawn.
        """
        for _ in range(n_most):
            message = self._subscriber.poll()
            if message is None:
                return
            self._heard_at_s = now_s
            for line in self._troubles(message):
                self._tell(line)
            yield message, self.state.update(message)

    def note_silence(self, now_s: float) -> bool:
        """Set for how long nothing was heard; return whether the server was lost just now, or is heard again.

        Parameters
        ----------
        now_s : float
            Time by the display's clock, seconds.
        """
        self.state.heard_nothing_s = now_s - self._heard_at_s
        was_lost, self.is_lost = self.is_lost, self.state.heard_nothing_s > SERVER_LOST_S
        return self.is_lost != was_lost

    def _troubles(self, message: Message) -> Iterator[str]:
        """Yield lines about restarts, and about problems and notices that begin or end."""
        match message:
            case Hello(n_starts=n_starts):
                lines = [self._restarts.hear(n_starts)]
            case Status(problem=problem, notice=notice):
                lines = [self._problems.hear(problem), self._notices.hear(notice)]
            case _:
                return
        yield from filter(None, lines)


class Link:
    """A server, as a run's display knows it.

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
        self._reporter, self._tell, self._clock, self._server = reporter, tell, clock, server
        self._news_at_s = clock()
        self._listener = ServerListener(subscriber, tell, self._news_at_s)
        self._state = self._listener.state
        self._has_begun = False
        self._told: set[str] = set()
        self._known: Answer | None = None  # the newest answer before the last call of `poll`
        self._earlier_run_id: str | None = None

    def poll(self) -> list[Message]:
        """Return the messages that came in since the last call, oldest first."""
        messages: list[Message] = []
        with self._telling():
            self._reporter.poll()
        now_s, self._known = self._clock(), self._state.answer
        with self._telling():
            for message, is_news in self._listener.take_in(now_s, _MOST_MESSAGES):
                messages.append(message)
                if is_news:
                    self._news_at_s = now_s
        if self._listener.note_silence(now_s):
            self._tell_silence()
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
        return None if self._listener.is_lost or self._is_of_another_run() else self._state.answer

    @property
    def offset(self) -> tuple[float | None, float | None]:
        """Seconds to add to the display's clock to get the server's, and their greatest possible error."""
        return self._reporter.offset_s, self._reporter.offset_error_s

    def report(self, kind: str, at_s: float, value: str) -> None:
        """Report an event of the display's run to the server; it is sent again until the server acknowledges it.

        Parameters
        ----------
        kind : str
            Kind of the event, such as "shown".
        at_s : float
            Time by the display's clock, seconds.
        value : str
            What belongs to the event; may be empty.
        """
        run_id = None if self._is_of_another_run() else self._state.run_id
        self._reporter.report(kind, at_s, run_id or "", value)

    def tell_block(self, run_id: str, block: Block) -> None:
        """Tell the server of a block; it is sent again until the server acknowledges it.

        Parameters
        ----------
        run_id : str
            Name of the server's run.
        block : Block
            Begins no earlier than the blocks told before it end.
        """
        self._reporter.tell_block(run_id, block)

    def has_ended(self, messages: Sequence[Message]) -> bool:
        """Return whether messages tell that the display's run ended.

        Parameters
        ----------
        messages : sequence of Message
            Messages that `poll` returned.
        """
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

    def _tell_silence(self) -> None:
        """Tell that the server was lost, or is heard again."""
        where = f" at {self._server}" if self._server else ""
        hint = " (is `rtgod serve` running there?)" if self._server and self._state.server is None else ""
        gone = f"the server{where} was not heard for {SERVER_LOST_S:g} s{hint}; the run goes on without feedback"
        self._tell(gone if self._listener.is_lost else "the server is heard again")
