"""The messages and values of rtgod: frozen, slotted classes with read-only arrays and units in their names.

This module reads no file, opens no socket and does no signal processing, so that every other module can import it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from rtgod.text import times

Array = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Int32Array = npt.NDArray[np.int32]

#: Voxel types that a volume may have on the wire; all little-endian, as scanners and NIfTI files deliver them.
VOLUME_DTYPES = ("int16", "uint16", "int32", "float32", "float64")
#: Limit of the numbers in an affine; larger ones cannot be millimetres.
LARGEST_MM = 1e6
#: Limits of the edges of voxels, and of the distance of a volume's centre from the scanner's centre, along each axis.
SMALLEST_VOXEL_MM, LARGEST_VOXEL_MM, FARTHEST_MM = 0.1, 100.0, 5_000.0
#: Least volume of a voxel, as a share of the volume of a box with the same edges; below it axes are too oblique.
_LEAST_SQUARE = 0.5
#: Separator of a run's name and the number of a further acquisition.
AGAIN = "~"
#: Most characters of a client's name and kind, and of the names of a run, a subject and a trial.
LONGEST_CLIENT, LONGEST_NAME = 100, 300
#: Most characters of an event's value.
LONGEST_VALUE = 10_000
#: Limits of the repetition time, in seconds; numbers beyond them are probably in another unit.
SHORTEST_TR_S, LONGEST_TR_S = 0.05, 60.0
#: Most volumes and trials of a run, and most voxels of a volume along one axis and in all.
MOST_VOLUMES, MOST_BLOCKS, LONGEST_AXIS, MOST_VOXELS = 100_000, 5_000, 1024, 2**23
#: Kind of the event by which a display commits itself to sealed conditions.
COMMITMENT = "commitment"
#: Longest run, in seconds.
LONGEST_RUN_S = 86_400.0


def read_only(array: npt.ArrayLike, dtype: npt.DTypeLike = None) -> Array:
    """Return a C-contiguous view or copy of `array` that cannot be written to.

    Parameters
    ----------
    array : array-like
    dtype : dtype-like, optional
        Data type of the result; that of `array` by default.
    """
    frozen = np.ascontiguousarray(array, dtype=dtype).view()
    frozen.flags.writeable = False
    return frozen


class Reason(StrEnum):
    """Reason why a volume was answered without a ranking.

    Examples
    --------
    >>> import rtgod
    >>> [str(reason) for reason in rtgod.Reason][:3]
    ['warming up', 'motion', 'lost volume']
    """

    WARMING_UP = "warming up"
    MOTION = "motion"
    LOST_VOLUME = "lost volume"
    BETWEEN_TRIALS = "between trials"
    BAD_VOLUME = "bad volume"
    NO_DECODER = "no decoder"
    BEHIND = "behind"


@dataclass(frozen=True, slots=True)
class Block:
    """A stimulus or imagery period.

    Attributes
    ----------
    onset_s, duration_s : float
        Seconds; the onset counts from the start of volume 0.
    label : str
        Label shared by all blocks, also of other runs, that show or imagine the same thing; it need not tell which.
        Empty if the block has no such label.
    imagined : bool
        Whether the participant imagines what the block is about; otherwise it is seen.

    Examples
    --------
    >>> import rtgod
    >>> rtgod.Block(onset_s=20.0, duration_s=6.0, label=rtgod.label_of("n00000000"))
    Block(onset_s=20.0, duration_s=6.0, label='bdf28e96', imagined=False)
    """

    onset_s: float
    duration_s: float
    label: str = ""
    imagined: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.onset_s) and self.onset_s >= 0 and 0 < self.duration_s < math.inf):
            raise ValueError(f"a block at {self.onset_s} s for {self.duration_s} s: onset >= 0 and duration > 0 needed")
        if self.onset_s + self.duration_s > LONGEST_RUN_S:
            raise ValueError(
                f"a block at {self.onset_s:g} s for {self.duration_s:g} s: no run lasts longer than {LONGEST_RUN_S:g} "
                "s; are these milliseconds?"
            )
        _check_length("label", self.label, LONGEST_NAME)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Properties of a run that are common to its volumes; sent once, before them.

    Attributes
    ----------
    run_id : str
        Identity of the run within a session; volumes carry it.
    subject : str
        Subject label without the "sub-" prefix; never a patient's name or hospital number.
    tr_s : float
        Repetition time, seconds.
    shape : tuple of 3 int
        Voxels along x, y and z of every volume.
    affine : ndarray of shape (4, 4), float64
        Voxel indices to scanner millimetres, RAS+ (NIfTI convention).
    n_volumes : int or None
        Planned number of volumes, if it is known.
    blocks : tuple of Block
        The run's trials, if they are known; empty for a run that is decoded by a sliding window.
    acquisition : str
        Identity of this acquisition, which differs from that of another acquisition of the same name, as after a stop
        and a restart at the scanner. It is equal each time this one is sent; empty if the source has none.
    coil : str
        Receive coil, as the scanner names it; empty if the source does not know it.

    Examples
    --------
    >>> import numpy as np
    >>> import rtgod
    >>> run = rtgod.Run("run-1", "01", tr_s=2.0, shape=(64, 64, 50), affine=np.diag([3.0, 3.0, 3.0, 1.0]))
    >>> run.name, run.n_volumes
    ('run-1', None)
    """

    run_id: str
    subject: str
    tr_s: float
    shape: tuple[int, int, int]
    affine: Float64Array
    n_volumes: int | None = None
    blocks: tuple[Block, ...] = ()
    acquisition: str = ""
    coil: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "affine", read_only(self.affine, np.float64))
        if not self.run_id:
            raise ValueError("run_id is empty; volumes call their run by it")
        _check_length("run_id", self.name, LONGEST_NAME)
        _check_length("run_id", self.run_id, LONGEST_NAME + LONGEST_CLIENT)  # with the number after it
        _check_length("subject", self.subject, LONGEST_NAME)
        _check_length("acquisition", self.acquisition, LONGEST_NAME)
        _check_length("coil", self.coil, LONGEST_NAME)
        if not SHORTEST_TR_S <= self.tr_s <= LONGEST_TR_S:
            raise ValueError(
                f"tr_s is {self.tr_s:g}; a repetition time of {SHORTEST_TR_S:g} to {LONGEST_TR_S:g} s is needed"
                + ("; is it in milliseconds?" if self.tr_s > LONGEST_TR_S else "")
            )
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape {_listed(self.shape)} is not three positive numbers of voxels")
        if max(self.shape) > LONGEST_AXIS or math.prod(self.shape) > MOST_VOXELS:
            raise ValueError(
                f"shape {_listed(self.shape)}: a volume has at most {LONGEST_AXIS} voxels along an axis and "
                f"{MOST_VOXELS} in all"
            )
        _check_affine(self.affine, self.shape)
        if self.n_volumes is not None and not 1 <= self.n_volumes <= MOST_VOLUMES:
            raise ValueError(
                f"n_volumes is {_number(self.n_volumes)}; 1 to {MOST_VOLUMES} are possible; give None where it is not "
                "known"
            )
        if len(self.blocks) > MOST_BLOCKS:
            raise ValueError(f"{len(self.blocks)} blocks; a run has at most {MOST_BLOCKS}")

    @property
    def name(self) -> str:
        """Name of the run, shared by all its acquisitions in a session."""
        name, separator, number = self.run_id.rpartition(AGAIN)
        return name if separator and number.isdecimal() else self.run_id


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An image of a run.

    Attributes
    ----------
    run_id : str
    index : int
        Position in the run from 0; volume `index` starts `index * tr_s` seconds into the run.
    acquired_s : float
        Time of acquisition by the scanner's account, in seconds from the start of the run.
    data : ndarray of shape (x, y, z), one of `VOLUME_DTYPES`
    held_s : float
        Time for which the source had the volume before sending it, in seconds.
    n_waiting : int
        Number of later volumes that the source has already.

    Examples
    --------
    >>> import numpy as np
    >>> import rtgod
    >>> volume = rtgod.Volume("run-1", index=0, acquired_s=0.0, data=np.zeros((64, 64, 50), np.int16))
    >>> volume.data.flags.writeable
    False
    """

    run_id: str
    index: int
    acquired_s: float
    data: Array
    held_s: float = 0.0
    n_waiting: int = 0

    def __post_init__(self) -> None:
        data = np.asarray(self.data)
        if data.ndim != 3 or data.size == 0 or data.dtype.name not in VOLUME_DTYPES:
            raise ValueError(f"data is {data.dtype} of shape {data.shape}; (x, y, z) of {VOLUME_DTYPES} needed")
        # A dtype's name does not tell its byte order, and NIfTI files may be big-endian.
        object.__setattr__(self, "data", read_only(data, data.dtype.newbyteorder("=")))
        if self.index < 0:
            raise ValueError(f"index {_number(self.index)} is negative; volumes count from 0")
        if self.index >= MOST_VOLUMES:
            raise ValueError(f"index is {_number(self.index)}; a run has at most {MOST_VOLUMES} volumes, from 0")
        if not abs(self.acquired_s) <= LONGEST_RUN_S:
            raise ValueError(f"acquired_s is {self.acquired_s}; seconds from the start of the run are needed")
        if not 0 <= self.held_s <= LONGEST_RUN_S or not 0 <= self.n_waiting < 2**31:
            raise ValueError(
                f"held_s is {self.held_s}, n_waiting {_number(self.n_waiting)}; neither can be negative, nor can a "
                f"volume be held longer than {LONGEST_RUN_S:g} s, or more than 2³¹ wait"
            )


@dataclass(frozen=True, slots=True)
class RunEnd:
    """Message of a source that it has sent the last volume of a run.

    Attributes
    ----------
    run_id : str
    n_volumes : int
        Number of volumes of the run, including lost ones.

    Examples
    --------
    >>> import rtgod
    >>> rtgod.RunEnd("run-1", n_volumes=150)
    RunEnd(run_id='run-1', n_volumes=150)
    """

    run_id: str
    n_volumes: int

    def __post_init__(self) -> None:
        if self.n_volumes < 0:
            raise ValueError(f"n_volumes {self.n_volumes} is negative")


@dataclass(frozen=True, slots=True)
class Motion:
    """Head position against the template, with the quality of its estimate.

    Attributes
    ----------
    translation_mm : tuple of 3 float
        Translation along scanner x, y and z (RAS+).
    rotation_deg : tuple of 3 float
        Rotation about x, y and z through the template's centre of intensity, applied z first.
    framewise_displacement_mm : float
        Sum of absolute changes since the last volume that could be aligned, rotations on a 50 mm sphere (Power et al.
        2012).
    residual : float or None
        Root mean square difference to the template after alignment, as a fraction of its mean intensity; None if the
        two do not overlap. Infinity is stored as None, as JSON cannot hold it.
    n_iterations : int
    converged : bool
    centre_mm : tuple of 3 float or None
        Point about which the rotation is described, in the template's world (RAS+); None if nothing was estimated.

    Examples
    --------
    >>> import rtgod
    >>> answers = rtgod.read_journal("session.rtgod").answers
    >>> max(abs(mm) for answer in answers if answer.motion for mm in answer.motion.translation_mm) < 1
    True
    """

    translation_mm: tuple[float, float, float]
    rotation_deg: tuple[float, float, float]
    framewise_displacement_mm: float
    residual: float | None
    n_iterations: int
    converged: bool
    centre_mm: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.residual is not None and not math.isfinite(self.residual):
            object.__setattr__(self, "residual", None)


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """The decoder's voxels of one volume, detrended.

    Attributes
    ----------
    run_id : str
    index : int
    values : ndarray of shape (n_voxels,), float32
        Change from the baseline in the settings' unit (`scaling.unit`): percent, or standard deviations of the noise.
    n_outside : int
        Number of voxels that lay outside the field of view; their value is 0, the baseline.
    motion : Motion
    censored : bool
        Whether the volume must be left out of windows.
    """

    run_id: str
    index: int
    values: Float32Array
    n_outside: int
    motion: Motion
    censored: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", read_only(self.values, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Decoded network features of one window.

    Attributes
    ----------
    index : int
        Index of the window's newest volume.
    layers : mapping of str to ndarray of shape (n_units,), float32
        Features of each layer, in the units of the network's activations.
    """

    index: int
    layers: Mapping[str, Float32Array]


