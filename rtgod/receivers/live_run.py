"""A series while it is acquired, as a run that is sent or may be the next to be, and whether it was restarted."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import numpy as np

from rtgod.messages import Array, Run
from rtgod.receivers.live_echoes import LiveEchoes
from rtgod.sources.dicom.lone_series import LoneSeries
from rtgod.sources.dicom.pieces import Piece
from rtgod.sources.dicom.series import run_name
from rtgod.sources.dicom.times import step_s

_DAY_S = 86400.0
#: Volumes of one number whose times are further apart, in repetition times, may be of a series that was restarted.
_LATER_TR = 1.5
#: Number and identity that the scanner gives to a series.
Key = tuple[int, str]


@dataclass(slots=True, eq=False)
class LiveRun:
    """A series, or several of one volume each.

    Attributes
    ----------
    number, uid : int, str
        SeriesNumber and SeriesInstanceUID.
    alike : tuple of str
        What files of one run share; see `rtgod.sources.dicom.series.alike`.
    series : LiveEchoes
    coil : str
    n_promised : int or None
        Number of volumes that files promise.
    keys : set of Key
    patient : bytes
        Digest of PatientID; see `rtgod.receivers.privacy.Patients`.
    person : tuple of str or None
        What a row of the identity table says, where there is one; see `rtgod.receivers.identity_table.identity_of`.
    unsettled : list of tuple
        Images that are not in the series yet, as it is not known whether each volume has a series of its own.
    is_settled : bool
    run : Run or None
        None until a volume was given.
    heard_s : float
        When the last image of what was given came; before anything was, of all.
    image_s : float
        When its last image came.
    is_silent : bool
    n_restarts : int
        How often the series was restarted before.
    lone : LoneSeries
        Its series, where each has one volume, or may have no more.
    """

    number: int
    uid: str
    alike: tuple[str, ...]
    series: LiveEchoes
    coil: str
    n_promised: int | None
    keys: set[Key]
    patient: bytes = b""
    person: tuple[str, str] | None = None
    unsettled: list[tuple[Key, Piece, Array]] = field(default_factory=list)
    is_settled: bool = False
    run: Run | None = None
    heard_s: float = 0.0
    image_s: float = 0.0
    is_silent: bool = False
    n_restarts: int = 0
    lone: LoneSeries = field(default_factory=lambda: LoneSeries(0.0))
    _from_s: float | None = None
    _earliest_s: float | None = None
    _latest_s: float | None = None
    _numbered: dict[tuple[Hashable, float, Hashable], float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the run."""
        return run_name(self.number, self.uid) + (f"-restart-{self.n_restarts}" if self.n_restarts else "")

    @property
    def identity(self) -> str:
        """What tells it from other runs, those of the same series included."""
        return f"{self.uid} restart {self.n_restarts}" if self.n_restarts else self.uid

    @property
    def n_there(self) -> int:
        """Number of volumes that are complete and not given."""
        return len(self.unsettled) or self.series.look()

    def add(self, key: Key, piece: Piece, slices: Array, now_s: float) -> None:
        """Take in a piece of a run that is settled.

        Parameters
        ----------
        key : Key
        piece : Piece
        slices : ndarray of shape (n_columns, n_rows, n_planes)
        now_s : float
            Time by any monotonic clock, seconds.

        Raises
        ------
        InputError
            If it does not fit the series.
        """
        self.series.add(replace(piece, series=key[0]) if len(self.keys) > 1 else piece, slices, now_s)

    def note_number(self, piece: Piece) -> None:
        """Note a piece's numbers, and when it was acquired.

        Parameters
        ----------
        piece : Piece
        """
        if piece.clock_s is None:
            return
        self._numbered.setdefault(_numbers_of(piece), piece.clock_s)
        if self._latest_s is None or _is_later(piece.clock_s, self._latest_s):
            self._latest_s = piece.clock_s
        if self._earliest_s is None or _is_later(self._earliest_s, piece.clock_s):
            self._earliest_s = piece.clock_s

    def is_after(self, other: LiveRun) -> bool:
        """Return whether all of its images were acquired after those of another; False where they do not say so.

        Parameters
        ----------
        other : LiveRun
        """
        if self._earliest_s is None or other._latest_s is None:
            return False
        return _is_later(self._earliest_s, other._latest_s)

    def is_restart(self, piece: Piece) -> bool:
        """Return whether a piece is of another run under the same name: counted as one before, and later than all.

        Parameters
        ----------
        piece : Piece
        """
        numbers = _numbers_of(piece)
        known_s = self._numbered.get(numbers)
        if piece.clock_s is None or known_s is None or self._latest_s is None:
            return False
        # Where all images (of an echo) have one number, nothing is counted anew.
        if not any(other[0] != numbers[0] and other[1] == numbers[1] for other in self._numbered):
            return False
        return _is_later(piece.clock_s, self._latest_s)

    def restart(self, n_restarts: int, piece: Piece) -> None:
        """Count it as a restart, of which a piece came first.

        Parameters
        ----------
        n_restarts : int
        piece : Piece
        """
        # The first image that comes need not be the first that was acquired.
        self.n_restarts = n_restarts
        self._from_s = None if piece.clock_s is None else piece.clock_s - 2 * self.series.tr_s

    def is_before(self, piece: Piece) -> bool:
        """Return whether a piece was acquired before the series was restarted.

        Parameters
        ----------
        piece : Piece
        """
        return self._from_s is not None and piece.clock_s is not None and _is_later(self._from_s, piece.clock_s)


def may_be_again(piece: Piece, later: Piece) -> bool:
    """Return whether a second whole volume may be the first of a series that was restarted; a third one tells.

    Parameters
    ----------
    piece, later : Piece
        The first and the second of a series.
    """
    if piece.clock_s is None or later.clock_s is None or _numbers_of(piece) != _numbers_of(later):
        return False
    return step_s(piece.clock_s, later.clock_s) > _LATER_TR * piece.grid.tr_s


def is_counted_alike(piece: Piece, other: Piece) -> bool:
    """Return whether two pieces have the same numbers, at whatever time.

    Parameters
    ----------
    piece, other : Piece
    """
    return _numbers_of(piece) == _numbers_of(other)


def is_copy(piece: Piece, other: Piece) -> bool:
    """Return whether a whole volume is another one sent again.

    Parameters
    ----------
    piece, other : Piece
    """
    return (_numbers_of(piece), piece.clock_s) == (_numbers_of(other), other.clock_s) and np.array_equal(
        piece.planes[0].position_mm, other.planes[0].position_mm
    )


def _numbers_of(piece: Piece) -> tuple[Hashable, float, Hashable]:
    """Return what counts a piece in its series, without its time; its echo; and its place in the volume."""
    return piece.numbers, piece.grid.echo_ms, piece.place


def _is_later(clock_s: float, other_s: float) -> bool:
    return 0 < (clock_s - other_s) % _DAY_S < _DAY_S / 2
