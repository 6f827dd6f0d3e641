"""Where protocols are listened to, and who may use them: beyond this machine, networks that are named alone."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from rtgod.errors import InputError

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Listening:
    """An address to listen at, and the networks whose hosts may connect.

    Attributes
    ----------
    host : str
    port : int
        0 takes any free one.
    networks : tuple of IPv4Network or IPv6Network
        Hosts of this machine may connect always.
    """

    host: str
    port: int
    networks: tuple[_Network, ...] = ()

    def open(self, port: int | None = None) -> socket.socket:
        """Listen, without blocking.

        Parameters
        ----------
        port : int, optional
            Another port than its own.

        Raises
        ------
        InputError
            If it cannot listen there.
        """
        port = self.port if port is None else port
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            listener = socket.create_server((self.host, port), family=family)
        except OSError as error:
            raise InputError(f"{self.host}:{port}: cannot listen there ({error.strerror or error})") from error
        listener.setblocking(False)
        return listener

    def may_connect(self, host: str) -> bool:
        """Return whether a host is allowed.

        Parameters
        ----------
        host : str
            Its address.
        """
        address = ipaddress.ip_address(host)
        return address.is_loopback or any(address in network for network in self.networks)


def listening_at(host: str, port: int, allowed: Sequence[str]) -> Listening:
    """Check an address and the networks that are allowed.

    Parameters
    ----------
    host : str
    port : int
    allowed : sequence of str
        Networks, such as 192.168.2.0/24.

    Raises
    ------
    InputError
        If one is malformed, or an address beyond this machine has no networks allowed.
    """
    try:
        networks = tuple(ipaddress.ip_network(network) for network in allowed)
    except ValueError as error:
        raise InputError(f"--allow: {error}; give a network such as 192.168.2.0/24") from error
    is_local = host == "localhost"
    try:
        is_local = is_local or ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise InputError(f"--listen {host}: give an address such as 192.168.2.1:{port}") from error
    if not is_local and not networks:
        raise InputError(f"--listen {host}: name with --allow which networks may connect: 192.168.2.0/24, say")
    return Listening(host, port, networks)
