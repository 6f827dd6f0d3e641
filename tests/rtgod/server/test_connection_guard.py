"""No connection can make libzmq abort the process, or the server hold more than is allowed, and honest ones stay."""

import contextlib
import logging
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
import zmq

from benchmarks import attackers
from rtgod.errors import ServerError
from rtgod.messages import Hello, Volume
from rtgod.protocol.authentication import ServerAuthenticator
from rtgod.protocol.clients import Sender, Subscriber
from rtgod.protocol.keys import Role, add_client, read_client_key, read_server_keys
from rtgod.server import connection_guard
from rtgod.server.connection_guard import ConnectionGuard
from tests import small
from tests.serving import PATIENCE_S, running

pytestmark = pytest.mark.skipif(not connection_guard.IS_BOUNDED, reason="this system tells no bytes of connections")

FREE = "tcp://127.0.0.1:*"


def until(done, what):
    give_up_s = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < give_up_s, what
        time.sleep(0.005)


class Guarded:
    """Two sockets and their guard; the guard's thread is told to look on after each question."""

    def __init__(self, context, keys=None):
        self.ingest, self.publish = context.socket(zmq.ROUTER), context.socket(zmq.XPUB)
        self.publish.setsockopt(zmq.XPUB_VERBOSE, 1)
        for one in (self.ingest, self.publish):
            connection_guard.never_stop_input(one)
            one.setsockopt(zmq.LINGER, 0)
            if keys:
                keys.secure(one)
            one.bind(FREE)
        self.addresses = [one.getsockopt_string(zmq.LAST_ENDPOINT) for one in (self.ingest, self.publish)]
        self.place = attackers.Place(*self.addresses)
        self.guard = ConnectionGuard(self.ingest, self.publish, encrypted=keys is not None)

    def receive(self):
        assert self.ingest.poll(PATIENCE_S * 1e3)
        return [frame.bytes for frame in self.guard.receive()][1:]

    def is_open(self):
        """Whether others are let in again, once nothing waits; a server asks as often."""
        if not self.ingest.poll(0):
            self.guard.nothing_waits()
        return not self.guard._ingest.is_shut

    def most(self):
        """The most that is outstanding on a connection."""
        return max(self.outstanding(), default=0)

    def outstanding(self):
        return [one.n_outstanding for one in [*self.guard._ingest.connections.values()]]


@pytest.fixture
def guarded():
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(connection_guard.context())
        it = Guarded(context)
        stack.callback(context.destroy, 0)
        stack.callback(it.guard.close)
        yield it


def is_cut(connection):
    """Whether the server hung up; waits for it, or for the next frame."""
    connection.settimeout(PATIENCE_S)
    with contextlib.suppress(ConnectionError):
        while connection.recv(4096):
            pass
    return True


# ---------------------------------------------------------------- libzmq does not abort

_BUSY = """
import sys, time, zmq
from rtgod.server import connection_guard
context = zmq.Context()
router = context.socket(zmq.ROUTER)
router.setsockopt(zmq.RCVHWM, 8)
if sys.argv[1] == "ours":
    connection_guard.never_stop_input(router)
router.bind("tcp://127.0.0.1:*")
print(router.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
sys.stdin.readline()  # it is busy until then
while router.poll(300):
    router.recv_multipart()
"""


@pytest.mark.parametrize(("input_", "aborts"), [("bounded", True), ("ours", False)])
def test_a_ping_behind_the_bound_aborts_libzmq_and_where_input_never_stops_it_does_not(input_, aborts):
    process = subprocess.Popen(
        [sys.executable, "-c", _BUSY, input_],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        address = process.stdout.readline().strip()
        with attackers.Place(address, address).plain("DEALER") as connection:
            connection.sendall(attackers._part(b"x", False) * 200 + attackers._PING + attackers._part(b"x", False))
            time.sleep(0.2)  # until it was received; nothing tells of that
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.2)  # and reset
        _, said = process.communicate("\n", timeout=PATIENCE_S)
    assert ("Assertion failed: !_io_error" in said) == aborts
    assert (process.returncode != 0) == aborts


def test_input_never_stops_in_a_client_either():
    with Subscriber("tcp://127.0.0.1:9") as subscriber, Sender("tcp://127.0.0.1:9") as sender:
        assert subscriber._socket.getsockopt(zmq.RCVHWM) == sender._socket.getsockopt(zmq.RCVHWM) == 0


