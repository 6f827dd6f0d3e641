"""Key files: what is written is read back, and what others could have touched, or is not one, is refused by name."""

import contextlib
import dataclasses
import os
import stat

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.protocol.keys import (
    Role,
    ServerKey,
    add_client,
    read_client_key,
    read_clients,
    read_server_keys,
    revoke_client,
)

posix_only = pytest.mark.skipif(os.name != "posix", reason="rights of files are POSIX's")


@pytest.fixture
def folder(tmp_path):
    """With a source and a watcher."""
    add_client(tmp_path / "keys", "scanner", Role.SOURCE)
    add_client(tmp_path / "keys", "wall", Role.WATCH)
    return tmp_path / "keys"


def changed(path, old, new):
    """The file with another text in it."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_a_client_has_what_it_needs_and_the_server_knows_it(folder):
    keys = read_server_keys(folder)
    for name, role in (("scanner", Role.SOURCE), ("wall", Role.WATCH)):
        key = read_client_key(folder / f"{name}.key")
        assert (key.name, key.role, key.server) == (name, role, keys.own.public)
        assert zmq.curve_public(key.secret.encode()).decode() == key.public
        client = keys.clients[key.public]
        assert (client.name, client.role) == (name, role)
    assert zmq.curve_public(keys.own.secret.encode()).decode() == keys.own.public
    assert [client.name for client in read_clients(folder)] == ["scanner", "wall"]


def test_the_server_has_one_pair_and_every_client_another(folder):
    before = read_server_keys(folder)
    add_client(folder, "screen", Role.DISPLAY)
    after = read_server_keys(folder)
    assert after.own == before.own
    assert len(after.clients) == 3


@posix_only
def test_only_the_owner_can_open_what_is_written(folder):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@posix_only
@pytest.mark.parametrize(("file", "right"), [("scanner.key", "600"), ("server.key", "600"), (".", "700")])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_what_others_can_open_is_refused_with_the_line_that_mends_it(folder, file, right, mode):
    path = folder / file
    path.chmod(mode | 0o100 * path.is_dir())
    with pytest.raises(InputError, match=f"others can open it.*chmod {right} "):
        read_client_key(path) if file == "scanner.key" else read_server_keys(folder)
    path.chmod(int(right, 8))
    assert read_server_keys(folder)


def test_a_revoked_client_is_unknown(folder):
    revoke_client(folder, "wall")
    assert [client.name for client in read_server_keys(folder).clients.values()] == ["scanner"]
    assert not list(folder.glob("wall*"))
    with pytest.raises(InputError, match="no client 'wall'; there are: scanner"):
        revoke_client(folder, "wall")


@pytest.mark.parametrize("name", ["scanner", "Scanner"])
def test_a_name_is_given_once(folder, name):
    before = (folder / "scanner.key").read_text()
    with pytest.raises(InputError, match="there is a client"):
        add_client(folder, name, Role.WATCH)
    assert (folder / "scanner.key").read_text() == before


@pytest.mark.parametrize("name", ["", "server", "Server", "../up", "a/b", "-x", "x.y", "a" * 51, "a\n", 'a"', "ä"])
def test_a_name_that_makes_no_file_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="1 to 50 letters"):
        add_client(tmp_path / "keys", name, Role.WATCH)
    assert not (tmp_path / "keys").exists()


def test_no_folder_no_keys(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read.*rtgod keys new"):
        read_server_keys(tmp_path / "none")
    with pytest.raises(InputError, match=r"cannot be read.*rtgod keys new"):
        read_client_key(tmp_path / "none.key")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        add_client(tmp_path / "file", "scanner", Role.SOURCE)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("rtgod-key = 1", "rtgod-key = 2", "rtgod-key is 2; this version of rtgod reads 1"),
        ("rtgod-key = 1", "rtgod-key = true", "rtgod-key is True"),
        ("rtgod-key = 1", "", "not a key file"),
        ("rtgod-key = 1", "rtgod-key = ", "not a key file"),
        ("rtgod-key = 1", "x = " + "[" * 5000, "not a key file"),
        ("rtgod-key = 1", "rtgod-key = 1\nadmin = true", "no more and no less"),
        ('name = "scanner"', "", "no more and no less"),
        ('role = "source"', 'role = "owner"', "owner"),
        ('name = "scanner"', 'name = "server"', "1 to 50 letters"),
        ('name = "scanner"', "name = 3", "name"),
        ('public = "', 'public = "0', "not halves of one key"),
        ('secret = "', 'secret = "0', "40 characters of Z85"),
        ('server = "', 'server = "ü', "40 characters of Z85"),
    ],
)
def test_a_file_that_was_changed_is_refused_without_telling_the_secret(folder, old, new, why):
    secret = read_client_key(folder / "scanner.key").secret
    path = changed(folder / "scanner.key", old, new)
    with pytest.raises(InputError, match=why) as caught:
        read_client_key(path)
    assert str(path) in str(caught.value)
    assert secret not in str(caught.value)


def test_files_that_were_taken_for_another(folder):
    with pytest.raises(InputError, match=r"A client connects with its \.key"):
        read_client_key(folder / "scanner.pub")
    with pytest.raises(InputError, match=r"A client connects with its \.key"):
        read_client_key(folder / "server.key")
    public = folder / "wall.pub"
    public.rename(folder / "door.pub")
    with pytest.raises(InputError, match=r"is the key of 'wall'; rename it to wall\.pub"):
        read_server_keys(folder)
    changed(folder / "door.pub", '"wall"', '"door"')
    assert len(read_server_keys(folder).clients) == 2


def test_one_key_has_one_role(folder):
    twin = folder / "twin.pub"
    twin.write_text((folder / "wall.pub").read_text().replace('"wall"', '"twin"').replace('"watch"', '"source"'))
    with pytest.raises(InputError, match=r"twin\.pub and wall\.pub hold the same key"):
        read_server_keys(folder)


def test_secrets_are_not_shown(folder):
    keys, key = read_server_keys(folder), read_client_key(folder / "scanner.key")
    for shown in (f"{keys} {keys!r}", f"{key} {key!r}"):
        assert keys.own.secret not in shown
        assert key.secret not in shown


def test_a_pair_must_be_one():
    public, secret = (half.decode() for half in zmq.curve_keypair())
    assert ServerKey(public, secret).public == public
    with pytest.raises(ValueError, match="not halves"):
        ServerKey(secret, public)


@pytest.fixture(scope="module")
def a_key(tmp_path_factory):
    """A client's key file, and room for altered ones."""
    path = add_client(tmp_path_factory.mktemp("parsed") / "keys", "scanner", Role.SOURCE)
    return path.read_bytes(), path


@given(where=st.floats(0, 1), n_cut=st.integers(0, 60), put=st.binary(max_size=60) | st.text(max_size=30))
def test_whatever_is_in_a_file_it_is_a_key_or_refused(a_key, where, n_cut, put):
    whole, path = a_key
    start = round(where * len(whole))
    path.write_bytes(whole[:start] + (put if isinstance(put, bytes) else put.encode()) + whole[start + n_cut :])
    with contextlib.suppress(InputError):
        key = read_client_key(path)
        assert all(isinstance(value, str) for value in dataclasses.astuple(key))
        assert zmq.curve_public(key.secret.encode()).decode() == key.public


def test_a_byte_order_mark_changes_no_key(folder):
    before = read_server_keys(folder), read_client_key(folder / "wall.key")
    for path in folder.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert (read_server_keys(folder), read_client_key(folder / "wall.key")) == before
