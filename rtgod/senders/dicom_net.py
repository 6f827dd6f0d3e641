"""Export of DICOM images to a storage node (C-STORE), as scanners send them while they acquire."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from rtgod.errors import InputError, MissingDependencyError, ServerError
from rtgod.messages import Run, Volume
from rtgod.protocol.addresses import host_and_port
from rtgod.senders.connecting import connect, until_it_works
from rtgod.senders.dicom_images import DicomImages, DicomStyle
from rtgod.senders.export import Export
from rtgod.senders.voxels import VoxelRange

#: What the sending end is called.
_TITLE = "RTGOD_REPLAY"
USUAL_TARGET = "RTGOD@127.0.0.1:11112"


class DicomStore(Export):
    """Sender of DICOM images to one node.

    Parameters
    ----------
    to : str
        TITLE@HOST:PORT, or HOST:PORT for the title RTGOD.
    style : {"mosaic", "slices", "enhanced"}
        See `DicomImages`.
    patience_s : float
        How long it goes on trying when the node does not answer, seconds.
    tell : callable
        Shows the operator a line.

    Raises
    ------
    InputError
        If `to` is none of a node.
    MissingDependencyError
        If pynetdicom is not installed.
    """

    name: ClassVar[str] = "dicom-net"

    def __init__(self, to: str, style: DicomStyle, patience_s: float, tell: Callable[[str], object]) -> None:
        try:
            from pynetdicom import AE
        except ModuleNotFoundError as error:
            raise MissingDependencyError("sending DICOM needs pynetdicom: pip install 'rtgod[network]'") from error
        title, separator, where = to.rpartition("@")
        self._title = title if separator else "RTGOD"
        if not re.fullmatch(r"[ -\[\]-~]{1,16}", self._title) or not self._title.strip():
            raise InputError(f"--to {to}: the node's title has 1 to 16 letters, as in {USUAL_TARGET}")
        self._host, self._port = host_and_port(where, "--to", USUAL_TARGET)
        self._style, self._patience_s, self._tell = style, patience_s, tell
        self._node = AE(ae_title=_TITLE)
        for kind in (MRImageStorage, EnhancedMRImageStorage):
            self._node.add_requested_context(kind, ExplicitVRLittleEndian)
        self._association: Any = None
        self._images: DicomImages | None = None

    def begin(self, run: Run, voxels: VoxelRange) -> Sequence[str]:
        """Begin a series, and connect.

        Parameters
        ----------
        run : Run
        voxels : VoxelRange
        """
        self._images = DicomImages(run, voxels, self._style, datetime.now())
        self._connected()
        return self._images.notes

    def volume(self, volume: Volume, *, is_cut: bool = False) -> None:
        """Send the images of a volume; of one that is cut, one lacks the half of its voxels.

        Parameters
        ----------
        volume : Volume
        is_cut : bool
        """
        if self._images is None:
            raise ValueError("no run was begun")
        images = self._images.of(volume)
        for number, image in enumerate(images):
            if is_cut and number == len(images) // 2:
                image.PixelData = image.PixelData[: len(image.PixelData) // 4 * 2]
            self._send(image)

    def end(self) -> None:
        """End the series, and the association."""
        self._images = None
        if self._association is not None and self._association.is_established:
            self._association.release()

    def close(self) -> None:
        """Break the association off, unless it has ended."""
        if self._association is not None and self._association.is_established:
            self._association.abort()

    def _connected(self) -> Any:
        def attempt() -> Any:
            # pynetdicom logs errors and leaves a socket open when nobody listens, so that is tried without it.
            connect(self._host, self._port, self._patience_s, self._tell).close()
            association = self._node.associate(self._host, self._port, ae_title=self._title)
            return association if association.is_established else None

        if self._association is None or not self._association.is_established:
            where = f"{self._title}@{self._host}:{self._port}"
            self._association = until_it_works(attempt, where, self._patience_s, self._tell)
        return self._association

    def _send(self, image: Dataset) -> None:
        def attempt() -> int | None:
            try:
                status = self._connected().send_c_store(image).get("Status")
            except (RuntimeError, ValueError) as error:
                if not self._association.is_established:
                    return None
                raise ServerError(f"{self._title}: takes no MR images of this kind") from error
            # No answer, or no room now: it is sent again.
            return None if status is None or status >> 8 == 0xA7 else int(status)

        status = until_it_works(attempt, f"{self._title}, to take an image", self._patience_s, self._tell)
        if status != 0 and status >> 12 != 0xB:  # those are warnings: it is stored
            raise ServerError(f"{self._title}: does not take an image (status {status:04X}); its log may say why")
