import numpy as np
import pytest

from calibration.simulation.head import build_head
from calibration.simulation.scan import ongoing_activity, scan, signal_change
from calibration.simulation.scanner import slice_times_s
from calibration.simulation.settings import SubjectSettings
from calibration.simulation.trials import Response
from calibration.simulation.tuning import Tuning
from tests import naive
from tests.subjects import EASY, SILENT, STILL

SETTINGS = SubjectSettings(shape=(32, 32, 25), voxel_mm=(6.0, 6.0, 6.0), response=EASY)
LAG_S, GAIN = SETTINGS.response.imagery_lag_s, SETTINGS.response.imagery_gain
#: Voxel k follows layer k; all lie in one slice.
VOXELS = np.column_stack([np.arange(8)] * 2 + [np.full(8, 12)]).astype(np.int32)
ONSET_S = 33.0


def tuned(evoked, hrf=(5.0, 15.0, 1 / 6), ongoing=()):
    """Voxels with the decoder's course, or with one of their own each."""
    evoked = np.asarray(evoked, np.float32)
    axes = np.asarray(ongoing, np.float32).reshape(-1, len(evoked))
    hrfs = np.broadcast_to(np.asarray(hrf, np.float32), (len(evoked), 3))
    return Tuning({}, {}, np.empty((0, len(evoked)), np.float32), {}, {}, evoked, hrfs, axes)


def courses(*responses, evoked=0.0, n_volumes=70, tr_s=3.0, voxels=VOXELS, settings=SETTINGS, **of_voxels):
    tuning = tuned(np.full(len(voxels), evoked), **of_voxels)
    return signal_change(responses, n_volumes, tr_s, voxels, tuning, settings)


def one(imagined, strength=1.0, amplitudes=None):
    layers = np.eye(8, dtype=np.float32) if amplitudes is None else amplitudes
    return Response(ONSET_S, 15.0 if imagined else 9.0, imagined, strength, layers)


def test_all_layers_follow_what_is_seen_at_the_same_time():
    change, onset = courses(one(imagined=False)), 11
    np.testing.assert_allclose(change, change[:, :1].repeat(8, axis=1), atol=1e-6)
    assert not change[:onset].any()
    assert change[:, 0].argmax() - onset in (2, 3)


def test_high_layers_lead_low_ones_in_imagery():
    change, onset = courses(one(imagined=True)), 11
    assert not change[:onset].any()
    assert (np.diff(change.argmax(axis=0)) <= 0).all()
    assert change[:, 0].argmax() > change[:, -1].argmax()
    early = change[: onset + 30]
    middle_s = np.arange(len(early)) * 3.0 @ early / early.sum(axis=0)
    assert (np.diff(middle_s) < -0.4).all()
    assert middle_s[0] - middle_s[-1] == pytest.approx(LAG_S, abs=0.3)


@pytest.mark.parametrize(("imagined", "gain"), [(False, 1.0), (True, GAIN)])
def test_every_trial_evokes_a_response_in_proportion_to_its_strength(imagined, gain):
    nothing = np.zeros((8, 8), np.float32)
    whole, half = (courses(one(imagined, strength, nothing), evoked=1.0) for strength in (1.0, 0.5))
    assert whole.max() == pytest.approx(gain, rel=0.25)
    np.testing.assert_allclose(half, whole / 2, atol=1e-6)
    assert not whole[:11].any()


def test_signal_reaches_a_slice_at_the_slice_s_own_time():
    early, late = np.argsort(slice_times_s(25, 3.0))[[0, -1]]
    voxels = np.array([[0, 0, early], [0, 0, late]], np.int32)
    change = courses(one(False, amplitudes=np.zeros((8, 2), np.float32)), evoked=1.0, voxels=voxels)
    assert (change[11:14, 1] > change[11:14, 0] + 0.005).all()  # acquired later in the volume: further up the rise


