"""`rtgod calibrate`: recorded runs to a decoder bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from calibration.commands.options import (
    CandidatesOption,
    DecoderFile,
    DecoderName,
    Events,
    Images,
    Layers,
    Mask,
    Names,
    NetworkName,
    NetworkOptions,
    NoiseMask,
    Pictures,
    PlainCategories,
    PreprocessingFile,
    Region,
    Runs,
    Scheduler,
    SettingsFile,
    Subject,
    Tr,
    Training,
    Units,
    Weights,
    Workers,
    console,
    needs_calibration,
    network_from,
    network_shown,
    progress,
    say_found,
    say_missing,
    settings_from,
)
from rtgod.commands.options import DryRun, Echo, Overwrite, ShowSettings, needed_out, say_output
from rtgod.console import styled
from rtgod.files import replacing

if TYPE_CHECKING:
    from calibration.features.network import Network
    from calibration.training.calibrate import CalibrationReport


def calibrate(
    runs: Runs,
    subject: Subject,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the bundle to make; must not exist, or see --overwrite. Not for --dry-run."),
    ] = None,
    training: Training = None,
    events: Events = None,
    tr: Tr = None,
    echo: Echo = "",
    region: Region = None,
    mask: Mask = None,
    images: Images = None,
    candidates: CandidatesOption = None,
    pictures: Pictures = None,
    noise_mask: NoiseMask = None,
    names: Names = None,
    plain_categories: PlainCategories = False,
    network: NetworkName = None,
    weights: Weights = None,
    layer: Layers = None,
    units: Units = None,
    preprocessing: PreprocessingFile = None,
    decoder: DecoderName = None,
    decoder_settings: DecoderFile = None,
    settings: SettingsFile = None,
    show_settings: ShowSettings = False,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    n_workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Train a decoder on recorded runs and write its bundle.

    The runs pass through the pipeline that the server runs, volume by volume; the accuracy that is printed is that
    on runs that were left out in turn. Without images, as of a localizer, the categories themselves are decoded.
    """
    with needs_calibration():
        from calibration.datasets.dataset_files import DatasetOptions, find_training
        from calibration.parallel.workers import workers
        from calibration.training.calibrate import calibrate as run_calibration
        from calibration.training.chosen_fit import check_decoder
        from calibration.training.dry_run import plan_calibration
        from calibration.training.plan_tables import in_categories, print_events, print_notes, print_plan
    from rtgod.candidates import HEADER, read_header
    from rtgod.errors import BundleError, InputError
    from rtgod.sources.echoes import echo_of

    network_options = NetworkOptions(network, weights, layer, units, preprocessing)

    def seen_by() -> Network | None:
        return None if plain_categories else network_shown(runs, images, candidates, network_options)

    pipeline, trained = settings_from(
        settings, decoder, decoder_settings, seen_by, out, show=show_settings, dry_run=dry_run
    )
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / HEADER).is_file():
            raise InputError(f"{out}: is there, and is no decoder bundle; choose another --out")
        if not overwrite and not dry_run:
            raise BundleError(f"bundle {out}: exists already; choose another --out, or replace it with --overwrite")
        read_header(out)  # nothing but a bundle is replaced
    dataset_options = DatasetOptions(
        paths=runs, subject=subject, training=training, region=region, mask=mask, noise_mask=noise_mask, images=images,
        candidates=candidates, pictures=pictures,
        names=names, events=events or (), tr_s=tr, echo=echo_of(echo), plain=plain_categories,
        reading=pipeline.events,
    )  # fmt: skip
    began = time.perf_counter()
    with console.status("reading what is there"):
        inputs = find_training(dataset_options)
    say_found(inputs, plain_categories)
    check_decoder(trained, plain=inputs.are_plain)
    if inputs.pictures is not None:
        _say_pictures(inputs.pictures)
    if inputs.images is None and (
        unused := [f"--{name}" for name, value in network_options._asdict().items() if value is not None]
    ):
        raise InputError(f"{', '.join(unused)}: a network sees images, and none are given; give --images, or leave out")
    with console.status("reading runs and events"):
        plan = plan_calibration(inputs, pipeline)
    if dry_run:
        print_plan(plan, console)
    plan.check()
    if dry_run:
        say_output(out, "the decoder bundle, a folder", (), overwrite=overwrite, console=console)
        return
    trials = [trial for run in plan.runs for trial in run.trained_on]
    console.print(styled(("trials", "yellow"), f" {len(trials)} {in_categories(trials)}"), soft_wrap=True)
    print_events(plan.reads, console)
    print_notes(plan.notes, console)
    chosen = None
    if inputs.images is not None:
        chosen = network_from(*network_options, sources=(inputs.images, inputs.candidates))
    out = needed_out(out)
    found_s = time.perf_counter() - began
    with progress() as report, workers(n_workers, scheduler) as pool:
        bundle, summary = run_calibration(inputs, pipeline, chosen, trained, pool, report)
    if out.exists():
        with replacing(out) as new:
            bundle.save(new)
    else:
        bundle.save(out)
    _print_summary(summary)
    _print_times({"finding runs": found_s, **summary.seconds}, time.perf_counter() - began)
    decoded = f"network {chosen.name} with weights {chosen.weights}" if chosen else "the categories themselves"
    content = f": the decoder of subject {inputs.subject}, {decoded}"
    console.print(styled("written to ", (out, "bold"), content), soft_wrap=True)


