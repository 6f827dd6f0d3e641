"""`rtgod receive`: what a protocol cannot do is refused before anything is listened to."""

import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from rtgod.commands.main import make_app
from rtgod.commands.watch import _with_events
from rtgod.errors import InputError, ServerError
from rtgod.receivers.run_options import RunOptions


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
    monkeypatch.setattr("rtgod.commands.watch._stop_on_signals", lambda: lambda: True)
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
        monkeypatch.setattr("rtgod.commands.watch._stop_on_signals", lambda: lambda: True)
        monkeypatch.setattr("rtgod.commands.watch._tell", told.append)
        monkeypatch.setattr("rtgod.receivers.listening.Listening.open", lambda *_: listener)
        result = CliRunner().invoke(make_app("receive"), ["receive", *arguments])
    assert result.exception is None
    assert [line.split()[0] for line in told[-2:]] == ["listens", "0"]


def test_a_scanner_that_does_not_say_where_its_slices_lie_needs_a_file_of_them():
    command = [sys.executable, "-m", "rtgod", "receive", "--protocol", "siemens-tcp", "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "give --geometry" in done.stderr


def test_a_server_that_does_not_answer_is_asked_for_its_rules_again_when_a_run_begins(monkeypatch):
    told, answers = [], [ServerError("no answer"), ServerError("no answer"), {"discard_volumes": 2}]

    class Away:
        def ask_rules(self):
            answer = answers.pop(0)
            if isinstance(answer, ServerError):
                raise answer
            return answer

    monkeypatch.setattr("rtgod.commands.watch._tell", told.append)
    options = _with_events(RunOptions(), Away(), None, {})
    assert "asked for again when a run begins" in told[0]
    options = options.renewed()
    assert (options.rules.discard_volumes, "usual rules" in told[-1]) == (0, True)
    options = options.renewed()
    assert options.rules.discard_volumes == 2
    assert options.renewed() is options
    assert answers == []
