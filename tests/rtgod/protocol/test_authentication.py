"""Who gets in, over real sockets: the registered, to send what their roles may; the others hear why not."""

import contextlib
import dataclasses
import logging
import re
import time
from socket import AF_INET, AF_INET6, gaierror

import pytest
import zmq

from rtgod.errors import ServerError
from rtgod.messages import Event, Hello, Ping, Run, RunEnd, SessionEnd, Volume
from rtgod.protocol import addresses, client_connection
from rtgod.protocol.addresses import is_loopback, needs_ipv6
from rtgod.protocol.authentication import ServerAuthenticator, may_send
from rtgod.protocol.client_connection import ClientConnection
from rtgod.protocol.frames import from_frames, to_frames
from rtgod.protocol.keys import Role, ServerKeys, add_client, read_client_key, read_server_keys
from tests import small
from tests.serving import FREE, FREE_IPV6, PATIENCE_S, needs_ipv6_loopback

NOTHING_COMES_S = 0.3  # as long as is waited for what must not come

RUN, VOLUME = small.messages()[:2]
PING, EVENT = Ping("screen", "display", 1.0), Event("screen", 0, "flip", 1.0)
SENT = {type(message): message for message in (RUN, VOLUME, RunEnd("run-1", 1), EVENT, PING, SessionEnd(1.0))}


@pytest.fixture
def folder(tmp_path):
    for role in Role:
        add_client(tmp_path / "keys", role.value, role)
    return tmp_path / "keys"


@pytest.fixture
def keys(folder):
    return read_server_keys(folder)


@pytest.fixture
def key(folder):
    """A source's."""
    return read_client_key(folder / "source.key")


@pytest.fixture
def other_key(tmp_path):
    """A source's of another server."""
    return read_client_key(add_client(tmp_path / "elsewhere", "source", Role.SOURCE))


@contextlib.contextmanager
def served(keys, kind=zmq.ROUTER, address=FREE):
    """A bound socket with its gatekeeper, None where there are no keys, and where it is."""
    context = zmq.Context()
    gatekeeper = ServerAuthenticator(context, keys) if keys else None
    try:
        socket = context.socket(kind)
        if gatekeeper:
            gatekeeper.secure(socket)
        socket.setsockopt(zmq.IPV6, int(needs_ipv6(address)))
        socket.bind(address)
        yield socket, gatekeeper, socket.getsockopt_string(zmq.LAST_ENDPOINT)
    finally:
        if gatekeeper:
            gatekeeper.close()
        context.destroy(linger=0)


@contextlib.contextmanager
def client(address, key, kind=zmq.DEALER):
    context = zmq.Context()
    try:
        socket = context.socket(kind)
        socket.setsockopt(zmq.IMMEDIATE, int(kind == zmq.DEALER))
        socket.setsockopt(zmq.SNDTIMEO, 0)
        # A question that reaches a gatekeeper while it closes is never answered; by default that takes 30 s to notice.
        socket.setsockopt(zmq.HANDSHAKE_IVL, 5000)
        if kind == zmq.SUB:
            socket.subscribe(b"")
        yield socket, ClientConnection(socket, address, key)
    finally:
        context.destroy(linger=0)


