"""Finds out whether a head that cannot be aligned is mirrored, by a header that exchanges left and right, say."""

from __future__ import annotations

import math

import numpy as np

from rtgod.alignment import Reference
from rtgod.messages import Float32Array, Float64Array, Run
from rtgod.motion import Registration, likeness
from rtgod.settings import MotionSettings

#: Steps of a look at low resolution: it decides whether a closer one is worth its time.
_N_STEPS = 15


def is_mirrored(volume: Float32Array, run: Run, reference: Reference, settings: MotionSettings) -> bool:
    """Look for the template's head in a volume with left and right exchanged.

    A head whose front and back, or top and bottom, are exchanged as well is turned by half a circle: it is not looked
    for.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z), float32
        One that could not be aligned as its run's affine says.
    run : Run
    reference : Reference
    settings : MotionSettings
    """
    template, affine, _ = reference
    mirrored = _mirrored(run)
    as_it_is, as_mirrored = (likeness(template, affine, volume, of, _N_STEPS) for of in (run.affine, mirrored))
    if math.isfinite(as_mirrored) and as_mirrored <= max(as_it_is, 0.0):
        return False
    return not Registration(template, affine, run.shape, mirrored, settings).align(volume).problem


def _mirrored(run: Run) -> Float64Array:
    """The affine that exchanges the scanner's left and right about the centre of the field of view."""
    centre_mm = run.affine[:3, :3] @ ((np.array(run.shape) - 1) / 2) + run.affine[:3, 3]
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    mirror[0, 3] = 2 * centre_mm[0]
    affine: Float64Array = mirror @ run.affine
    return affine
