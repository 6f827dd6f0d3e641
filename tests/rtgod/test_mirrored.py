"""A head whose left and right are exchanged is told from another head."""

import numpy as np
import pytest

from rtgod.alignment import Reference
from rtgod.mirrored import is_mirrored
from rtgod.settings import MotionSettings
from rtgod.sources import open_source
from tests import small

REFERENCE = Reference(small.head(), small.AFFINE, np.empty((0, 3), np.int32))


def test_a_small_head_is_found_in_its_mirror_image():
    settings = MotionSettings(n_points=1000, least_explained=0.97)
    assert is_mirrored(np.ascontiguousarray(small.head()[::-1]), small.run(), REFERENCE, settings)
    assert not is_mirrored(small.head(), small.run(), REFERENCE, settings)


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_no_mirrored_head(seed):
    noise = np.random.default_rng(seed).uniform(0, 900, small.SHAPE).astype(np.float32)
    assert not is_mirrored(noise, small.run(), REFERENCE, MotionSettings(n_points=1000))


def test_a_real_head_is_found_in_its_mirror_image_and_no_other_s(shared_data):
    run = open_source(shared_data / "siemens-run" / "dicom")
    other = open_source(next((shared_data / "studyforrest-localizer").glob("*_bold.nii.gz")))
    image, stranger = (next(iter(source)).data.astype(np.float32) for source in (run, other))
    reference = Reference(image, run.run.affine, np.empty((0, 3), np.int32))
    assert is_mirrored(np.ascontiguousarray(image[::-1]), run.run, reference, MotionSettings())
    assert not is_mirrored(stranger, other.run, reference, MotionSettings())
