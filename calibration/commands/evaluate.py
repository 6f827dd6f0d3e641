"""`rtgod evaluate`: train on some runs, decode others, and report the accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    PreprocessingFile,
    Region,
    Runs,
    Scheduler,
    SettingsFile,
    Subject,
    Test,
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
    settings_from,
)
from rtgod.commands.options import DryRun, Echo, Overwrite, ShowSettings, check_new, needed_out, say_output
from rtgod.console import styled
from rtgod.errors import InputError
from rtgod.text import number_of

if TYPE_CHECKING:
    from calibration.datasets.dataset_files import DatasetFiles
    from calibration.features.network import Network
    from calibration.samples.study import Study
    from rtgod.settings import PipelineSettings


class SplitBy(StrEnum):
    """Split into training and test: other runs, each run in turn, or the second half of each category's blocks."""

    RUNS = "runs"
    LEAVE_ONE_RUN_OUT = "leave-one-run-out"
    HALVES = "halves"


def evaluate(
    runs: Runs,
    subject: Subject,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report and tables; must hold no other's, or see --overwrite. Not for --dry-run."),
    ] = None,
    training: Training = None,
    test: Test = None,
    split: Annotated[
        SplitBy | None,
        typer.Option(
            help="What is tested on: other runs; each training run in turn; or the second half of each category's "
            "blocks in a run, with the first half trained on. Default runs; for runs without BIDS of which none is "
            "chosen to test on, the second, or the third if there is one run."
        ),
    ] = None,
    events: Events = None,
    tr: Tr = None,
    echo: Echo = "",
    region: Region = None,
    area: Annotated[
        list[str] | None,
        typer.Option(help="Region to compare, repeatable; default V1 … V4, LOC, FFA, PPA, LVC, HVC, as far as there."),
    ] = None,
    mask: Mask = None,
    noise_mask: NoiseMask = None,
    images: Images = None,
    candidates: CandidatesOption = None,
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
    show_settings: ShowSettings = False,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    ablate: Annotated[
        str | None,
        typer.Option(
            help="Take something apart step by step instead: preprocessing. Needs images, and runs to test on."
        ),
    ] = None,
    n_workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Train on some runs, decode others, and write a report.

    How well features are predicted and categories identified: for single volumes, blocks and averages, by area and
    layer, over the time of imagery, against the number of candidates and of training runs. Without images, as for a
    localizer, the categories themselves are decoded. RUNS may be the published file Subject*.h5, or the files of its
    tasks (training, test and imagery, by their names or by --training and --test), with --images ImageFeatures.h5.

    With --ablate preprocessing: what each step of preprocessing is worth.
    """
    with needs_calibration():
        from calibration.datasets.bids import read_names, remarks_on_names
        from calibration.datasets.dataset_files import DatasetOptions, find_study
        from calibration.datasets.foreign_runs import without_foreign
        from calibration.evaluation.evaluate import evaluate as run_evaluation
        from calibration.evaluation.semantic_distance import Hypernyms
        from calibration.features.stimuli import pictures_of
        from calibration.parallel.stage_times import StageTimes
        from calibration.parallel.workers import workers
        from calibration.reports.ablation_report import FILES as ABLATION
        from calibration.reports.evaluation_report import PAGE, print_evaluation, write_evaluation
        from calibration.reports.evaluation_tables import TABLES
        from calibration.reports.html_page import PageTable
        from calibration.reports.provenance import notes_on_published, notes_on_runs
        from calibration.reports.reliability import PICTURE
        from calibration.samples.assemble import gather_study
        from calibration.training.dry_run import plan_calibration, plan_study
        from calibration.training.plan_tables import print_events, print_notes, print_plan
    from rtgod.events.trials import remarks_on
    from rtgod.sources.echoes import echo_of

    if ablate not in (None, "preprocessing"):
        raise InputError(f"--ablate {ablate}: what can be taken apart is preprocessing")
    network_options = NetworkOptions(network, weights, layer, units, preprocessing)
    pipeline, trained_by = settings_from(
        settings, decoder, decoder_settings, lambda: network_shown(runs, images, candidates, network_options), out,
        show=show_settings, dry_run=dry_run,
    )  # fmt: skip
    files = ABLATION if ablate else (PAGE, PICTURE, *TABLES)
    if out is not None and not dry_run:
        check_new(out, files, overwrite=overwrite)
    dataset_options = DatasetOptions(
        paths=runs, subject=subject, training=training, test=test, region=region, areas=area or (), mask=mask,
        noise_mask=noise_mask, images=images, candidates=candidates, names=names, events=events or (), tr_s=tr,
        echo=echo_of(echo), reading=pipeline.events,
    )  # fmt: skip
    if ablate:
        if split not in (None, SplitBy.RUNS):
            raise InputError(f"--ablate tests on other runs; leave out --split {split}")
        inputs = find_study(dataset_options, SplitBy.RUNS.value)
        if inputs.images is None:
            raise InputError("preprocessing is taken apart by decoding images; give --images and --candidates")
        say_found(inputs, plain=False)
        plan, study_plan = plan_calibration(inputs, pipeline), plan_study(inputs, pipeline)
        if dry_run:
            print_plan(study_plan, console)
        plan.check()
        study_plan.check()
        if dry_run:
            say_output(out, ", ".join(ABLATION), files, overwrite=overwrite, console=console)
            return
        print_events(study_plan.reads, console)
        print_notes(study_plan.notes, console)
        with workers(n_workers, scheduler) as pool:
            seen_by = network_from(*network_options, sources=(inputs.images, inputs.candidates))
            _ablate(inputs, pipeline, seen_by, needed_out(out), pool)
        return
    links = Hypernyms.read(hypernyms) if hypernyms else None
    if is_published := runs[0].suffix == ".h5":
        study = _read_published(runs, training, test, images, region, area or (), read_names(names))
        notes, pictures, remarks = notes_on_published(runs, images, pipeline), {}, []
        print_notes(remarks_on_names(names), console)
        if dry_run:
            _say_published(study)
            print_notes(study.notes, console)
            say_output(out, f"{PAGE} and its tables", files, overwrite=overwrite, console=console)
            return
    else:
        inputs = without_foreign(find_study(dataset_options, None if split is None else split.value), pipeline.events)
        say_found(inputs, plain=False)
        if split is None and inputs.split != "runs":
            inputs = _split_as_usual(inputs)
        study_plan = plan_study(inputs, pipeline)
        if dry_run:
            print_plan(study_plan, console)
        study_plan.check()
        if dry_run:
            say_output(out, f"{PAGE} and its tables", files, overwrite=overwrite, console=console)
            return
        print_events(study_plan.reads, console)
        print_notes(study_plan.notes, console)
        chosen = network_from(*network_options, sources=(inputs.images, inputs.candidates)) if inputs.images else None
        notes, pictures = notes_on_runs(inputs, pipeline, chosen), pictures_of(inputs.candidates)
        remarks = [*(f"left out {missing}" for missing in inputs.missing), *remarks_on(study_plan.reads)]
    with progress() as report, workers(n_workers, scheduler) as pool:
        times = StageTimes(report)
        if not is_published:
            study = gather_study(inputs, pipeline, chosen, pool, times)
        evaluation = run_evaluation(study, pipeline, trained_by, links, pool, times)
    if study.notes:
        about, title = ("files", "Published files") if is_published else ("images", "Images and candidates")
        notes = [
            *notes,
            PageTable(("what", "which"), [(about, note) for note in study.notes], title),
        ]
        print_notes(study.notes, console)
    out = needed_out(out)
    for name in files:  # other files in the folder belong to somebody: a run's events, say
        (out / name).unlink(missing_ok=True)
    write_evaluation(evaluation, out, f"Evaluation of subject {subject}", notes, times.seconds, pictures, remarks)
    print_evaluation(evaluation, console)
    console.print(styled("written to ", (out, "bold"), f": {PAGE} and its tables"), soft_wrap=True)


def _read_published(
    files: Sequence[Path],
    training: Sequence[str] | None,
    test: Sequence[str] | None,
    images: Path | None,
    region: str | None,
    areas: Sequence[str],
    names: Mapping[str, str],
) -> Study:
    from calibration.datasets.bdpy_files import joined_samples, kinds_by_options, read_image_features
    from calibration.samples.published import published_study

    if images is None or any(file.suffix != ".h5" for file in files):
        raise InputError(
            "of the published files, give one Subject*.h5, or that of each task, and ImageFeatures.h5 with --images"
        )
    kinds = kinds_by_options(files, training, test)
    return published_study(joined_samples(files, kinds), read_image_features(images), region, areas, names)


def _say_published(study: Study) -> None:
    fold = study.folds[0]
    tests = ", ".join(f"{len(test.runs)} {kind}" for kind, test in fold.tests.items())
    regions = ", ".join(f"{name} ({len(columns)})" for name, columns in study.regions.items())
    console.print(styled(f"{len(fold.training.runs)} samples to train on; to test on: {tests}"), soft_wrap=True)
    console.print(styled(f"voxels: {regions}; {number_of(len(study.candidates.ids), 'candidate')}"), soft_wrap=True)


def _split_as_usual(files: DatasetFiles) -> DatasetFiles:
    """Leave each run out in turn, or of one run test on the second halves; said, as nobody asked for it."""
    n_runs = len(files.training)
    split, why = SplitBy.LEAVE_ONE_RUN_OUT, f"{n_runs} runs, and none is chosen with --test"
    if n_runs == 1:
        split, why = SplitBy.HALVES, "one run"
    console.print(styled(("split", "yellow"), f" by {split.value}: {why}"), soft_wrap=True)
    return replace(files, split=split.value)


def _ablate(
    inputs: DatasetFiles,
    settings: PipelineSettings,
    network: Network,
    out: Path,
    pool: Executor,
) -> None:
    from calibration.evaluation.ablation import ablate_preprocessing
    from calibration.reports.ablation_report import FILES, write_ablation

    with progress() as report:
        steps = ablate_preprocessing(inputs, settings, network, pool, report)
    write_ablation(steps, out, console)
    console.print(styled("written to ", (out, "bold"), f": {', '.join(FILES)}"), soft_wrap=True)
