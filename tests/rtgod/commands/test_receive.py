"""`rtgod receive`: what a protocol cannot do is refused before anything is listened to."""

import re
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from rtgod.commands.main import make_app
from rtgod.errors import InputError


class Stopped:
    """A command that is stopped at once."""

    def __call__(self):
        return True

    def is_hurried(self):
        return False


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--protocol", "pyneal", "--corrected"], "--corrected: Pyneal's protocol does not tell"),
        (["--protocol", "afni", "--corrected"], "--corrected: AFNI's protocol does not tell"),
        (["--protocol", "pyneal", "--echo", "2"], "--echo: images of pyneal do not say"),
        (["--protocol", "vsend", "--echo", "2"], "--echo: images of vsend do not say"),
        (["--protocol", "siemens-tcp", "--echo", "2"], "--echo: images of siemens-tcp do not say"),
        (["--protocol", "siemens-tcp", "--tls-key", "key"], "--tls-key, --tls-authority: for DICOM"),
        (["--protocol", "pyneal", "--geometry", "x.dcm"], "--geometry: for siemens-tcp"),
        (["--geometry", "x.dcm"], "--geometry: for siemens-tcp"),
        (["--listen", "127.0.0.1"], "write HOST:PORT"),
        (["--protocol", "pyneal", "--listen", "127.0.0.1:5555"], "the server itself listens there"),
        (["--protocol", "pyneal", "--listen", "localhost:5555"], "the server itself listens there"),
        (["--protocol", "pyneal", "--listen", "0.0.0.0:5555"], "the server itself listens there"),
        (["--protocol", "afni", "--listen", "[::1]:7", "--to", "tcp://[::1]:7"], "the server itself listens there"),
        (["--protocol", "pyneal", "--listen", "0.0.0.0:5556"], "name with --allow which networks"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(monkeypatch, arguments, says):
    monkeypatch.setattr("rtgod.commands.watch._Stopped", Stopped)
    result = CliRunner().invoke(make_app("receive"), ["receive", *arguments])
    assert isinstance(result.exception, InputError)
    assert says in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [["--protocol", "pyneal", "--listen", "127.0.0.1:5555", "--to", "tcp://127.0.0.1:5999"], ["--protocol", "pyneal"]],
    ids=["the server elsewhere", "defaults"],
)
def test_what_makes_sense_is_listened_for(monkeypatch, arguments):
    """Where it is told to, or by default where no server listens; whether a port is free here is no part of it."""
    told = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr("rtgod.commands.watch._Stopped", Stopped)
        monkeypatch.setattr("rtgod.commands.watch._tell", told.append)
        monkeypatch.setattr("rtgod.receivers.listening.Listening.open", lambda *_: listener)
        result = CliRunner().invoke(make_app("receive"), ["receive", *arguments])
    assert result.exception is None
    assert told[0].startswith("listens for")
    assert told[1].startswith("the server does not answer, and how its bundle counts volumes")
    assert told[2:] == ["0 volumes sent"]


def test_a_scanner_that_does_not_say_where_its_slices_lie_needs_a_file_of_them():
    command = [sys.executable, "-m", "rtgod", "receive", "--protocol", "siemens-tcp", "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "give --geometry" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--protocol", "vsend", "--events", "nowhere.tsv"], "nowhere.tsv"),
        (["--protocol", "vsend", "--allow", "192.168.2.1/8"], "--allow: .*has host bits set"),
        (["--protocol", "siemens-tcp"], "give --geometry"),
        (["--protocol", "vsend", "--listen", "127.0.0.1:{taken}"], "cannot listen there"),
        (["--listen", "127.0.0.1:{taken}"], "cannot listen there"),
    ],
)  # fmt: skip
def test_its_own_mistakes_come_before_those_of_a_server_that_does_not_answer(monkeypatch, arguments, says):
    told, asked = [], []
    monkeypatch.setattr("rtgod.commands.watch._Stopped", Stopped)
    monkeypatch.setattr("rtgod.commands.watch._tell", told.append)
    monkeypatch.setattr("rtgod.protocol.clients.Sender.ask_rules", lambda _: asked.append(1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = CliRunner().invoke(make_app("receive"), ["receive", *(one.format(taken=port) for one in arguments)])
    assert isinstance(result.exception, InputError)
    assert re.search(says, str(result.exception))
    assert (told, asked) == ([], [])
