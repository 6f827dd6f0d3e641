"""Networks that behave badly: one that garbles messages, one whose connections break, one whose cable is pulled.

Random numbers are seeded; their effect also depends on when messages come.
"""

from __future__ import annotations

import random
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import zmq

#: Longest time that a thread or a tool may take, seconds.
WAIT_S = 60.0
#: Fates that a message may meet on its way, and the chance of each.
FATES, CHANCE = ("dropped", "cut short", "delayed", "doubled"), 0.05
LONGEST_DELAY_S = 0.5
#: Chance that a connection breaks while it passes on a piece of data, and greatest length of a piece, bytes.
BREAKS, PIECE_BYTES = 0.02, 1 << 16

SERVER_IP, CLIENT_IP = "10.213.77.1", "10.213.77.2"


@contextmanager
def garbling(server: str, seed: int) -> Iterator[tuple[str, Counter[str]]]:
    """Run a proxy before a server's ingest address that loses, cuts, delays and doubles messages, both ways.

    Yields
    ------
    address : str
        Address for clients to connect to.
    fates : Counter
        Number of messages that met each fate.
    """
    stop, fates = threading.Event(), Counter[str]()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as front:
        front.linger = 0
        address = f"tcp://127.0.0.1:{front.bind_to_random_port('tcp://127.0.0.1')}"
        thread = threading.Thread(target=_garble, args=(front, server, random.Random(seed), stop, fates))  # noqa: S311 # chance, not secrets
        thread.start()
        try:
            yield address, fates
        finally:
            stop.set()
            thread.join(WAIT_S)


def _garble(
    front: zmq.Socket[bytes], server: str, rng: random.Random, stop: threading.Event, fates: Counter[str]
) -> None:
    backs: dict[bytes, zmq.Socket[bytes]] = {}
    due: list[tuple[float, zmq.Socket[bytes], list[bytes]]] = []
    poller = zmq.Poller()
    poller.register(front, zmq.POLLIN)
    with ExitStack() as stack:
        while not stop.is_set():
            ready = dict(poller.poll(5))
            arrived = []
            if front in ready:
                identity, *frames = front.recv_multipart()
                if identity not in backs:
                    # Each client has its own connection to the server, so that the server sees as many clients.
                    backs[identity] = stack.enter_context(front.context.socket(zmq.DEALER))
                    backs[identity].linger = 0
                    backs[identity].connect(server)
                    poller.register(backs[identity], zmq.POLLIN)
                arrived.append((backs[identity], [], frames))
            arrived += [(front, [name], back.recv_multipart()) for name, back in backs.items() if back in ready]
            now_s = time.monotonic()
            for to, envelope, frames in arrived:
                due += [(now_s + delay_s, to, envelope + sent) for delay_s, sent in garbled(frames, rng, fates)]
            for at_s, to, frames in due:
                if at_s <= now_s:
                    to.send_multipart(frames)
            due = [message for message in due if message[0] > now_s]


def garbled(frames: list[bytes], rng: random.Random, fates: Counter[str]) -> list[tuple[float, list[bytes]]]:
    """Draw a message's fate; return the copies that arrive, each with its delay in seconds and its frames."""
    (fate,) = rng.choices((*FATES, "untouched"), (*[CHANCE] * len(FATES), 1 - len(FATES) * CHANCE))
    fates[fate] += 1
    match fate:
        case "dropped":
            return []
        case "cut short":
            return [(0.0, [*frames[:-1], frames[-1][: rng.randrange(max(1, len(frames[-1])))]])]
        case "delayed":
            return [(rng.uniform(0, LONGEST_DELAY_S), frames)]
        case "doubled":
            return [(0.0, frames)] * 2
        case _:
            return [(0.0, frames)]


@contextmanager
def breaking(server: str, seed: int) -> Iterator[tuple[str, Counter[str]]]:
    """Run a proxy before any address of a server; its connections break at random, most often within a message.

    Yields
    ------
    address : str
        Address for clients to connect to.
    counts : Counter
        Number of connections that were "made", and that were "broken".
    """
    host, port = server.removeprefix("tcp://").split(":")
    stop, counts, threads = threading.Event(), Counter[str](), []

    def accept() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                near, _ = listener.accept()
                try:
                    far = socket.create_connection((host, int(port)), WAIT_S)
                except OSError:  # without a server, the proxy refuses connections, too
                    near.close()
                    continue
                counts["made"] += 1
                rng = random.Random(f"{seed} {counts['made']}")  # noqa: S311 # chance, not secrets
                threads.append(threading.Thread(target=_pass_on, args=(near, far, rng, stop, counts)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}", counts
        finally:
            stop.set()
            for thread in (accepting, *threads):
                thread.join(WAIT_S)


def _pass_on(
    near: socket.socket, far: socket.socket, rng: random.Random, stop: threading.Event, counts: Counter[str]
) -> None:
    """Pass on data from either end until one is closed; or break both connections within a piece of data."""
    other_end = {near: far, far: near}
    with near, far, suppress(OSError):
        for end in other_end:
            end.settimeout(WAIT_S)
        while not stop.is_set():
            for source in select.select([*other_end], [], [], 0.05)[0]:
                if not (data := source.recv(PIECE_BYTES)):
                    return
                if rng.random() < BREAKS:
                    counts["broken"] += 1
                    other_end[source].sendall(data[: rng.randrange(len(data))])
                    return
                other_end[source].sendall(data)


@contextmanager
def cable() -> Iterator[tuple[str, str]]:
    """Lay a cable to a network namespace, as if to another computer; `SERVER_IP` is here, `CLIENT_IP` there.

    Yields
    ------
    device : str
        Name of the network device here; see `plug`.
    namespace : str
        Name of the network namespace.

    Raises
    ------
    OSError, subprocess.CalledProcessError
        If this process may not make networks, or the program `ip` is not installed.
    """
    device, namespace = (f"rt{threading.get_native_id()}{end}" for end in "ab")
    with ExitStack() as stack:
        stack.enter_context(_alone())
        _ip("netns", "add", namespace)
        stack.callback(_ip, "netns", "del", namespace)
        _ip("link", "add", device, "type", "veth", "peer", "name", namespace)
        _ip("link", "set", namespace, "netns", namespace)
        _ip("addr", "add", f"{SERVER_IP}/24", "dev", device)
        _ip("-n", namespace, "addr", "add", f"{CLIENT_IP}/24", "dev", namespace)
        _ip("-n", namespace, "link", "set", namespace, "up")
        plug(device, in_place=True)
        yield device, namespace


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other process of this machine has a cable, as all cables have the same addresses.

    Raises
    ------
    TimeoutError
        If another process has a cable for too long.
    """
    import fcntl  # every system on which networks can be made has it

    deadline_s = time.monotonic() + 2 * WAIT_S
    with (Path(tempfile.gettempdir()) / "rtgod-cable.lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise TimeoutError("another process has had a cable for too long") from None
                time.sleep(0.1)
        yield


def plug(here: str, *, in_place: bool) -> None:
    """Put the cable's end here in place, or pull it out."""
    _ip("link", "set", here, "up" if in_place else "down")


def _ip(*arguments: str) -> None:
    command = ["ip", *arguments]  # the path of `ip` differs from system to system
    subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S)
