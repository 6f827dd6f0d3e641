import numpy as np
import pytest

from calibration.decoders.pairs import paired


def selections(n_targets, n_selected=8, n_features=30, seed=0):
    rng = np.random.default_rng(seed)
    return np.sort([rng.permutation(n_features)[:n_selected] for _ in range(n_targets)], axis=1).astype(np.uint32)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 255, 257, 601])
def test_each_target_is_in_one_pair(n):
    pairs = paired(selections(n), 30)
    assert pairs.shape == (-(-n // 2), 2)
    assert sorted(set(pairs.ravel())) == list(range(n))
    assert (pairs[:, 0] == pairs[:, 1]).sum() == n % 2


def test_those_that_share_the_most_are_paired_first():
    selected = selections(40)
    pairs = paired(selected, 30)
    shared = np.array([[len(np.intersect1d(a, b)) for a in selected] for b in selected])
    np.fill_diagonal(shared, -1)
    for first, second in pairs:
        assert shared[first, second] == shared.max()
        shared[[first, second]] = shared[:, [first, second]] = -1


def test_equal_targets_find_each_other():
    twins = np.repeat(selections(20), 2, axis=0)
    order = np.random.default_rng(1).permutation(40)
    pairs = paired(twins[order], 30)
    np.testing.assert_array_equal(order[pairs[:, 0]] // 2, order[pairs[:, 1]] // 2)
