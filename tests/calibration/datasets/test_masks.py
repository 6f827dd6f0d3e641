import gzip

import nibabel as nib
import numpy as np
import pytest

from calibration.datasets.masks import Region, in_head, notes_on_values, read_mask
from rtgod.errors import InputError
from rtgod.messages import Run

AFFINE = np.array([[3.0, 0, 0, -9], [0, 3, 0, -12], [0, 0, 4, 5], [0, 0, 0, 1]])
RUN = Run("run-1", "01", 2.0, (4, 5, 6), AFFINE)


def mask_image(folder, data=None, affine=AFFINE, name="mask.nii.gz"):
    data = np.ones(RUN.shape, np.uint8) if data is None else data
    nib.save(nib.Nifti1Image(data, affine), folder / name)
    return folder / name


def test_a_mask_is_its_voxels(tmp_path):
    data = np.zeros(RUN.shape, np.float32)
    data[3, 4, 5], data[1, 0, 2], data[0, 0, 0] = 0.5, 1, -1
    voxels = read_mask(mask_image(tmp_path, data), RUN)
    assert voxels.tolist() == [[1, 0, 2], [3, 4, 5]]
    assert voxels.dtype == np.int32
    rounded = AFFINE + np.array([0.004, 0, 0, 0])  # as headers round
    assert len(read_mask(mask_image(tmp_path, data, rounded), RUN)) == 2


def test_a_region_is_an_expression_over_images_whose_hemispheres_are_united(tmp_path):
    rng = np.random.default_rng(0)
    left, right, other = (rng.random(RUN.shape) < 0.3 for _ in range(3))
    files = {
        name: mask_image(tmp_path, data.astype(np.uint8), name=f"{name}.nii")
        for name, data in {"left": left, "right": right, "other": other}.items()
    }
    masks = {"V1": (files["left"], files["right"]), "ROI_FFA": (files["other"],)}
    region = Region("V1 - FFA", masks)
    np.testing.assert_array_equal(region.voxels(RUN), np.argwhere((left | right) & ~other))
    assert region.files == tuple(files.values())


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPI", "SRA", "PIR"])
@pytest.mark.parametrize("n_ones", [0, 1, 2])
def test_a_mask_may_be_stored_in_any_order_and_direction(tmp_path, codes, n_ones):
    """nibabel's reorientation is the reference: the voxels stay where they are in the world."""
    data = (np.random.default_rng(0).random(RUN.shape) < 0.3).astype(np.uint8)
    wanted = nib.orientations.axcodes2ornt(codes)
    stored = nib.Nifti1Image(data, AFFINE).as_reoriented(nib.orientations.ornt_transform(np.c_[:3, [1, 1, 1]], wanted))
    assert "".join(nib.aff2axcodes(stored.affine)) == codes
    values = np.asarray(stored.dataobj)
    path = mask_image(tmp_path, values.reshape(values.shape + (1,) * n_ones), stored.affine)
    np.testing.assert_array_equal(read_mask(path, RUN), np.argwhere(data))


def test_another_place_is_refused_with_how_far_away_it_is(tmp_path):
    elsewhere = AFFINE.copy()
    elsewhere[0, 3] += 3
    with pytest.raises(InputError, match="up to 3 mm away; resample it"):
        read_mask(mask_image(tmp_path, affine=elsewhere), RUN)
    oblique = AFFINE.copy()
    oblique[:2, :2] = 3 * np.array([[0.8, -0.6], [0.6, 0.8]])
    with pytest.raises(InputError, match="mm away; resample it"):
        read_mask(mask_image(tmp_path, affine=oblique), RUN)


def test_an_area_that_one_hemisphere_lacks_is_that_of_the_other(tmp_path):
    empty = mask_image(tmp_path, np.zeros(RUN.shape, np.uint8), name="left.nii")
    one = np.zeros(RUN.shape, np.uint8)
    one[1, 2, 3] = 1
    assert Region("FFA", {"FFA": (empty, mask_image(tmp_path, one))}).voxels(RUN).tolist() == [[1, 2, 3]]


def test_a_region_without_voxels_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"region 'V1 - V1': no voxel in it \(mask.nii.gz\); choose another"):
        Region("V1 - V1", {"V1": (mask_image(tmp_path),)}).voxels(RUN)


def test_labels_and_fractions_are_told_of(tmp_path):
    data = np.zeros(RUN.shape, np.float32)
    data[0, 0, :4] = 1, 35, 2, -3
    labels = notes_on_values(mask_image(tmp_path, data))
    assert labels == ("mask mask.nii.gz has labels 1, 2, 35: all taken as one region",)
    assert notes_on_values(mask_image(tmp_path, data / 50)) == (
        "mask mask.nii.gz: values between 0.02 and 0.7: voxels above 0 are taken",
    )
    for one_value in (data > 1.5, 255 * (data > 0)):
        assert notes_on_values(mask_image(tmp_path, one_value.astype(np.uint8))) == ()


def test_the_head_is_what_is_bright():
    template = np.full((10, 10, 10), 40.0, np.float32)
    template[2:8, 2:8, 2:8] = 800
    template[0, 0, 0] = 1e6  # a spike
    assert in_head(template).sum() == 6**3 + 1


def cut(folder):
    rng = np.random.default_rng(0)
    path = mask_image(folder, rng.integers(0, 2, RUN.shape).astype(np.float64))
    path.write_bytes(path.read_bytes()[:-60])
    return path


def test_voxels_with_nan_are_not_taken_and_are_told(tmp_path):
    values = np.zeros(RUN.shape, np.float32)
    values[1, 2, 3], values[0, 0, 0] = 1, np.nan
    path = mask_image(tmp_path, values)
    assert read_mask(path, RUN).tolist() == [[1, 2, 3]]
    assert notes_on_values(path) == (f"mask {path.name}: 1 voxel with NaN, not taken",)


def damaged(folder):
    path = mask_image(folder, np.random.default_rng(0).random(RUN.shape))
    content = bytearray(path.read_bytes())
    content[12:40] = bytes([255]) * 28
    path.write_bytes(content)
    return path


def text(folder):
    (folder / "mask.nii.gz").write_bytes(gzip.compress(b"no image"))
    return folder / "mask.nii.gz"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda d: mask_image(d, np.ones((4, 5, 7), np.uint8)), "differ from those of run run-1 .*; resample it"),
        (lambda d: mask_image(d, np.ones((*RUN.shape, 2), np.uint8)), "one volume .* is needed"),
        (lambda d: mask_image(d, affine=AFFINE + np.eye(4) * [1, 0, 0, 0]), "resample it"),
        (lambda d: mask_image(d, np.zeros(RUN.shape, np.uint8)), "none of its voxels is above 0"),
        (lambda d: mask_image(d, np.full(RUN.shape, np.inf, np.float32)), "has infinite values"),
        (lambda d: d / "mask.nii.gz", "cannot be read"),
        (cut, "cannot be read"),
        (damaged, "cannot be read"),
        (text, "cannot be read"),
    ],
    ids=["shape", "two volumes", "affine", "empty", "infinite", "missing", "cut short", "damaged", "no image"],
)
def test_a_mask_that_does_not_fit_is_refused(tmp_path, make, what):
    path = make(tmp_path)
    with pytest.raises(InputError, match=what) as refused:
        read_mask(path, RUN)
    assert path.name in str(refused.value)
