"""Decoders by name, made from settings."""

from __future__ import annotations

from calibration.decoders.category_classifier import CategoryClassifier
from calibration.decoders.discriminant import ShrunkenDiscriminant
from calibration.decoders.indicators import IndicatorDecoder
from calibration.decoders.margin import LinearMargin
from calibration.decoders.ridge import DualRidge
from calibration.decoders.selected_ridge import SelectedRidge
from calibration.decoders.settings import DecoderSettings
from calibration.decoders.slr import SparseRegression

#: Regressions onto any units.
DECODERS: dict[str, type[DualRidge | SelectedRidge | SparseRegression]] = {
    "ridge": DualRidge,
    "ridge-select": SelectedRidge,
    "slr": SparseRegression,
}
#: Classifiers of categories.
CLASSIFIERS: dict[str, type[CategoryClassifier]] = {"lda": ShrunkenDiscriminant, "svm": LinearMargin}
#: Decoders that are fitted fast enough to leave out every run by default.
QUICK = ("ridge", *CLASSIFIERS)

AnyDecoder = DualRidge | SelectedRidge | SparseRegression | IndicatorDecoder


def make_decoder(settings: DecoderSettings) -> AnyDecoder:
    """Make the estimator, not yet fitted, from the settings that have the names of its parameters.

    Parameters
    ----------
    settings : DecoderSettings
        Name a decoder; `auto` is none before it is resolved.
    """
    if settings.name in CLASSIFIERS:
        return IndicatorDecoder(make_classifier(settings))
    chosen = DECODERS[settings.name]
    return chosen(**settings.model_dump(include=set(chosen().get_params())))


def make_classifier(settings: DecoderSettings) -> CategoryClassifier:
    """Make the classifier, not yet fitted, from the settings that have the names of its parameters.

    Parameters
    ----------
    settings : DecoderSettings
        Name a classifier.
    """
    chosen = CLASSIFIERS[settings.name]
    return chosen(**settings.model_dump(include=set(chosen().get_params())))
