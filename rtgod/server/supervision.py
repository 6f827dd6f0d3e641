"""Supervision of a server: a small parent process, which computes nothing itself, starts the server again if it dies.

The server is a child process that is connected by two pipes. It reads a line from its standard input before it opens
its journal and its sockets, and ends if the pipe is closed instead; and it writes a line of JSON to its standard output
when it is ready (`Ready`). So a second server, the standby, can wait with everything imported, compiled and loaded. It
takes over within a fraction of a second, on the addresses and the journal of the server that died.

Each child has a process group of its own on POSIX systems: Ctrl-C in a terminal reaches only this process, which asks
the server to stop once. If this process is killed, the server does not notice, and goes on; the standby finds its pipe
closed, and ends.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import NamedTuple, Self

from rtgod.errors import ServerError

#: Deaths of a server, within this number of seconds, after which it is not started again.
MOST_DEATHS, WITHIN_S = 5, 60.0
#: Seconds that a server has to stop; a process that started this one may wait 20 s before it kills it.
STOP_S = 10.0
#: Exit code of a server that cannot start with its arguments, after it printed the reason.
REFUSED_CODE = 2
#: Seconds before the next try if a server was ready before and now refuses to start, as its port or its journal may
#: be free soon; doubled each time.
_PAUSE_S = 1.0
#: Longest wait, in seconds, so that signals are handled on systems where they end no wait (Windows).
_LONGEST_WAIT_S = 1.0
#: Number that is added to a signal's number to make an exit code, as shells do.
_SIGNAL_CODE = 128
#: Signals that ask the supervisor to stop; Windows lacks the last, and it may be ignored, as with `nohup`.
_STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@dataclass(frozen=True, slots=True)
class Ready:
    """Report of a server that it is ready.

    Attributes
    ----------
    ingest, publish : str
        Addresses at which it listens, with the actual port numbers.
    journal : str
        Path of the journal to which it writes.
    n_starts : int
        Number of times that a server has begun on that journal.
    pid : int
        Process id of the server.
    """

    ingest: str
    publish: str
    journal: str
    n_starts: int
    pid: int

    @classmethod
    def from_line(cls, line: str) -> Self | None:
        """Read the line that a server writes; None if it is another line.

        Parameters
        ----------
        line : str
            Line of the server's standard output.
        """
        try:
            return cls(**json.loads(line))
        except (ValueError, TypeError):
            return None


def wait_for_go() -> bool:
    """Wait, in a supervised server, for the line that starts it; return False if the pipe is closed instead."""
    return bool(sys.stdin.readline())


def say_ready(text: str) -> None:
    """Tell the supervisor, in one line of JSON, that this server is ready.

    Parameters
    ----------
    text : str
        The fields of a `Ready`.
    """
    # The server goes on if its supervisor was killed meanwhile. The write is unbuffered: a buffer would be flushed at
    # the end, and fail then.
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), f"{text}\n".encode())


class _Said(NamedTuple):
    """Event: a child is ready."""

    child: _Child
    ready: Ready


class _Ended(NamedTuple):
    """Event: a child has ended, with the code that `subprocess` gives: below 0 for a signal."""

    child: _Child
    code: int


class _Asked(NamedTuple):
    """Event: the supervisor was asked to stop, by a signal of this number."""

    number: int


class _Child:
    """A server in a process of its own, which waits until it is told to go.

    Parameters
    ----------
    command : sequence of str
    events : SimpleQueue
        Queue into which the events of the child are put.

    Raises
    ------
    OSError
        If no process can be started.
    """

    def __init__(self, command: Sequence[str], events: SimpleQueue[_Event]) -> None:
        self._events = events
        self._process = subprocess.Popen(  # noqa: S603 # ourselves
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0 if os.name == "posix" else None,
        )
        threading.Thread(target=self._follow, daemon=True).start()

    def go(self) -> None:
        """Tell the child to start serving."""
        self._close_stdin("go\n")

    def stop(self) -> None:
        """Ask the child to end in good order."""
        # On Windows this would kill the child; there, Ctrl-C has reached it as well.
        if os.name == "posix":
            self._process.terminate()

    def kill(self) -> None:
        """Kill the child, wait for its end, and close its pipe."""
        self._process.kill()
        self._process.wait()
        self._close_stdin()

    def _close_stdin(self, line: str = "") -> None:
        # A child that has ended cannot be told; its end is in the queue.
        with suppress(BrokenPipeError):
            if self._process.stdin is not None and not self._process.stdin.closed:
                with self._process.stdin as stdin:
                    stdin.write(line)

    def _follow(self) -> None:
        """Put the child's report and its end into the queue."""
        if self._process.stdout is not None:
            with self._process.stdout as lines:
                for line in lines:
                    ready = Ready.from_line(line)
                    if ready is not None:
                        self._events.put(_Said(self, ready))
                    else:
                        with suppress(OSError):  # the output has no reader; the end must be noticed nevertheless
                            print(line, end="", flush=True)
        self._events.put(_Ended(self, self._process.wait()))


