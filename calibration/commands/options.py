"""Options that several commands share in the same words, inputs made from them, progress, and missing packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rtgod.commands.options import needed_out, show_settings
from rtgod.console import PlainConsole, styled
from rtgod.errors import InputError, MissingDependencyError
from rtgod.text import plain

if TYPE_CHECKING:
    from pydantic import BaseModel

    from calibration.datasets.dataset_files import DatasetFiles
    from calibration.decoders.settings import DecoderSettings
    from calibration.features.network import Network
    from calibration.features.store import FeatureStore
    from rtgod.settings import PipelineSettings

console = PlainConsole()
Runs = Annotated[
    list[Path],
    typer.Argument(
        help="Root of a BIDS data set; or runs with their events beside: NIfTI files, Philips PAR files, folders of "
        "DICOM files (one series each) or of 3-D NIfTI files, or a folder of such."
    ),
]
Events = Annotated[
    list[Path] | None, typer.Option(help="Events table of a run without BIDS, if it lies elsewhere; once for each run.")
]
Tr = Annotated[
    float | None,
    typer.Option("--tr", help="Repetition time of runs whose files give none or contradict each other, seconds."),
]
Subject = Annotated[str, typer.Option(help="Subject label, with or without sub-.")]
_PATTERNS = (
    "those whose name contains this, repeatable: run-1, 'run-[1-6]', run-1..6 or run-1,run-2; run-1 is not in run-10, "
    "and not:echo-1 leaves out"
)
Training = Annotated[
    list[str] | None, typer.Option(help=f"Runs to train on: {_PATTERNS}. Default Training for BIDS, else all others.")
]
Test = Annotated[
    list[str] | None,
    typer.Option(help="Runs to test on, as --training; default Test for BIDS, else all that are not trained on."),
]
Region = Annotated[
    str | None,
    typer.Option(
        help="Region with mask images in a BIDS data set (sub-01_label-V1_mask.nii.gz anywhere in its derivatives or "
        "sourcedata), or an expression: 'V1 + V2', 'VC - V1'; head is the whole head. Default VC; the head where there "
        "is no mask."
    ),
]
Mask = Annotated[
    Path | None, typer.Option(help="Mask image instead of a region's; without any, the whole head is decoded from.")
]
NoiseMask = Annotated[
    Path | None,
    typer.Option(help="Mask of voxels to read noise components from, if settings ask for any; default the noisiest."),
]
Images = Annotated[
    Path | None,
    typer.Option(help="Folder of the shown images, or their feature store (`rtgod features`); default BIDS/stimuli."),
]
CandidatesOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder with a folder of images per candidate, or their feature store (`rtgod categories build`); default "
        "BIDS/stimuli/candidates."
    ),
]
Pictures = Annotated[
    Path | None,
    typer.Option(
        help="Your own pictures, a folder or their feature store (`rtgod features`): every ranking then names the "
        "nearest four, and `rtgod display` and `rtgod stimulus feedback` can show them."
    ),
]
Names = Annotated[
    Path | None, typer.Option(help="Table with category_id and name; default BIDS/stimuli/categories.tsv if there.")
]
PlainCategories = Annotated[
    bool,
    typer.Option(
        "--plain-categories",
        help="Decode the categories themselves, as of a localizer, not what images look like; so it is without images.",
    ),
]
NetworkName = Annotated[
    str | None,
    typer.Option("--network", help="A classification network of torchvision; default alexnet, or a feature store's."),
]
Weights = Annotated[
    str | None, typer.Option(help="default (pretrained), a local file, or random:SEED; default, or a feature store's.")
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=NODE, repeatable; by default usual layers of alexnet (cnn1 … cnn8), squeezenet1_1, vgg19 and "
        "resnet18 … 152."
    ),
]
Units = Annotated[int | None, typer.Option(min=1, help="Units to keep of each layer; default 1000.")]
PreprocessingFile = Annotated[
    Path | None,
    typer.Option(
        "--preprocessing",
        help="TOML file with what is done to an image, if not as torchvision publishes it for the network: channels "
        "(RGB, BGR), brightest (1, 255: a pixel's range), mean and sd (three each, in the order and range of the "
        "channels), all four or none; resize_px and crop_px, both or none; interpolation (bilinear, bicubic).",
    ),
]
DecoderName = Annotated[
    str | None,
    typer.Option(
        "--decoder",
        help="ridge (all voxels), ridge-select (for each unit, the voxels that correlate most with it), slr (sparse "
        "linear regression, the study's); where categories themselves are decoded also lda (discriminant analysis) or "
        "svm, on the voxels that differ most between them; or auto, the default: chosen by cross-validation.",
    ),
]
DecoderFile = Annotated[
    Path | None,
    typer.Option("--decoder-settings", help="TOML file with the decoder's n_voxels, alpha, cost, tune, n_folds …"),
]
SettingsFile = Annotated[Path | None, typer.Option(help="TOML file with pipeline settings.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; default one per core.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Address of a Dask scheduler, such as tcp://HOST:8786, whose workers do the work instead: of one thread "
        "each, with the same packages, and the same files under the same paths."
    ),
]


def settings_from(
    settings: Path | None,
    decoder: str | None,
    decoder_file: Path | None,
    network: Callable[[], Network | None],
    out: Path | None,
    *,
    show: bool,
    dry_run: bool,
) -> tuple[PipelineSettings, DecoderSettings]:
    """Read the settings of the pipeline and of the decoder; with `show`, print them and end the command.

    Parameters
    ----------
    settings, decoder, decoder_file, out
        Options of the command; None if left out.
    network : callable
        Returns the network whose features are decoded, or None if no images are decoded.
    show : bool
        Whether to print the settings and do nothing else.
    dry_run : bool
        Whether nothing is to be written.

    Raises
    ------
    InputError
        If a file cannot be understood, or no option says where to write to.
    typer.Exit
        After the settings are shown.
    """
    from rtgod.settings import PipelineSettings

    pipeline = PipelineSettings.from_toml(settings) if settings else PipelineSettings()
    trained_by = decoder_from(decoder, decoder_file)
    if show:
        parts: dict[str, BaseModel] = {"settings": pipeline, "decoder_settings": trained_by}
        if (seen_by := network()) is not None:
            parts["network"] = completed(seen_by)
        show_settings(parts)
        raise typer.Exit
    if not dry_run:
        needed_out(out)
    return pipeline, trained_by


class NetworkOptions(NamedTuple):
    """Options that name a network, named as on the command line; None for those left out."""

    network: str | None
    weights: str | None
    layer: list[str] | None
    units: int | None
    preprocessing: Path | None


def network_shown(
    paths: Sequence[Path], images: Path | None, candidates: Path | None, options: NetworkOptions
) -> Network | None:
    """Return the network that would be used; None if the paths come without images, which need a network."""
    from calibration.datasets.dataset_files import data_set_in

    root = data_set_in(paths)
    if images is None and candidates is None and not (root is not None and (root / "stimuli").is_dir()):
        return None
    return network_from(*options, sources=(images, candidates))


def completed(network: Network) -> Network:
    """Complete the network by its preprocessing: as published unless it sets something else."""
    from calibration.features.weights import published_preprocessing

    return network.model_copy(update={"preprocessing": published_preprocessing(network)})


def say_found(files: DatasetFiles, plain: bool) -> None:
    """Print what is left out and defaulted of what is to be trained on.

    Parameters
    ----------
    files : DatasetFiles
    plain : bool
        Whether plain categories were asked for.
    """
    say_missing(files.missing)
    if files.images is None:
        why = "asked for" if plain else "no images are given"
        decoded = f" {why}, so the categories themselves are decoded"
        console.print(styled(("plain categories", "yellow"), decoded), soft_wrap=True)
    if files.region is None:
        say_no_mask()


def say_no_mask() -> None:
    """Print that the whole head is decoded from."""
    console.print(styled(("no mask", "yellow"), " so the voxels are the head's, by the brightness of the template"))


def say_missing(missing: Iterable[str]) -> None:
    """Print which runs or trials were left out, and why."""
    for name in missing:
        console.print(styled(("left out", "yellow"), f" {name}"), soft_wrap=True)


def network_from(
    name: str | None,
    weights: str | None,
    layer: list[str] | None,
    n_units: int | None,
    preprocessing: Path | None = None,
    sources: Iterable[Path | None] = (),
) -> Network:
    """Make the network that the options name; the feature stores, or else the defaults, supply what they leave out.

    Parameters
    ----------
    name, weights, layer, n_units, preprocessing
        Options of the command; None if left out.
    sources : iterable of Path or None
        Paths of the images, or of stores of their features.

    Raises
    ------
    InputError
        If an option cannot be understood, or contradicts a feature store.
    """
    from pydantic import ValidationError

    from calibration.features.network import LAYERS, Network, Preprocessing
    from calibration.features.store import FeatureStore, is_store
    from rtgod.settings import what_is_wrong

    given: dict[str, Any] = {"name": name, "weights": weights, "n_units": n_units}
    given = {key: value for key, value in given.items() if value is not None}
    if layer:
        given["layers"] = _parse_layers(layer)
    stores = [FeatureStore(source) for source in sources if source is not None and is_store(source)]
    if preprocessing:
        given["preprocessing"] = Preprocessing.from_toml(preprocessing)
    if stores:
        return _agreeing(given, stores)
    if preprocessing is None and weights is not None and weights != "default" and not weights.startswith("random:"):
        remark = f" no --preprocessing: images are prepared as torchvision publishes it for {name or 'alexnet'}"
        console.print(styled((weights, "bold"), ":", (remark, "yellow")), soft_wrap=True)
    if "layers" not in given:
        if (usual_layers := LAYERS.get(name or "alexnet")) is None:
            raise InputError(f"--network {name}: name the layers to decode with --layer NAME=NODE")
        given["layers"] = dict(usual_layers)
    try:
        return Network(**given)
    except ValidationError as error:
        raise InputError(f"network: {what_is_wrong(error, Network)}") from error


def _agreeing(given: dict[str, Any], stores: list[FeatureStore]) -> Network:
    """Return the stores' network if all given options agree with it; given weights are read to compare them."""
    from calibration.features.weights import checksum, load_model

    stored = stores[0].network
    if "preprocessing" in given:
        changes = given["preprocessing"].model_dump(exclude_unset=True)
        given["preprocessing"] = stored.preprocessing.model_copy(update=changes)
    network = stored.model_copy(update=given)
    if "weights" in given:
        unchecked = network.model_copy(update={"weights_sha256": None})
        network = network.model_copy(update={"weights_sha256": checksum(load_model(unchecked))})
    for store in stores:
        store.check_network(network)
    return network


def _parse_layers(items: list[str]) -> dict[str, str]:
    pairs = [item.split("=", 1) for item in items]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise InputError(f"--layer {' '.join(items)}: write NAME=NODE, for example cnn1=features.0")
    return dict(pairs)


def decoder_from(name: str | None, file: Path | None) -> DecoderSettings:
    """Return the settings of the decoder that the options name, with the values in the file."""
    from calibration.decoders.settings import DecoderSettings

    settings = DecoderSettings.from_toml(file) if file else DecoderSettings()
    names = get_args(DecoderSettings.model_fields["name"].annotation)
    if name is not None and name not in names:
        raise InputError(f"--decoder {name}: choose {', '.join(names)}")
    return settings.model_copy(update={"name": name or settings.name})


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar for each stage, with the remaining time; yields a callable told (stage, done, in all)."""
    columns = (
        TextColumn("{task.description:<26}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                # Steps done before the first report took time, so they do not count for the speed.
                tasks[stage] = progress.add_task(plain(stage), total=total, completed=done)
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
