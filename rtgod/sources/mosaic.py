"""A run from a folder of Siemens mosaic DICOM files, each of which is a volume, with its slices tiled into one picture.

This module handles the order and identity of the files and the geometry of a mosaic. It guarantees that no data that
identify a person leave it: not in the run, not in a volume, not in an error.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array, Volume
from rtgod.settings import EventsSettings
from rtgod.sources import TrClaim, acquisition_id, agreed_tr, run_of
from rtgod.sources.beside import find_events

_DAY_S = 86400.0
_DICOM_DIRECTORY = "1.2.840.10008.1.3.10"
_ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
_MAKERS = {"SIEMENS": "Siemens", "GE ": "GE", "PHILIPS": "Philips", "CANON": "Canon", "TOSHIBA": "Toshiba"}
#: Siemens software that exports mosaics without the private header that tells how their slices lie.
_WITHOUT_CSA = re.compile(r"\bXA1[01]\b")
#: Largest change of position and angle between files that counts as the scanner following the head.
_MOST_FOLLOWED_MM, _MOST_FOLLOWED_DEG = 30.0, 20.0
_SERIES_TAGS = [
    "SOPClassUID", "ImageType", "Manufacturer", "SeriesInstanceUID", "SeriesNumber", "NumberOfFrames",
]  # fmt: skip


class MosaicSeries:
    """A folder of Siemens mosaics as a source.

    Parameters
    ----------
    folder : Path
        Folder with the DICOM files of one series, under any names; files that are not DICOM are passed over.
    events : Path, optional
        Events table that gives the run its blocks; by default the one in the folder or beside it, if any.
    reading : EventsSettings, optional
        Rules by which rows of the events table are trials; see `rtgod.events.table.read_events`.
    run_id : str, optional
        By default "series-<SeriesNumber>-<first 10 hexadecimal digits of the SHA-256 of SeriesInstanceUID>".
    subject : str, optional
        By default "unknown": the files' own name and number of the patient are never read.
    tr_s : float, optional
        Repetition time in seconds, if the files give no possible one.
    series : int, optional
        SeriesNumber to read, if the folder holds several.

    Attributes
    ----------
    run : Run
    events : Path or None
        The events table that gave the run its blocks.
    notes : tuple of str
        Decisions made if the files and `tr_s` disagree, and volumes that are missing at the start.
    contradiction : str
        Reason why the run should not be used as it is; see `rtgod.sources.agreed_tr`.
    read : TrialsRead or None
        Trials and other rows of the events table; None without a table.

    Raises
    ------
    InputError
        If the folder holds no series of Siemens mosaics or several, or a file of it is cut short, is compressed in a
        way that cannot be read here, contradicts another or lacks its place in space or in time. While iterating: if
        the voxels of a file cannot be decoded.

    Notes
    -----
    Volumes are of shape (x, y, z): along the mosaic's columns, its rows, and from tile to tile. They keep the files'
    voxel type, int16 or uint16, unless the files ask for rescaling; then they are float32.

    At first only headers are read; a volume's voxels are read when iteration reaches it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        events: Path | None = None,
        reading: EventsSettings | None = None,
        run_id: str | None = None,
        subject: str | None = None,
        tr_s: float | None = None,
        series: int | None = None,
    ) -> None:
        entries = _choose(folder, _survey(folder), series)
        frames = [_read_frame(entry.path) for entry in entries]
        grid = _common_grid(frames)
        claims = [TrClaim(grid.tr_s, f"{folder}, RepetitionTime (0018,0080)")] if grid.tr_s else []
        tr = agreed_tr(folder, claims, tr_s, "no RepetitionTime in its files")
        tr_s, self.notes, self.contradiction = tr.tr_s, tr.notes, tr.contradiction
        self.events = events or find_events(folder)
        self._frames = _indexed(folder, _without_duplicates(frames), tr_s)
        self._acquired_s = _acquired_s(self._frames, tr_s)
        self._uid = entries[0].uid
        self.run, self.read = run_of(
            folder,
            self.events,
            reading,
            run_id=run_id or _name_of(entries[0]),
            subject=subject or "unknown",
            tr_s=tr_s,
            shape=grid.shape,
            affine=grid.affine,
            n_volumes=max(self._frames) + 1,
            coil=grid.coil,
        )
        if first_index := min(self._frames):
            self.notes += (_missing_first(folder, first_index),)

    def acquisition(self) -> str:
        """Return the identity of the run, from the scanner's identity of the series and the run's name."""
        return acquisition_id(self.run.run_id, self._uid)

    def __iter__(self) -> Iterator[Volume]:
        """Read the volumes one file at a time."""
        for index, frame in self._frames.items():
            yield Volume(self.run.run_id, index, self._acquired_s[index], _read_voxels(frame))


