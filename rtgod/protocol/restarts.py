"""What a client makes of how a server is, in words: that it died and was started again, or takes no volumes."""

from __future__ import annotations

#: What was known before a server was heard, as no server tells it.
_UNHEARD = 0


class RestartNotice:
    """Notices that a server died and was started again, however short it was away.

    A server that was stopped, and begins another session, begins another journal, whose first start it is: that is no
    death.
    """

    def __init__(self) -> None:
        self._n_starts = _UNHEARD

    def hear(self, n_starts: int) -> str:
        """Take in how often a server has begun on its journal.

        Parameters
        ----------
        n_starts : int
            Of a `Hello`, a `Status` or a `Pong`.

        Returns
        -------
        str
            One line for a person to read; empty unless the server was heard before and has died since.
        """
        known, self._n_starts = self._n_starts, n_starts
        if known == _UNHEARD or n_starts <= known:
            return ""
        return f"the server died and was started again (start {n_starts}); what it had acknowledged is not lost"


class ProblemNotice:
    """Notices that a server does not take volumes, and that it does again."""

    def __init__(self) -> None:
        self._has_problem = False

    def hear(self, problem: str) -> str:
        """Take in what keeps a server from taking volumes.

        Parameters
        ----------
        problem : str
            Of a `Status`; empty if nothing does.

        Returns
        -------
        str
            One line for a person to read; empty unless that has begun or ended.
        """
        had, self._has_problem = self._has_problem, bool(problem)
        if self._has_problem == had:
            return ""
        if not problem:
            return "the server takes volumes again"
        return f"the server takes no volumes, sources wait: {problem}"


class OperatorNotice:
    """Notices what a server's operator should know though volumes are taken, and that it no longer holds."""

    def __init__(self) -> None:
        self._known = ""

    def hear(self, notice: str) -> str:
        """Take in what a server says.

        Parameters
        ----------
        notice : str
            Of a `Status` or an `Acknowledged`; empty if nothing.

        Returns
        -------
        str
            One line for a person to read; empty unless the notice is another than before.
        """
        known, self._known = self._known, notice
        if notice == known:
            return ""
        return f"the server says: {notice}" if notice else f"no longer so: {known}"
