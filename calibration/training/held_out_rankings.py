"""Learn from training samples alone how sure rankings are, and how much layers count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.decoders.settings import DecoderSettings
from calibration.metrics.group_means import averaged_by
from calibration.samples.study import CandidateFeatures, Samples
from calibration.samples.whitening import Whitening
from calibration.training.confidence import FEWEST_GROUPS, FittedChances, Rankings, fit_chances
from calibration.training.fit import Trained
from calibration.training.folds import evenly
from calibration.training.layer_weights import LayerWeights, learn_layer_weights
from calibration.training.left_out_predictions import (
    LeftOutPredictor,
    Predictions,
    n_folds_for,
    run_folds,
    windows_of,
)
from calibration.training.presence import LearnedPresence, PresenceLearner
from calibration.training.repeats import averages_of, with_repeats
from calibration.training.standardising import (
    MOST_WINDOWS,
    LearnedStandardisation,
    LeftOutScores,
    Moments,
    choose,
    lacking,
)
from rtgod.decoding.category_index import CategoryIndex, index_categories
from rtgod.decoding.chances import NEW, TRAINED
from rtgod.decoding.standardisation import Standardisation
from rtgod.messages import Array, BoolArray, Features
from rtgod.settings import RankingSettings

#: Number of rankings of each kind, evenly spaced, and of candidates that were not shown, that chances are learned
#: from; all would take minutes with many candidates.
_MOST_RANKINGS, _MOST_OTHERS = 1500, 1000
#: Candidates whose spread is measured at a time, to bound memory.
_PIECE = 2000
_NOTHING_TELLS = (
    "trials cannot be told from noise by a response that all of them have, so that every pattern is taken for a "
    "response: of volumes without one, rankings are said to be surer than they are"
)
#: Minimum number of categories to learn layer weights from: one is left out, and the others are told apart.
_FEWEST_FOR_WEIGHTS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """Quantities learned from rankings of trials that a decoder had not seen.

    Attributes
    ----------
    confidence : FittedChances
        Chances of trials that were seen.
    layer_weights : LayerWeights or None
        Learned weights; None if too few categories were shown, or categories themselves are decoded.
    presence : LearnedPresence or None
        Learned presence of a response; None if responses cannot be told from noise.
    imagined : FittedChances or None
        Chances of trials that were imagined; None if the training samples have none.
    standardisation : LearnedStandardisation or None
        Standardisation of the candidates' scores; None if the settings ask for none.
    """

    confidence: FittedChances
    layer_weights: LayerWeights | None
    presence: LearnedPresence | None = None
    imagined: FittedChances | None = None
    standardisation: LearnedStandardisation | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on how candidates are matched, and on what could not be learned, with the reasons."""
        notes = [] if self.standardisation is None else [self.standardisation.note]
        notes += self.confidence.notes
        if self.confidence.chances is not None and self.presence is None:
            notes.append(_NOTHING_TELLS)
        return (*notes, *(f"imagined trials: {note}" for note in (self.imagined.notes if self.imagined else ())))


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Predictions of training samples by decoders that had not seen them.

    Attributes
    ----------
    samples : Samples
        Training samples, not whitened.
    without_run : Predictions
        Without the run of each window.
    without_both : Predictions or None
        Without the run and the category of each window; None where too few categories were shown.
    presence : LearnedPresence or None
        As in `Learned`.
    """

    samples: Samples
    without_run: Predictions
    without_both: Predictions | None
    presence: LearnedPresence | None


def learn_from_rankings(
    samples: Samples,
    trained: Trained,
    decoder: DecoderSettings,
    candidates: CandidateFeatures,
    ranking: RankingSettings,
    whitening: Whitening | None = None,
) -> Learned:
    """Rank training trials, as online, by decoders that had not seen them, and learn from the rankings.

    Rankings by decoders that saw nothing of a trial's run, not even its noise, teach about candidates that are trained
    on; rankings by decoders that saw nothing of its category, either, teach about new ones. Trials that were seen and
    trials that were imagined teach about their like only.

    Parameters
    ----------
    samples : Samples
        Training samples, not whitened.
    trained : Trained
        The decoder trained on all samples, whitened; decoders of folds use its penalties.
    decoder : DecoderSettings
    candidates : CandidateFeatures
        Trained categories missing from these are ranked as well, by the mean features of their samples.
    ranking : RankingSettings
        Sets how layers are combined, and whether candidates are standardised.
    whitening : Whitening or None
        Whitens the samples; None leaves them unchanged.
    """
    return learn_matching(
        predict_left_out(samples, trained, decoder, candidates, whitening), trained, candidates, ranking
    )


def predict_left_out(
    samples: Samples,
    trained: Trained,
    decoder: DecoderSettings,
    candidates: CandidateFeatures,
    whitening: Whitening | None = None,
) -> LeftOut:
    """Predict training trials by decoders that had not seen them, which takes longest and does not depend on matching.

    Parameters
    ----------
    samples, trained, decoder, candidates, whitening
        As for `learn_from_rankings`.
    """
    plain = candidates.are_plain
    for_weights = not plain and len(set(samples.categories)) >= _FEWEST_FOR_WEIGHTS
    predictor = LeftOutPredictor(samples, trained, decoder, in_scale=plain, without_categories=for_weights)
    presence_learner = PresenceLearner(samples)
    for number, fold in enumerate(run_folds(samples, whitening, n_folds_for(decoder))):
        predictor.take(fold, number)
        presence_learner.take(fold)
    without_run, without_both = predictor.done()
    presence = presence_learner.learned(samples.whitened(whitening.shape if whitening else None))
    return LeftOut(samples, without_run, without_both, presence)


def learn_matching(
    left_out: LeftOut, trained: Trained, candidates: CandidateFeatures, ranking: RankingSettings
) -> Learned:
    """Learn from left-out predictions how candidates are matched, and how sure rankings are.

    Parameters
    ----------
    left_out : LeftOut
    trained, candidates, ranking
        As for `learn_from_rankings`.
    """
    samples, without_run, without_both = left_out.samples, left_out.without_run, left_out.without_both
    shown = tuple(dict.fromkeys(samples.categories))
    plain = candidates.are_plain
    everything = candidates if plain else _with_trained_categories(candidates, samples)
    categories = candidates if plain else _fewer(everything, shown)
    # All candidates are ranked, even if the settings choose some: they may choose any of them later.
    ranking = ranking.model_copy(update={"candidates": ()})
    weights = None
    if without_both is not None:
        weights = _layer_weights(samples, without_both, trained, categories, ranking)
    matcher = _Matcher(ranking, trained, weights, plain)
    standardised, standardisation = None, None
    if ranking.standardise:
        learner_of_moments = _StandardisationLearner(
            samples, candidates, everything, categories, matcher, without_run, without_both
        )
        standardised = learner_of_moments.learned()
        if (whole := standardised.standardisation) is not None:
            standardisation = whole.select(everything.positions(categories.ids))
            # What is stored is of the candidates alone.
            standardised = replace(standardised, standardisation=whole.select(everything.positions(candidates.ids)))
    index = matcher.index(categories, standardisation)
    learner = _ChancesLearner(samples, candidates, categories, index, without_run, without_both, left_out.presence)
    imagined = samples.is_imagined
    return Learned(
        learner.chances(~imagined),
        weights,
        left_out.presence,
        learner.chances(imagined) if imagined.any() else None,
        standardised,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Matcher:
    """Makes indexes of candidates with the layers' learned weights."""

    ranking: RankingSettings
    trained: Trained
    weights: LayerWeights | None
    plain: bool

    def index(self, categories: CandidateFeatures, standardisation: Standardisation | None = None) -> CategoryIndex:
        """Index categories."""
        return index_categories(
            self.ranking,
            self.trained.layers,
            categories.ids,
            categories.features,
            self.weights.weights if self.weights else None,
            self.plain,
            standardisation,
        )

    def index_some(self, categories: CandidateFeatures, rows: Array) -> CategoryIndex:
        """Index consecutive rows of categories, without standardisation."""
        some = slice(int(rows[0]), int(rows[-1]) + 1)
        features = {layer: values[some] for layer, values in categories.features.items()}
        return self.index(CandidateFeatures(categories.ids[some], categories.names[some], features))


