"""Voxels as protocols can carry them: which numbers a run has, and how they become whole numbers of 16 bits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array, Volume

_INT16, _UINT16 = np.iinfo(np.int16), np.iinfo(np.uint16)


@dataclass(frozen=True, slots=True)
class VoxelRange:
    """Numbers of all voxels of a run.

    Attributes
    ----------
    dtype : str
        Name of their type, one of `rtgod.messages.VOLUME_DTYPES`.
    lowest, highest : float
    is_whole : bool
        Whether all are whole numbers.
    """

    dtype: str
    lowest: float
    highest: float
    is_whole: bool

    def fits(self, info: np.iinfo[np.int16] | np.iinfo[np.uint16]) -> bool:
        """Return whether all numbers are whole, and within those of a type.

        Parameters
        ----------
        info : iinfo
        """
        return self.is_whole and info.min <= self.lowest and self.highest <= info.max


@dataclass(frozen=True, slots=True)
class Stored:
    """How voxels become whole numbers of 16 bits.

    Attributes
    ----------
    dtype : str
        "int16" or "uint16".
    slope : float
        What one step is worth; 1 stores numbers as they are.
    """

    dtype: str
    slope: float = 1.0

    def of(self, data: Array) -> Array:
        """Turn voxels into stored numbers.

        Parameters
        ----------
        data : ndarray of shape (x, y, z)
        """
        if self.slope != 1.0 or data.dtype.kind == "f":
            data = np.rint(data / self.slope)
        return data.astype(self.dtype)


def range_of(volumes: Iterable[Volume]) -> VoxelRange:
    """Look through the voxels of a run; one of int16 is not read beyond its first volume.

    Parameters
    ----------
    volumes : iterable of Volume

    Raises
    ------
    InputError
        If there is no volume, or a voxel is no finite number.
    """
    lowest, highest, is_whole, dtype = math.inf, -math.inf, True, ""
    for volume in volumes:
        data = volume.data
        dtype = data.dtype.name
        if dtype == "int16":
            return VoxelRange(dtype, _INT16.min, _INT16.max, True)
        lowest, highest = min(lowest, float(data.min())), max(highest, float(data.max()))
        if not np.isfinite(data).all():
            raise InputError(
                f"volume {volume.index + 1} has voxels that are no finite number, which scanners do not send; set them "
                "to 0 first"
            )
        is_whole = is_whole and (data.dtype.kind != "f" or bool((np.rint(data) == data).all()))
    if not dtype:
        raise InputError("the run has no volumes")
    return VoxelRange(dtype, lowest, highest, is_whole)


def stored_as(voxels: VoxelRange) -> tuple[Stored, str]:
    """Choose how a run's voxels are stored in 16 bits: exactly where they are whole numbers that fit.

    Parameters
    ----------
    voxels : VoxelRange

    Returns
    -------
    stored : Stored
    note : str
        What is rounded, for the operator; empty if nothing is.

    Raises
    ------
    InputError
        If the voxels are too small to be told from 0.
    """
    if voxels.fits(_INT16):
        return Stored("int16"), ""
    if voxels.fits(_UINT16):
        return Stored("uint16"), ""
    slope = max(abs(voxels.lowest), abs(voxels.highest)) / _INT16.max
    if not slope:
        raise InputError(
            f"its voxels, from {voxels.lowest:g} to {voxels.highest:g}, are too small for steps of whole numbers; "
            "scale the run, or use --as afni or --as pyneal"
        )
    return Stored("int16", slope), (
        f"its voxels are {voxels.dtype}, from {voxels.lowest:g} to {voxels.highest:g}: rounded to whole numbers of "
        f"16 bits, in steps of {slope:.4g}"
    )


def tiled(volume: Array) -> Array:
    """Tile the slices of a volume into one picture, row after row, as Siemens scanners do.

    Parameters
    ----------
    volume : ndarray of shape (n_x, n_y, n_z)

    Returns
    -------
    ndarray of shape (n_tiles * n_y, n_tiles * n_x)
        Tiles that no slice is left for are 0.
    """
    n_x, n_y, n_z = volume.shape
    n_tiles = math.ceil(math.sqrt(n_z))
    tiles = np.zeros((n_tiles * n_tiles, n_y, n_x), volume.dtype)
    tiles[:n_z] = volume.transpose(2, 1, 0)
    return tiles.reshape(n_tiles, n_tiles, n_y, n_x).swapaxes(1, 2).reshape(n_tiles * n_y, n_tiles * n_x)
