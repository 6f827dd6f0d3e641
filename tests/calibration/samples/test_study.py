import numpy as np
import pytest

from calibration.metrics.group_means import averaged_by
from calibration.samples.study import CandidateFeatures, Course, Fold, Samples, Windows, first_half, leave_one_run_out
from rtgod.errors import InputError


def samples(n=6, n_voxels=4, runs="aabbcc", categories="xyxyxz", windows=True):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, n_voxels)).astype(np.float32)
    of = np.repeat(np.arange(n, dtype=np.int32), 2)
    grown = Windows(of, np.tile([1, 2], n).astype(np.int32), rng.normal(size=(2 * n, n_voxels)).astype(np.float32))
    grown.X[1::2] = X
    return Samples(
        X, tuple(runs), tuple(categories), {"layer": np.arange(2.0 * n).reshape(n, 2)}, grown if windows else None
    )


def test_a_category_is_a_candidate_once():
    """Twice, it would be ranked against itself, and could not be first by either."""
    with pytest.raises(InputError, match="candidates: dog more than once"):
        CandidateFeatures.with_names(("dog", "cat", "dog"), {"layer": np.zeros((3, 2), np.float32)}, {})


def test_chosen_samples_keep_their_windows():
    some = samples().select(np.array([4, 1], np.int32))
    assert some.runs == ("c", "a")
    assert some.categories == ("x", "y")
    np.testing.assert_array_equal(some.Y["layer"], [[8, 9], [2, 3]])
    for row in range(2):
        own = some.windows.X[some.windows.of == row]
        assert len(own) == 2
        np.testing.assert_array_equal(own[-1], some.X[row])


def test_samples_are_chosen_by_a_mask_too():
    mask = np.array([True, False, False, False, True, False])
    some = samples().select(mask)
    np.testing.assert_array_equal(some.X, samples().X[mask])
    assert len(some) == 2
    assert len(samples(windows=False).select(mask)) == 2


def fold():
    noise = {run: np.full((3, 4), i, np.float32) for i, run in enumerate("abc")}
    course = Course(np.arange(2.0), 9.0, np.zeros((1, 2, 4), np.float32), ("x",), {"layer": np.zeros((1, 2))})
    return Fold(samples(), noise, {"seen": samples()}, {"imagined": course})


def test_a_fold_at_some_voxels_has_only_these():
    some = fold().select_voxels(np.array([2, 0], np.int32))
    np.testing.assert_array_equal(some.training.X, samples().X[:, [2, 0]])
    np.testing.assert_array_equal(some.tests["seen"].windows.X, samples().windows.X[:, [2, 0]])
    assert {values.shape for values in some.noise.values()} == {(3, 2)}
    assert some.courses["imagined"].X.shape == (1, 2, 2)


def test_a_fold_of_complete_samples_knows_no_single_volumes():
    whole = fold().complete_only()
    assert whole.training.windows is None
    assert whole.tests["seen"].windows is None
    assert not whole.courses


def test_fewer_runs_are_trained_on_and_all_is_tested():
    some = fold().with_runs(["a", "c"])
    assert some.training.runs == ("a", "a", "c", "c")
    assert list(some.noise) == ["a", "c"]
    assert len(some.tests["seen"]) == 6


def test_leaving_one_run_out_tests_every_sample_once():
    noise = {run: np.full((2, 4), i, np.float32) for i, run in enumerate("abc")}
    folds = leave_one_run_out(samples(), noise)
    tested = [run for one in folds for run in one.tests["seen"].runs]
    assert tested == list("aabbcc")
    for one in folds:
        left_out = set(one.tests["seen"].runs)
        assert not left_out & set(one.training.runs)
        assert not left_out & set(one.noise)


@pytest.mark.parametrize(
    ("categories", "runs", "expected"),
    [
        ("abcabc", "111111", "111000"),
        ("abab", "1122", "1111"),
        ("aaabbb", "111111", "110110"),
        ("aaaa", "1122", "1010"),
    ],
)
def test_the_first_half_of_each_category_in_each_run(categories, runs, expected):
    assert first_half(categories, runs).tolist() == [digit == "1" for digit in expected]


def test_means_by_label():
    names, means = averaged_by("bab", np.array([[1.0, 2], [5, 6], [3, 4]]))
    assert names == ["b", "a"]
    np.testing.assert_array_equal(means, [[2, 3], [5, 6]])


def test_positions_of_categories_that_are_no_candidates():
    candidates = CandidateFeatures(("n1", "n2"), ("one", "two"), {})
    assert candidates.positions(["n2", "n9", "n1"]).tolist() == [1, -1, 0]
