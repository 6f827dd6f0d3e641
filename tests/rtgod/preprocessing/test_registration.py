from functools import cache

import numba
import numpy as np
import pytest
from scipy import ndimage

from calibration.simulation.head import build_head
from rtgod.errors import InputError
from rtgod.preprocessing.geometry import pose_of, rigid, rotation_angles, translation_of
from rtgod.preprocessing.registration import Registration
from rtgod.settings import MotionSettings
from rtgod.sources import open_source
from tests import naive, small

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


def registration(volume_affine=None, volume_shape=SHAPE, **settings):
    affine = head().affine
    volume_affine = affine if volume_affine is None else volume_affine
    return Registration(head().template, affine, volume_shape, volume_affine, MotionSettings(**settings))


def errors(found, true, centre_mm):
    """Largest difference of two poses in mm, at the centre, and in degrees."""
    apart = np.linalg.inv(true) @ found
    degrees = np.degrees(rotation_angles(apart[:3, :3]))
    return np.abs(translation_of(apart, centre_mm)).max(), np.abs(degrees).max()


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


def test_motion_and_its_centre_are_the_whole_pose():
    found = registration().align(scan((0.6, -0.4, 0.9), (1.0, -0.5, 0.8))[1])
    assert found.motion.centre_mm == tuple(centre_mm())
    np.testing.assert_allclose(pose_of(found.motion, np.array(found.motion.centre_mm)), found.pose, atol=1e-9)
    elsewhere = pose_of(found.motion, np.array(found.motion.centre_mm) + 20)
    assert np.abs(elsewhere - found.pose).max() > 0.1


@pytest.mark.parametrize(("translation_mm", "rotation_deg"), MOTIONS)
@pytest.mark.parametrize("gain", [0.95, 1.0, 1.05])
def test_a_known_motion_is_recovered_at_any_brightness(translation_mm, rotation_deg, gain):
    pose, volume = scan(translation_mm, rotation_deg, gain)
    found = registration().align(volume)
    assert found.motion.converged
    np.testing.assert_allclose(found.motion.translation_mm, translation_mm, atol=0.01)
    np.testing.assert_allclose(found.motion.rotation_deg, rotation_deg, atol=0.01)
    assert naive.mean_displacement(found.pose, pose, brain_mm()) < 0.01
    assert found.gain == pytest.approx(gain, abs=1e-3)


def test_brightness_alone_is_no_motion():
    _, volume = scan((1, -1, 0.5), (0.5, 0, -0.5))
    found = [registration().align(np.float32(gain) * volume).pose for gain in (0.95, 1.0, 1.05)]
    assert naive.mean_displacement(found[0], found[1], brain_mm()) < 0.005
    assert naive.mean_displacement(found[2], found[1], brain_mm()) < 0.005


def test_the_template_itself_has_not_moved():
    pose, motion, gain, problem = registration().align(np.array(head().template))
    np.testing.assert_allclose(pose, np.eye(4), atol=1e-9)
    assert motion.converged
    assert not problem
    assert motion.residual < 1e-6
    assert gain == pytest.approx(1, abs=1e-6)


def test_the_residual_is_the_noise_after_smoothing_and_larger_for_another_head():
    _, noisy = scan(noise=0.05)
    ours = registration().align(noisy).motion.residual
    other = build_head(SHAPE, (VOXEL_MM,) * 3, seed=1).template
    assert 0.002 < ours < 0.05
    assert registration().align(np.array(other)).motion.residual > 3 * ours


def test_a_long_movement_is_tracked_and_framewise_displacement_is_that_of_power():
    follow, before = registration(), None
    for step, fraction in enumerate(np.linspace(0, 1, 6)):
        translation_mm, rotation_deg = fraction * np.array([9, -6, 7.0]), fraction * np.array([6, -5, 8.0])
        _, volume = scan(translation_mm, rotation_deg, seed=step)
        motion = follow.align(volume).motion
        np.testing.assert_allclose(motion.translation_mm, translation_mm, atol=0.01)
        np.testing.assert_allclose(motion.rotation_deg, rotation_deg, atol=0.01)
        expected = naive.framewise_displacement(before, motion) if before else 0.0
        assert motion.framewise_displacement_mm == pytest.approx(expected, abs=1e-9)
        before = motion


def test_framewise_displacement_of_a_known_step():
    follow = registration()
    follow.align(scan()[1])
    motion = follow.align(scan((1.0, -0.5, 0.25), (0.5, 0.0, -1.0))[1]).motion
    assert motion.framewise_displacement_mm == pytest.approx(1.75 + 50 * np.radians(1.5), abs=0.02)


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


