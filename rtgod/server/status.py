"""Status of the server: its clients, how fast it answers, and the disk space left."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from rtgod.journal.buffer import JournalBuffer
from rtgod.messages import Connected, Ping, Status
from rtgod.server.session import Session

#: Number of last volumes whose latencies are reported.
_N_LATENCIES = 1000
#: Number of last volumes whose median is the usual latency.
_N_USUAL = 20
#: Seconds of silence after which a client is forgotten, and most clients, beyond which the longest silent is forgotten.
_FORGOTTEN_S, _MOST_CLIENTS = 60.0, 100


class ServerStatus:
    """Collector of the data of a `Status`.

    Parameters
    ----------
    journal : str
        Name of the journal.
    n_starts : int
        Number of times that a server has begun on the journal.
    """

    def __init__(self, journal: str, n_starts: int) -> None:
        self._journal, self._n_starts = journal, n_starts
        self._started_s = time.monotonic()
        self._clients: dict[str, tuple[str, float]] = {}
        self._latencies_s: deque[float] = deque(maxlen=_N_LATENCIES)

    @property
    def usual_latency_s(self) -> float:
        """Median time from a volume's arrival to its answer, over the last few volumes, in seconds; 0 before any."""
        return float(np.median(list(self._latencies_s)[-_N_USUAL:])) if self._latencies_s else 0.0

    def heard(self, ping: Ping) -> None:
        """Note that a client sent a ping.

        Parameters
        ----------
        ping : Ping
        """
        self._clients.pop(ping.client, None)
        self._clients[ping.client] = ping.kind, time.monotonic()
        if len(self._clients) > _MOST_CLIENTS:
            del self._clients[next(iter(self._clients))]

    def answered(self, latency_s: float) -> None:
        """Note how long a volume's answer took.

        Parameters
        ----------
        latency_s : float
            Time from the volume's arrival to its answer, in seconds.
        """
        self._latencies_s.append(latency_s)

    def status(self, buffer: JournalBuffer, session: Session) -> Status:
        """Make the present status.

        Parameters
        ----------
        buffer : JournalBuffer
            Buffer in front of the session's journal.
        session : Session
        """
        now_s = time.monotonic()
        self._clients = {name: client for name, client in self._clients.items() if now_s - client[1] < _FORGOTTEN_S}
        latency_ms = None
        if self._latencies_s:
            ms = np.percentile(self._latencies_s, (50, 99, 100)) * 1e3
            latency_ms = float(ms[0]), float(ms[1]), float(ms[2])
        return Status(
            utc_s=time.time(),
            uptime_s=now_s - self._started_s,
            journal=self._journal,
            disk_free_bytes=buffer.free_bytes,
            problem=buffer.problem,
            run_id=session.run.run_id if session.run else None,
            n_taken=len(session.taken),
            last_index=max(session.taken, default=None),
            latency_ms=latency_ms,
            clients=tuple(Connected(name, kind, now_s - heard_s) for name, (kind, heard_s) in self._clients.items()),
            n_starts=self._n_starts,
        )
