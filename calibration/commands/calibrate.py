"""`rtgod calibrate`: recorded runs to a decoder bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from calibration.commands.options import (
    Candidates,
    Dataset,
    Images,
    Layers,
    Mask,
    NetworkName,
    NoiseMask,
    PreprocessingFile,
    Region,
    SettingsFile,
    ShowSettings,
    Subject,
    Training,
    Units,
    Weights,
    Workers,
    console,
    inputs_from,
    needs_calibration,
    network_from,
    progress,
)

if TYPE_CHECKING:
    from calibration.calibrate import CalibrationReport


def calibrate(
    dataset: Dataset,
    subject: Subject,
    out: Annotated[Path, typer.Option(help="Folder of the bundle to make; must not exist.")],
    training: Training = "Training",
    region: Region = "VC",
    mask: Mask = None,
    images: Images = None,
    candidates: Candidates = None,
    noise_mask: NoiseMask = None,
    names: Annotated[
        Path | None, typer.Option(help="Table with category_id and name; default BIDS/stimuli/categories.tsv if there.")
    ] = None,
    network: NetworkName = None,
    weights: Weights = None,
    layer: Layers = None,
    units: Units = None,
    preprocessing: PreprocessingFile = None,
    settings: SettingsFile = None,
    show_settings: ShowSettings = False,
    workers: Workers = None,
) -> None:
    """Train a decoder on recorded runs and write its bundle.

    The runs pass through the pipeline that the server runs, volume by volume; the penalty of each layer is chosen by
    leaving one run out at a time.
    """
    with needs_calibration():
        from calibration.calibrate import calibrate as run_calibration
    from rtgod.errors import BundleError
    from rtgod.settings import PipelineSettings

    pipeline = PipelineSettings.from_toml(settings) if settings else PipelineSettings()
    if show_settings:
        console.print_json(pipeline.model_dump_json())
        return
    if out.exists():
        raise BundleError(f"bundle {out}: exists already; choose another --out or remove it")
    inputs = inputs_from(dataset, subject, training, region, mask, noise_mask, images, candidates, names)
    chosen = network_from(network, weights, layer, units, preprocessing, (inputs.images, inputs.candidates))
    with progress() as report:
        bundle, summary = run_calibration(inputs, pipeline, chosen, workers or os.cpu_count() or 1, report)
    bundle.save(out)
    _print_summary(summary)
    console.print(f"bundle [bold]{out}[/]: subject {subject}, network {chosen.name} with weights {chosen.weights}")


def _print_summary(summary: CalibrationReport) -> None:
    table = Table(
        title=f"Left-out runs: {summary.n_samples} samples of {summary.n_runs} runs, {summary.n_voxels} voxels",
        title_justify="left",
    )
    table.add_column("layer")
    table.add_column("penalty", justify="right")
    table.add_column("feature accuracy (r)", justify="right")
    table.add_column(f"identification among {summary.n_candidates}", justify="right")
    for name, layer in summary.layers.items():
        table.add_row(
            name, f"{layer.penalty:.3g}", f"{layer.feature_accuracy:.3f}", _percent(layer.identification_accuracy)
        )
    table.add_row("all", "", "", _percent(summary.identification_accuracy), style="bold")
    console.print(table)
    console.print("Chance is r = 0 and 50 %. These categories were trained on, from other runs; new ones are harder.")
    if summary.n_skipped:
        console.print(f"{summary.n_skipped} trials had no usable volume and were left out.")


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.1f} %"
