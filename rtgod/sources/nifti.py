"""A recorded run from a 4-D NIfTI file, with its BIDS sidecar JSON and events table.

The voxels are read once, forwards through the file, with one volume in memory at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from rtgod.errors import InputError
from rtgod.events.counting import discard_notes, those_used
from rtgod.messages import Volume
from rtgod.settings import EventsSettings
from rtgod.sources import RepetitionTime, TrClaim, acquisition_id, agreed_tr, run_of
from rtgod.sources.beside import files_beside, find_events, stem_of, subject_in
from rtgod.sources.nifti_file import DAMAGED, NiftiLayout, check_size, open_stream, read_layout


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
        self._layout = layout = _read_run(path)
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
        self.notes = (*tr.notes, *discard_notes(reading, is_said=self.read is not None))

    def __iter__(self) -> Iterator[Volume]:
        """Read the volumes one at a time."""
        return those_used(self._delivered(), self._n_discarded, self.run.tr_s)

    def _delivered(self) -> Iterator[Volume]:
        layout = self._layout
        with open_stream(self._path) as stream:
            self._take(stream, layout.offset, "header")
            for index in range(layout.n_volumes):
                raw = self._take(stream, layout.n_bytes, f"volume {index}")
                if index == layout.n_volumes - 1:
                    self._finish(stream)
                yield Volume(self.run.run_id, index, index * self.run.tr_s, layout.volume(raw))

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
        except DAMAGED:
            raw = b""
        if len(raw) < n_bytes:
            raise InputError(f"{self._path}: {part} cannot be read, the file is damaged or cut short; copy it again.")
        return raw

    def _finish(self, stream: IO[bytes]) -> None:
        """Read on to the end of the file, where gzip has a checksum; it finds damage that still decompresses."""
        try:
            while stream.read(1 << 20):
                pass
        except DAMAGED:
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
        layout = read_layout(path)
    except InputError:
        return 0
    return layout.n_volumes if layout.is_run else 0


def _read_run(path: Path) -> NiftiLayout:
    layout = read_layout(path)
    if not layout.is_run:
        raise InputError(f"{path}: its shape is {layout.shape}, not (x, y, z, volumes); give the 4-D file of a run.")
    check_size(path, layout)
    return layout


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


def _find_tr(path: Path, layout: NiftiLayout, sidecars: _SidecarsSay, given: float | None) -> RepetitionTime:
    claims = [claim for claim in (sidecars.tr, layout.tr_claim(path)) if claim is not None]
    return agreed_tr(path, claims, given, "no repetition time in a sidecar JSON or, with a unit, in the header")


def _read_sidecar(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object; correct the sidecar or remove it.")
    return content
