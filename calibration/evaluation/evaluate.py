"""Evaluate a study: train on its training samples, decode its test samples, and collect the accuracies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from calibration.decoders.columns import profile_correlation
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.accuracy import (
    Confidences,
    FeatureAccuracy,
    Identification,
    accuracies_of,
    are_new,
    feature_accuracy,
    identification,
    units_of,
)
from calibration.evaluation.confidences import confidences_of, learn_fold
from calibration.evaluation.homology import Homology, areas_of, homology
from calibration.evaluation.predictions import (
    CandidateScores,
    DecodedCondition,
    FittedFold,
    decode_kind,
    fit_fold,
    joined,
    penalty_choice_of,
)
from calibration.evaluation.semantic_distance import Hypernyms, SemanticErrors, semantic_errors
from calibration.evaluation.time_course import TimeCourse, course_of_imagery
from calibration.metrics.group_means import averaged_by
from calibration.metrics.statistics import share_interval
from calibration.parallel.progress import Report, in_pool
from calibration.samples.left_out import LeftOutCounts, added, without_candidates
from calibration.samples.study import CandidateFeatures, Fold, Samples, Study
from calibration.training.decoder_choice import DecoderChoice, in_words
from calibration.training.held_out_rankings import Learned
from calibration.training.penalty_choice import warnings_at
from rtgod.decoding.category_index import CategoryIndex, index_categories
from rtgod.messages import Float64Array
from rtgod.settings import NoiseSettings, PipelineSettings, RankingSettings

#: Number of random draws of runs for each number of training runs.
_DRAWS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All results of an evaluation.

    Attributes
    ----------
    candidates : CandidateFeatures
    layers, regions : tuple of str
        Layers from low to high; regions in the order given.
    areas : tuple of str
        Regions that contain no other region.
    decoded : mapping of str to DecodedCondition
        Decoded samples of each kind, from the main region.
    identification : tuple of Identification
    features : tuple of FeatureAccuracy
    by_region : mapping of str to ndarray of shape (n_regions, n_layers)
        Feature accuracy of each kind from all voxels of a region, repeats averaged.
    homology : Homology
        Comparison of areas at equal numbers of voxels.
    course : TimeCourse or None
        Time course of imagery.
    n_runs : tuple of int
        Numbers of training runs for which accuracy was computed.
    by_runs : mapping of str to tuple of (mean, low, high)
        Identification accuracy of each kind's single blocks, for each of `n_runs`.
    semantic : mapping of str to SemanticErrors
        Semantic errors of each kind; empty without a table of hypernyms.
    learned : tuple of Learned
        Confidence and layer weights from the training samples of each fold.
    confidence : mapping of str to Confidences
        Confidences of the tests by kind, for kinds that have chances.
    n_folds : int
        Number of decoders that were tested: one for each run if runs are left out in turn.
    tallies : tuple of LeftOutCounts
        Counts of used and left-out samples.
    trained_how : tuple of str
        Sentences on what decoders were chosen by, and what they knew of what they were tested on.
    warnings : tuple of str
        Layers whose penalty is the last that was tried.
    """

    candidates: CandidateFeatures
    layers: tuple[str, ...]
    regions: tuple[str, ...]
    areas: tuple[str, ...]
    decoded: Mapping[str, DecodedCondition]
    identification: tuple[Identification, ...]
    features: tuple[FeatureAccuracy, ...]
    by_region: Mapping[str, Float64Array]
    homology: Homology
    course: TimeCourse | None
    n_runs: tuple[int, ...]
    by_runs: Mapping[str, tuple[tuple[float, float, float], ...]]
    semantic: Mapping[str, SemanticErrors]
    learned: tuple[Learned, ...]
    confidence: Mapping[str, Confidences]
    n_folds: int
    tallies: tuple[LeftOutCounts, ...] = ()
    trained_how: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def evaluate(
    study: Study,
    settings: PipelineSettings,
    decoder: DecoderSettings,
    hypernyms: Hypernyms | None,
    pool: Executor,
    report: Report,
) -> Evaluation:
    """Train, decode and collect the results.

    Parameters
    ----------
    study : Study
    settings : PipelineSettings
        Sets how patterns are whitened, with the noise of the decoded voxels, and how candidates are ranked.
    decoder : DecoderSettings
    hypernyms : Hypernyms or None
        Table for the semantic distance of errors.
    pool : Executor
        Executor that fits decoders in parallel.
    report : callable
        Called with (stage, steps done, steps in all).

    Raises
    ------
    InputError
        If too few samples are left to train on.
    """
    candidates = study.candidates.select(settings.ranking.candidates)
    fits = _fit_regions(study, candidates, settings.noise, decoder, pool, report)
    by_region = _by_region(study, fits, pool, report)
    comparison = homology(study, settings.noise, named(decoder), pool, report)
    folds = [fold.select_voxels(study.regions[study.main_region]) for fold in study.folds]
    fitted = fits[study.main_region]
    n_runs, by_runs = _against_runs(folds, candidates, settings, fitted[0].choice.decoder, pool, report)
    to_learn = [(fold, fit, candidates, settings, fit.choice.decoder) for fold, fit in zip(folds, fitted, strict=True)]
    learned = tuple(in_pool(pool, "confidence", report, learn_fold, to_learn))
    decoded, by_fold = {}, {}
    for kind in folds[0].tests:
        tests = [
            (fold.tests[kind], fit, candidates, settings, of_fold)
            for fold, fit, of_fold in zip(folds, fitted, learned, strict=True)
        ]
        by_fold[kind] = in_pool(pool, f"decoding what was {kind}", report, _decode, tests)
        decoded[kind] = joined(by_fold[kind])
    trained_on = [category for fold in folds for category in fold.training.categories]
    folded = len(folds) > 1
    tested = [(kind, condition, are_new(condition.categories, trained_on)) for kind, condition in decoded.items()]
    return Evaluation(
        candidates=candidates,
        layers=tuple(study.candidates.features),
        regions=tuple(study.regions),
        areas=areas_of(study.regions),
        decoded=decoded,
        identification=tuple(
            accuracy
            for kind, condition, new in tested
            for accuracy in identification(kind, condition, new=new, folded=folded)
        ),
        features=tuple(
            accuracy
            for kind, condition, new in tested
            for accuracy in feature_accuracy(kind, condition, new=new, folded=folded)
        ),
        by_region=by_region,
        homology=comparison,
        course=course_of_imagery(study, comparison, by_region, fits, pool, report),
        n_runs=n_runs,
        by_runs=by_runs,
        semantic=_semantic(decoded, candidates, hypernyms, folded=folded) if hypernyms else {},
        learned=learned,
        confidence=confidences_of(by_fold, candidates, learned, folds, fitted),
        n_folds=len(folds),
        tallies=(*study.tallies, *_not_ranked(folds, candidates)),
        trained_how=_trained_how(folds, fitted, candidates, settings),
        warnings=tuple(warnings_at({layer: edge for fit in fitted for layer, edge in fit.trained.edges.items()})),
    )


