"""What a Siemens scanner with MURFI's vSend sends: a header of 616 bytes and a mosaic, without sockets."""

from __future__ import annotations

import struct

import numpy as np

from rtgod.messages import Array, Run
from rtgod.senders.voxels import tiled

#: MURFI's structure of version 4 as compilers lay it out for 64 bits: magic word, version, series, kind of scan, kind
#: of image, note, type of data, little-endian?, mosaic?, mm (read, phase, slice, gap), matrix, affine, TR and delay in
#: ms, number, planned number, corrected?, order of the correction, and the correction.
LAYOUT = struct.Struct("<5s3xi64s64s16s256s16s??2x4d3i16f4i?5s6x6d")
_VERSION = 4


def image(run: Run, series: str, index: int, stored: Array) -> bytes:
    """Write a volume with its header.

    Parameters
    ----------
    run : Run
    series : str
        Identity of the series.
    index : int
        The volume, from 0.
    stored : ndarray of shape (x, y, z), int16 or uint16
    """
    mm = np.linalg.norm(run.affine[:3, :3], axis=0)
    header = LAYOUT.pack(
        b"ERTI", _VERSION, series.encode(), b"EPI", b"3D", b"", f"{stored.dtype.name}_t".encode(), True, True,
        *mm, 0.0, *run.shape, *run.affine.ravel(), round(1000 * run.tr_s), 0, index + 1, run.n_volumes or 0,
        False, b"XYZ", *[0.0] * 6,
    )  # fmt: skip
    return header + tiled(stored).astype(stored.dtype.newbyteorder("<")).tobytes()
