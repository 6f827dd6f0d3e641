import numpy as np
import pytest
from scipy import signal, stats

from rtgod.preprocessing.hrf import LASTS_S, block_response
from tests import naive

CANONICAL = (5, 15, 1 / 6)


@pytest.mark.parametrize("duration_s", [3.0, 9.0, 15.0])
@pytest.mark.parametrize(("peak_s", "undershoot_s", "ratio"), [CANONICAL, (6, 12, 0.35), (4, 15, 0.0)])
def test_it_is_the_convolution_of_the_block_with_the_double_gamma(duration_s, peak_s, undershoot_s, ratio):
    step_s = 0.01
    time_s = np.arange(0, 60, step_s)
    middle_s = time_s + step_s / 2
    hrf = stats.gamma.pdf(middle_s, peak_s + 1) - ratio * stats.gamma.pdf(middle_s, undershoot_s + 1)
    assert middle_s[hrf.argmax()] == pytest.approx(peak_s, abs=0.2)
    hrf /= hrf.sum() * step_s
    block = (time_s < duration_s - step_s / 2).astype(float)
    convolved = signal.fftconvolve(block, hrf)[: len(time_s)] * step_s
    response = block_response(time_s, duration_s, peak_s, undershoot_s, ratio)
    np.testing.assert_allclose(response[1:], convolved[:-1], atol=1e-4)
    assert (block_response(-time_s, duration_s, peak_s, undershoot_s, ratio) == 0).all()


def test_the_tests_reference_is_the_same():
    time_s = np.array([-3.0, 0.0, 1.5, 5.0, 12.0, 20.0, 31.0])
    expected = [naive.response(t, 9.0) for t in time_s]
    np.testing.assert_allclose(block_response(time_s, 9.0, *CANONICAL), expected, atol=1e-4)


def test_a_lasting_block_reaches_1_and_nothing_is_left_in_the_end():
    assert block_response(np.array([99.0]), 100.0, *CANONICAL)[0] == pytest.approx(1, abs=1e-6)
    assert abs(block_response(np.array([9.0 + LASTS_S]), 9.0, *CANONICAL)[0]) < 2e-3


def test_between_whole_seconds_neighbouring_peaks_are_mixed_and_it_peaks_between_them():
    time_s = np.arange(0, 40, 0.01)
    early, late, between = (block_response(time_s, 6.0, peak_s, 15, 1 / 6) for peak_s in (5.0, 6.0, 5.25))
    np.testing.assert_allclose(between, 0.75 * early + 0.25 * late, atol=1e-12)
    peaks_s = [time_s[shape.argmax()] for shape in (early, between, late)]
    assert peaks_s == sorted(set(peaks_s))


def test_blocks_of_several_lengths_are_computed_at_once():
    time_s, lengths_s = np.linspace(0, 30, 7)[:, np.newaxis], np.array([3.0, 9.0])
    found = block_response(time_s, lengths_s, *CANONICAL)
    for column, length_s in enumerate(lengths_s):
        np.testing.assert_array_equal(found[:, column], block_response(time_s[:, 0], length_s, *CANONICAL))