# ---------------------------------------------------------------- what a connection may send


@pytest.mark.parametrize("length", [0, 1, 35, 1000, 1 << 20])
def test_a_message_that_never_ends_is_cut_off_and_others_are_not(guarded, length, caplog):
    other = guarded.place.plain("DEALER")
    part = attackers._part(bytes(length), True)
    with other, guarded.place.plain("DEALER") as connection, contextlib.suppress(ConnectionError):
        for _ in range(200):
            connection.sendall(part * (1 + (1 << 16) // len(part)))
    until(lambda: guarded.guard.n_cut == 1, "the cut")
    until(lambda: "incomplete" in caplog.text, "a line in the log")
    assert "cut off 127.0.0.1" in caplog.text
    until(guarded.is_open, "an end of what was left behind")
    with guarded.place.plain("DEALER") as another:
        another.sendall(attackers._part(b"hello", False))
        assert guarded.receive() == [b"hello"]


def test_an_incomplete_message_within_the_bound_stays_and_the_bound_is_that_of_two_volumes(guarded):
    with guarded.place.plain("DEALER") as connection:
        connection.sendall(attackers._part(bytes(1 << 19), True))
        until(lambda: guarded.most() > 1 << 19, "what was sent")
        guarded.guard.expect(4 << 20)
        connection.sendall(attackers._part(bytes(8 << 20), True))
        until(lambda: guarded.most() > 8 << 20, "what was sent")
        assert guarded.guard.n_cut == 0
        guarded.guard.expect(1 << 20)
        assert is_cut(connection)


def test_what_was_taken_out_does_not_count(guarded):
    with guarded.place.plain("DEALER") as connection:
        for length in [0, 1, 255, 256, 70_000] * 50:
            connection.sendall(attackers._part(bytes(length), True) + attackers._part(b"end", False))
            assert guarded.receive() == [bytes(length), b"end"]
        until(lambda: guarded.outstanding() == [pytest.approx(0, abs=200)], "an end of the handshake's bytes")
    assert guarded.guard.n_cut == 0


def test_what_was_taken_out_does_not_count_with_encryption(tmp_path):
    add_client(tmp_path, "source", Role.SOURCE)
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(connection_guard.context())
        gatekeeper = ServerAuthenticator(context, read_server_keys(tmp_path))
        it = Guarded(context, gatekeeper)
        stack.callback(context.destroy, 0)
        stack.callback(gatekeeper.close)
        stack.callback(it.guard.close)
        client = attackers.Place(*it.addresses, tmp_path).connected(zmq.DEALER, "source")
        stack.callback(client.context.destroy, 0)
        n_bytes = 0
        for length in [0, 1, 222, 223, 70_000] * 50:
            client.send_multipart([bytes(length), b"end"])
            assert it.receive() == [bytes(length), b"end"]
            n_bytes += length
        until(lambda: it.outstanding() == [pytest.approx(0, abs=1000)], "an end of the handshake's bytes")
        assert it.guard.n_cut == 0
        assert n_bytes > 1 << 20


def test_a_message_of_very_many_parts_is_kept_to_the_first_and_its_connection_cut(guarded, caplog):
    with guarded.place.plain("DEALER") as connection:
        connection.sendall(attackers._part(b"", True) * 1000 + attackers._part(b"", False))
        assert guarded.receive() == [b""] * connection_guard._MOST_PARTS
        assert is_cut(connection)
    until(lambda: "very many parts" in caplog.text, "a line in the log")


def test_all_together_may_have_no_more_outstanding_than_one_and_the_worst_goes_first(guarded):
    with contextlib.ExitStack() as stack:
        few = stack.enter_context(guarded.place.plain("DEALER"))
        few.sendall(attackers._part(bytes(1000), True))
        until(lambda: guarded.most() > 1000, "what was sent")
        for _ in range(3):
            much = stack.enter_context(guarded.place.plain("DEALER"))
            much.sendall(attackers._part(bytes(400_000), True))
        until(lambda: guarded.guard.n_cut == 1, "the cut")
        few.sendall(attackers._part(b"end", False))
        assert guarded.receive() == [bytes(1000), b"end"]


def test_nobody_is_let_in_while_what_others_left_behind_is_not_read(guarded, caplog):
    with guarded.place.plain("DEALER") as connection:
        connection.sendall(attackers._part(bytes(1000), False) * 800)
        until(lambda: guarded.most() > 790_000, "what was sent")
    until(lambda: guarded.guard._ingest.is_shut, "the door to be shut")
    with pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", int(guarded.addresses[0].rpartition(":")[2])), 0.3)
    for _ in range(800):
        guarded.receive()
    until(guarded.is_open, "the door to be open")
    with guarded.place.plain("DEALER") as connection:
        connection.sendall(attackers._part(b"hello", False))
        assert guarded.receive() == [b"hello"]
    assert "no new connections to ingest for now" in caplog.text


# ---------------------------------------------------------------- what a subscriber may send


def test_only_everything_can_be_subscribed_to(guarded, caplog):
    with guarded.place.plain("SUB") as right, guarded.place.plain("SUB") as wrong:
        for sent, is_subscription in ((b"\x01", True), (b"\x00", False), (b"\x01", True)):
            right.sendall(attackers._part(sent, False))
            assert guarded.publish.poll(PATIENCE_S * 1e3)
            assert guarded.guard.receive_subscription() is is_subscription
        wrong.sendall(attackers._part(b"\x01run", False))
        assert guarded.publish.poll(PATIENCE_S * 1e3)
        assert not guarded.guard.receive_subscription()
        assert is_cut(wrong)
        until(lambda: guarded.guard.n_cut == 1, "the cut to be counted")
        until(lambda: "the empty prefix" in caplog.text, "a line in the log")
        guarded.publish.send(b"news")
        right.settimeout(PATIENCE_S)
        assert right.recv(100).endswith(b"news")


def test_a_subscriber_that_sends_more_than_a_subscription_is_cut_off(guarded, caplog):
    with guarded.place.plain("SUB") as connection:
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                connection.sendall(attackers._part(b"\x01" + bytes(100), True))
        assert is_cut(connection)
    until(lambda: guarded.guard.n_cut == 1, "the cut to be counted")
    until(lambda: "no more than a subscription" in caplog.text, "a line in the log")


@pytest.mark.parametrize("encrypted", [False, True])
def test_the_longest_name_of_a_subscriber_gets_in(tmp_path, encrypted):
    add_client(tmp_path, "watch", Role.WATCH)
    key = read_client_key(tmp_path / "watch.key") if encrypted else None
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(connection_guard.context())
        it = stack.enter_context(running(tmp_path)) if not encrypted else None
        if encrypted:
            from rtgod.journal.journal import JournalWriter
            from rtgod.server.server import Server
            from rtgod.server.session import Session
            from tests.serving import _serving

            journal = stack.enter_context(JournalWriter(tmp_path / "session.rtgod"))
            server = stack.enter_context(Server(Session(None), journal, FREE, FREE, keys=read_server_keys(tmp_path)))
            it = stack.enter_context(_serving(server, tmp_path / "session.rtgod"))
        client = context.socket(zmq.SUB)
        client.setsockopt(zmq.ROUTING_ID, b"x" * 255)
        client.setsockopt(zmq.SUBSCRIBE, b"")
        if key:
            client.setsockopt_string(zmq.CURVE_SERVERKEY, key.server)
            client.setsockopt_string(zmq.CURVE_PUBLICKEY, key.public)
            client.setsockopt_string(zmq.CURVE_SECRETKEY, key.secret)
        client.connect(it.publish)
        assert client.poll(PATIENCE_S * 1e3)
        context.destroy(0)


# ---------------------------------------------------------------- how many connections


def test_there_are_only_so_many_connections_and_those_that_say_something_stay(guarded, monkeypatch):
    monkeypatch.setattr(guarded.guard, "_most_connections", 3)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(guarded.place.plain("DEALER"))
        source.sendall(attackers._part(b"hello", False))
        assert guarded.receive() == [b"hello"]
        idle = [stack.enter_context(guarded.place.plain("DEALER")) for _ in range(2)]
        until(lambda: guarded.guard._ingest.is_shut, "the door to be shut")
        assert all(is_cut(one) for one in idle)  # after a second, and then others get in
        another = stack.enter_context(guarded.place.plain("DEALER"))
        for one in (another, source):
            one.sendall(attackers._part(b"again", False))
            assert guarded.receive() == [b"again"]


_FEW_DESCRIPTORS = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (140, 140))
from pathlib import Path
from tests.serving import running
with running(Path(sys.argv[1])) as it:
    print(it.ingest, it.publish, flush=True)
    sys.stdin.readline()
    assert it.thread.is_alive(), it.errors
"""


def test_a_server_without_descriptors_left_says_so_and_goes_on(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", _FEW_DESCRIPTORS, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        ingest, publish = process.stdout.readline().split()
        attackers.half_handshakes(attackers.Place(ingest, publish), time.monotonic() + 1.0)
        with Sender(ingest, patience_s=PATIENCE_S) as sender:
            sender.send(small.run())
            assert not sender.send(small.volume(0)).duplicate
        _, said = process.communicate("\n", timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert "raise the limit" in said


# ---------------------------------------------------------------- the server


def test_many_subscriptions_are_welcomed_together(tmp_path):
    with running(tmp_path) as it, Subscriber(it.publish) as subscriber:
        until(lambda: isinstance(subscriber.poll(1.0), Hello), "a welcome")
        began_s = time.monotonic()
        with attackers.Place(it.ingest, it.publish).plain("SUB") as connection:
            for _ in range(10):
                connection.sendall(attackers._part(b"\x01", False) * 20)
                time.sleep(0.01)
            heard = []
            while time.monotonic() < began_s + 0.5:
                heard.append(subscriber.poll(0.05))
        n_hellos = sum(isinstance(message, Hello) for message in heard)
        assert 1 <= n_hellos <= 2 + 10 * (time.monotonic() - began_s)
        assert not it.errors


def test_a_source_is_served_while_others_attack(tmp_path):
    with running(tmp_path) as it, Sender(it.ingest, patience_s=PATIENCE_S) as sender:
        place = attackers.Place(it.ingest, it.publish)
        sender.send(small.run())
        for name in ("endless-0", "subscribing-500", "messages-left-behind"):
            attack = threading.Thread(target=attackers.attack, args=(place, name, 0.5))
            attack.start()
            while attack.is_alive():
                index = len(it.recorded(Volume))
                assert not sender.send(small.volume(index)).duplicate
            attack.join()
        assert it.server._guard.n_cut > 0
        assert not it.errors


def test_a_server_does_not_go_on_without_its_guard(tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(ConnectionGuard, "_look", fail)
    with running(tmp_path) as it:
        with socket.create_connection(("127.0.0.1", int(it.ingest.rpartition(":")[2])), PATIENCE_S):
            it.thread.join(PATIENCE_S)
        (error,) = it.errors
        assert isinstance(error, ServerError)
        assert isinstance(error.__cause__, ZeroDivisionError)


def test_where_the_system_does_not_tell_the_bytes_it_is_said_and_messages_come_as_ever(monkeypatch, caplog):
    monkeypatch.setattr(connection_guard, "IS_BOUNDED", False)
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(connection_guard.context())
        stack.callback(context.destroy, 0)
        it = Guarded(context)
        stack.callback(it.guard.close)
        assert "not bounded" in caplog.text
        with it.place.plain("DEALER") as connection, it.place.plain("SUB") as subscriber:
            connection.sendall(attackers._part(b"a", True) + attackers._part(b"b", False))
            assert it.receive() == [b"a", b"b"]
            subscriber.sendall(attackers._part(b"\x01", False))
            assert it.publish.poll(PATIENCE_S * 1e3)
            assert it.guard.receive_subscription()
        it.guard.nothing_waits()


def test_cuts_are_told_of_at_most_each_second(guarded, caplog):
    caplog.set_level(logging.WARNING)
    began_s = time.monotonic()
    for _ in range(20):
        with guarded.place.plain("SUB") as connection:
            connection.sendall(attackers._part(b"\x01wrong", False))
            assert guarded.publish.poll(PATIENCE_S * 1e3)
            guarded.guard.receive_subscription()
            assert is_cut(connection)
    until(lambda: guarded.guard.n_cut == 20, "the cuts to be counted")
    until(lambda: "more connections were cut" in caplog.text, "a line about the others")
    told = [one for one in caplog.messages if "cut" in one]
    assert len(told) <= 2 + (time.monotonic() - began_s) * 2
