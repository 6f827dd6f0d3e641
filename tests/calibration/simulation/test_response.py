import numpy as np
import pytest

from calibration.simulation.response import BlockCourse, layer_delays_s
from calibration.simulation.settings import TuningSettings
from rtgod.preprocessing.hrf import block_response
from rtgod.settings import ResponseSettings
from tests import naive

TIME_S = np.arange(-5, 60, 0.37)


@pytest.mark.parametrize("duration_s", [0.5, 9.0, 15.0])
@pytest.mark.parametrize(("peak_s", "undershoot_s", "ratio"), [(5, 15, 1 / 6), (7, 16, 0.0)])
def test_a_usual_response_is_the_decoders(duration_s, peak_s, undershoot_s, ratio):
    ours = BlockCourse(duration_s, peak_s, undershoot_s, ratio, 1.0).at(TIME_S)
    np.testing.assert_allclose(ours, block_response(TIME_S, duration_s, peak_s, undershoot_s, ratio), atol=1e-5)


def test_a_response_between_whole_seconds_is_the_reference_s():
    ours = BlockCourse(9.0, 5.6, 14.3, 0.25, 1.0).at(TIME_S)
    np.testing.assert_allclose(ours, [naive.response(t, 9.0, 5.6, 14.3, 0.25) for t in TIME_S], atol=2e-3)


@pytest.mark.parametrize("dispersion_s", [0.6, 0.9, 1.4])
def test_dispersion_changes_the_width_and_not_the_peak(dispersion_s):
    time_s = np.arange(0, 30, 0.05)
    brief = BlockCourse(0.1, 6.0, 15.0, 0.0, dispersion_s).at(time_s)
    assert time_s[brief.argmax()] == pytest.approx(6.05, abs=0.06)  # the middle of the block is at 0.05 s
    widths = [(r > r.max() / 2).sum() for r in (brief, BlockCourse(0.1, 6.0, 15.0, 0.0, 1.0).at(time_s))]
    assert (widths[0] > widths[1]) == (dispersion_s > 1)


def test_the_default_response_is_not_the_decoders():
    response, decoder = TuningSettings(), ResponseSettings()
    course = BlockCourse(
        9.0, response.hrf_peak_s, response.hrf_undershoot_s, response.hrf_ratio, response.hrf_dispersion_s
    )
    expected = block_response(TIME_S, 9.0, decoder.peak_s, decoder.undershoot_s, decoder.undershoot_ratio)
    assert np.abs(course.at(TIME_S) - expected).max() > 0.1
    assert response.hrf_region_sd_s > 0


def test_in_imagery_high_layers_peak_before_low_ones():
    time_s = np.arange(0, 50, 0.1)
    delays_s = layer_delays_s(8, 4.0)
    peaks_s = [time_s[block_response(time_s - delay_s, 15.0, 5, 15, 1 / 6).argmax()] for delay_s in delays_s]
    assert (np.diff(peaks_s) < -0.4).all()
    assert peaks_s[0] - peaks_s[-1] == pytest.approx(4.0, abs=0.15)
    assert not layer_delays_s(8, 0.0).any()
