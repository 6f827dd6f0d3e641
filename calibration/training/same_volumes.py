"""One run under two names, or one acquisition in two forms: it would count as two, and be tested on itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import combinations, islice

import numpy as np

from calibration.features.images import first_few
from rtgod.errors import InputError
from rtgod.messages import Float32Array, Run
from rtgod.sources import Source

#: Number of volumes that usually tell runs apart.
_FIRST = 2
#: Changes from volume to volume that are compared, after the first volumes, in which all runs settle alike; and voxels.
_SETTLED, _CHANGES, _VOXELS = 6, 12, 20_000
#: Median correlation of changes from which on two runs are one acquisition. Of 66 pairs of runs of haxby2001 the
#: highest is 0.19; echoes, reconstructions and denoised copies share the noise that changes are.
_TOGETHER = 0.35


def check_different(runs: Sequence[Source], options: str = "--training") -> None:
    """Refuse runs that hold the same volumes, and runs with the same trials whose volumes change together.

    Little is read: the first two volumes of runs of one length and shape, and all of them only where those are equal;
    of runs with the same trials at the same times some twenty. Runs of one value throughout are no recordings, and are
    not compared.

    Parameters
    ----------
    runs : sequence of Source
    options : str
        Option that leaves a run out, for the message.

    Raises
    ------
    InputError
        If two runs hold the same volumes or are forms of one acquisition, or a volume that is compared cannot be read.
    """
    for of_one_shape in _equal(runs, lambda source: source.run.shape):
        for alike in _equal(of_one_shape, lambda source: _digest(source, _FIRST)):
            n_shortest = min(source.run.n_volumes or 0 for source in alike) or None
            for same in _equal(alike, partial(_digest, n_volumes=n_shortest)):
                first, *_, last = (source.run.run_id for source in same)
                raise InputError(
                    f"{first} and {last} hold the same volumes: one run under two names; leave one out with {options} "
                    f"not:{last}"
                )
    changes: dict[str, Float32Array] = {}
    for one, other in combinations(runs, 2):
        if one.run.shape != other.run.shape or not _have_same_trials(one.run, other.run):
            continue
        for source in (one, other):
            if source.run.run_id not in changes:
                changes[source.run.run_id] = _changes(source)
        if (r := _together(changes[one.run.run_id], changes[other.run.run_id])) >= _TOGETHER:
            raise InputError(
                f"{one.run.run_id} and {other.run.run_id} have the same trials, and their volumes change together (r = "
                f"{r:.2f}): echoes, reconstructions or copies of one acquisition are one run; leave one out with "
                f"{options} not:{other.run.run_id}"
            )


def same_trials(runs: Sequence[Source]) -> tuple[str, ...]:
    """Say which runs have the same trials at the same times, as the forms of one acquisition have; a line each.

    Parameters
    ----------
    runs : sequence of Source
    """
    return tuple(
        f"{first_few([source.run.run_id for source in alike], 4)} have the same trials at the same times, and noise of "
        "their own: runs of one order, or magnitude and phase of one run"
        for alike in _equal(runs, lambda source: (source.run.shape, source.run.blocks) if source.run.blocks else None)
    )


def _have_same_trials(one: Run, other: Run) -> bool:
    """Whether two runs have trials of the same labels, at times that differ by a volume at most."""
    return (
        bool(one.blocks)
        and len(one.blocks) == len(other.blocks)
        and all(
            a.label == b.label and abs(a.onset_s - b.onset_s) <= one.tr_s
            for a, b in zip(one.blocks, other.blocks, strict=True)
        )
    )


def _changes(source: Source) -> Float32Array:
    """Changes from volume to volume, shape (n_changes, n_voxels), of some of the voxels."""
    volumes = [volume.data.reshape(-1) for volume in islice(source, _SETTLED, _SETTLED + _CHANGES + 1)]
    step = max(1, volumes[0].size // _VOXELS) if volumes else 1
    changes = np.diff([volume[::step].astype(np.float32) for volume in volumes], axis=0)
    return changes.reshape(max(len(volumes) - 1, 0), -1)


def _together(one: Float32Array, other: Float32Array) -> float:
    """Correlation of two runs' changes over voxels, median over time; 0 where nothing changes.

    Noise of one acquisition is in all changes, responses to the same trials in some.
    """
    n = min(len(one), len(other))
    if not n:
        return 0.0
    one, other = (changes[:n] - changes[:n].mean(axis=1, keepdims=True) for changes in (one, other))
    scale = np.sqrt(np.square(one).sum(axis=1) * np.square(other).sum(axis=1))
    products = (one * other).sum(axis=1)
    return float(np.median(np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)))


def _equal(runs: Sequence[Source], key: Callable[[Source], Hashable]) -> list[list[Source]]:
    """Return groups of two or more runs with an equal key that is not None."""
    groups: dict[Hashable, list[Source]] = {}
    for source in runs:
        groups.setdefault(key(source), []).append(source)
    return [group for value, group in groups.items() if value is not None and len(group) > 1]


def _digest(source: Source, n_volumes: int | None) -> bytes | None:
    """Return a digest of a run's first volumes, or of all; None if all of their voxels are equal."""
    digest = hashlib.sha256()
    values: set[float] = set()
    for volume in islice(source, n_volumes):
        digest.update(f"{volume.index} {volume.data.dtype} ".encode())
        digest.update(volume.data.tobytes())
        if len(values) < 2:
            values |= {float(volume.data.min()), float(volume.data.max())}
    return digest.digest() if len(values) > 1 else None
