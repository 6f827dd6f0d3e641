"""What the server does with each message, without sockets, clocks or files.

A journal that is fed to a `Session` gives the answers that the server gave, bit for bit: the server itself does nothing
but receive, journal, and publish around it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from rtgod import __version__
from rtgod.bundle import DecoderBundle
from rtgod.decoding.category_index import CategoryIndex
from rtgod.decoding.decoder import Decoder
from rtgod.errors import CheckpointError, InputError, RefusedError, WireError
from rtgod.events.table import check_within, label_of
from rtgod.fit import check_fit
from rtgod.messages import (
    AGAIN,
    COMMITMENT,
    Answer,
    Event,
    Float32Array,
    Hello,
    Message,
    NotReady,
    Pattern,
    Ranking,
    Reason,
    Run,
    RunEnd,
    Volume,
)
from rtgod.pipeline import Pipeline
from rtgod.preprocessing.alignment import Reference, check_reference, check_run
from rtgod.preprocessing.axes_errors import find_axes_error
from rtgod.preprocessing.preprocessor import Noise
from rtgod.preprocessing.windows import RepeatAverager
from rtgod.protocol.frames import from_journal, to_frames
from rtgod.server.tally import Tally
from rtgod.settings import PipelineSettings
from rtgod.state import State

log = logging.getLogger(__name__)

Incoming = Run | Volume | RunEnd | Event

#: A source that leaves out more volumes than this at once does not count them as we do.
MAX_GAP = 1000
#: Runs that did not end and that others came after can be gone on with: so many of the newest.
MOST_SET_ASIDE = 2


@dataclass(slots=True, eq=False)
class Acquisition:
    """What was received of one acquisition of a run.

    Attributes
    ----------
    run : Run
        Under the name that it has in the session.
    pipeline : Pipeline or None
        None while it is not made, and when the run cannot be gone on with.
    seen : set of int
        Volumes that were taken.
    expected : int
        The volume that comes next if none is lost.
    ended : bool
    template : ndarray of shape (x, y, z), float32, or None
        The run's own, where there is no bundle; None before a volume could be used.
    template_from_s : float
        Where there is no bundle: the first usable volume from this time on becomes the template, seconds.
    tally : Tally
        What its volumes came to, as far as `Session.count` was told.
    """

    run: Run
    pipeline: Pipeline | None = None
    seen: set[int] = field(default_factory=set)
    expected: int = 0
    ended: bool = False
    template: Float32Array | None = None
    template_from_s: float = 0.0
    tally: Tally = field(default_factory=Tally)


class Session:
    """The state of one server: the current run and what was already taken.

    Parameters
    ----------
    bundle : DecoderBundle or None
        None for alignment only: each run is then aligned to a volume of its own, the first that is settled.
    settings : PipelineSettings or None
        For alignment only; with a bundle, its own settings hold.

    Raises
    ------
    InputError
        If nothing can be aligned to the bundle's template, or its voxels lie outside the head.
    """

    def __init__(self, bundle: DecoderBundle | None, settings: PipelineSettings | None = None) -> None:
        self.bundle = bundle
        self._settings = bundle.settings if bundle else settings or PipelineSettings()
        if bundle:
            check_reference(bundle.reference, self._settings.motion)
        self._template_from_s = 0.0 if bundle else self._settings.nuisance.discard_s
        self._engine: tuple[Decoder, CategoryIndex] | None = None
        if bundle:
            self._engine = bundle.decoder(), bundle.category_index()
        names = (candidate.name for candidate in bundle.candidates) if bundle else ()
        self._letters = "".join(sorted({letter for letter in set().union(*names) if not letter.isascii()}))
        self._repeats = RepeatAverager()
        self._acquisitions: dict[str, Acquisition] = {}
        self._names: dict[str, str] = {}
        self._events: dict[str, set[int]] = {}
        self._current: Acquisition | None = None
        #: Runs that did not end and are not the current one, the oldest first.
        self._set_aside: list[str] = []
        self._prepared: Acquisition | None = None
        #: Whether a display has said that what it shows is sealed: then nobody may learn a ranking in passing.
        self.is_blinded = False

    def hello(self) -> Hello:
        """Who this is and what it decodes with."""
        return Hello(
            server_version=__version__,
            bundle_id=self.bundle.bundle_id if self.bundle else None,
            n_candidates=self._engine[1].n_candidates if self._engine else 0,
            n_voxels=len(self.bundle.reference.voxels) if self.bundle else 0,
            settings=self._settings.model_dump(mode="json"),
            template_from_s=0.0 if self.bundle else self._settings.nuisance.discard_s,
            letters=self._letters,
        )

    @property
    def event_rules(self) -> dict[str, Any] | None:
        """How tables of events are read for the decoder: its settings for events; None without a bundle."""
        return self.bundle.settings.events.model_dump(mode="json") if self.bundle else None

    def heed(self, hello: Hello) -> None:
        """Take runs that begin from now on as the server of this message did; older ones chose another template."""
        if not self.bundle:
            self._template_from_s = hello.template_from_s

    @property
    def run(self) -> Run | None:
        """The current run; None before any."""
        return self._current.run if self._current else None

    @property
    def is_receiving(self) -> bool:
        """Whether there is a current run, and it has not ended."""
        return self._current is not None and not self._current.ended

    @property
    def n_runs_ended(self) -> int:
        """How many runs have been received to their end."""
        return sum(acquisition.ended for acquisition in self._acquisitions.values())

    def answers_of(self, run_id: str) -> dict[str, int]:
        """What a run's volumes came to; see `Tally`."""
        known = self._acquisitions.get(run_id)
        return dict(known.tally.answers) if known else {}

    @property
    def n_runs(self) -> int:
        """How many runs have begun."""
        return len(self._acquisitions)

    def totals(self) -> dict[str, int]:
        """What all runs' volumes came to; see `Tally`."""
        totals: dict[str, int] = {}
        for acquisition in self._acquisitions.values():
            for kind, n in acquisition.tally.answers.items():
                totals[kind] = totals.get(kind, 0) + n
        return totals

    @property
    def taken(self) -> Set[int]:
        """Volumes of the current run that were taken."""
        return self._current.seen if self._current else set()

    def named(self, run: Run) -> Run:
        """The run under the name that it has in this session, or would get.

        The first acquisition of a name keeps it; another has a number after it, as when a run was stopped at the
        scanner and started again.
        """
        if not run.acquisition:
            return run
        name, number = self._names.get(run.acquisition, run.run_id), 1
        while run.acquisition not in self._names and name in self._acquisitions:
            number += 1
            name = f"{run.run_id}{AGAIN}{number}"
        return dataclasses.replace(run, run_id=name)

    def is_duplicate(self, message: Incoming) -> bool:
        """Whether this message was taken before: it is acknowledged again and otherwise ignored."""
        match message:
            case Event():
                return message.number in self._events.get(message.client, ())
            case Run() if message.acquisition:
                return message.acquisition in self._names
            case Run():
                # After its end it is no repetition but a second run of the same name, which `check` refuses.
                current = self._current
                return current is not None and not current.ended and _same_run(current.run, message)
            case Volume():
                return message.index in self._seen(message.run_id)
            case RunEnd():
                known = self._acquisitions.get(message.run_id)
                return known is not None and known.ended

    def check(self, message: Incoming) -> None:
        """Raise `RefusedError` if the message cannot be taken now; the session stays as it was.

        What a run needs is made here, so that whatever is checked can be taken.
        """
        if isinstance(message, Event):
            return
        if isinstance(message, Run):
            try:
                check_within(message)
            except InputError as error:
                raise RefusedError(str(error)) from error
            self._prepare(message)
            return
        current = self.receives(message)
        if current is None:
            receiving = f"run {self.run.run_id} is" if self.run else "no run is"
            raise RefusedError(f"run {message.run_id} is not being received ({receiving}); send its Run first")
        n_lost = (message.index if isinstance(message, Volume) else message.n_volumes) - current.expected
        if n_lost > MAX_GAP:
            raise RefusedError(
                f"run {message.run_id}: {n_lost} volumes would be missing after {current.expected}; "
                "volumes count from 0, one per repetition time"
            )
        if isinstance(message, Volume) and message.data.shape != current.run.shape:
            raise RefusedError(
                f"volume {message.index} has shape {message.data.shape}, its run announced {current.run.shape}"
            )

    def oddities(self, run: Run, *, any_subject: bool = False) -> list[str]:
        """What is odd about a run that is to be decoded with this bundle, a clause for each.

        Journals hold runs of before this was asked: it is for whoever takes new ones.

        Raises
        ------
        RefusedError
            If the run cannot be decoded with this bundle.
        """
        if self.bundle is None:
            return []
        try:
            return check_fit(
                run, self.bundle.reference, self.bundle.training, labels=self._labels(), any_subject=any_subject
            )
        except InputError as error:
            raise RefusedError(str(error)) from error

    def _labels(self) -> frozenset[str]:
        """Labels of the blocks that can be decoded; none where any can be."""
        if self.bundle is None or not self.bundle.plain_categories:
            return frozenset()
        return frozenset(label_of(candidate.category_id) for candidate in self.bundle.candidates)

    def count(self, answer: Answer, volume: Volume | None = None) -> None:
        """Note what a volume came to, for the operator; no later answer depends on it.

        Parameters
        ----------
        answer : Ranking or NotReady
        volume : Volume, optional
            The volume itself, where it may be looked at once more to find out why it cannot be aligned.
        """
        acquisition = self._acquisitions.get(answer.run_id)
        if acquisition is None:
            return
        acquisition.tally.add(answer)
        if volume is not None and acquisition.tally.begins_astray:
            acquisition.tally.hint = self._why_astray(acquisition, volume)

    def _why_astray(self, acquisition: Acquisition, volume: Volume) -> str:
        if not self.bundle or not self._settings.motion.estimate or volume.index not in acquisition.seen:
            return ""
        image = np.ascontiguousarray(volume.data, np.float32)
        if not np.isfinite(image).all():
            return ""
        if error := find_axes_error(image, acquisition.run, self.bundle.reference, self._settings.motion):
            return (
                f"with {error} they could: either the affine or the order of the voxels is wrong, and must be put "
                "right before they are sent"
            )
        return "is it this subject's bundle, and a magnitude series, and does the affine say where the volumes lie?"

    @property
    def notice(self) -> str:
        """Why nothing of the current run can be decoded; empty while something can."""
        if self._current is None:
            return ""
        template = "the bundle's head" if self.bundle else "the run's own template"
        return self._current.tally.notice(template)

    def receives(self, message: Volume | RunEnd) -> Acquisition | None:
        """The acquisition that a message goes on with: the current one, or one that others came after; None if none.

        Only an acquisition with an identity is gone on with: without one nobody can tell it from another.
        """
        current = self._current
        if current is not None and message.run_id == current.run.run_id:
            return current
        return self._acquisitions[message.run_id] if message.run_id in self._set_aside else None

    def _prepare(self, run: Run) -> None:
        """Make what the run needs, unless it is there; whatever goes wrong with that is the run's."""
        if run.run_id in self._acquisitions:
            raise RefusedError(f"run {run.run_id} was already sent to this server; give the new one another id")
        # A source whose run could not be written down sends it again.
        if self._prepared and _same_run(self._prepared.run, run):
            return
        prepared = Acquisition(run, template_from_s=self._template_from_s)
        if self.bundle and self._engine:
            try:
                check_run(run, self.bundle.reference, self._settings.motion)
                prepared.pipeline = self.bundle.pipeline(run, *self._engine, self._repeats)
            except InputError as error:
                raise RefusedError(str(error)) from error
            except Exception as error:
                log.exception("run %s cannot be prepared", run.run_id)
                raise RefusedError(
                    f"run {run.run_id} cannot be prepared ({type(error).__name__}: {error}); check its affine, shape, "
                    "repetition time and blocks"
                ) from error
        self._prepared = prepared

    def _seen(self, run_id: str) -> Set[int]:
        known = self._acquisitions.get(run_id)
        return known.seen if known else set()

    def take(self, message: Incoming, *, rank: bool = True) -> Iterator[tuple[Answer, Pattern | None]]:
        """Take a checked message in.

        Parameters
        ----------
        message : Run, Volume, RunEnd or Event
        rank : bool
            False only updates the state; see `Pipeline.step`.

        Yields
        ------
        answer : Ranking or NotReady
            One for each volume that is missing before this one, then this volume's own.
        pattern : Pattern or None
            The volume's pattern, for the record.
        """
        match message:
            case Event():
                self._events.setdefault(message.client, set()).add(message.number)
                self.is_blinded |= message.kind == COMMITMENT
            case Run():
                self._begin(message)
            case RunEnd():
                current = self._go_on_with(message)
                current.ended = True
                for index in range(current.expected, message.n_volumes):
                    yield self._lost(message.run_id, index), None
                current.expected = max(current.expected, message.n_volumes)
            case Volume():
                current = self._go_on_with(message)
                current.seen.add(message.index)
                if message.index < current.expected:
                    late = "it came after later volumes"
                    yield NotReady(message.run_id, message.index, Reason.LOST_VOLUME, late), None
                    return
                for index in range(current.expected, message.index):
                    yield self._lost(message.run_id, index), None
                current.expected = message.index + 1
                yield self._step(current, message, rank)

    def note(self, volume: Volume) -> None:
        """Take a volume in of a run that nothing will be asked of any more: it needs no pipeline."""
        current = self._go_on_with(volume)
        current.seen.add(volume.index)
        current.expected = max(current.expected, volume.index + 1)

    def _begin(self, run: Run) -> None:
        if self._prepared is None or not _same_run(self._prepared.run, run):
            self._prepare(run)
        self._leave_off()
        self._current, self._prepared = self._prepared, None
        if self._current is None:
            raise AssertionError("what is checked is prepared")
        self._acquisitions[run.run_id] = self._current
        if run.acquisition:
            self._names[run.acquisition] = run.run_id

    def _go_on_with(self, message: Volume | RunEnd) -> Acquisition:
        """Make the message's acquisition the current one."""
        wanted = self.receives(message)
        if wanted is None:
            raise AssertionError("a checked message belongs to an acquisition that is received")
        if wanted is not self._current:
            self._set_aside.remove(message.run_id)
            self._leave_off()
            self._current = wanted
        return wanted

    def _leave_off(self) -> None:
        """Set the current acquisition aside if it may be gone on with; of many, only the newest may."""
        left = self._current
        if left is None:
            return
        if left.run.acquisition and not left.ended:
            self._set_aside.append(left.run.run_id)
        else:
            left.pipeline = None
            left.run = dataclasses.replace(left.run, blocks=())  # nobody asks for them any more
        while len(self._set_aside) > MOST_SET_ASIDE:
            self._acquisitions[self._set_aside.pop(0)].pipeline = None

    def _step(self, current: Acquisition, volume: Volume, rank: bool) -> tuple[Answer, Pattern | None]:
        """Whatever goes wrong with a volume that is on the disk is its answer: the next may be better."""
        try:
            if current.pipeline is None:
                if volume.index * current.run.tr_s < current.template_from_s - 1e-6:
                    why = f"the template is the first usable volume after {current.template_from_s:g} s"
                    return NotReady(volume.run_id, volume.index, Reason.WARMING_UP, why), None
                current.template = _template_of(volume)
                current.pipeline = self._align_to(current.template, current.run)
            return current.pipeline.step(volume, rank=rank)
        except InputError as error:
            return NotReady(volume.run_id, volume.index, Reason.BAD_VOLUME, str(error)), None
        except Exception as error:
            log.exception("volume %d of run %s", volume.index, volume.run_id)
            why = f"{type(error).__name__}: {error}"
            return NotReady(volume.run_id, volume.index, Reason.BAD_VOLUME, why), None

    def _align_to(self, template: Float32Array, run: Run) -> Pipeline:
        """The pipeline of a server without a bundle."""
        reference = Reference(template, run.affine, np.empty((0, 3), np.int32))
        try:
            return Pipeline(reference, Noise(), None, None, (), run, self._settings, RepeatAverager())
        except ValueError as error:  # too few slices, or no contrast along one direction: LinAlgError
            raise InputError(f"the others cannot be aligned to this volume ({error})") from error

    @property
    def keeps_evidence(self) -> bool:
        """Whether what one run showed counts in the next."""
        return self._settings.window.mode == "repeats"

    def state(self) -> State:
        """All that the messages so far have changed; arrays are those in use, not copies."""
        return {
            "settings": self._settings.model_dump(mode="json"),
            "bundle_id": self.bundle.bundle_id if self.bundle else None,
            "acquisitions": [self._state_of(acquisition) for acquisition in self._acquisitions.values()],
            "current": self.run.run_id if self.run else None,
            "set_aside": list(self._set_aside),
            "events": {client: ranges_of(numbers) for client, numbers in self._events.items()},
            "repeats": self._repeats.state(),
            "is_blinded": self.is_blinded,
            "template_from_s": self._template_from_s,
        }

    def _state_of(self, acquisition: Acquisition) -> State:
        run, goes_on = acquisition.run, acquisition.pipeline is not None or acquisition is self._current
        # Of one that is over, only its name and its volumes are asked for.
        header = bytes(to_frames(run if goes_on else dataclasses.replace(run, blocks=()))[0]).decode()
        return {
            "run": header,
            "seen": ranges_of(acquisition.seen),
            "expected": acquisition.expected,
            "ended": acquisition.ended,
            "template": acquisition.template if acquisition.pipeline else None,
            "pipeline": acquisition.pipeline.state() if acquisition.pipeline else None,
            "template_from_s": acquisition.template_from_s,
            "tally": dataclasses.asdict(acquisition.tally),
        }

    def restore(self, state: State) -> None:
        """Go on from where another session with the same bundle and settings was.

        Raises
        ------
        CheckpointError
            If the state is not one of such a session; then nothing has changed here.
        """
        try:
            told = msgspec.convert(state, _SessionState)
            runs = [(of, _run_of(of.run)) for of in told.acquisitions]
        except (msgspec.ValidationError, WireError) as error:
            raise CheckpointError(f"this is no session's state ({error})") from error
        here = self._settings.model_dump(mode="json"), self.bundle.bundle_id if self.bundle else None
        if (told.settings, told.bundle_id) != here:
            raise CheckpointError("the session had another bundle, or other settings")
        repeats = RepeatAverager()
        repeats.restore(told.repeats)
        acquisitions = {}
        for of, run in runs:
            pipeline = None if of.pipeline is None else self._pipeline_of(run, of.template, repeats)
            if pipeline is not None:
                pipeline.restore(of.pipeline)
            seen = set(numbers_in(of.seen))
            acquisitions[run.run_id] = Acquisition(
                run, pipeline, seen, of.expected, of.ended, of.template, of.template_from_s, of.tally
            )
        if {told.current, *told.set_aside} - acquisitions.keys() - {None}:
            raise CheckpointError("a run that goes on is not among the session's")
        self._repeats, self._acquisitions = repeats, acquisitions
        self._names = {of.run.acquisition: name for name, of in acquisitions.items() if of.run.acquisition}
        self._events = {client: set(numbers_in(ranges)) for client, ranges in told.events.items()}
        self._current = None if told.current is None else acquisitions[told.current]
        self._set_aside, self._prepared = list(told.set_aside), None
        self.is_blinded, self._template_from_s = told.is_blinded, told.template_from_s

    def _pipeline_of(self, run: Run, template: Float32Array | None, repeats: RepeatAverager) -> Pipeline:
        try:
            if self.bundle and self._engine:
                return self.bundle.pipeline(run, *self._engine, repeats)
            if template is None or template.shape != run.shape:
                raise CheckpointError("a run without its template")
            return self._align_to(template, run)
        except InputError as error:
            raise CheckpointError(f"run {run.run_id}: {error}") from error

    @staticmethod
    def _lost(run_id: str, index: int) -> NotReady:
        return NotReady(run_id, index, Reason.LOST_VOLUME, "it never arrived")