@dataclass(frozen=True, slots=True, eq=False)
class _StandardisationLearner:
    """Learns how candidates' scores are standardised."""

    samples: Samples
    candidates: CandidateFeatures
    everything: CandidateFeatures
    categories: CandidateFeatures
    matcher: _Matcher
    without_run: Predictions
    without_both: Predictions | None

    def learned(self) -> LearnedStandardisation:
        """Learn spreads of all candidates, and choose by the trials of complete samples how much of them counts.

        Trials of categories that are candidates teach by predictions without their run, and all trials, if some
        candidates were not shown, by predictions without their run and category.
        """
        samples = self.samples
        counts = {"trials": len(samples), "runs": len(set(samples.runs)), "candidates": len(self.candidates.ids)}
        why = lacking(counts | {"categories": len(set(samples.categories))})
        if self.candidates.are_plain:
            why = "categories themselves are decoded, each on its own scale"
        if why:
            return LearnedStandardisation("none", None, f"candidates' scores are not standardised: {why}")
        candidate_ids, shown = set(self.candidates.ids), set(samples.categories)
        left_out = {}
        for imagined in (False, True):
            if candidate_ids & shown:
                left_out[f"trained {imagined}"] = self._left_out_scores(self.without_run, new=False, imagined=imagined)
            if candidate_ids - shown and self.without_both is not None:
                left_out[f"new {imagined}"] = self._left_out_scores(self.without_both, new=True, imagined=imagined)
        left_out = {kind: of_kind for kind, of_kind in left_out.items() if len(of_kind.true)}
        amount, note, gain, error = choose(left_out)
        standardisation = None if amount == "none" else self._moments_of_all().standardisation(amount)
        return LearnedStandardisation(amount, standardisation, note, gain, error)

    def _moments_of_all(self) -> Moments:
        """Sum the scores of all candidates for windows of other categories, some candidates at a time."""
        rows = evenly(np.flatnonzero(self.without_run.fold >= 0), MOST_WINDOWS)
        decoded = {layer: values[rows] for layer, values in self.without_run.layers.items()}
        labels = np.array([self.samples.categories[row] for row in windows_of(self.samples).of[rows]])
        together = np.zeros(len(rows), np.int64)
        parts = []
        for start in range(0, len(self.everything.ids), _PIECE):
            some = np.arange(start, min(start + _PIECE, len(self.everything.ids)))
            is_other = labels[:, np.newaxis] != np.array(self.everything.ids)[some]
            scores = self.matcher.index_some(self.everything, some).scores_of_many(decoded)
            parts.append(Moments.of(scores, is_other, together))
        joined = (np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("n", "total", "squares"))
        return Moments(*joined)

    def _left_out_scores(self, predictions: Predictions, *, new: bool, imagined: bool) -> LeftOutScores:
        """Score all categories for the windows of one kind, and keep the scores for complete samples."""
        samples, windows, ids = self.samples, windows_of(self.samples), self.categories.ids
        rows = np.flatnonzero((predictions.fold >= 0) & (samples.is_imagined[windows.of] == imagined))
        if not new:
            rows = rows[self.candidates.positions(samples.categories)[windows.of[rows]] >= 0]
        rows = evenly(rows, _MOST_RANKINGS)
        if not len(rows):
            none = np.zeros((0, len(ids)))
            return LeftOutScores(none.astype(np.float32), rows, rows, Moments(none, none, none))
        labels = np.array([samples.categories[row] for row in windows.of[rows]])
        counted = labels[:, np.newaxis] != np.array(ids)
        if new:
            new_of_fold = np.stack([predictions.are_new_to(fold, ids) for fold in range(predictions.n_folds)])
            counted &= new_of_fold[predictions.fold[rows]]
        scores = self.matcher.index(self.categories).scores_of_many(
            {layer: values[rows] for layer, values in predictions.layers.items()}
        )
        category = np.unique(labels, return_inverse=True)[1]
        complete = np.flatnonzero(np.isin(rows, windows.last))
        return LeftOutScores(
            scores=scores[complete],
            true=self.categories.positions(labels[complete].tolist()),
            category=category[complete],
            moments=Moments.of(scores, counted, category),
        )


