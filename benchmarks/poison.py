"""Messages that look harmless and could break a server: it must refuse each at once, go on, and be able to restart."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from benchmarks.sessions import WAIT_S, serving, until
from rtgod.errors import RefusedError, WireError
from rtgod.messages import Message, Refused, Run
from rtgod.protocol.clients import Sender
from rtgod.protocol.frames import from_frames, to_frames
from tests import small

_HUGE = 10**400
_RUN = json.loads(bytes(to_frames(small.run("poison", acquisition="p"))[0]))
_EVENT = {"rtgod": 1, "type": "event", "client": "c", "number": 0, "kind": "k", "at_s": 0.0}
_DIAGONAL = ((1e-9, 1e5, 1e5), (0.004, 0.004, 0.004), (4e3, 4e3, 4e3), (1e5, 1e5, 1e5))


def _block(onset_s: float, duration_s: float) -> dict[str, Any]:
    return {"onset_s": onset_s, "duration_s": duration_s, "label": ""}


def _affine(*sizes: float) -> list[list[float]]:
    return [[size if row == column else 0 for column in range(4)] for row, size in enumerate((*sizes, 1))]


def messages() -> Iterator[bytes]:
    """Yield headers of messages that a server must refuse."""
    runs: list[dict[str, Any]] = [
        *({"shape": shape} for shape in ([100_000] * 3, [2_000] * 3, [2**40, 4, 4], [_HUGE, 4, 4], [512] * 3)),
        *({"n_volumes": n} for n in (_HUGE, 10**12, 2**31, 0, -1)),
        *({"tr_s": tr_s, "n_volumes": 100} for tr_s in (2000, 0.002, 5e-324, 1e308, -2, _HUGE)),
        *({"blocks": [_block(*times)]} for times in ((1e308, 1), (1, 1e308), (1, 1e9), (1.7e9, 9), (20, 40), (-1, 2))),
        {"n_volumes": None, "blocks": [_block(0, 10)] * 3000},
        {"n_volumes": None, "blocks": [_block(n, 1) for n in range(5_001)]},
        *({"affine": _affine(*sizes)} for sizes in _DIAGONAL),
        *({field: "x" * 600_000} for field in ("run_id", "subject", "acquisition")),
        {"run_id": "x~" + "9" * 600_000},
        {"shape": [18, 20, 3]},
        {"affine": [[4, 0, 0, 2000], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]]},
    ]
    events: list[dict[str, Any]] = [
        *({field: "x" * 600_000} for field in ("client", "kind", "value", "run_id")),
        {"number": _HUGE},
        {"number": -1},
        {"offset_s": "soon"},
    ]
    yield from (json.dumps({**_RUN, **changes}).encode() for changes in runs)
    yield from (json.dumps({**_EVENT, **changes}).encode() for changes in events)
    yield b'{"rtgod":1,"type":"ping","client":"c","kind":"' + b"k" * 600_000 + b'","sent_s":0}'
    yield b'{"rtgod":1,"type":"event","client":"c","number":1' + b"0" * 4200 + b',"kind":"k","at_s":0}'
    # Long texts, which the server's logging searches for a pattern.
    for length in (10_000, 20_000, 300_000):
        yield b'{"rtgod":1,"type":"' + b"<a " * length + b'"}'
    yield b'{"rtgod":1,"type":"run",' + b",".join(b'"%d":0' % n for n in range(60_000)) + b"}"
    long = "1" + "0" * 1500
    arrays = f'[{{"field":"data","dtype":"int16","shape":[{long},{long},{long}]}}]'
    yield f'{{"rtgod":1,"type":"volume","run_id":"r","index":0,"acquired_s":0.0,"arrays":{arrays}}}'.encode()
    yield b"[" * 500_000
    yield b'{"a":' * 150_000


def _read(header: bytes) -> Message | None:
    try:
        return from_frames([header])
    except WireError:
        return None


def _is_refused(sender: Sender, run: Run) -> bool:
    try:
        sender.send(run)
    except RefusedError:
        return True
    return False


def poison(folder: Path, n_rounds: int) -> dict[str, float]:
    """Send all messages, round after round, between the volumes of a source; then kill the server, and start it again.

    Returns
    -------
    dict
        `poison_messages`, sent; `poison_not_refused`, of these; `poison_crashes` of servers; and `stall_ms_max`, the
        longest time that a volume waited for its acknowledgement.
    """
    n = n_refused = n_volumes = 0
    longest_s = 0.0
    with serving(folder) as (server, where), zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(where.ingest)
        with Sender(where.ingest, patience_s=WAIT_S) as sender:
            sender.send(small.run("live", n_volumes=None, blocks=(), acquisition="a"))
            for header in [*messages()] * n_rounds:
                if server.code is not None:
                    break
                if isinstance(
                    possible := _read(header), Run
                ):  # sent by this source: another source's run would only wait for the end of this one's
                    n_refused += _is_refused(sender, possible)
                    n += 1
                    continue
                client.send(header)
                sent_s = time.perf_counter()
                sender.send(small.volume(n_volumes, "live"))
                longest_s, n_volumes = max(longest_s, time.perf_counter() - sent_s), n_volumes + 1
                n += 1
                if client.poll(WAIT_S * 1e3):
                    n_refused += isinstance(from_frames(client.recv_multipart()), Refused)
            ready = folder / "ready.json"
            ready.unlink()
            server.kill()
            server.start()
            until(lambda: ready.exists() or server.code is not None, "server that was started again")
            sender.send(small.volume(n_volumes, "live"))
        crashed = server.stop()
    return {
        "poison_messages": n,
        "poison_not_refused": n - n_refused,
        "poison_crashes": crashed,
        "stall_ms_max": 1e3 * longest_s,
    }
