"""The commands `simulate`, `calibrate` and `report`: arguments in, the right parts put together, tables out.

What takes long to import is imported when a command runs, so that `rtgod --help` stays quick.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from rtgod.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from calibration.calibrate import CalibrationReport, Inputs
    from calibration.features import Network

console = Console()
# What several commands ask for, in the same words.
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


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to make; must not exist.")],
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same bytes; default 0.")] = None,
    settings: Annotated[Path | None, typer.Option(help="TOML file with the subject's settings.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="What the brain responds to: random:SEED, default (pretrained), or a file.")
    ] = None,
    test_runs: Annotated[int | None, typer.Option(min=0, help="How many; default 2.")] = None,
    imagery_runs: Annotated[int | None, typer.Option(min=0, help="How many; default 2.")] = None,
    other_categories: Annotated[
        int | None, typer.Option(min=0, help="Candidates that are never shown; default 200.")
    ] = None,
    show_settings: ShowSettings = False,
    workers: Workers = None,
) -> None:
    """Make a simulated subject: a BIDS data set to rehearse and plan with.

    Training, test and imagery runs in the layout of Horikawa & Kamitani (2017), with drawn objects as images, regions
    of visual cortex, head motion, drift, physiology and noise typical of 3 T, and the truth behind it all.
    """
    with _needs_calibration():
        from calibration.simulation.dataset import simulate as run_simulation
        from calibration.simulation.settings import SubjectSettings
    subject = SubjectSettings.from_toml(settings) if settings else SubjectSettings()
    asked = {"seed": seed, "weights": weights, "n_test_runs": test_runs, "n_imagery_runs": imagery_runs}
    if other_categories is not None:
        asked["stimuli"] = subject.stimuli.model_copy(update={"n_other_categories": other_categories})
    subject = subject.model_copy(update={name: value for name, value in asked.items() if value is not None})
    if show_settings:
        console.print_json(subject.model_dump_json())
        return
    with _progress() as report:
        run_simulation(out, subject, workers or os.cpu_count() or 1, report)
    console.print(f"[bold]{out}[/]: subject {subject.subject}, seed {subject.seed}, network weights {subject.weights}")


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
    network: NetworkName = "alexnet",
    weights: Weights = "default",
    layer: Layers = None,
    units: Units = 1000,
    settings: SettingsFile = None,
    show_settings: ShowSettings = False,
    workers: Workers = None,
) -> None:
    """Train a decoder on recorded runs and write its bundle.

    The runs pass through the pipeline that the server runs, volume by volume; the penalty of each layer is chosen by
    leaving one run out at a time.
    """
    with _needs_calibration():
        from calibration.calibrate import calibrate as run_calibration
    from rtgod.errors import BundleError
    from rtgod.settings import PipelineSettings

    pipeline = PipelineSettings.from_toml(settings) if settings else PipelineSettings()
    if show_settings:
        console.print_json(pipeline.model_dump_json())
        return
    if out.exists():
        raise BundleError(f"bundle {out}: exists already; choose another --out or remove it")
    inputs = _inputs(dataset, subject, training, region, mask, noise_mask, images, candidates, names)
    chosen = _network(network, weights, layer, units)
    with _progress() as report:
        bundle, summary = run_calibration(inputs, pipeline, chosen, workers or os.cpu_count() or 1, report)
    bundle.save(out)
    _print_summary(summary)
    console.print(f"bundle [bold]{out}[/]: subject {subject}, network {network} with weights {weights}")


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
    network: NetworkName = "alexnet",
    weights: Weights = "default",
    layer: Layers = None,
    units: Units = 1000,
    settings: SettingsFile = None,
    workers: Workers = None,
) -> None:
    """Find out on new runs what each step of preprocessing is worth.

    Trains on some runs and tests on others, once with the settings as they are and once with each step changed; writes
    the identification accuracies as a table and a figure.
    """
    with _needs_calibration():
        from calibration.ablation import ablate_preprocessing, write_ablation
        from calibration.bids import find_runs
    from rtgod.settings import PipelineSettings

    if ablate != "preprocessing":
        raise InputError(f"--ablate {ablate}: what can be taken apart is preprocessing")
    inputs = _inputs(dataset, subject, training, region, mask, noise_mask, images, candidates, None)
    new_runs = find_runs(dataset, subject, test)
    if shared := {run.bold for run in inputs.runs} & {run.bold for run in new_runs}:
        raise InputError(f"--training and --test share {len(shared)} runs; test on runs that nothing was trained on")
    chosen = _network(network, weights, layer, units)
    pipeline = PipelineSettings.from_toml(settings) if settings else PipelineSettings()
    with _progress() as told:
        steps = ablate_preprocessing(inputs, new_runs, pipeline, chosen, workers or os.cpu_count() or 1, told)
    write_ablation(steps, out, console)
    console.print(f"written to [bold]{out}[/]: ablation.tsv, ablation.png", highlight=False)


def report(
    journal: Annotated[Path, typer.Argument(help="A journal that `rtgod serve` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for tables and figures; files of the same names are replaced.")],
    bundle: Annotated[Path | None, typer.Option(help="The session's bundle: names and images of candidates.")] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="BIDS data set with the runs' events, for what was true.")
    ] = None,
    motion_reference: Annotated[
        Path | None, typer.Option(help="Motion estimates of the first run by SPM, to draw beside ours.")
    ] = None,
) -> None:
    """Draw and tabulate a session: ranks of the true categories, latency by stage, head motion.

    Ranks need --bundle and --dataset: the server itself never knows what was shown.
    """
    with _needs_calibration():
        from calibration.report import write_report
    write_report(journal, out, bundle, dataset, motion_reference, console)


def _inputs(
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


def _network(name: str, weights: str, layer: list[str] | None, n_units: int) -> Network:
    from calibration.features import ALEXNET_LAYERS, Network

    if name != "alexnet" and not layer:
        raise InputError(f"--network {name}: name the layers to decode with --layer NAME=NODE")
    return Network(name, weights, _parse_layers(layer) if layer else dict(ALEXNET_LAYERS), n_units)


def _parse_layers(items: list[str]) -> dict[str, str]:
    pairs = [item.split("=", 1) for item in items]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise InputError(f"--layer {' '.join(items)}: write NAME=NODE, for example cnn1=features.0")
    return dict(pairs)


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


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
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
def _needs_calibration() -> Iterator[None]:
    """Turn a missing package of the extra into the line that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed; run: python -m pip install 'rtgod[calibration]'"
        ) from error
