import numpy as np
import pytest

from calibration.metrics.effective_rank import effective_rank


@pytest.mark.parametrize(("variances", "expected"), [((1, 1, 1), 3), ((1, 0, 0), 1), ((4, 2, 2), 64 / 24)])
@pytest.mark.parametrize("n_voxels", [30, 400])
def test_it_is_the_participation_ratio_of_the_variances(variances, expected, n_voxels):
    rng = np.random.default_rng(0)
    scores = np.linalg.qr(np.column_stack([np.ones(100), rng.standard_normal((100, 3))]))[0][:, 1:]
    axes = np.linalg.qr(rng.standard_normal((n_voxels, 3)))[0]
    responses = scores * np.sqrt(variances) @ axes.T + rng.uniform(-5, 5, n_voxels)  # a mean is no variance
    assert effective_rank(responses) == pytest.approx(expected)


def test_it_is_what_the_eigenvalues_say():
    responses = np.random.default_rng(0).standard_normal((50, 80)) * np.linspace(0.1, 3, 80)
    eigenvalues = np.linalg.eigvalsh(np.cov(responses.T))
    assert effective_rank(responses) == pytest.approx(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum())
    assert effective_rank(responses.astype(np.float32)) == pytest.approx(effective_rank(responses), rel=1e-4)


def test_responses_that_never_vary_have_none():
    assert effective_rank(np.ones((5, 3))) == 0
