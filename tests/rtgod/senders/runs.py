"""Small recorded runs to play, and a clock that waits for nobody."""

import math

import numpy as np
from scipy.spatial.transform import Rotation

from rtgod.messages import Run, Volume
from rtgod.senders.faults import read_faults
from rtgod.senders.play import play

N_VOLUMES, SHAPE, TR_S = 6, (6, 4, 5), 2.0


def affine(handedness=1, angles=(20, -7, 11)):
    """From voxel indices to RAS+ mm, oblique."""
    there = np.eye(4)
    there[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([-2.5 * handedness, -3, 3.6])
    there[:3, 3] = [8, 7.5, -4]
    return there


class Recorded:
    """A run in memory, as a source; `lost` volumes are not in it."""

    events = read = None
    notes, contradiction = (), ""

    def __init__(self, dtype="int16", there=None, n=N_VOLUMES, lost=(), tr_s=TR_S, shape=SHAPE, **fields):
        self.run = Run("doe-jane", "01", tr_s, shape, affine() if there is None else there, n, **fields)
        drawn = np.random.default_rng(8)
        data = [drawn.integers(0, 900, shape) for _ in range(n)]
        if dtype.startswith("float"):
            data = [one / 7 for one in data]
        self.volumes = [
            Volume("doe-jane", i, i * tr_s, one.astype(dtype)) for i, one in enumerate(data) if i not in lost
        ]

    def acquisition(self):
        return "doe-jane"

    def __iter__(self):
        return iter(self.volumes)


def played(source, export, *faults, seed=0, between=None):
    """Play at full speed; `between` is called after each send. Return what was told."""
    lines = []
    with export:
        for _ in play(source, export, math.inf, read_faults(faults), seed, lines.append):
            if between:
                between()
    return lines
