"""A recorded run from a 4-D NIfTI file, with its BIDS sidecar JSON and events table.

The voxels are read once, forwards through the file, with one volume in memory at a time.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from rtgod.errors import InputError
from rtgod.events.counting import discarded, those_used
from rtgod.messages import LARGEST_MM, VOLUME_DTYPES, Array, Float64Array, Volume
from rtgod.settings import EventsSettings
from rtgod.sources import RepetitionTime, TrClaim, acquisition_id, agreed_tr, run_of
from rtgod.sources.beside import files_beside, find_events, stem_of, subject_in

_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_MILLIMETRES = {"mm": 1.0, "unknown": 1.0, "meter": 1e3, "micron": 1e-3}

#: Largest ratio by which DEFLATE can compress.
_MOST_COMPRESSED = 1032

_DAMAGED = (OSError, EOFError, zlib.error)


class NiftiRun:
    """A 4-D NIfTI file as a source.

    Parameters
    ----------
    path : Path
        A .nii or .nii.gz file of shape (x, y, z, n_volumes).
    events : Path, optional
        Events table; by default the one that BIDS places beside the file, if any.
    reading : EventsSettings, optional
        Rules by which rows of the events table are trials; see `rtgod.events.table.read_events`.
    run_id : str, optional
        By default the file name without `_bold` and extension.
    subject : str, optional
        By default the label after `sub-` in the file name, else "unknown".
    tr_s : float, optional
        Repetition time in seconds, if neither a sidecar JSON nor the header (with its unit) gives a possible one;
        otherwise it chooses between them.

    Attributes
    ----------
    run : Run
    events : Path or None
        The events table that gave the run its blocks.
    notes : tuple of str
        Decisions made if the files disagree.
    contradiction : str
        Reason why the run should not be used as it is; see `rtgod.sources.agreed_tr`.
    read : TrialsRead or None
        Trials and other rows of the events table; None without a table.

    Raises
    ------
    InputError
        If the file is not a 4-D NIfTI file, is shorter than its header says, has no orientation or no repetition time,
        or if a sidecar or the events table cannot be used. While iterating: if the voxels of a volume cannot be read.

    Notes
    -----
    Volumes have the file's voxel type if it is one of `VOLUME_DTYPES` and unscaled, else float32.
    """

    def __init__(
        self,
        path: Path,
        *,
        events: Path | None = None,
        reading: EventsSettings | None = None,
        run_id: str | None = None,
        subject: str | None = None,
        tr_s: float | None = None,
    ) -> None:
        self._path = path
        self._layout = layout = _read_layout(path)
        _check_size(path, layout)
        stem = stem_of(path)
        self.events = events or find_events(path)
        sidecars = _SidecarsSay.of(path)
        tr = _find_tr(path, layout, sidecars, tr_s)
        self._n_discarded = reading.discard_volumes if reading else 0
        self.contradiction = tr.contradiction
        self.run, self.read = run_of(
            path,
            self.events,
            reading,
            run_id=run_id or stem.removesuffix("_bold"),
            subject=subject or subject_in(path) or "unknown",
            tr_s=tr.tr_s,
            shape=layout.shape,
            affine=layout.affine,
            n_volumes=layout.n_volumes,
            coil=sidecars.coil,
        )
        is_said = self.read is not None or not self._n_discarded
        self.notes = tr.notes if is_said else (*tr.notes, discarded(self._n_discarded))

    def __iter__(self) -> Iterator[Volume]:
        """Read the volumes one at a time."""
        return those_used(self._delivered(), self._n_discarded, self.run.tr_s)

    def _delivered(self) -> Iterator[Volume]:
        layout = self._layout
        with _open_stream(self._path) as stream:
            self._take(stream, layout.offset, "header")
            for index in range(layout.n_volumes):
                raw = self._take(stream, layout.n_bytes, f"volume {index}")
                if index == layout.n_volumes - 1:
                    self._finish(stream)
                voxels = np.frombuffer(raw, layout.dtype).reshape(layout.shape, order="F")
                yield Volume(self.run.run_id, index, index * self.run.tr_s, layout.values(voxels))

    def acquisition(self) -> str:
        """Return the identity of the run, from the file's content and the run's name.

        Raises
        ------
        InputError
            If the file cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                return acquisition_id(self.run.run_id, hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise InputError(f"{self._path}: cannot be read ({error.strerror}).") from error

    def _take(self, stream: IO[bytes], n_bytes: int, part: str) -> bytes:
        try:
            raw = stream.read(n_bytes)
        except _DAMAGED:
            raw = b""
        if len(raw) < n_bytes:
            raise InputError(f"{self._path}: {part} cannot be read, the file is damaged or cut short; copy it again.")
        return raw

    def _finish(self, stream: IO[bytes]) -> None:
        """Read on to the end of the file, where gzip has a checksum; it finds damage that still decompresses."""
        try:
            while stream.read(1 << 20):
                pass
        except _DAMAGED:
            raise InputError(
                f"{self._path}: the checksum is wrong, so some volume is damaged; copy it again."
            ) from None


def count_volumes(path: Path) -> int:
    """Return the number of volumes in a NIfTI file, by its header; 0 if it is not a readable file of a run.

    Parameters
    ----------
    path : Path
        A .nii or .nii.gz file.
    """
    try:
        return _read_layout(path).n_volumes
    except InputError:
        return 0


def place_of(path: Path) -> tuple[tuple[int, int, int], Float64Array, float]:
    """Read where the voxels of a file lie, of one volume or of a run.

    Parameters
    ----------
    path : Path
        A .nii or .nii.gz file.

    Returns
    -------
    shape : tuple of int
        That of a volume.
    affine : ndarray of shape (4, 4), float64
        Voxel indices to RAS+ millimetres.
    tr_s : float
        Repetition time by the header, seconds; 0 if it does not say it with its unit.

    Raises
    ------
    InputError
        If it is no such file.
    """
    layout = _read_layout(path, is_one_enough=True)
    return layout.shape, layout.affine, layout.tr_s


@dataclass(frozen=True, slots=True)
class _Layout:
    """Position of the voxels in the (decompressed) file, their type, scaling and geometry, and the header's TR."""

    offset: int
    dtype: np.dtype[np.generic]
    slope: float
    inter: float
    shape: tuple[int, int, int]
    n_volumes: int
    affine: Float64Array
    tr: float
    tr_unit: str

    @property
    def n_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    @property
    def tr_s(self) -> float:
        # Without a unit the number is often a library's default (1.0), so it is ignored. Rounded because the header has
        # single precision: 1.97 would become 1.97000002861.
        return round(self.tr * _SECONDS[self.tr_unit], 6) if self.tr_unit in _SECONDS and self.tr > 0 else 0.0

    def values(self, voxels: Array) -> Array:
        if (self.slope, self.inter) != (1.0, 0.0):
            with np.errstate(over="ignore"):  # a damaged slope; infinite values are noticed where volumes are aligned
                return (voxels * np.float64(self.slope) + self.inter).astype(np.float32)
        name = self.dtype.name
        # A type by name has native byte order, so this also converts big-endian voxels.
        return voxels.astype(name if name in VOLUME_DTYPES else np.float32)


def _read_layout(path: Path, *, is_one_enough: bool = False) -> _Layout:
    try:
        # A damaged affine may hold numbers that cannot be cast; it is refused below.
        with np.errstate(invalid="ignore"):
            image: Any = nib.load(path)  # nibabel's annotations lack the attributes of NIfTI images
            header = image.header
            shape = tuple(int(n) for n in header.get_data_shape())
            units = header.get_xyzt_units()
            oriented = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
            affine = np.diag([*3 * [_MILLIMETRES[units[0]]], 1.0]) @ header.get_best_affine()
            proxy = image.dataobj
            offset, dtype, slope, inter = int(proxy.offset), proxy.dtype, float(proxy.slope), float(proxy.inter)
    # Errors that nibabel and its decompressors raise on bytes that are not a NIfTI header.
    except (*_DAMAGED, ImageFileError, HeaderDataError, ValueError, KeyError, TypeError, OverflowError, IndexError):
        raise InputError(f"{path}: not a readable NIfTI file; copy or export it again.") from None
    if is_one_enough and len(shape) == 3:
        shape = (*shape, 1)
    shape = shape[:4] + tuple(n for n in shape[4:] if n != 1)
    if len(shape) != 4 or min(shape) < 1:
        raise InputError(f"{path}: its shape is {shape}, not (x, y, z, volumes); give the 4-D file of a run.")
    if dtype.kind not in "iuf":
        raise InputError(f"{path}: its voxels are complex or colours; give a file with one number in each voxel.")
    if not oriented:
        raise InputError(
            f"{path}: unknown orientation, sform_code and qform_code are both 0 in its header; convert it again from "
            "DICOM, or set the code once you know that the affine is right."
        )
    if not (np.abs(affine) < LARGEST_MM).all() or np.linalg.matrix_rank(affine) < 4:
        raise InputError(f"{path}: the affine in its header (srow or quatern) maps to no volume; convert it again.")
    zooms = (*header.get_zooms(), 0.0)  # a single volume has none in time
    return _Layout(offset, dtype, slope, inter, shape[:3], shape[3], affine, float(zooms[3]), units[1])


def _check_size(path: Path, layout: _Layout) -> None:
    size = path.stat().st_size * (_MOST_COMPRESSED if _is_gzipped(path) else 1)
    if size < layout.offset + layout.n_bytes * layout.n_volumes:
        raise InputError(f"{path}: too short for the {layout.n_volumes} volumes in its header; copy it again.")


@dataclass(frozen=True, slots=True)
class _SidecarsSay:
    """Repetition time and receive coil from the sidecars of a file, each from the nearest sidecar that has it."""

    tr: TrClaim | None = None
    coil: str = ""

    @classmethod
    def of(cls, path: Path) -> _SidecarsSay:
        fields = cls()
        for sidecar in files_beside(path, f"{stem_of(path).rpartition('_')[2]}.json"):
            content = _read_sidecar(sidecar)
            if fields.tr is None and "RepetitionTime" in content:
                fields = replace(fields, tr=TrClaim(content["RepetitionTime"], f"{sidecar}, RepetitionTime"))
            if "VolumeTiming" in content:
                raise InputError(
                    f"{sidecar}: VolumeTiming: volumes that do not follow each other at one repetition time "
                    "cannot be decoded "
                    "as they come; if they do, replace it by RepetitionTime."
                )
            if not fields.coil and isinstance(coil := content.get("ReceiveCoilName"), str):
                fields = replace(fields, coil=coil)
            if fields.tr is not None and fields.coil:
                break
        return fields


def _find_tr(path: Path, layout: _Layout, sidecars: _SidecarsSay, given: float | None) -> RepetitionTime:
    claims = [] if sidecars.tr is None else [sidecars.tr]
    if layout.tr_unit in _SECONDS and layout.tr > 0:
        claims.append(TrClaim(layout.tr_s, f"{path}, pixdim[4]", layout.tr_unit, float(f"{layout.tr:.6g}")))
    return agreed_tr(path, claims, given, "no repetition time in a sidecar JSON or, with a unit, in the header")


def _read_sidecar(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object; correct the sidecar or remove it.")
    return content


def _open_stream(path: Path) -> IO[bytes]:
    try:
        return cast("IO[bytes]", gzip.open(path)) if _is_gzipped(path) else path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def _is_gzipped(path: Path) -> bool:
    return path.name.lower().endswith(".gz")
