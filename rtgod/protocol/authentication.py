"""Authentication of clients at a server: CURVE encryption of sockets, and permissions by role.

CurveZMQ (RFC 26) proves both sides' keys before a message passes. Its server asks a ZAP handler (RFC 27) about each
client's key, here pyzmq's, which knows the clients of a folder of keys. Each message is checked against the client's
role.
"""

from __future__ import annotations

import logging

import zmq
from zmq.auth.thread import ThreadAuthenticator

from rtgod.files import Closing
from rtgod.messages import Event, Message, NewBlock, Ping, Run, RunEnd, Volume
from rtgod.protocol.frames import MAX_ARRAY_BYTES, MAX_HEADER_BYTES
from rtgod.protocol.keys import Client, Role, ServerKeys

log = logging.getLogger(__name__)

_DOMAIN = "rtgod"
_MAY_SEND: dict[Role, tuple[type[Message], ...]] = {
    Role.SOURCE: (Run, Volume, RunEnd, Event, NewBlock, Ping),
    Role.DISPLAY: (Event, NewBlock, Ping),
    Role.WATCH: (Ping,),
}
#: Most frames of a message, and most bytes in all: a volume is two frames; an event and a ping are short.
_MOST: dict[Role, tuple[int, int]] = {
    Role.SOURCE: (2, MAX_HEADER_BYTES + MAX_ARRAY_BYTES),
    Role.DISPLAY: (1, 1 << 17),
    Role.WATCH: (1, 1 << 12),
}


def may_send(role: Role, message: Message) -> bool:
    """Return whether a client of a role may send a message to a server.

    Parameters
    ----------
    role : Role
    message : Message
    """
    return isinstance(message, _MAY_SEND[role])


class ServerAuthenticator(Closing):
    """Authenticator that admits registered clients to a server's sockets, and checks what each may send.

    It runs in a thread of its own, so that a busy server delays no client. After it is closed, no client is admitted to
    the sockets that it secured.

    Parameters
    ----------
    context : zmq.Context
        Context of the sockets; the authenticator must be closed before it.
    keys : ServerKeys
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: ServerKeys) -> None:
        self._keys = keys
        self._last_stranger = ""
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.configure_curve_callback(_DOMAIN, self)
        self._authenticator.start()

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Restrict a socket to registered clients.

        Parameters
        ----------
        socket : zmq.Socket
            Must not be bound yet.
        """
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt_string(zmq.CURVE_SECRETKEY, self._keys.own.secret)
        socket.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
        # Without this, libzmq admits every client if no handler answers.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def too_much(self, frames: list[zmq.Frame]) -> str:
        """Return why a message is longer than its sender may send; an empty string if it is not.

        Parameters
        ----------
        frames : list of zmq.Frame
            All frames of the message, received as for `refusal`.
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
        """Return why the sender of a message may not send it; an empty string if it may.

        Parameters
        ----------
        frame : zmq.Frame
            A frame of the message, received with `copy=False` from a socket that was secured here.
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
        """Return whether a public key is a registered client's; the authenticator calls this.

        Parameters
        ----------
        domain : str
            ZAP domain of the socket; not used.
        key : bytes
            In Z85.
        """
        public = key.decode()
        is_registered = public in self._keys.clients
        if not is_registered and public != self._last_stranger:
            self._last_stranger = public
            log.warning("turned away: a client whose key is not registered here (public key %s)", public)
        return is_registered

    def close(self) -> None:
        """Stop admitting clients."""
        self._authenticator.stop()
