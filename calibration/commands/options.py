"""What several commands share: options in the same words, inputs put together from them, progress, missing packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from rtgod.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from calibration.calibrate import Inputs
    from calibration.features import Network

console = Console()
Dataset = Annotated[Path, typer.Argument(help="Root of a BIDS data set.")]
Subject = Annotated[str, typer.Option(help="Subject label, without sub-.")]
Training = Annotated[str, typer.Option(help="Runs to train on: those whose file name contains this.")]
Region = Annotated[str, typer.Option(help="Region whose mask is taken from derivatives/rois.")]
Mask = Annotated[Path | None, typer.Option(help="Mask image to use instead of a region's.")]
NoiseMask = Annotated[
    Path | None,
    typer.Option(help="Mask of voxels to read noise components from, if settings ask for any; default the noisiest."),
]
Images = Annotated[Path | None, typer.Option(help="Folder of the shown images; default BIDS/stimuli.")]
Candidates = Annotated[
    Path | None, typer.Option(help="Folder with a folder of images per candidate; default BIDS/stimuli/candidates.")
]
NetworkName = Annotated[str, typer.Option("--network", help="A classification network of torchvision.")]
Weights = Annotated[str, typer.Option(help="default (pretrained), a local file, or random:SEED.")]
Layers = Annotated[
    list[str] | None, typer.Option(help="NAME=NODE, repeatable; default AlexNet's eight as cnn1 … cnn8.")
]
Units = Annotated[int, typer.Option(min=1, help="Units to keep of each layer.")]
SettingsFile = Annotated[Path | None, typer.Option(help="TOML file with pipeline settings.")]
ShowSettings = Annotated[bool, typer.Option("--show-settings", help="Print the settings as JSON and stop.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default one per core.")]


def inputs_from(
    dataset: Path,
    subject: str,
    training: str,
    region: str,
    mask: Path | None,
    noise_mask: Path | None,
    images: Path | None,
    candidates: Path | None,
    names: Path | None,
) -> Inputs:
    """What is to be trained on, with a BIDS data set's usual places for what was not given."""
    from calibration.bids import find_mask, find_runs
    from calibration.calibrate import Inputs

    stimuli = dataset / "stimuli"
    default_names = stimuli / "categories.tsv"
    return Inputs(
        subject=subject,
        runs=tuple(find_runs(dataset, subject, training)),
        mask=mask or find_mask(dataset, subject, region),
        noise_mask=noise_mask,
        images=images or stimuli,
        candidates=candidates or stimuli / "candidates",
        names=names or (default_names if default_names.is_file() else None),
    )


def network_from(name: str, weights: str, layer: list[str] | None, n_units: int) -> Network:
    """The network that the options name; AlexNet's usual layers where none are given."""
    from calibration.features import ALEXNET_LAYERS, Network

    if name != "alexnet" and not layer:
        raise InputError(f"--network {name}: name the layers to decode with --layer NAME=NODE")
    return Network(name, weights, _parse_layers(layer) if layer else dict(ALEXNET_LAYERS), n_units)


def _parse_layers(items: list[str]) -> dict[str, str]:
    pairs = [item.split("=", 1) for item in items]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise InputError(f"--layer {' '.join(items)}: write NAME=NODE, for example cnn1=features.0")
    return dict(pairs)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar per stage, told as (stage, done, in all)."""
    columns = (TextColumn("{task.description:<26}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield report


@contextmanager
def needs_calibration() -> Iterator[None]:
    """Turn a missing package of the extra into the line that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed; run: python -m pip install 'rtgod[calibration]'"
        ) from error