@dataclass(frozen=True, slots=True)
class NearPicture:
    """One of the pictures nearest to what was decoded.

    Attributes
    ----------
    name : str
        Path of the picture below the folder that the decoder was calibrated with.
    score : float
        Weighted mean over layers of Pearson's r.
    probability : float or None
        Chance that this picture is the one that is seen, if that one is in the folder, as calibrated on held-out
        trials; None if it is unknown.

    Examples
    --------
    >>> import rtgod.messages
    >>> rtgod.messages.NearPicture("cats/tabby.jpg", score=0.31, probability=0.2)
    NearPicture(name='cats/tabby.jpg', score=0.31, probability=0.2)
    """

    name: str
    score: float
    probability: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError(f"score {self.score} of the picture {self.name} is not finite")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"probability {self.probability} of the picture {self.name} is not from 0 to 1")


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Ranking of the candidate categories, best first.

    Attributes
    ----------
    run_id : str
    index : int
        Index of the newest volume that the ranking rests on.
    n_volumes : int
        Number of clean volumes that the ranking rests on.
    block : int or None
        Position in `Run.blocks`; None for a sliding window.
    final : bool
        Whether no later volume of the block will refine the ranking.
    top : tuple of str
        Names of the first categories, best first, for people to read.
    order : ndarray of shape (n_ranked,), int32
        Positions in the bundle's candidate list, best first: of all candidates that the settings choose, or of the best
        1,000 if these are more than 100,000.
    scores : ndarray of shape (n_ranked,), float32
        Score of each entry of `order`, descending: mean over layers of the Fisher z of Pearson's r, or another
        combination of layers that the settings choose.
    motion : Motion
    stage_ms : mapping of str to float
        Milliseconds spent in each stage, by name, in the order in which they ran.
    n_blocks : int
        Number of trials over which the pattern is averaged.
    probability : tuple of 3 float or None
        Chances that the true category is first, in the first five and in the first ten, as calibrated on held-out
        trials; None if they were not learned for such candidates.
    age_s : float or None
        Seconds from the volume's arrival at the source to the ranking's leaving the server; None outside a server.
    pictures : tuple of NearPicture
        Nearest pictures of the decoder's own, best first; empty if it has none.

    Examples
    --------
    >>> import rtgod
    >>> answers = rtgod.read_journal("session.rtgod").answers
    >>> ranking = next(answer for answer in answers if isinstance(answer, rtgod.Ranking))
    >>> ranking.index, ranking.block, len(ranking.order), bool((ranking.scores[:-1] >= ranking.scores[1:]).all())
    (11, 0, 7, True)
    """

    run_id: str
    index: int
    n_volumes: int
    block: int | None
    final: bool
    top: tuple[str, ...]
    order: Int32Array
    scores: Float32Array
    motion: Motion
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    n_blocks: int = 1
    probability: tuple[float, float, float] | None = None
    age_s: float | None = None
    pictures: tuple[NearPicture, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", read_only(self.order, np.int32))
        object.__setattr__(self, "scores", read_only(self.scores, np.float32))
        if self.order.ndim != 1 or self.order.shape != self.scores.shape:
            raise ValueError(
                f"order {self.order.shape} and scores {self.scores.shape} are not one of each per candidate"
            )
        if self.probability and not 0 <= self.probability[0] <= self.probability[1] <= self.probability[2] <= 1:
            raise ValueError(f"probability {self.probability} is not three chances that ascend from 0 to 1")


@dataclass(frozen=True, slots=True)
class NotReady:
    """Answer to a volume that gives no ranking, with the reason.

    Attributes
    ----------
    run_id : str
    index : int
    reason : Reason
    detail : str
        Further explanation in words; may be empty.
    motion : Motion or None
        None for a volume that was not aligned.
    stage_ms : mapping of str to float
        Milliseconds spent in each stage, as in `Ranking`.

    Examples
    --------
    >>> import rtgod
    >>> first = rtgod.read_journal("session.rtgod").answers[0]
    >>> first.index, first.reason, first.detail
    (0, <Reason.WARMING_UP: 'warming up'>, 'the baseline is being learned')
    """

    run_id: str
    index: int
    reason: Reason
    detail: str = ""
    motion: Motion | None = None
    stage_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Reply that the server has the message on disk.

    Attributes
    ----------
    run_id : str
        `run_id` of the message; for an `Event` or a `NewBlock`, the name of its client.
    index : int or None
        Index of the volume, or number of the event or block; None for a `Run` or a `RunEnd`.
    duplicate : bool
        Whether the message had been taken before; then nothing was done now.
    taken_as : str
        For a `Run`, the `run_id` that its volumes and its end must carry: the run's own, with a number after it if
        another acquisition of that name came first.
    notice : str
        Note about the run for the source's operator, such as that no volume can be aligned; may be empty.
    answers : mapping of str to int
        For a `RunEnd`, the number of volumes answered by a ranking, and of those answered for each reason; else empty.
    """

    run_id: str
    index: int | None
    duplicate: bool = False
    taken_as: str = ""
    notice: str = ""
    answers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """Reply that the server will not take the message, with the reason."""

    run_id: str
    index: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Reply that the server cannot take the message now, with the reason; it may take it when it is sent again."""

    run_id: str
    index: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Heartbeat of a client, which asks for the server's time.

    Attributes
    ----------
    client : str
        Name of the client, unique among those connected.
    kind : str
        Kind of client, for people to read: "source", "display".
    sent_s : float
        Time of sending by the client's clock, in seconds.
    """

    client: str
    kind: str
    sent_s: float

    def __post_init__(self) -> None:
        _check_client(self.client)
        _check_length("kind", self.kind, LONGEST_CLIENT)
        _check_finite(sent_s=self.sent_s)


