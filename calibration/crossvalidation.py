"""How sure rankings of categories that were not trained on may be, learned from training samples alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.confidence import FittedConfidence, fit_confidence
from calibration.decoders.registry import make_decoder
from calibration.decoders.ridge import fit_layers, predict_layers
from calibration.decoders.settings import DecoderSettings
from calibration.folds import leave_groups_out
from calibration.layer_weights import LayerWeights, learn_layer_weights
from calibration.study import Candidates, Samples, Windows, averaged_by
from calibration.training import Trained
from rtgod.errors import InputError
from rtgod.matching import index_categories
from rtgod.messages import Array, Features
from rtgod.settings import RankingSettings

#: So many rankings, evenly taken, tell how sure they may be; ranking all would take minutes where candidates are many.
_MOST_RANKINGS = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What is learned from rankings of categories that a decoder had not seen.

    Attributes
    ----------
    confidence : FittedConfidence
    layer_weights : LayerWeights
    """

    confidence: FittedConfidence
    layer_weights: LayerWeights


def learn_from_rankings(
    samples: Samples, trained: Trained, decoder: DecoderSettings, candidates: Candidates, ranking: RankingSettings
) -> Learned | None:
    """Rank training trials by decoders that saw nothing of their categories, as online, and learn from the rankings.

    Parameters
    ----------
    samples : Samples
        Training samples with their windows, as the decoder is given them.
    trained : Trained
        The decoder of all of them: the others are made with its penalties.
    decoder : DecoderSettings
    candidates : Candidates
        Trained categories that are none of them are ranked as well, by the mean features of what was shown.
    ranking : RankingSettings
        How layers are put together.

    Returns
    -------
    Learned or None
        None with fewer than three categories: then there is nothing to train on without one.
    """
    if samples.windows is None:
        raise InputError("samples without their windows say nothing about how sure a ranking is")
    if len(set(samples.categories)) < 3:
        return None
    predicted = _predict_left_out(samples, samples.windows, trained, decoder)
    everything = _with_trained_categories(candidates, samples)
    of, true = samples.windows.of, everything.positions(samples.categories)
    # Among all that there are, be it that fewer are ranked: a probability is for a number of candidates.
    ranking = ranking.model_copy(update={"candidates": ()})
    plain = ranking.model_copy(update={"combine": "fisher"})
    layers = plain.layers or tuple(trained.layers)
    weights = learn_layer_weights(
        index_categories(plain, trained.layers, everything.ids, everything.features, None),
        {layer: predicted[layer][samples.windows.last] for layer in layers},
        true.tolist(),
        samples.categories,
    )
    index = index_categories(ranking, trained.layers, everything.ids, everything.features, weights.weights)
    judged = np.unique(np.linspace(0, len(of) - 1, _MOST_RANKINGS).round().astype(int))
    scores = [
        index.scores(Features(int(i), {layer: values[i].astype(np.float32) for layer, values in predicted.items()}))
        for i in judged
    ]
    groups = [samples.categories[row] for row in of[judged]]
    volumes = samples.windows.n_volumes[judged].tolist()
    return Learned(fit_confidence(scores, true[of[judged]].tolist(), volumes, [1] * len(judged), groups), weights)


def _predict_left_out(
    samples: Samples, windows: Windows, trained: Trained, decoder: DecoderSettings
) -> dict[str, Array]:
    """Features of every window, from samples of other categories: per layer, (n_windows, n_units)."""
    predicted = {layer: np.empty((len(windows.of), Y.shape[1])) for layer, Y in samples.Y.items()}
    for kept, left_out in leave_groups_out(samples.categories):
        rows = np.isin(windows.of, left_out)
        some = {layer: Y[kept] for layer, Y in samples.Y.items()}
        if decoder.name == "ridge":
            found = predict_layers(fit_layers(samples.X[kept], some, trained.penalties), windows.X[rows])
        else:
            model = make_decoder(decoder)
            found = {layer: model.fit(samples.X[kept], Y).predict(windows.X[rows]) for layer, Y in some.items()}
        for layer, values in found.items():
            predicted[layer][rows] = values
    return predicted


def _with_trained_categories(candidates: Candidates, samples: Samples) -> Candidates:
    """The candidates, and after them the trained categories that are not among them."""
    is_new = candidates.positions(samples.categories) < 0
    labels = [category for category, new in zip(samples.categories, is_new, strict=True) if new]
    if not labels:
        return candidates
    added = {layer: averaged_by(labels, Y[is_new])[1].astype(np.float32) for layer, Y in samples.Y.items()}
    ids = tuple(dict.fromkeys(labels))
    return Candidates(
        (*candidates.ids, *ids),
        (*candidates.names, *ids),
        {layer: np.concatenate([of, added[layer]]) for layer, of in candidates.features.items()},
    )
