"""The lab's published files: samples of `Subject*.h5` and features of `ImageFeatures.h5`.

Both are tables in HDF5 whose columns are described by metadata (BrainDecoderToolbox2, bdpy): each key has a row that
is 1 at the columns which the key names. Files that MATLAB wrote use other names, and their axes are swapped.
See KamitaniLab/GenericObjectDecoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from calibration.datasets.regions import IndexArray, select_region
from calibration.features.images import first_few
from calibration.features.stimuli import Stimuli
from rtgod.errors import InputError, what_went_wrong
from rtgod.events.table import category_of
from rtgod.messages import Array, BoolArray, Float32Array, Float64Array

#: Meaning of the numbers of `DataType`.
_KINDS = {1: "training", 2: "seen", 3: "imagined"}
#: Words in the names of files that hold one task, as Subject1_ImageNetTraining.h5, and the kind of their rows.
_CALLED = {"imag(ery|in)": "imagined", "train": "training", "test|seen|perception": "seen"}
#: Numbers of `FeatureType`: images of training and test, means of the test categories, means of other categories.
_IMAGES, _TEST_CATEGORIES, _OTHER_CATEGORIES = (1, 2), 3, 4
#: Columns that say which image or category was shown, as names or as numbers.
_LABELS = ("stimulus_name", "stimulus_id", "Label")
_ABOUT_FEATURES = ("FeatureType", "ImageID", "CatID")
_BLOCK_BYTES = 1 << 25


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
    """

    X: Float32Array
    kinds: tuple[str, ...]
    runs: tuple[str, ...]
    categories: tuple[str, ...]
    stimuli: tuple[str | None, ...]
    regions: Mapping[str, IndexArray]
    files: tuple[Path, ...] = ()

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
    """Read the samples of a `Subject*.h5` file; rows without a label, such as rest, are left out.

    Parameters
    ----------
    path : Path
        A file of a whole subject, which gives the kind of each row (DataType), or a file of one task.
    kind : {"training", "seen", "imagined"} or None
        Kind of the rows of a file without DataType; by default the file's name tells it.

    Raises
    ------
    InputError
        If the file cannot be read, or lacks samples, labels, runs or voxels.
    """
    with _opened(path) as table:
        keys = [key for key in table.keys if key.startswith("ROI_")]
        voxels = table.marked("VoxelData") if "VoxelData" in table.keys else _union([table.marked(k) for k in keys])
        if not len(voxels):
            raise InputError(f"{path}: no voxels in it (VoxelData, ROI_…); give the Subject*.h5 of the published study")
        if "DataType" in table.keys:
            types = table.column("DataType")
        else:
            types = np.full(table.n_rows, float(_type_of(table, kind)))
        runs = table.column("Run")
        sessions = table.column("Session") if "Session" in table.keys else np.zeros(len(runs))
        stimuli, categories = _labels(table)
        usable = np.isin(types, list(_KINDS)) & np.array([category != "" for category in categories])
        if not usable.any():
            raise InputError(f"{path}: no row has a DataType of 1 (training), 2 (seen) or 3 (imagined) and a label")
        rows = np.flatnonzero(usable)
        kinds = [_KINDS[int(types[row])] for row in rows]
        run_parts = zip(kinds, sessions[rows], runs[rows], strict=True)
        return BrainSamples(
            X=table.read(voxels, usable),
            kinds=tuple(kinds),
            runs=tuple(f"{kind}-{_whole(session)}-{_whole(run)}" for kind, session, run in run_parts),
            categories=tuple(categories[row] for row in rows),
            stimuli=tuple(stimuli[row] for row in rows),
            regions={key.removeprefix("ROI_"): np.flatnonzero(np.isin(voxels, table.marked(key))) for key in keys},
            files=(path,),
        )


def joined_samples(paths: Sequence[Path], kinds: Mapping[Path, str] | None = None) -> BrainSamples:
    """Read the samples of one subject from the file of each task, or from one file with all tasks.

    Parameters
    ----------
    paths : sequence of Path
    kinds : mapping of Path to {"training", "seen", "imagined"}, optional
        Kinds of the files without DataType whose names do not tell it.

    Raises
    ------
    InputError
        If a file cannot be read, or files differ in their voxels or regions.
    """
    parts = [read_brain_samples(path, (kinds or {}).get(path)) for path in paths]
    first = parts[0]
    for path, samples in zip(paths[1:], parts[1:], strict=True):
        if samples.X.shape[1] != first.X.shape[1] or not _same_regions(samples.regions, first.regions):
            raise InputError(
                f"{path}: other voxels or regions ({samples.X.shape[1]} voxels) than {paths[0]} ({first.X.shape[1]}); "
                "give the files of one subject"
            )
    parts.sort(key=lambda samples: list(_KINDS.values()).index(samples.kinds[0]))
    return BrainSamples(
        X=np.concatenate([samples.X for samples in parts]),
        kinds=tuple(kind for samples in parts for kind in samples.kinds),
        runs=tuple(run for samples in parts for run in samples.runs),
        categories=tuple(category for samples in parts for category in samples.categories),
        stimuli=tuple(stimulus for samples in parts for stimulus in samples.stimuli),
        regions=first.regions,
        files=tuple(path for samples in parts for path in samples.files),
    )


def _same_regions(regions: Mapping[str, IndexArray], expected: Mapping[str, IndexArray]) -> bool:
    return regions.keys() == expected.keys() and all(np.array_equal(regions[name], expected[name]) for name in regions)