def name_and_start(folder: Path) -> tuple[str, float | None]:
    """Read the name and the start time of the only series in a folder; its events are not read.

    Parameters
    ----------
    folder : Path
        As for `MosaicSeries`.

    Returns
    -------
    run_id : str
        The name under which `MosaicSeries` replays it.
    started_s : float or None
        Earliest time of day at which a volume was acquired, in seconds; None if a file gives no time.

    Raises
    ------
    InputError
        If the folder does not hold one series of Siemens mosaics, or a file of it cannot be read.
    """
    entries = _choose(folder, _survey(folder), None)
    clocks = [_read_frame(entry.path).clock_s for entry in entries]
    times_s = [clock_s for clock_s in clocks if clock_s is not None]
    return _name_of(entries[0]), min(times_s) if len(times_s) == len(clocks) else None


def _name_of(entry: _Entry) -> str:
    return f"series-{entry.number}-{hashlib.sha256(entry.uid.encode()).hexdigest()[:10]}"


# ---------------------------------------------------------------- which files are the series


@dataclass(frozen=True, slots=True)
class _Entry:
    """A DICOM file of the folder; `other_kind` names its kind if it is not a Siemens mosaic."""

    path: Path
    uid: str
    number: int
    other_kind: str | None


def _survey(folder: Path) -> list[_Entry]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}).") from error
    entries = [entry for path in paths if _is_dicom(path) and (entry := _read_entry(path))]
    if not entries:
        nifti = [path.name for path in paths if path.name.lower().endswith((".nii", ".nii.gz"))]
        packed = any(path.suffix == ".gz" and path.name not in nifti for path in paths)
        advice = "unpack the .gz files first" if packed else "give the folder that directly holds a series' files"
        if nifti and not packed:
            advice = f"to read its NIfTI files, give one of them, such as {nifti[0]}"
        raise InputError(f"{folder}: no DICOM files in it; {advice}.")
    return entries


