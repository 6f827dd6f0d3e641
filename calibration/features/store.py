"""Feature store: features of many images on disk, in batches, with a full record of how they were computed.

A Zarr v3 group:

| array | shape, type | what it is |
|---|---|---|
| `image_id`, `path` | (n_images,) string | name and path of each image; images of a category follow one another |
| `problem` | (n_images,) string | reason why an image could not be read; empty if it could |
| `change` | (n_images,) string | conversions of an image's pixels, a line each; empty chunks are not written |
| `done` | (n_batches,) bool | set once a batch of images is written |
| `layers/LAYER/features` | (n_images, n_units) float32 | a chunk for each batch; NaN if an image could not be read |
| `layers/LAYER/units` | (n_units,) int64 | indices of these units in the flattened layer |
| `category_id`, `category_name` | (n_categories,) string | only if images have categories; a name may be empty |
| `category` | (n_images,) int32 | the position of each image's category |
| `means_done` | (n_blocks,) bool | set once a block of categories is written |
| `layers/LAYER/means` | (n_categories, n_units) float32 | over a category's images; NaN if none could be read |

The group's attributes hold the network with its preprocessing and its weights' checksum, the precision, a checksum of
the list of images, and the versions of the packages. Every chunk carries its own checksum, and a file is renamed to
its place when it is complete; so a kill leaves a valid store with fewer batches done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import zarr
from pydantic import ValidationError
from zarr.codecs import Crc32cCodec

from calibration.features.images import ImageList, first_few
from calibration.features.network import Network, differences
from rtgod.errors import InputError, what_went_wrong
from rtgod.files import appearing_whole
from rtgod.messages import Float32Array
from rtgod.text import composed

if TYPE_CHECKING:
    from calibration.features.extractor import BatchFeatures, FeatureExtractor

FORMAT = 1
#: Number of images in a batch, and of categories in a block.
BATCH = 64
_STRINGS_AT_ONCE = 65_536
_AGAIN = (
    "start `rtgod features` or `rtgod categories build` again as it was started: it computes what is missing "
    "(if it refuses, remove the store first)"
)
# Empty chunks are written: a batch without a readable image must differ from a missing one.
_WRITING = {"array.write_empty_chunks": True}
Rows = npt.NDArray[np.int64]


def is_store(path: Path) -> bool:
    """Return whether a path is a Zarr group rather than a folder of images.

    Parameters
    ----------
    path : Path
    """
    return (path / "zarr.json").is_file()


class FeatureStore:
    """Feature store on disk.

    Parameters
    ----------
    path : Path
    writable : bool
        Whether to open it for writing; files that a killed process left half-written are then removed.

    Attributes
    ----------
    network : Network
        The store's network, completed, with its weights' checksum.
    precision : str
    n_images, n_batches, n_categories, n_blocks : int
        The last two are 0 if images have no categories.

    Raises
    ------
    InputError
        If the path is no store, or the store is damaged.
    """

    def __init__(self, path: Path, writable: bool = False) -> None:
        self.path = path
        if not is_store(path):
            raise InputError(f"{path}: no feature store; `rtgod features` and `rtgod categories build` make one")
        if writable:
            for half_written in path.rglob("*.partial"):  # left by a process that was killed
                half_written.unlink()
        with self._checked("zarr.json"), zarr.config.set(_WRITING):
            self._group = zarr.open_group(path, mode="r+" if writable else "r", zarr_format=3)
            about: Mapping[str, Any] = self._group.attrs
            if about.get("rtgod_features") != FORMAT:
                raise InputError(f"{path}: not a feature store of format {FORMAT}; make it again with this rtgod")
            self.network = Network.model_validate(about["network"])
            self.precision: str = about["precision"]
            self.images_sha256: str = about["images_sha256"]
            self._arrays: dict[str, Any] = {
                key: self._group[key] for key in _keys(self.network, "category_id" in self._group)
            }
            if "change" in self._group:
                self._arrays["change"] = self._group["change"]
            self._batch: int = self._arrays["problem"].chunks[0]
            self.n_images: int = self._arrays["image_id"].shape[0]
            self.n_categories: int = self._arrays["category_id"].shape[0] if "category_id" in self._arrays else 0
            self.n_batches, self.n_blocks = (-(-n // self._batch) for n in (self.n_images, self.n_categories))
            self._check_shapes()

    @classmethod
    def create(cls, path: Path, images: ImageList, extractor: FeatureExtractor, batch: int = BATCH) -> FeatureStore:
        """Make a store without any computed features; it appears whole or not at all.

        Parameters
        ----------
        path : Path
            Must not exist; folders above it are made.
        images : ImageList
        extractor : FeatureExtractor
            Its network, units and precision are recorded.
        batch : int, optional
            Number of images in a batch, and of categories in a block.

        Raises
        ------
        InputError
            If the store cannot be written.
        """
        try:
            with zarr.config.set(_WRITING), appearing_whole(path) as unfinished:
                _lay_out(unfinished, images, extractor, batch)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({what_went_wrong(error)})") from error
        return cls(path, writable=True)

    def check_network(self, network: Network) -> None:
        """Refuse to be used beside features of another network; `InputError` says what differs.

        Parameters
        ----------
        network : Network
            Network as a `FeatureExtractor` completed it.
        """
        if differs := differences(self.network, network):
            raise InputError(
                f"feature store {self.path} and the rest differ: {'; '.join(differs)}; features can only be compared "
                "if all are computed alike: leave out the network options, or make the store again with them"
            )

    def check_made_for(self, images: ImageList, extractor: FeatureExtractor) -> None:
        """Refuse to go on with other images, another network or other settings; `InputError` says what differs.

        Parameters
        ----------
        images : ImageList
        extractor : FeatureExtractor
            Its network and precision are compared with the store's.
        """
        differs = differences(self.network, extractor.network)
        if self.precision != extractor.precision:
            differs.append(f"precision {self.precision} there, {extractor.precision} here")
        if self.images_sha256 != images.sha256():
            differs.append(f"list of images ({self.n_images} there, {len(images.ids)} here)")
        if differs:
            raise InputError(
                f"feature store {self.path} was begun with other settings: {'; '.join(differs)}; "
                "start again with those, or choose another --out"
            )

    @cached_property
    def image_ids(self) -> list[str]:
        """Name of each image, with accented letters composed."""
        return [composed(name) for name in self._read("image_id").tolist()]

    @property
    def image_paths(self) -> npt.NDArray[np.str_]:
        """Path of each image, relative to the folder that the store was made from, shape (n_images,)."""
        return self._read("path")

    @property
    def problems(self) -> npt.NDArray[np.str_]:
        """Reason why each image of a finished store could not be read, shape (n_images,); empty if it could."""
        return self._read("problem")

    def problems_of(self, batch: int) -> list[str]:
        """Return the reason why each image of a batch could not be read; empty if it could.

        Parameters
        ----------
        batch : int
            Index of the batch, from 0.
        """
        return self._read("problem", self.rows_of(batch)).tolist()

    def changes(self) -> list[tuple[str, list[str]]]:
        """List the names of converted images with their conversions; empty for stores made by an older rtgod."""
        if "change" not in self._arrays:
            return []
        return [
            (name, text.split("\n"))
            for name, text in zip(self.image_ids, self._read("change", may_lack=True).tolist(), strict=True)
            if text
        ]

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """Flags of the batches that are written, shape (n_batches,)."""
        return self._read("done")

    @property
    def means_done(self) -> npt.NDArray[np.bool_]:
        """Flags of the blocks of categories that are written, shape (n_blocks,)."""
        return self._read("means_done")

    def rows_of(self, batch: int) -> slice:
        """Return the rows of a batch of images.

        Parameters
        ----------
        batch : int
            Index of the batch, from 0.
        """
        return slice(batch * self._batch, min((batch + 1) * self._batch, self.n_images))

    def batches_of(self, rows: slice) -> range:
        """Return the batches that some rows lie in.

        Parameters
        ----------
        rows : slice
            Rows of images, with a start and a stop.
        """
        return range(rows.start // self._batch, -(-rows.stop // self._batch))

    def block_of(self, block: int) -> slice:
        """Return the categories of a block.

        Parameters
        ----------
        block : int
            Index of the block, from 0.
        """
        return slice(block * self._batch, min((block + 1) * self._batch, self.n_categories))

    def n_units(self, layer: str) -> int:
        """Return the number of units kept of a layer.

        Parameters
        ----------
        layer : str
            Key of the network's `layers`.
        """
        return self._arrays[f"layers/{layer}/units"].shape[0]

    @property
    def category_of(self) -> npt.NDArray[np.int32]:
        """The position of each image's category, shape (n_images,); it never decreases."""
        return self._read("category")

    @property
    def category_ids(self) -> list[str]:
        """All categories, in the order of their positions."""
        return [composed(name) for name in self._read("category_id").tolist()]

    def features(self, layer: str, batch: int) -> Float32Array:
        """Read features of a batch of images, shape (n_rows, n_units).

        Parameters
        ----------
        layer : str
            Key of the network's `layers`.
        batch : int
            Index of the batch, from 0.

        Raises
        ------
        InputError
            If they are missing or damaged.
        """
        return self._read(f"layers/{layer}/features", self.rows_of(batch))

    def write(self, batch: int, computed: BatchFeatures) -> None:
        """Write a batch of images, and then mark it as done.

        Parameters
        ----------
        batch : int
            Index of the batch, from 0.
        computed : BatchFeatures
            Features of the batch's images, in the order of their rows.
        """
        rows = self.rows_of(batch)
        for layer, values in computed.values.items():
            self._arrays[f"layers/{layer}/features"][rows] = values
        self._arrays["problem"][rows] = np.array(computed.problems, dtype=object)
        # Most batches have no conversions and get no chunk, unless an earlier version of their files left one.
        if "change" in self._arrays and (computed.changes or self._chunk("change", batch).is_file()):
            changes = computed.changes or ((),) * len(computed.problems)
            self._arrays["change"][rows] = np.array(["\n".join(kinds) for kinds in changes], dtype=object)
        self._arrays["done"][batch] = True

    def write_means(self, block: int, means: Mapping[str, Float32Array]) -> None:
        """Write a block of categories, and then mark it as done.

        Parameters
        ----------
        block : int
            Index of the block, from 0.
        means : mapping of str to ndarray of shape (n_categories_of_block, n_units), float32
            Means per layer; NaN for a category without a readable image.
        """
        for layer, values in means.items():
            self._arrays[f"layers/{layer}/means"][self.block_of(block)] = values
        self._arrays["means_done"][block] = True

    def forget_means(self) -> None:
        """Mark all means as not computed, because images are to be computed again."""
        if self.n_categories:
            self._arrays["means_done"][:] = False

    def is_intact(self, batch: int) -> bool:
        """Return whether all arrays of a batch of images can be read.

        Parameters
        ----------
        batch : int
            Index of the batch, from 0.
        """
        keys = ["problem", *(f"layers/{layer}/features" for layer in self.network.layers)]
        if "change" in self._arrays and self._chunk("change", batch).is_file():
            keys.append("change")
        return self._can_be_read(keys, self.rows_of(batch))

    def is_block_intact(self, block: int) -> bool:
        """Return whether the means of a block of categories can be read.

        Parameters
        ----------
        block : int
            Index of the block, from 0.
        """
        return self._can_be_read([f"layers/{layer}/means" for layer in self.network.layers], self.block_of(block))

    def check_finished(self) -> None:
        """Refuse a store that is not finished.

        Raises
        ------
        InputError
        """
        if (n := int(self.done.sum())) < self.n_batches:
            raise InputError(f"feature store {self.path}: only {n} of {self.n_batches} batches are done; {_AGAIN}")
        if self.n_categories and not self.means_done.all():
            raise InputError(f"feature store {self.path}: its categories' means are not all computed; {_AGAIN}")

    def features_of(self, image_ids: Sequence[str]) -> dict[str, Float32Array]:
        """Read features of some images.

        Parameters
        ----------
        image_ids : sequence of str

        Returns
        -------
        dict of str to ndarray of shape (n_image_ids, n_units), float32
            Features per layer.

        Raises
        ------
        InputError
            If the store lacks some images, could not read some, has NaN for some, or is unfinished or damaged.
        """
        self.check_finished()
        wanted = dict.fromkeys(image_ids)
        rows_of = {name: row for row, name in enumerate(self.image_ids) if name in wanted}
        if missing := [name for name in wanted if name not in rows_of]:
            raise InputError(
                f"feature store {self.path}: no image called {first_few(missing)}; compute features of all images that "
                "were shown"
            )
        rows = np.array([rows_of[name] for name in image_ids], np.int64)
        problems = self.problems[rows]
        if unreadable := [name for name, problem in zip(image_ids, problems, strict=True) if problem]:
            raise InputError(
                f"feature store {self.path}: could not read {first_few(unreadable)}; replace these files and {_AGAIN}"
            )
        features = {layer: self._gather(layer, rows) for layer in self.network.layers}
        self._check_finite(features, image_ids)
        return features

    def means(self) -> tuple[list[str], dict[str, Float32Array]]:
        """Read mean features of every category with at least one readable image.

        Returns
        -------
        category_ids : list of str
        means : dict of str to ndarray of shape (n_categories, n_units), float32
            Means per layer.

        Raises
        ------
        InputError
            If the store has no categories, has NaN for some, or is unfinished or damaged.
        """
        if not self.n_categories:
            raise InputError(
                f"feature store {self.path}: its images have no categories; make one of candidates with "
                "`rtgod categories build`"
            )
        self.check_finished()
        readable = np.flatnonzero(self.n_readable())
        category_ids = self.category_ids
        chosen = [category_ids[i] for i in readable]
        means = {}
        for layer in self.network.layers:
            means[layer] = self._read(f"layers/{layer}/means")[readable]
        self._check_finite(means, chosen)
        return chosen, means

    def n_readable(self) -> npt.NDArray[np.int64]:
        """Return the number of each category's images that could be read, shape (n_categories,)."""
        return np.bincount(self.category_of[self.problems == ""], minlength=self.n_categories)

    def _check_shapes(self) -> None:
        n_rows = dict.fromkeys(("path", "problem", "change", "category", "features"), self.n_images)
        n_rows |= dict.fromkeys(("category_name", "means"), self.n_categories)
        n_rows |= {"done": self.n_batches, "means_done": self.n_blocks}
        for key, array in self._arrays.items():
            n_found = array.shape[0]
            if (expected := n_rows.get(key.rpartition("/")[2], n_found)) != n_found:
                raise ValueError(f"{key} has {n_found} rows, not {expected}")

    def _gather(self, layer: str, rows: Rows) -> Float32Array:
        """Read some rows of a layer, each batch once."""
        gathered = np.empty((len(rows), self.n_units(layer)), np.float32)
        batches = rows // self._batch
        for batch in np.unique(batches):
            in_batch = batches == batch
            gathered[in_batch] = self.features(layer, int(batch))[rows[in_batch] - batch * self._batch]
        return gathered

    def _check_finite(self, features: Mapping[str, Float32Array], names: Sequence[str]) -> None:
        for layer, values in features.items():
            if bad := [names[i] for i in np.flatnonzero(~np.isfinite(values).all(axis=1))]:
                raise InputError(
                    f"feature store {self.path}: layer {layer} is not a finite number for {first_few(bad)}; look at "
                    "these images and the network's preprocessing, and make the store again"
                )

    def _can_be_read(self, keys: Sequence[str], rows: slice) -> bool:
        try:
            for key in keys:
                self._read(key, rows)
        except InputError:
            return False
        return True

    def _chunk(self, key: str, number: int) -> Path:
        array = self._arrays[key]
        return self.path / key / array.metadata.encode_chunk_key((number, *[0] * (array.ndim - 1)))

    def _read(self, key: str, rows: slice = slice(None), *, may_lack: bool = False) -> Any:
        array = self._arrays[key]
        start, stop, _ = rows.indices(array.shape[0])
        # Zarr takes a missing chunk for one of fill values.
        for chunk in range(start // array.chunks[0], -(-stop // array.chunks[0])):
            if not (may_lack or (file := self._chunk(key, chunk)).is_file()):
                raise InputError(f"feature store {self.path}: {file.relative_to(self.path)} is missing; {_AGAIN}")
        with self._checked(key):
            return array[rows]

    @contextmanager
    def _checked(self, part: str) -> Iterator[None]:
        try:
            yield
        # Zarr and its codecs raise all these for damaged files.
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            reason = str(error).partition("\n")[0][:200] or type(error).__name__
            raise InputError(f"feature store {self.path}: {part} is missing or damaged ({reason}); {_AGAIN}") from error


def _keys(network: Network, with_categories: bool) -> list[str]:
    kinds = ["features", "units", *(["means"] if with_categories else [])]
    keys = ["image_id", "path", "problem", "done"]
    keys += ["category_id", "category_name", "category", "means_done"] if with_categories else []
    return keys + [f"layers/{layer}/{kind}" for layer in network.layers for kind in kinds]


def _lay_out(folder: Path, images: ImageList, extractor: FeatureExtractor, batch: int) -> None:
    group = zarr.create_group(
        folder,
        zarr_format=3,
        attributes={
            "rtgod_features": FORMAT,
            "network": extractor.network.model_dump(mode="json"),
            "precision": extractor.precision,
            "images_sha256": images.sha256(),
            "packages": {name: version(name) for name in ("rtgod", "torch", "torchvision", "pillow", "zarr")},
        },
    )
    n_images = len(images.ids)
    _strings(group, "image_id", images.ids)
    _strings(group, "path", images.paths)
    category_ids = list(dict.fromkeys(images.categories))
    if category_ids:
        position = {category: i for i, category in enumerate(category_ids)}
        _strings(group, "category_id", category_ids)
        _strings(group, "category_name", [images.names.get(category, "") for category in category_ids])
        _values(group, "category", np.array([position[category] for category in images.categories], np.int32))
        _values(group, "means_done", np.zeros(-(-len(category_ids) // batch), bool))
    _array(group, "problem", (n_images,), (batch,), str, "")
    _array(group, "change", (n_images,), (batch,), str, "")
    _values(group, "done", np.zeros(-(-n_images // batch), bool))
    for layer, units in extractor.units.items():
        _values(group, f"layers/{layer}/units", units)
        for kind, n_rows in (("features", n_images), ("means", len(category_ids))):
            if n_rows:
                shape = (n_rows, len(units))
                _array(group, f"layers/{layer}/{kind}", shape, (batch, len(units)), np.float32, np.nan)


def _strings(group: zarr.Group, key: str, values: Sequence[str]) -> None:
    array = _array(group, key, (len(values),), (_STRINGS_AT_ONCE,), str, "")
    for start in range(0, len(values), _STRINGS_AT_ONCE):
        rows = slice(start, start + _STRINGS_AT_ONCE)
        array[rows] = np.array(values[rows], dtype=object)


def _values(group: zarr.Group, key: str, values: npt.NDArray[Any]) -> None:
    _array(group, key, values.shape, values.shape, values.dtype, 0)[:] = values


def _array(group: zarr.Group, key: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any, fill: Any) -> Any:
    return group.create_array(
        key,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value=fill,
        compressors=Crc32cCodec(),
        # Chunks lie in one folder, not in a folder each.
        chunk_key_encoding={"name": "default", "separator": "."},
    )
