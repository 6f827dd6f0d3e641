"""Count and log of refused messages: at most one line a second, however many messages are refused."""

from __future__ import annotations

import logging
import math
import time

from rtgod.text import plain

log = logging.getLogger(__name__)

#: Most characters of a reason in the log and in replies: it may quote a message that was sent to flood the log.
LONGEST_REASON = 300
_LOG_S = 1.0


class Refusals:
    """Counter of refusals, which logs at most one line a second.

    Attributes
    ----------
    n : int
        Number of messages that were refused.
    """

    def __init__(self) -> None:
        self.n = 0
        self._n_told = 0
        self._newest = ""
        self._told_s = -math.inf

    def note(self, why: str) -> str:
        """Count a refusal.

        Parameters
        ----------
        why : str
            Reason, of any length and with any characters, as it may quote the message.

        Returns
        -------
        str
            The reason, shortened to `LONGEST_REASON` and with control characters escaped.
        """
        self.n += 1
        self._newest = plain(why, LONGEST_REASON)
        self.tell()
        return self._newest

    def tell(self) -> None:
        """Log the refusals since the last line, unless that is less than a second ago."""
        n_untold = self.n - self._n_told
        if n_untold and time.monotonic() >= self._told_s + _LOG_S:
            if n_untold == 1:
                log.warning("refused: %s", self._newest)
            else:
                log.warning("refused %d messages, the newest: %s", n_untold, self._newest)
            self._n_told, self._told_s = self.n, time.monotonic()
