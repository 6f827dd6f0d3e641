import json
from functools import cache

import numpy as np
import pytest

from calibration.simulation.head import build_head
from calibration.simulation.scanner import Movement, Scanner, draw_movement, slice_times_s
from calibration.simulation.settings import HeadMotionSettings, ScannerNoiseSettings
from tests import naive
from tests.subjects import SILENT

TR_S = 3.0
NOBODY = (np.empty((0, 3), np.int32), np.empty(0, np.float32))


@cache
def head():
    return build_head((32, 32, 25), (6.0, 6.0, 6.0), 0)


def still(n_volumes):
    return Movement(np.zeros((n_volumes, 3)), np.zeros((n_volumes, 3)))


def scan(noise, movement, responding=NOBODY, seed=0):
    """All volumes of a run, shape (x, y, z, n_volumes), float64."""
    n_volumes = len(movement.translation_mm)
    scanner = Scanner(head(), n_volumes, TR_S, noise, movement, np.random.default_rng(seed))
    return np.stack([scanner.image(i, *responding) for i in range(n_volumes)], axis=-1).astype(float)


def altered(**changes):
    return SILENT.model_copy(update=changes)


@pytest.mark.parametrize("task", ["perception", "imagery"])
def test_slices_are_interleaved_as_in_the_published_data_set(shared_data, task):
    theirs = json.loads((shared_data / "ds001246" / f"task-{task}_bold.json").read_text())
    ours = slice_times_s(len(theirs["SliceTiming"]), theirs["RepetitionTime"])
    assert np.argsort(ours).tolist() == np.argsort(theirs["SliceTiming"]).tolist()
    np.testing.assert_allclose(ours, theirs["SliceTiming"], atol=0.07)


@pytest.mark.parametrize("n_slices", [1, 2, 25, 50])
def test_every_slice_has_its_own_time_within_the_tr(n_slices):
    times = slice_times_s(n_slices, TR_S)
    np.testing.assert_allclose(np.sort(times), np.arange(n_slices) * TR_S / n_slices)
    if n_slices > 2:
        assert np.abs(np.diff(times)).min() > TR_S / 3  # neighbours are far apart in time


def test_a_still_and_silent_head_is_the_template():
    volume, template = scan(SILENT, still(1))[..., 0], head().template
    inside = template > 0.02 * template.max()
    np.testing.assert_allclose(volume[inside], template[inside], atol=0.51)
    assert volume[~inside].max() <= 0.02 * template.max()


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("shift_mm", [-4.0, 4.0])
def test_translation_moves_the_head_that_way(axis, shift_mm):
    translation = np.zeros((2, 3))
    translation[1, axis] = shift_mm
    images = scan(SILENT, Movement(translation, np.zeros((2, 3))))
    inner = images[:, :, 4:, :] if axis == 2 else images  # the neck reaches the lowest slices
    grid = np.indices(inner.shape[:3]).reshape(3, -1).T @ head().affine[:3, :3].T
    before, after = (grid.T @ inner[..., i].ravel() / inner[..., i].sum() for i in range(2))
    assert (after - before)[axis] == pytest.approx(shift_mm, rel=0.35)
    others = np.delete(after - before, axis)
    assert np.abs(others).max() < 0.35 * abs(shift_mm)


@pytest.mark.parametrize("turn", [(5.0, 0, 0), (0, -5.0, 0), (0, 0, 5.0), (3.0, -4.0, 5.0)])
def test_rotation_turns_the_head_about_the_middle_of_the_field_of_view(turn):
    shift = (2.0, -3.0, 4.0)
    affine, template = head().affine, head().template
    centre_mm = affine[:3, :3] @ ((np.array(template.shape) - 1) / 2) + affine[:3, 3]
    seen = scan(SILENT, Movement(np.array([shift]), np.array([turn])))[..., 0]
    inner = np.zeros(template.shape, bool)
    inner[4:-4, 4:-4, 4:-4] = True

    def unlike(pose):
        return np.abs(seen - naive.moved(template, affine, pose))[inner].mean() / template[inner].mean()

    pose = naive.rigid(shift, turn, centre_mm)
    assert unlike(pose) < 0.03
    assert unlike(np.linalg.inv(pose)) > 5 * unlike(pose)
    np.testing.assert_allclose(Movement(np.array([shift]), np.array([turn])).pose(0, centre_mm), pose, atol=1e-12)


def test_signal_change_is_a_percentage_of_the_voxel():
    voxels = np.argwhere(head().regions > 0)[::50].astype(np.int32)
    change = np.linspace(-5, 5, len(voxels)).astype(np.float32)
    rest, active = scan(SILENT, still(1)), scan(SILENT, still(1), (voxels, change))
    at = tuple(voxels.T)
    np.testing.assert_allclose((active[at] / rest[at] - 1)[:, 0] * 100, change, atol=0.25)
    active[at] = rest[at]
    np.testing.assert_array_equal(active, rest)


@pytest.mark.parametrize(("tsnr", "ar1"), [(60.0, 0.3), (30.0, 0.0), (60.0, 0.7)])
def test_noise_has_the_tsnr_and_the_autocorrelation_that_are_set(tsnr, ar1):
    series = scan(altered(tsnr=tsnr, ar1=ar1), still(120))[head().grey > 0.8]
    centred = series - series.mean(axis=1, keepdims=True)
    assert np.median(series.mean(axis=1) / series.std(axis=1)) == pytest.approx(tsnr, rel=0.1)
    lag_1 = (centred[:, 1:] * centred[:, :-1]).sum() / np.square(centred).sum()
    assert lag_1 == pytest.approx(ar1, abs=0.06)


