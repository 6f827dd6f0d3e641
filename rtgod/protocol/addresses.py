"""Addresses: which are this machine's own, which need IPv6, and the ways to a host that has several."""

from __future__ import annotations

import ipaddress
import re
import socket as host

from rtgod.errors import ServerError

_ADDRESS = re.compile(r"tcp://(\S+):(\*|[0-9]{1,5})")


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


def ways_to(address: str) -> list[tuple[str, bool]]:
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
