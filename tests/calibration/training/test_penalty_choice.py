"""Penalties for new categories are chosen on left-out categories, others on left-out runs; both are said."""

import numpy as np
import pytest

from calibration.decoders.columns import profile_correlation
from calibration.decoders.ridge import PENALTIES_PER_VOXEL, DualRidge
from calibration.decoders.settings import DecoderSettings
from calibration.samples.study import CATEGORIES, CandidateFeatures
from calibration.training.fit import train
from calibration.training.penalty_choice import choose_left_out, edge_of, warnings_at

N_VOXELS, N_UNITS, N_RUNS = 100, 40, 6


def candidates(*ids, layer="low"):
    return CandidateFeatures(ids, ids, {layer: np.zeros((len(ids), 3), np.float32)})


SHOWN = ("a", "b", "c", "d", "e", "f")
RUNS = ("1", "1", "1", "2", "2", "2")


def test_categories_are_left_out_if_new_ones_will_be_ranked():
    choice = choose_left_out(SHOWN, RUNS, candidates(*SHOWN, "new", "newer"))
    assert (choice.left_out, choice.groups) == ("categories", SHOWN)
    assert choice.sentence() == (
        "penalties are those that decode left-out categories best: 2 of 8 candidates were not shown in training"
    )


@pytest.mark.parametrize(
    ("shown", "ranked", "why"),
    [
        (SHOWN, candidates(*SHOWN), "all candidates were shown"),
        (SHOWN, candidates(*SHOWN, "new", layer=CATEGORIES), "categories themselves are decoded"),
        (
            ("a", "b", "c", "d", "a", "b"),
            candidates("a", "new"),
            "of 4 shown categories none can be spared; 5 are needed",
        ),
    ],
)
def test_runs_are_left_out_otherwise_and_the_reason_is_said(shown, ranked, why):
    choice = choose_left_out(shown, RUNS, ranked)
    assert (choice.left_out, choice.groups) == ("runs", RUNS)
    assert why in choice.why


def test_parts_of_the_only_run_are_called_so():
    choice = choose_left_out(SHOWN, (0, 0, 0, 1, 1, 1), candidates(*SHOWN, layer=CATEGORIES), one_run=True)
    assert choice.left_out == "parts of the run"


def drawn(seed, n_categories=40, n_new=200):
    """Features follow from a few components, and voxels from these and from the category's own component.

    What is a category's own tells its features as long as the category is trained on, and nothing of a new one.
    """
    rng = np.random.default_rng(seed)
    mixing, weights = rng.normal(size=(8, N_UNITS)), rng.normal(size=(8, N_VOXELS))

    def samples(categories):
        components = rng.normal(size=(len(set(categories)), 8))[categories]
        own = rng.normal(size=(len(set(categories)), N_VOXELS))[categories]
        features = components @ mixing + 1.5 * rng.normal(size=(len(set(categories)), N_UNITS))[categories]
        noise = rng.normal(size=(len(categories), N_VOXELS))
        return (components @ weights + 3 * own + noise).astype(np.float32), features.astype(np.float32)

    categories = np.tile(np.arange(n_categories), N_RUNS)
    X, Y = samples(categories)
    runs = np.repeat(np.arange(N_RUNS), n_categories).tolist()
    return X, Y, runs, categories.tolist(), *samples(np.arange(n_new))


def accuracy_on_new(X, Y, penalty, new_X, new_Y):
    return profile_correlation(DualRidge(penalty).fit(X.astype(float), Y).predict(new_X.astype(float)), new_Y).mean()


def test_new_categories_are_decoded_better_by_penalties_chosen_on_categories():
    gains = []
    for seed in range(12):
        X, Y, runs, categories, *new = drawn(seed)
        by_runs = train(X, runs, {"low": Y}, DecoderSettings(name="ridge"), lambda *_: None)
        by_categories = train(
            X, runs, {"low": Y}, DecoderSettings(name="ridge"), lambda *_: None, penalty_groups=categories
        )
        assert by_categories.penalties["low"] > by_runs.penalties["low"]
        gains.append(
            accuracy_on_new(X, Y, by_categories.penalties["low"], *new)
            - accuracy_on_new(X, Y, by_runs.penalties["low"], *new)
        )
    assert np.mean(gains) > 4 * np.std(gains, ddof=1) / np.sqrt(len(gains)) > 0
    assert np.mean(gains) > 0.03


def test_nothing_is_gained_where_no_category_is_shown_twice():
    """Null: each trial shows another category, so leaving out one of either kind is nearly the same."""
    gains = []
    for seed in range(12):
        X, Y, _, categories, *new = drawn(seed, n_categories=120)
        X, Y, categories = X[:120], Y[:120], categories[:120]
        runs = (np.arange(120) // 20).tolist()
        by_runs = train(X, runs, {"low": Y}, DecoderSettings(name="ridge"), lambda *_: None)
        by_categories = train(
            X, runs, {"low": Y}, DecoderSettings(name="ridge"), lambda *_: None, penalty_groups=categories
        )
        gains.append(
            accuracy_on_new(X, Y, by_categories.penalties["low"], *new)
            - accuracy_on_new(X, Y, by_runs.penalties["low"], *new)
        )
    assert abs(np.mean(gains)) < 0.005


def test_a_penalty_at_an_edge_is_told_with_its_layers():
    assert edge_of(PENALTIES_PER_VOXEL[0] * 500, 500) == "smallest"
    assert edge_of(PENALTIES_PER_VOXEL[-1] * 500, 500) == "largest"
    assert edge_of(PENALTIES_PER_VOXEL[1] * 500, 500) is None
    one, other = warnings_at({"low": "largest", "high": "smallest", "higher": "largest"})
    assert one.startswith("the penalty of high is the smallest that was tried (0.001 for each voxel)")
    assert other.startswith("the penalty of low, higher is the largest that was tried (1000 for each voxel)")
    assert warnings_at({}) == []


def test_samples_without_noise_choose_the_smallest_penalty_and_this_is_known():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 10)).astype(np.float32)
    trained = train(X, RUNS * 20, {"low": X[:, :3]}, DecoderSettings(name="ridge"), lambda *_: None)
    assert trained.edges == {"low": "smallest"}
