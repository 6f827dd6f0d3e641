"""Addresses of servers and receivers: read them, recognise loopback, choose IPv4 or IPv6, list the ways to a host."""

from __future__ import annotations

import ipaddress
import re
import socket as host

from rtgod.errors import InputError, ServerError
from rtgod.text import plain

_ADDRESS = re.compile(r"tcp://(\S+):(\*|[0-9]{1,5})")
_PLAIN = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+)(?::([0-9]{1,5}))?")


def host_and_port(text: str, option: str, usual: str, *, port: int | None = None, lowest: int = 1) -> tuple[str, int]:
    """Read HOST:PORT, the address of a receiver that does not speak ZeroMQ.

    Parameters
    ----------
    text : str
        The host may be a name, an IPv4 address, or an IPv6 address in brackets.
    option : str
        Option that it was given with, for the message.
    usual : str
        An example for the message.
    port : int, optional
        Port where none is given; None requires one.
    lowest : int
        Lowest port; 0 lets the system choose a free one.

    Returns
    -------
    host : str
        Without brackets.
    port : int

    Raises
    ------
    InputError
        If it is none.
    """
    match = _PLAIN.fullmatch(text)
    read = port if match is None or match[2] is None else int(match[2])
    if match is None or read is None or not lowest <= read <= 65535:
        form = "HOST:PORT" if port is None else "HOST or HOST:PORT"
        raise InputError(f"{option} {plain(text, 100)}: write {form}, such as {usual}; an IPv6 address in brackets")
    return match[1].strip("[]"), read


def is_loopback(address: str) -> bool:
    """Return whether an address is a loopback address.

    Parameters
    ----------
    address : str
        tcp://HOST:PORT, with a name or an address as host, such as tcp://127.0.0.1:5555 or tcp://[::1]:5555.

    Raises
    ------
    ValueError
        If the address is not of that form.
    ServerError
        If it has an IPv6 address without brackets.
    """
    name, _ = _host_and_port(address)
    try:
        literal = ipaddress.ip_address(name.strip("[]"))
    except ValueError:  # a name
        return name.lower() == "localhost"
    mapped = literal.ipv4_mapped if isinstance(literal, ipaddress.IPv6Address) else None
    return (mapped or literal).is_loopback


def needs_ipv6(address: str) -> bool:
    """Return whether a socket must have ZMQ_IPV6 to listen at an address: one in brackets, or a name with IPv6 only.

    Without the option, libzmq finds no IPv6 address; with it, a name's IPv6 address hides its IPv4 address.

    Parameters
    ----------
    address : str
        Address such as tcp://[::1]:5555. The result is False for tcp://*:5555, which stands for all IPv4 addresses;
        tcp://[::]:5555 stands for all addresses of both kinds.

    Raises
    ------
    ValueError, ServerError
        See `is_loopback`.
    """
    name, _ = _host_and_port(address)
    if _is_literal(name) or name == "*" or name in [interface for _, interface in host.if_nameindex()]:
        return name.startswith("[")
    try:
        families = {family for family, *_ in host.getaddrinfo(name, None, type=host.SOCK_STREAM)}
    except OSError:  # unknown name: libzmq raises when the socket is bound
        return False
    return host.AF_INET6 in families and host.AF_INET not in families


def ways_to(address: str) -> list[tuple[str, bool]]:
    """List the addresses to try in turn for an address, each with whether it is IPv6.

    A name may have addresses of both kinds, and a server listens on one of them. "localhost" stands for both loopback
    addresses, whatever the resolver says.

    Parameters
    ----------
    address : str
        As for `is_loopback`.

    Raises
    ------
    ValueError, ServerError
        See `is_loopback`.
    """
    name, port = _host_and_port(address)
    if _is_literal(name):
        return [(address, name.startswith("["))]
    if name.lower() == "localhost":
        return [(f"tcp://127.0.0.1:{port}", False), (f"tcp://[::1]:{port}", True)]
    return [(address, False), (address, True)]


def _host_and_port(address: str) -> tuple[str, str]:
    """Split tcp://HOST:PORT into host and port; an IPv6 address keeps its brackets."""
    if address.startswith("tcp://") and address.count(":") > 2 and not re.search(r"[\[;]", address):
        raise ServerError(f"address {address}: write an IPv6 address in brackets, as in tcp://[::1]:5555")
    match = _ADDRESS.fullmatch(address)
    if match is None or (match[2] != "*" and int(match[2]) > 65535):
        raise ValueError("not of that form")
    return match[1], match[2]


def _is_literal(name: str) -> bool:
    """Return whether a host is an address and not a name: IPv4 without brackets, or IPv6 in brackets."""
    try:
        version = ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).version
    except ValueError:
        return False
    return name.startswith("[") == (version == 6)