class _AcquisitionState(msgspec.Struct):
    run: str
    seen: list[list[int]]
    expected: int
    ended: bool
    template: Any
    pipeline: Any
    template_from_s: float = 0.0
    tally: Tally = msgspec.field(default_factory=Tally)


class _SessionState(msgspec.Struct):
    settings: dict[str, Any]
    bundle_id: str | None
    acquisitions: list[_AcquisitionState]
    current: str | None
    set_aside: list[str]
    events: dict[str, list[list[int]]]
    repeats: Any
    is_blinded: bool
    template_from_s: float = 0.0


def _run_of(header: str) -> Run:
    run = from_journal([header.encode()])
    if not isinstance(run, Run):
        raise WireError(f"a {type(run).__name__} where a run is needed")
    return run


def ranges_of(numbers: Set[int]) -> list[State]:
    """Numbers as ranges, each [first, one after its last]: they are few where numbers follow each other."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number:
            ranges[-1][1] = number + 1
        else:
            ranges.append([number, number + 1])
    return cast("list[State]", ranges)


def numbers_in(ranges: Iterable[Sequence[int]]) -> Iterator[int]:
    """The numbers of `ranges_of`."""
    return chain.from_iterable(range(first, stop) for first, stop in ranges)


def _template_of(volume: Volume) -> Float32Array:
    if not np.isfinite(volume.data).all():
        raise InputError("the volume to which the others would be aligned is not finite")
    return volume.data.astype(np.float32)


def replay(messages: Iterator[Message], session: Session) -> Iterator[Answer]:
    """The answers that a journal's volumes give, in order; recorded answers only tell what was not ranked."""
    for message, recorded in _takeable(messages, session):
        behind = any(isinstance(answer, NotReady) and answer.reason is Reason.BEHIND for answer in recorded)
        for answer, _ in session.take(message, rank=not behind):
            yield answer


