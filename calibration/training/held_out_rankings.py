"""Learn from training samples alone how sure rankings are, and how much layers count."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.decoders.registry import make_decoder
from calibration.decoders.ridge import fit_layers, predict_layers
from calibration.decoders.settings import DecoderSettings
from calibration.metrics.group_means import averaged_by
from calibration.samples.study import CandidateFeatures, Samples, Windows
from calibration.training.confidence import FEWEST_GROUPS, FittedChances, Rankings, fit_chances
from calibration.training.fit import Trained
from calibration.training.folds import leave_groups_out
from calibration.training.layer_weights import LayerWeights, learn_layer_weights
from calibration.training.presence import LearnedPresence, learn_presence
from rtgod.decoding.category_index import CategoryIndex, index_categories
from rtgod.decoding.chances import NEW, TRAINED
from rtgod.errors import InputError
from rtgod.messages import Array, BoolArray, Features
from rtgod.settings import RankingSettings

#: Number of rankings, evenly spaced, that chances are learned from; all would take minutes with many candidates.
_MOST_RANKINGS = 400
_NOTHING_TELLS = (
    "trials cannot be told from noise by a response that all of them have, so that every pattern is taken for a "
    "response: of volumes without one, rankings are said to be surer than they are"
)
#: Number of noise patterns that measure how strongly decoders respond.
_NOISE_PATTERNS = 100
#: Minimum number of categories to learn layer weights from: one is left out, and the others are told apart.
_FEWEST_FOR_WEIGHTS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """Quantities learned from rankings of trials that a decoder had not seen.

    Attributes
    ----------
    confidence : FittedChances
    layer_weights : LayerWeights or None
        Learned weights; None if too few categories were shown, or categories themselves are decoded.
    presence : LearnedPresence or None
        Learned presence of a response; None if responses cannot be told from noise.
    """

    confidence: FittedChances
    layer_weights: LayerWeights | None
    presence: LearnedPresence | None = None


def learn_from_rankings(
    samples: Samples,
    trained: Trained,
    decoder: DecoderSettings,
    candidates: CandidateFeatures,
    ranking: RankingSettings,
    without: Callable[[Collection[Hashable]], Samples] | None = None,
) -> Learned:
    """Rank training trials, as online, by decoders that had not seen them, and learn from the rankings.

    Rankings by decoders that saw nothing of a trial's run teach about candidates that are trained on; rankings by
    decoders that saw nothing of its category teach about new ones.

    Parameters
    ----------
    samples : Samples
        Training samples with their windows, as given to the decoder.
    trained : Trained
        The decoder trained on all samples; decoders of folds use its penalties.
    decoder : DecoderSettings
    candidates : CandidateFeatures
        Trained categories missing from these are ranked as well, by the mean features of their samples.
    ranking : RankingSettings
        Sets how layers are combined.
    without : callable, optional
        Gives the samples as they are made without knowledge of some runs, for rankings by decoders that have not seen
        these; by default the same samples. What is left out by category is whitened by all runs.

    Raises
    ------
    InputError
        If the samples have no windows.
    """
    if samples.windows is None:
        raise InputError("samples without their windows say nothing about how sure a ranking is")
    shown = tuple(dict.fromkeys(samples.categories))
    sample_rows, plain = samples.windows.of, candidates.are_plain
    categories = candidates if plain else _with_trained_categories(candidates, samples)
    # All candidates are ranked, even if the settings choose some: they may choose any of them later.
    ranking = ranking.model_copy(update={"candidates": ()})
    without_category, weights = None, None
    if not plain and len(shown) >= _FEWEST_FOR_WEIGHTS:
        without_category = _predict_left_out(samples, samples.windows, trained, decoder, samples.categories)
        fisher = ranking.model_copy(update={"combine": "fisher"})
        weights = learn_layer_weights(
            index_categories(fisher, trained.layers, categories.ids, categories.features, None),
            {layer: without_category[layer][samples.windows.last] for layer in fisher.layers or tuple(trained.layers)},
            categories.positions(samples.categories).tolist(),
            samples.categories,
        )
    index = index_categories(
        ranking, trained.layers, categories.ids, categories.features, weights.weights if weights else None, plain
    )
    judged = np.unique(np.linspace(0, len(sample_rows) - 1, _MOST_RANKINGS).round().astype(int))
    presence = learn_presence(samples)
    left_out_runs: Rankings | str | None = None
    left_out_categories: Rankings | str | None = None
    if set(candidates.ids) & set(shown):
        left_out_runs = _too_few(samples.runs, "runs", FEWEST_GROUPS[TRAINED])
        if not left_out_runs:
            predicted = _predict_left_out(
                samples, samples.windows, trained, decoder, samples.runs, in_scale=plain, without=without
            )
            is_new = ~np.isin(categories.ids, shown)
            left_out_runs = _rankings(
                samples,
                samples.runs,
                categories,
                index,
                predicted,
                judged,
                presence,
                dict.fromkeys(samples.runs, is_new),
            )
    if set(candidates.ids) - set(shown):
        left_out_categories = _too_few(samples.categories, "categories", FEWEST_GROUPS[NEW])
        if plain:
            left_out_categories = "categories themselves are decoded, and of one that was not shown nothing is known"
        elif not left_out_categories and without_category:
            new_to = _new_without(samples.categories, categories.ids)
            left_out_categories = _rankings(
                samples, samples.categories, categories, index, without_category, judged, presence, new_to
            )
    confidence = fit_chances(left_out_runs, left_out_categories, shown, presence.presence if presence else None)
    if confidence.chances is not None and presence is None:
        confidence = replace(confidence, notes=(*confidence.notes, _NOTHING_TELLS))
    return Learned(confidence, weights, presence)


def _too_few(groups: Sequence[str], group_kind: str, fewest: int) -> str:
    """Explain why nothing can be learned by leaving groups out; empty if it can."""
    n = len(set(groups))
    if n >= fewest:
        return ""
    there = f"there {'is' if n == 1 else 'are'} {n}"
    return f"it is learned from {group_kind} that are left out in turn, which needs {fewest}, and {there}"


def _new_without(categories: Sequence[str], ids: Sequence[str]) -> dict[str, BoolArray]:
    """Mark, for each category, the `ids` that are new to the decoder trained without it: shape (n_ids,), bool."""
    labels = np.array(categories)
    new_to: dict[str, BoolArray] = {}
    for kept, left_out in leave_groups_out(categories):
        is_new = ~np.isin(ids, labels[kept])
        new_to |= dict.fromkeys(labels[left_out].tolist(), is_new)
    return new_to


def _rankings(
    samples: Samples,
    groups: Sequence[str],
    categories: CandidateFeatures,
    index: CategoryIndex,
    predicted: dict[str, Array],
    judged: Array,
    presence: LearnedPresence | None,
    is_new: dict[str, BoolArray],
) -> Rankings:
    """Make rankings of some windows from predictions made without their groups."""
    windows = _windows_of(samples)
    rows = windows.of[judged]
    return Rankings(
        scores=[
            index.scores(Features(int(i), {layer: values[i].astype(np.float32) for layer, values in predicted.items()}))
            for i in judged
        ],
        is_new=[is_new[groups[row]] for row in rows],
        true=categories.positions(samples.categories)[rows].tolist(),
        n_volumes=windows.n_volumes[judged].tolist(),
        trials=rows.tolist(),
        groups=[groups[row] for row in rows],
        response=() if presence is None else presence.left_out[judged].tolist(),
    )


def _windows_of(samples: Samples) -> Windows:
    if samples.windows is None:
        raise AssertionError("samples were asked for with windows")
    return samples.windows


def _predict_left_out(
    samples: Samples,
    windows: Windows,
    trained: Trained,
    decoder: DecoderSettings,
    groups: Sequence[str],
    *,
    in_scale: bool = False,
    without: Callable[[Collection[Hashable]], Samples] | None = None,
) -> dict[str, Array]:
    """Decode features of every window from samples of other groups: per layer, (n_windows, n_units).

    `in_scale` stretches them about their mean until noise varies them as much as those of the decoder of all samples: a
    decoder of more samples than a fold's responds more strongly to everything, noise included. `without` gives the
    samples as they are made without knowledge of the groups left out.
    """
    noise = np.zeros((0, samples.X.shape[1]), np.float32)
    if in_scale:
        white = np.random.default_rng(0).standard_normal((_NOISE_PATTERNS, samples.X.shape[1]))
        noise = (white * trained.voxel_sd).astype(np.float32)
        of_all = trained.decoder()
        loud = {layer: np.stack([of_all.decode(0, x).layers[layer] for x in noise]).std(axis=0) for layer in samples.Y}
    predicted = {layer: np.empty((len(windows.of), Y.shape[1])) for layer, Y in samples.Y.items()}
    for kept, left_out in leave_groups_out(groups):
        rows = np.isin(windows.of, left_out)
        made = without({groups[row] for row in left_out}) if without else samples
        X = np.concatenate([_windows_of(made).X[rows], noise])
        kept_features = {layer: Y[kept] for layer, Y in samples.Y.items()}
        if decoder.name == "ridge":
            penalties = {layer: penalty for layer, penalty in trained.penalties.items() if penalty is not None}
            decoded = predict_layers(fit_layers(made.X[kept], kept_features, penalties), X)
        else:
            model = make_decoder(decoder)
            decoded = {layer: model.fit(made.X[kept], Y).predict(X) for layer, Y in kept_features.items()}
        for layer, values in decoded.items():
            predicted[layer][rows] = values[: rows.sum()]
            if in_scale:
                mean = trained.layers[layer].unit_mean
                quiet = values[rows.sum() :].std(axis=0)
                stretch = float(np.mean(loud[layer]) / np.mean(quiet)) if quiet.any() else 1.0
                predicted[layer][rows] = mean + (predicted[layer][rows] - mean) * stretch
    return predicted


def _with_trained_categories(candidates: CandidateFeatures, samples: Samples) -> CandidateFeatures:
    """Append the trained categories that are not candidates to the candidates."""
    is_new = candidates.positions(samples.categories) < 0
    labels = [category for category, new in zip(samples.categories, is_new, strict=True) if new]
    if not labels:
        return candidates
    added = {layer: averaged_by(labels, Y[is_new])[1].astype(np.float32) for layer, Y in samples.Y.items()}
    ids = tuple(dict.fromkeys(labels))
    return CandidateFeatures(
        (*candidates.ids, *ids),
        (*candidates.names, *ids),
        {layer: np.concatenate([values, added[layer]]) for layer, values in candidates.features.items()},
    )
