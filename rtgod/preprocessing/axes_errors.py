"""Search for exchanged or reversed axes, as by a wrong header, if the head cannot be aligned.

All ways in which axes may be wrong are compared roughly, the likeliest at low resolution, and at most two of these are
aligned as volumes are. It is done once a run, and takes as long as a few volumes that cannot be aligned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations, product
from typing import NamedTuple

import numpy as np

from rtgod.messages import Array, Float32Array, Float64Array, Run
from rtgod.preprocessing.alignment import Reference, in_bright
from rtgod.preprocessing.geometry import voxel_sizes
from rtgod.preprocessing.registration import Registration, block_affine, block_factors, block_means, likeness
from rtgod.settings import MotionSettings

#: Most iterations of an alignment here: the right way needs fewer, and most ways are wrong.
_N_STEPS = 15
#: Number of ways that are compared at low resolution, and of those that are aligned.
_N_LIKELIEST, _N_ALIGNED = 6, 2
#: Size of blocks of voxels for the rough comparison.
_GLANCE_MM = 8.0
_ENDS = ("left and right", "anterior and posterior", "top and bottom")
_ORDINALS = ("1st", "2nd", "3rd")


class _Way(NamedTuple):
    """A way in which axes may be wrong: the error in words, and the affine that corrects it."""

    words: str
    affine: Float64Array


def find_axes_error(volume: Float32Array, run: Run, reference: Reference, settings: MotionSettings) -> str:
    """Search for the template's head in a volume with axes exchanged or reversed.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z), float32
        A volume that could not be aligned with the affine of its run.
    run : Run
    reference : Reference
    settings : MotionSettings

    Returns
    -------
    str
        The error of the axes, such as "left and right exchanged"; empty if the head is not found.
    """
    template, affine, _ = reference

    def explained(way: _Way) -> float:
        return likeness(template, affine, volume, way.affine, _N_STEPS)

    mirrored, *other_ways = _ways(run)
    glance = _Glance(template, affine, volume, run.affine)
    other_ways.sort(key=lambda way: -glance.correlation(way.affine))
    as_it_is = explained(_Way("", run.affine))
    if math.isfinite(as_it_is):
        # Left and right of a head are too alike to be told apart by the rough comparison.
        compared = [(explained(way), way) for way in (mirrored, *other_ways[:_N_LIKELIEST])]
        compared.sort(key=lambda pair: -pair[0])
        ways = [way for share, way in compared if share > max(as_it_is, 0.0)][:_N_ALIGNED]
    else:  # too few slices for a comparison at low resolution
        least = glance.correlation(run.affine)
        ways = [mirrored, *(way for way in other_ways[: _N_ALIGNED - 1] if glance.correlation(way.affine) > least)]
    aligned, soon_ended = [], settings.model_copy(update={"max_iterations": min(settings.max_iterations, _N_STEPS)})
    for way in ways:
        alignment = Registration(template, affine, run.shape, way.affine, soon_ended).align(volume)
        if not alignment.problem:
            aligned.append((alignment.motion.residual, way.words))
    return min(aligned)[1] if aligned else ""


def _ways(run: Run) -> list[_Way]:
    """List every exchange and reversal of axes about the centre of the field of view; left and right first.

    Axes of the scanner are reversed, and axes of the array: with oblique slices these differ.
    """
    columns, sizes = run.affine[:3, :3], voxel_sizes(run.affine)
    along = [int(axis) for axis in np.abs(columns / sizes).argmax(axis=0)]
    signs = [np.array(sign, np.float64) for sign in product((1, -1), repeat=3)][1:]
    signs.sort(key=lambda sign: sign.tolist() != [-1, 1, 1])
    of_scanner = [(_ends_exchanged(sign, range(3)), sign[:, np.newaxis] * columns) for sign in signs]
    changes = [*of_scanner, *((_ends_exchanged(sign, along), columns * sign) for sign in signs)]
    for order in [list(order) for order in permutations(range(3))][1:]:
        for sign in [np.ones(3), *signs]:
            words = _reordered(order, sign)
            changes.append((words, columns[:, order] * sign))
            # The header may give the voxel sizes right and only the directions wrong.
            changes.append((words, (columns / sizes)[:, order] * sizes * sign))
    ways: list[_Way] = []
    for words, linear in changes:
        affine = _about_centre(linear, run)
        if not any(np.allclose(affine, way.affine) for way in ways):
            ways.append(_Way(words, affine))
    return ways


def _ends_exchanged(sign: Float64Array, along: Sequence[int]) -> str:
    return f"{', and '.join(_ENDS[along[axis]] for axis in np.flatnonzero(sign < 0))} exchanged"


def _reordered(order: list[int], sign: Float64Array) -> str:
    moved = [axis for axis in range(3) if order[axis] != axis]
    if len(moved) == 2:
        words = f"the {_ORDINALS[moved[0]]} and {_ORDINALS[moved[1]]} axes swapped"
    else:
        words = f"the axes in another order ({', '.join(_ORDINALS[axis] for axis in order)})"
    turned = [_ORDINALS[axis] for axis in np.flatnonzero(sign < 0)]
    return words + (f" and the {' and '.join(turned)} turned round" if turned else "")


def _about_centre(linear: Float64Array, run: Run) -> Float64Array:
    """Replace the columns of the run's affine, and keep the centre of the field of view where it is."""
    centre = (np.array(run.shape) - 1) / 2
    affine = run.affine.copy()
    affine[:3, :3] = linear
    affine[:3, 3] = run.affine[:3, :3] @ centre + run.affine[:3, 3] - linear @ centre
    return affine


class _Glance:
    """Rough comparison of a template and a volume for many affines, with the centres of both heads superimposed."""

    def __init__(
        self, template: Float32Array, affine: Float64Array, volume: Float32Array, volume_affine: Float64Array
    ) -> None:
        factors = block_factors(affine, _GLANCE_MM)
        blocks = block_means(template, factors)
        points = np.argwhere(in_bright(blocks))
        self._values = blocks[tuple(points.T)]
        columns = block_affine(affine, factors)[:3, :3]
        self._points_mm = (points - np.average(points, axis=0, weights=self._values)) @ columns.T
        self._factors = block_factors(volume_affine, _GLANCE_MM)
        self._volume = block_means(volume, self._factors)
        bright = np.argwhere(in_bright(self._volume))
        self._centre = bright.mean(axis=0) if len(bright) else (np.array(self._volume.shape) - 1) / 2

    def correlation(self, affine: Float64Array) -> float:
        """Correlate template and volume over the template's head; points outside the volume count as dark."""
        columns = block_affine(affine, self._factors)[:3, :3]
        positions = np.rint(self._points_mm @ np.linalg.inv(columns).T + self._centre).astype(np.int64)
        inside = ((positions >= 0) & (positions < self._volume.shape)).all(axis=1)
        intensities: Array = np.zeros(len(positions), np.float32)
        intensities[inside] = self._volume[tuple(positions[inside].T)]
        return float(np.corrcoef(intensities, self._values)[0, 1]) if intensities.std() > 0 else -1.0
