"""Decoders of categories: what holds for each, against scikit-learn's, and what the server makes of them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import f_classif
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from calibration.decoders.category_classifier import most_different
from calibration.decoders.indicators import IndicatorDecoder
from calibration.decoders.registry import CLASSIFIERS, make_classifier, make_decoder
from calibration.decoders.settings import DecoderSettings
from calibration.samples.study import CATEGORIES
from calibration.training.fit import train
from rtgod.bundle import DecoderBundle
from rtgod.decoding.category_index import CategoryIndex
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.preprocessor import Noise
from tests import small

N_EACH, N_VOXELS = 8, 60
each_classifier = pytest.mark.parametrize("name", CLASSIFIERS)


def data(n_categories=4, seed=0, counts=None):
    """Patterns that differ between categories in some voxels, and neither have mean 0 nor SD 1."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_categories), counts or [N_EACH] * n_categories)
    means = rng.normal(size=(n_categories, N_VOXELS)) * (np.arange(N_VOXELS) < 20)
    X = means[labels] + rng.normal(size=(len(labels), N_VOXELS)) @ (np.eye(N_VOXELS) + 0.1)
    return 5 + 3 * X * np.linspace(0.1, 4, N_VOXELS), labels


@parametrize_with_checks([kind() for kind in CLASSIFIERS.values()])
def test_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


@each_classifier
def test_settings_reach_the_estimator(name):
    settings = DecoderSettings(name=name, n_voxels=7, cost=3.0)
    model = make_classifier(settings)
    assert type(model) is CLASSIFIERS[name]
    assert model.get_params().items() <= settings.model_dump().items()
    assert isinstance(make_decoder(settings), IndicatorDecoder)


def test_voxels_are_those_of_largest_f():
    X, labels = data()
    f, _ = f_classif(X, labels)
    assert most_different(X, labels, 12).tolist() == sorted(np.argsort(-f)[:12].tolist())
    # Of one sample each, nothing is known of the spread within categories; constant voxels tell nothing.
    assert most_different(X[::N_EACH], labels[::N_EACH], 12).size == N_VOXELS
    # Nor does it matter if a category has no sample.
    assert most_different(X, labels * 2, 12).tolist() == most_different(X, labels, 12).tolist()
    X[:, 3] = 0.1
    assert 3 not in most_different(X, labels, N_VOXELS - 1)


def test_the_discriminant_is_scikit_learn_s_with_one_shrinkage_for_all():
    """Of equally many samples of each category; more voxels than samples, and fewer."""
    X, labels = data()
    for n_voxels in (10, N_VOXELS):
        model = make_classifier(DecoderSettings(name="lda", n_voxels=n_voxels)).fit(X, labels)
        chosen = most_different(X, labels, n_voxels)
        z = ((X - X.mean(axis=0)) / X.std(axis=0, ddof=1))[:, chosen]
        means = np.stack([z[labels == category].mean(axis=0) for category in range(4)])
        shrinkage = ledoit_wolf_shrinkage(z - means[labels], assume_centered=True)
        theirs = LinearDiscriminantAnalysis("lsqr", shrinkage=shrinkage, priors=np.full(4, 0.25)).fit(z, labels)
        expected = theirs.decision_function(z)
        np.testing.assert_allclose(model.decision_function(X), expected - expected.mean(axis=1, keepdims=True))


def test_the_margin_is_scikit_learn_s_of_one_category_against_the_others():
    X, labels = data(counts=[4, 8, 12, 6])
    model = make_classifier(DecoderSettings(name="svm", n_voxels=N_VOXELS, cost=6.0)).fit(X, labels)
    z = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)
    expected = [SVC(kernel="linear", C=0.1).fit(z, labels == c).decision_function(z) for c in range(4)]
    expected = np.array(expected).T
    np.testing.assert_allclose(model.decision_function(X), expected - expected.mean(axis=1, keepdims=True), atol=1e-2)


@each_classifier
@pytest.mark.parametrize("n_categories", [2, 4])
def test_live_rankings_have_the_order_of_the_decision_function(name, n_categories, tmp_path):
    """With categories of unequal numbers, whose intercepts differ; a bundle keeps them."""
    X, labels = data(n_categories, counts=[3, 15, 8, 6][:n_categories])
    X = X.astype(np.float32)
    new = data(n_categories, seed=1)[0].astype(np.float32)
    Y = np.eye(n_categories, dtype=np.float32)[labels]
    settings = DecoderSettings(name=name, n_voxels=25, tune=False)
    trained = train(X, range(len(X)), {CATEGORIES: Y}, settings, lambda *_: None)
    made = small.bundle()
    replace(
        made,
        reference=Reference(made.reference.template, made.reference.affine, np.ones((N_VOXELS, 3), np.int32)),
        noise=Noise(),
        **{part: getattr(trained, part) for part in ("patterns", "voxel_mean", "voxel_sd", "layers")},
        candidates=made.candidates[:n_categories],
        candidate_features={CATEGORIES: np.eye(n_categories, dtype=np.float32)},
        plain_categories=True,
        response=None,
        layer_weights=None,
    ).save(tmp_path / "bundle")
    bundle = DecoderBundle.load(tmp_path / "bundle")
    decoder, index = bundle.decoder(), bundle.category_index()
    model = make_classifier(settings).fit(X, labels)
    wrong_without = 0
    without = {CATEGORIES: replace(bundle.layers[CATEGORIES], intercept=None)}
    index_without = CategoryIndex(bundle.candidate_features, without, plain=True)
    decoder_without = replace(bundle, layers=without).decoder()
    for row, scores in zip(new, model.scores(new), strict=True):
        order, live = index.rank(decoder.decode(0, row))
        np.testing.assert_allclose(live, scores[order], rtol=1e-3, atol=1e-3 * np.abs(scores).max())
        assert order.tolist() == np.argsort(-scores).tolist()
        wrong_without += index_without.rank(decoder_without.decode(0, row))[0].tolist() != order.tolist()
    assert wrong_without  # this test would see a lost intercept
    decided = model.decision_function(new)
    assert (decided.shape == (len(new),)) == (n_categories == 2)


@each_classifier
def test_one_sample_of_each_category_is_enough_to_fit(name):
    X, labels = data()
    model = make_classifier(DecoderSettings(name=name)).fit(X[::N_EACH], labels[::N_EACH])
    assert model.predict(X[::N_EACH]).tolist() == [0, 1, 2, 3]


def test_categories_that_no_sample_shows_keep_their_unit():
    X, labels = data()
    model = make_decoder(DecoderSettings(name="lda", tune=False)).fit(X, np.eye(6, dtype=np.float32)[labels + 1])
    alone = make_classifier(DecoderSettings(name="lda")).fit(X, labels)
    predicted = (model.predict(X) - model.y_mean_) / model.y_scale_
    np.testing.assert_allclose(predicted[:, 1:5], alone.scores(X))
    np.testing.assert_array_equal(predicted[:, [0, 5]], 0)


def test_shuffled_categories_are_named_by_chance():
    rng = np.random.default_rng(0)
    right = []
    for _ in range(30):
        X, labels = data()
        labels = rng.permutation(labels)
        for name in CLASSIFIERS:
            model = make_classifier(DecoderSettings(name=name, n_voxels=10)).fit(X[::2], labels[::2])
            right += (model.predict(X[1::2]) == labels[1::2]).tolist()
    assert np.mean(right) == pytest.approx(0.25, abs=0.05)
