from functools import cache
from itertools import combinations

import numpy as np
import pytest

from calibration.simulation.head import REGIONS, UNIONS, VOLUME_MM3, Head, _grow_regions, _oblique_affine, build_head
from rtgod.errors import InputError

GRIDS = [((64, 64, 50), (3.0, 3.0, 3.0)), ((32, 32, 25), (6.0, 6.0, 6.0))]
COARSE = GRIDS[1]


@cache
def head_on(shape, voxel_mm, seed=0) -> Head:
    return build_head(shape, voxel_mm, seed)


@pytest.fixture(params=GRIDS, ids=["3mm", "6mm"])
def grid(request):
    return request.param


@pytest.fixture
def head(grid) -> Head:
    return head_on(*grid)


def positions_mm(head: Head, name: str) -> np.ndarray:
    return np.argwhere(head.mask(name)) @ head.affine[:3, :3].T + head.affine[:3, 3]


def test_shapes_and_dtypes(head, grid):
    assert head.affine.dtype == np.float64
    for array, dtype in [
        (head.template, np.float32),
        (head.grey, np.float32),
        (head.white, np.float32),
        (head.csf, np.float32),
        (head.brain, np.bool_),
        (head.regions, np.int16),
    ]:
        assert array.shape == grid[0]
        assert array.dtype == dtype
        assert not array.flags.writeable


def test_affine_is_oblique_with_the_voxels_asked_for(head, grid):
    for affine, voxel_mm in [(head.affine, grid[1]), (_oblique_affine((40, 32, 30), (5.0, 6.0, 5.5)), (5.0, 6.0, 5.5))]:
        np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), voxel_mm)
        assert np.linalg.det(affine[:3, :3]) > 0
        assert 5 < np.rad2deg(np.arctan2(abs(affine[2, 1]), affine[1, 1])) < 15


def test_same_seed_same_head_and_another_seed_another():
    first, again, other = head_on(*COARSE), build_head(*COARSE, seed=0), head_on(*COARSE, seed=1)
    for field in ("affine", "template", "grey", "white", "csf", "brain", "regions"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    assert not np.array_equal(first.template, other.template)
    assert not np.array_equal(first.regions, other.regions)


def test_both_grids_show_the_same_head():
    fine, coarse = (head_on(*grid) for grid in GRIDS)
    blocks = fine.grey.reshape(32, 2, 32, 2, 25, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(blocks, coarse.grey, atol=1e-3)


def test_partial_volumes_are_shares(head):
    for part in (head.grey, head.white, head.csf):
        assert part.min() >= 0
        assert part.max() <= 1
    assert (head.grey + head.white + head.csf).max() <= 1 + 1e-5


def test_brain_fits_the_field_of_view_and_is_of_human_size(head, grid):
    assert 1200 < head.brain.sum() * np.prod(grid[1]) / 1000 < 2000  # ml, with the fluid around it
    for axis in range(3):
        inside = head.brain.any(axis=tuple({0, 1, 2} - {axis}))
        assert not inside[-1]
        assert not inside[0] or axis == 2  # only the brain stem leaves the field of view


def test_intensities_rank_as_in_t2_star():
    head = head_on(*GRIDS[0])
    grey, white, csf = (head.template[part > 0.9].mean() for part in (head.grey, head.white, head.csf))
    assert csf > 1.1 * grey > 1.1 * white
    assert 600 < head.template[head.brain].mean() < 1000
    assert head.template[0, 0, -1] == 0  # air
    assert head.template.min() >= 0


@pytest.mark.parametrize(("grid", "seed"), [(GRIDS[0], 0), (COARSE, 0), (COARSE, 1)])
def test_regions_have_their_volumes(grid, seed):
    head = head_on(*grid, seed)
    for name in REGIONS:
        assert head.mask(name).sum() * np.prod(grid[1]) == pytest.approx(VOLUME_MM3[name], rel=0.25)


def test_regions_are_disjoint_and_in_grey_matter(head):
    for first, second in combinations(REGIONS, 2):
        assert not (head.mask(first) & head.mask(second)).any()
    assert head.grey[head.mask("VC")].min() > 0.5
    assert head.brain[head.mask("VC")].all()


def test_unions_are_their_members(head):
    for union, members in UNIONS.items():
        np.testing.assert_array_equal(head.mask(union), np.any([head.mask(name) for name in members], axis=0))
    np.testing.assert_array_equal(head.mask("VC"), head.regions > 0)


def test_regions_are_bilateral(head):
    for name in REGIONS:
        x = positions_mm(head, name)[:, 0]
        assert (x < 0).sum() == pytest.approx((x > 0).sum(), rel=0.25)


@pytest.mark.parametrize("seed", [0, 1])
def test_regions_lie_as_in_the_brain(seed):
    head = head_on(*COARSE, seed)
    centre = {}
    for name in REGIONS:
        x, y, z = positions_mm(head, name).T
        centre[name] = np.abs(x).mean(), y.mean(), z.mean()
    for anterior in ("FFA", "PPA"):
        assert centre["V1"][1] < centre[anterior][1] - 20
    assert centre["FFA"][0] > centre["PPA"][0] + 8
    assert centre["V4"][2] < centre["V3"][2] - 8
    assert centre["LOC"][0] > centre["V3"][0] + 15
    assert centre["V1"][0] < 20


def test_early_areas_surround_one_another():
    head = head_on(*GRIDS[0])
    spread = [positions_mm(head, name)[:, 2].std() for name in ("V1", "V2", "V3")]
    assert spread == sorted(spread)


def test_unknown_region_lists_the_known_ones():
    with pytest.raises(InputError, match=r"no region 'V7'; known are V1, .*PPA, LVC, HVC, VC"):
        head_on(*COARSE).mask("V7")


@pytest.mark.parametrize(
    ("shape", "voxel_mm", "message"),
    [
        ((0, 64, 50), (3.0, 3.0, 3.0), "positive"),
        ((64, 64, 50), (3.0, -3.0, 3.0), "positive"),
        ((64, 64, 50), (3.0, 3.0, float("nan")), "positive"),
        ((32, 32, 25), (3.0, 3.0, 3.0), "cuts visual cortex"),
        ((8, 8, 8), (24.0, 24.0, 24.0), "too coarse"),
    ],
)
def test_impossible_grids_are_refused(shape, voxel_mm, message):
    with pytest.raises(InputError, match=message):
        build_head(shape, voxel_mm)


def test_regions_are_as_large_as_their_scale_says():
    def sizes(**scale):
        regions = build_head(*COARSE, area_scale=scale).regions
        return np.bincount(regions.ravel(), minlength=1 + len(REGIONS))[1:]

    usual, scaled = sizes(), sizes(LOC=1.3, FFA=0.4)
    ratio = dict(zip(REGIONS, scaled / usual, strict=True))
    assert ratio.pop("LOC") == pytest.approx(1.3, rel=0.05)
    assert ratio.pop("FFA") == pytest.approx(0.4, rel=0.05)
    assert set(ratio.values()) == {1.0}
    with pytest.raises(InputError, match="smaller areas"):
        build_head(*COARSE, area_scale={"V1": 200.0})


def test_too_little_cortex_is_refused():
    points = tuple(np.full((2, 2, 2), centre, np.float32) for centre in (10.0, -80.0, 0.0))
    with pytest.raises(InputError, match=r"too few voxels of 27 mm³.*area_scale"):
        _grow_regions(np.ones((2, 2, 2), bool), points, 27.0, VOLUME_MM3)
