"""Volumes of a recorded series, by echo: which are complete, what is lost, and notes on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array
from rtgod.sources.dicom.pieces import Piece
from rtgod.sources.dicom.times import VolumeClock, clock_s, index_beside
from rtgod.sources.dicom.volumes import (
    Decode,
    Stack,
    assembled,
    in_volumes,
    stack_of,
    without_duplicates,
)
from rtgod.sources.echoes import Combine, Echo, in_words
from rtgod.text import number_of

#: Volumes whose missing slices, or echoes, are named.
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class EchoVolumes:
    """Volumes of one echo of a series.

    Attributes
    ----------
    stack : Stack
    volumes : dict of int to list of Piece
        Those with all slices, by their index.
    lacking : dict of int to int
        Number of slices that each of the others lacks, by index.
    acquired_s : dict of int to float
        Time of each volume, in seconds from the nominal start of volume 0.
    clock_notes : tuple of str
        Lines on the files' clock.
    """

    stack: Stack
    volumes: dict[int, list[Piece]]
    lacking: dict[int, int]
    acquired_s: dict[int, float]
    clock_notes: tuple[str, ...] = ()

    @property
    def indices(self) -> set[int]:
        """Indices of all volumes, with those that lack slices."""
        return {*self.volumes, *self.lacking}

    def voxels(self, index: int, decode: Decode) -> Array:
        """Put the voxels of a volume together, shape (x, y, z).

        Parameters
        ----------
        index : int
        decode : callable
            See `rtgod.sources.dicom.volumes.Decode`.
        """
        return assembled(self.volumes[index], self.stack, decode)


def by_echo(folder: Path, pieces: Sequence[Piece], echo: Echo) -> list[list[Piece]]:
    """Choose the pieces of the echo that is taken, or of each echo that is combined.

    Parameters
    ----------
    folder : Path
        For messages.
    pieces : sequence of Piece
    echo : int or Combine

    Returns
    -------
    list of list of Piece
        One list, or one for each echo that is combined, in the order of echo times.

    Raises
    ------
    InputError
        If there is no such echo, or one must be chosen.
    """
    per_echo = Counter(piece.grid.echo_ms for piece in pieces)
    echoes_ms = sorted(per_echo)
    if isinstance(echo, Combine):
        return [[piece for piece in pieces if piece.grid.echo_ms == echo_ms] for echo_ms in echoes_ms]
    if echo > len(echoes_ms):
        raise InputError(f"{folder}: there is no echo {echo}; it has {in_words(echoes_ms)}.")
    if not echo and len(echoes_ms) > 1 and len(set(per_echo.values())) == 1:
        raise InputError(
            f"{folder}: volumes of {len(echoes_ms)} echoes ({in_words(echoes_ms)}); choose one with --echo N, or "
            "combine them with --echo combine."
        )
    return [[piece for piece in pieces if not echo or piece.grid.echo_ms == echoes_ms[echo - 1]]]


def stack_of_all(groups: Sequence[Sequence[Piece]]) -> Stack:
    """Lay out the slices of volumes, which must lie alike in all echoes.

    Parameters
    ----------
    groups : sequence of sequence of Piece
        From `by_echo`.

    Raises
    ------
    InputError
        If pieces of an echo, or echoes, differ in geometry or timing.
    """
    first, *others = (stack_of(pieces) for pieces in groups)
    for pieces, stack in zip(groups[1:], others, strict=True):
        if stack.shape != first.shape or not np.allclose(stack.affine, first.affine, rtol=0, atol=1e-3):
            raise InputError(
                f"{pieces[0].path}: its echo lies otherwise than that of {groups[0][0].path.name}; echoes of one "
                "volume lie alike, so choose one with --echo N, or export the series again."
            )
    return first


def laid_out(
    folder: Path, groups: Sequence[Sequence[Piece]], stack: Stack, decode: Decode, tr_s: float
) -> list[EchoVolumes]:
    """Put the pieces of each echo together to volumes.

    Parameters
    ----------
    folder : Path
        For messages.
    groups : sequence of sequence of Piece
        From `by_echo`.
    stack : Stack
    decode : callable
        See `rtgod.sources.dicom.volumes.Decode`.
    tr_s : float
        Repetition time, seconds.

    Raises
    ------
    InputError
        If nothing tells the pieces apart, or no volume has all slices.
    """
    first_s = clock_s([piece for pieces in groups for piece in pieces]) if len(groups) > 1 else None
    return _counted_together([_of_echo(folder, pieces, stack, decode, tr_s, first_s) for pieces in groups], tr_s)


def _of_echo(
    folder: Path, pieces: Sequence[Piece], stack: Stack, decode: Decode, tr_s: float, first_s: float | None
) -> EchoVolumes:
    volumes = in_volumes(folder, without_duplicates(pieces, decode), stack, tr_s, first_s)
    n_slices = stack.shape[2]
    n_there = {index: sum(len(piece.planes) for piece in of_volume) for index, of_volume in volumes.items()}
    lacking = {index: n_slices - n for index, n in n_there.items() if n < n_slices}
    complete = {index: of_volume for index, of_volume in volumes.items() if index not in lacking}
    if not complete:
        raise InputError(f"{folder}: no volume has all of its {n_slices} slices; copy the series again.")
    clock = VolumeClock(tr_s)
    times_s = {index: clock.acquired_s(index, clock_s(of_volume)) for index, of_volume in complete.items()}
    return EchoVolumes(stack, complete, lacking, times_s, tuple(clock.notes))


def _counted_together(echoes: list[EchoVolumes], tr_s: float) -> list[EchoVolumes]:
    """Count an echo's only volume by the clock beside those of other echoes: its own numbers do not tell its place."""
    alone = [turn for turn, echo in enumerate(echoes) if len(echo.indices) == 1]
    alone = alone[1:] if len(alone) == len(echoes) else alone
    others = [
        (index, clock_s(pieces))
        for turn, echo in enumerate(echoes)
        for index, pieces in (echo.volumes.items() if turn not in alone else ())
    ]
    together = [*echoes]
    for turn in alone:
        (pieces,) = echoes[turn].volumes.values()
        index = index_beside(clock_s(pieces), others, tr_s)
        if index is not None:
            together[turn] = replace(echoes[turn], volumes={index: pieces}, acquired_s={index: index * tr_s})
    return together


