"""How a server is: who is connected, how fast it answers, how much room is left."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from rtgod.journal.buffer import JournalBuffer
from rtgod.messages import Connected, Ping, Status
from rtgod.server.session import Session

#: Latencies are those of so many volumes.
_N_LATENCIES = 1000
#: What is usual is told by fewer.
_N_USUAL = 20
#: Clients that were silent for so long are forgotten, and of a flood of them the oldest.
_FORGOTTEN_S, _MOST_CLIENTS = 60.0, 100


class ServerStatus:
    """Collects what `Status` tells.

    Parameters
    ----------
    journal : str
        Its name.
    n_starts : int
        How often a server has begun on it.
    """

    def __init__(self, journal: str, n_starts: int) -> None:
        self._journal, self._n_starts = journal, n_starts
        self._started_s = time.monotonic()
        self._clients: dict[str, tuple[str, float]] = {}
        self._latencies_s: deque[float] = deque(maxlen=_N_LATENCIES)

    @property
    def usual_latency_s(self) -> float:
        """Median time from a volume's arrival to its answer, of the last few; 0 before any."""
        return float(np.median(list(self._latencies_s)[-_N_USUAL:])) if self._latencies_s else 0.0

    def heard(self, ping: Ping) -> None:
        """A client is there."""
        self._clients.pop(ping.client, None)
        self._clients[ping.client] = ping.kind, time.monotonic()
        if len(self._clients) > _MOST_CLIENTS:
            del self._clients[next(iter(self._clients))]

    def answered(self, latency_s: float) -> None:
        """A volume was answered so long after it arrived."""
        self._latencies_s.append(latency_s)

    def status(self, record: JournalBuffer, session: Session) -> Status:
        """All of it, now."""
        now_s = time.monotonic()
        self._clients = {name: of for name, of in self._clients.items() if now_s - of[1] < _FORGOTTEN_S}
        latency_ms = None
        if self._latencies_s:
            ms = np.percentile(self._latencies_s, (50, 99, 100)) * 1e3
            latency_ms = float(ms[0]), float(ms[1]), float(ms[2])
        return Status(
            utc_s=time.time(),
            uptime_s=now_s - self._started_s,
            journal=self._journal,
            disk_free_bytes=record.free_bytes,
            problem=record.problem,
            run_id=session.run.run_id if session.run else None,
            n_taken=len(session.taken),
            last_index=max(session.taken, default=None),
            latency_ms=latency_ms,
            clients=tuple(Connected(name, kind, now_s - heard_s) for name, (kind, heard_s) in self._clients.items()),
            n_starts=self._n_starts,
        )
