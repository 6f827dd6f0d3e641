"""Who gets in: CURVE encryption of sockets, the server's door, and what a client hears when it is turned away.

CurveZMQ (RFC 26) proves both sides' keys before a message passes. Its server asks a ZAP handler (RFC 27) about each
client's key, here pyzmq's, which knows the clients of a folder of keys. What a client may send is asked per message.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import socket as host
import time

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message

from rtgod.errors import ServerError
from rtgod.files import Closing
from rtgod.messages import Event, Message, Ping, Run, RunEnd, Volume
from rtgod.protocol.frames import MAX_ARRAY_BYTES, MAX_HEADER_BYTES
from rtgod.protocol.keys import Client, ClientKey, Role, ServerKeys

log = logging.getLogger(__name__)

_ADDRESS = re.compile(r"tcp://(\S+):(\*|[0-9]{1,5})")
_DOMAIN = "rtgod"
_MAY_SEND: dict[Role, tuple[type[Message], ...]] = {
    Role.SOURCE: (Run, Volume, RunEnd, Event, Ping),
    Role.DISPLAY: (Event, Ping),
    Role.WATCH: (Ping,),
}
#: Frames, and bytes in all, of a message: a volume is two frames, an event and a ping are short.
_MOST: dict[Role, tuple[int, int]] = {
    Role.SOURCE: (2, MAX_HEADER_BYTES + MAX_ARRAY_BYTES),
    Role.DISPLAY: (1, 1 << 17),
    Role.WATCH: (1, 1 << 12),
}
_GET_A_KEY = "`rtgod keys new NAME` makes it where the server is, then give it with --key FILE"
#: A handshake that breaks off may have lost its server; so many in a row are told of.
_N_BREAKS = 3
#: A client that was turned away tries again after so long.
_AGAIN_S = 2.0
#: Where a name did not answer by one family of addresses, the other is tried after so long.
_TURN_S = 0.25
#: A connection that is not made within so long is given up, and tried again: of names alone, which have another way.
_CONNECT_MS = 3000


def is_loopback(address: str) -> bool:
    """Whether an address such as tcp://127.0.0.1:5555 or tcp://[::1]:5555 stays on this machine.

    Raises
    ------
    ValueError
        If it is not of that form.
    ServerError
        If it has an IPv6 address without its brackets.
    """
    name, _ = _host_and_port(address)
    try:
        literal = ipaddress.ip_address(name.strip("[]"))
    except ValueError:  # a name
        return name.lower() == "localhost"
    mapped = literal.ipv4_mapped if isinstance(literal, ipaddress.IPv6Address) else None
    return (mapped or literal).is_loopback


def needs_ipv6(address: str) -> bool:
    """Whether a socket must have ZMQ_IPV6 to listen at an address: one in brackets, or a name that has IPv6 alone.

    Without the option, libzmq finds no IPv6 address; with it, a name's IPv6 address hides its IPv4 address.

    Parameters
    ----------
    address : str
        Such as tcp://[::1]:5555. For tcp://*:5555 it is False, which is all IPv4 addresses; tcp://[::]:5555 is all of
        both kinds.

    Raises
    ------
    ValueError, ServerError
        As `is_loopback`.
    """
    name, _ = _host_and_port(address)
    if _is_literal(name) or name == "*" or name in [interface for _, interface in host.if_nameindex()]:
        return name.startswith("[")
    try:
        families = {family for family, *_ in host.getaddrinfo(name, None, type=host.SOCK_STREAM)}
    except OSError:  # no such name: libzmq says so when it is bound
        return False
    return host.AF_INET6 in families and host.AF_INET not in families


def _ways(address: str) -> list[tuple[str, bool]]:
    """What to connect to for an address, each with whether it is IPv6; one after the other until one answers.

    A name may have addresses of both kinds, and a server listens on one of them. "localhost" is both of this
    machine's, whatever its resolver says.
    """
    name, port = _host_and_port(address)
    if _is_literal(name):
        return [(address, name.startswith("["))]
    if name.lower() == "localhost":
        return [(f"tcp://127.0.0.1:{port}", False), (f"tcp://[::1]:{port}", True)]
    return [(address, False), (address, True)]


def _host_and_port(address: str) -> tuple[str, str]:
    """The two parts of tcp://HOST:PORT; of an IPv6 address with its brackets."""
    if address.startswith("tcp://") and address.count(":") > 2 and not re.search(r"[\[;]", address):
        raise ServerError(f"address {address}: write an IPv6 address in brackets, as in tcp://[::1]:5555")
    form = _ADDRESS.fullmatch(address)
    if form is None or (form[2] != "*" and int(form[2]) > 65535):
        raise ValueError("not of that form")
    return form[1], form[2]