def holds_dicom(folder: Path) -> bool:
    """Return whether a folder directly holds a DICOM file.

    Parameters
    ----------
    folder : Path
        Folders in it, and files whose names begin with a dot, are passed over.

    Raises
    ------
    InputError
        If the folder cannot be read.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}).") from error
    for path in paths:
        # A file that cannot be read does not count.
        with suppress(OSError):
            if path.is_file() and not path.name.startswith(".") and _begins_as_dicom(path):
                return True
    return False


def _begins_as_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _is_dicom(path: Path) -> bool:
    with _reading(path):
        if _begins_as_dicom(path):
            return True
    if path.suffix.lower() in {".dcm", ".ima"}:
        raise InputError(f"{path}: named like a DICOM file but is not one, or only its start is there; copy it again.")
    return False


def _read_entry(path: Path) -> _Entry | None:
    with _reading(path):
        dataset, n_left = _read_header(path, specific_tags=_SERIES_TAGS)
        if dataset.file_meta.get("MediaStorageSOPClassUID") == _DICOM_DIRECTORY:
            return None
        if n_left == 0:
            raise InputError(f"{path}: ends before its voxels, so it is cut short or no image; copy or remove it.")
        uid, number = str(dataset.get("SeriesInstanceUID", "")), int(dataset.get("SeriesNumber") or 0)
        return _Entry(path, uid, number, _other_kind(dataset))


def _other_kind(dataset: FileDataset) -> str | None:
    enhanced = dataset.get("SOPClassUID") == _ENHANCED_MR or int(dataset.get("NumberOfFrames") or 1) > 1
    if "MOSAIC" in _image_type(dataset) and not enhanced:
        return None
    manufacturer = str(dataset.get("Manufacturer", "")).upper()
    # A name from a fixed list, not the field itself, which is free text.
    maker = next((name for key, name in _MAKERS.items() if manufacturer.startswith(key)), "unrecognised")
    return f"{maker} {'enhanced multi-frame' if enhanced else 'single-slice'}"


def _choose(folder: Path, entries: list[_Entry], series: int | None) -> list[_Entry]:
    counts = Counter((entry.number, entry.uid) for entry in entries)
    wanted = [key for key in counts if series is None or key[0] == series]
    if len(wanted) != 1:
        listed = ", ".join(f"series {number} ({n} files)" for (number, _), n in sorted(counts.items())[:12])
        listed += ", …" if len(counts) > 12 else ""
        if series is None:
            advice = "choose one with --series N, or give a folder with one series"
        elif not wanted:
            advice = f"there is no series {series}"
        else:
            advice = f"{len(wanted)} different ones are numbered {series}, so give each a folder of its own"
        raise InputError(f"{folder} holds {listed}: {advice}.")
    chosen = [entry for entry in entries if (entry.number, entry.uid) == wanted[0]]
    for entry in chosen:
        if entry.other_kind:
            raise InputError(
                f"{entry.path}: its kind is {entry.other_kind} DICOM, but only Siemens mosaics are read yet; "
                f"{_advice(entry.other_kind)}."
            )
    return chosen


def _advice(other_kind: str) -> str:
    # Scanners of other makers write no mosaics, and Siemens's enhanced files are never mosaics.
    if other_kind == "Siemens single-slice":
        return "export the series as mosaics, or convert it to NIfTI, with dcm2niix, say"
    return "convert the series to NIfTI, with dcm2niix, say, and give that"


# ---------------------------------------------------------------- what one file says


@dataclass(frozen=True, slots=True)
class _Grid:
    """Properties on which the files of a series must agree."""

    rows: int
    columns: int
    shape: tuple[int, int, int]
    affine: Float64Array
    tr_s: float
    echo_ms: float
    rescale: tuple[float, float]
    coil: str = ""

    def differences(self, other: _Grid) -> list[str]:
        checks = {
            "matrix": (self.rows, self.columns, self.shape) == (other.rows, other.columns, other.shape),
            "position": np.allclose(self.affine, other.affine, rtol=0, atol=1e-3),
            "repetition time": self.tr_s == other.tr_s,
            "echo time": self.echo_ms == other.echo_ms,
            "rescaling": self.rescale == other.rescale,
        }
        return [name for name, agrees in checks.items() if not agrees]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Header of one file: its place in the series and its grid. `clock_s` counts from midnight."""

    path: Path
    instance: int | None
    acquisition: int | None
    clock_s: float | None
    grid: _Grid


def _read_frame(path: Path) -> _Frame:
    with _reading(path):
        dataset, n_left = _read_header(path)
        _check_readable(path, dataset, n_left)
        if "P" in _image_type(dataset):
            raise InputError(f"{path}: a phase image; give the folder of the magnitude series.")
        instance, acquisition = dataset.get("InstanceNumber"), dataset.get("AcquisitionNumber")
        return _Frame(
            path=path,
            instance=None if instance is None else int(instance),
            acquisition=None if acquisition is None else int(acquisition),
            clock_s=_seconds_of_day(str(dataset.get("AcquisitionTime") or "")),
            grid=_read_grid(path, dataset),
        )


def _check_readable(path: Path, dataset: FileDataset, n_left: int) -> None:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not _has_decoder(syntax):
        raise InputError(f"{path}: compressed as {syntax.name}, which cannot be read here; export it uncompressed.")
    if dataset.BitsAllocated != 16 or dataset.get("SamplesPerPixel", 1) != 1:
        raise InputError(f"{path}: its voxels are not single 16-bit numbers; export the original series.")
    # The element's own header is 12 bytes with an explicit VR, 8 without one. The length of deflated and encapsulated
    # voxels is not known beforehand.
    n_expected = (8 if syntax.is_implicit_VR else 12) + 2 * dataset.Rows * dataset.Columns
    if not (syntax.is_compressed or syntax.is_deflated) and n_left < n_expected:
        raise InputError(f"{path}: cut short, {n_expected - n_left} bytes of its voxels are missing; copy it again.")


def _has_decoder(syntax: UID) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:  # pydicom has no decoder, whatever is installed
        return False