def with_all_echoes(folder: Path, echoes: Sequence[EchoVolumes]) -> list[int]:
    """Return the indices of the volumes that are complete in all echoes, ascending.

    Parameters
    ----------
    folder : Path
        For messages.
    echoes : sequence of EchoVolumes

    Raises
    ------
    InputError
        If there are none.
    """
    indices = sorted(set.intersection(*(set(echo.volumes) for echo in echoes)))
    if not indices:
        raise InputError(
            f"{folder}: no volume is there with all of its {len(echoes)} echoes, by the numbers that files give them; "
            "choose one with --echo N, or copy the series again."
        )
    return indices


def notes_on(folder: Path, echoes: Sequence[EchoVolumes], n_promised: int) -> list[str]:
    """Write what is lost of a series.

    Parameters
    ----------
    folder : Path
        For messages.
    echoes : sequence of EchoVolumes
    n_promised : int
        Number of slices of a volume as the files state it; 0 if they do not.
    """
    notes = []
    n_slices = echoes[0].stack.shape[2]
    if n_promised > n_slices:
        notes.append(f"{folder}: its files speak of {n_promised} slices, and {n_slices} are there: the others are lost")
    indices = set.union(*(echo.indices for echo in echoes))
    if first := min(indices):
        lost = "one volume before it is" if first == 1 else f"{first} volumes before it are"
        notes.append(f"{folder}: the first file is number {first + 1}: {lost} taken for lost")
    for number, echo in enumerate(echoes, 1):
        of_echo = f" in echo {number}" if len(echoes) > 1 else ""
        lacking = [f"volume {index + 1} lacks {n} of {n_slices}{of_echo}" for index, n in echo.lacking.items()]
        notes += _lost(folder, "without all slices", lacking)
    notes += [f"{folder}: {note}" for note in echoes[0].clock_notes]
    without = [
        f"volume {index + 1} lacks echo {number}"
        for index in sorted(indices)
        for number, echo in enumerate(echoes, 1)
        if index not in echo.indices
    ]
    return notes + _lost(folder, "without all echoes", without)


def _lost(folder: Path, why: str, named: Sequence[str]) -> list[str]:
    if not named:
        return []
    more = f", and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    listed = ", ".join(named[:_MOST_NAMED])
    return [f"{folder}: {number_of(len(named), 'volume')} {why}, taken for lost ({listed}{more})"]
