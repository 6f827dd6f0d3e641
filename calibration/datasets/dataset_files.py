"""Everything that a calibration or an evaluation is made from, found where it usually lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from calibration.datasets.bids import HEAD, find_masks, find_region, is_data_set, label_of, search_runs
from calibration.datasets.mask_choice import MaskFor, mask_for
from calibration.datasets.masks import Region, single_mask
from calibration.datasets.run_patterns import RunPatterns
from calibration.datasets.runs import FoundRuns, RunFiles, find_plain_runs
from calibration.features.images import first_few
from rtgod.errors import InputError
from rtgod.settings import EventsSettings
from rtgod.sources.echoes import Echo
from rtgod.text import number_of

#: What is taken of a BIDS data set unless something else is asked for: to train on, to test on, and to decode from.
_TRAINING, _TEST, REGION = "Training", "Test", "VC"
#: The study's areas from low to high, and the larger ones that they make up.
REGIONS = ("V1", "V2", "V3", "V4", "LOC", "FFA", "PPA", "LVC", "HVC", "VC")
#: Values of `--training` or `--test`; None where the option is not given.
Patterns = str | Sequence[str] | None
Split = Literal["runs", "leave-one-run-out", "halves"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOptions:
    """Options that say where data lie and which are meant; what is left out is looked for in its usual place.

    Attributes
    ----------
    paths : sequence of Path
        The root of a BIDS data set, or what `calibration.datasets.runs.find_plain_runs` takes.
    subject : str
        Its label, with or without `sub-`; looked for in a data set.
    training, test : str, sequence of str, or None
        Patterns of runs (see `calibration.datasets.run_patterns`). None takes a data set's training or test runs, and
        without a data set all others.
    region : str or None
        A region of a data set, or an expression over regions; `head` is the whole head. None takes VC, or the head
        where there is no mask.
    areas : sequence of str
        Regions that are compared, or expressions over them; without any, those of the study that are there.
    mask : Path or None
        A mask image in place of a region's.
    noise_mask : Path or None
        Voxels without the signal of interest, which noise components are read from; None takes the noisiest.
    images, candidates : Path or None
        Folder with the shown images, and one with a folder of images for each candidate category; or stores of their
        features.
    pictures : Path or None
        Folder with the user's own pictures, or a store of their features.
    names : Path or None
        Table of category names.
    events : sequence of Path
        For runs that are given as files: the table of each, where it does not lie beside.
    tr_s : float or None
        Repetition time, seconds, of runs whose files give none.
    echo : int or Combine
        Echo that is read, from 1, of DICOM series that have several; or all, combined.
    plain : bool
        Whether the categories themselves are decoded, though there may be images.
    reading : EventsSettings or None
        Which rows of an events table are trials; see `rtgod.events.table.read_events`.
    """

    paths: Sequence[Path]
    subject: str
    training: Patterns = None
    test: Patterns = None
    region: str | None = None
    areas: Sequence[str] = ()
    mask: Path | None = None
    noise_mask: Path | None = None
    images: Path | None = None
    candidates: Path | None = None
    pictures: Path | None = None
    names: Path | None = None
    events: Sequence[Path] = ()
    tr_s: float | None = None
    echo: Echo = 0
    plain: bool = False
    reading: EventsSettings | None = None

    @property
    def root(self) -> Path | None:
        """The BIDS data set that is meant, if not runs without one."""
        return data_set_in(self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFiles:
    """Files that a calibration or an evaluation is made from.

    Attributes
    ----------
    subject : str
    training, test : tuple of RunFiles
        No test runs for a calibration, and where the training runs are split.
    split : {"runs", "leave-one-run-out", "halves"}
        See `calibration.samples.assemble.folds_of`.
    regions : mapping of str to Region
        Voxels in the space of the first run. The first region is decoded from, the others are compared with it; none
        takes the head's voxels, as the template shows it.
    images, candidates : Path or None
        Shown images, and images of candidate categories, or stores of their features; None where the categories
        themselves are decoded.
    pictures : Path or None
        The user's own pictures, or a store of their features.
    names : Path or None
        Table of category names.
    noise_mask : Path or None
        Voxels that noise components are read from; None takes the noisiest.
    missing : tuple of str
        Runs that were left out, each with its reason.
    """

    subject: str
    training: tuple[RunFiles, ...]
    test: tuple[RunFiles, ...] = ()
    split: Split = "leave-one-run-out"
    regions: Mapping[str, Region] = field(default_factory=dict)
    images: Path | None = None
    candidates: Path | None = None
    pictures: Path | None = None
    names: Path | None = None
    noise_mask: Path | None = None
    missing: tuple[str, ...] = ()

    @property
    def are_plain(self) -> bool:
        """Whether the categories themselves are decoded."""
        return self.images is None or self.candidates is None

    @property
    def region(self) -> Region | None:
        """Voxels to decode from; None for the head's."""
        return next(iter(self.regions.values()), None)