class Resumed(NamedTuple):
    """What a journal holds, and what it lacks.

    Attributes
    ----------
    last : Ranking, NotReady or None
        The last answer of the current run that is recorded.
    unrecorded : list of tuple of Answer and Pattern or None
        What the server would have answered next.
    n_starts : int
        How often a server has begun on the journal.
    """

    last: Answer | None
    unrecorded: list[tuple[Answer, Pattern | None]]
    n_starts: int = 0


def resume(
    messages: Iterator[Message],
    session: Session,
    *,
    over: Collection[str] = (),
    last: Answer | None = None,
    n_starts: int = 0,
) -> Resumed:
    """Bring a session to where a journal ends. What was answered is not ranked again.

    Parameters
    ----------
    messages : iterator of Message
        Of the journal; those that cannot be taken are passed over, each with its reason in the log.
    session : Session
        With the journal's bundle, at the place where `messages` begin.
    over : collection of str
        Runs that nothing will be asked of any more: their volumes are only noted.
    last : Answer or None
        The last answer before `messages`, of the current run.
    n_starts : int
        How often a server had begun on the journal before `messages`.
    """

    def counted() -> Iterator[Message]:
        nonlocal n_starts
        for message in messages:
            n_starts += isinstance(message, Hello)
            yield message

    unrecorded: list[tuple[Answer, Pattern | None]] = []
    for message, recorded in _takeable(counted(), session):
        if isinstance(message, Run):
            last = None
        if isinstance(message, Volume) and message.run_id in over:
            session.note(message)
            continue
        for answer in recorded:
            session.count(answer)
        known = {(answer.run_id, answer.index) for answer in recorded}
        answered = isinstance(message, Volume) and (message.run_id, message.index) in known
        answers = session.take(message, rank=not answered)
        unrecorded += [(answer, pattern) for answer, pattern in answers if (answer.run_id, answer.index) not in known]
        last = recorded[-1] if recorded else last
    return Resumed(last, unrecorded, n_starts)