_Event = _Said | _Ended | _Asked


class _Deaths:
    """Counter of deaths within a time."""

    def __init__(self, most: int, within_s: float) -> None:
        self.most, self.within_s = most, within_s
        self._at_s: deque[float] = deque()

    def add(self) -> int:
        """Note a death; return the number of deaths within the time, including this one."""
        now_s = time.monotonic()
        self._at_s.append(now_s)
        while now_s - self._at_s[0] > self.within_s:
            self._at_s.popleft()
        return len(self._at_s)


class Supervisor:
    """Supervisor that runs a server until it ends on purpose, and starts it again if it dies.

    If the supervisor itself fails, or is killed, the server goes on.

    Parameters
    ----------
    first : sequence of str
        Command line of the first server: a program that keeps to this module's protocol.
    again : callable
        Function that returns the command line of a further server, which continues the one with the given `Ready`.
    say : callable
        Function that prints a line for the operator.
    most_deaths : int
        Number of deaths within `within_s` after which the supervisor gives up.
    within_s : float
        Time in which deaths are counted, in seconds.
    """

    def __init__(
        self,
        first: Sequence[str],
        again: Callable[[Ready], Sequence[str]],
        say: Callable[[str], object],
        most_deaths: int = MOST_DEATHS,
        within_s: float = WITHIN_S,
    ) -> None:
        self._first, self._again, self._tell = first, again, say
        self._deaths = _Deaths(most_deaths, within_s)
        self._standby_deaths = _Deaths(most_deaths, within_s)
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._ready: Ready | None = None
        self._server: _Child | None = None
        self._standby: _Child | None = None
        self._died_s: float | None = None
        self._pause_s = _PAUSE_S
        self._start_at_s: float | None = None
        self._kill_at_s: float | None = None  # None until a stop is requested

    def run(self) -> int:
        """Serve; return the exit code of the server's last process, 128 plus the signal's number if one killed it.

        Raises
        ------
        ServerError
            If the server died too often.
        """
        with self._noting_signals():
            try:
                self._start()
                while True:
                    code = self._handle(self._next())
                    if code is not None:
                        return code
            finally:
                if self._standby is not None:
                    self._standby.kill()

    def _next(self) -> _Event | None:
        """Wait for the next event; None if the time for a start or a kill has come, or nothing happens."""
        times_s = [at_s for at_s in (self._start_at_s, self._kill_at_s) if at_s is not None]
        wait_s = min([_LONGEST_WAIT_S, *(at_s - time.monotonic() for at_s in times_s)])
        try:
            return self._events.get(timeout=max(0.0, wait_s))
        except Empty:
            return None

    def _handle(self, event: _Event | None) -> int | None:
        """Handle an event, and starts and kills that are due; return the exit code when the supervisor is to end."""
        match event:
            case _Said(child, ready) if child is self._server:
                self._note_ready(ready)
            case _Ended(child, code) if child is self._server:
                self._server = None
                return self._note_end(code)
            case _Ended(child, _) if child is self._standby:
                self._standby = None
                child.kill()
                self._note_standby_end()
            case _Asked(number) if self._kill_at_s is None:
                self._kill_at_s = time.monotonic() + STOP_S
                if self._server is None:
                    self._say(f"stopped while no server ran; {self._what_is_left()}")
                    return _SIGNAL_CODE + number
                self._server.stop()
        now_s = time.monotonic()
        if self._start_at_s is not None and now_s >= self._start_at_s:
            self._start()
        if self._kill_at_s is not None and now_s >= self._kill_at_s and self._server is not None:
            self._say(f"the server does not stop within {STOP_S:g} s, and is killed")
            self._kill_at_s = math.inf
            self._server.kill()
        return None

    def _start(self) -> None:
        """Let the standby take over, or start a server: one that continues, or the first if none was ever ready."""
        self._start_at_s = None
        try:
            self._server, self._standby = self._standby or self._new(), None
        except OSError as error:
            self._note_death(f"no process can be started: {error.strerror}", self._next_pause_s())
        else:
            self._server.go()

    def _new(self) -> _Child:
        return _Child(self._first if self._ready is None else self._again(self._ready), self._events)

    def _new_standby(self) -> None:
        """Start a standby, unless standbys keep dying; without one, a restart takes as long as a whole start."""
        if self._standby is None and self._kill_at_s is None:
            try:
                self._standby = self._new()
            except OSError:
                self._note_standby_end()

    def _note_ready(self, ready: Ready) -> None:
        if self._died_s is not None:
            after_s = time.monotonic() - self._died_s
            self._say(f"the server is ready again {after_s:.2f} s after it died: start {ready.n_starts} on its journal")
        self._ready, self._died_s, self._pause_s = ready, None, _PAUSE_S
        self._new_standby()

    def _note_end(self, code: int) -> int | None:
        if self._kill_at_s is not None:
            if code < 0:
                self._say(f"the server was {_how(code)} while it stopped; {self._what_is_left()}")
            return code if code >= 0 else _SIGNAL_CODE - code
        if code == 0 or (code == REFUSED_CODE and self._ready is None):
            return code
        self._note_death(_how(code), self._next_pause_s() if code == REFUSED_CODE else 0.0)
        return None

    def _note_death(self, how: str, pause_s: float) -> None:
        """Have the server started again after a pause, unless it died too often."""
        self._died_s = self._died_s or time.monotonic()
        n, most, within_s = self._deaths.add(), self._deaths.most, self._deaths.within_s
        if n >= most:
            raise ServerError(
                f"the server died {n} times within {within_s:g} s, the last time {how}, and is not started again; what "
                f"it said is above. When that is mended: {self._what_is_left()}"
            )
        self._start_at_s = time.monotonic() + pause_s
        when = f" in {pause_s:g} s" if pause_s else ""
        self._say(
            f"the server died ({how}) and is started again{when}; this is death {n}, and after {most} within "
            f"{within_s:g} s it is given up"
        )

    def _next_pause_s(self) -> float:
        pause_s, self._pause_s = self._pause_s, 2 * self._pause_s
        return pause_s

    def _note_standby_end(self) -> None:
        if self._standby_deaths.add() < self._standby_deaths.most:
            self._new_standby()
        else:
            self._say("no second server can wait beside this one (out of memory?): after a death it takes longer")

    def _what_is_left(self) -> str:
        if self._ready is None:
            return "it was never ready, so nothing was acknowledged"
        return (
            f"nothing that was acknowledged is lost, it is in {self._ready.journal}; `rtgod serve --supervise`, with "
            "the same bundle and --journal folder, goes on with it"
        )

    def _say(self, line: str) -> None:
        # The supervisor goes on although its terminal was closed.
        with suppress(OSError):
            self._tell(line)

    @contextmanager
    def _noting_signals(self) -> Iterator[None]:
        """Put signals that ask the supervisor to stop into the queue, for the length of a `with` block."""
        handlers = {}
        for number in (getattr(signal, name) for name in _STOP_SIGNALS if hasattr(signal, name)):
            handlers[number] = signal.signal(number, lambda number, _: self._events.put(_Asked(number)))
            if number not in (signal.SIGINT, signal.SIGTERM) and handlers[number] is signal.SIG_IGN:
                signal.signal(number, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _how(code: int) -> str:
    """Describe in words how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}" + (", by somebody or as memory ran out" if name == "SIGKILL" else "")