@pytest.mark.parametrize("offset_mm", [(300, 0, 0), (-40, 60, 25)])
def test_a_head_that_lies_elsewhere_by_the_header_is_found(offset_mm):
    """As after the participant was out of the scanner: the affines of two sessions do not know of each other."""
    elsewhere = head().affine.copy()
    elsewhere[:3, 3] += offset_mm
    expected = np.eye(4)
    expected[:3, 3] = offset_mm
    found = registration(elsewhere).align(scan()[1])
    assert not found.problem
    assert naive.mean_displacement(found.pose, expected, brain_mm()) < 0.01


@cache
def fine_head():
    return build_head((64, 64, 50), (3.0, 3.0, 3.0))


@pytest.mark.parametrize(
    ("reach", "noise", "bound"), [(2.0, 0.01, 0.005), (5.0, 0.02, 0.02)], ids=["±2 mm, ±1.5°", "±5 mm, ±5°"]
)
def test_the_paper_s_volumes_are_aligned_to_microns(reach, noise, bound):
    """64 × 64 × 50 voxels of 3 mm; the template is the mean of ten volumes, as in calibration."""
    rng = np.random.default_rng(3)

    def noisy(image, n_averaged=1):
        return (image + rng.normal(0, noise * 800 / np.sqrt(n_averaged), image.shape)).astype(np.float32)

    affine, template = fine_head().affine, fine_head().template
    follow = Registration(noisy(template, 10), affine, template.shape, affine, MotionSettings())
    for _ in range(4):
        turn = rng.uniform(-1, 1, 3) * (1.5 if reach == 2.0 else reach)
        pose = rigid(rng.uniform(-reach, reach, 3), np.radians(turn), follow.centre_mm)
        found = follow.align(noisy(naive.moved(template, affine, pose)))
        assert not found.problem
        assert max(errors(found.pose, pose, follow.centre_mm)) < bound


@pytest.mark.parametrize("far", [10.0, 15.0])
def test_a_head_far_away_is_found_from_a_cold_start(far):
    rng = np.random.default_rng(int(far))
    for _ in range(4):
        shift, turn = (rng.normal(size=3) for _ in range(2))
        shift, turn = far * shift / np.linalg.norm(shift), far * turn / np.linalg.norm(turn)
        pose, volume = scan(shift, turn)
        found = registration().align(volume)
        assert not found.problem
        assert max(errors(found.pose, pose, centre_mm())) < 0.02


def with_fault(volume, kind):
    faulty = volume.copy()
    match kind:
        case "a slice 8 % brighter":
            faulty[:, :, 15] *= 1.08
        case "a slice three times as bright":
            faulty[:, :, 15] *= 3
        case "a slice lost":
            faulty[:, :, 15] = 0
        case "a region lost":
            faulty[20:32, 20:32, 10:24] *= 0.1
        case "the left fifth lost":
            faulty[:14] = 0
    return faulty


@pytest.mark.parametrize(
    "kind",
    ["a slice 8 % brighter", "a slice three times as bright", "a slice lost", "a region lost", "the left fifth lost"],
)
def test_spikes_and_lost_signal_hardly_move_the_pose(kind):
    pose, volume = scan((0.4, -0.3, 0.5), (0.3, 0.4, -0.2))
    found = registration().align(with_fault(volume, kind))
    assert not found.problem
    assert max(errors(found.pose, pose, centre_mm())) < 0.03


def prescribed(kind):
    """Shape and affine of the same field of view, prescribed in another way than the template's."""
    middle = (head().affine @ [*(np.array(SHAPE) - 1) / 2, 1])[:3]
    shape, axes = SHAPE, head().affine[:3, :3]
    match kind:
        case "another angle and offset":
            axes = naive.rigid((0, 0, 0), (9, -4, 3), (0, 0, 0))[:3, :3] @ axes
            middle = middle + np.array([4, -6, 3])
        case "smaller voxels":
            shape, axes = (64, 64, 50), axes * 0.75
        case "flipped axes":
            axes = axes @ np.diag([-1, 1, -1])
        case "sagittal slices":
            shape, axes = (SHAPE[2], SHAPE[0], SHAPE[1]), axes[:, [2, 0, 1]]
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = middle - axes @ ((np.array(shape) - 1) / 2)
    return shape, affine


