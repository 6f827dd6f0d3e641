"""The loop of the participant's display: it takes in published messages, draws them, notes when they were seen.

It owns time. `stimulus.screens.screen` decides what to show, and the backends in `stimulus.drawing` draw it.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Self

from rtgod.messages import Hello, Message, NotReady, Ranking, Run, RunEnd
from stimulus.drawing.window_protocol import RankingWindow
from stimulus.runtime.server_link import AnswerStream, EventReceiver, ServerListener
from stimulus.screens.certainty import UNKNOWN, USUAL, ClaritySettings
from stimulus.screens.feedback import nearest_scene, picture_word
from stimulus.screens.scene import Scene
from stimulus.screens.screen import SERVER_LOST_S, Easing, Screen, readable, screen_for
from stimulus.screens.texts import ENGLISH
from stimulus.screens.translation import Words, translated
from stimulus.tables import AGAIN_S, NOT_APPLICABLE, Lines

log = logging.getLogger(__name__)

#: Least time of a frame, seconds; it is the loop's pace if no monitor sets one.
FRAME_S = 1 / 60
#: Time after which an unchanged picture is drawn again, seconds, as the windowing system may have lost it.
REDRAW_S = 0.5
#: Time that the last ranking stays after the last run, seconds.
LINGER_S = 2.0
#: Greatest number of messages taken in before a frame: a flood of them must not keep it from being drawn.
MAX_MESSAGES_PER_FRAME = 1000


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files that the display writes; one that is None is not written.

    Attributes
    ----------
    screenshot : Path or None
        PNG of the last final ranking that was shown, or of the last ranking while none was final.
    log : Path or None
        TSV of the times at which answers were shown; an existing one is appended to, so that a restart loses nothing.
    ready_file : Path or None
        File with the process id, written once the window is open and the server was heard.
    """

    screenshot: Path | None = None
    log: Path | None = None
    ready_file: Path | None = None


