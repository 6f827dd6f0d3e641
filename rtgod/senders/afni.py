"""What a source sends to AFNI, as Dimon does: the texts and images of its real-time protocol, without sockets."""

from __future__ import annotations

import math

import nibabel as nib
import numpy as np

from rtgod.messages import Array, Run
from rtgod.receivers.protocols.afni import END_OF_RUN
from rtgod.senders.voxels import VoxelRange
from rtgod.sources.dicom.file import to_ras

#: Voxels of AFNI's types, the smallest first; single precision holds whole numbers to 2²⁴.
_LARGEST_SINGLE = 2**24
#: Directions in which an index grows, by the side that it grows to.
_AXES = {"R": "L-R", "L": "R-L", "A": "P-A", "P": "A-P", "S": "I-S", "I": "S-I"}


def datum_of(voxels: VoxelRange) -> tuple[str, np.dtype[np.generic]]:
    """Choose a type that holds the voxels of a run exactly.

    Parameters
    ----------
    voxels : VoxelRange

    Returns
    -------
    datum : str
        As AFNI calls it.
    dtype : dtype
        Little-endian.
    """
    if voxels.fits(np.iinfo(np.int16)):
        return "short", np.dtype("<i2")
    largest = max(abs(voxels.lowest), abs(voxels.highest))
    if voxels.dtype == "float32" or (voxels.is_whole and largest <= _LARGEST_SINGLE):
        return "float", np.dtype("<f4")
    return "double", np.dtype("<f8")


def control_text(host: str, port: int) -> bytes:
    """Write what is sent to the control port: where images will come.

    Parameters
    ----------
    host : str
        The receiver, as the source knows it, which receivers have no use for.
    port : int
        That of the images.
    """
    host = "localhost" if ":" in host else host  # IPv6: colons separate the parts
    return f"tcp:{host}:{port}\n".encode("ascii", "replace") + b"\0"


def run_text(run: Run, datum: str) -> bytes:
    """Write what is said of a run before its images.

    Parameters
    ----------
    run : Run
    datum : str
        Of `datum_of`.
    """
    sizes = np.linalg.norm(run.affine[:3, :3], axis=0)
    fov = " ".join(_number(size * n) for size, n in zip(sizes, run.shape, strict=True))
    lines = {
        "ACQUISITION_TYPE": "3D+timing",
        "TR": _number(run.tr_s),
        "XYFOV": fov,
        "XYMATRIX": " ".join(map(str, run.shape)),
        "DATUM": datum,
        "BYTEORDER": "LSB_FIRST",
        "XYZAXES": " ".join(_AXES[side] for side in nib.aff2axcodes(run.affine)),
        "OBLIQUE_XFORM": " ".join(_number(number) for number in to_ras(run.affine).ravel()),
    }
    if run.n_volumes:
        lines["NUMVOL"] = str(run.n_volumes)
    return "".join(f"{word} {value}\n" for word, value in lines.items()).encode() + b"\0"


def image(volume: Array, dtype: np.dtype[np.generic]) -> bytes:
    """Write a volume: its voxels, x fastest.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z)
    dtype : dtype
        Of `datum_of`.
    """
    return volume.astype(dtype).tobytes(order="F")


def end_of_run(run: Run, dtype: np.dtype[np.generic]) -> bytes:
    """Write the end of a run: a block of a volume's length.

    Parameters
    ----------
    run : Run
    dtype : dtype
    """
    return END_OF_RUN.ljust(math.prod(run.shape) * dtype.itemsize, b"\0")


def _number(number: float) -> str:
    return repr(float(number))
