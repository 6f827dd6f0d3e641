"""Notices about a server for a client's user: it died and was started again, or takes no volumes."""

from __future__ import annotations

#: Number of starts before a server was heard; no server reports this number.
_UNHEARD = 0


class RestartNotice:
    """Notice that a server died and was started again, however short the interruption.

    A server that was stopped on purpose and begins another session counts starts from 1 again, in a new journal; that
    is not reported.
    """

    def __init__(self) -> None:
        self._n_starts = _UNHEARD

    def hear(self, n_starts: int) -> str:
        """Take in the number of starts of a server on its journal.

        Parameters
        ----------
        n_starts : int
            `n_starts` of a `Hello`, a `Status` or a `Pong`.

        Returns
        -------
        str
            A line for a person to read; empty unless the server was heard before and has died since.
        """
        before, self._n_starts = self._n_starts, n_starts
        if before == _UNHEARD or n_starts <= before:
            return ""
        return f"the server died and was started again (start {n_starts}); what it had acknowledged is not lost"


class ProblemNotice:
    """Notice that a server does not take volumes, and that it takes them again."""

    def __init__(self) -> None:
        self._has_problem = False

    def hear(self, problem: str) -> str:
        """Take in the problem that keeps a server from taking volumes.

        Parameters
        ----------
        problem : str
            `problem` of a `Status`; empty if the server can take volumes.

        Returns
        -------
        str
            A line for a person to read; empty unless a problem has begun or ended.
        """
        had_problem, self._has_problem = self._has_problem, bool(problem)
        if self._has_problem == had_problem:
            return ""
        if not problem:
            return "the server takes volumes again"
        return f"the server takes no volumes, sources wait: {problem}"


class OperatorNotice:
    """Notice of a server for its operator, at its beginning and at its end, while volumes are taken."""

    def __init__(self) -> None:
        self._known = ""

    def hear(self, notice: str) -> str:
        """Take in the present notice of a server.

        Parameters
        ----------
        notice : str
            `notice` of a `Status` or an `Acknowledged`; may be empty.

        Returns
        -------
        str
            A line for a person to read; empty unless the notice has changed.
        """
        before, self._known = self._known, notice
        if notice == before:
            return ""
        return f"the server says: {notice}" if notice else f"no longer so: {before}"