def _is_literal(name: str) -> bool:
    """Whether it is an address rather than a name: IPv4 without brackets, or IPv6 in them."""
    try:
        version = ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).version
    except ValueError:
        return False
    return name.startswith("[") == (version == 6)


def may_send(role: Role, message: Message) -> bool:
    """Whether a client of this role may send this message to a server."""
    return isinstance(message, _MAY_SEND[role])


class ServerAuthenticator(Closing):
    """Lets registered clients in to a server's sockets, and knows what each may send.

    It answers in a thread of its own, so that a server that is busy keeps nobody at the door. While there is none,
    nobody gets in to the sockets that it secured.

    Parameters
    ----------
    context : zmq.Context
        Of the sockets; to be closed before it is.
    keys : ServerKeys
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: ServerKeys) -> None:
        self._keys = keys
        self._last_stranger = ""
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.configure_curve_callback(_DOMAIN, self)
        self._authenticator.start()

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Make a socket, before it is bound, speak to registered clients only."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt_string(zmq.CURVE_SECRETKEY, self._keys.own.secret)
        socket.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
        # Without this, libzmq lets everyone in when no handler answers.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def too_much(self, frames: list[zmq.Frame]) -> str:
        """Why a message is longer than its sender may send; empty if it is not.

        Parameters
        ----------
        frames : list of zmq.Frame
            As in `refusal`, all of the message.
        """
        sender = self._sender(frames[0])
        most_frames, most_bytes = _MOST[sender.role]
        n_bytes = sum(len(frame) for frame in frames)
        if len(frames) <= most_frames and n_bytes <= most_bytes:
            return ""
        return (
            f"the role of {sender.name!r} is {sender.role}, which may send {most_bytes} bytes in {most_frames} frames, "
            f"not {n_bytes} in {len(frames)}"
        )

    def refusal(self, frame: zmq.Frame, message: Message) -> str:
        """Why the sender of a message may not send it; empty if it may.

        Parameters
        ----------
        frame : zmq.Frame
            Of the message, received with `copy=False` from a socket that was secured here.
        message : Message
        """
        sender = self._sender(frame)
        if may_send(sender.role, message):
            return ""
        return f"the role of {sender.name!r} is {sender.role}, which may not send {type(message).__name__}"

    def _sender(self, frame: zmq.Frame) -> Client:
        # The authenticator makes the public key the connection's user id.
        return self._keys.clients[str(frame.get("User-Id"))]

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 # pyzmq's name and arguments
        """Whether a public key is a registered client's; asked by the authenticator."""
        public = key.decode()
        known = public in self._keys.clients
        if not known and public != self._last_stranger:
            self._last_stranger = public
            log.warning("turned away: a client whose key is not registered here (public key %s)", public)
        return known

    def close(self) -> None:
        """Let nobody in any more."""
        self._authenticator.stop()


