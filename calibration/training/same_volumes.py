"""Detect a run that has two names: it would count as two runs, and be tested on itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from itertools import islice

from rtgod.errors import InputError
from rtgod.sources import Source

#: Number of volumes that usually tell runs apart.
_FIRST = 2


def check_different(runs: Sequence[Source], options: str = "--training") -> None:
    """Refuse runs that hold the same volumes.

    Little is read: the first two volumes of runs of equal length and shape, and all volumes only if those are equal.
    Runs with one value in all voxels are no recordings, and are not compared.

    Parameters
    ----------
    runs : sequence of Source
    options : str
        Option that leaves a run out, for the message.

    Raises
    ------
    InputError
        If two runs hold the same volumes, or a volume that is compared cannot be read.
    """
    for of_one_size in _equal(runs, lambda source: (source.run.n_volumes, source.run.shape)):
        for alike in _equal(of_one_size, lambda source: _digest(source, _FIRST)):
            for same in _equal(alike, lambda source: _digest(source, None)):
                first, *_, last = (source.run.run_id for source in same)
                raise InputError(
                    f"{first} and {last} hold the same volumes: one run under two names; leave one out with {options} "
                    f"not:{last}"
                )


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
