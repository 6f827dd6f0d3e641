"""A learned peak is allowed to be as uncertain as leaves trials to rank, and what is given up is said."""

import pytest

from calibration.samples import preparation
from calibration.samples.response_recording import changed
from calibration.samples.runs import MixedResponsesError
from rtgod.settings import PipelineSettings

LEARNED = changed(PipelineSettings(), {"peak_s": 6.3, "peak_sd_s": 0.64})


def cleaning(most_sd_s):
    """Clean runs as if trials could be told apart up to this uncertainty of the peak."""

    def clean_with(settings):
        if settings.response.peak_sd_s > most_sd_s:
            raise MixedResponsesError("mixed")
        return [settings.response.peak_sd_s]

    return clean_with


@pytest.mark.parametrize(("most_sd_s", "sd_s"), [(1.0, 0.64), (0.4, 0.32), (0.1, 0.0)])
def test_no_more_uncertainty_is_given_up_than_need_be(most_sd_s, sd_s):
    cleaned, settings, notes = preparation._as_uncertain_as_can_be(cleaning(most_sd_s), LEARNED)
    assert cleaned == [sd_s]
    assert settings == changed(LEARNED, {"peak_sd_s": sd_s})
    if sd_s == LEARNED.response.peak_sd_s:
        assert notes == ()
    else:
        assert (
            f"0.6 s earlier or later, those to most trials cannot be told apart: rankings allow for {sd_s:.1f} s"
            in (notes[0])
        )


@pytest.mark.parametrize(
    "settings", [changed(LEARNED, {"learn_peak": False}), changed(LEARNED, {"peak_sd_s": 0.0}), LEARNED]
)
def test_trials_that_are_never_apart_are_refused(settings):
    with pytest.raises(MixedResponsesError, match="mixed"):
        preparation._as_uncertain_as_can_be(cleaning(-1.0), settings)
