"""A server in a thread, over real sockets on free ports, for tests that talk to one."""

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq

from rtgod.journal.journal import JournalWriter, read_journal
from rtgod.server.server import Server
from rtgod.server.session import Session, resume
from tests import small

FREE = "tcp://127.0.0.1:*"
FREE_IPV6 = "tcp://[::1]:*"
PATIENCE_S = 20.0  # how long anything may take before a test fails; nothing waits that long


def has_ipv6_loopback():
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.IPV6, 1)
        try:
            socket.bind(FREE_IPV6)
        except zmq.ZMQError:
            return False
        return True


needs_ipv6_loopback = pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no IPv6 loopback")


@dataclass
class Running:
    server: Server
    journal: Path
    errors: list[BaseException]
    thread: threading.Thread

    @property
    def ingest(self):
        return self.server.endpoints.ingest

    @property
    def publish(self):
        return self.server.endpoints.publish

    def recorded(self, *types):
        return [message for message in read_journal(self.journal) if isinstance(message, types or object)]


@contextlib.contextmanager
def running(folder, bundle=None, writer=JournalWriter, address=FREE, keys=None, **options):
    """A server in a thread, stopped and closed at the end; `errors` holds what it raised."""
    path = folder / "session.rtgod"
    with (
        writer(path) as journal,
        Server(Session(bundle, small.AT_ONCE), journal, address, address, keys=keys, **options) as server,
        _serving(server, path) as it,
    ):
        yield it


@contextlib.contextmanager
def resumed(folder, bundle=None, **options):
    """The server of `running`, started again after it died."""
    path, session = folder / "session.rtgod", Session(bundle, small.AT_ONCE)
    with (
        JournalWriter.resume(path) as journal,
        Server(session, journal, FREE, FREE, resume(read_journal(path), session), **options) as server,
        _serving(server, path) as it,
    ):
        yield it


@contextlib.contextmanager
def _serving(server, path):
    stop, errors = threading.Event(), []

    def serve():
        try:
            server.serve(stop.is_set, idle_s=0.01)
        except Exception as error:  # noqa: BLE001 # shown to the test, whatever it is
            errors.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Running(server, path, errors, thread)
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def hear(subscriber, until):
    """Messages up to the first for which `until` is true."""
    heard = []
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        message = subscriber.poll(0.1)
        if message is not None:
            heard.append(message)
            if until(message):
                return heard
    raise AssertionError(f"not heard; only {heard}")


def is_a(*types):
    return lambda message: isinstance(message, types)