@dataclass(frozen=True, slots=True)
class Pong:
    """Reply of the server to a `Ping`.

    Attributes
    ----------
    client : str
    sent_s : float
        Copy of the `sent_s` of the `Ping`.
    server_utc_s : float
        Time by the server's clock, in seconds since 1970 (UTC).
    n_starts : int
        Number of starts on this journal, as in `Hello`.
    events : mapping or None
        Settings of the server's bundle for reading tables of events; None without a bundle.
    """

    client: str
    sent_s: float
    server_utc_s: float
    n_starts: int = 1
    events: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Event at a client: a trial began, a picture was shown, a button was pressed, a rating was given.

    Attributes
    ----------
    client : str
    number : int
        Number of the event, counted by the client from 0.
    kind : str
    at_s : float
        Time of the event by the client's clock, in seconds.
    offset_s : float or None
        Seconds to add to the client's clock to get the server's, as measured by pings; None before the first
        measurement.
    offset_error_s : float or None
        Upper limit of the error of `offset_s`: half of the fastest round trip, in seconds.
    run_id : str
        Empty between runs.
    value : str
    received_utc_s : float or None
        Time of receipt by the server's clock, in seconds since 1970 (UTC); filled in by the server.

    Examples
    --------
    >>> import rtgod
    >>> event = rtgod.read_journal("session.rtgod").events[0]
    >>> event.kind, event.value, event.at_s
    ('shown', 'owl', 7.25)
    """

    client: str
    number: int
    kind: str
    at_s: float
    offset_s: float | None = None
    offset_error_s: float | None = None
    run_id: str = ""
    value: str = ""
    received_utc_s: float | None = None

    def __post_init__(self) -> None:
        _check_client(self.client)
        _check_length("kind", self.kind, LONGEST_CLIENT)
        _check_length("run_id", self.run_id, LONGEST_NAME + LONGEST_CLIENT)  # it may have a number after it
        _check_length("value", self.value, LONGEST_VALUE)
        if not 0 <= self.number < 2**63 or not self.kind:
            raise ValueError(
                f"number is {_number(self.number)}, kind {self.kind!r}; events count from 0 and say what they are"
            )
        _check_finite(at_s=self.at_s, offset_s=self.offset_s, offset_error_s=self.offset_error_s)


@dataclass(frozen=True, slots=True)
class NewBlock:
    """Block of a run under way, told by a client that knows it when the source does not.

    Attributes
    ----------
    client : str
    number : int
        Number among the client's events and blocks, counted by the client from 0.
    run_id : str
        Name of the run in this session.
    onset_s, duration_s : float
    label : str
    imagined : bool
        As in `Block`.
    """

    client: str
    number: int
    run_id: str
    onset_s: float
    duration_s: float
    label: str = ""
    imagined: bool = False

    def __post_init__(self) -> None:
        _check_client(self.client)
        _check_length("run_id", self.run_id, LONGEST_NAME + LONGEST_CLIENT)  # it may have a number after it
        if not 0 <= self.number < 2**63 or not self.run_id:
            raise ValueError(
                f"number is {_number(self.number)}, run_id {self.run_id!r}; blocks count from 0 and name their run"
            )
        Block(self.onset_s, self.duration_s, self.label)

    @property
    def block(self) -> Block:
        """The block, as a run lists it."""
        return Block(self.onset_s, self.duration_s, self.label, self.imagined)

    def in_run(self, run: Run) -> Run:
        """Return the run with this block after those that it lists.

        Parameters
        ----------
        run : Run
        """
        return replace(run, blocks=(*run.blocks, self.block))


@dataclass(frozen=True, slots=True)
class Connected:
    """A client that the server has heard from.

    Attributes
    ----------
    client, kind : str
    heard_s : float
        Time since its last message, in seconds.
    """

    client: str
    kind: str
    heard_s: float


@dataclass(frozen=True, slots=True)
class Status:
    """Status of a server, published about each second.

    Attributes
    ----------
    utc_s : float
        Time by the server's clock, in seconds since 1970.
    uptime_s : float
    journal : str
        Name of the session's journal.
    disk_free_bytes : int
        Free space on the journal's disk.
    problem : str
        Problem that keeps the server from taking volumes, and what to do about it; empty if it can take them.
    run_id : str or None
    n_taken : int
        Number of volumes of this run that were taken.
    last_index : int or None
        Index of the newest of these volumes.
    latency_ms : tuple of 3 float or None
        Time from a volume's arrival to its answer: median, 99th percentile and maximum of the last 1,000.
    clients : tuple of Connected
    notice : str
        Note for the operator that does not keep the server from taking volumes; may be empty.
    n_refused : int
        Messages that were refused since the server began.
    n_cut : int
        Connections that were cut since the server began, because more came on them than an honest client sends.
    n_starts : int
        Number of starts on this journal, as in `Hello`.
    """

    utc_s: float
    uptime_s: float
    journal: str
    disk_free_bytes: int
    problem: str = ""
    run_id: str | None = None
    n_taken: int = 0
    last_index: int | None = None
    latency_ms: tuple[float, float, float] | None = None
    clients: tuple[Connected, ...] = ()
    notice: str = ""
    n_refused: int = 0
    n_cut: int = 0
    n_starts: int = 1


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """End of a session: the server was stopped on purpose, and its journal is complete.

    Attributes
    ----------
    utc_s : float
        Time by the server's clock, in seconds since 1970.
    start : int
        Number of the start that ended; see `Hello`.
    folder : str
        Mark of the folder; see `Hello`.
    """

    utc_s: float
    start: int = 0
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Hello:
    """Introduction of a server: sent to each client that connects, and written at each start into the journal.

    Attributes
    ----------
    server_version : str
    bundle_id : str or None
        None for a server that only aligns.
    n_candidates, n_voxels : int
    settings : mapping
        Settings of the pipeline.
    n_starts : int
        Number of times that a server began on this journal: more than 1 after a server died and was continued.
    start : int
        Number of this start among all starts of servers in the journals' folder; 0 if starts were not counted.
    began_utc_s : float or None
        Time of this start by the server's clock, in seconds since 1970.
    folder : str
        Mark of the folder in which `start` counts; the first start in a folder chose it at random.
    template_from_s : float
        Seconds into a run; without a bundle the run's template is its first usable volume from this time on.
    letters : str
        Letters of the candidates' names beyond ASCII, each once, so that displays can choose a font.
    """

    server_version: str
    bundle_id: str | None
    n_candidates: int
    n_voxels: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    n_starts: int = 1
    start: int = 0
    began_utc_s: float | None = None
    folder: str = ""
    template_from_s: float = 0.0
    letters: str = ""


def _check_client(name: str) -> None:
    if not 1 <= len(name) <= LONGEST_CLIENT:
        raise ValueError(f"client is {name[:LONGEST_CLIENT]!r}; a name of 1 to {LONGEST_CLIENT} characters is needed")


def _check_length(field: str, text: str, at_most: int) -> None:
    if len(text) > at_most:
        raise ValueError(f"{field} has {len(text)} characters ({text[:20]!r} …); at most {at_most} are allowed")


def _check_affine(affine: Float64Array, shape: tuple[int, int, int]) -> None:
    if affine.shape != (4, 4) or not (np.abs(affine) < LARGEST_MM).all():
        raise ValueError(f"affine is not 4 x 4 finite numbers below {LARGEST_MM:g}")
    columns = affine[:3, :3]
    sizes_mm = np.sqrt(np.square(columns).sum(axis=0))
    # Volume of a voxel with all edges scaled to 1, whatever the unit.
    volume = abs(np.linalg.det(columns / sizes_mm)) if sizes_mm.all() else 0.0
    if volume < 1e-9 or not np.array_equal(affine[3], (0, 0, 0, 1)):
        raise ValueError("affine does not map voxels to millimetres: singular, or its last row is not 0 0 0 1")
    sizes = times(sizes_mm, ".4g")
    if sizes_mm.min() < SMALLEST_VOXEL_MM or sizes_mm.max() > LARGEST_VOXEL_MM:
        raise ValueError(
            f"affine: its voxels of {sizes} mm are none of a head ({SMALLEST_VOXEL_MM:g} to {LARGEST_VOXEL_MM:g} mm); "
            "is it in metres or micrometres?"
        )
    if volume < _LEAST_SQUARE:
        raise ValueError("affine: its axes lie almost in one plane; those of an image stand upright on each other")
    centre_mm = affine[:3] @ [*(np.array(shape) - 1) / 2, 1]
    if np.abs(centre_mm).max() > FARTHEST_MM:
        position = ", ".join(f"{mm:.4g}" for mm in centre_mm)
        raise ValueError(
            f"affine: the image's centre ({position} mm) lies more than {FARTHEST_MM:g} mm from the scanner's: none "
            "of a head"
        )


def _number(value: int) -> str:
    """Write a whole number for people; one with more than 18 digits by its number of bits."""
    return str(value) if abs(value) < 10**18 else f"a number of {value.bit_length()} bits"


def _listed(numbers: tuple[int, ...]) -> str:
    return f"[{', '.join(map(_number, numbers))}]"


def _check_finite(**seconds: float | None) -> None:
    for name, value in seconds.items():
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name} is {value}; seconds are needed")


Answer = Ranking | NotReady
Message = (
    Run | Volume | RunEnd | Event | NewBlock | Ping
    | Ranking | NotReady | Pattern | Hello | Status | SessionEnd
    | Acknowledged | Refused | Deferred | Pong
)  # fmt: skip


def address_of(message: Message) -> tuple[str, int | None]:
    """Return the `run_id` and `index` by which replies name a message.

    An `Event`, `NewBlock` or `Ping` has its client's name.

    Parameters
    ----------
    message : Message
    """
    match message:
        case Event() | NewBlock():
            return message.client, message.number
        case Ping() | Pong():
            return message.client, None
        case Run() | RunEnd():
            return message.run_id, None
        case Hello() | Status() | SessionEnd():
            return "", None
        case _:
            return message.run_id, message.index
