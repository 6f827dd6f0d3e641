"""One real window with pictures under Xvfb."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from stimulus.drawing import xvfb

SCRIPT = """
import sys
from pathlib import Path
from stimulus.drawing.backends import Backend, opened
from stimulus.screens.scene import Picture, Scene

files = sys.argv[1:3]
places = [Picture(files[0], 4.6, -3.6, 3.3, "red"), Picture(files[1], 4.6, 3.6, -3.3, "blue")]
with opened(Backend.OFFSCREEN, full_screen=False, screen=0, pictures=files[:1]) as window:
    window.draw(Scene(pictures=tuple(places)))
    window.save_png(Path(sys.argv[3]), Scene(pictures=tuple(places)))
"""


@pytest.mark.skipif(not xvfb.installed() or find_spec("psychopy") is None, reason="Xvfb or PsychoPy is not installed")
def test_pictures_read_beforehand_and_when_shown_lie_where_the_scene_has_them(tmp_path):
    files = []
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        files.append(str(tmp_path / f"{name}.png"))
        Image.new("RGB", (40, 40), colour).save(files[-1])
    out = tmp_path / "out.png"
    subprocess.run([sys.executable, "-c", SCRIPT, *files, str(out)], check=True, timeout=120)
    pixels = np.asarray(Image.open(out).convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    for colour, (row, column) in (((255, 0, 0), (-1, -1)), ((0, 0, 255), (1, 1))):
        rows, columns = np.nonzero(np.abs(pixels - colour).sum(axis=2) < 6)
        degree_px = min(width / 17, height / 14)
        assert rows.mean() - height / 2 == pytest.approx(3.3 * row * degree_px, abs=2)
        assert columns.mean() - width / 2 == pytest.approx(3.6 * column * degree_px, abs=2)
        assert len(rows) == pytest.approx((4.6 * degree_px) ** 2, rel=0.05)
