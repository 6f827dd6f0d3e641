"""Why a run has no sample: what happened to its volumes is said, and events are blamed only where volumes were good."""

import nibabel as nib
import numpy as np
import pytest

from calibration.datasets.runs import RunFiles
from calibration.samples.runs import align_run, make_reference, noise_residuals
from rtgod.errors import InputError
from rtgod.preprocessing.noise_model import NoiseComponents
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import PipelineSettings
from tests import small
from tests.calibration.conftest import sampled

SETTINGS = PipelineSettings.model_validate({"noise": {"n_components": 0}})
N_VOLUMES = 24


def head_run(folder, name, change=lambda data: data, events="12\t6\tface\n30\t6\thouse\n"):
    """A run of a small head that does not move, changed before it is written."""
    noise = np.random.default_rng(len(name)).normal(0, 2, (*small.SHAPE, N_VOLUMES))
    data = change((small.head()[..., np.newaxis] + noise).astype(np.float32))
    image = nib.Nifti1Image(data, small.AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((*image.header.get_zooms()[:3], 2.0))
    nib.save(image, folder / f"{name}_bold.nii")
    (folder / f"{name}_events.tsv").write_text(f"onset\tduration\ttrial_type\n{events}")
    return RunFiles(folder / f"{name}_bold.nii", folder / f"{name}_events.tsv")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return make_reference(head_run(tmp_path_factory.mktemp("first"), "first"), None, SETTINGS)


def samples(files, reference):
    return sampled(align_run(files, reference, Noise(), SETTINGS), reference, SETTINGS)


def dark(data):
    """Voxels outside the head, of shape (x, y, z)."""
    return data[..., 0] < 100


def masked(data):
    data[dark(data)] = np.nan
    return data


def hole(data):
    data[8:11, 9:12, 7:10] = np.nan
    return data


def phase(data):
    return np.random.default_rng(0).integers(-4096, 4095, data.shape).astype(np.float32)


def mirrored_in_time(data):
    data[..., 3:] = 7
    return data


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (hole, r"24 of 24 volumes have voxels that are not finite \(NaN or infinite\) .*; fill them with 0, or decode"),
        (
            phase,
            r"24 of 24 volumes do not fit the template \(they explain less than 0.9 of it\): another head, a phase",
        ),
        (mirrored_in_time, r"21 of 24 volumes are no volumes of a head \(volume is constant\)"),
    ],
)
def test_what_happened_to_the_volumes_is_told(tmp_path, reference, change, says):
    files = head_run(tmp_path, "run", change)
    with pytest.raises(InputError, match=says) as refused:
        samples(files, reference)
    assert "run_bold.nii" in str(refused.value)
    assert "events" not in str(refused.value)


def test_events_are_blamed_where_volumes_were_good(tmp_path, reference):
    # Of the volumes that are discarded.
    files = head_run(tmp_path, "run", events="0\t2\tface\n")
    with pytest.raises(InputError, match=r"no trial of run_events.tsv has a usable volume; do the events belong"):
        samples(files, reference)


def test_too_much_motion_is_counted(tmp_path, reference):
    still = PipelineSettings.model_validate({"noise": {"n_components": 0}, "censoring": {"fd_mm": 1e-9}})
    with pytest.raises(InputError, match=r"of 24 volumes are censored: too much motion"):
        sampled(align_run(head_run(tmp_path, "run"), reference, Noise(), still), reference, still)


def test_noise_components_of_a_run_without_a_usable_volume_are_no_traceback(tmp_path, reference):
    aligned = align_run(head_run(tmp_path, "run", phase), reference, Noise(), SETTINGS)
    courses = NoiseComponents(reference.voxels[:5], np.empty((0, 5), np.float32))
    with pytest.raises(InputError, match="24 of 24 volumes do not fit the template"):
        noise_residuals(aligned, Noise(courses=courses), SETTINGS)


def test_nan_outside_of_the_head_is_background(tmp_path, reference):
    """As every other package takes it; the samples are those of the same run with 0 there, to the last bit."""

    def zeroed(data):
        data[dark(data)] = 0
        return data

    ours, expected = (samples(head_run(tmp_path, "run", change), reference) for change in (masked, zeroed))
    assert ours.trials == expected.trials
    assert ours.values.tobytes() == expected.values.tobytes()


def test_a_template_is_made_of_masked_volumes(tmp_path):
    made = make_reference(head_run(tmp_path, "run", masked), None, SETTINGS)
    assert np.isfinite(made.template).all()
    assert samples(head_run(tmp_path, "run", masked), made).trials


def test_a_damaged_volume_makes_no_part_of_the_template(tmp_path):
    def damaged(data):
        data[9, 10, 8, 6] = np.nan  # of one of the volumes that are averaged
        return data

    made = make_reference(head_run(tmp_path, "run", damaged), None, SETTINGS)
    assert made.template[9, 10, 8] == pytest.approx(small.head()[9, 10, 8], rel=0.05)

    def all_damaged(data):
        for volume in range(N_VOLUMES):
            data[9, 10, volume % 16, volume] = np.nan
        return data

    with pytest.raises(InputError, match=r"run_bold.nii: all of the first 10 volumes.* not finite \(NaN\); fill"):
        make_reference(head_run(tmp_path, "run", all_damaged), None, SETTINGS)


def test_a_template_without_contrast_names_its_file(tmp_path):
    with pytest.raises(InputError, match=r"run_bold.nii: template has no contrast"):
        make_reference(head_run(tmp_path, "run", lambda data: 0 * data + 5), None, SETTINGS)
