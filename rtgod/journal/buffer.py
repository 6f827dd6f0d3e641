"""A server's writing to its journal: while the disk is full, no volume is acknowledged and no record is lost."""

from __future__ import annotations

import logging
from collections import deque

from rtgod.errors import JournalError
from rtgod.journal.journal import JournalWriter
from rtgod.messages import Message

log = logging.getLogger(__name__)


class JournalBuffer:
    """Buffer in front of a journal whose disk may be full for a while.

    Parameters
    ----------
    journal : JournalWriter

    Attributes
    ----------
    problem : str
        Why the journal cannot be written now, and what to do about it; empty while it can be written.
    """

    def __init__(self, journal: JournalWriter) -> None:
        self._journal = journal
        self._waiting: deque[Message] = deque()
        self.problem = ""

    @property
    def free_bytes(self) -> int:
        """Free space on the journal's disk, in bytes."""
        return self._journal.free_bytes()

    @property
    def is_behind(self) -> bool:
        """Whether derived records, such as answers, wait to be written."""
        return bool(self._waiting)

    def look(self) -> None:
        """Check that the journal is still at its path, so that the status tells before a volume is deferred."""
        try:
            self._journal.check_place()
        except JournalError as error:
            self._fail(error)

    def add(self, message: Message) -> None:
        """Append a derived record; if the disk is full, buffer it and write it before the next durable one.

        Parameters
        ----------
        message : Message
        """
        self._waiting.append(message)
        self._catch_up()

    def append_durable(self, message: Message) -> bool:
        """Write a message durably to the disk; return False, and leave no trace of it, if that fails.

        Parameters
        ----------
        message : Message
        """
        if not self._catch_up():
            return False
        try:
            self._journal.append_durable(message)
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
