import json

from benchmarks import null_figures


def test_figures_are_measured_and_written(tmp_path, capsys, monkeypatch):
    for name, value in {"N_SHUFFLED": 20, "N_PLANTED": 20, "N_NULL": 20, "N_LAGGED": 10, "SIZES": (2.0, 0.0)}.items():
        monkeypatch.setattr(null_figures, name, value)
    assert null_figures.main(["--quick", "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["n_shuffled"], figures["n_null"]) == (2, 20)
    assert figures["null_homology_frames"] == figures["planted_homology_wrong_frames"] == 0
    assert figures["planted_homology_order"] == 1
    assert figures["null_peak_estimate_outside"] == 0
    assert 0.7 <= figures["null_peak_coverage"] <= 1
    assert figures["null_peak_determined_size_0"] < 0.5 < figures["null_peak_determined_size_2"]
    assert figures["peak_power_lag_4s"] > figures["peak_power_lag_1s"] - 0.2
    assert all(isinstance(value, int | float) for value in figures.values())
    assert "null_peak_coverage" in capsys.readouterr().out


def test_the_largest_area_is_no_end_of_the_order():
    sizes = list(null_figures.AREAS.values())
    assert sizes.index(max(sizes)) not in (0, len(sizes) - 1)
    study = null_figures.planted_study(0, is_shuffled=True)
    shuffled = [columns.tolist() for name, columns in study.regions.items() if name != "VC"]
    assert sorted(voxel for area in shuffled for voxel in area) == list(range(sum(sizes)))
    assert [len(columns) for columns in shuffled] == sizes
    assert shuffled[0] != list(range(sizes[0]))
