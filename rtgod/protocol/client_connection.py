"""The connection of a client to a server: encrypted if the client has a key, with the reason if it fails."""

from __future__ import annotations

import math
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from rtgod.errors import ServerError
from rtgod.protocol.addresses import is_loopback, ways_to
from rtgod.protocol.keys import ClientKey

_GET_A_KEY = "`rtgod keys new NAME` makes it where the server is, then give it with --key FILE"
#: Handshakes in a row that must break off before this is reported: a single one may only have lost its server.
_N_BREAKS = 3
#: Seconds after which a client that was turned away tries again.
_AGAIN_S = 2.0
#: Seconds after which the other family of addresses is tried, if a name does not answer by one.
_TURN_S = 0.25
#: Milliseconds after which an attempt to connect is given up; only for names, which have another family to try.
_CONNECT_MS = 3000


class ClientConnection:
    """Connection of a client's socket, which reports if the server turns the client away.

    libzmq reports failed handshakes only to monitors. It gives up a connection that was refused outright; here it is
    made again, because the server may be started again with the right keys. libzmq looks up a name in one family of
    addresses only; here both are tried in turn until the server is found.

    Parameters
    ----------
    socket : zmq.Socket
        Socket that is not connected yet.
    address : str
    key : ClientKey or None
        None for a server on this machine that asks for no key.

    Attributes
    ----------
    why_not : str
        Why the server does not admit the client; empty if it does, or if that is not known yet.
    n_connections : int
        Number of connections made so far, as far as is known: messages sent on an earlier one may be lost.

    Raises
    ------
    ServerError
        If the address is malformed, or is not a loopback address and no key is given.
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
            self._ways = ways_to(address)
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
            A value of `n_connections` above 0: then the wait also ends when another connection is made.

        Raises
        ------
        ServerError
            If the server refuses the client outright, and never admitted it before. A client that was admitted before
            keeps waiting, with `why_not` set: its messages must not be lost because the server was started with other
            keys.
        """
        deadline_s = time.monotonic() + timeout_s
        poller = zmq.Poller()
        poller.register(self._socket, flags)
        poller.register(self._monitor, zmq.POLLIN)
        while True:
            if time.monotonic() >= min(self._again_s, self._turn_s):
                # Without this, libzmq would ignore the next connect, as for a connection that it has already.
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
        """Take in the result of a connection attempt or a handshake."""
        if event == zmq.EVENT_CONNECTED:
            self._turn_s = math.inf
            return
        if event == zmq.EVENT_CONNECT_RETRIED:
            # A server that was found in one way will come back there; staying keeps messages received but not yet read.
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
    """Explain a failed handshake to the user of a client, with what to do about it."""
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