def without_timing(answer: Answer) -> Answer:
    """The answer less what time tells: what must be the same in every replay."""
    if isinstance(answer, Ranking):
        return dataclasses.replace(answer, stage_ms={}, age_s=None)
    return dataclasses.replace(answer, stage_ms={})


def _takeable(messages: Iterator[Message], session: Session) -> Iterator[tuple[Incoming, list[Answer]]]:
    """What came in and can be taken, each with its recorded answers; what cannot be is told of and passed over."""
    for message, recorded in _with_answers(messages):
        if isinstance(message, Hello):
            session.heed(message)
            continue
        try:
            if session.is_duplicate(message):
                raise RefusedError("it is in the journal twice")
            session.check(message)
        except RefusedError as error:
            log.warning("a %s in the journal is passed over: %s", type(message).__name__, error)
            continue
        yield message, recorded


def _with_answers(messages: Iterator[Message]) -> Iterator[tuple[Incoming | Hello, list[Answer]]]:
    """What came in, each with the answers that were recorded before the next; servers' hellos in their places."""
    message: Incoming | None = None
    answers: list[Answer] = []
    hellos: list[Hello] = []

    def complete() -> Iterator[tuple[Incoming | Hello, list[Answer]]]:
        if message is not None:
            yield message, answers
        for hello in hellos:
            yield hello, []

    for recorded in messages:
        if isinstance(recorded, Ranking | NotReady):
            answers.append(recorded)
        elif isinstance(recorded, Hello):
            hellos.append(recorded)  # what the server before it owed is answered after it
        elif isinstance(recorded, Run | Volume | RunEnd | Event):
            yield from complete()
            message, answers, hellos = recorded, [], []
    yield from complete()


def _same_run(a: Run, b: Run) -> bool:
    return bool(
        (a.run_id, a.subject, a.tr_s, a.shape, a.n_volumes, a.blocks)
        == (b.run_id, b.subject, b.tr_s, b.shape, b.n_volumes, b.blocks)
        and np.array_equal(a.affine, b.affine)
    )