def _type_of(table: _Table, kind: str | None) -> int:
    """Return the DataType of all rows of a file that has no such column."""
    path = table.path
    if kind is None:
        kind = next((kind for pattern, kind in _CALLED.items() if re.search(pattern, path.stem, re.IGNORECASE)), None)
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
    with _opened(path) as table:
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
        ids = np.concatenate([categories[is_test], categories[is_other]])
        return ImageFeatures(
            rows={stimulus_name(number): row for row, number in enumerate(images[is_image])},
            shown=shown,
            candidate_ids=tuple(category_name(number) for number in ids),
            candidates=means,
            n_test=int(is_test.sum()),
        )


def stimulus_name(number: float) -> str:
    """Return the name of the image that a number means: 1518878.010042 is image 10042 of synset n01518878.

    Parameters
    ----------
    number : float
        The synset before the point, and the image in millionths.
    """
    return f"{category_name(number)}_{_image_of(number)}"


def category_name(number: float) -> str:
    """Return the WordNet id of the synset that a number means: 1518878, or 1518878.010042, is n01518878.

    Parameters
    ----------
    number : float
    """
    return f"n{int(number):08d}"


def _image_of(number: float) -> int:
    return round(1e6 * (number - int(number)))


def _labels(table: _Table) -> tuple[list[str | None], list[str]]:
    """Return the image and the category of every row; the category of a row without a label is empty."""
    key = next((key for key in _LABELS if key in table.keys), None)
    if key is None:
        raise InputError(f"{table.path}: no column says what was shown ({', '.join(_LABELS)}); add one")
    numbers, names = table.column(key), table.names(key)
    if names:
        stimuli = [names.get(number) for number in numbers.tolist()]
        return stimuli, [category_of(name) if name else "" for name in stimuli]
    has_label = ~np.isnan(numbers)
    stimuli = [stimulus_name(n) if ok and _image_of(n) else None for n, ok in zip(numbers, has_label, strict=True)]
    return stimuli, [category_name(n) if ok else "" for n, ok in zip(numbers, has_label, strict=True)]


def _union(columns: Sequence[IndexArray]) -> IndexArray:
    return np.unique(np.concatenate(columns)) if columns else np.empty(0, np.int64)


def _whole(number: float) -> str:
    return f"{number:02.0f}"


class _Table:
    """Table of a file: its rows, and its columns by their keys."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path, self._file = path, file
        self._data, metadata = (
            file[self._either(*names)] for names in (("dataset", "dataSet"), ("metadata", "metaData"))
        )
        self.keys: list[str] = [_text(key) for key in np.ravel(metadata["key"][()])]
        values = np.asarray(metadata["value"][()], np.float64)
        self._swapped = values.shape[0] != len(self.keys)
        self._values = values.T if self._swapped else values
        shape = self._data.shape[::-1] if self._swapped else self._data.shape
        if len(shape) != 2 or self._values.shape != (len(self.keys), shape[1]):
            raise InputError(
                f"{path}: a table of shape {self._data.shape} with metadata of shape {values.shape} for "
                f"{len(self.keys)} keys; they do not belong together, so download the file again"
            )
        self.n_rows, self._n_columns = shape

    def _either(self, *names: str) -> str:
        for name in names:
            if name in self._file:
                return name
        raise InputError(f"{self.path}: no {names[0]!r} in it; give a file of BrainDecoderToolbox2 or bdpy")

    def marked(self, key: str) -> IndexArray:
        """Return the columns that a key names."""
        return np.flatnonzero(self._values[self.keys.index(key)] == 1)

    def column(self, key: str) -> Float64Array:
        """Return the one column that a key names, shape (n_rows,)."""
        columns = self.marked(key) if key in self.keys else np.empty(0, np.int64)
        if len(columns) != 1:
            raise InputError(
                f"{self.path}: {len(columns)} columns for {key}, and one is needed; there: {self.some_keys()}"
            )
        return self._blocks(columns, np.ones(self.n_rows, bool), np.float64)[:, 0]

    def names(self, key: str) -> dict[float, str]:
        """Return the names behind the numbers of a column; empty if the file has none."""
        group = self._file.get(f"vmap/{key}", {})
        return {float(number): _text(name[()]) for number, name in group.items()}

    def read(self, columns: IndexArray, rows: BoolArray | None = None) -> Float32Array:
        """Read some columns, of all rows or of some: shape (n_rows, n_columns), float32."""
        return self._blocks(columns, np.ones(self.n_rows, bool) if rows is None else rows, np.float32)

    def _blocks(self, columns: IndexArray, rows: BoolArray, dtype: Any) -> Array:
        # Columns of one key lie together, so the span read holds few others; rows are read a block at a time to limit
        # memory.
        left, right = int(columns[0]), int(columns[-1]) + 1
        step = max(1, _BLOCK_BYTES // (8 * (right - left)))
        out = np.empty((int(rows.sum()), len(columns)), dtype)
        done = 0
        for start in range(0, self.n_rows, step):
            stop = start + step
            block = self._data[left:right, start:stop].T if self._swapped else self._data[start:stop, left:right]
            chosen = block[np.ix_(rows[start:stop], columns - left)]
            out[done : done + len(chosen)] = chosen
            done += len(chosen)
        return out

    def some_keys(self) -> str:
        """First few of the keys, for messages."""
        return first_few(self.keys, 20) or "none"


@contextmanager
def _opened(path: Path) -> Iterator[_Table]:
    try:
        with h5py.File(path, "r") as file:
            yield _Table(path, file)
    # h5py raises these for files that are not HDF5, are cut short or damaged, or lack a group or a data set.
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({what_went_wrong(error)}); give Subject*.h5 or ImageFeatures.h5, and "
            "download a damaged file again"
        ) from error


def _text(raw: object) -> str:
    return raw.decode().strip("\0 ") if isinstance(raw, bytes) else str(raw)
