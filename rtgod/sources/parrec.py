"""A run from a pair of Philips PAR and REC files, as they are written at the end of a scan.

nibabel reads the header. No field that identifies a person leaves this module, nor does the files' name, of which the
scanner makes the patient's: the run is called after its acquisition number and a digest.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.parrec import PARRECError, PARRECHeader, parse_PAR_header

from rtgod.errors import InputError
from rtgod.events.counting import discard_notes, those_used
from rtgod.messages import (
    LARGEST_MM,
    LONGEST_AXIS,
    MOST_VOLUMES,
    MOST_VOXELS,
    VOLUME_DTYPES,
    Array,
    Float64Array,
    Volume,
)
from rtgod.settings import EventsSettings
from rtgod.sources import TrClaim, acquisition_id, agreed_tr, run_of
from rtgod.sources.beside import find_events, subject_in
from rtgod.text import number_of

#: Image types: magnitude, and what people call the others.
_MAGNITUDE = 0
#: Largest header that is read, bytes: half a million images.
_LARGEST_HEADER = 2**27
#: Numbers that tell images of one dynamic apart, beside slice and echo, and what people call them.
_OTHERS = {
    "cardiac phase number": "cardiac phases",
    "label type": "labels",
    "diffusion b value number": "diffusion values",
    "gradient orientation number": "gradient directions",
    "diffusion_b_factor": "diffusion values",
}


class ParRecRun:
    """A pair of PAR and REC files as a source.

    Parameters
    ----------
    path : Path
        The .PAR file, of version 4, 4.1 or 4.2; the .REC file lies beside it.
    events : Path, optional
        Events table; by default the one that BIDS places beside the file, if any.
    reading : EventsSettings, optional
        Rules by which rows of the events table are trials; see `rtgod.events.table.read_events`.
    run_id : str, optional
        By default "parrec-<acquisition number>-<first 10 hexadecimal digits of the SHA-256 of the PAR file>".
    subject : str, optional
        By default the label after `sub-` in the file name, else "unknown".
    tr_s : float, optional
        Repetition time in seconds, if the header gives no possible one; otherwise it chooses between the repetition
        time and the times at which its dynamics began.
    echo : int, optional
        Echo to read, from 1, if the file has several.

    Attributes
    ----------
    run : Run
    events : Path or None
        The events table that gave the run its blocks.
    notes : tuple of str
        What is left out: images that are no magnitudes, volumes that lack slices, and those that are missing at the
        start or at the end.
    contradiction : str
        Reason why the run should not be used as it is; see `rtgod.sources.agreed_tr`.
    read : TrialsRead or None
        Trials and other rows of the events table; None without a table.

    Raises
    ------
    InputError
        If the files cannot be read, contradict each other, or hold no functional run. While iterating: if the voxels of
        a volume cannot be read.

    Notes
    -----
    Values are those that the scanner's console shows, as with DICOM files: of the stored type if they are unscaled,
    else float32. A volume's index is its dynamic's number less 1.

    Places are those of dcm2niix, but for the distance of slices, which is their thickness and gap, as with nibabel:
    dcm2niix takes it from places that the file rounds to 0.01 mm.
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
        echo: int = 0,
    ) -> None:
        self._par = par = _read_par(path)
        self._rec = _rec_beside(path)
        is_taken, n_others = _of_echo(path, par.images, echo)
        self._grid = grid = _grid_of(path, par, par.images[is_taken])
        n_in_rec = self._rec.stat().st_size // grid.n_bytes
        self._volumes, n_lacking = _complete(path, par, is_taken, n_in_rec)
        images = par.images[is_taken]
        self._is_scaled = bool((images["rescale slope"] != 1).any() or (images["rescale intercept"] != 0).any())
        tr = agreed_tr(path, par.tr_claims(path, images), tr_s, "no repetition time in its header")
        self.events, self.contradiction = events or find_events(path), tr.contradiction
        self._n_discarded = reading.discard_volumes if reading else 0
        self.run, self.read = run_of(
            path,
            self.events,
            reading,
            run_id=run_id or par.name,
            subject=subject or subject_in(path) or "unknown",
            tr_s=tr.tr_s,
            shape=grid.shape,
            affine=grid.affine,
            n_volumes=max(self._volumes) + 1,
        )
        unused = discard_notes(reading, is_said=self.read is not None)
        self.notes = (*tr.notes, *_left_out(path, par, self._volumes, n_lacking, n_others), *unused)

    def acquisition(self) -> str:
        """Return the identity of the run, from its header and its name."""
        return acquisition_id(self.run.run_id, self._par.digest)

    def __iter__(self) -> Iterator[Volume]:
        """Read the volumes one by one."""
        return those_used(self._delivered(), self._n_discarded, self.run.tr_s)

    def _delivered(self) -> Iterator[Volume]:
        with self._rec.open("rb") as rec:
            for index, rows in self._volumes.items():
                voxels = self._voxels(rec, self._par.images[rows])
                yield Volume(self.run.run_id, index, index * self.run.tr_s, voxels)

    def _voxels(self, rec: io.BufferedReader, images: Array) -> Array:
        """Read the slices of a volume, in their order."""
        grid = self._grid
        is_kept = grid.dtype.name in VOLUME_DTYPES and not self._is_scaled
        voxels = np.empty(grid.shape, grid.dtype.name if is_kept else "float32", order="F")
        for z, image in enumerate(images):
            rec.seek(int(image["index in REC file"]) * grid.n_bytes)
            raw = rec.read(grid.n_bytes)
            if len(raw) < grid.n_bytes:
                raise InputError(f"{self._rec}: became shorter while it was being read; start again once it is whole.")
            stored = np.frombuffer(raw, grid.dtype).reshape(grid.shape[:2], order="F")
            with np.errstate(over="ignore", invalid="ignore"):  # a damaged slope, noticed where volumes are aligned
                scaled = stored * image["rescale slope"] + image["rescale intercept"] if self._is_scaled else stored
                voxels[:, :, z] = scaled
        return voxels