@pytest.mark.parametrize(("share", "fwhm_mm"), [(0.0, 10.0), (0.5, 10.0), (1.0, 10.0), (1.0, 0.0)])
def test_noise_of_neighbours_is_as_alike_as_set(share, fwhm_mm):
    """A kernel of width w makes noise whose correlation is a Gaussian that is √2 w wide: 0.78 at 6 mm for 10 mm."""
    series = scan(altered(tsnr=60.0, smooth_share=share, smooth_fwhm_mm=fwhm_mm), still(200))
    inner = series[8:24, 8:24, 8:18]
    z = (inner - inner.mean(axis=-1, keepdims=True)) / inner.std(axis=-1, keepdims=True)
    expected = share * np.exp(-2 * np.log(2) * 6.0**2 / fwhm_mm**2) if fwhm_mm else 0.0
    for axis in range(3):
        shifted = np.roll(z, 1, axis)
        alike = np.delete((z * shifted).mean(axis=-1), 0, axis).mean()
        assert alike == pytest.approx(expected, abs=0.06)


def test_grey_matter_shares_a_few_components():
    def shared(n):
        series = scan(altered(n_global=n, global_percent=1.0), still(60))[head().grey > 0.9]
        change = 100 * (series / series.mean(axis=1, keepdims=True) - 1)
        return np.square(np.linalg.svd(change, compute_uv=False)), change.std()

    variance, sd = shared(3)
    assert variance[:3].sum() > 0.99 * variance.sum()
    assert sd == pytest.approx(np.sqrt(3), rel=0.4)
    assert shared(0)[1] < 0.1  # rounding


def test_air_has_noise_too_and_no_voxel_is_negative():
    images = scan(altered(tsnr=60.0), still(20))
    air = head().template == 0
    assert images.min() >= 0
    assert 0.3 < images[air].std() / (head().template[head().grey > 0.5].mean() / 60) < 0.6


def test_a_spike_changes_one_slice_of_a_volume():
    rest, hit = scan(SILENT, still(12)), scan(altered(spike_rate=1.0, spike_percent=8.0), still(12))
    where = [np.flatnonzero((np.abs(rest[..., i] - hit[..., i]) > 1).any(axis=(0, 1))) for i in range(12)]
    assert {len(slices) for slices in where} == {1}
    assert len({int(slices[0]) for slices in where}) > 5
    factors = [hit[:, :, s[0], i].sum() / rest[:, :, s[0], i].sum() for i, s in enumerate(where)]
    assert {round(factor, 2) for factor in factors} == {0.92, 1.08}


@pytest.mark.parametrize("source", ["drift_percent", "respiration_percent", "cardiac_percent"])
def test_drift_and_physiology_have_the_size_that_is_set(source):
    percent = []
    for seed in range(3):  # each draws another field
        changes = scan(altered(**{source: 1.0}), still(60), seed=seed)[head().grey > 0.8]
        percent.append(100 * changes.std(axis=1) / changes.mean(axis=1))
    # The pulse in grey matter is that of its smallest vessels, 0.3 of the setting: see `vessels`.
    least = 0.3 / np.sqrt(2) - 0.02 if source == "cardiac_percent" else 0.3
    assert least < np.sqrt(np.square(np.concatenate(percent)).mean()) < 1.7
    rest = scan(SILENT, still(60))[head().grey > 0.8]
    assert not rest.std(axis=1).any()


def test_drift_is_slow_and_breathing_is_not():
    def change_per_volume(**noise):
        series = scan(altered(**noise), still(60))[head().grey > 0.8]
        return np.diff(series, axis=1).std() / series.std(axis=1).mean()

    assert change_per_volume(drift_percent=3.0) < 0.3
    assert change_per_volume(respiration_percent=3.0) > 0.7


def test_a_run_is_the_seed_s():
    movement = draw_movement(4, HeadMotionSettings(), np.random.default_rng(1))
    first, again, other = (scan(ScannerNoiseSettings(), movement, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_movement_is_as_large_as_set():
    settings = HeadMotionSettings(
        between_runs_mm=2, between_runs_deg=1, within_run_mm=0.5, within_run_deg=0.2, jerks_per_run=0
    )
    runs = [draw_movement(100, settings, np.random.default_rng(seed)) for seed in range(200)]
    for name, between, within in (("translation_mm", 2, 0.5), ("rotation_deg", 1, 0.2)):
        courses = np.stack([getattr(run, name) for run in runs])
        assert courses[:, 0].std() == pytest.approx(between, rel=0.15)
        assert (courses[:, -1] - courses[:, 0]).std() == pytest.approx(within, rel=0.15)


def test_sudden_moves_happen_as_often_as_set_and_stay():
    settings = HeadMotionSettings(within_run_mm=0, within_run_deg=0, jerks_per_run=2.0)
    jumps = [
        np.flatnonzero(np.abs(np.diff(draw_movement(100, settings, rng).translation_mm, axis=0)).sum(axis=1))
        for rng in map(np.random.default_rng, range(100))
    ]
    assert np.mean([len(jump) for jump in jumps]) == pytest.approx(2.0, rel=0.25)
