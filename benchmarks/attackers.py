"""Clients that are killed, and clients that attack the server's memory, run in a process that starts quickly.

    python -m benchmarks.attackers kill INGEST PUBLISH --n N [--at-once N] [--keys FOLDER]
    python -m benchmarks.attackers ATTACK INGEST PUBLISH --for SECONDS [--keys FOLDER]

If the server has keys, FOLDER holds `source.key`, `display.key` and `watch.key`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import socket
import struct
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import zmq

#: The beginning of ZeroMQ's own protocol (RFC 23), version 3.1 without encryption.
_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
_PING = b"\x04\x07\x04PING\x00\x00"
#: Time that a client waits for the server to answer its handshake, seconds.
_HANDSHAKE_S = 2.0
#: Number of bytes after which a handshake is certainly over, with or without keys.
_HANDSHAKE_BYTES = 4096


class Place:
    """Addresses of the server, and the keys to it.

    Parameters
    ----------
    ingest, publish : str
        Addresses at which the server takes in and publishes messages.
    keys : Path, optional
        Folder of key files; None without keys.
    """

    def __init__(self, ingest: str, publish: str, keys: Path | None = None) -> None:
        self.ingest, self.publish, self._keys = ingest, publish, keys

    def connected(
        self, kind: int, role: str, heartbeat: bool = False, address: str = "", **options: int
    ) -> zmq.Socket[bytes]:
        """Open a socket of a well-behaved client; `options` are ZeroMQ's, by their names."""
        client = zmq.Context().socket(kind)
        client.setsockopt(zmq.LINGER, 0)
        if heartbeat:
            client.setsockopt(zmq.HEARTBEAT_IVL, 20)
        for name, value in options.items():
            client.setsockopt(getattr(zmq, name), value)
        if self._keys:
            key = tomllib.loads((self._keys / f"{role}.key").read_text())
            client.setsockopt_string(zmq.CURVE_SERVERKEY, key["server"])
            client.setsockopt_string(zmq.CURVE_PUBLICKEY, key["public"])
            client.setsockopt_string(zmq.CURVE_SECRETKEY, key["secret"])
        client.connect(address or (self.ingest if kind == zmq.DEALER else self.publish))
        return client

    def plain(self, kind: str) -> socket.socket:
        """Open a plain connection, and do the handshake of a client without keys, "DEALER" or "SUB"."""
        connection = _plain(self.ingest if kind == "DEALER" else self.publish)
        ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind.encode()
        connection.sendall(_GREETING + b"\x04" + bytes([len(ready)]) + ready)
        received = b""
        while len(received) < len(_GREETING) + 2:
            if not (data := connection.recv(4096)):
                raise ConnectionError("the server hangs up")
            received += data
        return connection


def _plain(address: str) -> socket.socket:
    ip, port = address.removeprefix("tcp://").rsplit(":", 1)
    return socket.create_connection((ip, int(port)), _HANDSHAKE_S)


def _part(body: bytes, more: bool) -> bytes:
    """Return a frame as ZeroMQ's protocol has it on the wire."""
    if len(body) < 256:
        return bytes([more, len(body)]) + body
    return bytes([2 | more]) + struct.pack(">Q", len(body)) + body


def _event(number: int, length: int = 50) -> bytes:
    event = {"rtgod": 1, "type": "event", "client": f"k-{os.getpid()}", "number": number, "kind": "shown"}
    return json.dumps(event | {"at_s": time.time(), "value": "x" * length}).encode()


# ---------------------------------------------------------------- clients that are killed; none of them ends by itself


def events(place: Place, rng: random.Random) -> None:
    """Send events faster than they are answered, and read no reply."""
    client = place.connected(zmq.DEALER, "display", rng.random() < 0.5, SNDHWM=0, RCVHWM=1, RCVBUF=1024)
    for number in itertools.count():
        with suppress(zmq.Again):
            client.send(_event(number), zmq.NOBLOCK)
        if number % 500 == 0:
            time.sleep(0.01)


