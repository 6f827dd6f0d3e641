"""What Pyneal-Scanner sends to Pyneal: a volume as two frames, without sockets."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np

from rtgod.messages import Array, Float64Array, Run, Volume

#: First message of a sender, which the receiver returns.
HELLO = b"hello from rtgod"
#: Word in an answer by which the receiver asks for no more.
STOP = b"STOP"


def along_ras(volume: Array, affine: Float64Array) -> tuple[Array, Float64Array]:
    """Turn a volume so that its axes run to right, anterior and superior, as Pyneal-Scanner does.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z)
    affine : ndarray of shape (4, 4), float64

    Returns
    -------
    volume : ndarray
    affine : ndarray of shape (4, 4), float64
    """
    orientation = nib.io_orientation(affine)
    turned: Array = nib.apply_orientation(volume, orientation)
    there: Float64Array = affine @ nib.orientations.inv_ornt_aff(orientation, volume.shape)
    return turned, there


def frames(run: Run, volume: Volume) -> tuple[bytes, bytes]:
    """Write a volume: its header, and its voxels in C order.

    Parameters
    ----------
    run : Run
    volume : Volume
    """
    data, affine = along_ras(volume.data, run.affine)
    header = {
        "volIdx": volume.index,
        "dtype": data.dtype.name,
        "shape": list(data.shape),
        "affine": json.dumps(affine.tolist()),
        "TR": repr(run.tr_s),
    }
    little = data.dtype.newbyteorder("<")
    return json.dumps(header).encode(), np.ascontiguousarray(data, little).tobytes()
