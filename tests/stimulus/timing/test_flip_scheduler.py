"""When the next picture will be seen: in step with the flips before."""

from __future__ import annotations

import pytest

from stimulus.timing.flip_scheduler import FlipScheduler

FRAME_S = 0.02


def started(at_s=1.0):
    flips = FlipScheduler(FRAME_S)
    flips.flipped(at_s, 0.001)
    return flips


def test_the_next_refresh_for_which_there_is_time():
    flips = started()
    assert flips.lead_s == pytest.approx(0.012)
    assert flips.next_s(1.0) == pytest.approx(1.02)
    assert flips.next_s(1.008) == pytest.approx(1.02)
    assert flips.next_s(1.0099) == pytest.approx(1.02)  # a tenth of a frame is hoped to be saved
    assert flips.next_s(1.0101) == pytest.approx(1.04)
    assert flips.next_s(3.001) == pytest.approx(3.02)


def test_before_any_flip_it_is_as_soon_as_can_be():
    assert FlipScheduler(FRAME_S).next_s(5.0) == pytest.approx(5.012)


def test_a_picture_that_is_begun_late_may_yet_be_in_time():
    flips = FlipScheduler(FRAME_S)
    assert flips.still_s(5.012, 5.0) == flips.still_s(5.012, 5.012) == pytest.approx(5.012)
    for n in range(-100, 1):
        flips.flipped(1.0 + n * FRAME_S, 0.5 if n == -40 else 0.004)  # what was held up once is not usual
    assert flips.still_s(1.02, 1.008) == pytest.approx(1.02)
    assert flips.still_s(1.02, 1.0179) == pytest.approx(1.02)  # with 4 ms to draw, and a tenth of a frame of hope
    assert flips.still_s(1.02, 1.0181) == pytest.approx(1.04)
    assert flips.still_s(1.04, 1.0) == pytest.approx(1.04)


def test_refreshes_that_pass_are_counted():
    flips = started()
    for n in range(1, 30):
        flips.skipped(1.0 + n * FRAME_S)
    assert flips.next_s(1.58) == pytest.approx(1.6)


@pytest.mark.parametrize(("frame_s", "most_s"), [(1 / 60, 0.014), (1 / 120, 0.97 / 120)])
def test_slow_drawing_is_begun_earlier_but_never_a_frame_before(frame_s, most_s):
    flips = FlipScheduler(frame_s)
    flips.flipped(1.0, 0.95 * frame_s)
    assert flips.lead_s == pytest.approx(most_s)
    assert flips.next_s(1.0) == pytest.approx(1.0 + frame_s)


def test_what_once_took_long_is_forgotten_slowly():
    flips = started()
    flips.flipped(2.0, 0.009)
    leads = [flips.lead_s]
    for n in range(1, 100):
        flips.flipped(2.0 + n * FRAME_S, 0.001)
        leads.append(flips.lead_s)
    assert leads[0] == pytest.approx(min(1.25 * 0.009 + 0.003, 0.014))
    assert leads == sorted(leads, reverse=True)
    assert leads[10] > 0.012
    assert leads[-1] == pytest.approx(0.012)


def test_a_flip_that_comes_late_is_no_slow_drawing():
    flips = started()
    flips.flipped(1.039, 0.002)
    assert flips.lead_s == pytest.approx(0.012)
    assert flips.next_s(1.04) == pytest.approx(1.059)


def test_steady_ones_are_begun_as_early_as_any_however_long_drawing_takes():
    flips = FlipScheduler(FRAME_S, steady=True)
    for n in range(50):
        flips.flipped(1.0 + n * FRAME_S, 0.018 if n % 2 else 0.001)
        assert flips.lead_s == 0.014
        assert flips.still_s(2.0, 1.999) == FlipScheduler(FRAME_S).still_s(2.0, 1.999)
