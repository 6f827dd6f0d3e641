"""Key files of a server and its clients, and the roles that they give to clients; this module uses no sockets.

A server has a folder of keys that only its owner can open:

    server.key      the server's own pair
    scanner.pub     a client that is admitted: its role and its public key; without this file it is not admitted
    scanner.key     for the client's machine: its own pair and the server's public key, all that it needs

Each file is TOML and holds Curve25519 keys in ZeroMQ's Z85 (RFC 26, RFC 32). A program that has a client's .key acts as
that client.
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
    """Role of a client: the messages that it may send. Every client may also watch."""

    SOURCE = "source"
    DISPLAY = "display"
    WATCH = "watch"


@dataclass(frozen=True, slots=True)
class Client:
    """A client that a server admits.

    Attributes
    ----------
    name : str
    role : Role
    public : str
        Public key of the client.
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
    """All that a client needs to connect: its name and role, its own pair of keys, and the server's public key."""

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
    """All that a server needs to admit its clients.

    Attributes
    ----------
    own : ServerKey
    clients : mapping of str to Client
        Admitted clients by public key.
    """

    own: ServerKey
    clients: Mapping[str, Client]


def read_server_keys(folder: Path) -> ServerKeys:
    """Read a server's folder of keys.

    Parameters
    ----------
    folder : Path
        Holds `server.key`, and a .pub file for each client.

    Raises
    ------
    InputError
        If the folder does not exist, others can open it, or a file in it does not hold what its name says.
    """
    clients: dict[str, Client] = {}
    for client in read_clients(folder):
        if twin := clients.get(client.public):
            raise InputError(f"{folder}: {twin.name}.pub and {client.name}.pub hold the same key; remove one")
        clients[client.public] = client
    return ServerKeys(_read_secret(folder / _SERVER_FILE, ServerKey), clients)


def read_clients(folder: Path) -> list[Client]:
    """Read the clients that a server with this folder of keys admits, in order of name.

    Parameters
    ----------
    folder : Path
        Holds a .pub file for each client; other files are not read.

    Raises
    ------
    InputError
        If the folder cannot be read, others can open it, or a .pub file in it is not that of a client of its name.
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
    """Read the key file with which a client connects.

    Parameters
    ----------
    path : Path
        The .key file that `add_client` returned.

    Raises
    ------
    InputError
        If the file cannot be read, others can read it, or it is not a client's key of this version.
    """
    return _read_secret(path, ClientKey)


def add_client(folder: Path, name: str, role: Role) -> Path:
    """Register a new client; in a folder without keys, make the server's pair first.

    Parameters
    ----------
    folder : Path
        The server's folder of keys; made, for its owner alone, if it does not exist.
    name : str
        1 to 50 ASCII letters, digits, - and _, a letter or a digit first; not "server", in any case.
    role : Role

    Returns
    -------
    Path
        The file to move to the client's machine.

    Raises
    ------
    InputError
        If the name is taken or not allowed, or the folder cannot be used.
    """
    try:
        _check_name(name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except ValueError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror})") from error
    # Names that differ only in upper and lower case would be the same file on some systems.
    if name.lower() in [client.name.lower() for client in read_clients(folder)]:
        raise InputError(
            f"{folder}: there is a client {name!r} already; `rtgod keys revoke` it, or choose another name"
        )
    server_file, key_file = folder / _SERVER_FILE, folder / f"{name}.key"
    if not server_file.exists():
        _write(server_file, ServerKey(*_new_pair()), "The server's own key. Secret: it stays in this folder.")
    key = ClientKey(name, role, *_new_pair(), server=_read_secret(server_file, ServerKey).public)
    # Write the key before the list that admits it: no client is admitted whose key is not on disk.
    _write(key_file, key, "Secret: whoever has this file is this client. Move it to the client's machine.")
    _write(folder / f"{name}.pub", Client(name, role, key.public), "The server lets in who has this key's other half.")
    return key_file


def revoke_client(folder: Path, name: str) -> None:
    """Remove a client; a server that is started from now on does not admit it.

    Parameters
    ----------
    folder : Path
        The server's folder of keys.
    name : str
        Upper and lower case differ.

    Raises
    ------
    InputError
        If no client has that name, or its files cannot be removed.
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
    """Refuse, as ssh does, a file or folder that other users than its owner can open."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(path, error) from error
    # Windows keeps permissions elsewhere: there all files look open.
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
    """Return the public half of a secret key; raise ValueError only for text that is no key, as any 32 bytes may be."""
    try:
        return zmq.curve_public(key.encode()).decode()
    except (ValueError, zmq.ZMQError) as error:
        raise ValueError("a key is 40 characters of Z85") from error


def _new_pair() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()
