"""Contrasts, computed as WCAG 2.2 defines them."""

from __future__ import annotations

import pytest

from stimulus.screens.colours import BACKGROUND, BEST_BAR, BRIGHT, OTHER_BAR, PALE, PLAIN, QUIET, TRACK, faded, mixed

STRENGTHS = (0.0, 0.45, 0.7, 1.0)


def luminance(colour):
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def rgb(colour):
    return [byte / 255 for byte in bytes.fromhex(colour[1:])]


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_black_on_white_has_the_contrast_that_the_standard_says():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("colour", [BRIGHT, PLAIN, QUIET])
def test_every_word_can_be_read_however_unsure(colour, strength):
    assert contrast(faded(colour, strength), BACKGROUND) >= 4.5


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("colour", [BEST_BAR, OTHER_BAR])
def test_every_bar_can_be_told_from_its_track_and_from_the_background(colour, strength):
    assert contrast(faded(colour, strength), TRACK) >= 3
    assert contrast(faded(colour, strength), BACKGROUND) >= 3


def test_what_is_not_sure_loses_its_colour():
    def saturation(colour):
        return max(rgb(colour)) - min(rgb(colour))

    for colour in (BEST_BAR, OTHER_BAR):
        saturations = [saturation(faded(colour, strength)) for strength in STRENGTHS]
        assert saturations == sorted(saturations)
        assert saturations[1] < 0.6 * saturations[-1]
    assert faded(BRIGHT, 0) == PALE
    assert faded(BRIGHT, 1) == BRIGHT
    assert mixed("#000000", "#ffffff", 0.5) == "#808080"


def test_the_best_is_the_brightest():
    assert luminance(BEST_BAR) > luminance(OTHER_BAR)
