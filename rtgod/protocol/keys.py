"""Key files and the roles that they give: who may connect to a server, and as what. No sockets in here.

A server has a folder of keys that only its owner can open:

    server.key      the server's own pair
    scanner.pub     a client that is let in: its role and its public key; without this file it is not
    scanner.key     for the client's machine: its own pair and the server's public key, all that it needs

Each is TOML and holds Curve25519 keys in ZeroMQ's Z85 (RFC 26, RFC 32). Whoever has a client's .key is that client.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec
import zmq

from rtgod.errors import InputError
from rtgod.files import write_whole
from rtgod.toml_text import read_toml

VERSION = 1

_SERVER_FILE = "server.key"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")


class Role(StrEnum):
    """What a client may do; each may also watch."""

    SOURCE = "source"
    DISPLAY = "display"
    WATCH = "watch"


@dataclass(frozen=True, slots=True)
class Client:
    """One that a server lets in.

    Attributes
    ----------
    name : str
    role : Role
    public : str
        Its public key.
    """

    name: str
    role: Role
    public: str

    def __post_init__(self) -> None:
        _check_name(self.name)
        _public_of(self.public)


@dataclass(frozen=True, slots=True)
class ServerKey:
    """The server's own pair of keys."""

    public: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        _check_pair(self.public, self.secret)


@dataclass(frozen=True, slots=True)
class ClientKey:
    """All that a client needs to connect: who it is, its own pair of keys, and the server's public key."""

    name: str
    role: Role
    public: str
    secret: str = field(repr=False)
    server: str

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_pair(self.public, self.secret)
        _public_of(self.server)


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """All that a server needs to let the right ones in.

    Attributes
    ----------
    own : ServerKey
    clients : mapping of str to Client
        By public key.
    """

    own: ServerKey
    clients: Mapping[str, Client]


def read_server_keys(folder: Path) -> ServerKeys:
    """Read a server's folder of keys.

    Raises
    ------
    InputError
        If there is none, others can open it, or a file in it is not what its name says.
    """
    clients: dict[str, Client] = {}
    for client in read_clients(folder):
        if twin := clients.get(client.public):
            raise InputError(f"{folder}: {twin.name}.pub and {client.name}.pub hold the same key; remove one")
        clients[client.public] = client
    return ServerKeys(_read_secret(folder / _SERVER_FILE, ServerKey), clients)


def read_clients(folder: Path) -> list[Client]:
    """Read whom a server with this folder of keys lets in, by name.

    Raises
    ------
    InputError
        If the folder cannot be read, others can open it, or a .pub file in it is not a client's or not called as it.
    """
    _refuse_if_open(folder)
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".pub")
    except OSError as error:
        raise _unreadable(folder, error) from error
    clients = [_read(path, Client) for path in paths]
    for path, client in zip(paths, clients, strict=True):
        if client.name != path.stem:
            raise InputError(f"{path}: is the key of {client.name!r}; rename it to {client.name}.pub, or remove it")
    return clients


def read_client_key(path: Path) -> ClientKey:
    """Read the file that a client connects with.

    Raises
    ------
    InputError
        If it cannot be read, others can read it, or it is not a client's key of this version.
    """
    return _read_secret(path, ClientKey)


def add_client(folder: Path, name: str, role: Role) -> Path:
    """Register a new client; a folder that has no keys yet gets the server's pair first.

    Returns
    -------
    Path
        The file to move to the client's machine.

    Raises
    ------
    InputError
        If there is a client of that name, none can have it, or the folder cannot be used.
    """
    try:
        _check_name(name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except ValueError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror})") from error
    # Names that differ in case alone would be one file on some systems.
    if name.lower() in [client.name.lower() for client in read_clients(folder)]:
        raise InputError(
            f"{folder}: there is a client {name!r} already; `rtgod keys revoke` it, or choose another name"
        )
    server_file, key_file = folder / _SERVER_FILE, folder / f"{name}.key"
    if not server_file.exists():
        _write(server_file, ServerKey(*_new_pair()), "The server's own key. Secret: it stays in this folder.")
    key = ClientKey(name, role, *_new_pair(), server=_read_secret(server_file, ServerKey).public)
    # In this order, so that none is let in whose key was never written.
    _write(key_file, key, "Secret: whoever has this file is this client. Move it to the client's machine.")
    _write(folder / f"{name}.pub", Client(name, role, key.public), "The server lets in who has this key's other half.")
    return key_file


def revoke_client(folder: Path, name: str) -> None:
    """Remove a client; a server that is started from now on does not let it in.

    Raises
    ------
    InputError
        If there is none of that name, or it cannot be removed.
    """
    names = [client.name for client in read_clients(folder)]
    if name not in names:
        raise InputError(f"{folder}: no client {name!r}; there are: {', '.join(names) or 'none'}")
    try:
        for suffix in ("pub", "key"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {name!r} cannot be removed ({error.strerror})") from error


_File = TypeVar("_File", Client, ServerKey, ClientKey)


def _read_secret(path: Path, kind: type[_File]) -> _File:
    _refuse_if_open(path)
    return _read(path, kind)


def _read(path: Path, kind: type[_File]) -> _File:
    try:
        document = read_toml(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError):  # neither UTF-8 nor TOML
        document = {}
    version = document.pop("rtgod-key", None)
    if version is None:
        raise InputError(f"{path}: not a key file of rtgod; `rtgod keys new` makes them")
    if version != VERSION or isinstance(version, bool):
        raise InputError(f"{path}: rtgod-key is {version!r}; this version of rtgod reads {VERSION}")
    needed = [f.name for f in dataclasses.fields(kind)]
    if sorted(document) != sorted(needed):
        raise InputError(
            f"{path}: {', '.join(needed)} are needed here, no more and no less; is it the right file? "
            "A client connects with its .key, the server reads its .pub"
        )
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}") from error


def _write(path: Path, file: Client | ServerKey | ClientKey, comment: str) -> None:
    # Names, roles and Z85 need no escapes in TOML.
    lines = [f"# {comment}", f"rtgod-key = {VERSION}"]
    lines += [f'{name} = "{value}"' for name, value in dataclasses.asdict(file).items()]
    write_whole(path, "\n".join(lines) + "\n", mode=0o600)


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be read ({error.strerror}); keys are made with `rtgod keys new NAME --role source`"
    )


def _refuse_if_open(path: Path) -> None:
    """Refuse as ssh does what others than its owner can open."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(path, error) from error
    # Windows keeps such rights elsewhere: all files look open there.
    if os.name == "posix" and mode & 0o077:
        right = "700" if path.is_dir() else "600"
        raise InputError(f"{path}: others can open it, and with it the server; do `chmod {right} {path}`")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or f"{name.lower()}.key" == _SERVER_FILE:
        raise ValueError(
            f"name {name!r}: 1 to 50 letters of A to Z, digits, - and _, a letter or a digit first; and not 'server'"
        )


def _check_pair(public: str, secret: str) -> None:
    if _public_of(secret) != public:
        raise ValueError("public and secret are not halves of one key")


def _public_of(key: str) -> str:
    """The public half of a secret key; as any 32 bytes may be one, this fails for what is no key at all."""
    try:
        return zmq.curve_public(key.encode()).decode()
    except (ValueError, zmq.ZMQError) as error:
        raise ValueError("a key is 40 characters of Z85") from error


def _new_pair() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()
