"""Gain of weighted layers and of standardised candidates over plain means of layers, on simulated subjects.

Subjects are of the default kind, scanned as by `benchmarks.simulated_subject`, at three strengths of their responses.
What is learned is learned from the training runs alone, as by `rtgod calibrate`; the test runs show 50 categories that
the decoder was not trained on, and are ranked among these and others. All differences are paired over trials; intervals
are 90 % t intervals over subjects and strengths. A decoder of exchanged labels is the null.

    python -m benchmarks.matching_gain [--subjects N] [--first SEED] [--region NAME] [--json PATH]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.figures import print_all, write_json
from benchmarks.simulated_subject import SUBJECT, Pictures, Subject, pictures_of, study_of
from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.confidences import confidences_of
from calibration.evaluation.evaluate import index_of
from calibration.evaluation.predictions import CandidateScores, decode_kind, fit_fold, penalty_choice_of
from calibration.features.network import Network
from calibration.metrics.reliability import calibration
from calibration.metrics.statistics import t_interval
from calibration.samples.study import Study
from calibration.samples.whitening import Whitening
from calibration.simulation.settings import StimulusSettings, SubjectSettings
from calibration.training.held_out_rankings import Learned, learn_matching, predict_left_out
from rtgod.messages import Float64Array
from rtgod.settings import PipelineSettings, RankingSettings

#: Strength of responses, relative to the default subject's.
LEVELS = {"weak": 0.5, "default": 1.0, "strong": 2.0}
#: Ways of matching, by what they add to equal layers.
WAYS: Mapping[str, RankingSettings] = {
    "plain": RankingSettings(combine="fisher"),
    "weighted": RankingSettings(combine="weighted"),
    "standardised": RankingSettings(combine="fisher", standardise=True),
    "both": RankingSettings(combine="weighted", standardise=True),
}
#: Six training runs and two test runs of each kind: a twelfth of the study's scanning, so that all takes minutes.
SMALL = SUBJECT.model_copy(
    update={
        "n_test_runs": 2,
        "n_imagery_runs": 4,
        "stimuli": StimulusSettings(
            n_training_categories=50, n_images_per_category=6, n_other_categories=150, n_images_per_candidate=2
        ),
    }
)
#: Voxels that are decoded from, evenly spaced over visual cortex or a region.
_MOST_VOXELS = 1200


@dataclass(frozen=True)
class Matched:
    """Rankings of one subject's test trials: per kind and way, and what was learned with each way."""

    scores: Mapping[str, Mapping[str, CandidateScores]]
    learned: Mapping[str, Learned]
    excess: Mapping[str, float]


def matched(study: Study, region: str = "VC", most_voxels: int = _MOST_VOXELS) -> Matched:
    """Train a decoder, learn all ways of matching from its training samples, and rank the test trials by each."""
    columns = study.regions[region]
    columns = columns[np.unique(np.linspace(0, len(columns) - 1, min(most_voxels, len(columns))).astype(int))]
    fold, candidates, decoder = study.folds[0].select_voxels(columns), study.candidates, DecoderSettings(name="ridge")
    settings = {way: PipelineSettings(ranking=ranking) for way, ranking in WAYS.items()}
    noise = settings["plain"].noise
    fitted = fit_fold(fold.complete_only(), noise, decoder, penalty_choice_of(fold, candidates))
    scores: dict[str, dict[str, CandidateScores]] = {kind: {} for kind in fold.tests}
    learned, excess = {}, {}
    whitening = Whitening(fold.noise, noise, fitted.shape)
    left_out = predict_left_out(fold.training, fitted.trained, decoder, candidates, whitening)
    for way, of_way in settings.items():
        learned[way] = learn_matching(left_out, fitted.trained, candidates, of_way.ranking)
        index = index_of(candidates, fitted, of_way.ranking, learned[way])
        decoded = {kind: decode_kind(samples, fitted, index, candidates) for kind, samples in fold.tests.items()}
        for kind, condition in decoded.items():
            scores[kind][way] = condition.blocks
        seen = {"seen": [decoded["seen"]]}
        confidence = confidences_of(seen, candidates, [learned[way]], [fold], [fitted]).get("seen")
        if confidence is not None:
            excess[way] = calibration(confidence.probability[:, 1], confidence.hit[:, 1], confidence.trials).excess
    return Matched(scores, learned, excess)


def beaten(ranked: CandidateScores) -> Float64Array:
    """Return the share of other candidates that each trial's true one beats; ties count half."""
    own = ranked.scores[np.arange(len(ranked.true)), ranked.true][:, np.newaxis]
    lower, equal = (ranked.scores < own).sum(axis=1), (ranked.scores == own).sum(axis=1) - 1
    return np.asarray((lower + equal / 2) / (ranked.scores.shape[1] - 1))


