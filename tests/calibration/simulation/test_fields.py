import numpy as np
import pytest

from calibration.simulation.fields import SmoothNoise, slow_courses, smoothing_of, wide_field

#: Correlation at a distance of one kernel's width: a Gaussian kernel's product with itself is √2 times as wide.
HALF = np.exp(-2 * np.log(2))


def test_a_field_over_points_is_as_smooth_as_set_wherever_they_are():
    rng = np.random.default_rng(0)
    positions_mm = rng.uniform(0, 40, (300, 3))
    field = rng.standard_normal((4000, 300)) @ smoothing_of(positions_mm, 8.0)
    np.testing.assert_allclose(field.std(axis=0), 1, atol=0.06)
    # On a lattice the width is exact; at random points it is a little more or less.
    line_mm = np.column_stack([np.arange(0, 60.0, 1), np.zeros(60), np.zeros(60)])
    field = rng.standard_normal((20000, 60)) @ smoothing_of(line_mm, 8.0)
    assert np.corrcoef(field[:, 25], field[:, 33])[0, 1] == pytest.approx(HALF, abs=0.03)
    assert abs(np.corrcoef(field[:, 15], field[:, 45])[0, 1]) < 0.03


def test_no_width_leaves_noise_white():
    np.testing.assert_array_equal(smoothing_of(np.zeros((4, 3)), 0.0), np.eye(4))
    white = SmoothNoise((8, 9, 10), (3.0, 3.0, 3.0), 0.0).draw(np.random.default_rng(0))
    np.testing.assert_array_equal(white, np.random.default_rng(0).standard_normal((8, 9, 10), np.float32))


@pytest.mark.parametrize("voxel_mm", [(2.0, 2.0, 2.0), (2.0, 3.0, 4.0)])
def test_noise_over_a_volume_is_as_smooth_as_set_along_each_axis(voxel_mm):
    noise = SmoothNoise((48, 48, 48), voxel_mm, 12.0)
    rng = np.random.default_rng(0)
    volumes = np.stack([noise.draw(rng) for _ in range(30)])
    assert volumes.std() == pytest.approx(1, abs=0.03)
    assert volumes[:, :2].std() == pytest.approx(1, abs=0.08)  # edges vary as much
    for axis, edge_mm in enumerate(voxel_mm, 1):
        n = round(12.0 / edge_mm)
        assert (volumes * np.roll(volumes, n, axis)).mean() == pytest.approx(HALF, abs=0.05)


def test_wide_fields_vary_slowly_with_a_standard_deviation_of_one():
    fields = np.stack([wide_field((20, 24, 16), np.random.default_rng(seed)) for seed in range(50)])
    assert fields.std() == pytest.approx(1, abs=0.1)
    assert np.diff(fields, axis=1).std() < 0.5


def test_slow_courses_keep_their_variance_from_the_start():
    courses = slow_courses(40, 20000, 2.0, np.random.default_rng(0))
    np.testing.assert_allclose(courses.std(axis=1), 1, atol=0.03)
    assert (courses[1:] * courses[:-1]).mean() == pytest.approx(np.exp(-2 / 8), abs=0.01)
