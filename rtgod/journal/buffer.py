"""What a server writes down, and what happens when it cannot: nothing is acknowledged, nothing is forgotten."""

from __future__ import annotations

import logging
from collections import deque

from rtgod.errors import JournalError
from rtgod.journal.journal import JournalWriter
from rtgod.messages import Message

log = logging.getLogger(__name__)


class JournalBuffer:
    """A journal whose disk may be full for a while.

    Parameters
    ----------
    journal : JournalWriter

    Attributes
    ----------
    problem : str
        Why nothing can be written now, and what to do; empty while it can.
    """

    def __init__(self, journal: JournalWriter) -> None:
        self._journal = journal
        self._waiting: deque[Message] = deque()
        self.problem = ""

    @property
    def free_bytes(self) -> int:
        """Room on the journal's disk."""
        return self._journal.free_bytes()

    @property
    def is_behind(self) -> bool:
        """Whether something that was answered is not in the journal yet."""
        return bool(self._waiting)

    def look(self) -> None:
        """See whether the journal is where it should be, so that the status tells it before a volume is deferred."""
        try:
            self._journal.check_place()
        except JournalError as error:
            self._fail(error)

    def add(self, message: Message) -> None:
        """Write what follows from what was kept; if that cannot be done now, it is before the next is kept."""
        self._waiting.append(message)
        self._catch_up()

    def keep(self, message: Message) -> bool:
        """Write a message to the disk; False if it cannot be, and then no trace of it stays."""
        if not self._catch_up():
            return False
        try:
            self._journal.keep(message)
        except JournalError as error:
            self._fail(error)
            return False
        self._recover()
        return True

    def _catch_up(self) -> bool:
        try:
            while self._waiting:
                self._journal.append(self._waiting[0])
                self._waiting.popleft()
        except JournalError as error:
            self._fail(error)
            return False
        return True

    def _fail(self, error: JournalError) -> None:
        if not self.problem:
            log.error("volumes are not taken: %s", error)
        self.problem = str(error)

    def _recover(self) -> None:
        if self.problem:
            log.warning("volumes are taken again")
        self.problem = ""
