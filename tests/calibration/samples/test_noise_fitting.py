import numpy as np
import pytest

from calibration.samples.noise_fitting import learn_courses, learn_shape, noisiest_voxels
from rtgod.errors import InputError
from rtgod.settings import NoiseSettings, PipelineSettings

N_VOLUMES, N_VOXELS = 400, 60


def drawn(n_factors=3, seed=0, n_voxels=N_VOXELS, n_volumes=N_VOLUMES):
    """Noise with a few common courses, and the directions in which voxels have them in common."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.standard_normal((n_voxels, n_factors)))[0].T
    courses = rng.standard_normal((n_volumes, n_factors)) * np.array([8.0, 6.0, 4.0])[:n_factors]
    noise = courses @ directions + rng.standard_normal((n_volumes, n_voxels))
    return [noise[: n_volumes // 2].astype(np.float32), noise[n_volumes // 2 :].astype(np.float32)], directions, courses


def test_the_components_are_the_principal_ones_of_the_scaled_noise():
    runs, _, _ = drawn()
    shape = learn_shape(runs, NoiseSettings(n_components=5))
    noise = np.concatenate(runs).astype(float)
    sd = np.sqrt((noise**2).mean(axis=0))
    values, vectors = np.linalg.eigh((noise / sd).T @ (noise / sd) / len(noise))
    np.testing.assert_allclose(shape.sd, sd, rtol=1e-5)
    overlap = np.abs(shape.components @ vectors[:, ::-1][:, :5])
    np.testing.assert_allclose(overlap, np.eye(5), atol=1e-4)
    rest = values[:-5].mean()
    expected = np.sqrt(2 * rest / (values[::-1][:5] + rest))
    np.testing.assert_allclose(shape.shrinkage, expected, rtol=1e-4)


def test_without_a_ridge_it_whitens():
    runs, _, _ = drawn()
    shape = learn_shape(runs, NoiseSettings(n_components=10, ridge=0.0))
    whitened = np.array([shape.whiten(one) for run in runs for one in run]) / shape.sd
    along = np.square(whitened @ shape.components.T).mean(axis=0)
    rest = (np.square(whitened).sum(axis=1).mean() - along.sum()) / (N_VOXELS - 10)
    np.testing.assert_allclose(along, rest, rtol=1e-3)


def test_many_voxels_take_the_randomised_way_to_the_same_end():
    runs, directions, _ = drawn(n_voxels=1100, n_volumes=1100)
    shape = learn_shape(runs, NoiseSettings(n_components=3))
    scaled = directions / shape.sd
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    assert np.linalg.norm(shape.components @ scaled.T, axis=0).min() > 0.95
    again = learn_shape(runs, NoiseSettings(n_components=3))
    assert again.components.tobytes() == shape.components.tobytes()


@pytest.mark.parametrize("n_volumes", [2, 7])
def test_few_volumes_have_few_components(n_volumes):
    runs = [drawn()[0][0][:n_volumes]]
    shape = learn_shape(runs, NoiseSettings(n_components=50))
    assert len(shape.components) == n_volumes - 1
    assert np.isfinite(shape.whiten(runs[0][0])).all()


def test_a_constant_voxel_does_no_harm():
    runs, _, _ = drawn()
    runs[0][:, 4] = runs[1][:, 4] = 0.0
    shape = learn_shape(runs, NoiseSettings(n_components=5))
    assert shape.sd[4] == 1
    assert np.isfinite(shape.whiten(np.ones(N_VOXELS, np.float32))).all()


def test_courses_are_of_unit_variance_and_follow_what_voxels_have_in_common():
    runs, _, courses = drawn()
    voxels = np.zeros((N_VOXELS, 3), np.int32)
    found = learn_courses(voxels, runs, 3)
    read = np.array([found.values_of(one) for run in runs for one in run])
    np.testing.assert_allclose(np.square(read).mean(axis=0), 1, rtol=1e-3)
    together = np.linalg.lstsq(read, courses, rcond=None)[0]
    left = courses - read @ together
    assert (left.var(axis=0) < 0.1 * courses.var(axis=0)).all()


def test_more_components_than_noise_voxels_are_refused():
    with pytest.raises(InputError, match=r"60 noise voxels in 400 volumes are too few for 60 components"):
        learn_courses(np.zeros((N_VOXELS, 3), np.int32), drawn()[0], 60)


def test_the_noisiest_voxels_of_a_run_vary_more_than_others(inputs, bundle):
    found = noisiest_voxels(inputs.training[0], bundle.reference, PipelineSettings())
    template, decoded = bundle.reference.template, {tuple(v) for v in bundle.reference.voxels}
    assert 10 < len(found) < 0.05 * (template > 0).sum()
    assert not decoded & {tuple(v) for v in found}
    import nibabel as nib

    data = nib.load(inputs.training[0].bold).get_fdata()[..., 3:63]
    spread = np.diff(data, axis=3).std(axis=3) / template.clip(1)
    brain = template > 0.3 * np.percentile(template, 98)
    assert np.median(spread[tuple(found.T)]) > 1.5 * np.median(spread[brain])