def _read_grid(path: Path, dataset: FileDataset) -> _Grid:
    csa = _read_csa(dataset)
    if not csa.get("NumberOfImagesInMosaic") or len(csa.get("SliceNormalVector", ())) != 3:
        raise InputError(
            f"{path}: no number and direction of slices, because Siemens's private CSA header (0029,1010) is missing "
            f"or damaged; {_advice_without_csa(dataset)}."
        )
    n_slices = int(csa["NumberOfImagesInMosaic"][0])
    n_tiles = math.ceil(math.sqrt(n_slices))
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if n_tiles < 1 or rows % n_tiles or columns % n_tiles:
        raise InputError(f"{path}: {n_slices} slices cannot tile {columns} × {rows} pixels; export the series again.")
    shape = (columns // n_tiles, rows // n_tiles, n_slices)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return _Grid(
        rows=rows,
        columns=columns,
        shape=shape,
        affine=_mosaic_affine(path, dataset, shape, np.array(csa["SliceNormalVector"])),
        tr_s=float(dataset.get("RepetitionTime") or 0) / 1000,
        echo_ms=float(dataset.get("EchoTime") or 0),
        rescale=(1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)),
        coil=str(dataset.get("ReceiveCoilName") or ""),
    )


def _advice_without_csa(dataset: FileDataset) -> str:
    versions = dataset.get("SoftwareVersions") or ""
    if match := _WITHOUT_CSA.search(str(versions)):
        return (
            f"software {match[0]} exports mosaics without it, so export the series as enhanced DICOM and convert that "
            "to NIfTI, with dcm2niix, say"
        )
    return "export, or anonymise, with private fields kept, or convert the original series to NIfTI"


def _numbers(path: Path, dataset: FileDataset, keyword: str, n: int) -> list[float]:
    """Read the `n` numbers of a field that is needed to place the voxels."""
    value = getattr(dataset, keyword)  # `_reading` reports a missing field
    values = [value] if n == 1 else list(value or ())
    if len(values) != n or any(number is None for number in values):
        raise InputError(_without_field(path, keyword, "is empty" if n == 1 else f"is empty, or not {n} numbers"))
    return [float(number) for number in values]


def _mosaic_affine(
    path: Path, dataset: FileDataset, shape: tuple[int, int, int], csa_normal: Float64Array
) -> Float64Array:
    """Compute the affine from voxel indices (column, row, tile) to RAS+ millimetres."""
    # DICOM: the first three cosines run along a row of pixels, that is from column to column; PixelSpacing begins with
    # the distance between rows.
    along_x, along_y = np.array(_numbers(path, dataset, "ImageOrientationPatient", 6)).reshape(2, 3)
    mm_y, mm_x = _numbers(path, dataset, "PixelSpacing", 2)
    spacing = "SpacingBetweenSlices" if dataset.get("SpacingBetweenSlices") else "SliceThickness"
    (mm_z,) = _numbers(path, dataset, spacing, 1)
    # The cross product is the more exact normal, but only the CSA header tells whether the slices are numbered along it
    # or against it.
    along_z = np.cross(along_x, along_y)
    along_z *= np.sign(along_z @ csa_normal)
    steps = np.column_stack([along_x * mm_x, along_y * mm_y, along_z * mm_z])
    # Siemens puts the centre of the whole mosaic at the centre of the first slice, and gives the mosaic's corner.
    n_beyond = np.array([dataset.Columns - shape[0], dataset.Rows - shape[1]]) / 2
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = np.array(_numbers(path, dataset, "ImagePositionPatient", 3)) + steps[:, :2] @ n_beyond
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise InputError(f"{path}: its orientation, position and spacing span no volume; export the series again.")
    to_ras: Float64Array = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's x and y run to left and posterior
    return to_ras @ affine


def _read_csa(dataset: FileDataset) -> dict[str, list[float]]:
    """Read two fields of Siemens's private image header (format "SV10"); empty if it is missing or damaged.

    nibabel's reader is not used, as importing it warns that it is experimental.
    """
    fields: dict[str, list[float]] = {}
    try:
        raw = dataset.private_block(0x0029, "SIEMENS CSA HEADER")[0x10].value
        if raw[:4] != b"SV10":
            return {}
        (n_fields,) = struct.unpack_from("<I", raw, 8)
        offset = 16
        for _ in range(n_fields):
            name, n_items = struct.unpack_from("<64s12xi4x", raw, offset)
            offset += 84
            values = []
            for _ in range(n_items):
                (n_bytes,) = struct.unpack_from("<4xi8x", raw, offset)
                values.append(raw[offset + 16 : offset + 16 + n_bytes].partition(b"\0")[0].strip())
                offset += 16 + (n_bytes + 3) // 4 * 4
            if (key := name.partition(b"\0")[0].decode("latin-1")) in {"NumberOfImagesInMosaic", "SliceNormalVector"}:
                fields[key] = [float(value) for value in values if value]
    except (KeyError, TypeError, ValueError, struct.error):
        return {}
    return fields


