"""Near pictures: chances hold on pictures of a subject not learned from, and are those of luck where nothing tells."""

import numpy as np
import pytest

from calibration.samples.study import Samples, Windows
from calibration.training.fit import Trained
from calibration.training.held_out_rankings import LeftOut
from calibration.training.left_out_predictions import Predictions
from calibration.training.near_pictures import learn_pictures
from rtgod.decoding.decoder import LayerDecoder
from rtgod.decoding.picture_index import N_NEAREST
from rtgod.messages import Features

N_UNITS, N_PICTURES = 40, 200
LAYERS = ("low", "high")


class Subject:
    """Trials of `n_categories`, each with a picture of its own, decoded with a correlation of about `r` per layer."""

    def __init__(self, r, n_trials=240, n_categories=24, n_units=N_UNITS, seed=0):
        self.rng, self.r, self.n_units = np.random.default_rng(seed), r, n_units
        Y = {layer: self.draw(n_trials) for layer in LAYERS}
        categories = tuple(f"category {i % n_categories}" for i in range(n_trials))
        windows = Windows(
            np.arange(n_trials, dtype=np.int32), np.ones(n_trials, np.int32), np.zeros((n_trials, 3), np.float32)
        )
        runs = tuple(f"run {i % 4}" for i in range(n_trials))
        self.samples = Samples(windows.X, runs, categories, Y, windows)
        folds = Predictions(self.decoded(Y), np.zeros(n_trials, np.int32), (frozenset(),))
        self.left_out = LeftOut(self.samples, folds, folds, None)
        unit = np.ones(n_units, np.float32)
        decoders = {layer: LayerDecoder(np.zeros((n_units, 0), np.float32), 0 * unit, unit) for layer in LAYERS}
        none = np.zeros((0, 3), np.float32)
        self.trained = Trained(none, none[:0, 0], none[:0, 0], decoders, {}, {})
        self.pictures = {layer: self.draw(N_PICTURES) for layer in LAYERS}

    def draw(self, n):
        return self.rng.standard_normal((n, self.n_units)).astype(np.float32)

    def decoded(self, shown):
        return {
            layer: (self.r * values + np.sqrt(1 - self.r**2) * self.draw(len(values))).astype(np.float32)
            for layer, values in shown.items()
        }

    def learned(self, why_unknown=""):
        names = tuple(f"{i}.png" for i in range(N_PICTURES))
        pieces = [
            (slice(start, start + 90), {layer: values[start : start + 90] for layer, values in self.pictures.items()})
            for start in range(0, N_PICTURES, 90)
        ]
        return learn_pictures(names, pieces, self.left_out, self.trained, dict.fromkeys(LAYERS, 1.0), why_unknown)

    def live(self, pictures, n_trials=300):
        """Chances of the nearest, and whether each is the picture seen, of the folder's pictures seen anew."""
        said, right = [], []
        for _ in range(n_trials):
            true = int(self.rng.integers(N_PICTURES))
            shown = self.decoded({layer: values[[true]] for layer, values in self.pictures.items()})
            nearest = pictures.nearest(Features(0, {k: v[0] for k, v in shown.items()}), self.trained.layers, 1)
            said.append([each.probability for each in nearest])
            right.append([each.name == f"{true}.png" for each in nearest])
        return np.array(said), np.array(right)


def test_a_chance_is_how_often_the_picture_is_the_one_that_is_seen():
    subject = Subject(r=0.35)
    learned = subject.learned()
    said, right = subject.live(learned.pictures)
    assert right[:, 0].mean() > 0.25
    assert said[:, 0].mean() == pytest.approx(right[:, 0].mean(), abs=0.08)
    assert said.sum(axis=1).mean() == pytest.approx(right.any(axis=1).mean(), abs=0.08)
    sure = said[:, 0] > np.median(said[:, 0])
    assert right[sure, 0].mean() > right[~sure, 0].mean() + 0.1
    assert learned.hits == learned.hits_unreduced > 10 * N_NEAREST / learned.n_compared > 5 * learned.hits_of_others


def test_where_nothing_is_decoded_the_chances_are_those_of_luck():
    subject = Subject(r=0.0, seed=3)
    learned = subject.learned()
    said, right = subject.live(learned.pictures)
    assert said[:, 0].mean() < 0.03
    assert right.any(axis=1).mean() < 0.06
    assert learned.hits < 0.06


def test_units_beyond_512_are_reduced_to_what_training_pictures_span_and_the_loss_is_said():
    """Of decoded features that lie where training pictures do, as those of ridge regression, little is lost."""
    subject = Subject(r=0.2, n_units=400)
    learned = subject.learned()
    basis = learned.pictures.basis
    assert basis.shape == (240, 800)  # as many directions as training pictures
    np.testing.assert_allclose(basis @ basis.T, np.eye(240), atol=1e-4)
    assert learned.pictures.codes.shape == (N_PICTURES, 240)
    assert any("without the reduction of dimensions" in note for note in learned.notes)
    assert learned.hits > 0.5


def test_a_picture_of_a_trial_that_is_in_the_folder_is_not_its_own_rival():
    subject = Subject(r=0.35)
    alone = subject.learned()
    subject.pictures = {
        layer: np.concatenate([subject.samples.Y[layer][:100], values[100:]])
        for layer, values in subject.pictures.items()
    }
    learned = subject.learned()
    assert learned.hits == pytest.approx(alone.hits, abs=0.1)
    assert learned.hits > 0.3


@pytest.mark.parametrize("few", ["categories", "a reason"])
def test_unknown_chances_are_none_and_said(few):
    subject = Subject(r=0.35, n_categories=3 if few == "categories" else 24)
    learned = subject.learned("some show several" if few == "a reason" else "")
    assert learned.pictures.chances is None
    (said,) = [note for note in learned.notes if "unknown" in note]
    assert ("needs 5 categories, and there are 3" if few == "categories" else "some show several") in said
    assert {one for each in subject.live(learned.pictures, 5)[0] for one in each} == {None}