def _trained_how(
    folds: Sequence[Fold], fitted: Sequence[FittedFold], candidates: CandidateFeatures, settings: PipelineSettings
) -> tuple[str, ...]:
    """Describe what penalties were chosen by, and what decoders knew of the runs that they were tested on."""
    sentences = _chosen_how([fit.choice for fit in fitted], plain=candidates.are_plain)
    if any(fit.choice.decoder.name == "ridge" for fit in fitted):
        sentences.append(penalty_choice_of(folds[0], candidates).sentence())
    tested = {run for fold in folds for samples in fold.tests.values() for run in samples.runs}
    trained_on = {run for fold in folds for run in fold.training.runs}
    if len(folds) > 1:
        sentences.append("a run that is left out is whitened and scaled by the noise and the samples of the other runs")
    if settings.nuisance.n_components and tested & trained_on:
        sentences.append("noise components are learned from all runs, those that are left out included")
    return tuple(sentences)


def named(decoder: DecoderSettings) -> DecoderSettings:
    """Return a decoder that is named: `ridge` for `auto`, where areas are compared or steps of preprocessing.

    Parameters
    ----------
    decoder : DecoderSettings
    """
    return decoder.model_copy(update={"name": "ridge"}) if decoder.name == "auto" else decoder


def _chosen_how(choices: Sequence[DecoderChoice], *, plain: bool) -> list[str]:
    """Describe the decoders that were chosen, with their alternatives if one was; nothing if all were given."""
    if not any(choice.how for choice in choices):
        return []
    counts = Counter(", ".join(filter(None, (c.decoder.name, in_words(c.decoder)))) for c in choices)
    decoders = "; ".join(
        f"{name} ({n} of {len(choices)} times)" if len(choices) > 1 else name for name, n in counts.items()
    )
    sentences = [f"decoder, chosen by the training samples of each fold: {decoders}; {choices[0].how}"]
    tried = [each for each in choices[0].alternatives if each.accuracy is not None]
    if tried and len(choices) == 1:
        figures = ", ".join(f"{each.name} {100 * (each.accuracy or 0):.1f} %" for each in tried)
        sentences.append(f"pairwise identification within the training samples: {figures}")
    if not plain:
        sentences.append("areas at equal numbers of voxels are all compared by ridge")
    return sentences