def in_first(share: Float64Array, k: int, n: int = 50) -> Float64Array:
    """Return the chance that a candidate that beats a share of others is among the first k of n, others drawn."""
    m = n - 1
    chance = np.zeros_like(share)
    term = share**m
    for j in range(k):
        chance += term
        # Binomial: j others are better. Where none is beaten, the terms are 0 for j < m.
        worse = np.divide(1 - share, share, out=np.zeros_like(share), where=share > 0)
        term = term * worse * (m - j) / (j + 1)
    return chance


def measures_of(ranked: CandidateScores) -> dict[str, float]:
    """Return identification accuracy, and how often the truth is among the first of 50 and of 1,000, in per cent."""
    share = beaten(ranked)
    return {
        "identification": 100 * float(share.mean()),
        "top1_of_50": 100 * float(in_first(share, 1).mean()),
        "top5_of_50": 100 * float(in_first(share, 5).mean()),
        "top10_of_1000": 100 * float(in_first(share, 10, 1000).mean()),
    }


def study_at(settings: SubjectSettings, pictures: Pictures, strength: float, n_workers: int | None = None) -> Study:
    """Scan a subject whose responses to categories are as strong as asked."""
    response = settings.response.model_copy(update={"effect_percent": strength * settings.response.effect_percent})
    subject = Subject.of(settings.model_copy(update={"response": response}), pictures)
    return study_of(subject, pictures, PipelineSettings(), n_workers)


def shuffled(study: Study) -> Study:
    """Exchange the categories of the training samples, their features with them: the null of a trained decoder."""
    fold = study.folds[0]
    order = np.random.default_rng(0).permutation(len(fold.training))
    training = replace(
        fold.training,
        categories=tuple(fold.training.categories[row] for row in order),
        Y={layer: values[order] for layer, values in fold.training.Y.items()},
    )
    return replace(study, folds=(replace(fold, training=training),))


def figures_of(by_subject: Mapping[str, Matched]) -> dict[str, float | str]:
    """Return the gains of each way over plain matching, with intervals over subjects, in points."""
    figures: dict[str, float | str] = {}
    kinds = next(iter(by_subject.values())).scores
    losses: dict[str, float] = {}
    for way in ("weighted", "standardised", "both"):
        for kind in kinds:
            for measure in measures_of(next(iter(by_subject.values())).scores[kind][way]):
                gains = {
                    name: measures_of(of.scores[kind][way])[measure] - measures_of(of.scores[kind]["plain"])[measure]
                    for name, of in by_subject.items()
                }
                figures |= _interval(f"{way}_{measure}_{kind}", list(gains.values()))
                if measure == "identification":
                    losses[way] = max(losses.get(way, 0.0), -min(gains.values()))
    figures |= {
        f"weighted_gain{end}": figures[f"weighted_identification_seen{end}"] for end in ("", "_low", "_high")
    } | {f"standardise_top1_gain{end}": figures[f"standardised_top1_of_50_seen{end}"] for end in ("", "_low", "_high")}
    figures |= {"weighted_worst_loss": losses["weighted"], "standardise_worst_loss": losses["standardised"]}
    for way in ("plain", "standardised"):
        known = [of.excess[way] for of in by_subject.values() if way in of.excess]
        if known:
            figures |= _interval(f"confidence_excess_{way}", known)
    return figures


def _interval(name: str, values: Sequence[float]) -> dict[str, float]:
    mean, low, high = t_interval(values)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matching_gain", description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=3, help="simulated subjects; default: %(default)s")
    parser.add_argument("--first", type=int, default=11, help="seed of the first; default: %(default)s")
    parser.add_argument("--region", default="VC", help="voxels that are decoded from; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    by_subject, null = {}, None
    for seed in range(options.first, options.first + options.subjects):
        settings = SMALL.model_copy(update={"seed": seed})
        pictures = pictures_of(settings, Network(weights=settings.weights))
        for level, strength in LEVELS.items():
            study = study_at(settings, pictures, strength)
            of_subject = matched(study, options.region)
            by_subject[f"{seed} {level}"] = of_subject
            _print(f"{seed} {level}", of_subject)
            if null is None and level == "default":
                null = matched(shuffled(study), options.region)
                _print("null: exchanged labels", null)
    figures = figures_of(by_subject)
    if null is not None:
        for way in ("plain", "standardised"):
            for kind, ranked in null.scores.items():
                figures[f"null_identification_{kind}_{way}"] = measures_of(ranked[way])["identification"]
            figures[f"null_confidence_excess_{way}"] = null.excess.get(way, float("nan"))
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return 0


def _print(name: str, of: Matched) -> None:
    """Print what each way gives for one subject."""
    print(name, "·", *(of.learned["standardised"].notes[:1]), flush=True)
    for kind, ways in of.scores.items():
        for way, ranked in ways.items():
            cells = "  ".join(f"{measure} {value:5.1f}" for measure, value in measures_of(ranked).items())
            print(f"  {kind:9}{way:13}{cells}", flush=True)
    print("  confidence beyond chance:", {way: round(value, 3) for way, value in of.excess.items()}, flush=True)


if __name__ == "__main__":
    sys.exit(main())
