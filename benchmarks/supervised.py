"""Sessions whose server is killed again and again, and restarted only by its supervisor.

This is a part of `benchmarks.soak`. Each session has a supervisor of its own, which gives up after five deaths in a
minute.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks import sessions
from rtgod.server.supervision import MOST_DEATHS
from tests import small

#: Speed of the replay, and volumes of a session: one each 0.2 s, for 16 s.
SPEED, N_VOLUMES = 10.0, 80
#: Signals that end the server as a power cut, an assertion and a bug in a library would.
SIGNALS = (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV)
_FREE = "tcp://127.0.0.1:*"


def supervised(folder: Path, n_kills: int) -> dict[str, float]:
    """Kill a supervised server at random moments while a source sends, until it was killed `n_kills` times.

    Parameters
    ----------
    folder : Path
        Folder to make.
    n_kills : int

    Returns
    -------
    dict of str to float
        Numbers of volumes that were lost or counted twice, of answers that differ from the expected ones, and of
        processes that did not end well; and the time until a server was ready again, seconds.
    """
    rng = random.Random(sessions.SEED)  # noqa: S311 # chance, not secrets
    runs = sessions.run_files(folder / "runs", 1, N_VOLUMES)
    expected = sessions.undisturbed(runs)
    totals: Counter[str] = Counter()
    restarts_s: list[float] = []
    while len(restarts_s) < n_kills:
        place = folder / f"session-{totals['sessions']}"
        totals["sessions"] += 1
        totals["crashes"] += _session(place, runs, rng, min(n_kills - len(restarts_s), MOST_DEATHS - 1), restarts_s)
        totals.update(sessions.differences(place / "journal", expected))
        print(f"kills of a supervised server: {len(restarts_s)} of {n_kills}, {dict(totals)}", file=sys.stderr)
    return {
        "supervised_kills": len(restarts_s),
        "supervised_lost": totals["lost"],
        "supervised_duplicated": totals["duplicated"],
        "supervised_different": totals["different_rankings"],
        "supervised_crashes": totals["crashes"],
        "supervised_restart_s_median": sorted(restarts_s)[len(restarts_s) // 2],
        "supervised_restart_s_max": max(restarts_s),
    }


def _session(place: Path, runs: Sequence[Path], rng: random.Random, n_kills: int, restarts_s: list[float]) -> int:
    """Run a session with up to `n_kills` kills; return how many of its processes did not end well."""
    n_crashes, n_before = 0, len(restarts_s)
    with _serving(place) as (server, ready):
        for path in runs:
            with sessions.Part("replay", str(path), "--to", ready()["ingest"], "--speed", str(SPEED)) as source:
                while source.code is None and len(restarts_s) - n_before < n_kills:
                    time.sleep(rng.uniform(0.5, 4.0))
                    pid = ready()["pid"]
                    os.kill(pid, rng.choice(SIGNALS))
                    killed_s = time.monotonic()
                    sessions.until(lambda pid=pid: ready()["pid"] != pid, "server that was started again")
                    restarts_s.append(time.monotonic() - killed_s)
                n_crashes += source.ended()
        n_crashes += server.stop()
    return n_crashes


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[sessions.Part, Callable[[], dict[str, Any]]]]:
    """Run a supervised server; once it is ready, give it, and a function that reads its newest ready file."""
    folder.mkdir(parents=True)
    small.bundle().save(folder / "bundle")
    path = folder / "ready.json"

    def ready() -> dict[str, Any]:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    arguments = ["serve", "--supervise", str(folder / "bundle"), "--ingest", _FREE, "--publish", _FREE]
    server = sessions.Part(*arguments, "--journal", str(folder / "journal"), "--ready-file", str(path))
    try:
        sessions.until(path.exists, "supervised server")
        yield server, ready
    finally:
        stopped = server.code is not None
        server.close()
        # A killed supervisor does not stop its server.
        if not stopped and path.exists():
            with suppress(ProcessLookupError):
                os.kill(ready()["pid"], signal.SIGKILL)
