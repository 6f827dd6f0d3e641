"""The nouns of rtgod: frozen, slotted values with read-only arrays and units in their names.

Nothing here reads a file, opens a socket or computes: every other module imports this one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
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
#: Larger numbers in an affine are no millimetres.
LARGEST_MM = 1e6
#: Voxels of a scanner are this large at least and at most; so far at most a head lies from the scanner's centre.
SMALLEST_VOXEL_MM, LARGEST_VOXEL_MM, FARTHEST_MM = 0.1, 100.0, 5_000.0
#: Volume of a voxel as a share of a box's with the same edges: axes that are less square than this are none of a head.
_LEAST_SQUARE = 0.5
#: Between a run's name and the number that tells its second acquisition from the first.
AGAIN = "~"
#: Characters of a client's name and of what it is, and of a run's, a subject's and a trial's names.
LONGEST_CLIENT, LONGEST_NAME = 100, 300
#: Characters of what an event says.
LONGEST_VALUE = 10_000
#: Repetition times outside of these are none of functional MRI but written in another unit, seconds.
SHORTEST_TR_S, LONGEST_TR_S = 0.05, 60.0
#: Volumes and trials of a run, and voxels of a volume along one axis and in all.
MOST_VOLUMES, MOST_BLOCKS, LONGEST_AXIS, MOST_VOXELS = 100_000, 5_000, 1024, 2**23
#: Kind of the event with which a display says that what it shows is sealed.
COMMITMENT = "commitment"
#: No run is longer, seconds.
LONGEST_RUN_S = 86_400.0


def read_only(array: npt.ArrayLike, dtype: npt.DTypeLike = None) -> Array:
    """A C-contiguous view or copy of `array` that cannot be written to."""
    frozen = np.ascontiguousarray(array, dtype=dtype).view()
    frozen.flags.writeable = False
    return frozen


class Reason(StrEnum):
    """Why a volume was answered without a ranking.

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
    """One stimulus or imagery period.

    Attributes
    ----------
    onset_s, duration_s : float
        Seconds; the onset counts from the start of volume 0.
    label : str
        The same for all that show or imagine the same thing, over runs; it need not say what. Empty where none repeats.

    Examples
    --------
    >>> import rtgod
    >>> rtgod.Block(onset_s=20.0, duration_s=6.0, label=rtgod.label_of("n00000000"))
    Block(onset_s=20.0, duration_s=6.0, label='bdf28e96')
    """

    onset_s: float
    duration_s: float
    label: str = ""

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
    """What is constant over a run; sent once, before its volumes.

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
        How many volumes the run is planned to have, where that is known.
    blocks : tuple of Block
        The run's trials, where they are known; empty for a run that is decoded by a sliding window.
    acquisition : str
        Tells this acquisition from another of the same name, as when a run is stopped at the scanner and started again;
        the same however often this one is sent. Empty where the source cannot tell.
    coil : str
        Receive coil, as the scanner names it. Empty where the source cannot tell.

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
        """The run's name, the same for all its acquisitions in a session."""
        name, again, number = self.run_id.rpartition(AGAIN)
        return name if again and number.isdecimal() else self.run_id


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One image of a run.

    Attributes
    ----------
    run_id : str
    index : int
        Position in the run from 0; volume `index` starts `index * tr_s` seconds into the run.
    acquired_s : float
        When the scanner says that it was acquired, seconds from the start of the run.
    data : ndarray of shape (x, y, z), one of `VOLUME_DTYPES`
    held_s : float
        How long the source had it before it was sent, seconds.
    n_waiting : int
        How many later volumes the source holds already.

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
        # A dtype's name is silent about its byte order, and NIfTI files may be big-endian.
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
    """The source has sent the last volume of a run.

    Attributes
    ----------
    run_id : str
    n_volumes : int
        How many the run has, those that were lost among them.

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
    """Head position against the template, and how it was found.

    Attributes
    ----------
    translation_mm : tuple of 3 float
        Along scanner x, y and z (RAS+).
    rotation_deg : tuple of 3 float
        About x, y and z through the template's centre of intensity, applied z first.
    framewise_displacement_mm : float
        Sum of absolute changes since the previous volume, rotations on a 50 mm sphere (Power et al. 2012).
    residual : float or None
        Root mean square difference to the template after alignment, as a fraction of its mean intensity; None where
        the two do not overlap, which a caller may also give as infinity (JSON has none).
    n_iterations : int
    converged : bool

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

    def __post_init__(self) -> None:
        if self.residual is not None and not math.isfinite(self.residual):
            object.__setattr__(self, "residual", None)


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """The decoder's voxels of one volume, detrended and in percent signal change.

    Attributes
    ----------
    run_id : str
    index : int
    values : ndarray of shape (n_voxels,), float32
    n_outside : int
        Voxels that lay outside the field of view; their value is 0, the baseline.
    motion : Motion
    censored : bool
        True when the volume must not enter a window.
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
        The window's newest volume.
    layers : mapping of str to ndarray of shape (n_units,), float32
        In the units of the network's activations.
    """

    index: int
    layers: Mapping[str, Float32Array]


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The candidate categories, best first.

    Attributes
    ----------
    run_id : str
    index : int
        The newest volume that the ranking rests on.
    n_volumes : int
        How many clean volumes it rests on.
    block : int or None
        Position in `Run.blocks`; None for a sliding window.
    final : bool
        True when no later volume of the block will refine it.
    top : tuple of str
        Names of the first categories, best first, for people to read.
    order : ndarray of shape (n_ranked,), int32
        Positions in the bundle's candidate list, best first: of all candidates that the settings choose, or of the best
        1,000 where there are more than 100,000.
    scores : ndarray of shape (n_ranked,), float32
        Score of each entry of `order`, descending: mean over layers of the Fisher z of Pearson's r, or as the settings
        combine layers.
    motion : Motion
    stage_ms : mapping of str to float
        Milliseconds spent in each stage, by name, in the order in which they ran.
    n_blocks : int
        How many trials it is averaged over.
    probability : tuple of 3 float or None
        Chances that the true category is first, in the first five and in the first ten, as calibrated on held-out
        trials; None where nothing was learned of such candidates.
    age_s : float or None
        Seconds from when the source had the volume until the ranking left; None outside a server.

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
    """A volume was taken, and why it gives no ranking.

    Attributes
    ----------
    run_id : str
    index : int
    reason : Reason
    detail : str
        The reason in words, where there is more to say.
    motion : Motion or None
        None for a volume that was not aligned.
    stage_ms : mapping of str to float
        As in `Ranking`.

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
    """The server has the message on disk.

    Attributes
    ----------
    run_id : str
        Of the message; of an `Event`, its client.
    index : int or None
        Of the volume, or the number of the event; None for a `Run` or a `RunEnd`.
    duplicate : bool
        It had been taken before, and nothing was done now.
    taken_as : str
        Of a `Run`: the name that its volumes and its end must carry. It is `run_id` with a number after it where
        another acquisition of that name came first.
    notice : str
        What the source's operator should know of the run, such as that no volume can be aligned; empty if nothing.
    answers : mapping of str to int
        Of a `RunEnd`: how many volumes were answered by a ranking, and how many for each reason were not; else empty.
    """

    run_id: str
    index: int | None
    duplicate: bool = False
    taken_as: str = ""
    notice: str = ""
    answers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """The server will not take the message, and why."""

    run_id: str
    index: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """The server cannot take the message now, and why; the same, sent again later, may be taken."""

    run_id: str
    index: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Ping:
    """A client is there, and asks for the time.

    Attributes
    ----------
    client : str
        Its name, another for each that is connected.
    kind : str
        What it is, for people: "source", "display".
    sent_s : float
        Of the client's clock, seconds.
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
    """The server's reply to a `Ping`.

    Attributes
    ----------
    client : str
    sent_s : float
        As it came.
    server_utc_s : float
        The server's clock, seconds since 1970 (UTC).
    n_starts : int
        As in `Hello`.
    events : mapping or None
        How tables of events are read for the server's decoder: the settings for events of its bundle; None without one.
    """

    client: str
    sent_s: float
    server_utc_s: float
    n_starts: int = 1
    events: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What happened at a client: a trial began, a picture was shown, a button was pressed, a rating was given.

    Attributes
    ----------
    client : str
    number : int
        Counts the client's events from 0.
    kind : str
    at_s : float
        Of the client's clock, seconds.
    offset_s : float or None
        What must be added to that clock for the server's, as measured by pings; None while it was not.
    offset_error_s : float or None
        No more than this can it be wrong: half of the fastest reply's way there and back.
    run_id : str
        Empty between runs.
    value : str
    received_utc_s : float or None
        Of the server's clock, seconds since 1970 (UTC); filled in by the server.

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
class Connected:
    """A client that was heard.

    Attributes
    ----------
    client, kind : str
    heard_s : float
        How long ago, seconds.
    """

    client: str
    kind: str
    heard_s: float