class ClientConnection:
    """A client's way in: connects a socket, and says so when the server turns it away.

    libzmq tells of failed handshakes to monitors only. It gives up a connection that was refused outright; here it is
    made anew, because the server may be started again with the right keys. It looks names up among one family of
    addresses only; here both have their turns until the server is found.

    Parameters
    ----------
    socket : zmq.Socket
        Not yet connected.
    address : str
    key : ClientKey or None
        None for a server on this machine that asks for none.

    Attributes
    ----------
    why_not : str
        Why the server does not let it in; empty if it does, or that is not known yet.
    n_connections : int
        How often a connection was made, as far as is known: what was sent on an earlier one may be lost.

    Raises
    ------
    ServerError
        If the address is malformed, or beyond loopback where there is no key.
    """

    def __init__(self, socket: zmq.Socket[bytes], address: str, key: ClientKey | None = None) -> None:
        self.why_not = ""
        self._socket, self._address, self._key = socket, address, key
        self._was_in = False
        self.n_connections = self._n_breaks = 0
        self._again_s = self._turn_s = math.inf
        if key is not None:
            socket.setsockopt_string(zmq.CURVE_SERVERKEY, key.server)
            socket.setsockopt_string(zmq.CURVE_PUBLICKEY, key.public)
            socket.setsockopt_string(zmq.CURVE_SECRETKEY, key.secret)
        self._monitor = socket.get_monitor_socket(
            zmq.EVENT_CONNECTED
            | zmq.EVENT_CONNECT_RETRIED
            | zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )
        try:
            if not is_loopback(address) and key is None:
                raise ServerError(f"address {address}: beyond this machine a key is needed; {_GET_A_KEY}")
            self._ways = _ways(address)
            if len(self._ways) > 1:
                socket.setsockopt(zmq.CONNECT_TIMEOUT, _CONNECT_MS)
            self._connect()
        except (ValueError, zmq.ZMQError) as error:
            raise ServerError(f"address {address!r}: write tcp://HOST:PORT ({error})") from error

    def poll(self, timeout_s: float, flags: int = zmq.POLLIN, connection: int = 0) -> bool:
        """Wait until the socket is ready for `flags`, at most `timeout_s`.

        Parameters
        ----------
        timeout_s : float
        flags : int
        connection : int, optional
            A value of `n_connections` above 0: then wait no longer than until another connection is made.

        Raises
        ------
        ServerError
            If the server refuses the client outright, and never let it in before. One that was in waits on, with
            `why_not` set: what it holds must not be lost because its server was started with other keys.
        """
        deadline_s = time.monotonic() + timeout_s
        poller = zmq.Poller()
        poller.register(self._socket, flags)
        poller.register(self._monitor, zmq.POLLIN)
        while True:
            if time.monotonic() >= min(self._again_s, self._turn_s):
                # Without this, libzmq takes what follows for a connection that it has already.
                self._socket.disconnect(self._ways[0][0])
                if self._turn_s < self._again_s:
                    self._ways.append(self._ways.pop(0))
                self._again_s = self._turn_s = math.inf
                self._connect()
            wait_s = min(deadline_s, self._again_s, self._turn_s) - time.monotonic()
            ready = dict(poller.poll(max(0, math.ceil(wait_s * 1e3))))
            while self._monitor.poll(0):
                heard = recv_monitor_message(self._monitor)
                self._hear(heard["event"], int(heard["value"]))
            if self._socket in ready:
                return True
            if 0 < connection < self.n_connections:
                return False
            if self._again_s < math.inf and not self._was_in:
                raise ServerError(f"{self._address}: {self.why_not}")
            if time.monotonic() >= deadline_s:
                return False

    def _connect(self) -> None:
        address, is_ipv6 = self._ways[0]
        self._socket.setsockopt(zmq.IPV6, int(is_ipv6))
        self._socket.connect(address)

    def _hear(self, event: int, value: int) -> None:
        """Take in how a connection, or a handshake, went."""
        if event == zmq.EVENT_CONNECTED:
            self._turn_s = math.inf
            return
        if event == zmq.EVENT_CONNECT_RETRIED:
            # A server that was found by one way comes back there; and what was received and not yet read stays.
            if len(self._ways) > 1 and not self._was_in:
                self._turn_s = min(self._turn_s, time.monotonic() + _TURN_S)
            return
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._was_in, self._n_breaks, self.why_not = True, 0, ""
            self.n_connections += 1
            return
        if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._n_breaks += 1
            if self._n_breaks < _N_BREAKS:
                return
        else:
            self._again_s = time.monotonic() + _AGAIN_S
        self.why_not = _why_not(event, value, self._key)


def _why_not(handshake: int, value: int, key: ClientKey | None) -> str:
    """What a failed handshake means to a client, and what to do."""
    if handshake == zmq.EVENT_HANDSHAKE_FAILED_AUTH and key is not None:
        return (
            f"the server does not know the key of {key.name!r}; make it with `rtgod keys new` in the folder that the "
            "server is started with, and start it again"
        )
    if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
        return (
            f"the server asks for a key; {_GET_A_KEY}"
            if key is None
            else "the server runs without keys; start it with --keys FOLDER, or come without --key"
        )
    return "the connection breaks off before it is made: either nothing answers behind that address, or the server " + (
        "asks for a key (--key FILE)" if key is None else f"is not the one that {key.name!r} has a key to"
    )