class Display:
    """The participant's display: it shows a server's answers until somebody quits or enough runs have ended.

    Parameters
    ----------
    subscriber : AnswerStream
    window : RankingWindow
    outputs : Outputs, optional
    reporter : EventReceiver, optional
        Reports to the server when each answer was shown.
    stop_after_runs : int, optional
        Number of ended runs after which the display stops, `LINGER_S` later; with None it runs until somebody quits.
    tell : callable, optional
        Shows the operator a line, such as that the log's disk is full. A full disk does not end the display; only a
        log that cannot be opened does.
    find_letters : callable, optional
        Called with texts before they are shown; finds fonts with their letters, and returns lines for the operator.
    words : Words, optional
        Words in the participant's language, if it is not English.
    server : str, optional
        Address at which the server publishes, for the operator to read.
    clarity : ClaritySettings, optional
        Limits of certainty at which a ranking is pale, or in full colour.
    pictures : mapping of str to str, optional
        Files of the decoder's pictures, by name; if there are any, the nearest are shown in place of the list.
    clock, utc, sleep : callable, optional
        Clock of monotonic seconds, clock of seconds since 1970, and function that waits.

    Examples
    --------
    >>> with Display(subscriber, window) as display:  # doctest: +SKIP
    ...     display.run()
    """

    def __init__(
        self,
        subscriber: AnswerStream,
        window: RankingWindow,
        outputs: Outputs = Outputs(),
        *,
        reporter: EventReceiver | None = None,
        stop_after_runs: int | None = None,
        tell: Callable[[str], object] = lambda line: None,  # noqa: ARG005 # nobody is told
        find_letters: Callable[[Sequence[str]], Iterable[str]] = lambda texts: (),  # noqa: ARG005 # all are there
        words: Words | None = None,
        server: str = "",
        clarity: ClaritySettings = USUAL,
        pictures: Mapping[str, str] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
        utc: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._window, self._reporter = window, reporter
        self._clock, self._utc, self._sleep = clock, utc, sleep
        self._stop_after_runs, self._clarity = stop_after_runs, clarity
        self._stop_at_s = float("inf")
        self._pictures, self._show = pictures, None
        if pictures:
            self._show = partial(nearest_scene, near=pictures, clarity=clarity, not_sure=ENGLISH.not_sure)
        self._listener = ServerListener(subscriber, lambda line: log.warning("%s", line), clock(), server)
        self._state, self._easing = self._listener.state, Easing()
        self._unknown_in: str | None = None
        self._drawn: Screen | None = None
        self._reported: tuple[str, int] | None = None
        self._drawn_at_s = float("-inf")
        self._log = ShownLog(outputs.log)
        self._tell, self._find_letters, self._words = tell, find_letters, words
        self._lettered: set[str] = set()
        self._screenshot = Screenshot(window, outputs.screenshot, tell)
        self._ready_file, self._ready_told, self._ready_again_s = outputs.ready_file, False, float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._log.close()
        self._keep_log(self._clock())

    def run(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Draw frames until Escape or q is pressed, somebody stops the display, or enough runs have ended.

        Parameters
        ----------
        stopped : callable, optional
            Returns whether somebody has stopped it; asked before every frame.
        """
        while not stopped() and self.frame():
            pass
        self._screenshot.save(again=True)

    def frame(self) -> bool:
        """Take in messages, draw a frame if something changed, and keep the pace; return False after the last frame."""
        started_s = self._clock()
        if self._reporter is not None:
            self._reporter.poll()
        self._keep_log(started_s)
        news = self._take_in(started_s)
        screen = screen_for(self._state, self._clarity, show=self._show)
        self._easing.aim(translated(screen, self._state, self._words), started_s)
        screen = self._easing.at(started_s)
        if news or screen != self._drawn or started_s - self._drawn_at_s >= REDRAW_S:
            self._draw(screen, started_s)
        if self._window.keys_pressed_to_quit() or started_s >= self._stop_at_s:
            return False
        self._sleep(max(FRAME_S - (self._clock() - started_s), 0.0))
        return True

    def _take_in(self, now_s: float) -> bool:
        """Update the state with the messages that have arrived; return whether any was news."""
        news = False
        for message, is_news in self._listener.take_in(now_s, MAX_MESSAGES_PER_FRAME):
            self._letter(message)
            if isinstance(message, Ranking) and self._is_unknown(message) and message.run_id != self._unknown_in:
                self._unknown_in = message.run_id
                self._tell(f"{message.run_id}: {UNKNOWN}")
            if is_news:
                self._log.received(message, self._utc())
                news = True
        if self._listener.note_silence(now_s):
            self._tell_silence()
        if self._stop_after_runs is not None and len(self._state.ended_runs) >= self._stop_after_runs:
            self._stop_at_s = min(self._stop_at_s, now_s + LINGER_S)
        return news

    def _is_unknown(self, ranking: Ranking) -> bool:
        """Whether nobody knows how sure what is shown of a ranking is."""
        if self._pictures and ranking.pictures:
            return any(picture.probability is None for picture in ranking.pictures)
        return ranking.probability is None

    def _letter(self, message: Message) -> None:
        """Find fonts for new letters: those that a server's hello lists, and those of ranked names."""
        match message:
            case Hello(letters=letters):
                texts: Iterable[str] = letters
            case Ranking(top=names):
                texts = [*map(readable, names), *(picture_word(picture.name) for picture in message.pictures)]
            case _:
                return
        new = [text for text in texts if not text.isascii() and not self._lettered.issuperset(text)]
        if new:
            self._lettered.update(*new)
            for line in self._find_letters(new):
                self._tell(line)

    def _tell_silence(self) -> None:
        """Tell the operator that the server is no longer heard, or is heard again."""
        server = f"the server at {self._state.address}" if self._state.address else "the server"
        if not self._listener.is_lost:
            log.warning("%s is heard", server)
        elif self._state.server is None:
            log.warning("nothing is heard from %s; is `rtgod serve` running there? --from says where it is", server)
        else:
            log.warning("%s was not heard for %g s", server, SERVER_LOST_S)

    def _draw(self, screen: Screen, now_s: float) -> None:
        flip_utc_s = self._window.draw(screen)
        self._log.shown(flip_utc_s)
        self._report(flip_utc_s)
        self._drawn, self._drawn_at_s = screen, now_s
        if (screen.rows or isinstance(screen, Scene)) and isinstance(self._state.answer, Ranking):
            self._screenshot.shown(self._easing.target, final=self._state.answer.final)
        if self._easing.settled(now_s):
            self._screenshot.save()
        if self._ready_file is not None and self._state.server is not None and now_s >= self._ready_again_s:
            self._write_ready(self._ready_file, now_s)

    def _keep_log(self, now_s: float) -> None:
        for line in self._log.poll(now_s):
            self._tell(line)

    def _write_ready(self, path: Path, now_s: float) -> None:
        try:
            with replacing(path) as beside:
                beside.write_text(f"{os.getpid()}\n", encoding="ascii")
        except OSError as error:
            self._ready_again_s = now_s + AGAIN_S
            if not self._ready_told:
                self._tell(f"{path}: cannot be written ({error.strerror}); it is tried again, and the display goes on")
            self._ready_told = True
            return
        self._ready_file = None

    def _report(self, flip_utc_s: float) -> None:
        """Tell the server when an answer was shown for the first time."""
        answer = self._state.answer
        if self._reporter is not None and answer is not None and self._reported != (answer.run_id, answer.index):
            self._reported = answer.run_id, answer.index
            self._reporter.report("shown", flip_utc_s, answer.run_id, str(answer.index))


class Screenshot:
    """A file with the picture of the last final ranking, or of the last ranking while none was final.

    Parameters
    ----------
    window : RankingWindow
    path : Path or None
        File to write; with None no picture is kept.
    tell : callable, optional
        Shows the operator a line; called once when a picture cannot be written. The next picture is tried again.
    """

    def __init__(
        self,
        window: RankingWindow,
        path: Path | None,
        tell: Callable[[str], object] = lambda line: None,  # noqa: ARG005 # nobody is told
    ) -> None:
        self._window, self._path, self._tell = window, path, tell
        self._has_told = False
        self._failed: Screen | None = None
        self._wanted: Screen | None = None
        self._saved: Screen | None = None
        self._seen_final = False

    def shown(self, screen: Screen, *, final: bool) -> None:
        """Note that a ranking was shown.

        Parameters
        ----------
        screen : Screen
            Its picture, with bars at their final lengths.
        final : bool
            Whether the ranking was the last of its block.
        """
        if final or not self._seen_final:
            self._wanted = screen
            self._seen_final |= final

    def save(self, *, again: bool = False) -> None:
        """Write the picture, unless the file holds it already; a reader never meets half a file.

        Parameters
        ----------
        again : bool
            Whether to try again a picture that could not be written before.
        """
        if again:
            self._failed = None
        if self._path is None or self._wanted is None or self._wanted in (self._saved, self._failed):
            return
        try:
            with replacing(self._path) as path:
                self._window.save_png(path, self._wanted)
        except OSError as error:
            self._failed = self._wanted
            if not self._has_told:
                self._tell(
                    f"{self._path}: cannot be written ({error.strerror}); the display goes on: make room on that disk, "
                    "and the next picture is kept"
                )
            self._has_told = True
            return
        self._saved, self._failed, self._has_told = self._wanted, None, False


class ShownLog:
    """TSV of every run and answer: when it was received, and when the first picture with it was shown.

    An answer that a newer one replaced before the next picture was never seen; its `flip_utc_s` is n/a.

    Parameters
    ----------
    path : Path or None
        File to write; with None nothing is kept.
    """

    COLUMNS = ("received_utc_s", "flip_utc_s", "kind", "run_id", "index", "top1")

    def __init__(self, path: Path | None) -> None:
        self._lines = None if path is None else Lines(path, self.COLUMNS)
        self._pending: list[tuple[float, Run | RunEnd | Ranking | NotReady]] = []

    def poll(self, now_s: float) -> list[str]:
        """Write the lines that wait for their disk; return lines for the operator.

        Parameters
        ----------
        now_s : float
            Time by the display's clock, seconds.
        """
        return [] if self._lines is None else self._lines.poll(now_s)

    def close(self) -> None:
        """Write the messages that were received but never shown, and close the file."""
        self._flush(None)
        if self._lines is not None:
            self._lines.close()

    def received(self, message: Message, utc_s: float) -> None:
        """Note a message; kinds that are not logged are skipped.

        Parameters
        ----------
        message : Message
        utc_s : float
            Time at which it was received, seconds since 1970.
        """
        if isinstance(message, Run | RunEnd | Ranking | NotReady):
            self._pending.append((utc_s, message))

    def shown(self, flip_utc_s: float) -> None:
        """Write the messages that were received since the last picture.

        Parameters
        ----------
        flip_utc_s : float
            Time at which the picture with the newest of them was shown, seconds since 1970.
        """
        self._flush(flip_utc_s)

    def _flush(self, flip_utc_s: float | None) -> None:
        answers = [message for _, message in self._pending if isinstance(message, Ranking | NotReady)]
        for received_utc_s, message in self._pending:
            replaced = isinstance(message, Ranking | NotReady) and message is not answers[-1]
            flip = NOT_APPLICABLE if replaced or flip_utc_s is None else f"{flip_utc_s:.6f}"
            index = str(message.index) if isinstance(message, Ranking | NotReady) else NOT_APPLICABLE
            top1 = message.top[0] if isinstance(message, Ranking) and message.top else NOT_APPLICABLE
            self._write((f"{received_utc_s:.6f}", flip, type(message).__name__, message.run_id, index, top1))
        self._pending.clear()

    def _write(self, fields: tuple[str, ...]) -> None:
        if self._lines is not None:
            self._lines.write(fields)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; at the end its file takes the place of another in one step.

    Parameters
    ----------
    path : Path
        File to replace; its folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def stopping_on_signals() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGTERM or Ctrl-C came, so that the loop can end between two frames."""
    caught: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda number, _: caught.append(number))
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
