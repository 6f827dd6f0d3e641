"""Tables of the inputs behind an evaluation's figures: runs, network, settings, versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from calibration.datasets.dataset_files import DatasetFiles
from calibration.features.network import Network
from calibration.reports.html_page import PageTable
from rtgod.settings import PipelineSettings


def notes_on_runs(inputs: DatasetFiles, settings: PipelineSettings, network: Network | None) -> list[PageTable]:
    """Tables about an evaluation of recorded runs; what was left out of them, and read in events, is said elsewhere.

    Parameters
    ----------
    inputs : DatasetFiles
    settings : PipelineSettings
    network : Network or None
        Network whose features are decoded; None if categories are decoded.
    """
    rows = [
        ("trained on", ", ".join(run.name for run in inputs.training)),
        ("tested on", ", ".join(run.name for run in inputs.test) or f"the same runs, split by {inputs.split}"),
        ("regions", ", ".join(inputs.regions) or "the head, by its brightness"),
        ("features", "none: the categories themselves are decoded"),
        ("rtgod", version("rtgod")),
    ]
    if network is not None:
        layers = ", ".join(f"{name} = {node}" for name, node in network.layers.items())
        rows[3] = ("features", f"{network.name}, weights {network.weights}, {network.n_units} units of each: {layers}")
    return [PageTable(("what", "which"), rows, "Inputs"), _changed(settings)]


def notes_on_published(samples: Sequence[Path], features: Path | None, settings: PipelineSettings) -> list[PageTable]:
    """Make tables about an evaluation of published samples and features.

    Parameters
    ----------
    samples : sequence of Path
    features : Path or None
    settings : PipelineSettings
    """
    names = ", ".join(path.name for path in samples)
    rows = [("samples", names), ("features", features.name if features else ""), ("rtgod", version("rtgod"))]
    return [PageTable(("what", "which"), rows, "Inputs"), _changed(settings)]


def _changed(settings: PipelineSettings) -> PageTable:
    changed = list(_differences(settings.model_dump(), PipelineSettings().model_dump()))
    title = "Settings of the pipeline, where not the usual"
    return PageTable(("setting", "value"), changed or [("all", "as usual")], title)


def _differences(values: Mapping[str, Any], usual: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _differences(value, usual[name], f"{before}{name}.")
        elif value != usual[name]:
            yield f"{before}{name}", f"{value}"