def find_training(options: DatasetOptions) -> DatasetFiles:
    """Find what is to be trained on; without images, the categories themselves are decoded.

    Parameters
    ----------
    options : DatasetOptions
        `test` and `areas` do not count.

    Raises
    ------
    InputError
        If something is neither given nor found, or voxels are given twice.
    """
    if options.plain and (options.images or options.candidates):
        raise InputError("--plain-categories decodes the categories themselves; leave out --images and --candidates")
    training = find_any_runs(options, options.training)
    files = DatasetFiles(
        subject=label_of(options.subject),
        training=training.runs,
        regions=_main_region(options, mask_for(training.runs)),
        missing=(*training.missing, *_not_chosen(training.not_meant, "--training")),
    )
    return _with_stimuli(options, files)


def _not_chosen(names: Sequence[str], options: str) -> tuple[str, ...]:
    """A line on runs that were given, and that nothing asks for."""
    n_runs = number_of(len(names), "run")
    return (
        (f"{n_runs} that {options} {'does' if options.count('-') == 2 else 'do'} not choose: {first_few(names)}",)
        if names
        else ()
    )


def find_study(options: DatasetOptions, split: Split | None = None) -> DatasetFiles:
    """Find what is to be trained on and tested on.

    Parameters
    ----------
    options : DatasetOptions
        Without a data set, either of `training` and `test` may be left out: then the other runs are meant.
    split : {"runs", "leave-one-run-out", "halves"}, optional
        By default "runs", or "leave-one-run-out" where runs without a data set leave none to test on.

    Raises
    ------
    InputError
        If something is neither given nor found, or runs would be trained and tested on.
    """
    trained, tested, split = _training_and_test(options, split)
    mask_run = mask_for(trained.runs)
    files = DatasetFiles(
        subject=label_of(options.subject),
        training=trained.runs,
        test=tested,
        split=split,
        regions=_compared(options, _main_region(options, mask_run), mask_run),
        missing=trained.missing,
    )
    return _with_stimuli(options, files)


def _training_and_test(options: DatasetOptions, split: Split | None) -> tuple[FoundRuns, tuple[RunFiles, ...], Split]:
    """Runs to train on, with what is missing of all; runs to test on; and the split, the usual one if none is asked."""
    root, training, test = options.root, options.training, options.test
    if split not in (None, "runs") and test:
        raise InputError(f"--split {split} tests on the training runs themselves; leave out --test")
    trained = find_any_runs(options, training)
    if split is None:
        have_others = root is not None or bool(test) or (bool(training) and bool(trained.not_meant))
        split = "runs" if have_others else "leave-one-run-out"
    if split != "runs":
        return replace(trained, missing=(*trained.missing, *_not_chosen(trained.not_meant, "--training"))), (), split
    if root is None and not training and not test:
        raise InputError(
            "runs outside of a BIDS data set: say which to train on and which to test on, by --training and --test "
            "(parts of their names), or split them by --split leave-one-run-out or --split halves"
        )
    tested = find_any_runs(options, test, "--test", _TEST)
    if root is None and not training:
        trained = _others(trained, tested)
    elif root is None and not test:
        tested = _others(tested, trained)
    if shared := {run.bold for run in trained.runs} & {run.bold for run in tested.runs}:
        named = first_few([run.name for run in tested.runs if run.bold in shared], 2)
        raise InputError(
            f"--training and --test share {number_of(len(shared), 'run')} ({named}); test on runs that nothing was "
            "trained on"
        )
    not_chosen = [name for name in trained.not_meant if name in tested.not_meant]
    missing = (*trained.missing, *tested.missing, *_not_chosen(not_chosen, "--training and --test"))
    return FoundRuns(trained.runs, tuple(dict.fromkeys(missing))), tested.runs, split


def _with_stimuli(options: DatasetOptions, files: DatasetFiles) -> DatasetFiles:
    """Add images, candidates and names, with a data set's usual places for what was not given."""
    root, images, candidates = options.root, options.images, options.candidates
    names = options.names
    if root is None:
        if (images is None) != (candidates is None):
            raise InputError(
                "runs outside of a BIDS data set: give --images and --candidates, or neither: then the categories "
                "themselves are decoded"
            )
    else:
        stimuli = root / "stimuli"
        if not options.plain and (stimuli.is_dir() or images or candidates):
            images, candidates = images or stimuli, candidates or stimuli / "candidates"
        usual = stimuli / "categories.tsv"
        names = names or (usual if usual.is_file() else None)
    return replace(
        files,
        images=images,
        candidates=candidates,
        pictures=options.pictures,
        names=names,
        noise_mask=options.noise_mask,
    )


