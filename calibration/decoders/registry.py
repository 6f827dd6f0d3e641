"""The decoders by name."""

from __future__ import annotations

from calibration.decoders.ridge import DualRidge
from calibration.decoders.selected_ridge import SelectedRidge
from calibration.decoders.slr import SparseRegression

DECODERS: dict[str, type[DualRidge | SelectedRidge | SparseRegression]] = {
    "ridge": DualRidge,
    "ridge-select": SelectedRidge,
    "slr": SparseRegression,
}
