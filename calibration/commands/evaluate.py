"""`rtgod evaluate`: how well new runs are decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibration.commands.options import (
    Candidates,
    DecoderFile,
    DecoderName,
    Events,
    Images,
    Layers,
    Mask,
    Names,
    NetworkName,
    NoiseMask,
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
    decoder_from,
    inputs_from,
    needs_calibration,
    network_from,
    progress,
    say_events,
    say_missing,
)
from rtgod.console import styled
from rtgod.errors import InputError

if TYPE_CHECKING:
    from calibration.inputs import Inputs
    from calibration.network import Network
    from calibration.study import Study
    from rtgod.settings import PipelineSettings


class SplitBy(StrEnum):
    """What is tested on: other runs, each run in turn, or of every category the second half of its blocks."""

    RUNS = "runs"
    LEAVE_ONE_RUN_OUT = "leave-one-run-out"
    HALVES = "halves"


def evaluate(
    runs: Runs,
    subject: Subject,
    out: Annotated[Path, typer.Option(help="Folder for report and tables; files of the same names are replaced.")],
    training: Training = None,
    test: Annotated[
        str | None,
        typer.Option(help="Runs to test on: those whose file name contains this; default Test, for a BIDS data set."),
    ] = None,
    split: Annotated[
        SplitBy,
        typer.Option(
            help="What is tested on: other runs; each training run in turn; or the second half of each category's "
            "blocks in a run, with the first half trained on."
        ),
    ] = SplitBy.RUNS,
    events: Events = None,
    tr: Tr = None,
    region: Region = None,
    area: Annotated[
        list[str] | None,
        typer.Option(help="Region to compare, repeatable; default V1 … V4, LOC, FFA, PPA, LVC, HVC, as far as there."),
    ] = None,
    mask: Mask = None,
    noise_mask: NoiseMask = None,
    images: Images = None,
    candidates: Candidates = None,
    names: Names = None,
    hypernyms: Annotated[
        Path | None,
        typer.Option(
            help="Table of `parent child` lines (ImageNet's wordnet.is_a.txt): how near errors are in meaning."
        ),
    ] = None,
    network: NetworkName = None,
    weights: Weights = None,
    layer: Layers = None,
    units: Units = None,
    preprocessing: PreprocessingFile = None,
    decoder: DecoderName = None,
    decoder_settings: DecoderFile = None,
    settings: SettingsFile = None,
    ablate: Annotated[
        str | None, typer.Option(help="Take something apart step by step instead: preprocessing.")
    ] = None,
    n_workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Train on some runs, decode others, and write a report.

    How well features are predicted and categories identified: for single volumes, blocks and averages, by area and
    layer, over the time of imagery, against the number of candidates and of training runs. Without images, as for a
    localizer, the categories themselves are decoded. RUNS may be one of the published files Subject*.h5, with --images
    ImageFeatures.h5.

    With --ablate preprocessing: what each step of preprocessing is worth.
    """
    with needs_calibration():
        from calibration.bids import read_names
        from calibration.evaluate import evaluate as run_evaluation
        from calibration.evaluation_report import PAGE, print_evaluation, write_evaluation
        from calibration.gathering import gather_study
        from calibration.notes import notes_on_published, notes_on_runs
        from calibration.page import Table
        from calibration.semantics import Hypernyms
        from calibration.stimuli import pictures_of
        from calibration.study_inputs import find_study_inputs
        from calibration.timing import StageTimes
        from calibration.workers import workers
    from rtgod.settings import PipelineSettings

    if ablate not in (None, "preprocessing"):
        raise InputError(f"--ablate {ablate}: what can be taken apart is preprocessing")
    pipeline = PipelineSettings.from_toml(settings) if settings else PipelineSettings()
    trained_by = decoder_from(decoder, decoder_settings)
    chosen = (network, weights, layer, units, preprocessing)
    if ablate:
        inputs = inputs_from(runs, subject, training, region, mask, noise_mask, images, candidates, names, events, tr)
        with workers(n_workers, scheduler) as pool:
            _ablate(inputs, runs, test, pipeline, network_from(*chosen, (inputs.images, inputs.candidates)), out, pool)
        return
    links = Hypernyms.read(hypernyms) if hypernyms else None
    if is_published := runs[0].suffix == ".h5":
        study = _read_published(runs, images, region, area or (), read_names(names))
        notes, pictures = notes_on_published(runs[0], images), {}
    else:
        asked = find_study_inputs(
            runs, subject, training, test, split.value, region, area or (), mask, images, candidates, names, noise_mask,
            events or (), tr,
        )  # fmt: skip
        say_missing(asked.missing)
        reads = [files.read(pipeline.events) for files in (*asked.training, *asked.test)]
        say_events(reads)
        found = network_from(*chosen, (asked.images, asked.candidates)) if asked.images else None
        notes, pictures = notes_on_runs(asked, pipeline, found, reads), pictures_of(asked.candidates)
    with progress() as told, workers(n_workers, scheduler) as pool:
        times = StageTimes(told)
        if not is_published:
            study = gather_study(asked, pipeline, found, pool, times)
        evaluation = run_evaluation(study, pipeline, trained_by, links, pool, times)
    if study.notes:
        notes = [*notes, Table(("what", "which"), [("images", note) for note in study.notes], "Images and candidates")]
        for note in study.notes:
            console.print(styled(("note", "yellow"), f" {note}"), soft_wrap=True)
    write_evaluation(evaluation, out, f"Evaluation of subject {subject}", notes, times.seconds, pictures)
    print_evaluation(evaluation, console)
    console.print(styled("written to ", (out, "bold"), f": {PAGE} and its tables"), soft_wrap=True)


def _read_published(
    files: Sequence[Path], images: Path | None, region: str | None, areas: Sequence[str], names: Mapping[str, str]
) -> Study:
    from calibration.braindecoder import read_brain_samples, read_image_features
    from calibration.published import published_study

    if len(files) > 1 or images is None:
        raise InputError("of the published files, give one Subject*.h5, and ImageFeatures.h5 with --images")
    return published_study(read_brain_samples(files[0]), read_image_features(images), region, areas, names)


def _ablate(
    inputs: Inputs,
    runs: Sequence[Path],
    test: str | None,
    settings: PipelineSettings,
    network: Network,
    out: Path,
    pool: Executor,
) -> None:
    from calibration.ablation import ablate_preprocessing, write_ablation
    from calibration.inputs import find_any_runs

    new_runs = find_any_runs(runs, inputs.subject, test or "Test").runs
    if shared := {run.bold for run in inputs.runs} & {run.bold for run in new_runs}:
        raise InputError(f"--training and --test share {len(shared)} runs; test on runs that nothing was trained on")
    say_events([files.read(settings.events) for files in (*inputs.runs, *new_runs)])
    with progress() as told:
        steps = ablate_preprocessing(inputs, new_runs, settings, network, pool, told)
    write_ablation(steps, out, console)
    console.print(styled("written to ", (out, "bold"), ": ablation.tsv, ablation.png"), soft_wrap=True)
