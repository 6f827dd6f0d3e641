"""What is published: in order, to everybody who reads, and one who does not read keeps nobody waiting."""

import math
import time
from contextlib import ExitStack

import pytest
import zmq

from rtgod.messages import NotReady, Reason, RunEnd
from rtgod.protocol.frames import from_frames
from rtgod.server.publisher import Publisher

PATIENCE_S = 20.0


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context
        context.destroy(linger=0)


@pytest.fixture
def published(context):
    """A publisher whose subscribers' queues hold ten messages, and its address."""
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.SNDHWM, 10)
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # each subscriber is told of
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    yield Publisher(socket), socket, f"tcp://127.0.0.1:{port}"
    socket.close(linger=0)


@pytest.fixture
def subscribe(context, published):
    """A function that makes a subscriber which the publisher knows; one that does not read has room for nothing."""
    _, publishing, address = published
    with ExitStack() as stack:

        def make(*, reads=True):
            socket = stack.enter_context(context.socket(zmq.SUB))
            socket.setsockopt(zmq.RCVHWM, 0 if reads else 1)
            if not reads:
                socket.setsockopt(zmq.RCVBUF, 1024)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.connect(address)
            assert publishing.poll(PATIENCE_S * 1e3)
            publishing.recv()
            return socket

        yield make


def lost(index):
    return NotReady("run-1", index, Reason.LOST_VOLUME, "it never arrived")


def sent(publisher, messages):
    for message in messages:
        publisher.send(message)
    deadline_s = time.monotonic() + PATIENCE_S
    while (pause_s := publisher.flush()) < math.inf:
        assert time.monotonic() < deadline_s
        time.sleep(pause_s)


def heard(socket, n):
    messages = []
    while len(messages) < n and socket.poll(1000):
        messages.append(from_frames(socket.recv_multipart()))
    return messages


def test_a_burst_a_hundred_times_as_long_as_a_queue_reaches_all_who_read(published, subscribe):
    publisher = published[0]
    readers = [subscribe() for _ in range(3)]
    burst = [*map(lost, range(1000)), RunEnd("run-1", 1000)]
    sent(publisher, burst)
    for reader in readers:
        assert heard(reader, len(burst)) == burst
    assert publisher.n_dropped == 0


def test_one_who_does_not_read_misses_some_and_the_others_none(published, subscribe):
    publisher = published[0]
    idle = subscribe(reads=False)
    reader = subscribe()
    large = [NotReady("run-1", index, Reason.BAD_VOLUME, "x" * 100_000) for index in range(300)]
    sent(publisher, large)
    assert publisher.n_dropped > 0
    assert [message.index for message in heard(reader, 300)] == list(range(300))
    assert len(heard(idle, 300)) < 300


def test_a_queue_that_is_full_delays_the_others_once_and_by_no_more_than_said(published, subscribe):
    publisher = published[0]
    subscribe(reads=False)
    sent(publisher, [NotReady("run-1", index, Reason.BAD_VOLUME, "x" * 100_000) for index in range(300)])
    started_s = time.monotonic()
    sent(publisher, [lost(index) for index in range(20)])
    assert time.monotonic() - started_s < 0.2  # the patience with it is used up already


def test_without_subscribers_nothing_waits(published):
    publisher = published[0]
    publisher.send(lost(0))
    assert publisher.flush() == math.inf
