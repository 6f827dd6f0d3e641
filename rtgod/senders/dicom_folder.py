"""Export of DICOM files into a folder, as scanners do: whole files at once, or written to in pieces."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from rtgod.errors import InputError
from rtgod.messages import Run, Volume
from rtgod.senders.dicom_images import DicomImages, DicomStyle, encoded
from rtgod.senders.export import Export
from rtgod.senders.voxels import VoxelRange

#: Most pieces of a file, and longest time between two of them, seconds.
_MOST_PIECES, _LONGEST_PAUSE_S = 6, 0.004


class DicomFolder(Export):
    """Writer of DICOM files.

    Parameters
    ----------
    folder : Path
        Made if it is missing, but not the folders above it.
    style : {"mosaic", "slices", "enhanced"}
        See `DicomImages`.
    in_pieces : bool
        Whether files grow under their final names, in pieces of any size; else they are renamed once they are whole.
    seed : int
        For the sizes of the pieces.
    """

    name: ClassVar[str] = "dicom-folder"

    def __init__(self, folder: Path, style: DicomStyle, *, in_pieces: bool = False, seed: int = 0) -> None:
        self._folder, self._style, self._in_pieces = folder, style, in_pieces
        self._drawn = random.Random(seed)  # noqa: S311 # no secret
        self._images: DicomImages | None = None
        self._n_written: dict[str, int] = {}

    def begin(self, run: Run, voxels: VoxelRange) -> Sequence[str]:
        """Begin a series.

        Parameters
        ----------
        run : Run
        voxels : VoxelRange
        """
        self._images = DicomImages(run, voxels, self._style, datetime.now())
        made = () if self._folder.exists() else (f"{self._folder}: was not there, and is made",)
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"--to {self._folder}: no folder can be made there ({error.strerror})") from error
        return (*made, *self._images.notes)

    def volume(self, volume: Volume, *, is_cut: bool = False) -> None:
        """Write the files of a volume; of one that is cut, one stays short.

        Parameters
        ----------
        volume : Volume
        is_cut : bool
        """
        if self._images is None:
            raise ValueError("no run was begun")
        images = self._images.of(volume)
        for number, image in enumerate(images):
            content = encoded(image)
            if is_cut and number == len(images) // 2:
                content = content[: -len(image.PixelData) // 2]
            self._write(f"{self._images.mark}_{int(image.InstanceNumber):06d}", content)

    def end(self) -> None:
        """End the series, which no file says."""
        self._images = None

    def close(self) -> None:
        """Close nothing: every file is closed at once."""

    def _write(self, stem: str, content: bytes) -> None:
        n_before = self._n_written[stem] = self._n_written.get(stem, 0) + 1
        path = self._folder / (f"{stem}.dcm" if n_before == 1 else f"{stem}_{n_before}.dcm")
        try:
            if self._in_pieces:
                self._write_in_pieces(path, content)
                return
            unfinished = path.with_suffix(".tmp")
            unfinished.write_bytes(content)
            unfinished.rename(path)
        except OSError as error:
            raise InputError(f"--to {self._folder}: cannot be written to ({error.strerror})") from error

    def _write_in_pieces(self, path: Path, content: bytes) -> None:
        n_cuts = self._drawn.randint(1, _MOST_PIECES - 1)
        cuts = sorted(self._drawn.sample(range(1, len(content)), n_cuts))
        with path.open("xb") as file:
            for start, stop in zip([0, *cuts], [*cuts, len(content)], strict=True):
                file.write(content[start:stop])
                file.flush()
                if stop < len(content):
                    threading.Event().wait(self._drawn.uniform(0, _LONGEST_PAUSE_S))
