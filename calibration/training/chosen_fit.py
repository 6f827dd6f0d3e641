"""Resolve `auto` to a decoder, once, and fit it; everything after sees a decoder that is named."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from calibration.decoders.registry import CLASSIFIERS
from calibration.decoders.settings import DecoderSettings
from calibration.parallel.progress import Report, quiet
from calibration.samples.study import CATEGORIES
from calibration.training.category_choice import choose_for_categories
from calibration.training.decoder_choice import DecoderChoice
from calibration.training.feature_choice import choose_for_features
from calibration.training.fit import Trained, Without, left_out_rows, train
from calibration.training.penalty_choice import PenaltyChoice
from rtgod.errors import InputError
from rtgod.messages import Array, Float32Array, Float64Array

#: Most numbers in the samples for which choices without a run whiten anew without each further one: it takes minutes.
_MOST_WHITENED = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Training samples with all that chooses a decoder.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_voxels), float32
    Y : mapping of str to ndarray of shape (n_samples, n_units), float32
        Features per layer.
    categories : sequence of str
        Category of each sample.
    runs : sequence of hashable
        Run of each sample, or its part of the only run.
    choice : PenaltyChoice
        What is left out in turn to choose penalties and decoders.
    """

    X: Float32Array
    Y: Mapping[str, Float32Array]
    categories: Sequence[str]
    runs: Sequence[Hashable]
    choice: PenaltyChoice


def check_decoder(decoder: DecoderSettings, *, plain: bool) -> None:
    """Raise `InputError` if a decoder cannot decode what is asked for.

    Parameters
    ----------
    decoder : DecoderSettings
    plain : bool
        Whether categories themselves are decoded.
    """
    if decoder.name in CLASSIFIERS and not plain:
        raise InputError(
            f"decoder {decoder.name} tells categories apart, and here features of images are decoded, to rank "
            "categories that it was not trained on; choose auto, ridge, ridge-select or slr, or --plain-categories"
        )


def resolve(decoder: DecoderSettings, samples: Labelled, whitened: Without | None = None) -> DecoderChoice:
    """Choose the decoder that `auto` stands for, or the settings of one that is tuned.

    Parameters
    ----------
    decoder : DecoderSettings
    samples : Labelled
    whitened : callable, optional
        Gives the samples as they are made without knowledge of some runs, to compare decoders of categories on these.

    Raises
    ------
    InputError
        If the decoder does not fit the samples.
    """
    plain = CATEGORIES in samples.Y
    check_decoder(decoder, plain=plain)
    if plain and (decoder.name == "auto" or (decoder.name in CLASSIFIERS and decoder.tune)):
        return choose_for_categories(
            decoder, samples.X, samples.Y[CATEGORIES], samples.runs, _parts_or_runs(samples.choice), whitened
        )
    if decoder.name == "auto":
        choice = samples.choice
        return choose_for_features(decoder, samples.X, samples.Y, samples.categories, choice.groups, choice.left_out)
    return DecoderChoice(decoder)


def choose_and_train(
    samples: Labelled,
    decoder: DecoderSettings,
    report: Report,
    pool: Executor | None = None,
    without: Without | None = None,
    whitened: Without | None = None,
) -> tuple[Trained, DecoderChoice]:
    """Choose a decoder, fit it to all samples, and predict each run from other runs if asked to.

    Of plain categories the decoder is chosen and tuned anew without each run that is predicted. Of features it is
    chosen once, as penalties are.

    Parameters
    ----------
    samples : Labelled
    decoder : DecoderSettings
    report : callable
        Called with (stage, steps done, steps in all).
    pool : Executor, optional
        As of `train`.
    without : callable, optional
        As of `train`.
    whitened : callable, optional
        As of `resolve`; by default `without`.

    Raises
    ------
    InputError
        If the samples are too few, or not finite, or the decoder does not fit them.
    """
    is_open = decoder.name == "auto" or (decoder.name in CLASSIFIERS and decoder.tune)
    if is_open:
        report("choosing a decoder", 0, 1)
    choice = resolve(decoder, samples, whitened or without)
    if is_open:
        report("choosing a decoder", 1, 1)
    is_nested = without is not None and CATEGORIES in samples.Y and choice.how != ""
    trained = train(
        samples.X,
        samples.runs,
        samples.Y,
        choice.decoder,
        report,
        pool,
        penalty_groups=samples.choice.groups,
        without=None if is_nested else without,
    )
    if without is not None and is_nested:
        trained = replace(trained, held_out=_nested_predictions(samples, decoder, without, report))
    return trained, choice


def _nested_predictions(
    samples: Labelled, decoder: DecoderSettings, without: Without, report: Report
) -> dict[str, Float64Array]:
    """Predict the categories of runs by decoders that are chosen, tuned and fitted without them."""
    folds = left_out_rows(samples.runs, decoder.n_folds)
    held_out = {layer: np.empty(values.shape) for layer, values in samples.Y.items()}
    report("left-out choices", 0, len(folds))
    for done, rows in enumerate(folds, 1):
        out = {samples.runs[row] for row in rows}
        X = without(out)
        kept = np.setdiff1d(np.arange(len(X)), rows)
        others = _selected(replace(samples, X=X), kept)
        whitened = _without_both(without, out, kept) if X.size <= _MOST_WHITENED else None
        chosen = resolve(decoder, others, whitened).decoder
        # Of one run or part, every sample is one: to fit, nothing needs to be left out.
        runs = others.runs if len(set(others.runs)) > 1 else range(len(kept))
        trained = train(others.X, runs, others.Y, chosen, quiet)
        online = trained.decoder()
        for row in rows:
            for layer, values in online.decode(int(row), X[row]).layers.items():
                held_out[layer][row] = values
        report("left-out choices", done, len(folds))
    return held_out


def _without_both(without: Without, out: Collection[Hashable], kept: Array) -> Without:
    """Give the kept samples as they are made without knowledge of some runs, and of those that are out already."""
    return lambda runs: without({*out, *runs})[kept]


def _selected(samples: Labelled, rows: Array) -> Labelled:
    groups = tuple(samples.choice.groups[row] for row in rows)
    return Labelled(
        samples.X[rows],
        {layer: values[rows] for layer, values in samples.Y.items()},
        [samples.categories[row] for row in rows],
        [samples.runs[row] for row in rows],
        replace(samples.choice, groups=groups),
    )


def _parts_or_runs(choice: PenaltyChoice) -> str:
    return "runs" if choice.left_out == "categories" else choice.left_out
