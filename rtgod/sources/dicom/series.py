"""A run from a folder of DICOM files, of any format that `rtgod.sources.dicom.pieces.DicomFormat` describes.

This module chooses the files of a series, and gives their volumes; it guarantees that no data that identify a person
leave it: not in the run, not in a volume, not in an error.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from rtgod.errors import InputError
from rtgod.events.counting import discard_notes, those_used
from rtgod.messages import Array, Volume
from rtgod.settings import EventsSettings
from rtgod.sources import TrClaim, acquisition_id, agreed_tr, run_of
from rtgod.sources.beside import find_events
from rtgod.sources.dicom.echo_volumes import by_echo, laid_out, notes_on, stack_of_all, with_all_echoes
from rtgod.sources.dicom.enhanced import EnhancedMultiFrame
from rtgod.sources.dicom.fields import maker_of
from rtgod.sources.dicom.file import begins_as_dicom, check_readable, read_header, read_pixels, shielded
from rtgod.sources.dicom.lone_series import FEWEST_JOINED, runs_of
from rtgod.sources.dicom.pieces import SURVEYED, DicomFormat, Piece
from rtgod.sources.dicom.siemens_mosaic import SiemensMosaic
from rtgod.sources.dicom.single_slice import SingleSlice
from rtgod.sources.dicom.times import clock_s
from rtgod.sources.echoes import Combine, Echo, combined, in_words, weights_of
from rtgod.text import number_of

#: Group of entry points by which packages add formats of their own, which are asked first.
GROUP = "rtgod.dicom_formats"
_DICOM_DIRECTORY = "1.2.840.10008.1.3.10"


@cache
def formats() -> tuple[DicomFormat, ...]:
    """Return all formats: those of other packages, then rtgod's own."""
    added = [point.load()() for point in entry_points(group=GROUP)]
    return (*added, SiemensMosaic(), EnhancedMultiFrame(), SingleSlice())


@cache
def tags_read() -> tuple[int, ...]:
    """Return the elements that some format reads, as 0xGGGGEEEE."""
    named = (*SURVEYED, *(tag for known in formats() for tag in known.tags))
    return tuple(dict.fromkeys(Tag(tag) for tag in named))


def format_of(header: FileDataset) -> DicomFormat | None:
    """Return the format of a file; None if it is of none.

    Parameters
    ----------
    header : FileDataset
        With the elements of `tags_read`.
    """
    return next((known for known in formats() if known.fits(header)), None)


def alike(header: FileDataset) -> tuple[str, ...]:
    """Return what files of one run share even if the scanner gave each volume a series of its own.

    Parameters
    ----------
    header : FileDataset
        With the elements of `tags_read`.
    """
    fields = ("FrameOfReferenceUID", "ProtocolName", "Rows", "Columns", "ImageType", "NumberOfFrames")
    return tuple(str(header.get(name, "")) for name in fields)


def run_name(number: int, uid: str) -> str:
    """Name a run after its series, without the scanner's own identity of it.

    Parameters
    ----------
    number : int
        SeriesNumber.
    uid : str
        SeriesInstanceUID, of which only a digest is shown.
    """
    return f"series-{number}-{hashlib.sha256(uid.encode()).hexdigest()[:10]}"