def volumes(place: Place, rng: random.Random) -> None:
    """Send volumes of a run that was never begun, one each 2 ms, and read no reply."""
    client = place.connected(zmq.DEALER, "source", rng.random() < 0.5, SNDHWM=100, RCVHWM=1, RCVBUF=1024)
    array = {"field": "data", "dtype": "int16", "shape": [18, 20, 16], "order": "C"}
    header = {"rtgod": 1, "type": "volume", "run_id": "none", "acquired_s": 0.0, "arrays": [array]}
    for index in itertools.count():
        client.send_multipart([json.dumps(header | {"index": index}).encode(), bytes(18 * 20 * 16 * 2)])
        time.sleep(0.002)


def half_volume(place: Place, rng: random.Random) -> None:
    """Stop sending within a volume; with keys, send whole volumes instead."""
    if place._keys:
        volumes(place, rng)
    connection = place.plain("DEALER")
    connection.sendall(_part(b"{}", True) + _part(bytes(1 << 16), False)[: rng.randrange(1 << 16)])
    signal.pause()


def half_handshake(place: Place, rng: random.Random) -> None:
    """Stop sending within the handshake."""
    connection = _plain(rng.choice((place.ingest, place.publish)))
    connection.sendall(_GREETING[: rng.randrange(len(_GREETING))])
    signal.pause()


def subscriber(place: Place, rng: random.Random) -> None:
    """Subscribe, and read nothing."""
    client = place.connected(zmq.SUB, "watch", rng.random() < 0.5, RCVHWM=1, RCVBUF=1024)
    client.setsockopt(zmq.SUBSCRIBE, b"")
    signal.pause()


def subscriptions(place: Place, rng: random.Random) -> None:
    """Subscribe and unsubscribe again and again, so that subscriptions wait."""
    client = place.connected(zmq.XSUB, "watch", rng.random() < 0.5, SNDHWM=0)
    for number in itertools.count():
        client.send(b"\x01" if number % 2 == 0 else b"\x00")
        if number % 100 == 0:
            time.sleep(0.01)


def ping_then_reset(place: Place, rng: random.Random) -> None:
    """Send many messages and a PING after them, and reset the connection, again and again; with keys, send events."""
    if place._keys:
        events(place, rng)
    while True:
        with suppress(OSError), place.plain(rng.choice(("DEALER", "SUB"))) as connection:
            connection.sendall(_part(b"\x01", False) * rng.randrange(400) + _PING)
            time.sleep(rng.uniform(0, 0.01))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


KILLED = (events, volumes, half_volume, half_handshake, subscriber, subscriptions, ping_then_reset)


def kill(place: Place, n: int, at_once: int, seed: int) -> int:
    """Start clients of every kind, several at once, kill them while they send, and return how many were killed."""
    rng = random.Random(seed)  # noqa: S311 # chance, not secrets
    n_killed = 0
    while n_killed < n:
        pids = []
        for client in (rng.choice(KILLED) for _ in range(min(at_once, n - n_killed))):
            seed = rng.randrange(1 << 32)
            if (pid := os.fork()) == 0:
                # Clients that send heartbeats and read nothing may abort by themselves; their messages are dropped.
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                try:
                    client(place, random.Random(seed))  # noqa: S311 # chance, not secrets
                finally:  # a client that finds no server raises
                    os._exit(1)
            pids.append(pid)
        time.sleep(rng.uniform(0.1, 0.8))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        n_killed += len(pids)
    return n_killed


# ---------------------------------------------------------------- attacks on memory; each goes on until it is cut off


def _pour(connection: socket.socket, pieces: Iterator[bytes], until_s: float) -> None:
    """Write pieces, about a megabyte at once, until `until_s` or until the server hangs up."""
    with connection:
        while time.monotonic() < until_s:
            batch, n_bytes = [], 0
            while n_bytes < 1 << 20:
                batch.append(next(pieces))
                n_bytes += len(batch[-1])
            connection.sendall(b"".join(batch))


