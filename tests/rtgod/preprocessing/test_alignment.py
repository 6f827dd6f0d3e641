"""Volumes that nothing can be registered in: they are read where they are."""

import dataclasses

import nibabel as nib
import numpy as np
import pytest

from rtgod.errors import InputError
from rtgod.preprocessing.alignment import Aligner, Reference, check_reference, check_run
from rtgod.preprocessing.stopwatch import Stopwatch
from rtgod.settings import MotionSettings, SamplingSettings
from tests import small

UNMOVED = MotionSettings(estimate=False)


def one_slice(changes=None):
    """A run of one slice, its template and the head's voxels in it."""
    template = np.ascontiguousarray(small.head()[:, :, 8:9])
    run = small.run(shape=template.shape, **(changes or {}))
    return run, Reference(template, small.AFFINE, np.argwhere(template > 100).astype(np.int32))


def test_without_estimation_a_single_slice_is_read_where_it_is_and_has_not_moved():
    run, reference = one_slice()
    check_reference(reference, UNMOVED)
    aligner = Aligner(reference, run, UNMOVED, SamplingSettings())
    for index in range(2):
        data = small.head((3.0 * index, 0, 0))[:, :, 8:9].astype(np.int16)
        found = aligner.align(dataclasses.replace(small.volume(index), data=data), Stopwatch())
        np.testing.assert_array_equal(found.decoder_values, data[tuple(reference.voxels.T)].astype(np.float32))
        assert found.motion.translation_mm == found.motion.rotation_deg == (0.0, 0.0, 0.0)
        assert found.motion.framewise_displacement_mm == 0.0
        assert found.motion.converged


def test_brightness_is_that_with_which_the_template_fits_best():
    run, reference = one_slice()
    data = 1.25 * reference.template + np.random.default_rng(0).normal(0, 20, run.shape)
    volume = dataclasses.replace(small.volume(0), data=data)
    found = Aligner(reference, run, UNMOVED, SamplingSettings()).align(volume, Stopwatch())
    expected = np.linalg.lstsq(reference.template.reshape(-1, 1), data.reshape(-1), rcond=None)[0]
    assert found.gain == pytest.approx(expected.item(), rel=1e-5)


def test_a_single_slice_cannot_be_registered():
    run, reference = one_slice()
    with pytest.raises(InputError, match=r"18 × 20 × 1 voxels cannot be aligned; .* motion.estimate = false"):
        check_run(run, reference, MotionSettings())


@pytest.mark.parametrize("changes", [{"shape": (18, 20, 2)}, {"affine": small.AFFINE + np.diag([0.5, 0, 0, 0])}])
def test_without_estimation_the_grid_must_be_the_template_s(changes):
    _, reference = one_slice()
    run = dataclasses.replace(one_slice()[0], **changes)
    with pytest.raises(InputError, match=r"run-1: .* not the template's, .*; resample the run, or let motion be"):
        Aligner(reference, run, UNMOVED, SamplingSettings())
    rounded = dataclasses.replace(one_slice()[0], affine=small.AFFINE + np.diag([0.004, 0, 0, 0]))
    check_run(rounded, reference, UNMOVED)


@pytest.mark.parametrize("codes", ["LAS", "RPI", "ASR"])
def test_without_estimation_a_run_may_be_stored_in_any_order_and_direction(codes):
    """The same voxels give the same bytes, wherever in the array they are."""
    run, reference = one_slice()
    data = small.head((1.0, 0, 0))[:, :, 8:9].astype(np.int16)
    image = nib.Nifti1Image(data, small.AFFINE)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(small.AFFINE), nib.orientations.axcodes2ornt(codes)
    )
    turned = image.as_reoriented(turn)
    other = dataclasses.replace(run, shape=turned.shape, affine=turned.affine)
    volume = dataclasses.replace(small.volume(0), data=data)
    expected = Aligner(reference, run, UNMOVED, SamplingSettings()).align(volume, Stopwatch())
    volume = dataclasses.replace(small.volume(0), data=np.ascontiguousarray(turned.dataobj))
    found = Aligner(reference, other, UNMOVED, SamplingSettings()).align(volume, Stopwatch())
    assert found.decoder_values.tobytes() == expected.decoder_values.tobytes()
    assert found.gain == expected.gain


@pytest.mark.parametrize("estimate", [True, False])
def test_nan_is_background_where_nothing_is_read_and_damage_elsewhere(estimate):
    settings = MotionSettings(estimate=estimate)
    template = small.head().astype(np.float32)
    reference = Reference(template, small.AFFINE, np.argwhere(template > 600).astype(np.int32))
    run = small.run()
    masked, zeroed = template.copy(), template.copy()
    masked[template < 60], zeroed[template < 60] = np.nan, 0

    def align(data):
        volume = dataclasses.replace(small.volume(0), data=data)
        return Aligner(reference, run, settings, SamplingSettings()).align(volume, Stopwatch())

    assert align(masked).decoder_values.tobytes() == align(zeroed).decoder_values.tobytes()
    for damaged in (masked.copy(), template.copy()):
        damaged[tuple(reference.voxels[0])] = np.nan
        assert "not finite, 1 of them in the head" in align(damaged).detail
    few = template.copy()
    few[0, 0, :3] = np.nan  # nobody masks three voxels
    assert "not finite" in align(few).detail
    infinite = masked.copy()
    infinite[0, 0, 0] = np.inf
    assert "not finite" in align(infinite).detail
