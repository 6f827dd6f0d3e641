"""Compute features of any number of images into a store, batch by batch: resumable, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from calibration.features.extractor import BatchFeatures, FeatureExtractor, compute, single_threads
from calibration.features.images import ImageList, read_image
from calibration.features.network import Network
from calibration.features.store import BATCH, FeatureStore
from calibration.parallel.pools import in_order
from rtgod.errors import InputError
from rtgod.messages import Float32Array

if TYPE_CHECKING:
    from calibration.parallel.progress import Report

#: Number of batches handed over at a time for each thread.
_AHEAD = 2


def extract_to_store(
    images: ImageList,
    network: Network,
    out: Path,
    report: Report,
    pool: Executor | None = None,
    batch: int = BATCH,
) -> FeatureStore:
    """Compute the features that a store of these images still lacks, and category means if images have categories.

    It may be killed at any moment and started again: batches that are done are kept if they can still be read, and the
    resulting arrays are the same, byte for byte. Images that cannot be read are noted in the store; those of them that
    can be read at a later start are computed then.

    Parameters
    ----------
    images : ImageList
    network : Network
    out : Path
        Path of the store, which may exist already.
    report : callable
        Called with (stage, steps done, steps in all).
    pool : executor, optional
        From `calibration.parallel.workers.workers`; its `map` runs ahead no further than it must. By default a
        thread on each core of this process.
    batch : int
        Number of images in a batch of a new store.

    Raises
    ------
    InputError
        If the network is not available, or the store was begun with other settings or cannot be read or written.
    """
    extractor = FeatureExtractor(network)
    if out.exists():
        store = FeatureStore(out, writable=True)
        store.check_made_for(images, extractor)
    else:
        store = FeatureStore.create(out, images, extractor, batch)
    if missing := _unfinished_batches(store, images, report):
        store.forget_means()
        if pool:
            _compute_batches(store, images, missing, partial(pool.map, compute, repeat(extractor.network)), report)
        else:
            with single_threads() as threads:
                n_ahead = _AHEAD * (os.cpu_count() or 1)
                compute_each = partial(in_order, threads, n_ahead, extractor.compute)
                _compute_batches(store, images, missing, compute_each, report)
    _average_categories(store, report)
    return store


def _unfinished_batches(store: FeatureStore, images: ImageList, report: Report) -> list[int]:
    """Return batches that are not done, are damaged, or have unreadable images that can be read by now."""
    done = store.done
    unfinished = np.flatnonzero(~done).tolist()
    for n_looked_at, batch in enumerate(np.flatnonzero(done).tolist(), 1):
        if not store.is_intact(batch) or any(map(_can_be_read, _lacking(store, images, batch))):
            unfinished.append(batch)
        report("checking what is there", n_looked_at, int(done.sum()))
    return sorted(unfinished)


def _lacking(store: FeatureStore, images: ImageList, batch: int) -> list[Path]:
    """Return the files of a batch that could not be read."""
    paths = images.paths[store.rows_of(batch)]
    return [images.root / path for path, problem in zip(paths, store.problems_of(batch), strict=True) if problem]


def _can_be_read(path: Path) -> bool:
    try:
        read_image(path)
    except InputError:
        return False
    return True


def _compute_batches(
    store: FeatureStore,
    images: ImageList,
    batches: list[int],
    compute_each: Callable[[Iterable[list[Path]]], Iterator[BatchFeatures]],
    report: Report,
) -> None:
    rows = {batch: store.rows_of(batch) for batch in batches}
    n_done = store.n_images - sum(batch_rows.stop - batch_rows.start for batch_rows in rows.values())
    report("network features", n_done, store.n_images)
    jobs = ([images.root / path for path in images.paths[rows[batch]]] for batch in batches)
    for batch, computed in zip(batches, compute_each(jobs), strict=True):
        store.write(batch, computed)
        n_done += len(computed.problems)
        report("network features", n_done, store.n_images)


def _average_categories(store: FeatureStore, report: Report) -> None:
    """Average features over each category's images, a block of categories and a batch of images at a time."""
    if not store.n_categories:
        return
    category, readable = store.category_of, store.problems == ""
    done = store.means_done
    for block in range(store.n_blocks):
        if not done[block] or not store.is_block_intact(block):
            wanted = store.block_of(block)
            layers = store.network.layers
            store.write_means(block, {layer: _means(store, layer, wanted, category, readable) for layer in layers})
        report("means of categories", store.block_of(block).stop, store.n_categories)


def _means(
    store: FeatureStore,
    layer: str,
    wanted: slice,
    category: npt.NDArray[np.int32],
    readable: npt.NDArray[np.bool_],
) -> Float32Array:
    """Return mean features of a block of categories, shape (n_wanted, n_units); NaN without a readable image."""
    first, stop = np.searchsorted(category, (wanted.start, wanted.stop))
    n_wanted = wanted.stop - wanted.start
    total = np.zeros((n_wanted, store.n_units(layer)))
    for batch in store.batches_of(slice(first, stop)):
        rows = store.rows_of(batch)
        indices = np.arange(max(rows.start, first), min(rows.stop, stop))
        indices = indices[readable[indices]]
        np.add.at(total, category[indices] - wanted.start, store.features(layer, batch)[indices - rows.start])
    n_images = np.bincount(category[first:stop][readable[first:stop]] - wanted.start, minlength=n_wanted)
    with np.errstate(invalid="ignore"):  # the mean of no images is NaN
        return (total / n_images[:, np.newaxis]).astype(np.float32)
