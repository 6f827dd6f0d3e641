"""A preview without a window: the same pixels as a window's, and nothing that would open one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from rtgod.errors import InputError, MissingDependencyError
from stimulus.drawing import xvfb
from stimulus.drawing.raster import PreviewStage, RasterCanvas
from stimulus.screens.colours import BACKGROUND, BEST_BAR, TRACK
from stimulus.screens.scene import Scene, Thermometer
from stimulus.settings import MonitorSettings

pytestmark = pytest.mark.skipif(find_spec("psychopy") is None, reason="PsychoPy, whose font is used, is not installed")
REPOSITORY = Path(__file__).parents[3]
MONITOR = {"width_cm": 32, "distance_cm": 60}

BOTH = """
import json, sys
from pathlib import Path
from stimulus.drawing import xvfb
from stimulus.screens.feedback import _GRID
from stimulus.drawing.raster import PreviewStage
from stimulus.screens.scene import Choice, Picture, Scene, Thermometer
from stimulus.settings import MonitorSettings
from stimulus.drawing.psychopy_stage import PsychopyStage
from stimulus.screens.screen import RankedRow

folder = Path(sys.argv[1])
image = str(folder / "image.png")
rows = tuple(RankedRow(f"category {n}", 1 - n / 12) for n in range(10))
places = [(image if n % 2 else "", 5 * x, 4 * y) for n, (x, y) in enumerate(_GRID)]
tiles = tuple(Picture(file, 3.0, x, y, f"picture {x} {y}", 0.45) for file, x, y in places)
scenes = {
    "image": Scene(pictures=(Picture(image, 12.0),)),
    "list": Scene(rows, caption="not sure yet", strength=0.45),
    "scores": Scene(rows[:3], bars_are_chances=False),
    "grid": Scene(pictures=tiles),
    "thermometer": Scene(thermometer=Thermometer(0.75, "how close", ("low", "middle", "high"))),
    "question": Scene(title="How vivid was it?", choice=Choice(("not\\nat all", "a little", "very"), 1, "help")),
    "instructions": Scene(lines=("Look at the point in the middle.", "Press the button."), message="waiting"),
}
setups = {
    "plain": {"size_px": (800, 600)},
    "odd": {"size_px": (641, 481)},
    "high": {"size_px": (600, 800)},
    "turned": {"size_px": (800, 600), "rotated_deg": 90, "mirrored": True},
}
with xvfb.offscreen(900, 900):
    for name, setup in setups.items():
        monitor = MonitorSettings(width_cm=32, distance_cm=60, **setup)
        for kind, stage in (
            ("window", PsychopyStage(monitor, off_screen=True, tones=False)), ("preview", PreviewStage(monitor))
        ):
            stage.load([image], 12.0, [image], [])
            for scene in scenes:
                stage.save_png(folder / f"{name}_{scene}_{kind}.png", scenes[scene])
            stage.close()
print(json.dumps([list(setups), list(scenes)]))
"""


@pytest.mark.skipif(not xvfb.installed(), reason="Xvfb is not installed")
def test_every_screen_has_a_windows_pixels(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(noise).resize((360, 270), Image.Resampling.BICUBIC).save(tmp_path / "image.png")
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    done = subprocess.run(
        [sys.executable, "-c", BOTH, str(tmp_path)],
        env=environment | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    setups, scenes = json.loads(done.stdout)
    for setup in setups:
        for scene in scenes:
            files = [tmp_path / f"{setup}_{scene}_{kind}.png" for kind in ("window", "preview")]
            window, preview = (np.asarray(Image.open(file).convert("RGB")).astype(int) for file in files)
            assert np.ptp(window) > 100
            # Of a share of two colours, one may be rounded up and the other down.
            np.testing.assert_allclose(preview, window, atol=1, err_msg=f"{setup} {scene}")


def test_a_preview_opens_nothing(tmp_path):
    code = """
import sys
from pathlib import Path
from stimulus.drawing.raster import PreviewStage
from stimulus.screens.scene import Scene
from stimulus.settings import MonitorSettings
PreviewStage(MonitorSettings(width_cm=32, distance_cm=60)).save_png(Path(sys.argv[1]), Scene(title="owl"))
print(sorted({"pyglet.window", "psychopy.visual", "psychopy.event", "torch"} & set(sys.modules)))
"""
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.png")],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (1280, 800)


def test_a_rectangle_covers_its_pixels_and_what_lies_outside_is_cut():
    canvas = RasterCanvas(10, 8)
    canvas.rectangle(-2, 1, 4, 2, "#ff0000", align="left")
    red = (canvas.pixels == (255, 0, 0)).all(axis=-1)
    assert np.argwhere(red).min(axis=0).tolist() == [2, 3]
    assert np.argwhere(red).max(axis=0).tolist() == [3, 6]
    canvas.rectangle(100, 0, 5, 5, "#00ff00")
    canvas.rectangle(0, 0, 100, 2, "#0000ff")
    assert not (canvas.pixels == (0, 255, 0)).all(axis=-1).any()
    assert (canvas.pixels == (0, 0, 255)).all(axis=-1).sum() == 20
    canvas.begin()
    assert (canvas.pixels == ImageColor.getrgb(BACKGROUND)).all()


def test_a_thermometer_is_filled_to_its_level(tmp_path):
    stage = PreviewStage(MonitorSettings(**MONITOR, size_px=(800, 600)))
    stage.save_png(tmp_path / "x.png", Scene(thermometer=Thermometer(0.25), show_fixation=False))
    column = np.asarray(Image.open(tmp_path / "x.png"))[:, 400]
    filled, empty = ((column == ImageColor.getrgb(colour)).all(axis=-1).sum() for colour in (BEST_BAR, TRACK))
    assert filled / (filled + empty) == pytest.approx(0.25, abs=0.01)


def test_what_is_missing_is_named(monkeypatch):
    with pytest.raises(InputError, match="width_cm and distance_cm"):
        PreviewStage(MonitorSettings())
    monkeypatch.setattr("stimulus.drawing.raster.find_spec", lambda name: None)  # noqa: ARG005 # nothing is installed
    with pytest.raises(MissingDependencyError, match=r"rtgod\[display\].*font_file"):
        PreviewStage(MonitorSettings(**MONITOR))