class DicomSeries:
    """A folder of DICOM files as a source.

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
        SeriesNumber to read, if the folder holds several; of series of one volume each, the run's first.
    echo : int or Combine
        Echo to read, from 1 by echo time, if the series has several; or all of them, combined.

    Attributes
    ----------
    run : Run
    events : Path or None
        The events table that gave the run its blocks.
    notes : tuple of str
        Decisions made if the files and `tr_s` disagree, and what is left out: volumes that are missing at the start or
        lack slices, phase images and others that are no magnitudes.
    contradiction : str
        Reason why the run should not be used as it is; see `rtgod.sources.agreed_tr`.
    read : TrialsRead or None
        Trials and other rows of the events table; None without a table.

    Raises
    ------
    InputError
        If the folder holds no series or several, or a file of it is cut short, is compressed in a way that cannot be
        read here, contradicts another or lacks its place in space or in time. While iterating: if the voxels of a file
        cannot be decoded.

    Notes
    -----
    Volumes are of shape (x, y, z): along a slice's columns, its rows, and from slice to slice; tiles of a mosaic keep
    their order, other slices ascend along the cross product of the directions of columns and rows. Volumes keep the
    files' voxel type, int16 or uint16; where the files ask for rescaling, or echoes are combined, they are float32.

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
        echo: Echo = 0,
    ) -> None:
        entries = _choose(folder, _survey(folder), series, tr_s)
        self._entries = {entry.path: entry for entry in entries}
        self._pixels: tuple[Path, Array] | None = None
        groups, notes = _read_pieces(folder, entries, echo)
        stack = stack_of_all(groups)
        claims = [TrClaim(stack.grid.tr_s, f"{folder}, RepetitionTime (0018,0080)")] if stack.grid.tr_s else []
        tr = agreed_tr(folder, claims, tr_s, "no RepetitionTime in its files")
        self._weights: list[float] = []
        if isinstance(echo, Combine):
            echoes_ms = [group[0].grid.echo_ms for group in groups]
            try:
                self._weights = weights_of(echoes_ms, echo.t2star_ms)
            except InputError as error:
                raise InputError(f"{folder}: {error}") from error
            notes.append(
                f"{folder}: {len(groups)} echoes ({in_words(echoes_ms)}) are combined, for T2* of {echo.t2star_ms:g} ms"
            )
        self._echoes = laid_out(folder, groups, stack, self._decode, tr.tr_s)
        self._indices = with_all_echoes(folder, self._echoes)
        self._uid = entries[0].uid
        self._n_discarded = reading.discard_volumes if reading else 0
        self.events, self.contradiction = events or find_events(folder), tr.contradiction
        self.run, self.read = run_of(
            folder,
            self.events,
            reading,
            run_id=run_id or _name_of(entries[0]),
            subject=subject or "unknown",
            tr_s=tr.tr_s,
            shape=stack.shape,
            affine=stack.affine,
            n_volumes=max(set.union(*(one.indices for one in self._echoes))) + 1,
            coil=stack.grid.coil,
        )
        n_promised = max(piece.n_promised for group in groups for piece in group)
        unused = discard_notes(reading, is_said=self.read is not None)
        self.notes = (*tr.notes, *notes, *notes_on(folder, self._echoes, n_promised), *unused)

    def acquisition(self) -> str:
        """Return the identity of the run, from the scanner's identity of the series and the run's name."""
        return acquisition_id(self.run.run_id, self._uid)

    def __iter__(self) -> Iterator[Volume]:
        """Read the volumes one by one."""
        return those_used(self._delivered(), self._n_discarded, self.run.tr_s)

    def _delivered(self) -> Iterator[Volume]:
        for index in self._indices:
            echoes = [echo.voxels(index, self._decode) for echo in self._echoes]
            voxels = combined(echoes, self._weights) if self._weights else echoes[0]
            yield Volume(self.run.run_id, index, self._echoes[0].acquired_s[index], voxels)
        self._pixels = None

    def _decode(self, piece: Piece) -> Array:
        """Decode the slices of a piece; a file that holds several volumes is read once for those in turn."""
        entry = self._entries[piece.path]
        if self._pixels is None or self._pixels[0] != piece.path:
            self._pixels = piece.path, read_pixels(piece.path, entry.header, entry.start)
        try:
            voxels = entry.format.slices(self._pixels[1], piece)
        except (ValueError, IndexError):
            voxels = self._pixels[1][:0]
        if voxels.shape != (piece.grid.n_columns, piece.grid.n_rows, len(piece.planes)):
            raise InputError(f"{piece.path}: changed while it was being read; start again once the folder is complete.")
        return voxels


def name_and_start(folder: Path) -> tuple[str, float | None]:
    """Read the name and the start time of the only series in a folder; its events are not read.

    Parameters
    ----------
    folder : Path
        As for `DicomSeries`.

    Returns
    -------
    run_id : str
        The name under which `DicomSeries` replays it.
    started_s : float or None
        Earliest time of day at which a volume was acquired, in seconds; None if a file gives no time.

    Raises
    ------
    InputError
        If the folder does not hold one series, or a file of it cannot be read.
    """
    entries = _choose(folder, _survey(folder), None)
    ((pieces, *_), _) = _read_pieces(folder, entries, Combine())  # of whichever echo
    return _name_of(entries[0]), clock_s(pieces)


def _name_of(entry: _Entry) -> str:
    return run_name(entry.number, entry.uid)


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
    for path in _files(folder):
        # A file that cannot be read does not count.
        with suppress(OSError):
            if begins_as_dicom(path):
                return True
    return False


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}).") from error


# ---------------------------------------------------------------- which files are the series


@dataclass(frozen=True, slots=True)
class _Entry:
    """A DICOM file of the folder.

    `alike` are properties that files of one run share even if the scanner gave each a series of its own; `known` are
    its pieces, where they were read to tell which series are one run.
    """

    path: Path
    header: FileDataset
    start: int
    n_left: int
    uid: str
    number: int
    format: DicomFormat
    kind: str
    alike: tuple[object, ...]
    known: tuple[Piece, ...] = ()


def _survey(folder: Path) -> list[_Entry]:
    paths = _files(folder)
    entries = [entry for path in paths if _is_dicom(path) and (entry := _read_entry(path))]
    if not entries:
        nifti = [path.name for path in paths if path.name.lower().endswith((".nii", ".nii.gz"))]
        packed = any(path.suffix == ".gz" and path.name not in nifti for path in paths)
        advice = "unpack the .gz files first" if packed else "give the folder that directly holds a series' files"
        if nifti and not packed:
            advice = f"to read its NIfTI files, give one of them, such as {nifti[0]}"
        raise InputError(f"{folder}: no DICOM files in it; {advice}.")
    return entries


def _is_dicom(path: Path) -> bool:
    with shielded(path):
        if begins_as_dicom(path):
            return True
    if path.suffix.lower() in {".dcm", ".ima"}:
        raise InputError(f"{path}: named like a DICOM file but is not one, or only its start is there; copy it again.")
    return False


def _read_entry(path: Path) -> _Entry | None:
    with shielded(path):
        header, start, n_left = read_header(path, tags_read())
        if header.file_meta.get("MediaStorageSOPClassUID") == _DICOM_DIRECTORY:
            return None
        if n_left == 0:
            raise InputError(f"{path}: ends before its voxels, so it is cut short or no image; copy or remove it.")
        fitting = format_of(header)
        if fitting is None:
            raise InputError(f"{path}: a {maker_of(header)} DICOM file of a kind that is not read; take it out.")
        return _Entry(
            path,
            header,
            start,
            n_left,
            str(header.get("SeriesInstanceUID", "")),
            int(header.get("SeriesNumber") or 0),
            fitting,
            fitting.name if fitting.name.startswith("Siemens") else f"{maker_of(header)} {fitting.name}",
            (fitting.name, *alike(header)),
        )


def _choose(folder: Path, entries: list[_Entry], series: int | None, tr_s: float | None = None) -> list[_Entry]:
    entries = _joined(entries, series, tr_s)
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
    kinds = Counter(entry.kind for entry in chosen)
    if len(kinds) > 1:
        (usual, n), (_, n_others) = kinds.most_common(1)[0], (None, len(chosen) - kinds.most_common(1)[0][1])
        odd = next(entry for entry in chosen if entry.kind != usual)
        raise InputError(
            f"{odd.path}: its kind is {odd.kind} DICOM, and {n} other files of the series are {usual}; give those of "
            f"one kind ({number_of(n_others, 'file')} to take out)."
        )
    return chosen


def _joined(entries: list[_Entry], series: int | None, tr_s: float | None) -> list[_Entry]:
    """Join series of one file each to runs, if they share frame of reference, protocol and matrix, and go on.

    Siemens XA's "interoperability" export gives each volume a number and an identity of a series of its own. A run has
    those of its first; any other number that is chosen is that of a series by itself.
    """
    n_files = Counter((entry.number, entry.uid) for entry in entries)
    groups: dict[object, list[_Entry]] = {}
    for entry in entries:
        if n_files[entry.number, entry.uid] == 1:
            groups.setdefault(entry.alike, []).append(entry)
    joined: dict[Path, _Entry] = {}
    for group in groups.values():
        for run in _runs_in(group, tr_s) if len(group) >= FEWEST_JOINED else ():
            first = min(run, key=lambda entry: (entry.number, entry.uid))
            joined |= {entry.path: replace(entry, number=first.number, uid=first.uid) for entry in run}
    chosen = [joined.get(entry.path, entry) for entry in entries]
    return chosen if series is None or any(entry.number == series for entry in chosen) else entries


def _runs_in(group: Sequence[_Entry], tr_s: float | None) -> list[list[_Entry]]:
    """Part series of one file each into runs; those of which a run has too few are left out."""
    known = []
    for entry in group:
        pieces: tuple[Piece, ...] = ()
        # What cannot be read is told once it is chosen.
        with suppress(InputError), shielded(entry.path):
            pieces = tuple(replace(one, series=entry.number) for one in entry.format.pieces(entry.path, entry.header))
        known.append(replace(entry, known=pieces))
    tr_s = max((piece.grid.tr_s for entry in known for piece in entry.known), default=0.0) or tr_s or 0.0
    turns = [(entry.number, clock_s(entry.known) if entry.known else None) for entry in known]
    runs = [[known[at] for at in run] for run in runs_of(turns, tr_s)]
    return [run for run in runs if len(run) >= FEWEST_JOINED]


# ---------------------------------------------------------------- what is read of it


def _read_pieces(folder: Path, entries: Sequence[_Entry], echo: Echo) -> tuple[list[list[Piece]], list[str]]:
    """Read the headers of a series into the pieces of its volumes, by echo, and notes on what is left out."""
    pieces: list[Piece] = []
    n_phase = 0
    for entry in entries:
        with shielded(entry.path):
            check_readable(entry.path, entry.header, entry.n_left)
            of_file = entry.known or entry.format.pieces(entry.path, entry.header)
        n_phase += not of_file
        pieces += of_file
    if not pieces:
        raise InputError(f"{entries[0].path}: a phase, real or imaginary image; give the magnitude series.")
    notes = [f"{folder}: {number_of(n_phase, 'phase, real or imaginary image')} left out"] if n_phase else []
    groups = by_echo(folder, pieces, echo)
    n_slices = max(len(piece.planes) for group in groups for piece in group)
    whole = [[piece for piece in group if not piece.is_whole or len(piece.planes) == n_slices] for group in groups]
    if n_lacking := sum(map(len, groups)) - sum(map(len, whole)):
        notes.append(f"{folder}: {number_of(n_lacking, 'volume')} without all slices, taken for lost")
    return [group for group in whole if group], notes
