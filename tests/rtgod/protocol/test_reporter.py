"""Events on their way to a server that refuses, defers, falls silent or comes back: a socket here is the server."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager

import pytest
import zmq

from rtgod.messages import Acknowledged, Deferred, Event, Ping, Pong, Refused
from rtgod.protocol.clients import Reporter
from rtgod.protocol.frames import from_frames, to_frames

PATIENCE_S = 20.0


class FakeServer:
    """Answers each event as `reply` says; None leaves it unanswered."""

    def __init__(self, reply, address="tcp://127.0.0.1:*"):
        self.reply, self.heard, self.n_pings = reply, [], 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.bind(address)
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def poll(self):
        while self._socket.poll(0):
            identity, *frames = self._socket.recv_multipart()
            message = from_frames(frames)
            answer = None
            if isinstance(message, Ping):
                self.n_pings += 1
                answer = Pong(message.client, message.sent_s, time.time())
            elif isinstance(message, Event):
                self.heard.append(message.number)
                answer = self.reply(message)
            if answer is not None:
                self._socket.send_multipart([identity, *to_frames(answer)])

    def close(self):
        self._context.destroy(linger=0)


@contextmanager
def serving(reply, **more):
    server = FakeServer(reply, **more)
    try:
        yield server
    finally:
        server.close()


def acknowledged(event):
    return Acknowledged(event.client, event.number)


def refused(event):
    return Refused(event.client, event.number, "no events of this role")


def unnamed(_):
    return Refused("", None, "no message")


def silent(_):
    return None


def deferred(event):
    return Deferred(event.client, event.number, "full")


def until(done, reporter, *servers):
    deadline_s = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline_s, "it never happened"
        reporter.poll()
        for server in servers:
            server.poll()
        threading.Event().wait(0.002)


def pings(server, n_more):
    wanted = server.n_pings + n_more
    return lambda: server.n_pings >= wanted


def test_a_refused_event_is_never_sent_again_and_counted(caplog):
    def reply(event):
        return refused(event) if event.number % 3 == 1 else acknowledged(event)

    with serving(reply) as server, Reporter(server.address, "display") as reporter, caplog.at_level(logging.WARNING):
        for number in range(9):
            reporter.report("flip", float(number))
        until(lambda: not reporter.n_unacknowledged, reporter, server)
        until(pings(server, 2), reporter, server)
        assert reporter.n_refused == 3
        assert sorted(server.heard) == list(range(9))
    assert [record.getMessage() for record in caplog.records] == [
        "the server refused what was reported: no events of this role"
    ]


def test_after_refusals_in_a_row_nothing_is_sent_until_the_connection_is_made_anew(caplog):
    with serving(refused) as server, Reporter(server.address, "display") as reporter, caplog.at_level(logging.WARNING):
        for number in range(10):
            reporter.report("flip", float(number))
        until(lambda: reporter.n_refused == 10, reporter, server)
        for number in range(200):
            reporter.report("flip", float(number))
        until(pings(server, 2), reporter, server)
        assert sorted(set(server.heard)) == list(range(10))
        assert reporter.n_unacknowledged == 200
        assert sum("no more until the connection" in record.getMessage() for record in caplog.records) == 1
        address = server.address
        server.close()
        with serving(acknowledged, address=address) as again:
            until(lambda: not reporter.n_unacknowledged, reporter, again)
            assert sorted(set(again.heard)) == list(range(10, 210))
        assert reporter.n_refused == 10


def test_refusals_without_a_name_drop_nothing():
    with serving(unnamed) as server, Reporter(server.address, "display") as reporter:
        for number in range(5):
            reporter.report("flip", float(number))
        until(lambda: len(server.heard) >= 10, reporter, server)
        until(pings(server, 2), reporter, server)
        assert reporter.n_unacknowledged == 5
        assert reporter.n_refused == 0
        assert len(server.heard) == 10


@pytest.mark.parametrize("reply", [silent, deferred])
def test_no_more_than_64_are_on_their_way_the_oldest_first(reply):
    with serving(reply) as server, Reporter(server.address, "display") as reporter:
        for number in range(5000):
            reporter.report("flip", float(number))
        until(pings(server, 1), reporter, server)
        n_before, n_pings = len(server.heard), server.n_pings
        until(pings(server, 2), reporter, server)
        assert set(server.heard) == set(range(64))
        assert len(server.heard) - n_before <= 64 * (server.n_pings - n_pings + 1)
        server.reply = acknowledged
        server.heard.clear()
        until(lambda: not reporter.n_unacknowledged, reporter, server)
        assert set(server.heard) == set(range(5000))
        # Not each a second after the one before: as soon as there is room on the way.
        assert server.n_pings - n_pings < 15
