"""Connections to a receiver, and patience until it listens."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

from rtgod.errors import ServerError
from rtgod.text import plain

T = TypeVar("T")
#: Time between two tries, seconds.
_AGAIN_S = 0.2


def until_it_works(attempt: Callable[[], T | None], where: str, patience_s: float, tell: Callable[[str], object]) -> T:
    """Try again and again.

    Parameters
    ----------
    attempt : callable
        Returns None if it has failed and may be tried again.
    where : str
        Whom it tries to reach, for people.
    patience_s : float
        Time after which it gives up, seconds.
    tell : callable
        Shows the operator a line, once.

    Raises
    ------
    ServerError
        If it gives up.
    """
    until_s, has_told = time.monotonic() + patience_s, False
    while (result := attempt()) is None:
        if time.monotonic() >= until_s:
            raise ServerError(f"{plain(where)}: nobody answers there; start the receiver first, or correct --to")
        if not has_told:
            tell(f"waiting for {plain(where)}, up to {patience_s:g} s: nobody answers there yet; start the receiver")
        has_told = True
        time.sleep(_AGAIN_S)
    return result


def connect(host: str, port: int, patience_s: float, tell: Callable[[str], object]) -> socket.socket:
    """Connect to a receiver, as soon as it listens.

    Parameters
    ----------
    host : str
    port : int
    patience_s : float
        Time after which it gives up, which is also the longest that anything sent waits for the receiver, seconds.
    tell : callable
        Shows the operator a line.

    Raises
    ------
    ServerError
        If it does not listen in time.
    """

    def attempt() -> socket.socket | None:
        try:
            return socket.create_connection((host, port), max(patience_s, _AGAIN_S))
        except OSError:
            return None

    return until_it_works(attempt, f"{host}:{port}", patience_s, tell)


def send_all(sock: socket.socket, *parts: bytes) -> None:
    """Send bytes.

    Parameters
    ----------
    sock : socket
    *parts : bytes

    Raises
    ------
    ServerError
        If the receiver has closed the connection, or does not read.
    """
    try:
        for part in parts:
            sock.sendall(part)
    except OSError as error:
        raise ServerError(f"the receiver is gone ({error.strerror or error}); what it says may tell why") from error
