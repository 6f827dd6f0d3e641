"""What glides from one scene to the next, and what does not."""

from __future__ import annotations

import pytest

from stimulus.screens.scene import Choice, Picture, Scene, Thermometer
from stimulus.screens.screen import EASE_S, Easing, RankedRow

ROWS = (RankedRow("owl", 1.0), RankedRow("bat", 0.4))
EVERYTHING = Scene(
    ROWS, "caption", title="title", lines=("line",), pictures=(Picture("a.png", 3.0),),
    thermometer=Thermometer(0.7, "owl"), choice=Choice(("a", "b"), 1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("scene", "moving"),
    [
        (Scene(), ()),
        (Scene(ROWS), (1.0, 0.4)),
        (Scene(thermometer=Thermometer(0.7)), (0.7,)),
        (EVERYTHING, (1.0, 0.4, 0.7)),
    ],
)
def test_bars_and_the_level_move_and_nothing_else(scene, moving):
    assert scene.moving == moving
    assert scene.moved(moving) == scene
    halves = tuple(number / 2 for number in moving)
    moved = scene.moved(halves)
    assert moved.moving == halves
    assert moved.moved(moving) == scene
    with pytest.raises(ValueError, match="zip"):
        scene.moved((*moving, 0.1))


def test_a_level_glides_to_the_next_without_a_jump():
    easing = Easing()
    easing.aim(Scene(thermometer=Thermometer(0.8)), 0.0)
    easing.aim(Scene(thermometer=Thermometer(0.2), caption="not sure yet"), 1.0)
    levels = [easing.at(1.0 + share * EASE_S).thermometer.level for share in (0, 0.01, 0.5, 1)]
    assert levels[0] == pytest.approx(0.8)
    assert levels[0] - levels[1] < 0.05
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == 0.2


def test_equal_scenes_are_the_same_picture():
    assert Scene(ROWS, title="a") == Scene(ROWS, title="a") != Scene(ROWS, title="b")
    assert len({EVERYTHING, EVERYTHING.moved((1.0, 0.4, 0.7))}) == 1