def _not_ranked(folds: Sequence[Fold], candidates: CandidateFeatures) -> list[LeftOutCounts]:
    """Count test samples whose category is not a candidate."""
    tallies = [
        without_candidates("samples to be ranked", f"trials {kind}", candidates.positions(samples.categories))
        for fold in folds
        for kind, samples in fold.tests.items()
    ]
    return added([counts for counts in tallies if counts is not None])


def index_of(
    candidates: CandidateFeatures, fitted: FittedFold, ranking: RankingSettings, learned: Learned | None = None
) -> CategoryIndex:
    """Return the index for the predictions of a fold's decoder.

    Parameters
    ----------
    candidates : CandidateFeatures
        Categories to rank; all are ranked, whatever `ranking` chooses.
    fitted : FittedFold
    ranking : RankingSettings
    learned : Learned or None
        Source of the layers' weights and of the candidates' standardisation; None gives equal weights, and none.
    """
    weights = learned.layer_weights.weights if learned and learned.layer_weights else None
    ranking = ranking.model_copy(update={"candidates": ()})
    layers, plain = fitted.trained.layers, candidates.are_plain
    standardisation = learned.standardisation.standardisation if learned and learned.standardisation else None
    return index_categories(ranking, layers, candidates.ids, candidates.features, weights, plain, standardisation)


def _decode(
    samples: Samples,
    fitted: FittedFold,
    candidates: CandidateFeatures,
    settings: PipelineSettings,
    learned: Learned | None,
) -> DecodedCondition:
    return decode_kind(samples, fitted, index_of(candidates, fitted, settings.ranking, learned), candidates)


def _fit_regions(
    study: Study,
    candidates: CandidateFeatures,
    noise: NoiseSettings,
    decoder: DecoderSettings,
    pool: Executor,
    report: Report,
) -> dict[str, list[FittedFold]]:
    """Fit the decoders of every region, one for each fold."""
    complete = [(fold.complete_only(), penalty_choice_of(fold, candidates)) for fold in study.folds]
    arguments = [
        (fold.select_voxels(columns), noise, decoder, choice)
        for columns in study.regions.values()
        for fold, choice in complete
    ]
    fits = iter(in_pool(pool, "training", report, fit_fold, arguments))
    return {region: [next(fits) for _ in complete] for region in study.regions}


def _by_region(
    study: Study, fits: Mapping[str, Sequence[FittedFold]], pool: Executor, report: Report
) -> dict[str, Float64Array]:
    """Return feature accuracy of every region and layer, (n_regions, n_layers), for each kind; repeats averaged."""
    complete = [fold.complete_only() for fold in study.folds]
    arguments = [
        ([fold.select_voxels(columns) for fold in complete], fits[region]) for region, columns in study.regions.items()
    ]
    accuracies = in_pool(pool, "regions", report, _region_accuracy, arguments)
    return {kind: np.stack([by_kind[kind] for by_kind in accuracies]) for kind in accuracies[0]}


