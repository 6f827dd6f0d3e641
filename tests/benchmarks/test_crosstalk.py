import json

import numpy as np
import pytest

from benchmarks import crosstalk
from benchmarks.crosstalk import Design, Subject, expected
from calibration.samples.runs import clean_run
from rtgod.errors import InputError
from rtgod.preprocessing.hrf import block_response
from rtgod.preprocessing.preprocessor import MIXED, Noise, VolumeCleaner
from rtgod.preprocessing.stopwatch import Stopwatch
from rtgod.preprocessing.windows import RepeatAverager
from rtgod.settings import PipelineSettings


@pytest.fixture
def small(monkeypatch):
    """One design, two peaks."""
    monkeypatch.setattr(crosstalk, "DESIGNS", (Design(9.0, 3.0),))
    monkeypatch.setattr(crosstalk, "PEAKS_S", (5, 7))


@pytest.mark.usefixtures("small")
def test_the_block_before_is_named_before_the_mend_and_not_after_it(tmp_path, capsys):
    assert crosstalk.main(["--runs", "6", "--workers", "1", "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    se = 29 / np.sqrt(6 * 49)  # of a share that is uniform between 0 and 100, over the blocks of a volume
    assert figures["crosstalk_before_points"] > 20
    assert figures["crosstalk_first_points"] < 2 + 3 * se
    assert figures["crosstalk_null_points"] < 4 * se
    assert figures["peak_s_9s_tr3_peak7"] == pytest.approx(7, abs=0.6)
    assert figures["after_last_own_9s_tr3_peak7"] > 85
    assert figures["before_first_volume_9s_tr3_peak5"] == 1
    assert figures["cases"] == 2
    assert "crosstalk_first_points" in capsys.readouterr().out


def test_the_simulated_response_is_the_double_gamma_of_the_peak():
    design = Design(6.0, 2.0)
    middle_s = (np.arange(design.n_volumes) + 0.5) * design.tr_s
    found = expected(design, 7)
    for number in (0, 7):
        block = design.blocks[number]
        shape = block_response(middle_s - block.onset_s, block.duration_s, 7, 15, 1 / 6)
        np.testing.assert_allclose(found[:, number], shape, atol=1e-9)


def test_a_subject_s_runs_differ_and_no_category_follows_itself():
    first, second = Subject(5, 0).scans(Design(9.0, 3.0), 2)
    assert first.categories != second.categories
    assert all(a != b for a, b in zip(first.categories, first.categories[1:], strict=False))


def test_blocks_that_are_too_short_have_no_sample_and_what_to_change_is_said():
    design = Design(3.0, 1.0)
    (scan,) = Subject(5, 0).scans(design, 1)
    unsure = PipelineSettings.model_validate({"response": {"peak_sd_s": 0.5}})
    with pytest.raises(InputError, match=r"49 of 50 trials.*window\.hrf_shift_s.*more than 5% of another"):
        clean_run(crosstalk.aligned(scan, design), crosstalk.reference(), unsure, Noise())
    allowed = PipelineSettings.model_validate({"response": {"peak_sd_s": 0.5, "most_crosstalk": 1e9}})
    assert len(clean_run(crosstalk.aligned(scan, design), crosstalk.reference(), allowed, Noise()).windows) == 50


def test_a_volume_that_waits_for_a_response_of_its_own_says_so_with_its_share():
    design = Design(9.0, 3.0)
    (scan,) = Subject(5, 0).scans(design, 1)
    run = crosstalk.aligned(scan, design)
    cleaner = VolumeCleaner(crosstalk.reference(), run.run, crosstalk.BEFORE, Noise(), RepeatAverager())
    limited = crosstalk.BEFORE.response.model_copy(update={"most_crosstalk": 0.05})
    settings = crosstalk.BEFORE.model_copy(update={"response": limited})
    gated = VolumeCleaner(crosstalk.reference(), run.run, settings, Noise(), RepeatAverager())
    n_waiting = 0
    for volume in run.volumes:
        free, held = cleaner.clean(volume, Stopwatch()), gated.clean(volume, Stopwatch())
        if free.sample is None or held.sample is not None:
            assert (free.sample is None) == (held.sample is None)
            continue
        n_waiting += 1
        share = cleaner.denoiser.crosstalk(free.sample.block)
        assert share > 0.05
        assert held.waits_for == f"{MIXED}: up to {min(share, 9.99):.0%} of that is in it"
    assert 50 <= n_waiting <= 130
