import json
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import motion
from benchmarks.heads import HeadScanner
from benchmarks.peers import Elastix, SimpleItk
from benchmarks.spm_agreement import brain_points
from rtgod.preprocessing.registration import Registration
from rtgod.settings import MotionSettings
from rtgod.sources import open_source
from tests import naive


@pytest.fixture(scope="module")
def scanner():
    return HeadScanner((32, 32, 25), 6.0)


@pytest.mark.parametrize(
    ("make", "package"),
    [
        (SimpleItk, "SimpleITK"),
        (lambda template, affine: SimpleItk(template, affine, share=0.3), "SimpleITK"),
        (Elastix, "itk"),
    ],
    ids=["SimpleITK", "SimpleITK set up for speed", "elastix"],
)
def test_a_peer_s_pose_has_our_sense(scanner, make, package):
    if find_spec(package) is None:
        pytest.skip(f"needs {package}, which only the benchmarks install")
    still, moved = scanner.scan(np.zeros(3), np.zeros(3)), scanner.scan(np.array([2.0, -1.0, 0.5]), np.full(3, 2.0))
    found = make(still.image, scanner.affine).estimate(moved.image)
    np.testing.assert_allclose(found, moved.pose, atol=0.6)


def test_rtspm_s_pose_has_our_sense(scanner):
    pytest.importorskip("rtspm", reason="needs python-rtspm (GPL), which only the benchmarks install")
    from benchmarks.peers import Rtspm

    still, moved = scanner.scan(np.zeros(3), np.zeros(3)), scanner.scan(np.array([2.0, -1.0, 0.5]), np.full(3, 2.0))
    found = Rtspm(still.image, scanner.affine).estimate_and_reslice(moved.image)
    np.testing.assert_allclose(found, moved.pose, atol=0.6)


def test_figures_are_measured_and_written(scanner, monkeypatch, tmp_path, capsys):
    pytest.importorskip("rtspm", reason="needs python-rtspm (GPL), which only the benchmarks install")
    if find_spec("itk") is None:
        pytest.skip("needs itk-elastix, which only the benchmarks install")
    monkeypatch.setattr(motion, "HeadScanner", lambda *_: scanner)
    monkeypatch.setattr(motion, "SIZES", {"small": ((32, 32, 25), 6.0)})
    real = motion.synthetic_figures
    monkeypatch.setattr(motion, "synthetic_figures", lambda s, **_: real(s, n_small=2, n_large=1))
    assert motion.main(["--json", str(tmp_path / "f.json"), "--data", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    for peer, part in motion.PAIRS.items():  # how much more than 1 is the benchmark's to say, on a quiet machine
        assert figures[f"{part}_speedup_vs_{peer}_one_thread"] > 1
        assert figures[f"{peer}_max_error_mm"] < 0.5
    assert figures["version_itk-elastix"]
    assert 0 < figures["motion_max_error_mm"] < 0.2
    assert "motion_ms_small" in figures
    assert "no siemens-run in it" in capsys.readouterr().err


def test_the_windowed_sinc_is_that_of_the_tests():
    rng = np.random.default_rng(0)
    image = rng.normal(500, 100, (14, 12, 10)).astype(np.float32)
    pose = naive.rigid((0.4, -0.3, 0.2), (3, -2, 1), (6, 5, 4))
    mapping = np.linalg.inv(pose)
    np.testing.assert_allclose(motion._sinc(image, mapping, 5), naive.moved_by_sinc(image, np.eye(4), pose), rtol=1e-4)


@pytest.mark.parametrize("run", ["siemens-run", "studyforrest-localizer"])
def test_a_real_series_agrees_with_simpleitk(shared_data, run):
    pytest.importorskip("SimpleITK")
    path = shared_data / run
    source = open_source(path / "dicom" if run == "siemens-run" else next(path.glob("*_bold.nii.gz")))
    volumes = {v.index: v.data.astype(np.float32) for v in source if v.index in (0, 60, 150)}
    template, affine = volumes.pop(0), source.run.affine
    ours = Registration(template, affine, template.shape, affine, MotionSettings())
    itk, points = SimpleItk(template, affine), brain_points(template, affine)[:, :3]
    for volume in volumes.values():
        found = ours.align(volume)
        assert not found.problem
        assert naive.mean_displacement(found.pose, itk.estimate(volume), points) < 0.1
