"""Decoders by name, made from settings."""

from __future__ import annotations

from calibration.decoders.ridge import DualRidge
from calibration.decoders.selected_ridge import SelectedRidge
from calibration.decoders.settings import DecoderSettings
from calibration.decoders.slr import SparseRegression

DECODERS: dict[str, type[DualRidge | SelectedRidge | SparseRegression]] = {
    "ridge": DualRidge,
    "ridge-select": SelectedRidge,
    "slr": SparseRegression,
}


def make_decoder(settings: DecoderSettings) -> DualRidge | SelectedRidge | SparseRegression:
    """Make the estimator, not yet fitted, from the settings that have the names of its parameters.

    Parameters
    ----------
    settings : DecoderSettings
    """
    chosen = DECODERS[settings.name]
    return chosen(**settings.model_dump(include=set(chosen().get_params())))
