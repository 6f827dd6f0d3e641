"""AFNI's feedback protocol: answers as the bytes that its real-time plugin sends to a receiver; no sockets.

Per run: `ab cd ef` and ab plus a version, and the number of extra values; then for each volume six motion parameters
and the extra values as float32; at the end `de ad de ad`. Numbers are in this machine's byte order, as AFNI's are. The
version is 1, which every receiver reads: n further values for each volume.

AFNI (3dvolreg, and its plugin, which sends dS, dL, dP, roll, pitch, yaw) describes the movement that brings a volume
back to the base: x_base = R (x - c) + t + c, in LPS coordinates along the axes of the volume's grid, where c is the
grid's centre and R = R_P(yaw) R_L(pitch) R_S(roll), right-handed about the axes towards left, posterior and superior.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from rtgod.messages import Answer, Float64Array, Motion, Ranking, Run
from rtgod.preprocessing.geometry import axes_along, pose_of, translation_of, voxel_sizes

#: First bytes of a connection, with the version; and its last.
_HELLO, END = bytes([0xAB, 0xCD, 0xEF, 0xAB + 1]), bytes.fromhex("deaddead")
#: A receiver takes these bytes at the beginning of a record for the end.
_LIKE_END = END[:3]
#: The extra values that come before those of the best categories, of which each has `OF_CATEGORY`.
EXTRAS = (
    "index", "framewise_displacement_mm", "block", "final", "n_volumes", "n_blocks",
    "probability_first", "probability_first_5", "probability_first_10",
)  # fmt: skip
OF_CATEGORY = ("category", "score")
_UNKNOWN = math.nan


def hello(n_top: int) -> bytes:
    """Return the first bytes of a run.

    Parameters
    ----------
    n_top : int
        How many of the best categories are sent with each volume.
    """
    return _HELLO + struct.pack("=i", len(EXTRAS) + len(OF_CATEGORY) * n_top)


def record(answer: Answer, run: Run, n_top: int, *, blinded: bool) -> bytes:
    """Return the bytes of one volume.

    Parameters
    ----------
    answer : Ranking or NotReady
        Answer to the volume.
    run : Run
        The answer's run, whose grid motion is described in.
    n_top : int
        As in `hello`.
    blinded : bool
        Whether to leave out what tells of rankings, even whether there was one.
    """
    motion = answer.motion if answer.motion is not None and answer.motion.converged else None
    displacement_mm = _UNKNOWN if motion is None or motion.centre_mm is None else motion.framewise_displacement_mm
    ranked = numbers_of(answer, n_top) if isinstance(answer, Ranking) and not blinded else ()
    n_extras = len(EXTRAS) + len(OF_CATEGORY) * n_top
    extras = [float(answer.index), displacement_mm, *ranked]
    extras += [_UNKNOWN] * (n_extras - len(extras))
    values = np.array([*afni_motion(motion, run), *extras], np.float32) + np.float32(0.0)  # no negative zero
    if values[:1].tobytes().startswith(_LIKE_END):
        values[0] = np.nextafter(values[0], np.float32(math.inf))
    return values.tobytes()


def numbers_of(ranking: Ranking, n_top: int) -> list[float]:
    """Return the numbers of a ranking, in the order of `EXTRAS` after the second, then those of the best categories.

    Parameters
    ----------
    ranking : Ranking
    n_top : int
        As in `hello`; fewer categories may be ranked.
    """
    block = -1 if ranking.block is None else ranking.block
    chances = ranking.probability or (_UNKNOWN,) * 3
    best = zip(ranking.order[:n_top], ranking.scores[:n_top], strict=True)
    counts = (block, ranking.final, ranking.n_volumes, ranking.n_blocks)
    return [float(number) for number in (*counts, *chances, *(value for pair in best for value in pair))]


def afni_motion(motion: Motion | None, run: Run) -> tuple[float, float, float, float, float, float]:
    """Convert head motion to AFNI's convention.

    Parameters
    ----------
    motion : Motion or None
    run : Run
        The run whose volume moved.

    Returns
    -------
    tuple of 6 float
        Movement towards superior, left and posterior that brings the volume back, mm; roll, pitch and yaw, degrees. NaN
        if motion was not estimated.
    """
    if motion is None or motion.centre_mm is None:
        return (_UNKNOWN,) * 6
    back = np.asarray(np.linalg.inv(pose_of(motion, np.array(motion.centre_mm))), np.float64)
    centre_mm: Float64Array = run.affine[:3] @ [*(np.array(run.shape) - 1) / 2, 1]
    towards_lps = _lps_axes(run.affine)
    left, posterior, superior = towards_lps.T @ translation_of(back, centre_mm)
    turn = towards_lps.T @ back[:3, :3] @ towards_lps
    roll = math.atan2(turn[1, 0], turn[1, 1])
    pitch = -math.asin(min(1.0, max(-1.0, turn[1, 2])))
    yaw = math.atan2(turn[0, 2], turn[2, 2])
    return (superior, left, posterior, math.degrees(roll), math.degrees(pitch), math.degrees(yaw))


def _lps_axes(affine: Float64Array) -> Float64Array:
    """Return, in columns, unit vectors in RAS+ along a grid's axes, nearest to left, posterior and superior."""
    axes = axes_along(affine, np.eye(4))
    along = (affine[:3, :3] / voxel_sizes(affine))[:, list(axes.order)] * np.where(axes.flipped, -1.0, 1.0)
    # The axes of a sheared grid are not upright on each other; these are the nearest that are.
    u, _, vt = np.linalg.svd(along)
    upright: Float64Array = u @ vt * [-1.0, -1.0, 1.0]
    return upright
