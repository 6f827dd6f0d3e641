"""Confidence of an evaluation's rankings: what a bundle of each fold would say, and what came true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calibration.decoders.settings import DecoderSettings
from calibration.evaluation.accuracy import Confidences
from calibration.evaluation.predictions import DecodedCondition, FittedFold
from calibration.samples.study import CandidateFeatures, Fold
from calibration.samples.whitening import Whitening
from calibration.training.confidence import Rankings
from calibration.training.held_out_rankings import Learned, learn_from_rankings
from calibration.training.left_out_predictions import windows_of
from rtgod.decoding.decoder import response_of
from rtgod.settings import PipelineSettings


def learn_fold(
    fold: Fold,
    fitted: FittedFold,
    candidates: CandidateFeatures,
    settings: PipelineSettings,
    decoder: DecoderSettings,
) -> Learned:
    """Learn from a fold's training samples what a bundle made of them would know.

    Parameters
    ----------
    fold : Fold
    fitted : FittedFold
        Decoder of the fold.
    candidates : CandidateFeatures
    settings : PipelineSettings
    decoder : DecoderSettings
    """
    whitening = Whitening(fold.noise, settings.noise, fitted.shape)
    return learn_from_rankings(fold.training, fitted.trained, decoder, candidates, settings.ranking, whitening)


def confidences_of(
    by_fold: Mapping[str, Sequence[DecodedCondition]],
    candidates: CandidateFeatures,
    learned: Sequence[Learned],
    folds: Sequence[Fold],
    fits: Sequence[FittedFold],
) -> dict[str, Confidences]:
    """Return probabilities and hits of each kind's rankings, if known; of trials as they grew, if possible.

    Parameters
    ----------
    by_fold : mapping of str to sequence of DecodedCondition
        Decoded samples of each kind, in each fold.
    candidates : CandidateFeatures
    learned, folds, fits : sequence of Learned, Fold, FittedFold
        For each fold.
    """
    confidences = {}
    for kind, conditions in by_fold.items():
        parts = [
            _of_fold(kind, number, condition, candidates, of_fold, fold, fit)
            for number, (condition, of_fold, fold, fit) in enumerate(zip(conditions, learned, folds, fits, strict=True))
        ]
        known = [part for part in parts if part is not None]
        if known:
            confidences[kind] = Confidences(
                np.concatenate([part.probability for part in known]),
                np.concatenate([part.hit for part in known]),
                tuple(trial for part in known for trial in part.trials),
                *(np.concatenate([getattr(part, name) for part in known]) for name in ("first", "true", "n_volumes")),
            )
    return confidences


def _of_fold(
    kind: str,
    number: int,
    condition: DecodedCondition,
    candidates: CandidateFeatures,
    learned: Learned,
    fold: Fold,
    fitted: FittedFold,
) -> Confidences | None:
    """Return probabilities and hits of one fold's rankings of one kind; None if nothing is known of them."""
    of_kind = learned.imagined if kind == "imagined" else learned.confidence
    chances = of_kind.chances if of_kind else None
    if chances is None:
        return None
    ranked, tested = condition.windows or condition.blocks, fold.tests[kind]
    windows = windows_of(tested.select(candidates.positions(tested.categories) >= 0).whitened(fitted.shape))
    responses: Sequence[float] = ()
    if learned.presence is not None:
        responses = [response_of(learned.presence.weights, pattern) for pattern in windows.X]
    n = len(ranked.true)
    rankings = Rankings(
        scores=list(ranked.scores),
        is_new=[chances.are_new(candidates.ids)] * n,
        true=ranked.true.tolist(),
        n_volumes=ranked.n_volumes.tolist(),
        trials=windows.of.tolist(),
        groups=[""] * n,
        response=responses,
    )
    probability = rankings.judged(chances)
    known = np.isfinite(probability[:, 0])
    if not known.any():
        return None
    trials = tuple((number, row) for row in windows.of[known].tolist())
    first = ranked.scores[known].argmax(axis=1)
    return Confidences(
        probability[known], rankings.hit[known], trials, first, ranked.true[known], ranked.n_volumes[known]
    )