@pytest.mark.parametrize("kind", ["another angle and offset", "smaller voxels", "flipped axes", "sagittal slices"])
def test_a_run_prescribed_otherwise_is_aligned(kind):
    shape, affine = prescribed(kind)
    for motion in (((0.5, -0.3, 0.2), (0.4, 0.2, -0.5)), ((6.0, 5.0, -4.0), (5.0, -6.0, 4.0))):
        pose = naive.rigid(*motion, centre_mm())
        volume = naive.moved(head().template, head().affine, pose, affine, shape)
        found = registration(affine, shape).align(volume.astype(np.float32))
        assert not found.problem
        assert max(errors(found.pose, pose, centre_mm())) < 0.02


def test_a_slab_too_thin_to_align_is_refused():
    template = np.random.default_rng(0).normal(500, 100, (40, 40, 3)).astype(np.float32)
    with pytest.raises(InputError, match="at least 4 along each axis"):
        Registration(template, np.eye(4), template.shape, np.eye(4), MotionSettings())


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
    with pytest.raises(InputError, match=r"contrast|too few slices"):
        Registration(template.astype(np.float32), np.eye(4), template.shape, np.eye(4), MotionSettings())


@pytest.mark.parametrize("run", ["siemens-run", "studyforrest-localizer"])
def test_a_real_head_moved_by_known_motion_is_aligned(shared_data, run):
    """Moved by a windowed sinc, which shares nothing with our splines."""
    path = shared_data / run
    path = path / "dicom" if run == "siemens-run" else next(path.glob("*_bold.nii.gz"))
    source = open_source(path)
    affine, image = source.run.affine, next(iter(source)).data.astype(np.float32)
    follow = Registration(image, affine, image.shape, affine, MotionSettings())
    rng = np.random.default_rng(5)
    for _ in range(2):
        pose = rigid(rng.uniform(-2, 2, 3), np.radians(rng.uniform(-1.5, 1.5, 3)), follow.centre_mm)
        found = follow.align(naive.moved_by_sinc(image, affine, pose).astype(np.float32))
        assert not found.problem
        assert max(errors(found.pose, pose, follow.centre_mm)) < 0.01


def test_a_mirrored_or_another_head_is_not_taken_for_the_template_s(shared_data):
    run = open_source(shared_data / "siemens-run" / "dicom")
    other = open_source(next((shared_data / "studyforrest-localizer").glob("*_bold.nii.gz")))
    image, stranger = (next(iter(source)).data.astype(np.float32) for source in (run, other))
    affine = run.run.affine
    mirrored = Registration(image, affine, image.shape, affine, MotionSettings()).align(image[::-1].copy())
    assert "not the template's head" in mirrored.problem
    assert not mirrored.motion.converged
    assert Registration(image, affine, other.run.shape, other.run.affine, MotionSettings()).align(stranger).problem


def test_a_real_run_agrees_with_spm12_in_every_volume(shared_data):
    folder = shared_data / "siemens-run"
    spm = np.loadtxt(folder / "spm_motion.tsv", skiprows=1)
    source = open_source(folder / "dicom")
    affine, follow, differences = source.run.affine, None, []
    for volume, parameters in zip(source, spm, strict=True):
        image = volume.data.astype(np.float32)
        if follow is None:
            follow = Registration(image, affine, image.shape, affine, MotionSettings())
            inside = np.argwhere(image > 0.3 * np.percentile(image, 98))
            points = inside[::20] @ affine[:3, :3].T + affine[:3, 3]
        pose, _, _, problem = follow.align(image)
        assert not problem
        # SPM maps the volume's world to the template's, and we the other way round.
        spm_pose = np.linalg.inv(naive.spm_matrix(parameters[:3], parameters[3:]))
        differences.append(naive.mean_displacement(pose, spm_pose, points))
    assert len(differences) == 155
    assert max(differences) < 0.1
    assert np.median(differences) < 0.03


def test_a_head_that_was_found_before_is_not_called_another_s():
    settings = MotionSettings(n_points=1000, least_explained=0.995)
    follow = Registration(small.head(), small.AFFINE, small.SHAPE, small.AFFINE, settings)
    # Every other slice is of another position, as in a volume during which the head moved.
    torn = small.head((6.0, -4.0, 2.0))
    torn[:, :, ::2] = small.head()[:, :, ::2]
    at_first = follow.align(torn).problem
    assert "not the template's head, or it moved meanwhile" in at_first
    assert not follow.align(small.head((3.0, -2.0, 1.0))).problem
    later = follow.align(torn).problem
    assert "moved while this volume was acquired" in later
    assert "template's head" not in later
