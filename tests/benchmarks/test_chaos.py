"""Bad networks against servers that only answer what they were told."""

import random
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress

import pytest
import zmq

from benchmarks import chaos

PATIENCE_S = 20.0


def test_a_message_meets_each_fate_as_often_as_is_said():
    rng = random.Random(1)  # noqa: S311 # chance, not secrets
    fates, frames = Counter(), [b"header", bytes(100)]
    arrived = [chaos.garbled(frames, rng, fates) for _ in range(4000)]
    assert set(fates) == {*chaos.FATES, "untouched"}
    assert all(140 < fates[fate] < 260 for fate in chaos.FATES)  # 200 expected, SD 14
    assert fates["dropped"] == arrived.count([])
    assert fates["doubled"] == arrived.count([(0.0, frames)] * 2)
    assert fates["untouched"] == arrived.count([(0.0, frames)])
    delays_s = [one[0][0] for one in arrived if one and one[0][0]]
    assert len(delays_s) == fates["delayed"]
    assert max(delays_s) <= chaos.LONGEST_DELAY_S
    assert sum(len(one[0][1][-1]) < 100 for one in arrived if one) == fates["cut short"]


def test_a_message_of_an_empty_frame_can_be_cut():
    rng = random.Random(2)  # noqa: S311 # chance, not secrets
    for _ in range(100):
        for _, frames in chaos.garbled([b""], rng, Counter()):
            assert frames == [b""]


@contextmanager
def working(work, stop):
    """`work` in a thread, which ends once `stop` is set."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S)


@contextmanager
def echoing_router():
    """A ROUTER that sends each message back."""
    stop = threading.Event()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket_:
        socket_.linger = 0
        port = socket_.bind_to_random_port("tcp://127.0.0.1")

        def echo():
            while not stop.is_set():
                if socket_.poll(20):
                    socket_.send_multipart(socket_.recv_multipart())

        with working(echo, stop):
            yield f"tcp://127.0.0.1:{port}"


def test_messages_go_through_the_proxy_and_back(monkeypatch):
    monkeypatch.setattr(chaos, "CHANCE", 0.0)
    with echoing_router() as server, chaos.garbling(server, 0) as (address, fates), zmq.Context() as context:
        clients = [context.socket(zmq.DEALER) for _ in range(2)]
        for number, client in enumerate(clients):
            client.linger = 0
            client.connect(address)
            client.send_multipart([b"header", bytes([number])])
        for number, client in enumerate(clients):
            assert client.poll(PATIENCE_S * 1e3)
            assert client.recv_multipart() == [b"header", bytes([number])]
            client.close()
    assert fates == {"untouched": 4}


@contextmanager
def echoing_listener():
    """A TCP server that sends back what it reads, connection by connection."""
    stop = threading.Event()

    def echo():
        while not stop.is_set():
            with suppress(TimeoutError, ConnectionError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(PATIENCE_S)
                    while data := connection.recv(1 << 16):
                        connection.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        with working(echo, stop):
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def connected(address):
    host, port = address.removeprefix("tcp://").split(":")
    return socket.create_connection((host, int(port)), PATIENCE_S)


def test_data_go_through_a_connection_and_back(monkeypatch):
    monkeypatch.setattr(chaos, "BREAKS", 0.0)
    sent = bytes(range(256)) * 100
    with echoing_listener() as server, chaos.breaking(server, 0) as (address, counts), connected(address) as client:
        client.sendall(sent)
        received = b""
        while len(received) < len(sent) and (data := client.recv(1 << 16)):
            received += data
    assert received == sent
    assert counts == {"made": 1}


def test_a_connection_breaks_within_the_data(monkeypatch):
    monkeypatch.setattr(chaos, "BREAKS", 1.0)
    with echoing_listener() as server, chaos.breaking(server, 0) as (address, counts):
        for n in (1, 2):
            with connected(address) as client:
                client.sendall(bytes(1000))
                with suppress(ConnectionError):
                    assert client.recv(1000) == b""
            assert counts["made"] == n
    assert counts["broken"] >= 2


@pytest.fixture
def cable():
    with ExitStack() as stack:
        try:
            ends = stack.enter_context(chaos.cable())
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"networks cannot be made here: {error}")
        yield ends


def test_a_cable_carries_data_until_it_is_pulled(cable):
    here, there = cable
    code = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()"
    with socket.create_server((chaos.SERVER_IP, 0)) as listener:
        connect = ["ip", "netns", "exec", there, sys.executable, "-c", code, *map(str, listener.getsockname())]

        def connects():
            return subprocess.run(connect, timeout=PATIENCE_S, capture_output=True, check=False).returncode == 0

        assert connects()
        chaos.plug(here, in_place=False)
        assert not connects()
