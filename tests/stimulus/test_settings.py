"""A lab's settings: degrees, keys, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from stimulus.screens.texts import ENGLISH
from stimulus.settings import DisplaySettings, MonitorSettings


def read(tmp_path, text):
    path = tmp_path / "display.toml"
    path.write_text(text, encoding="utf-8")
    return DisplaySettings.from_toml(path)


@given(
    width_cm=st.floats(5, 200), distance_cm=st.floats(20, 300), width_px=st.integers(320, 8000), size=st.floats(0.1, 90)
)
def test_what_has_as_many_pixels_is_seen_under_the_angle(width_cm, distance_cm, width_px, size):
    monitor = MonitorSettings(width_cm=width_cm, distance_cm=distance_cm)
    length_cm = monitor.pixels(size, width_px) * width_cm / width_px
    assert math.degrees(2 * math.atan2(length_cm / 2, distance_cm)) == pytest.approx(size)


@pytest.mark.parametrize("known", [{}, {"width_cm": 32}, {"distance_cm": 60}])
def test_without_width_or_distance_a_degree_is_not_known(known):
    with pytest.raises(InputError, match=r"width_cm and distance_cm .*\[monitor\]"):
        MonitorSettings(**known).pixels(1.0, 800)


def test_what_a_file_leaves_out_keeps_its_default(tmp_path):
    settings = read(
        tmp_path, 'language = "ja"\n[monitor]\nscreen = 1\nsize_px = [1920, 1080]\n[feedback]\nview = "grid"\n'
    )
    assert settings.monitor == MonitorSettings(screen=1, size_px=(1920, 1080))
    assert settings.feedback.view == "grid"
    assert (
        settings.model_copy(
            update={"language": "en", "monitor": MonitorSettings(), "feedback": DisplaySettings().feedback}
        )
        == DisplaySettings()
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('language = "tlh"', "language"),
        ("[monitor]\nrotated_deg = 45", "rotated_deg"),
        ("[monitor]\nwidth_cm = 0", "width_cm"),
        ("[monitor]\nwidth_cm = inf", "width_cm"),
        ("[monitor]\nsize_px = [0, 600]", "size_px"),
        ("[monitor]\nsize_px = [800]", "size_px"),
        ("[monitor]\nscreen = -1", "screen"),
        ("[monitor]\nwidth_mm = 320", "width_mm"),
        ("image_deg = nan", "image_deg"),
        ('[feedback]\nview = "cloud"', "view"),
        ('[buttons]\nleft = "2"\nright = "2"', "'2' is left and right"),
        ('[buttons]\nstop = "3"', "'3' is stop and response"),
        ('[buttons]\nstop = "1"\nresponse = ["4"]', "'1' is stop and left"),
        ('[buttons]\nresponse = ["5"]', "'5' is the trigger and response"),
        ('[buttons]\nright = "t"', "'t' is the trigger and right"),
        ('[trigger]\nkeys = ["escape"]', "'escape' is the trigger and stop"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        '[buttons]\nresponse = ["1", "2"]\nleft = "1"\nright = "2"',
        '[trigger]\nkind = "emulated"\nkeys = ["1"]',
        '[buttons]\nresponse = []',
        '[buttons]\nresponse = ["b", "b"]',
    ],
)  # fmt: skip
def test_keys_that_do_not_meet_are_taken(tmp_path, text):
    assert read(tmp_path, text).buttons.stop == "escape"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ("button 1", "button 2")),
        ('left = "left"\nright = "right"', ("button left", "button right")),
        ('left_name = "thumb"', ("thumb", "button 2")),
    ],
)
def test_the_participant_reads_what_the_buttons_are_called(tmp_path, text, names):
    buttons = read(tmp_path, f"[buttons]\n{text}").buttons
    assert buttons.names(ENGLISH.button) == names
    shown = ENGLISH.buttons.format(*names)
    assert f"{names[0]}: left" in shown
    assert f"{names[1]}: right" in shown