@dataclass(frozen=True, slots=True)
class Status:
    """How a server is, about each second.

    Attributes
    ----------
    utc_s : float
        The server's clock, seconds since 1970.
    uptime_s : float
    journal : str
        Name of the session's journal.
    disk_free_bytes : int
        Where the journal is.
    problem : str
        What keeps volumes from being taken, and what to do; empty if nothing does.
    run_id : str or None
    n_taken : int
        Volumes of this run that were taken.
    last_index : int or None
        The newest of them.
    latency_ms : tuple of 3 float or None
        From a volume's arrival to its answer: the median, the 99th percentile and the longest of the last 1,000.
    clients : tuple of Connected
    notice : str
        What the operator should know though volumes are taken; empty if nothing.
    n_refused : int
        Messages that were refused since the server began.
    n_cut : int
        Connections that were cut since then, because more came on them than an honest client sends.
    n_starts : int
        As in `Hello`.
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
    """The server was stopped by someone; its journal is complete.

    Attributes
    ----------
    utc_s : float
        The server's clock, seconds since 1970.
    start : int
        As in `Hello`, of the start that ended.
    folder : str
        As in `Hello`.
    """

    utc_s: float
    start: int = 0
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Hello:
    """What the server tells whoever connects, and writes at the head of its journal.

    Attributes
    ----------
    server_version : str
    bundle_id : str or None
        None for a server that only aligns.
    n_candidates, n_voxels : int
    settings : mapping
        The pipeline's.
    n_starts : int
        How often a server has begun on this journal: more than 1 after a server died and went on.
    start : int
        Counts the starts of servers on the journals of a folder; 0 where nobody counted.
    began_utc_s : float or None
        When this start was, seconds since 1970 of the server's clock.
    folder : str
        Of whose starts it is counted: a mark that the first start in a folder made by chance.
    template_from_s : float
        Of a server without a bundle: the template of a run is its first usable volume from this time on, seconds.
    letters : str
        What the candidates' names are written with beyond ASCII, each letter once, for displays to find a font.
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
    # Of a box with edges of 1, whatever the unit.
    volume = abs(np.linalg.det(columns / sizes_mm)) if sizes_mm.all() else 0.0
    if volume < 1e-9 or not np.array_equal(affine[3], (0, 0, 0, 1)):
        raise ValueError("affine does not map voxels to millimetres: singular, or its last row is not 0 0 0 1")
    said = times(sizes_mm, ".4g")
    if sizes_mm.min() < SMALLEST_VOXEL_MM or sizes_mm.max() > LARGEST_VOXEL_MM:
        raise ValueError(
            f"affine: its voxels of {said} mm are none of a head ({SMALLEST_VOXEL_MM:g} to {LARGEST_VOXEL_MM:g} mm); "
            "is it in metres or micrometres?"
        )
    if volume < _LEAST_SQUARE:
        raise ValueError("affine: its axes lie almost in one plane; those of an image stand upright on each other")
    centre_mm = affine[:3] @ [*(np.array(shape) - 1) / 2, 1]
    if np.abs(centre_mm).max() > FARTHEST_MM:
        at = ", ".join(f"{mm:.4g}" for mm in centre_mm)
        raise ValueError(
            f"affine: the image's centre ({at} mm) lies more than {FARTHEST_MM:g} mm from the scanner's: none of a head"
        )


def _number(value: int) -> str:
    """A whole number for people, however many digits it has."""
    return str(value) if abs(value) < 10**18 else f"a number of {value.bit_length()} bits"


def _listed(numbers: tuple[int, ...]) -> str:
    return f"[{', '.join(map(_number, numbers))}]"


def _check_finite(**seconds: float | None) -> None:
    for name, value in seconds.items():
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name} is {value}; seconds are needed")


Answer = Ranking | NotReady
Message = (
    Run | Volume | RunEnd | Event | Ping
    | Ranking | NotReady | Pattern | Hello | Status | SessionEnd
    | Acknowledged | Refused | Deferred | Pong
)  # fmt: skip


def address_of(message: Message) -> tuple[str, int | None]:
    """What replies to a message call it by: their `run_id` and `index`; a message without a run is its client's."""
    match message:
        case Event():
            return message.client, message.number
        case Ping() | Pong():
            return message.client, None
        case Run() | RunEnd():
            return message.run_id, None
        case Hello() | Status() | SessionEnd():
            return "", None
        case _:
            return message.run_id, message.index
