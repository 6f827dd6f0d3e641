"""A series while it is acquired, as a run that is sent or may be the next to be, and whether it was restarted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from enum import Enum, auto

import numpy as np
from pydicom.dataset import FileDataset

from rtgod.messages import Array, Run
from rtgod.receivers.live_echoes import LiveEchoes
from rtgod.receivers.live_series import digest_of
from rtgod.sources.dicom.lone_series import LoneSeries
from rtgod.sources.dicom.pieces import Piece
from rtgod.sources.dicom.series import run_name
from rtgod.sources.dicom.times import step_s
from rtgod.sources.echoes import Echo

_DAY_S = 86400.0
#: Volumes of one number whose times are further apart, in repetition times, may be of a series that was restarted; if
#: one comes again twice, and that much later each time, it was.
_LATER_TR, _MUCH_LATER_TR = 1.5, 5.0
#: The first image that comes of a restart was acquired no more than this after the first that was acquired.
_MARGIN_TR = 2
#: Number and identity that the scanner gives to a series.
Key = tuple[int, str]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A piece with its slices: the key of its series, its header, and what is left to choose of its echoes."""

    key: Key
    header: FileDataset
    piece: Piece
    slices: Array
    echo: Echo


class Again(Enum):
    """Whether an image is the first of a series that was restarted."""

    #: It goes on with its run.
    NO = auto()
    #: Later ones tell.
    PERHAPS = auto()
    #: Those of which it was not known go on with their run: nothing counts but the clock.
    NEVER = auto()
    #: It is, or the first of those of which it was not known.
    YES = auto()


class Numbers:
    """What the images of a run were counted by, by which one that is counted anew is known.

    If another volume has another number, a number that comes again, at a later time than all, says that the series was
    restarted. If all had one, nothing may count but the clock: then those that come next tell, and are held until then.
    Slices are never counted by the clock.

    Parameters
    ----------
    tr_s : float
        Repetition time, seconds.

    Attributes
    ----------
    earliest_s, latest_s : float or None
        Times of day at which the first and the last image were acquired, seconds.
    held : list of Image
        Those of which it is not known whether they are of another run.
    """

    def __init__(self, tr_s: float) -> None:
        self._tr_s = tr_s
        self.earliest_s: float | None = None
        self.latest_s: float | None = None
        self.held: list[Image] = []
        self._known: set[int] = set()
        #: Numbers of the first image of each echo of a series, and those of which another had others.
        self._first: dict[tuple[Key, float], Hashable] = {}
        self._counted: set[tuple[Key, float]] = set()
        self._is_by_clock = False

    def note(self, key: Key, piece: Piece) -> None:
        """Note a piece's numbers, and when it was acquired.

        Parameters
        ----------
        key : Key
        piece : Piece
        """
        if piece.clock_s is None:
            return
        self._known.add(digest_of(key, *_numbers_of(piece)))
        of_echo = key, piece.grid.echo_ms
        if self._first.setdefault(of_echo, piece.numbers) != piece.numbers:
            self._counted.add(of_echo)
        if self.latest_s is None or _is_later(piece.clock_s, self.latest_s):
            self.latest_s = piece.clock_s
        if self.earliest_s is None or _is_later(self.earliest_s, piece.clock_s):
            self.earliest_s = piece.clock_s

    def again(self, key: Key, piece: Piece) -> Again:
        """Return whether a piece is of another run under the same name.

        Parameters
        ----------
        key : Key
        piece : Piece
        """
        if piece.clock_s is None or self.latest_s is None or self._is_before_held(piece.clock_s):
            return Again.NO
        of_echo = key, piece.grid.echo_ms
        if digest_of(key, *_numbers_of(piece)) not in self._known:
            is_counted = self._first.get(of_echo, piece.numbers) != piece.numbers
            return Again.NO if not self.held else Again.YES if is_counted else Again.PERHAPS
        if not _is_later(piece.clock_s, self.latest_s):
            return Again.PERHAPS if self.held else Again.NO
        if of_echo in self._counted:
            return Again.YES
        later_tr = step_s(self.latest_s, piece.clock_s) / self._tr_s
        if not piece.is_whole:
            return Again.YES if later_tr > _LATER_TR else Again.NO
        return self._by_clock(piece, later_tr)

    def _by_clock(self, piece: Piece, later_tr: float) -> Again:
        """Return it for a whole volume whose number comes again, where there was no other."""
        if self._is_by_clock:
            return Again.NO
        is_third = any(_numbers_of(image.piece) == _numbers_of(piece) for image in self.held)
        self._is_by_clock = later_tr <= (_MUCH_LATER_TR if is_third else _LATER_TR)
        if self._is_by_clock:
            return Again.NEVER
        return Again.YES if is_third else Again.PERHAPS

    def _is_before_held(self, clock_s: float) -> bool:
        first_s = self.held[0].piece.clock_s if self.held else None
        return first_s is not None and _is_later(first_s - _MARGIN_TR * self._tr_s, clock_s)

    def hold(self, image: Image) -> None:
        """Hold an image until it is known whether it is of another run.

        Parameters
        ----------
        image : Image
        """
        self.note(image.key, image.piece)
        self.held.append(image)

    def take_held(self) -> list[Image]:
        """Return the images that are held, and hold them no more."""
        held, self.held = self.held, []
        return held

    @property
    def n_held(self) -> int:
        """Number of volumes that are held."""
        return max(Counter(image.piece.grid.echo_ms for image in self.held).values(), default=0)


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
    numbers : Numbers
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
    numbers: Numbers = field(default_factory=lambda: Numbers(1.0))
    _from_s: float | None = None

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
        return (len(self.unsettled) or self.series.look()) + self.numbers.n_held

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

    def is_after(self, other: LiveRun) -> bool:
        """Return whether all of its images were acquired after those of another; False where they do not say so.

        Parameters
        ----------
        other : LiveRun
        """
        earliest_s, latest_s = self.numbers.earliest_s, other.numbers.latest_s
        return earliest_s is not None and latest_s is not None and _is_later(earliest_s, latest_s)

    def restart(self, n_restarts: int, piece: Piece) -> None:
        """Count it as a restart, of which a piece came first.

        Parameters
        ----------
        n_restarts : int
        piece : Piece
        """
        # The first image that comes need not be the first that was acquired.
        self.n_restarts = n_restarts
        self._from_s = None if piece.clock_s is None else piece.clock_s - _MARGIN_TR * self.series.tr_s

    def is_before(self, piece: Piece) -> bool:
        """Return whether a piece was acquired before the series was restarted.

        Parameters
        ----------
        piece : Piece
        """
        return self._from_s is not None and piece.clock_s is not None and _is_later(self._from_s, piece.clock_s)


def is_copy(piece: Piece, other: Piece) -> bool:
    """Return whether a whole volume is another one sent again.

    Parameters
    ----------
    piece, other : Piece
    """
    return (_numbers_of(piece), piece.clock_s) == (_numbers_of(other), other.clock_s) and np.array_equal(
        piece.planes[0].position_mm, other.planes[0].position_mm
    )


def _numbers_of(piece: Piece) -> tuple[object, ...]:
    """Return what counts a piece in its series, without its time; its echo; and its place in the volume."""
    return piece.numbers, piece.grid.echo_ms, piece.place


def _is_later(clock_s: float, other_s: float) -> bool:
    return 0 < (clock_s - other_s) % _DAY_S < _DAY_S / 2