def _say_pictures(source: Path) -> None:
    """Print how many of the user's pictures there are, and which are left out."""
    with needs_calibration():
        from calibration.features.picture_files import PictureFiles
    files = PictureFiles(source)
    console.print(styled(("pictures", "yellow"), f" {len(files.names):,} of {source}"), soft_wrap=True)
    say_missing(files.notes)


def _print_summary(summary: CalibrationReport) -> None:
    from calibration.samples.left_out import by_reason

    table = Table(
        title=f"Left-out {'runs' if summary.n_runs > 1 else 'blocks'}: {summary.n_samples} samples of "
        f"{summary.n_runs} run{'s' * (summary.n_runs > 1)}, {summary.n_voxels} voxels",
        title_justify="left",
    )
    table.add_column("layer")
    table.add_column("penalty", justify="right")
    table.add_column("feature accuracy (r)", justify="right")
    table.add_column("pairwise identification", justify="right")
    for name, layer in summary.layers.items():
        table.add_row(
            styled(name),
            "each voxel's" if layer.penalty is None else f"{layer.penalty:.3g}",
            f"{layer.feature_accuracy:.3f}",
            _percent(layer.identification_accuracy),
        )
    table.add_row("all", "", "", _percent(summary.identification_accuracy), style="bold")
    console.print(table)
    top1, by_chance = "", _percent(1 / summary.n_candidates)
    if summary.first is not None:
        top1 = f"The category is first for {_percent(summary.first)}, by chance for {by_chance}. "
    parts = "runs"
    if summary.n_runs == 1:
        parts = f"blocks of the same run, left out in {summary.n_parts} parts"
    console.print(
        f"{top1}Pairwise identification: of all other candidates ({summary.n_candidates - 1:,}), the share ranked "
        "below the true one. Chance is 50 % however many there are, and r = 0. These categories were trained on, from "
        f"other {parts}; new ones are harder.",
        soft_wrap=True,
    )
    console.print(_against_chance(summary), soft_wrap=True)
    _print_decoder(summary)
    for told in (summary.penalty_choice, summary.known):
        if told:
            console.print(f"{told[0].upper()}{told[1:]}.", soft_wrap=True, markup=False)
    say_missing(by_reason(summary.trials))
    for note in summary.notes:
        console.print(styled(("note", "yellow"), f" {note}"), soft_wrap=True)


def _print_decoder(summary: CalibrationReport) -> None:
    """Show the decoder, how it was chosen, and its alternatives."""
    how = f": {summary.decoder_choice}" if summary.decoder_choice else ""
    console.print(styled("Decoder ", (summary.decoder, "bold"), how), soft_wrap=True)
    if not summary.alternatives:
        return
    table = Table(title="Decoders compared on left-out samples", title_justify="left")
    table.add_column("decoder")
    table.add_column("settings")
    table.add_column("pairwise identification", justify="right")
    table.add_column("below the best", justify="right")
    for each in summary.alternatives:
        below = each.why_not or "not tried"
        if each.deficit is not None and each.error is not None:
            below = "the best" if each.deficit <= 0 else f"{100 * each.deficit:.1f} ± {100 * each.error:.1f} points"
        is_chosen = each.accuracy is not None and summary.decoder.partition(",")[0] == each.name
        table.add_row(each.name, each.setting, _percent(each.accuracy), below, style="bold" if is_chosen else None)
    console.print(table)


def _against_chance(summary: CalibrationReport) -> Text:
    """Say in words whether decoding was found better than chance."""
    test = summary.test
    if test is None:
        return styled(("not tested", "yellow"), " against chance: fewer than two candidates are among what was shown")
    how = f"p = {test.p_value:.4f}, of exchanged {test.exchanged}"
    if not test.can_find:
        why = f" to tell decoding from chance: {how}, and at best {test.least:.3f}"
        return styled(("too few samples", "yellow"), why)
    if not test.is_found:
        why = "too little data, voxels that do not tell, or events that are late or not this run's?"
        return styled(("not found better than chance", "bold yellow"), f": {how}; {why}")
    return styled("Better than chance: ", how)


def _print_times(seconds: Mapping[str, float], on_the_clock: float) -> None:
    table = Table(title="Where the time went", title_justify="left")
    table.add_column("stage")
    table.add_column("seconds of work", justify="right")
    for stage, took in seconds.items():
        table.add_row(styled(stage), f"{took:.1f}")
    table.add_row("all, on the clock", f"{on_the_clock:.1f}", style="bold")
    console.print(table)


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.1f} %"
