from functools import cache

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from calibration.simulation.head import build_head
from rtgod.errors import InputError
from rtgod.motion import (
    Registration,
    gaussian_kernel,
    rotation_angles,
    rotation_matrix,
    smooth,
)
from rtgod.settings import MotionSettings
from rtgod.sources import open_source
from tests import naive

SHAPE, VOXEL_MM = (48, 48, 38), 4.0
MOTIONS = [
    ((1.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ((0.0, 0.0, -0.4), (0.0, 0.0, 1.5)),
    ((2.0, 2.0, 2.0), (1.5, 1.5, 1.5)),
    ((-2.0, 1.3, -0.7), (-1.5, 0.4, -1.0)),
    ((0.05, -0.03, 0.02), (0.02, 0.03, -0.05)),
]


@cache
def head():
    return build_head(SHAPE, (VOXEL_MM,) * 3)


def registration(volume_affine=None, **settings):
    affine = head().affine
    volume_affine = affine if volume_affine is None else volume_affine
    return Registration(head().template, affine, volume_affine, MotionSettings(**settings))


@cache
def centre_mm():
    return registration().centre_mm


@cache
def moved(translation_mm, rotation_deg):
    pose = naive.rigid(translation_mm, rotation_deg, centre_mm())
    return pose, naive.moved(head().template, head().affine, pose)


def scan(translation_mm=(0, 0, 0), rotation_deg=(0, 0, 0), gain=1.0, noise=0.01, seed=0):
    """The head moved about the template's centre of intensity, with noise as a share of the brain's mean (800)."""
    pose, volume = moved(tuple(translation_mm), tuple(rotation_deg))
    noisy = volume + np.random.default_rng(seed).normal(0, noise * 800, SHAPE)
    return pose, (gain * noisy).astype(np.float32)


def brain_mm():
    return np.argwhere(head().brain) @ head().affine[:3, :3].T + head().affine[:3, 3]


@pytest.mark.parametrize(("translation_mm", "rotation_deg"), MOTIONS)
@pytest.mark.parametrize("gain", [0.95, 1.0, 1.05])
def test_a_known_motion_is_recovered_at_any_brightness(translation_mm, rotation_deg, gain):
    pose, volume = scan(translation_mm, rotation_deg, gain)
    found = registration().align(volume)
    assert found.motion.converged
    np.testing.assert_allclose(found.motion.translation_mm, translation_mm, atol=0.1)
    np.testing.assert_allclose(found.motion.rotation_deg, rotation_deg, atol=0.1)
    assert naive.mean_displacement(found.pose, pose, brain_mm()) < 0.1


def test_brightness_alone_is_no_motion():
    _, volume = scan((1, -1, 0.5), (0.5, 0, -0.5))
    found = [registration().align(np.float32(gain) * volume).pose for gain in (0.95, 1.0, 1.05)]
    assert naive.mean_displacement(found[0], found[1], brain_mm()) < 0.005
    assert naive.mean_displacement(found[2], found[1], brain_mm()) < 0.005


def test_the_template_itself_has_not_moved():
    pose, motion = registration().align(np.array(head().template))
    np.testing.assert_allclose(pose, np.eye(4), atol=1e-9)
    assert motion.converged
    assert motion.residual < 1e-6


def test_the_residual_is_the_noise_after_smoothing_and_larger_for_another_head():
    _, noisy = scan(noise=0.05)
    ours = registration().align(noisy).motion.residual
    other = build_head(SHAPE, (VOXEL_MM,) * 3, seed=1).template
    assert 0.005 < ours < 0.05
    assert registration().align(np.array(other)).motion.residual > 3 * ours


def test_a_long_movement_is_tracked_and_framewise_displacement_is_that_of_power():
    follow, before = registration(), None
    for step, fraction in enumerate(np.linspace(0, 1, 6)):
        translation_mm, rotation_deg = fraction * np.array([9, -6, 7.0]), fraction * np.array([6, -5, 8.0])
        _, volume = scan(translation_mm, rotation_deg, seed=step)
        motion = follow.align(volume).motion
        np.testing.assert_allclose(motion.translation_mm, translation_mm, atol=0.15)
        np.testing.assert_allclose(motion.rotation_deg, rotation_deg, atol=0.15)
        expected = naive.framewise_displacement(before, motion) if before else 0.0
        assert motion.framewise_displacement_mm == pytest.approx(expected, abs=1e-9)
        before = motion


def test_framewise_displacement_of_a_known_step():
    follow = registration()
    follow.align(scan()[1])
    motion = follow.align(scan((1.0, -0.5, 0.25), (0.5, 0.0, -1.0))[1]).motion
    assert motion.framewise_displacement_mm == pytest.approx(1.75 + 50 * np.radians(1.5), abs=0.25)


@cache
def not_this_head():
    rng = np.random.default_rng(0)
    template = head().template
    return {
        "noise": np.abs(rng.normal(0, 800, SHAPE)),
        "signed noise": rng.normal(0, 800, SHAPE),
        "clouds": 500 + 30 * ndimage.gaussian_filter(rng.normal(0, 800, SHAPE), 3),
        "ramp": np.indices(SHAPE)[0].astype(float),
        "zeros": np.zeros(SHAPE),
        "one voxel": (np.arange(template.size) == 30_000).reshape(SHAPE) * 1000.0,
        "back to front": template[:, ::-1],
        "upside down": template[:, :, ::-1],
        "ten times as bright": 10 * template,
        "inverted": 1000 - template,
    }


@pytest.mark.parametrize("kind", not_this_head())
def test_what_cannot_be_aligned_is_said_and_leaves_no_trace(kind):
    follow = registration()
    _, first = scan((0.5, 0, 0), seed=1)
    _, next_ = scan((0.7, 0.2, -0.3), (0.3, 0, 0), seed=2)
    follow.align(first)
    expected = follow.align(next_)
    follow.reset()
    follow.align(first)
    assert not follow.align(np.ascontiguousarray(not_this_head()[kind], np.float32)).motion.converged
    after = follow.align(next_)
    assert after.motion.converged
    assert after.pose.tobytes() == expected.pose.tobytes()
    assert after.motion == expected.motion


def test_no_overlap_is_said():
    far = head().affine.copy()
    far[:3, 3] += 300
    motion = registration(far).align(np.array(head().template)).motion
    assert not motion.converged
    assert motion.residual is None


def test_too_few_iterations_are_said():
    _, volume = scan((2, 2, 2), (1, 1, 1))
    assert not registration(max_iterations=1).align(volume).motion.converged
    assert registration(max_iterations=12).align(volume).motion.n_iterations < 12


def test_reset_forgets_the_last_pose_and_displacement():
    follow = registration()
    _, volume = scan((1, 1, 1))
    first = follow.align(volume)
    follow.align(scan((2, 1, 0))[1])
    follow.reset()
    again = follow.align(volume)
    assert again.pose.tobytes() == first.pose.tobytes()
    assert again.motion == first.motion


def test_threads_change_no_byte():
    results = []
    for n_threads in (1, 2):
        previous = numba.get_num_threads()
        if n_threads > numba.config.NUMBA_NUM_THREADS:
            pytest.skip("needs two threads")
        numba.set_num_threads(n_threads)
        try:
            follow = registration()
            results.append(b"".join(follow.align(scan(*motion)[1]).pose.tobytes() for motion in MOTIONS))
        finally:
            numba.set_num_threads(previous)
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "kind", ["same voxels, field of view 5 mm away", "same head, field of view 5 mm away", "other orientation"]
)
def test_the_run_s_affine_is_followed_in_the_world(kind):
    shifted = head().affine.copy()
    if kind == "other orientation":  # about the field of view's middle, where the head stays inside
        turn = naive.rigid((0, 0, 0), (4, -3, 5), (head().affine @ [*(np.array(SHAPE) - 1) / 2, 1])[:3])
        shifted = turn @ shifted
    else:
        shifted[:3, 3] += (5, -5, 5)
    if kind.startswith("same voxels"):
        volume, expected = np.array(head().template), np.eye(4)
        expected[:3, 3] = (5, -5, 5)
    else:
        expected = naive.rigid((0.6, 0, -0.4), (0, 0.5, 0), centre_mm())
        volume = naive.moved(head().template, head().affine, expected, shifted)
    found = registration(shifted).align(volume.astype(np.float32))
    assert found.motion.converged
    assert naive.mean_displacement(found.pose, expected, brain_mm()) < 0.1


@pytest.mark.parametrize(
    "template",
    [np.zeros(SHAPE), np.full(SHAPE, 700.0), np.full((4, 4, 4), 1.0), -np.ones(SHAPE)],
    ids=["zero", "constant", "tiny", "negative"],
)
def test_a_template_without_contrast_is_refused(template):
    with pytest.raises(InputError, match="no contrast"):
        Registration(template.astype(np.float32), np.eye(4), np.eye(4), MotionSettings())


angles = st.floats(-1.5, 1.5)


@given(st.tuples(angles, angles, angles))
def test_angles_and_matrices_are_each_other_s_inverse(radians):
    matrix = rotation_matrix(np.array(radians))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    np.testing.assert_allclose(rotation_angles(matrix), radians, atol=1e-9)
    np.testing.assert_allclose(matrix, naive.rigid((0, 0, 0), np.degrees(radians), (0, 0, 0))[:3, :3], atol=1e-12)


@pytest.mark.parametrize("fwhm_voxels", [0.0, 0.5, 5 / 3, 3.1])
def test_the_kernel_is_a_normalised_gaussian_of_that_width(fwhm_voxels):
    kernel = gaussian_kernel(fwhm_voxels)
    assert kernel.size % 2 == 1
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(kernel, kernel[::-1])
    if kernel.size > 1:
        offset = np.arange(kernel.size) - kernel.size // 2
        np.testing.assert_allclose(kernel / kernel.max(), 0.5 ** (2 * offset / fwhm_voxels) ** 2, rtol=1e-5)


@pytest.mark.parametrize("shape", [(12, 9, 7), (3, 20, 5), (1, 4, 2)])
def test_smoothing_is_separable_convolution_with_repeated_edges(shape):
    image = np.random.default_rng(0).normal(500, 200, shape).astype(np.float32)
    kernels = [gaussian_kernel(fwhm) for fwhm in (1.7, 2.5, 0.0)]
    out = np.empty_like(image)
    smooth(image, *kernels, np.empty_like(image), out)
    np.testing.assert_allclose(out, naive.separable_smooth(image, kernels), rtol=1e-5)
    by_scipy = image.astype(float)
    for axis, kernel in enumerate(kernels):
        by_scipy = ndimage.correlate1d(by_scipy, kernel, axis, mode="nearest")
    np.testing.assert_allclose(out, by_scipy, rtol=1e-5)


def test_a_real_run_agrees_with_spm12_in_every_volume(shared_data):
    folder = shared_data / "siemens-run"
    spm = np.loadtxt(folder / "spm_motion.tsv", skiprows=1)
    source = open_source(folder / "dicom")
    affine, follow, differences = source.run.affine, None, []
    for volume, parameters in zip(source, spm, strict=True):
        image = volume.data.astype(np.float32)
        if follow is None:
            follow = Registration(image, affine, affine, MotionSettings())
            inside = np.argwhere(image > 0.3 * np.percentile(image, 98))
            points = inside[::20] @ affine[:3, :3].T + affine[:3, 3]
        pose, motion = follow.align(image)
        assert motion.converged
        # SPM maps the volume's world to the template's, and we the other way round.
        spm_pose = np.linalg.inv(naive.spm_matrix(parameters[:3], parameters[3:]))
        differences.append(naive.mean_displacement(pose, spm_pose, points))
    assert len(differences) == 155
    assert max(differences) < 0.2
    assert np.median(differences) < 0.06
