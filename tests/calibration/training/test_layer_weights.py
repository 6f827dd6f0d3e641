"""Weights of layers: those that identify count, those that mislead do not, and what they are worth is held out."""

import numpy as np
import pytest

from calibration.metrics.identification import identification_accuracy
from calibration.training.layer_weights import learn_layer_weights
from rtgod.decoding.category_index import CategoryIndex
from rtgod.decoding.decoder import LayerDecoder
from rtgod.errors import InputError
from rtgod.messages import Features

N_UNITS, N_CANDIDATES, N_CATEGORIES = 40, 60, 20


def decoded(signal, n_samples=160, seed=0):
    """An index, features decoded with a given signal per layer (noise 1), the true positions and their categories."""
    rng = np.random.default_rng(seed)
    layer = LayerDecoder(
        np.zeros((N_UNITS, 1), np.float32), np.zeros(N_UNITS, np.float32), np.ones(N_UNITS, np.float32)
    )
    candidates = {name: rng.standard_normal((N_CANDIDATES, N_UNITS), np.float32) for name in signal}
    true = rng.integers(0, N_CATEGORIES, n_samples) * 3
    held_out = {
        name: strength * candidates[name][true] + rng.standard_normal((n_samples, N_UNITS))
        for name, strength in signal.items()
    }
    index = CategoryIndex(candidates, dict.fromkeys(signal, layer))
    return index, held_out, true.tolist(), [f"category {t}" for t in true]


def test_layers_count_by_what_they_tell():
    index, held_out, true, groups = decoded({"much": 0.5, "none": 0.0, "some": 0.25, "wrong": -0.2})
    found = learn_layer_weights(index, held_out, true, groups)
    weights = found.weights
    assert list(weights) == ["much", "none", "some", "wrong"]
    assert sum(weights.values()) == pytest.approx(1)
    assert min(weights.values()) >= 0
    assert weights["much"] > weights["some"] > weights["none"] + 0.05
    assert weights["wrong"] < 0.02
    assert found.accuracy > found.equal_accuracy + 0.05


def test_accuracies_are_those_of_rankings_with_the_weights():
    """Of the final weights, hardly better than held out; with 59 others, all are compared."""
    index, held_out, true, groups = decoded({"much": 0.4, "some": 0.15})
    found = learn_layer_weights(index, held_out, true, groups)
    samples = [Features(i, {k: v[i].astype(np.float32) for k, v in held_out.items()}) for i in range(len(true))]
    z = [np.arctanh(index.correlations(sample)) for sample in samples]

    def accuracy(weights):
        scores = [np.asarray(weights) @ each for each in z]
        return np.mean([identification_accuracy(s, t) for s, t in zip(scores, true, strict=True)])

    assert accuracy([0.5, 0.5]) == pytest.approx(found.equal_accuracy, abs=1e-6)
    assert accuracy(list(found.weights.values())) == pytest.approx(found.accuracy, abs=0.02)


def test_what_says_nothing_is_worth_nothing():
    """Judged on what they were fitted to, these weights would do better than chance."""
    index, held_out, true, groups = decoded({f"layer {k}": 0.0 for k in range(6)}, seed=3)
    found = learn_layer_weights(index, held_out, true, groups)
    assert found.accuracy < 0.5


def test_equal_layers_count_about_equally():
    index, held_out, true, groups = decoded({"a": 0.3, "b": 0.3, "c": 0.3}, seed=1)
    assert max(learn_layer_weights(index, held_out, true, groups).weights.values()) < 0.45


def test_the_same_is_learned_every_time_and_few_samples_are_enough():
    index, held_out, true, groups = decoded({"a": 0.3, "b": 0.1}, n_samples=6)
    first, again = (learn_layer_weights(index, held_out, true, groups) for _ in range(2))
    assert first.weights == again.weights
    one = learn_layer_weights(index, held_out, [true[0]] * 6, ["one category"] * 6)
    assert sum(one.weights.values()) == pytest.approx(1)


def test_without_samples_or_others_it_is_said():
    index, held_out, *_ = decoded({"a": 0.3})
    with pytest.raises(InputError, match="0 samples and 60 candidates"):
        learn_layer_weights(index, held_out, [], [])
