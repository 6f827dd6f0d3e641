"""`rtgod evaluate`: how well new runs are decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    Scheduler,
    SettingsFile,
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
from rtgod.errors import InputError


def evaluate(
    dataset: Dataset,
    subject: Subject,
    out: Annotated[Path, typer.Option(help="Folder for tables and figures; files of the same names are replaced.")],
    ablate: Annotated[str, typer.Option(help="What to take apart step by step: preprocessing.")],
    training: Training = "Training",
    test: Annotated[str, typer.Option(help="Runs to test on: those whose file name contains this.")] = "Test",
    region: Region = "VC",
    mask: Mask = None,
    noise_mask: NoiseMask = None,
    images: Images = None,
    candidates: Candidates = None,
    network: NetworkName = None,
    weights: Weights = None,
    layer: Layers = None,
    units: Units = None,
    preprocessing: PreprocessingFile = None,
    settings: SettingsFile = None,
    n_workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Find out on new runs what each step of preprocessing is worth.

    Trains on some runs and tests on others, once with the settings as they are and once with each step changed; writes
    the identification accuracies as a table and a figure.
    """
    with needs_calibration():
        from calibration.ablation import ablate_preprocessing, write_ablation
        from calibration.bids import find_runs
        from calibration.workers import workers
    from rtgod.settings import PipelineSettings

    if ablate != "preprocessing":
        raise InputError(f"--ablate {ablate}: what can be taken apart is preprocessing")
    inputs = inputs_from([dataset], subject, training, region, mask, noise_mask, images, candidates, None)
    new_runs = find_runs(dataset, subject, test)
    if shared := {run.bold for run in inputs.runs} & {run.bold for run in new_runs}:
        raise InputError(f"--training and --test share {len(shared)} runs; test on runs that nothing was trained on")
    chosen = network_from(network, weights, layer, units, preprocessing, (inputs.images, inputs.candidates))
    pipeline = PipelineSettings.from_toml(settings) if settings else PipelineSettings()
    with progress() as told, workers(n_workers, scheduler) as pool:
        steps = ablate_preprocessing(inputs, new_runs, pipeline, chosen, pool, told)
    write_ablation(steps, out, console)
    console.print(f"written to [bold]{out}[/]: ablation.tsv, ablation.png", highlight=False)