def _image_type(dataset: FileDataset) -> Sequence[str]:
    value = dataset.get("ImageType") or ()
    return (value,) if isinstance(value, str) else tuple(value)


def _seconds_of_day(text: str) -> float | None:
    match = re.fullmatch(r"(\d\d):?(\d\d):?(\d\d(?:\.\d*)?)\s*", text)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None


# ---------------------------------------------------------------- order and time


def _common_grid(frames: list[_Frame]) -> _Grid:
    first = frames[0]
    for frame in frames[1:]:
        if differences := first.grid.differences(frame.grid):
            if differences == ["position"] and _follows(first.grid.affine, frame.grid.affine):
                raise InputError(
                    f"{frame.path}: its position is a little other than that of {first.path.name}: the scanner "
                    "followed the head (prospective correction), which is not supported; switch it off, or, where the "
                    "files are of two series, take out one's."
                )
            raise InputError(
                f"{frame.path}: its {' and '.join(differences)} differs from {first.path.name}; a run has one geometry "
                "and one timing, so take out the files that are of another."
            )
    return first.grid


def _follows(affine: Float64Array, other: Float64Array) -> bool:
    """Return whether two positions are as near as those of a moving head, with the same voxel sizes."""
    steps, other_steps = affine[:3, :3], other[:3, :3]
    sizes, other_sizes = np.linalg.norm(steps, axis=0), np.linalg.norm(other_steps, axis=0)
    cosines = (steps / sizes * (other_steps / other_sizes)).sum(axis=0)
    return bool(
        np.allclose(sizes, other_sizes, rtol=0, atol=1e-3)
        and np.linalg.norm(affine[:3, 3] - other[:3, 3]) < _MOST_FOLLOWED_MM
        and cosines.min() > math.cos(math.radians(_MOST_FOLLOWED_DEG))
    )


def _missing_first(folder: Path, n: int) -> str:
    lost = "one volume before it is" if n == 1 else f"{n} volumes before it are"
    return f"{folder}: the first file is number {n + 1}: {lost} taken for lost"


def _without_duplicates(frames: list[_Frame]) -> list[_Frame]:
    """Drop every file that repeats another.

    A file that was sent twice has the same InstanceNumber and AcquisitionNumber, whatever its name. SOPInstanceUID is
    not more reliable: some anonymisers give each copy a new one, others give all files the same. So the voxels of files
    with equal numbers decide whether they are copies or contradict each other.
    """
    unique: dict[tuple[int | None, int | None], _Frame] = {}
    for frame in frames:
        earlier = unique.setdefault((frame.instance, frame.acquisition), frame)
        if earlier is not frame and not np.array_equal(_read_voxels(earlier), _read_voxels(frame)):
            if frame.instance is None and frame.acquisition is None:
                raise InputError(
                    f"{earlier.path} and {frame.path.name} have neither InstanceNumber (0020,0013) nor "
                    "AcquisitionNumber (0020,0012), so nothing says which came first; export with these numbers kept."
                )
            raise InputError(
                f"{earlier.path} and {frame.path.name} have the same InstanceNumber and AcquisitionNumber but "
                "different voxels; keep the one that belongs to the run, or export with these numbers kept."
            )
    return list(unique.values())


def _indexed(folder: Path, frames: list[_Frame], tr_s: float) -> dict[int, _Frame]:
    """Order the volumes by their index in the run, ascending.

    Siemens numbers the volumes of a series from 1 in both InstanceNumber and AcquisitionNumber (all series that this
    was written against do); file names follow the order of arrival at best. Counting from 1, and not from the first
    file in the folder, keeps every volume at its time in the run even if the first ones are lost. InstanceNumber is
    preferred; AcquisitionNumber is used if InstanceNumber is absent, repeats, or does not step with the clock.
    """
    by_instance = _by_number([frame.instance for frame in frames], frames)
    by_acquisition = _by_number([frame.acquisition for frame in frames], frames)
    usable = [numbering for numbering in (by_instance, by_acquisition) if numbering]
    if not usable:
        raise InputError(f"{folder}: neither InstanceNumber nor AcquisitionNumber tells its files apart; export again.")
    numbering = next((numbering for numbering in usable if _keeps_time(numbering, tr_s)), usable[0])
    first_number = min(1, *numbering)
    return {number - first_number: frame for number, frame in numbering.items()}