def until(entrance, condition):
    """Wait at the entrance until the condition holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, entrance.why_not
        entrance.poll(0.05, zmq.POLLOUT)


def turned_away(entrance):
    """Why, as it is said within the time that a test has."""
    with pytest.raises(ServerError) as caught:
        until(entrance, lambda: False)
    return str(caught.value)


def delivered(sender, entrance, receiver, message):
    """Send a message; the frames that come."""
    assert entrance.poll(PATIENCE_S, zmq.POLLOUT)
    sender.send_multipart(to_frames(message))
    assert receiver.poll(PATIENCE_S * 1e3), "nothing came"
    return receiver.recv_multipart(copy=False)


def test_a_registered_client_gets_in_and_is_answered(keys, key):
    with served(keys) as (server, _, address), client(address, key) as (source, entrance):
        identity, *frames = delivered(source, entrance, server, PING)
        assert from_frames([frame.buffer for frame in frames]) == PING
        server.send_multipart([identity.bytes, b"reply"])
        assert entrance.poll(PATIENCE_S)
        assert source.recv() == b"reply"
        assert entrance.why_not == ""


def test_every_registered_client_hears_what_is_published(folder, keys):
    with served(keys, zmq.XPUB) as (server, _, address), contextlib.ExitStack() as stack:
        server.setsockopt(zmq.XPUB_VERBOSE, 1)
        heard = []
        for role in Role:
            key = read_client_key(folder / f"{role}.key")
            socket, entrance = stack.enter_context(client(address, key, zmq.SUB))
            until(entrance, lambda: server.poll(0))  # libzmq subscribes while its client waits
            assert server.recv() == b"\x01"
            heard.append((socket, entrance))
        server.send(b"ranking")
        for socket, entrance in heard:
            assert entrance.poll(PATIENCE_S)
            assert socket.recv() == b"ranking"


MAY = {
    Role.SOURCE: {Run, Volume, RunEnd, Event, Ping},
    Role.DISPLAY: {Event, Ping},
    Role.WATCH: {Ping},
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("kind", SENT)
def test_what_each_role_may_send(role, kind):
    assert may_send(role, SENT[kind]) == (kind in MAY[role])
    assert not may_send(role, Hello("1", None, 0, 0))


@pytest.mark.parametrize("role", Role)
def test_a_role_is_asked_of_every_frame_that_comes(folder, keys, role):
    key = read_client_key(folder / f"{role}.key")
    with served(keys) as (server, gatekeeper, address), client(address, key) as (sender, entrance):
        for message in (VOLUME, EVENT, PING):
            frames = delivered(sender, entrance, server, message)
            refusals = {gatekeeper.refusal(frame, message) for frame in frames}
            if type(message) in MAY[role]:
                assert refusals == {""}
            else:
                assert refusals == {f"the role of '{role}' is {role}, which may not send {type(message).__name__}"}


def test_who_is_not_registered_is_told_at_once(keys, key, other_key, caplog):
    stranger = dataclasses.replace(other_key, server=key.server)
    with served(keys) as (server, _, address), client(address, stranger) as (_, entrance):
        assert "does not know the key of 'source'" in turned_away(entrance)
        assert not server.poll(NOTHING_COMES_S * 1e3)
    assert f"public key {stranger.public}" in caplog.text


def test_without_a_key_nobody_gets_in(keys):
    with served(keys) as (server, _, address), client(address, None) as (_, entrance):
        assert re.search("asks for a key.*--key FILE", turned_away(entrance))
        assert not server.poll(NOTHING_COMES_S * 1e3)


def test_a_server_without_keys_turns_keys_away(key):
    with served(None) as (server, _, address), client(address, key) as (_, entrance):
        assert "runs without keys" in turned_away(entrance)
        assert not server.poll(NOTHING_COMES_S * 1e3)


def test_the_key_to_another_server_does_not_fit(keys, other_key):
    """Each try looks as if the connection were lost, so the client goes on, and says what it may be."""
    with served(keys) as (server, _, address), client(address, other_key) as (source, entrance):
        until(entrance, lambda: entrance.why_not)
        assert "is not the one that 'source' has a key to" in entrance.why_not
        with pytest.raises(zmq.Again):
            source.send(b"")
        assert not server.poll(0)


@pytest.mark.parametrize("kind", ["stranger", "other server's", "none"])
def test_nothing_is_heard_by_who_is_not_let_in(keys, key, other_key, kind):
    wrong = {"stranger": dataclasses.replace(other_key, server=key.server), "other server's": other_key, "none": None}
    with served(keys, zmq.XPUB) as (server, _, address), client(address, wrong[kind], zmq.SUB) as (socket, entrance):
        with contextlib.suppress(ServerError):
            until(entrance, lambda: entrance.why_not)
        server.send(b"ranking")
        assert not socket.poll(NOTHING_COMES_S * 1e3)
        assert not server.poll(0), "subscribed"


def test_others_are_served_while_strangers_try(keys, key, other_key):
    stranger = dataclasses.replace(other_key, server=key.server)
    with served(keys) as (server, _, address), contextlib.ExitStack() as stack:
        for wrong in [stranger, other_key, None] * 5:
            stack.enter_context(client(address, wrong))
        source, entrance = stack.enter_context(client(address, key))
        for _ in range(20):
            delivered(source, entrance, server, PING)


def test_nobody_gets_in_when_the_gatekeeper_is_gone(keys, key):
    with served(keys) as (server, gatekeeper, address):
        gatekeeper.close()
        with client(address, key) as (source, entrance):
            until(entrance, lambda: entrance.why_not)
            with pytest.raises(zmq.Again):
                source.send(b"")
        assert not server.poll(0)


def test_a_client_that_was_in_waits_for_the_right_keys_to_come_back(keys, key, monkeypatch):
    monkeypatch.setattr(client_connection, "_AGAIN_S", 0.05)
    with contextlib.ExitStack() as stack:
        with served(keys) as (server, _, address):
            source, entrance = stack.enter_context(client(address, key))
            delivered(source, entrance, server, PING)
        with served(ServerKeys(keys.own, {}), address=address):
            until(entrance, lambda: "does not know the key" in entrance.why_not)
        with served(keys, address=address) as (server, _, _):
            until(entrance, lambda: entrance.why_not == "")
            delivered(source, entrance, server, PING)


def test_a_subscriber_that_was_in_hears_again(folder, keys, monkeypatch):
    monkeypatch.setattr(client_connection, "_AGAIN_S", 0.05)
    key = read_client_key(folder / "watch.key")
    with contextlib.ExitStack() as stack:
        with served(keys, zmq.XPUB) as (server, _, address):
            socket, entrance = stack.enter_context(client(address, key, zmq.SUB))
            until(entrance, lambda: server.poll(0))
        with served(ServerKeys(keys.own, {}), zmq.XPUB, address):
            until(entrance, lambda: "does not know the key" in entrance.why_not)
        with served(keys, zmq.XPUB, address) as (server, _, _):
            until(entrance, lambda: server.poll(0))
            assert server.recv() == b"\x01"
            server.send(b"ranking")
            assert entrance.poll(PATIENCE_S)
            assert socket.recv() == b"ranking"


def test_a_server_that_is_not_there_yet_is_waited_for(keys, key):
    with served(keys) as (_, _, address):
        pass
    with client(address, key) as (source, entrance):
        assert not entrance.poll(0.2, zmq.POLLOUT)
        with served(keys, address=address) as (server, _, _):
            delivered(source, entrance, server, PING)


def test_secrets_are_not_logged(keys, key, other_key, caplog):
    caplog.set_level(logging.DEBUG)
    with served(keys) as (server, _, address), client(address, key) as (source, entrance):
        delivered(source, entrance, server, PING)
        stranger = dataclasses.replace(other_key, server=key.server)
        with client(address, stranger) as (_, other_entrance):
            turned_away(other_entrance)
    assert "ALLOWED" in caplog.text
    for secret in (keys.own.secret, key.secret, stranger.secret):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("address", "stays"),
    [
        ("tcp://127.0.0.1:5555", True),
        ("tcp://127.9.9.9:*", True),
        ("tcp://localhost:5555", True),
        ("tcp://LOCALHOST:5555", True),
        ("tcp://[::1]:5555", True),
        ("tcp://[::1%lo]:5555", True),
        ("tcp://[0:0:0:0:0:0:0:1]:*", True),
        ("tcp://[::ffff:127.0.0.1]:5555", True),
        ("tcp://[::ffff:10.0.0.7]:5555", False),
        ("tcp://[::2]:5555", False),
        ("tcp://[fe80::1%eth0]:5555", False),
        ("tcp://0.0.0.0:5555", False),
        ("tcp://*:5555", False),
        ("tcp://[::]:5555", False),
        ("tcp://10.0.0.7:5555", False),
        ("tcp://scanner.example:5555", False),
        ("tcp://localhost.example:5555", False),
        ("tcp://127.0.0.1:0;10.0.0.7:5555", False),
    ],
)
def test_what_stays_on_this_machine(address, stays):
    assert is_loopback(address) == stays


@pytest.mark.parametrize("address", ["", "127.0.0.1:5555", "tcp://127.0.0.1", "ipc://x", "tcp://127.0.0.1:99999"])
def test_a_malformed_address_is_refused(address, key):
    for given in (None, key):
        with pytest.raises(ServerError, match="write tcp://HOST:PORT"), client(address, given):
            pass


@pytest.mark.parametrize(
    "address", ["tcp://::1:5555", "tcp://fe80::1%eth0:5555", "tcp://::ffff:127.0.0.1:*", "tcp://:::1"]
)
def test_an_ipv6_address_without_brackets_is_refused_and_says_so(address, key):
    for given in (None, key):
        with pytest.raises(ServerError, match=r"in brackets, as in tcp://\[::1\]:5555"), client(address, given):
            pass
    with pytest.raises(ServerError, match="in brackets"):
        needs_ipv6(address)


@pytest.mark.parametrize(
    ("address", "needs"),
    [
        ("tcp://127.0.0.1:5555", False),
        ("tcp://*:5555", False),
        ("tcp://lo:*", False),
        ("tcp://[::1]:*", True),
        ("tcp://[::]:5555", True),
        ("tcp://[fe80::1%eth0]:5555", True),
        ("tcp://[::ffff:127.0.0.1]:5555", True),
        ("tcp://both.example:5555", False),
        ("tcp://four.example:5555", False),
        ("tcp://six.example:5555", True),
        ("tcp://none.example:5555", False),
    ],
)
def test_what_needs_ipv6(address, needs, monkeypatch):
    known = {"both.example": (AF_INET6, AF_INET), "four.example": (AF_INET,), "six.example": (AF_INET6,)}

    def looked_up(name, *_, **__):
        if name not in known:
            raise gaierror
        return [(family, 1, 6, "", ()) for family in known[name]]

    monkeypatch.setattr(addresses.host, "if_nameindex", lambda: [(1, "lo")])
    monkeypatch.setattr(addresses.host, "getaddrinfo", looked_up)
    assert needs_ipv6(address) == needs


@needs_ipv6_loopback
@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.SUB])
@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize(
    ("listening", "called"),
    [
        *((FREE, name) for name in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]")),
        *((FREE_IPV6, name) for name in ("[::1]", "localhost", "[::1%lo]")),
        *(("tcp://localhost:*", name) for name in ("localhost", "127.0.0.1")),
    ],
)
def test_a_server_is_found_whichever_family_it_listens_on(keys, key, listening, called, encrypted, kind):
    own = {zmq.DEALER: zmq.ROUTER, zmq.SUB: zmq.XPUB}[kind]
    with served(keys if encrypted else None, own, listening) as (server, _, endpoint):
        port = endpoint.rpartition(":")[2]
        with client(f"tcp://{called}:{port}", key if encrypted else None, kind) as (socket, entrance):
            if kind == zmq.DEALER:
                delivered(socket, entrance, server, PING)
            else:
                until(entrance, lambda: server.poll(0))
                server.recv()
                server.send(b"ranking")
                assert entrance.poll(PATIENCE_S)


@needs_ipv6_loopback
@pytest.mark.parametrize(("listening", "called"), [(FREE, "[::1]"), (FREE_IPV6, "127.0.0.1")])
def test_an_address_of_the_other_family_is_another_server(listening, called):
    with served(None, address=listening) as (_, _, endpoint):
        port = endpoint.rpartition(":")[2]
        with client(f"tcp://{called}:{port}", None) as (_, entrance):
            assert not entrance.poll(NOTHING_COMES_S, zmq.POLLOUT)


@needs_ipv6_loopback
@pytest.mark.parametrize("listening", [FREE, FREE_IPV6])
def test_a_server_that_starts_later_is_found_by_name(listening):
    with served(None, address=listening) as (_, _, endpoint):
        port = endpoint.rpartition(":")[2]
    with client(f"tcp://localhost:{port}", None) as (source, entrance):
        assert not entrance.poll(NOTHING_COMES_S, zmq.POLLOUT)
        with served(None, address=endpoint) as (server, _, _):
            delivered(source, entrance, server, PING)
        with served(None, address=endpoint) as (server, _, _):  # and again when it was started again
            until(entrance, lambda: not source.poll(0, zmq.POLLOUT) or server.poll(0))
            delivered(source, entrance, server, PING)


def test_beyond_this_machine_a_client_needs_a_key():
    with pytest.raises(ServerError, match=r"beyond this machine a key is needed.*--key FILE"):
        client("tcp://192.0.2.1:5555", None).__enter__()