def find_any_runs(
    options: DatasetOptions, patterns: Patterns, option: str = "--training", default: str = _TRAINING
) -> FoundRuns:
    """Find runs of a BIDS data set, or files and folders of runs without one.

    Parameters
    ----------
    options : DatasetOptions
    patterns : str, sequence of str, or None
        Only runs that they mean. None takes `default` of a data set, and all others.
    option : str
        The option that the patterns come from, for messages.
    default : str
        Pattern that chooses from a data set where none is given.

    Raises
    ------
    InputError
        If no run is found, or `events`, `tr_s` or `echo` is given although the data set states it.
    """
    root, tr_s = options.root, options.tr_s
    if root is None:
        found = find_plain_runs(options.paths, options.events, RunPatterns.parse(patterns), tr_s, option)
        return replace(found, runs=tuple(replace(run, echo=options.echo) for run in found.runs))
    if options.echo:
        raise InputError(
            f"{root}: a BIDS data set has each echo in files of its own; leave out --echo, and choose one with "
            f"{option} echo-2"
        )
    given = [patterns] if isinstance(patterns, str) else list(patterns or ())
    asked_for_all = bool(given) and not any(given)
    chosen = RunPatterns.parse(given, "" if asked_for_all else default)
    selection = search_runs(root, options.subject, chosen, tr_s, option)
    if options.events or (tr_s is not None and all(_says_its_tr(files, options.reading) for files in selection.runs)):
        raise InputError(f"{root}: a BIDS data set says which events and TR are whose; leave out --events and --tr")
    return selection


def _says_its_tr(files: RunFiles, reading: EventsSettings | None) -> bool:
    """Return whether a run can be opened without being told its repetition time."""
    try:
        replace(files, tr_s=None).open(reading)
    except InputError:
        return False
    return True


def data_set_in(paths: Sequence[Path]) -> Path | None:
    """Return the root of a BIDS data set if the paths are just that, else None.

    Parameters
    ----------
    paths : sequence of Path
    """
    return paths[0] if len(paths) == 1 and is_data_set(paths[0]) else None


def region_of(root: Path, subject: str, region: str | None, of: MaskFor) -> Region | None:
    """Return the region of a data set to decode from; None is the whole head.

    Parameters
    ----------
    root : Path
        Root of the BIDS data set.
    subject : str
        Label, with or without `sub-`.
    region : str or None
        Region, or expression over regions; "head" is the whole head. None takes VC, or the head if there is no mask.
    of : MaskFor
        Run that chooses among several masks of one region.

    Raises
    ------
    InputError
        If the data set has masks, but none of that region, or it is unclear which masks are meant.
    """
    masks = find_masks(root, subject)
    if (region is None and not masks) or (region == HEAD and HEAD not in masks):
        return None
    return find_region(root, subject, region or REGION, of)


def _others(side: FoundRuns, other_side: FoundRuns) -> FoundRuns:
    """The runs that are not among those of the other side.

    Raises
    ------
    InputError
        If none are left.
    """
    taken = {run.bold for run in other_side.runs}
    if not (left := tuple(run for run in side.runs if run.bold not in taken)):
        raise InputError("--training and --test: no run is left for the other of the two; give more runs")
    return FoundRuns(left, side.missing, side.not_meant)


def _main_region(options: DatasetOptions, mask_run: MaskFor) -> dict[str, Region]:
    """The region to decode from, by its name; none for the whole head."""
    root, region, mask = options.root, options.region, options.mask
    if mask is not None:
        if region is not None and (root is not None or region != HEAD):
            raise InputError(f"--mask says which voxels are decoded from; leave out --region {region}")
        return {"mask": single_mask(mask)}
    if root is None:
        if region is not None and region != HEAD:
            raise InputError(f"--region {region}: regions are those of a BIDS data set; give a mask image with --mask")
        return {}
    main = region_of(root, options.subject, region, mask_run)
    return {} if main is None else {region or REGION: main}


def _compared(options: DatasetOptions, main: Mapping[str, Region], mask_run: MaskFor) -> dict[str, Region]:
    """The region to decode from, then the regions that are compared with it."""
    root, areas = options.root, options.areas
    if root is None or options.mask is not None or not main:
        if areas:
            raise InputError("--area compares regions of a BIDS data set, where --region names one; leave it out")
        return dict(main)
    masks = find_masks(root, options.subject)
    chosen = dict.fromkeys(areas or [name for name in REGIONS if name in masks])
    return dict(main) | {
        name: find_region(root, options.subject, name, mask_run) for name in chosen if name not in main
    }
