import json
from dataclasses import replace

import numpy as np

from benchmarks.spm_agreement import compare, main, spm_matrix
from rtgod.sources import open_source
from tests import naive, small


def test_prints_and_writes_its_figures(shared_data, tmp_path, monkeypatch, capsys):
    """Five volumes only: the whole run is compared in the tests of motion."""
    spm = np.loadtxt(shared_data / "siemens-run" / "spm_motion.tsv", skiprows=1)
    source = open_source(shared_data / "siemens-run" / "dicom")
    volumes = [volume for volume, _ in zip(source, range(5), strict=False)]

    def first_five(_, affine, parameters):
        np.testing.assert_array_equal(parameters, spm)
        return compare(volumes, affine, parameters[:5])

    monkeypatch.setattr("benchmarks.spm_agreement.compare", first_five)
    assert main(["--run", str(shared_data / "siemens-run"), "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures) == ["spm_median_diff_mm", "spm_max_diff_mm", "n_volumes", "align_ms_median"]
    assert figures["n_volumes"] == 5
    assert 0 < figures["spm_median_diff_mm"] <= figures["spm_max_diff_mm"] < 0.2
    assert f"{figures['spm_max_diff_mm']:.3f} mm in the worst;" in capsys.readouterr().out


def test_says_what_is_missing(tmp_path, capsys):
    assert main(["--run", str(tmp_path)]) == 2
    assert "no spm_motion.tsv" in capsys.readouterr().err


def test_a_wrong_reference_would_show():
    """Two volumes that did not move, against a reference that claims 2 mm."""
    claimed = np.zeros((2, 6))
    claimed[1, 1] = 2.0
    still = [small.volume(0), replace(small.volume(0), index=1)]
    assert compare(still, small.AFFINE, claimed)["spm_max_diff_mm"] > 1.9
    assert compare(still, small.AFFINE, np.zeros((2, 6)))["spm_max_diff_mm"] < 0.01


def test_spm_s_matrix_is_the_one_the_tests_use():
    parameters = np.array([1, -2, 3, 0.1, -0.2, 0.3])
    np.testing.assert_allclose(spm_matrix(parameters), naive.spm_matrix(parameters[:3], parameters[3:]))
