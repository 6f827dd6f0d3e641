"""The commands `rtgod keys new`, `ls` and `revoke`: manage the clients that may connect to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtgod.protocol.keys import Role, add_client, read_clients, revoke_client
from rtgod.text import plain

keys = typer.Typer(help="Keys of those who may connect to a server, and what each may do.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Of the client, such as the machine's.")]
Folder = Annotated[
    Path, typer.Option("--keys", help="The server's folder of keys, as for `rtgod serve --keys`; made if need be.")
]
_KEYS = Path("keys")


@keys.command("new")
def new(
    name: Name,
    role: Annotated[
        Role,
        typer.Option(help="A source sends volumes and events, a display sends events, and all see what is published."),
    ],
    folder: Folder = _KEYS,
) -> None:
    """Make a client's key, where the server is; the first time, the server's own too."""
    path = add_client(folder, name, role)
    print(
        f"{plain(path)}: move it to the machine of {name!r}, over a way that you trust, and give it there with --key\n"
        f"rtgod serve --keys {plain(folder)} lets it in once it is started again"
    )


@keys.command("ls")
def ls(folder: Folder = _KEYS) -> None:
    """List who may connect: name, role and public key."""
    for client in read_clients(folder):
        print(f"{client.name}\t{client.role}\t{client.public}")


@keys.command("revoke")
def revoke(name: Name, folder: Folder = _KEYS) -> None:
    """Take a client's access away; it ends when the server is started again."""
    revoke_client(folder, name)
    print(f"{name} is out once `rtgod serve --keys {plain(folder)}` is started again")
