"""Who gets in: CURVE encryption of sockets, the server's door, and what a client hears when it is turned away.

CurveZMQ (RFC 26) proves both sides' keys before a message passes. Its server asks a ZAP handler (RFC 27) about each
client's key, here pyzmq's, which knows the clients of a folder of keys. What a client may send is asked per message.
"""

from __future__ import annotations

import logging

import zmq
from zmq.auth.thread import ThreadAuthenticator

from rtgod.files import Closing
from rtgod.messages import Event, Message, Ping, Run, RunEnd, Volume
from rtgod.protocol.frames import MAX_ARRAY_BYTES, MAX_HEADER_BYTES
from rtgod.protocol.keys import Client, Role, ServerKeys

log = logging.getLogger(__name__)

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
