"""When the next picture will be seen: in step with the flips before."""

from __future__ import annotations

import pytest

from stimulus.flips import Flips

FRAME_S = 0.02


def started(at_s=1.0):
    flips = Flips(FRAME_S)
    flips.flipped(at_s, 0.9)  # whatever was foretold: nothing was known yet
    return flips


def test_the_next_refresh_for_which_there_is_time():
    flips = started()
    assert flips.lead_s == pytest.approx(0.012)
    assert flips.next_s(1.0) == pytest.approx(1.02)
    assert flips.next_s(1.008) == pytest.approx(1.02)
    assert flips.next_s(1.0099) == pytest.approx(1.02)  # a tenth of a frame is hoped to be saved
    assert flips.next_s(1.0101) == pytest.approx(1.04)
    assert flips.next_s(3.001) == pytest.approx(3.02)


def test_refreshes_that_pass_are_counted():
    flips = started()
    for n in range(1, 30):
        flips.skipped(1.0 + n * FRAME_S)
    assert flips.next_s(1.58) == pytest.approx(1.6)


@pytest.mark.parametrize(("frame_s", "most_s"), [(1 / 60, 0.014), (1 / 120, 0.97 / 120)])
def test_a_refresh_that_was_missed_lets_the_next_begin_earlier_but_never_a_frame_before(frame_s, most_s):
    flips = Flips(frame_s)
    flips.flipped(1.0, 0.9)
    flips.flipped(1.0 + 2 * frame_s, 1.0 + frame_s)
    assert flips.lead_s == pytest.approx(min(0.85 * frame_s, most_s))
    for n in range(2, 8):
        flips.flipped(1.0 + 2 * n * frame_s, 1.0 + (2 * n - 1) * frame_s)
    assert flips.lead_s == pytest.approx(most_s)
    assert flips.next_s(1.0 + 14 * frame_s) == pytest.approx(1.0 + 15 * frame_s)


def test_a_picture_that_is_shown_when_it_is_ready_teaches_how_long_it_took():
    flips = started()
    flips.flipped(1.024, 1.02)
    assert flips.lead_s == pytest.approx(0.014)  # and no more
    quick = Flips(FRAME_S / 2)
    quick.flipped(1.0, 0.9)
    quick.flipped(1.012, 1.01)
    assert quick.lead_s == pytest.approx(0.008)


def test_what_clocks_and_monitors_are_off_by_changes_nothing():
    flips = started()
    for n in range(1, 1000):
        flips.flipped(1.0 + n * 1.001 * FRAME_S + 0.0005 * (-1) ** n, 1.0 + n * FRAME_S * 1.001)
    assert flips.lead_s == pytest.approx(0.012)