def test_a_run_of_both_kinds_is_the_sum_of_its_trials_each_in_its_own_way():
    rng = np.random.default_rng(0)
    voxels = np.array([[3, 4, 7], [5, 6, 20], [1, 2, 7]], np.int32)
    evoked = rng.uniform(0.5, 2.0, 3).astype(np.float32)
    trials = [
        Response(onset_s, duration_s, imagined, strength, rng.standard_normal((5, 3)).astype(np.float32))
        for onset_s, duration_s, imagined, strength in [
            (3.0, 9.0, False, 1.0),
            (10.5, 12.0, True, 0.4),
            (25.0, 9.0, True, 1.5),
            (31.25, 4.0, False, 1.0),
        ]
    ]
    change = signal_change(trials, 20, 2.0, voxels, tuned(evoked), SETTINGS)
    slice_s = slice_times_s(25, 2.0)
    for v in range(3):
        for volume in range(20):
            expected = 0.0
            for t in trials:
                since_s = volume * 2.0 + slice_s[voxels[v, 2]] - t.onset_s
                size = t.strength * (GAIN if t.imagined else 1.0)
                expected += size * evoked[v] * naive.response(since_s, t.duration_s)
                for layer in range(5):
                    late_s = LAG_S * (4 - layer) / 4 if t.imagined else 0.0
                    expected += size * t.amplitudes[layer, v] * naive.response(since_s - late_s, t.duration_s)
            assert change[volume, v] == pytest.approx(expected, abs=2e-3)


def test_regions_have_responses_of_their_own_shape():
    """Two voxels of one slice that peak at 4 and 7 s, one of them without an undershoot, as the reference has them."""
    voxels, hrf = VOXELS[[0, 0]], [(4.0, 14.0, 0.3), (7.0, 17.0, 0.0)]
    change = courses(one(False, amplitudes=np.zeros((8, 2), np.float32)), evoked=1.0, voxels=voxels, hrf=hrf)
    since_s = np.arange(70) * 3.0 + slice_times_s(25, 3.0)[12] - ONSET_S
    for voxel, shape in enumerate(hrf):
        expected = [naive.response(s, 9.0, *shape) for s in since_s]
        np.testing.assert_allclose(change[:, voxel], expected, atol=2e-3)


def test_imagery_starts_as_late_as_set():
    late = SETTINGS.model_copy(update={"response": EASY.model_copy(update={"imagery_delay_s": 3.0})})
    at_once, delayed = (courses(one(imagined=True), evoked=1.0, settings=settings) for settings in (SETTINGS, late))
    np.testing.assert_allclose(delayed[1:], at_once[:-1], atol=1e-5)  # by one volume
    seen, as_before = (courses(one(imagined=False), evoked=1.0, settings=settings) for settings in (SETTINGS, late))
    np.testing.assert_array_equal(seen, as_before)


@pytest.mark.parametrize(("null", "is_left"), [("no-imagery", False), ("no-lag", True), ("", True)])
def test_imagery_that_is_absent_evokes_nothing_and_seeing_stays(null, is_left):
    settings = SETTINGS.model_copy(update={"null": null})
    assert courses(one(imagined=True), evoked=1.0, settings=settings).any() == is_left
    assert courses(one(imagined=False), evoked=1.0, settings=settings).any()


def test_without_lag_all_layers_have_one_course():
    settings = SETTINGS.model_copy(update={"null": "no-lag"})
    change = courses(one(imagined=True), settings=settings)
    np.testing.assert_allclose(change, change[:, :1].repeat(8, axis=1), atol=1e-6)


def test_activity_goes_on_along_its_axes_slowly():
    tuning = tuned(np.zeros(3), ongoing=[(2.0, 0.0, 0.0), (0.0, 1.0, 1.0)])
    change = ongoing_activity(20000, 3.0, tuning, np.random.default_rng(0))
    np.testing.assert_allclose(change.std(axis=0), [2.0, 1.0, 1.0], rtol=0.06)
    np.testing.assert_allclose(np.corrcoef(change.T), [[1, 0, 0], [0, 1, 1], [0, 1, 1]], atol=0.06)
    assert np.corrcoef(change[1:, 0], change[:-1, 0])[0, 1] == pytest.approx(np.exp(-3 / 8), abs=0.03)
    assert not ongoing_activity(20, 3.0, tuned(np.zeros(3)), np.random.default_rng(0)).any()


def test_without_movement_and_noise_the_images_are_the_head_and_its_change():
    quiet = SETTINGS.model_copy(update={"noise": SILENT, "motion": STILL})
    head = build_head(quiet.shape, quiet.voxel_mm)
    voxels = np.argwhere(head.regions > 0).astype(np.int32)[::50]
    change = np.random.default_rng(0).uniform(-5, 5, (4, len(voxels))).astype(np.float32)
    done = []
    volumes, movement = scan(head, voxels, change, 3.0, quiet, np.random.default_rng(0), done.append)
    assert done == [1, 2, 3, 4]
    assert not movement.translation_mm.any()
    for volume in range(4):
        expected = head.template.astype(float)
        for (x, y, z), percent in zip(voxels, change[volume], strict=True):
            expected[x, y, z] *= 1 + percent / 100
        np.testing.assert_allclose(volumes[..., volume], expected, atol=0.51)
