"""Choosing a backend, and what the command does before anything is opened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rtgod.errors import InputError, MissingDependencyError
from stimulus.commands.display import display
from stimulus.drawing import psychopy_window, xvfb
from stimulus.drawing.backends import Backend, choose_backend

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("environment", "platform", "xvfb_installed", "expected"),
    [
        ({"DISPLAY": ":0"}, "linux", True, Backend.WINDOW),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", False, Backend.WINDOW),
        ({}, "darwin", False, Backend.WINDOW),
        ({}, "win32", False, Backend.WINDOW),
        ({"DISPLAY": ""}, "linux", True, Backend.OFFSCREEN),
        ({}, "linux", False, Backend.TERMINAL),
    ],
)
def test_auto_takes_the_first_that_is_there(environment, platform, xvfb_installed, expected):
    chosen, why = choose_backend(Backend.AUTO, environment, platform, xvfb_installed=xvfb_installed)
    assert chosen is expected
    assert why


@pytest.mark.parametrize("wanted", [backend for backend in Backend if backend is not Backend.AUTO])
def test_what_was_asked_for_is_taken(wanted):
    assert choose_backend(wanted, {"DISPLAY": ":0"}, "linux", xvfb_installed=True) == (wanted, "as asked")


def invoke(*arguments):
    app = typer.Typer()
    app.command("display")(display)
    return CliRunner().invoke(app, list(arguments))


def test_help_names_every_option():
    result = invoke("--help")
    assert result.exit_code == 0
    for option in ("--from", "--backend", "--full-screen", "--screen", "--screenshot", "--log", "--stop-after-runs"):
        assert option in result.output


def test_a_terminal_takes_no_screenshot(tmp_path):
    result = invoke("--backend", "terminal", "--screenshot", str(tmp_path / "x.png"))
    assert isinstance(result.exception, InputError)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--pictures", "mine"), "--pictures and --bundle go together"),
        (("--bundle", "bundle"), "--pictures and --bundle go together"),
        (("--bundle", "bundle", "--pictures", "mine", "--backend", "terminal"), "a terminal draws none"),
        (("--bundle", "bare", "--pictures", "mine"), "has no pictures; calibrate with --pictures"),
        (("--bundle", "bundle", "--pictures", "mine"), "a/lost.png missing, of the 2 that the decoder may name"),
        (("--bundle", "bundle", "--pictures", "nowhere"), "no such folder"),
    ],
)
def test_pictures_that_cannot_be_shown_are_refused_at_start(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    header = {"rtgod_bundle": 3, "sha256": "ab" * 32, "candidates": [["a", "a"], ["b", "b"]]}
    for name, pictures in (("bare", None), ("bundle", {"names": ["there.png", "a/lost.png"]})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bundle.json").write_text(json.dumps(header | {"pictures": pictures}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "there.png").write_bytes(b"no image is read before all are there")
    result = invoke("--backend", "offscreen", *arguments)
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)


def test_without_psychopy_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(psychopy_window, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"python -m pip install 'rtgod\[display\]'"):
        psychopy_window.PsychopyWindow()


def test_without_xvfb_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(xvfb.shutil, "which", lambda _: None)
    with pytest.raises(MissingDependencyError, match="Xvfb"), xvfb.private_xvfb(320, 200):
        pass


def test_an_xvfb_that_cannot_start_says_why(monkeypatch, tmp_path):
    broken = tmp_path / "Xvfb"
    broken.write_text("#!/bin/sh\necho 'no memory for a screen' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(xvfb.shutil, "which", lambda _: str(broken))
    with pytest.raises(MissingDependencyError, match="no memory for a screen"), xvfb.private_xvfb(320, 200):
        pass


def test_an_xvfb_that_says_nothing_is_not_waited_for_forever(monkeypatch, tmp_path):
    silent = tmp_path / "Xvfb"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr(xvfb.shutil, "which", lambda _: str(silent))
    monkeypatch.setattr(xvfb, "START_S", 0.05)
    with pytest.raises(MissingDependencyError, match="did not start"), xvfb.private_xvfb(320, 200):
        pass


def test_importing_the_command_is_light():
    code = (
        "import sys; import stimulus.commands.display; "
        "heavy = {'psychopy', 'pyglet', 'zmq', 'torch', 'numba', 'sklearn', 'rtgod.pipeline', 'calibration'}; "
        "sys.exit(' '.join(heavy & set(sys.modules)) or None)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