def name_of(path: Path) -> str:
    """Return the name under which a PAR file's run is replayed.

    Parameters
    ----------
    path : Path
        The .PAR file.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    return _read_par(path).name


def count_dynamics(path: Path) -> int:
    """Return the number of dynamics in a PAR file, by its header; 0 if it is not readable.

    Parameters
    ----------
    path : Path
        The .PAR file.
    """
    try:
        return len(np.unique(_read_par(path).images["dynamic scan number"]))
    except InputError:
        return 0


# ---------------------------------------------------------------- the header


@dataclass(frozen=True, slots=True, eq=False)
class _Par:
    """A PAR file: its general fields, a row for each image, and a digest of its bytes."""

    general: dict[str, Any]
    images: Array
    digest: str

    @property
    def name(self) -> str:
        return f"parrec-{int(self.general.get('acq_nr', 0))}-{self.digest[:10]}"

    @property
    def n_slices(self) -> int:
        return int(self.general["max_slices"])

    @property
    def is_version_4(self) -> bool:
        return "diffusion b value number" not in (self.images.dtype.names or ())

    def tr_claims(self, path: Path, images: Array) -> list[TrClaim]:
        """List what is said of the repetition time: by when dynamics began, and by the field, if that is one number."""
        claims = []
        dynamics, rows = np.unique(images["dynamic scan number"], return_index=True)
        began_s = images["dyn_scan_begin_time"][rows]
        if len(dynamics) > 1 and (np.diff(began_s) > 0).all():
            tr_s = round(float((began_s[-1] - began_s[0]) / (dynamics[-1] - dynamics[0])), 3)
            claims.append(TrClaim(tr_s, f"{path}, dyn_scan_begin_time"))
        said_ms = np.atleast_1d(self.general.get("repetition_time", []))
        if said_ms.size == 1:
            claims.append(TrClaim(round(float(said_ms[0]) / 1000, 6), f"{path}, Repetition time"))
        return claims


def _read_par(path: Path) -> _Par:
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_HEADER)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        # nibabel warns of what it cannot read; it is refused here.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            general, images = parse_PAR_header(io.StringIO(raw.decode("latin-1")))
    except (Warning, PARRECError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        # Its own words may quote a line of the header.
        raise InputError(
            f"{path}: not a readable PAR file of version 4, 4.1 or 4.2; export it again, or export DICOM files."
        ) from None
    lacks = {"max_slices", "off_center", "angulation"} - general.keys()
    if lacks or not len(images):
        raise InputError(f"{path}: a PAR file without images, or without their places; export it again.")
    return _Par(general, images, hashlib.sha256(raw).hexdigest())


def _rec_beside(path: Path) -> Path:
    """Find the file that has the voxels, whichever case its ending is in."""
    for ending in (".REC", ".rec", ".Rec"):
        rec = path.with_suffix(ending)
        if rec.is_file():
            return rec
    raise InputError(f"{path}: no .REC file of the same name beside it, which holds the voxels; copy both files.")


# ---------------------------------------------------------------- which images are the run


def _of_echo(path: Path, images: Array, echo: int) -> tuple[Array, int]:
    """Return a mask of the magnitude images of one echo, and how many of other kinds there are."""
    is_magnitude = images["image_type_mr"] == _MAGNITUDE
    if not is_magnitude.any():
        raise InputError(f"{path}: no magnitude images in it; give the files of a functional run.")
    # A field map has images of type 0 by another sequence.
    sequences, counts = np.unique(images["scanning sequence"][is_magnitude], return_counts=True)
    is_magnitude &= images["scanning sequence"] == sequences[counts.argmax()]
    echoes, rows = np.unique(images["echo number"][is_magnitude], return_index=True)
    times_ms = images["echo_time"][is_magnitude][rows]
    listed = ", ".join(f"{number}: {time_ms:g} ms" for number, time_ms in enumerate(times_ms, 1))
    if echo and not 1 <= echo <= len(echoes):
        raise InputError(f"{path}: there is no echo {echo}; it has {listed}.")
    if not echo and len(echoes) > 1:
        raise InputError(f"{path}: images of {len(echoes)} echoes ({listed}); choose one with --echo N.")
    is_taken = is_magnitude & (images["echo number"] == echoes[(echo or 1) - 1])
    return is_taken, int((~is_magnitude).sum())


def _complete(path: Path, par: _Par, is_taken: Array, n_in_rec: int) -> tuple[dict[int, Array], int]:
    """Return the rows of each complete volume, slice by slice, by its index, and how many others there are.

    Parameters
    ----------
    path : Path
        For messages.
    par : _Par
    is_taken : ndarray of bool
        Which rows are of the run.
    n_in_rec : int
        Number of images that the REC file has in full.
    """
    volumes: dict[int, Array] = {}
    n_lacking = 0
    rows = np.flatnonzero(is_taken)
    rows = rows[np.lexsort((par.images["slice number"][rows], par.images["dynamic scan number"][rows]))]
    dynamics, starts = np.unique(par.images["dynamic scan number"][rows], return_index=True)
    if not 1 <= dynamics[0] <= dynamics[-1] <= MOST_VOLUMES:
        raise InputError(f"{path}: its dynamics are numbered {dynamics[0]} to {dynamics[-1]}; export it again.")
    for dynamic, of_volume in zip(dynamics, np.split(rows, starts[1:]), strict=True):
        numbers, places = (par.images[name][of_volume] for name in ("slice number", "index in REC file"))
        if len(set(numbers.tolist())) < len(numbers):
            raise InputError(f"{path}: {_why_several(par.images[rows])}; only one volume a dynamic can be decoded.")
        is_there = (places >= 0) & (places < n_in_rec)
        if is_there.all() and len(numbers) == par.n_slices and numbers[0] == 1 and numbers[-1] == par.n_slices:
            volumes[int(dynamic) - 1] = of_volume
        else:
            n_lacking += 1
    if not volumes:
        raise InputError(f"{path}: no volume has all of its {par.n_slices} slices; copy both files again.")
    if len(set(par.images["index in REC file"][rows].tolist())) < len(rows):
        raise InputError(f"{path}: two images are said to lie at one place of the REC file; export it again.")
    return volumes, n_lacking


def _why_several(images: Array) -> str:
    for name, called in _OTHERS.items():
        if name in (images.dtype.names or ()) and len(np.unique(images[name])) > 1:
            return f"its dynamics have images of several {called}"
    return "its dynamics have slices that come twice"


def _left_out(path: Path, par: _Par, volumes: dict[int, Array], n_lacking: int, n_others: int) -> list[str]:
    notes = []
    if n_others:
        notes.append(f"{path}: {number_of(n_others, 'image')} that are no magnitudes, or of another sequence, left out")
    if n_lacking:
        notes.append(f"{path}: {number_of(n_lacking, 'volume')} without all slices, taken for lost")
    if first := min(volumes):
        notes.append(f"{path}: its first volume is number {first + 1}: those before it are taken for lost")
    n_promised, n_there = int(par.general.get("max_dynamics", 0)), max(volumes) + 1
    if n_promised > n_there:
        notes.append(f"{path}: it speaks of {n_promised} dynamics, and its last volume is number {n_there}")
    if n_between := n_there - first - len(volumes):
        notes.append(f"{path}: {number_of(n_between, 'volume')} missing between the first and the last")
    if par.is_version_4:
        notes.append(f"{path}: of version 4, whose voxels dcm2niix and nibabel place half a voxel apart: as dcm2niix")
    taken = par.images[np.concatenate(list(volumes.values()))]
    factors = taken["rescale slope"] * taken["scale slope"]
    if np.ptp(factors) > 1e-3 * np.abs(factors).max():
        notes.append(f"{path}: its images are scaled differently; values are those that the scanner's console shows")
    return notes


# ---------------------------------------------------------------- where the voxels are


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    affine: Float64Array

    @property
    def n_bytes(self) -> int:
        """Number of bytes of an image."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize


def _grid_of(path: Path, par: _Par, images: Array) -> _Grid:
    """Return the grid on which images lie, and the type of their numbers."""
    for name in ("image pixel size", "recon resolution", "slice orientation", "pixel spacing", "slice thickness",
                 "slice gap"):  # fmt: skip
        if (images[name] != images[name][0]).any():
            raise InputError(f"{path}: its images differ in {name}; give the files of one functional run.")
    n_columns, n_rows = (int(n) for n in images["recon resolution"][0])
    shape = n_columns, n_rows, par.n_slices
    if min(shape) < 1 or max(shape) > LONGEST_AXIS or n_columns * n_rows * par.n_slices > MOST_VOXELS:
        raise InputError(
            f"{path}: its shape is {shape}; a volume has at most {LONGEST_AXIS} voxels along an axis and {MOST_VOXELS} "
            "in all."
        )
    if int(images["image pixel size"][0]) not in (8, 16):
        raise InputError(f"{path}: its voxels have neither 8 nor 16 bits; export it again.")
    # The affine follows from any image and the number of slices.
    volume = np.repeat(images[:1], par.n_slices)
    volume["slice number"] = np.arange(1, par.n_slices + 1)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            header = PARRECHeader(par.general, volume, permit_truncated=True)
            affine = np.asarray(header.get_affine(), dtype=np.float64)
    except (PARRECError, ValueError, KeyError, TypeError, IndexError, OverflowError):
        raise InputError(f"{path}: its header does not say where its voxels are; export it again.") from None
    if not (np.abs(affine) < LARGEST_MM).all() or np.linalg.matrix_rank(affine) < 4:
        raise InputError(f"{path}: its header says that its voxels span no volume; export it again.")
    if par.is_version_4:
        affine[:3, 3] -= affine[:3, :2].sum(axis=1) / 2
    return _Grid(shape, header.get_data_dtype(), affine)
