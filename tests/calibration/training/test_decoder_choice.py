"""The choice among decoders: what is chosen, what is said of it, and that noise does not look better for it."""

import numpy as np
import pytest

from calibration.decoders.settings import DecoderSettings
from calibration.parallel.progress import quiet
from calibration.samples.study import CATEGORIES
from calibration.training.category_choice import choose_for_categories
from calibration.training.chosen_fit import Labelled, check_decoder, choose_and_train, resolve
from calibration.training.decoder_choice import Alternative, Tried, choose_among
from calibration.training.feature_choice import choose_for_features
from calibration.training.penalty_choice import PenaltyChoice
from rtgod.errors import InputError

N_RUNS, N_CATEGORIES = 5, 4
AUTO = DecoderSettings()


def plain(effect=1.0, n_runs=N_RUNS, n_voxels=80, seed=0, n_blocks=1):
    """Runs of a block or more of every category, told by the first eight voxels."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(N_CATEGORIES), n_runs * n_blocks)
    runs = np.repeat([f"run-{run}" for run in range(n_runs)], N_CATEGORIES * n_blocks).tolist()
    X = rng.standard_normal((len(labels), n_voxels))
    X[:, :8] += effect * np.random.default_rng(1).standard_normal((N_CATEGORIES, 8))[labels]
    return labelled(X, {CATEGORIES: np.eye(N_CATEGORIES)[labels]}, [str(label) for label in labels], runs)


def labelled(X, Y, categories, runs, left_out="runs", groups=None):
    Y = {layer: values.astype(np.float32) for layer, values in Y.items()}
    return Labelled(X.astype(np.float32), Y, categories, runs, PenaltyChoice(left_out, "", tuple(groups or runs)))


def settings(name, **changes):
    return DecoderSettings(name=name, tune=False, **changes)


def test_the_first_kind_about_as_good_as_the_best_is_chosen_with_its_best_settings():
    groups = np.repeat(np.arange(6), 5).tolist()
    spread = np.tile([0.4, -0.4, 0.1, -0.1, 0.2, -0.2], (5, 1)).T.ravel() / 10
    flat = np.zeros(30)
    tried = [
        Tried(settings("lda", n_voxels=10), 0.70 + flat),
        Tried(settings("lda", n_voxels=30), 0.79 + flat),
        Tried(settings("ridge"), 0.80 + spread),
        Tried(settings("svm"), 0.50 + flat),
    ]
    left_out = (Alternative("slr", why_not="too long"),)
    chosen = choose_among(tried, groups, left_out, "runs")
    assert (chosen.decoder.name, chosen.decoder.n_voxels) == ("lda", 30)
    assert [each.name for each in chosen.alternatives] == ["lda", "ridge", "svm", "slr"]
    assert chosen.alternatives[0].deficit == pytest.approx(0.01)
    run_means = spread.reshape(6, 5).mean(axis=1)
    assert chosen.alternatives[0].error == pytest.approx(run_means.std(ddof=1) / np.sqrt(6))
    assert "left-out runs" in chosen.how
    # With the same difference in every run, it counts.
    surely = choose_among([tried[1], Tried(settings("ridge"), 0.80 + flat)], groups, (), "runs")
    assert surely.decoder.name == "ridge"


def test_of_categories_few_voxels_that_tell_are_found_and_alternatives_are_shown():
    samples = plain(1.5)
    chosen = resolve(AUTO, samples)
    assert chosen.decoder.name == "lda"
    assert not chosen.decoder.tune
    assert chosen.decoder.n_voxels <= 30
    assert [each.name for each in chosen.alternatives] == ["lda", "ridge", "svm"]
    assert all(0.5 < each.accuracy <= 1 and not each.why_not for each in chosen.alternatives)
    tuned = resolve(DecoderSettings(name="svm"), samples)
    assert tuned.decoder.name == "svm"
    assert [each.name for each in tuned.alternatives] == ["svm"]
    assert resolve(settings("svm", n_voxels=7), samples).decoder == settings("svm", n_voxels=7)


@pytest.mark.parametrize(
    ("n_runs", "n_blocks", "says"),
    [(2, 3, "there are 2 runs to leave out, and 3 are needed"), (1, 4, "there is 1 run to leave out")],
)
def test_of_few_runs_nothing_is_chosen_and_this_is_said(n_runs, n_blocks, says):
    chosen = resolve(AUTO, plain(n_runs=n_runs, n_blocks=n_blocks))
    assert (chosen.decoder.name, chosen.decoder.n_voxels, chosen.alternatives) == ("lda", 500, ())
    assert says in chosen.how
    assert "lda with 500 voxels is taken" in chosen.how


def test_too_many_machines_are_left_out_and_said(monkeypatch):
    monkeypatch.setattr("calibration.training.category_choice._MOST_FOR_SVM", 10)
    chosen = resolve(AUTO, plain())
    assert chosen.alternatives[-1] == Alternative("svm", why_not="20 samples of 4 categories take it too long")


@pytest.mark.parametrize("name", ["auto", "lda"])
def test_a_run_is_predicted_by_decoders_that_were_chosen_without_it(name):
    samples, asked = plain(1.5), []
    decoder = DecoderSettings(name=name)

    def without(runs):
        asked.append(set(runs))
        return samples.X

    trained, choice = choose_and_train(samples, decoder, quiet, without=without)
    # Each run is left out, alone and with each other one: to predict it, and to choose a decoder without both.
    each, names = {f"run-{run}" for run in range(N_RUNS)}, [frozenset(runs) for runs in asked]
    assert set(names) == {frozenset({a, b}) for a in each for b in each}
    rows = np.flatnonzero(np.array(samples.runs) == "run-2")
    kept = np.setdiff1d(np.arange(len(samples.X)), rows)
    others = labelled(
        samples.X[kept], {CATEGORIES: samples.Y[CATEGORIES][kept]},
        [samples.categories[row] for row in kept], [samples.runs[row] for row in kept],
    )  # fmt: skip
    alone, _ = choose_and_train(others, decoder, quiet)
    expected = [alone.decoder().decode(0, samples.X[row]).layers[CATEGORIES] for row in rows]
    np.testing.assert_allclose(trained.held_out[CATEGORIES][rows], expected, rtol=1e-6)
    assert choice.decoder.name != "auto"


def test_of_shuffled_categories_the_choice_makes_noise_look_no_better_than_chance():
    """Of the best of many decoders, the accuracy by which it was chosen is too high; what is reported is not."""
    reported, chosen_by = [], []
    for seed in range(8):
        samples = plain(effect=0, seed=seed, n_voxels=40)
        trained, choice = choose_and_train(samples, DecoderSettings(n_folds=4), quiet, without=lambda _, X=samples.X: X)
        layer = trained.layers[CATEGORIES]
        scores = (trained.held_out[CATEGORIES] - layer.unit_mean) / layer.unit_sd
        true = scores[np.arange(len(scores)), samples.Y[CATEGORIES].argmax(axis=1)]
        reported.append((scores < true[:, np.newaxis]).sum(axis=1).mean() / (N_CATEGORIES - 1))
        chosen_by.append(max(each.accuracy for each in choice.alternatives))
    assert np.mean(reported) == pytest.approx(0.5, abs=0.08)
    assert np.mean(chosen_by) > 0.53


def features(n_telling, n_categories=30, n_voxels=150, seed=0, noise=1.0):
    """Categories shown in four runs; units told by all voxels or by few."""
    rng = np.random.default_rng(seed)
    units = rng.standard_normal((n_categories, 40))
    labels = np.tile(np.arange(n_categories), 4)
    weights = rng.standard_normal((40, n_voxels)) * (np.arange(n_voxels) < n_telling)
    X = units[labels] @ weights / np.sqrt(40) + noise * rng.standard_normal((len(labels), n_voxels))
    runs = np.repeat(["a", "b", "c", "d"], n_categories).tolist()
    categories = [str(label) for label in labels]
    return labelled(
        X, {"low": units[labels][:, :20], "high": units[labels][:, 20:]}, categories, runs, "categories", categories
    )


def test_of_features_ridge_is_taken_unless_another_is_better_and_slr_only_if_it_takes_no_ages(monkeypatch):
    samples = features(150)
    chosen = resolve(AUTO, samples)
    assert chosen.decoder.name == "ridge"
    assert [each.name for each in chosen.alternatives] == ["ridge", "ridge-select", "slr"]
    assert all(each.accuracy > 0.8 for each in chosen.alternatives[:2])
    assert "left-out categories" in chosen.how
    monkeypatch.setattr("calibration.training.feature_choice._MOST_WORK", 1e4)
    assert resolve(AUTO, samples).alternatives[-1].why_not == "40 units of 120 samples take it too long"


def test_of_features_that_few_voxels_tell_a_selection_is_chosen(monkeypatch):
    monkeypatch.setattr("calibration.training.feature_choice._MOST_WORK", 0)
    samples = features(12, n_voxels=1500)
    chosen = choose_for_features(
        DecoderSettings(n_voxels=20), samples.X, samples.Y, samples.categories, samples.choice.groups, "categories"
    )
    assert (chosen.decoder.name, chosen.decoder.n_voxels) == ("ridge-select", 20)


def test_of_two_runs_of_features_ridge_is_taken_and_this_is_said():
    samples = features(150)
    few = labelled(samples.X, samples.Y, samples.categories, [run in "ab" for run in samples.runs])
    chosen = resolve(AUTO, few)
    assert chosen.decoder.name == "ridge"
    assert "nothing could be compared, as there are 2 runs to leave out" in chosen.how


def test_decoders_of_categories_are_refused_for_features():
    with pytest.raises(InputError, match="decoder lda tells categories apart, and here features of images are decoded"):
        check_decoder(DecoderSettings(name="lda"), plain=False)
    check_decoder(DecoderSettings(name="lda"), plain=True)


def test_a_category_of_one_run_alone_is_left_out_of_the_comparison():
    samples = plain(2.0)
    Y = samples.Y[CATEGORIES].copy()
    Y[:4] = np.eye(N_CATEGORIES)[[0, 1, 2, 2]]
    Y = np.concatenate([Y, np.zeros((len(Y), 1), np.float32)], axis=1)
    Y[0], Y[1] = np.eye(5)[4], np.eye(5)[4]
    chosen = choose_for_categories(AUTO, samples.X, Y, samples.runs)
    assert np.isfinite([each.accuracy for each in chosen.alternatives]).all()
