"""The lab's published files: samples of `Subject*.h5` and features of `ImageFeatures.h5`.

Both are tables of BrainDecoderToolbox2 and bdpy (see `bdpy_table`). See KamitaniLab/GenericObjectDecoding.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from calibration.datasets.bdpy_labels import category_name, read_labels, stimulus_name
from calibration.datasets.bdpy_table import Table, opened
from calibration.datasets.regions import IndexArray, select_region
from calibration.datasets.run_patterns import RunPatterns, as_options
from calibration.features.images import first_few
from calibration.features.stimuli import Stimuli
from rtgod.errors import InputError
from rtgod.messages import Float32Array, Float64Array

#: Meaning of the numbers of `DataType`.
_KINDS = {1: "training", 2: "seen", 3: "imagined"}
#: Words in the names of files that hold one task, as Subject1_ImageNetTraining.h5, and the kind of their rows.
_CALLED = {"imag(ery|in)": "imagined", "train": "training", "test|seen|perception": "seen"}
#: Numbers of `FeatureType`: images of training and test, means of the test categories, means of other categories.
_IMAGES, _TEST_CATEGORIES, _OTHER_CATEGORIES = (1, 2), 3, 4
#: Keys of the voxels' coordinates, in mm or counted.
_COORDINATES = (("voxel_x", "voxel_y", "voxel_z"), ("voxel_i", "voxel_j", "voxel_k"))
_ABOUT_FEATURES = ("FeatureType", "ImageID", "CatID")


@dataclass(frozen=True, slots=True, eq=False)
class BrainSamples:
    """Samples of one subject, each the mean over a block, as the lab published them.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_voxels), float32
    kinds : tuple of {"training", "seen", "imagined"}
    runs : tuple of str
        The run of each sample; no two runs of the file share a name.
    categories : tuple of str
        WordNet ids such as "n03626115".
    stimuli : tuple of str or None
        Images such as "n03626115_19498"; None where the file names the category only.
    regions : mapping of str to ndarray of shape (n_voxels_of_region,), int64
        Columns of `X`, sorted; names are without `ROI_`.
    files : tuple of Path
        The files that the samples were read from, for messages.
    places : ndarray of shape (n_voxels, 3), float64, or None
        Coordinates of the voxels; None if the file has none.
    notes : tuple of str
        Choices of columns, rows and regions that people should know of.
    """

    X: Float32Array
    kinds: tuple[str, ...]
    runs: tuple[str, ...]
    categories: tuple[str, ...]
    stimuli: tuple[str | None, ...]
    regions: Mapping[str, IndexArray]
    files: tuple[Path, ...] = ()
    places: Float64Array | None = None
    notes: tuple[str, ...] = ()

    def check_finite(self, columns: IndexArray) -> None:
        """Raise `InputError` that names the voxels among `columns` that lack a value, and how to mend the file.

        Parameters
        ----------
        columns : ndarray of shape (n_columns,), int64
            Columns of `X`, counted from 0.
        """
        bad = ~np.isfinite(self.X[:, columns])
        if not bad.any():
            return
        voxels = [
            f"{columns[place]} (all {len(self.X)} samples)"
            if is_bad.all()
            else f"{columns[place]} ({is_bad.sum()} samples)"
            for place, is_bad in enumerate(bad.T)
            if is_bad.any()
        ]
        files = ", ".join(map(str, self.files))
        raise InputError(
            f"{files}: {bad.sum()} values of {len(voxels)} voxels are not finite (NaN): columns of VoxelData "
            f"{first_few(voxels, 6)}, counted from 0; write the file again without these voxels, or set their ROI_ "
            "flags to 0"
        )

    def columns(self, expression: str) -> IndexArray:
        """Return the columns of a region.

        Parameters
        ----------
        expression : str
            Such as "V1" or "ROI_VC - ROI_V1"; see `calibration.datasets.regions.select_region`.

        Raises
        ------
        InputError
            If the text is no expression, names a region that is absent, or leaves no voxel.
        """
        columns = select_region(expression, self.regions)
        if not len(columns):
            raise InputError(f"region {expression!r}: no voxel in it; choose another with --region")
        return columns


@dataclass(frozen=True, slots=True, eq=False)
class ImageFeatures(Stimuli):
    """Network features as the lab published them: the test categories are the first candidates.

    Attributes
    ----------
    n_test : int
        Number of candidates that are test categories.
    """

    n_test: int = field(kw_only=True)


def read_brain_samples(path: Path, kind: str | None = None) -> BrainSamples:
    """Read the samples of a `Subject*.h5` file; rows without a label, such as rest, are left out and counted.

    Parameters
    ----------
    path : Path
        A file of a whole subject, which gives the kind of each row (DataType), or a file of one task.
    kind : {"training", "seen", "imagined"} or None
        Kind of the rows of a file without DataType; by default the file's name tells it.

    Raises
    ------
    InputError
        If the file cannot be read, lacks samples, labels, runs or voxels, or has samples of another kind.
    """
    with opened(path) as table:
        keys = [key for key in table.keys if key.startswith("ROI_")]
        voxels = table.marked("VoxelData") if "VoxelData" in table.keys else _union([table.marked(k) for k in keys])
        if not len(voxels):
            raise InputError(f"{path}: no voxels in it (VoxelData, ROI_…); give the Subject*.h5 of the published study")
        types = _types_of(table, kind)
        runs = table.column("Run")
        sessions = table.column("Session") if "Session" in table.keys else np.zeros(len(runs))
        labels = read_labels(table)
        usable = np.isin(types, list(_KINDS)) & np.array([category != "" for category in labels.categories])
        if not usable.any():
            raise InputError(f"{path}: no row has a DataType of 1 (training), 2 (seen) or 3 (imagined) and a label")
        rows = np.flatnonzero(usable)
        kinds = [_KINDS[int(types[row])] for row in rows]
        run_parts = zip(kinds, sessions[rows], runs[rows], strict=True)
        n_left_out = len(usable) - len(rows)
        left_out = f"{path.name}: {n_left_out} of {len(usable)} rows have no label, or none of the three DataTypes"
        return BrainSamples(
            X=table.read(voxels, usable),
            kinds=tuple(kinds),
            runs=tuple(f"{kind}-{_whole(session)}-{_whole(run)}" for kind, session, run in run_parts),
            categories=tuple(labels.categories[row] for row in rows),
            stimuli=tuple(labels.stimuli[row] for row in rows),
            regions={key.removeprefix("ROI_"): np.flatnonzero(np.isin(voxels, table.marked(key))) for key in keys},
            files=(path,),
            places=_places_of(table, voxels),
            notes=(*labels.notes, *([f"{left_out}, and are left out"] if n_left_out else ())),
        )


def joined_samples(paths: Sequence[Path], kinds: Mapping[Path, str] | None = None) -> BrainSamples:
    """Read the samples of one subject from the file of each task, or from one file with all tasks.

    Voxels are matched by their coordinates: those of the first file, in its order. Regions that a file lacks are left
    out. Without coordinates, files must have equal numbers of voxels, which are taken to be in one order.

    Parameters
    ----------
    paths : sequence of Path
    kinds : mapping of Path to {"training", "seen", "imagined"}, optional
        Kinds of the files without DataType whose names do not tell it.

    Raises
    ------
    InputError
        If a file cannot be read or is given twice, or files differ in their voxels or in a region's voxels.
    """
    if twice := [path for path, n in Counter(path.resolve() for path in paths).items() if n > 1]:
        raise InputError(f"{first_few([str(path) for path in twice])}: given twice; give each file once")
    first, *others = [read_brain_samples(path, (kinds or {}).get(path)) for path in paths]
    if not others:
        return first
    parts = [first, *(_in_order_of(first, samples) for samples in others)]
    everywhere = [name for name in first.regions if all(name in samples.regions for samples in parts)]
    for samples in parts[1:]:
        _check_regions(first, samples, everywhere)
    notes = [*(note for samples in parts for note in samples.notes), *_regions_left_out(parts)]
    parts = _with_runs_apart(parts)
    parts.sort(key=lambda samples: list(_KINDS.values()).index(samples.kinds[0]))
    return BrainSamples(
        X=np.concatenate([samples.X for samples in parts]),
        kinds=tuple(kind for samples in parts for kind in samples.kinds),
        runs=tuple(run for samples in parts for run in samples.runs),
        categories=tuple(category for samples in parts for category in samples.categories),
        stimuli=tuple(stimulus for samples in parts for stimulus in samples.stimuli),
        regions={name: first.regions[name] for name in everywhere},
        files=tuple(path for samples in parts for path in samples.files),
        places=first.places,
        notes=tuple(notes),
    )


def _in_order_of(first: BrainSamples, samples: BrainSamples) -> BrainSamples:
    """Return samples with their voxels in the order of another file, matched by coordinates."""
    (one,), (other,) = first.files, samples.files
    n, n_expected = samples.X.shape[1], first.X.shape[1]
    if first.places is None or samples.places is None:
        if n != n_expected:
            raise InputError(f"{other}: {n} voxels, and {one} has {n_expected}; give the files of one subject")
        note = f"{other.name}: its voxels are taken to be in the order of {one.name}, as there are no coordinates"
        return replace(samples, notes=(*samples.notes, note))
    expected, places = _keys_of(first.places), _keys_of(samples.places)
    if expected == places:
        return samples
    position = {place: column for column, place in enumerate(places)}
    if lacking := [place for place in expected if place not in position]:
        raise InputError(
            f"{other}: lacks {len(lacking)} of the {n_expected} voxels of {one}, such as that at {lacking[0]}; give "
            "files of one subject and of the same voxels"
        )
    if len(position) < n or len(set(expected)) < n_expected:
        raise InputError(f"{other}: voxels of equal coordinates, in another order than in {one}; write both in one")
    order = np.array([position[place] for place in expected])
    column = {int(theirs): ours for ours, theirs in enumerate(order)}
    left_out = f"; {n - n_expected} that {one.name} lacks are left out" if n > n_expected else ""
    return replace(
        samples,
        X=np.ascontiguousarray(samples.X[:, order]),
        regions={
            name: np.sort(np.array([column[int(v)] for v in region if int(v) in column], np.int64))
            for name, region in samples.regions.items()
        },
        places=first.places,
        notes=(*samples.notes, f"{other.name}: voxels are put in the order of {one.name} by coordinates{left_out}"),
    )


def _check_regions(first: BrainSamples, samples: BrainSamples, names: Sequence[str]) -> None:
    differ = [name for name in names if not np.array_equal(samples.regions[name], first.regions[name])]
    if not names or differ:
        what = f"other voxels in {first_few(differ)}" if differ else "no region of a name that is there too"
        raise InputError(f"{samples.files[0]}: {what} than {first.files[0]}; give the files of one subject")


def _regions_left_out(parts: Sequence[BrainSamples]) -> Iterator[str]:
    for name in dict.fromkeys(name for samples in parts for name in samples.regions):
        if lacking := [samples.files[0].name for samples in parts if name not in samples.regions]:
            yield f"region {name} is left out: none of this name in {first_few(lacking)}"


def _with_runs_apart(parts: Sequence[BrainSamples]) -> list[BrainSamples]:
    """Return files' samples with runs of one name, of several files, told apart by the file's number."""
    n_files = Counter(run for samples in parts for run in set(samples.runs))
    return [
        replace(samples, runs=tuple(f"{run}-file-{i}" if n_files[run] > 1 else run for run in samples.runs))
        for i, samples in enumerate(parts, 1)
    ]


def _keys_of(places: Float64Array) -> list[tuple[float, ...]]:
    """Return coordinates that can be compared: rounded to a hundredth, and 0 without sign."""
    return [tuple(place) for place in (places.round(2) + 0.0).tolist()]


def _places_of(table: Table, voxels: IndexArray) -> Float64Array | None:
    for keys in _COORDINATES:
        if all(key in table.keys for key in keys):
            places = np.stack([table.described(key, voxels) for key in keys], axis=1)
            return places if np.isfinite(places).all() else None
    return None


def _types_of(table: Table, kind: str | None) -> Float64Array:
    """Return the DataType of each row; where a file has none, that of its kind or name."""
    if "DataType" not in table.keys:
        return np.full(table.n_rows, float(_type_of(table, kind)))
    types = table.column("DataType")
    there = [name for number, name in _KINDS.items() if number in types]
    if kind is not None and there != [kind]:
        raise InputError(
            f"{table.path}: --training or --test takes it for {kind}, and its DataType says "
            f"{', '.join(there) or 'nothing of the kind'}; leave the option out"
        )
    return types


def kinds_by_options(
    paths: Sequence[Path], training: Sequence[str] | None, test: Sequence[str] | None
) -> dict[Path, str]:
    """Return the kinds of the files that `--training` and `--test` name: tests are seen, unless the file says imagery.

    Parameters
    ----------
    paths : sequence of Path
    training, test : sequence of str or None
        Patterns over the files' names; see `RunPatterns`.

    Raises
    ------
    InputError
        If a pattern is found in no name, or a file is named by both.
    """
    kinds: dict[Path, str] = {}
    for option, given in (("--training", training), ("--test", test)):
        patterns = RunPatterns.parse(given)
        names = [path.name for path in paths]
        if absent := patterns.unmatched(names):
            raise InputError(f"{as_options(option, absent)}: in no name of {', '.join(names)}")
        for path in paths:
            if patterns.given and patterns.match(path.name):
                if path in kinds:
                    raise InputError(f"{path}: both --training and --test name it; a file is one of them")
                is_imagery = _called(path) == "imagined"
                kinds[path] = "training" if option == "--training" else "imagined" if is_imagery else "seen"
    return kinds


def _called(path: Path) -> str | None:
    return next((kind for words, kind in _CALLED.items() if re.search(words, path.stem, re.IGNORECASE)), None)


def _type_of(table: Table, kind: str | None) -> int:
    """Return the DataType of all rows of a file that has no such column."""
    path = table.path
    if kind is None:
        kind = _called(path)
    for number, name in _KINDS.items():
        if name == kind:
            return number
    raise InputError(
        f"{path}: this file holds one task only (no DataType: 0 columns for DataType, and one is needed; there: "
        f"{table.some_keys()}), and its name does not say which; give the file of the whole subject, or the files of "
        "all its tasks: with training, test and imagery in their names, or by --training and --test"
    )


def read_image_features(path: Path, layers: Sequence[str] | None = None) -> ImageFeatures:
    """Read the features of an `ImageFeatures.h5` file.

    Parameters
    ----------
    path : Path
    layers : sequence of str or None
        The wanted layers, such as cnn1 … cnn8; None takes all in the file (hmax1 … 3, gist and sift, too).

    Raises
    ------
    InputError
        If the file cannot be read, lacks one of the layers, or has no image or no category.
    """
    with opened(path) as table:
        all_layers = [key for key in table.keys if key not in _ABOUT_FEATURES and len(table.marked(key))]
        if absent := [layer for layer in layers or () if layer not in all_layers]:
            raise InputError(f"{path}: no layer {', '.join(absent)}; there: {', '.join(all_layers) or 'none'}")
        types, images, categories = (table.column(key) for key in _ABOUT_FEATURES)
        is_image, is_test, is_other = (np.isin(types, t) for t in (_IMAGES, _TEST_CATEGORIES, _OTHER_CATEGORIES))
        if not is_image.any() or not (is_test | is_other).any():
            raise InputError(
                f"{path}: no features of images (FeatureType 1 and 2) or of categories (3 and 4); give the "
                "ImageFeatures.h5 of the published study"
            )
        shown, means = {}, {}
        for layer in layers or all_layers:
            values = table.read(table.marked(layer))
            shown[layer] = values[is_image]
            means[layer] = np.concatenate([values[is_test], values[is_other]])
        ids = [category_name(number) for number in np.concatenate([categories[is_test], categories[is_other]])]
        # A category that was a candidate twice could not beat itself. Test categories come first, and stay.
        once = np.sort(np.unique(ids, return_index=True)[1])
        repeated = (
            f"{path.name}: {len(ids) - len(once)} categories are there twice or more; the first features are taken"
        )
        return ImageFeatures(
            rows={stimulus_name(number): row for row, number in enumerate(images[is_image])},
            shown=shown,
            candidate_ids=tuple(ids[row] for row in once),
            candidates={layer: values[once] for layer, values in means.items()},
            n_test=int((once < is_test.sum()).sum()),
            notes=(repeated,) if len(once) < len(ids) else (),
        )


def _union(columns: Sequence[IndexArray]) -> IndexArray:
    return np.unique(np.concatenate(columns)) if columns else np.empty(0, np.int64)


def _whole(number: float) -> str:
    return f"{number:02.0f}"
