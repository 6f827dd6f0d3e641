"""`rtgod features` and `rtgod categories build`: network features of any number of images, in a store."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibration.commands.options import (
    Layers,
    NetworkName,
    PreprocessingFile,
    Scheduler,
    Units,
    Weights,
    completed,
    console,
    needs_calibration,
    network_from,
    progress,
)
from rtgod.commands import options
from rtgod.commands.options import DryRun, ShowSettings
from rtgod.console import styled
from rtgod.errors import InputError
from rtgod.pictures.pixels import told
from rtgod.text import number_of

if TYPE_CHECKING:
    from calibration.features.images import ImageList
    from calibration.features.network import Network
    from calibration.features.store import FeatureStore

Out = Annotated[
    Path | None,
    typer.Option(
        help="The store, a Zarr group; started again with the same settings, it is gone on with. Not for --dry-run."
    ),
]
FeatureWorkers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; default one, with a thread per core.")
]

categories = typer.Typer(help="Categories that can be ranked, as mean network features.", no_args_is_help=True)


def features(
    images: Annotated[
        Path,
        typer.Argument(
            help="Folder of images, with the folders in it; or a table with the column path, relative to the table, "
            "and optionally image_id, category_id and name."
        ),
    ],
    out: Out = None,
    network: NetworkName = None,
    weights: Weights = None,
    layer: Layers = None,
    units: Units = None,
    preprocessing: PreprocessingFile = None,
    show_settings: ShowSettings = False,
    dry_run: DryRun = False,
    workers: FeatureWorkers = None,
    scheduler: Scheduler = None,
) -> None:
    """Compute network features of images into a store.

    An image is called as its file without suffix. What cannot be read is listed and skipped. `rtgod calibrate --images`
    takes the store in place of the images.
    """
    with needs_calibration():
        from calibration.features.images import list_images
    chosen = network_from(network, weights, layer, units, preprocessing)
    if show_settings:
        options.show_settings(completed(chosen))
    elif dry_run:
        _say_plan(list_images(images), chosen, out)
    else:
        _extract(list_images(images), chosen, options.needed_out(out), workers, scheduler)


@categories.command()
def build(
    images: Annotated[
        Path,
        typer.Argument(
            help="Folder with a folder of images for each category; or a table with the columns category_id and path, "
            "and optionally image_id and name."
        ),
    ],
    out: Out = None,
    network: NetworkName = None,
    weights: Weights = None,
    layer: Layers = None,
    units: Units = None,
    preprocessing: PreprocessingFile = None,
    show_settings: ShowSettings = False,
    dry_run: DryRun = False,
    workers: FeatureWorkers = None,
    scheduler: Scheduler = None,
) -> None:
    """Compute the mean network features of categories of images into a store.

    What cannot be read is listed and skipped. `rtgod calibrate --candidates` takes the store in place of the images.
    """
    with needs_calibration():
        from calibration.features.images import list_categories
    chosen = network_from(network, weights, layer, units, preprocessing)
    if show_settings:
        options.show_settings(completed(chosen))
    elif dry_run:
        _say_plan(list_categories(images), chosen, out)
    else:
        _extract(list_categories(images), chosen, options.needed_out(out), workers, scheduler)


def _say_plan(images: ImageList, network: Network, out: Path | None) -> None:
    """Print what would be computed, and how far a begun store has come; no image is read."""
    with needs_calibration():
        from calibration.features.store import FeatureStore
        from calibration.training.plan_tables import print_notes
    n_categories = len(set(images.categories))
    of_categories = f" of {n_categories} categories" if n_categories else ""
    layers = ", ".join(f"{name} = {node}" for name, node in network.layers.items())
    seen_by = f"{network.name}, weights {network.weights}, {network.n_units} units at most of each: {layers}"
    console.print(
        styled((images.root, "bold"), f": {number_of(len(images.ids), 'image')}{of_categories}"), soft_wrap=True
    )
    console.print(styled(f"features of {seen_by}"), soft_wrap=True)
    print_notes(images.notes, console)
    options.say_output(out, "the store; images that cannot be read are left out", (), overwrite=True, console=console)
    if out is not None and out.exists():
        store = FeatureStore(out)
        if store.images_sha256 != images.sha256():
            raise InputError(
                f"feature store {out} was begun with another list of images ({store.n_images} there, {len(images.ids)} "
                "here); choose another --out"
            )
        begun = f"{int(store.done.sum())} of {store.n_batches} batches of images are done, and would be kept"
        print_notes([begun], console)


def _extract(images: ImageList, network: Network, out: Path, n_workers: int | None, scheduler: str | None) -> None:
    with needs_calibration():
        from calibration.features.extraction import extract_to_store
        from calibration.parallel.workers import workers
        from calibration.training.plan_tables import print_notes
    spread = n_workers is not None or scheduler is not None
    with workers(n_workers, scheduler) if spread else nullcontext() as pool, progress() as report:
        store = extract_to_store(images, network, out, report, pool)
    print_notes(images.notes, console)
    _print_summary(store)


def _print_summary(store: FeatureStore) -> None:
    from calibration.features.images import first_few
    from calibration.training.plan_tables import print_notes

    print_notes(told(store.changes(), store.n_images), console)
    problems = [problem for problem in store.problems.tolist() if problem]
    if problems:
        line = f"{len(problems)} of {store.n_images} images could not be read and were skipped:"
        console.print(line, style="bold", soft_wrap=True)
        for problem in problems[:5]:
            console.print(styled(f"  {problem}"), soft_wrap=True)
        console.print(styled(f"All are listed in {store.path}/problem."), soft_wrap=True)
    if store.n_categories:
        readable = store.n_readable()
        if empty := [name for name, n in zip(store.category_ids, readable, strict=True) if not n]:
            line = f"Categories without an image, which are left out: {first_few(empty)}"
            console.print(styled(line), soft_wrap=True)
    n_units = ", ".join(f"{layer} {store.n_units(layer)}" for layer in store.network.layers)
    of_categories = f" of {store.n_categories} categories" if store.n_categories else ""
    content = f": {store.n_images - len(problems)} images{of_categories}, {store.network.name} in {store.precision}"
    console.print(styled((store.path, "bold"), f"{content}, units: {n_units}"), soft_wrap=True)
