"""Restart of a server after a long session: its time, and whether its answers are the same as without a restart."""

from __future__ import annotations

import time
from itertools import zip_longest
from pathlib import Path

from benchmarks import sessions
from rtgod.journal.journal import journals, read_journal
from rtgod.messages import NotReady, Ranking, Run, Volume
from rtgod.protocol.clients import Sender
from rtgod.server.session import Session, replay
from tests import small

#: Number of volumes that are sent after the restart.
N_AFTER = 20
#: Lengths of a session's runs, in shares of its volumes; the last run continues after the restart.
SHARES = (0.1, 0.1, 0.8)


def restarted(folder: Path, n_volumes: int) -> dict[str, float]:
    """Kill a server after `n_volumes`, start it again, send more, and compare its answers with a replay of the journal.

    Parameters
    ----------
    folder : Path
    n_volumes : int
        Number of volumes before the restart, in three runs; the last run continues after it.
    """
    volumes = [small.volume(index) for index in range(12)]

    def send(sender: Sender, run: Run, first: int, stop: int) -> None:
        for index in range(first, stop):
            sender.send(Volume(run.run_id, index, index * small.TR_S, volumes[index % len(volumes)].data))

    lengths = [max(1, int(share * n_volumes)) for share in SHARES]
    runs = [small.run(f"run-{n}", n_volumes=None, blocks=(), acquisition=f"{n}") for n in range(len(lengths))]
    with sessions.serving(folder) as (server, where):
        with Sender(where.ingest, patience_s=sessions.WAIT_S) as sender:
            for run, length in zip(runs, lengths, strict=True):
                sender.send(run)
                send(sender, run, 0, length)
        ready = folder / "ready.json"
        ready.unlink()
        server.kill()
        started_s = time.monotonic()
        server.start()
        sessions.until(ready.exists, "server that was started again")
        restart_s = time.monotonic() - started_s
        with Sender(where.ingest, patience_s=sessions.WAIT_S) as sender:
            sender.send(runs[-1])
            send(sender, runs[-1], lengths[-1], lengths[-1] + N_AFTER)
        crashed = server.stop()
    (journal,) = journals(folder / "journal")
    recorded = [answer for answer in read_journal(journal) if isinstance(answer, Ranking | NotReady)]
    replayed = replay(read_journal(journal), Session(small.bundle()))
    pairs = list(zip_longest(map(sessions.content, recorded), map(sessions.content, replayed)))
    return {
        "restart_volumes": sum(lengths),
        f"restart_s_after_{sum(lengths)}": restart_s,
        "restart_lost": sum(lengths) + N_AFTER - len(recorded),
        "restart_different": sum(a != b for a, b in pairs),
        "restart_crashes": crashed,
    }