def _region_accuracy(folds: Sequence[Fold], fits: Sequence[FittedFold]) -> dict[str, Float64Array]:
    """Return feature accuracy of each kind, (n_layers,), over all folds."""
    accuracy = {}
    for kind in folds[0].tests:
        tests = [fold.tests[kind] for fold in folds]
        categories = [category for test in tests for category in test.categories]
        parts = [fit.decode(test.X) for fit, test in zip(fits, tests, strict=True)]
        accuracy[kind] = np.array(
            [
                profile_correlation(
                    averaged_by(categories, np.concatenate([part[layer] for part in parts]))[1],
                    averaged_by(categories, np.concatenate([test.Y[layer] for test in tests]))[1],
                ).mean()
                for layer in parts[0]
            ]
        )
    return accuracy


def _against_runs(
    folds: Sequence[Fold],
    candidates: CandidateFeatures,
    settings: PipelineSettings,
    decoder: DecoderSettings,
    pool: Executor,
    report: Report,
) -> tuple[tuple[int, ...], dict[str, tuple[tuple[float, float, float], ...]]]:
    """Return accuracy of single blocks with fewer training runs, drawn at random a few times for each number."""
    runs = sorted(set(folds[0].training.runs))
    if len(folds) > 1 or len(runs) < 3:
        return (), {}
    sizes = tuple(sorted({2**k for k in range(1, 10) if 2**k < len(runs)} | {len(runs)}))
    rng = np.random.default_rng(0)
    whole = folds[0].complete_only()
    drawn = [
        (size, rng.permutation(runs)[:size].tolist())
        for size in sizes
        for _ in range(_DRAWS if size < len(runs) else 1)
    ]
    arguments = [(whole.with_runs(drawn_runs), candidates, settings, decoder) for _, drawn_runs in drawn]
    accuracies = in_pool(pool, "fewer training runs", report, _block_accuracies, arguments)
    by_runs = {}
    for kind in whole.tests:
        by_size = [
            [by_kind[kind] for (n, _), by_kind in zip(drawn, accuracies, strict=True) if n == size] for size in sizes
        ]
        # A block is the same unit in every draw of runs.
        labels = by_size[-1][0][1]
        tested = [candidates.ids[label] for label in labels]
        _, units = units_of(labels, new=are_new(tested, whole.training.categories))
        by_runs[kind] = tuple(
            share_interval(np.concatenate([a for a, _ in draws]), [*units] * len(draws)) for draws in by_size
        )
    return sizes, by_runs


def _block_accuracies(
    fold: Fold, candidates: CandidateFeatures, settings: PipelineSettings, decoder: DecoderSettings
) -> dict[str, tuple[Float64Array, list[int]]]:
    """Return identification accuracy of each kind's single blocks, and each block's category."""
    blocks = score_blocks(fold, candidates, settings, decoder)
    return {kind: (accuracies_of(ranked), ranked.true.tolist()) for kind, ranked in blocks.items()}


def score_blocks(
    fold: Fold, candidates: CandidateFeatures, settings: PipelineSettings, decoder: DecoderSettings
) -> dict[str, CandidateScores]:
    """Train on a fold, and score the candidates for each kind's single blocks: layers equal, nothing standardised.

    Parameters
    ----------
    fold : Fold
    candidates : CandidateFeatures
        Samples of other categories are left out.
    settings : PipelineSettings
    decoder : DecoderSettings

    Raises
    ------
    InputError
        If there are too few samples or runs, or values that are not finite.
    """
    fit = fit_fold(fold, settings.noise, decoder, penalty_choice_of(fold, candidates))
    index = index_of(candidates, fit, _unweighted(settings.ranking))
    return {kind: decode_kind(test, fit, index, candidates).blocks for kind, test in fold.tests.items()}


def _unweighted(ranking: RankingSettings) -> RankingSettings:
    """Return the ranking without learned layer weights, which need more than a few runs."""
    return ranking.model_copy(update={"combine": "fisher"}) if ranking.combine == "weighted" else ranking


def _semantic(
    decoded: Mapping[str, DecodedCondition], candidates: CandidateFeatures, hypernyms: Hypernyms, *, folded: bool
) -> dict[str, SemanticErrors]:
    errors = {}
    for kind, condition in decoded.items():
        first_choices = [candidates.ids[i] for i in condition.blocks.scores.argmax(axis=1)]
        true = [candidates.ids[i] for i in condition.blocks.true]
        errors[kind] = semantic_errors(first_choices, true, hypernyms, folded=folded)
    return errors