def _layer_weights(
    samples: Samples,
    predictions: Predictions,
    trained: Trained,
    categories: CandidateFeatures,
    ranking: RankingSettings,
) -> LayerWeights | None:
    """Learn weights from the complete samples that were predicted without their category."""
    fisher = ranking.model_copy(update={"combine": "fisher"})
    last = windows_of(samples).last
    rows = np.flatnonzero(predictions.fold[last] >= 0)
    if not len(rows):
        return None
    labels = [samples.categories[row] for row in rows]
    return learn_layer_weights(
        index_categories(fisher, trained.layers, categories.ids, categories.features, None),
        {layer: predictions.layers[layer][last[rows]] for layer in fisher.layers or tuple(trained.layers)},
        categories.positions(labels).tolist(),
        labels,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _ChancesLearner:
    """Learns chances from the rankings of some of the samples."""

    samples: Samples
    candidates: CandidateFeatures
    categories: CandidateFeatures
    index: CategoryIndex
    without_run: Predictions
    without_both: Predictions | None
    presence: LearnedPresence | None

    def chances(self, which: BoolArray) -> FittedChances:
        """Learn chances from the samples that `which`, shape (n_samples,), marks."""
        shown = tuple(dict.fromkeys(self.samples.categories))
        rows = np.flatnonzero(which)
        runs, labels = ([names[row] for row in rows] for names in (self.samples.runs, self.samples.categories))
        left_out_runs: Rankings | str | None = None
        left_out_categories: Rankings | str | None = None
        if set(self.candidates.ids) & set(shown):
            left_out_runs = _too_few(runs, "runs", FEWEST_GROUPS[TRAINED])
            left_out_runs = left_out_runs or self._rankings(which, self.samples.runs, self.without_run, new=False)
        if set(self.candidates.ids) - set(shown):
            left_out_categories = _too_few(labels, "categories", FEWEST_GROUPS[NEW])
            if self.candidates.are_plain:
                left_out_categories = (
                    "categories themselves are decoded, and of one that was not shown nothing is known"
                )
            elif not left_out_categories and self.without_both is not None:
                left_out_categories = self._rankings(which, self.samples.categories, self.without_both, new=True)
        presence = self.presence.presence if self.presence else None
        fitted = fit_chances(left_out_runs, left_out_categories, shown, presence)
        if fitted.chances is None:
            return fitted
        kinds = (left_out_runs, self.without_run, False), (left_out_categories, self.without_both, True)
        averages = [
            averages_of(self.samples, which, predictions, self.categories, self.index, self.presence, new=new)
            for rankings, predictions, new in kinds
            if isinstance(rankings, Rankings) and predictions is not None
        ]
        return replace(fitted, chances=with_repeats(fitted.chances, averages))

    def _rankings(self, which: BoolArray, groups: Sequence[str], predictions: Predictions, *, new: bool) -> Rankings:
        """Make rankings of windows whose true category is new, or is not, to the decoder that predicted them."""
        windows = windows_of(self.samples)
        position = self.categories.positions(self.samples.categories)
        usable = np.flatnonzero((predictions.fold >= 0) & which[windows.of] & (position[windows.of] >= 0))
        new_of_fold = [predictions.are_new_to(fold, self.categories.ids) for fold in range(predictions.n_folds)]
        is_new = [new_of_fold[predictions.fold[window]] for window in usable]
        fits = [bool(marks[position[windows.of[window]]]) == new for window, marks in zip(usable, is_new, strict=True)]
        usable, is_new = usable[fits], [marks for marks, fit in zip(is_new, fits, strict=True) if fit]
        judged = evenly(np.arange(len(usable)), _MOST_RANKINGS)
        chosen = usable[judged]
        rows = windows.of[chosen]
        return Rankings(
            scores=[
                self.index.scores(Features(int(i), {layer: values[i] for layer, values in predictions.layers.items()}))
                for i in chosen
            ],
            is_new=[is_new[i] for i in judged],
            true=position[rows].tolist(),
            n_volumes=windows.n_volumes[chosen].tolist(),
            trials=rows.tolist(),
            groups=[groups[row] for row in rows],
            response=() if self.presence is None else self.presence.left_out[chosen].tolist(),
        )


def _too_few(groups: Sequence[str], group_kind: str, fewest: int) -> str:
    """Explain why nothing can be learned by leaving groups out; empty if it can."""
    n = len(set(groups))
    if n >= fewest:
        return ""
    there = f"there {'is' if n == 1 else 'are'} {n}"
    return f"it is learned from {group_kind} that are left out in turn, which needs {fewest}, and {there}"


def _fewer(categories: CandidateFeatures, shown: Sequence[str]) -> CandidateFeatures:
    """Keep the categories that were shown, and of the others no more than needed, drawn at random."""
    others = np.flatnonzero(~np.isin(categories.ids, shown))
    if len(others) <= _MOST_OTHERS:
        return categories
    dropped = np.random.default_rng(0).permutation(others)[_MOST_OTHERS:]
    kept = np.setdiff1d(np.arange(len(categories.ids)), dropped)
    return categories.select([categories.ids[i] for i in kept])


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