def _endless(length: int) -> Callable[[Place, float], None]:
    """Make an attack by a message that never ends, in parts of `length` bytes."""

    def attack(place: Place, until_s: float) -> None:
        parts = _part(bytes(length), True) * max(1, (1 << 16) // (length + 2))
        _pour(place.plain("DEALER"), itertools.repeat(parts), until_s)

    return attack


def _short_of(n_bytes: int, length: int) -> Callable[[Place, float], None]:
    """Make an attack by 200 connections, each with an unfinished message of `n_bytes` in parts of `length` bytes."""

    def attack(place: Place, until_s: float) -> None:
        parts = _part(bytes(length), True) * (n_bytes // (length + 2))
        with ExitStack() as stack:
            with suppress(OSError):
                for _ in range(200):
                    stack.enter_context(place.plain("DEALER")).sendall(parts)
                    if time.monotonic() > until_s:
                        break
            time.sleep(max(0.0, until_s - time.monotonic()))

    return attack


def whole_message_of_empty_parts(place: Place, until_s: float) -> None:
    """Send a message of half a million empty parts, on a new connection each time."""
    with place.plain("DEALER") as connection:
        connection.sendall(_part(b"", True) * 500_000 + _part(b"", False))
        time.sleep(min(0.2, max(0.0, until_s - time.monotonic())))


def parts_one_by_one(place: Place, until_s: float) -> None:
    """Send short parts in packets of their own; a server might keep each in a buffer of its own."""
    with place.plain("DEALER") as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        part = _part(bytes(35), True)
        while time.monotonic() < until_s:
            connection.sendall(part)
            time.sleep(2e-5)


def messages_left_behind(place: Place, until_s: float) -> None:
    """Send many whole messages and leave, on one connection after the other."""
    with place.plain("DEALER") as connection:
        connection.sendall(_part(b"{}", False) * 100_000)
        time.sleep(min(0.002, max(0.0, until_s - time.monotonic())))


def plain_events(place: Place, until_s: float) -> None:
    """Send whole events, as fast as possible."""
    _pour(place.plain("DEALER"), (_part(_event(number), False) for number in itertools.count()), until_s)


def _subscribing(length: int) -> Callable[[Place, float], None]:
    """Make an attack by subscriptions of `length` bytes, each different from all others."""

    def attack(place: Place, until_s: float) -> None:
        bodies = (b"\x01" + str(n).encode().ljust(length, b"x") for n in itertools.count())
        _pour(place.plain("SUB"), (_part(body, False) for body in bodies), until_s)

    return attack


def same_subscription(place: Place, until_s: float) -> None:
    """Subscribe to the empty prefix again and again."""
    with place.plain("SUB") as connection:
        while time.monotonic() < until_s:
            connection.sendall(_part(b"\x01", False) * 10)
            time.sleep(0.001)


def unfinished_subscription(place: Place, until_s: float) -> None:
    """Send empty parts of a subscription that never ends."""
    _pour(place.plain("SUB"), itertools.repeat(_part(b"", True) * 1000), until_s)


def half_handshakes(place: Place, until_s: float) -> None:
    """Open up to 800 connections, each of which stops within its greeting."""
    with ExitStack() as stack:
        with suppress(OSError):
            for number in range(800):
                connection = stack.enter_context(_plain((place.ingest, place.publish)[number % 2]))
                connection.sendall(_GREETING[:11])
                if time.monotonic() > until_s:
                    break
        time.sleep(max(0.0, until_s - time.monotonic()))


def subscriptions_by_zeromq(place: Place, until_s: float) -> None:
    """Send subscriptions of 500 bytes, each different, as a client that may watch if the server has keys."""
    client = place.connected(zmq.XSUB, "watch", SNDHWM=1000, SNDTIMEO=100)
    with suppress(zmq.Again):
        for number in itertools.count():
            client.send(b"\x01" + str(number).encode().ljust(500, b"x"))
            if time.monotonic() > until_s:
                break
    client.context.destroy(linger=0)


def events_by_zeromq(place: Place, until_s: float) -> None:
    """Send events of 10 kB as fast as possible, with a key to watch, whose client must not send any."""
    client = place.connected(zmq.DEALER, "watch", SNDHWM=1000, SNDTIMEO=100)
    with suppress(zmq.Again):
        for number in itertools.count():
            client.send(_event(number, 10_000))
            if time.monotonic() > until_s:
                break
    client.context.destroy(linger=0)


def _unfinished_by_zeromq(length: int, n_parts: int) -> Callable[[Place, float], None]:
    """Make an attack by a message whose end never arrives, from a client that may watch if the server has keys."""

    def attack(place: Place, until_s: float) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = place.connected(
                zmq.DEALER, "watch", address=f"tcp://127.0.0.1:{listener.getsockname()[1]}", SNDHWM=0
            )
            near, _ = listener.accept()
            far = _plain(place.ingest)
            back = threading.Thread(target=_copy, args=(far, near))
            back.start()
            client.send_multipart([bytes(length)] * n_parts, copy=False)
            _copy(near, far, held_back=64, until_s=until_s)
            time.sleep(max(0.0, min(0.5, until_s - time.monotonic())))
            for end in (near, far):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
            back.join()
            client.context.destroy(linger=0)

    return attack


def _copy(source: socket.socket, to: socket.socket, held_back: int = 0, until_s: float = float("inf")) -> None:
    """Pass data on from one connection to another; after the handshake, hold back the last `held_back` bytes."""
    source.settimeout(0.2)
    n_bytes, pending = 0, b""
    with suppress(OSError):
        while time.monotonic() < until_s:
            try:
                if not (data := source.recv(1 << 16)):
                    return
            except TimeoutError:
                if held_back and n_bytes > _HANDSHAKE_BYTES:
                    return
                continue
            n_bytes += len(data)
            pending += data
            end = len(pending) - (held_back if n_bytes > _HANDSHAKE_BYTES else 0)
            if end > 0:
                to.sendall(pending[:end])
                pending = pending[end:]


_MOST_QUIET = 1_000_000
ATTACKS_WITHOUT_KEYS: dict[str, Callable[[Place, float], None]] = {
    **{f"endless-{length}": _endless(length) for length in (0, 1, 35, 1000, 8 << 20)},
    **{f"many-connections-{length}": _short_of(_MOST_QUIET, length) for length in (0, 1000)},
    "whole-message-of-empty-parts": whole_message_of_empty_parts,
    "parts-one-by-one": parts_one_by_one,
    "messages-left-behind": messages_left_behind,
    "plain-events": plain_events,
    **{f"subscribing-{length}": _subscribing(length) for length in (8, 500, 900)},
    "same-subscription": same_subscription,
    "unfinished-subscription": unfinished_subscription,
}
ATTACKS_WITH_KEYS: dict[str, Callable[[Place, float], None]] = {
    "half-handshakes": half_handshakes,
    "subscriptions-by-zeromq": subscriptions_by_zeromq,
    "events-by-zeromq": events_by_zeromq,
    "unfinished-by-zeromq-0": _unfinished_by_zeromq(0, 300_000),
    "unfinished-by-zeromq-8388608": _unfinished_by_zeromq(8 << 20, 8),
}
ATTACKS = ATTACKS_WITHOUT_KEYS | ATTACKS_WITH_KEYS


def attack(place: Place, name: str, for_s: float) -> int:
    """Attack for `for_s` seconds, anew each time that the server hangs up, and return the number of attacks."""
    until_s, n_times = time.monotonic() + for_s, 0
    while time.monotonic() < until_s:
        n_times += 1
        with suppress(OSError):
            ATTACKS[name](place, until_s)
    return n_times


def main() -> int:
    """Run the attack that the command line names, and print how often it was done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attackers", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("kill", *ATTACKS))
    parser.add_argument("ingest")
    parser.add_argument("publish")
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--for", dest="for_s", type=float, default=2.0)
    parser.add_argument("--keys", type=Path)
    options = parser.parse_args()
    place = Place(options.ingest, options.publish, options.keys)
    if options.what == "kill":
        print(kill(place, options.n, options.at_once, options.seed))
    else:
        print(attack(place, options.what, options.for_s))
    return 0


if __name__ == "__main__":
    sys.exit(main())
