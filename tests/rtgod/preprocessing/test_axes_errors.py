"""A head whose axes are exchanged or turned round is told from another head, a far moved one, and noise."""

from dataclasses import replace

import numpy as np
import pytest

from rtgod.preprocessing.alignment import Reference, registration_to
from rtgod.preprocessing.axes_errors import find_axes_error
from rtgod.preprocessing.geometry import rigid
from rtgod.preprocessing.sampling import Sampler
from rtgod.settings import MotionSettings, SamplingSettings
from rtgod.sources import open_source
from tests import small

REFERENCE = Reference(small.head(), small.AFFINE, np.empty((0, 3), np.int32))
WAYS = {
    "left and right exchanged": lambda data: data[::-1],
    "anterior and posterior exchanged": lambda data: data[:, ::-1],
    "top and bottom exchanged": lambda data: data[:, :, ::-1],
    "left and right, and anterior and posterior exchanged": lambda data: data[::-1, ::-1],
    "the 1st and 2nd axes swapped": lambda data: data.transpose(1, 0, 2),
    "the 2nd and 3rd axes swapped and the 2nd turned round": lambda data: data.transpose(0, 2, 1)[:, ::-1],
}


def found_in(data, run, reference, settings):
    data = np.ascontiguousarray(data)
    return find_axes_error(data, replace(run, shape=data.shape), reference, settings)


@pytest.mark.parametrize("words", ["left and right exchanged", "anterior and posterior exchanged"])
def test_a_small_head_is_found_in_its_mirror_image(words):
    settings = MotionSettings(n_points=1000, least_explained=0.97)
    assert found_in(WAYS[words](small.head()), small.run(), REFERENCE, settings) == words
    assert found_in(small.head(), small.run(), REFERENCE, settings) == ""


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_axes_that_are_wrong(seed):
    noise = np.random.default_rng(seed).uniform(0, 900, small.SHAPE).astype(np.float32)
    assert found_in(noise, small.run(), REFERENCE, MotionSettings(n_points=1000)) == ""


@pytest.fixture(scope="module")
def real(shared_data):
    source = open_source(shared_data / "siemens-run" / "dicom")
    image = next(iter(source)).data.astype(np.float32)
    return source.run, image, Reference(image, source.run.affine, np.empty((0, 3), np.int32))


@pytest.mark.parametrize("words", WAYS)
def test_a_real_head_s_axes_are_named(real, words):
    run, image, reference = real
    assert found_in(WAYS[words](image), run, reference, MotionSettings()) == words


def test_another_real_head_has_no_axes_that_are_wrong(real, shared_data):
    _, _, reference = real
    other = open_source(next((shared_data / "studyforrest-localizer").glob("*_bold.nii.gz")))
    stranger = next(iter(other)).data.astype(np.float32)
    assert found_in(stranger, other.run, reference, MotionSettings()) == ""


def moved(image, run, shift_mm=(0, 0, 0), turn_deg=(0, 0, 0)):
    centre_mm = run.affine[:3, :3] @ ((np.array(run.shape) - 1) / 2) + run.affine[:3, 3]
    pose = rigid(np.array(shift_mm, float), np.radians(turn_deg), centre_mm)
    everywhere = np.argwhere(np.ones(run.shape, bool)).astype(np.int32)
    to_voxel = np.linalg.inv(run.affine) @ pose @ run.affine
    values, _ = Sampler(everywhere, run.shape, SamplingSettings()).sample(image, to_voxel)
    return np.nan_to_num(values).reshape(run.shape)


def moved_meanwhile(image, run):
    """Every other slice of a head that turned by 30°."""
    data = image.copy()
    data[:, :, ::2] = moved(image, run, turn_deg=(0, 0, 30))[:, :, ::2]
    return data


@pytest.mark.parametrize(
    "change",
    [
        lambda image, run: moved(image, run, (0, 0, 75)),
        lambda image, run: moved(image, run, (0, 110, 0), (10, 0, 10)),
        moved_meanwhile,
        lambda image, run: image.max() - image,  # noqa: ARG005
        lambda image, run: np.random.default_rng(0).permutation(image.ravel()).reshape(image.shape),  # noqa: ARG005
    ],
    ids=["too high", "too far back", "moved meanwhile", "inverted", "noise"],
)
def test_a_real_head_that_cannot_be_aligned_for_another_reason_has_no_axes_that_are_wrong(real, change):
    run, image, reference = real
    data = change(image, run).astype(np.float32)
    assert registration_to(image, run.affine, run, MotionSettings()).align(data).problem
    assert found_in(data, run, reference, MotionSettings()) == ""
