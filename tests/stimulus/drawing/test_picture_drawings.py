"""Drawings of pictures: read beforehand or when shown, and never the end of a run."""

import numpy as np
import pytest
from PIL import Image

from rtgod.errors import InputError
from stimulus.drawing import picture_drawings
from stimulus.drawing.picture_drawings import PictureDrawings, beforehand


@pytest.fixture
def red(tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 20), (255, 0, 0)).save(path)
    return str(path)


def same(drawing, other):
    return np.array_equal(drawing.pixels, other.pixels)


def test_one_that_was_not_read_beforehand_is_the_same_when_it_is_shown(red):
    assert same(PictureDrawings([red])[red], PictureDrawings()[red])


def test_one_that_has_gone_since_is_grey_and_said(tmp_path, caplog):
    gone = PictureDrawings()[str(tmp_path / "gone.png")]
    assert len(np.unique(gone.pixels)) == 1
    assert "gone.png" in caplog.text
    with pytest.raises(InputError, match=r"gone\.png"):
        PictureDrawings([str(tmp_path / "gone.png")])


def test_too_many_are_read_as_they_are_shown_and_it_is_said(monkeypatch):
    monkeypatch.setattr(picture_drawings, "MOST_BEFOREHAND", 2)
    assert beforehand(["a", "b"]) == (["a", "b"], "")
    chosen, line = beforehand(["a", "b", "c"])
    assert chosen == []
    assert "3 pictures are read as they are shown" in line
