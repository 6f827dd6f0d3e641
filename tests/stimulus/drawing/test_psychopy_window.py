"""How names are set, and one real PsychoPy window under Xvfb."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from rtgod.errors import MissingDependencyError
from stimulus.drawing import psychopy_window, xvfb
from stimulus.screens.colours import BACKGROUND, BEST_BAR, BRIGHT, OTHER_BAR, TRACK
from stimulus.screens.typesetting import typeset

HEIGHTS_PX = (40, 30, 20)

needs_xvfb = pytest.mark.skipif(not xvfb.installed(), reason="Xvfb is not installed")
needs_psychopy = pytest.mark.skipif(find_spec("psychopy") is None, reason="PsychoPy is not installed")


def length_px(text: str, height_px: int) -> float:
    return 0.5 * height_px * len(text)


@pytest.mark.parametrize(
    ("name", "height_px", "lines"),
    [
        ("duck", 40, ("duck",)),
        ("a" * 15, 40, ("a" * 15,)),
        ("a" * 16, 30, ("a" * 16,)),
        ("striped teapot with long legs", 20, ("striped teapot with long legs",)),
        ("striped teapot with longer legs", 20, ("striped teapot", "with longer legs")),
        ("a" * 40, 20, ("a" * 29 + "…",)),
        ("an " + "a" * 40, 20, ("an", "a" * 29 + "…")),
        ("one two three four five six seven eight nine", 20, ("one two three four five", "six seven eight nine")),
        ("b" * 20 + " " + "c" * 20 + ", " + "d" * 20, 20, ("b" * 20, "c" * 20 + ", " + "d" * 7 + "…")),
    ],
)  # fmt: skip
def test_names_are_as_large_as_their_length_allows(name, height_px, lines):
    assert typeset(name, 300, HEIGHTS_PX, length_px) == (height_px, lines)


@needs_xvfb
def test_xvfb_starts_on_a_free_display_and_goes():
    with xvfb.private_xvfb(320, 200) as first, xvfb.private_xvfb(320, 200) as second:
        assert first != second
        sockets = [Path(f"/tmp/.X11-unix/X{display[1:]}") for display in (first, second)]  # noqa: S108 - X11's own place
        assert all(socket.exists() for socket in sockets)
    assert not any(socket.exists() for socket in sockets)


@needs_xvfb
def test_only_this_process_is_pointed_at_it(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":before")
    monkeypatch.delenv("LIBGL_ALWAYS_SOFTWARE", raising=False)
    with xvfb.offscreen(320, 200):
        assert os.environ["DISPLAY"] != ":before"
        assert os.environ["LIBGL_ALWAYS_SOFTWARE"] == "1"
    assert os.environ["DISPLAY"] == ":before"
    assert "LIBGL_ALWAYS_SOFTWARE" not in os.environ


# A process of its own: PsychoPy warns when it is imported, and keeps a connection to the X server as long as it lives.
DRAW = """
import sys
from pathlib import Path
from rtgod.errors import MissingDependencyError
from stimulus.drawing import xvfb
from stimulus.screens.screen import RankedRow, Screen
from stimulus.drawing.psychopy_window import PsychopyWindow

long = "a name too long for its line " * 5
ranking = Screen(rows=(RankedRow("goldfish", 1.0), RankedRow(long, 0.5), RankedRow("duck", 0.1)))
with xvfb.offscreen(800, 600):
    window = PsychopyWindow((800, 600), wait_blanking=False, framed=False)
    from pyglet.window import key  # pyglet connects to the X server already here
    window.draw(Screen(message="one moment"))
    window.save_png(Path(sys.argv[1]), ranking)
    assert not window.keys_pressed_to_quit()
    window._window.winHandle.dispatch_event("on_key_press", key.T, 0)  # a scanner's trigger
    assert not window.keys_pressed_to_quit()
    window._window.winHandle.dispatch_event("on_key_press", key.ESCAPE, 0)
    assert window.keys_pressed_to_quit()
    assert window.draw(ranking) > 1e9
    window.close()
assert not {"psychopy.sound", "sounddevice", "psychtoolbox.audio"} & set(sys.modules)
"""


@needs_xvfb
@needs_psychopy
def test_bars_are_drawn_where_they_should_be(tmp_path):
    import numpy as np
    from PIL import Image, ImageColor

    path = tmp_path / "ranking.png"
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    drawn = subprocess.run(
        [sys.executable, "-c", DRAW, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout + drawn.stderr == ""

    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert pixels.shape == (600, 800, 3)

    def where(colour: str) -> tuple[np.ndarray, np.ndarray]:
        return np.nonzero(np.abs(pixels - ImageColor.getrgb(colour)).max(axis=-1) <= 2)

    full_px, left_px = 0.42 * 800, 0.53 * 800
    rows, columns = where(BEST_BAR)
    assert columns.min() == pytest.approx(left_px, abs=2)
    assert np.ptp(columns) == pytest.approx(full_px, abs=3)
    others, other_columns = where(OTHER_BAR)
    assert others.min() > rows.max(), "the best category is on top"
    lengths = [np.ptp(other_columns[others == row]) for row in (others.min() + 5, others.max() - 5)]
    assert lengths == pytest.approx([0.5 * full_px, 0.1 * full_px], abs=3)
    assert where(TRACK)[1].max() == pytest.approx(left_px + full_px, abs=3)

    names = np.abs(pixels[:, : int(0.47 * 800)] - ImageColor.getrgb(BACKGROUND)).max(axis=-1) > 60
    assert names.any()
    assert np.nonzero(names)[1].min() >= 4, "no name is cut by the edge"
    gutter = np.abs(pixels[:, int(0.475 * 800) : int(0.525 * 800)] - ImageColor.getrgb(BACKGROUND)).max(axis=-1) > 60
    fixation = np.argwhere(gutter).mean(axis=0)
    assert fixation == pytest.approx([299.5, 0.025 * 800], abs=2), "the fixation is in the centre, and alone there"
    assert len(where(BRIGHT)[0]) > 0


@pytest.mark.parametrize(
    "error", [ImportError('Library "GLU" not found.'), type("ContextException", (Exception,), {})()]
)
def test_without_opengl_the_packages_are_named(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(psychopy_window, "_import_psychopy", fail)
    with pytest.raises(MissingDependencyError, match=r"apt-get install xvfb .*libglu1-mesa"):
        psychopy_window.PsychopyWindow()