def _by_number(numbers: Sequence[int | None], frames: Sequence[_Frame]) -> dict[int, _Frame]:
    """Order frames by their numbers; return an empty mapping if a number is missing or repeats."""
    numbered = {number: frame for number, frame in zip(numbers, frames, strict=True) if number is not None}
    return dict(sorted(numbered.items())) if len(numbered) == len(frames) else {}


def _keeps_time(numbering: dict[int, _Frame], tr_s: float) -> bool:
    elapsed_s = _elapsed_s(list(numbering.values()))
    return elapsed_s is not None and all(
        abs(t_after - t_before - (after - before) * tr_s) < (after - before) * tr_s / 2
        for (before, t_before), (after, t_after) in pairwise(zip(numbering, elapsed_s, strict=True))
    )


def _acquired_s(frames: dict[int, _Frame], tr_s: float) -> dict[int, float]:
    """Return the time of each volume in seconds from the nominal start of volume 0, by AcquisitionTime if usable."""
    elapsed_s = _elapsed_s(list(frames.values()))
    if elapsed_s is None:
        return {index: index * tr_s for index in frames}
    start_s = min(frames) * tr_s
    return {index: start_s + elapsed for index, elapsed in zip(frames, elapsed_s, strict=True)}


def _elapsed_s(frames: Sequence[_Frame]) -> list[float] | None:
    """Return the seconds from the first frame to each; None unless all have times that ascend (past midnight, too)."""
    clocks = [frame.clock_s for frame in frames if frame.clock_s is not None]
    steps = [(after - before) % _DAY_S for before, after in pairwise(clocks)]
    if len(clocks) < len(frames) or not all(0 < step < _DAY_S / 2 for step in steps):
        return None
    # DICOM's times have microseconds; further digits are rounding errors of the sum.
    return [round(elapsed, 6) for elapsed in accumulate(steps, initial=0.0)]


# ---------------------------------------------------------------- pydicom


def _read_voxels(frame: _Frame) -> Array:
    """Read the voxels of one file, shape (x, y, z)."""
    grid = frame.grid
    with _reading(frame.path):
        mosaic = pydicom.dcmread(frame.path).pixel_array
        if mosaic.shape != (grid.rows, grid.columns):
            raise InputError(f"{frame.path}: changed while it was being read; start again once the folder is complete.")
    n_x, n_y, n_z = grid.shape
    tiles = mosaic.reshape(grid.rows // n_y, n_y, grid.columns // n_x, n_x).swapaxes(1, 2)
    voxels = tiles.reshape(-1, n_y, n_x)[:n_z].transpose(2, 1, 0)
    if grid.rescale == (1.0, 0.0):
        return voxels
    slope, intercept = grid.rescale
    return (voxels * slope + intercept).astype(np.float32)


def _read_header(path: Path, specific_tags: list[str] | None = None) -> tuple[FileDataset, int]:
    """Read the elements before the voxels, and count the bytes that follow them."""
    with path.open("rb") as stream:
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=specific_tags)
        return dataset, path.stat().st_size - stream.tell()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn any error of pydicom on a broken file into one InputError.

    Its warnings and messages are neither passed on nor chained: they quote the file's values, which may be a name.
    """
    with warnings.catch_warnings():
        # These warn of values that break the standard (too long, odd characters); values used here are checked.
        warnings.simplefilter("ignore", UserWarning)
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - on broken bytes pydicom raises whatever they lead to
            # The name of a field identifies nobody, unlike its value.
            if isinstance(error, AttributeError) and error.name and tag_for_keyword(error.name) is not None:
                raise InputError(_without_field(path, error.name, "is missing")) from None
            # pydicom's own OSErrors have no strerror; errors of the operating system have.
            if isinstance(error, OSError) and error.strerror:
                raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
            raise InputError(f"{path}: a DICOM file that cannot be decoded; copy or export it again.") from None


def _without_field(path: Path, keyword: str, problem: str) -> str:
    tag = tag_for_keyword(keyword) or 0
    return (
        f"{path}: {keyword} ({tag >> 16:04x},{tag & 0xFFFF:04x}) {problem}, and without it the voxels cannot be read "
        "or placed; anonymise with this field kept, or export the series again."
    )
