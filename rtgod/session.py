"""What the server does with each message, without sockets, clocks or files.

A journal that is fed to a `Session` gives the answers that the server gave, bit for bit: the server itself does nothing
but receive, journal, and publish around it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Set
from typing import NamedTuple

import numpy as np

from rtgod import __version__
from rtgod.alignment import Reference, check_reference, check_run
from rtgod.bundle import DecoderBundle
from rtgod.decoding import Decoder
from rtgod.errors import InputError, RefusedError
from rtgod.matching import CategoryIndex
from rtgod.messages import AGAIN, Answer, Event, Hello, Message, NotReady, Pattern, Ranking, Reason, Run, RunEnd, Volume
from rtgod.pipeline import Pipeline
from rtgod.preprocessing import Noise
from rtgod.settings import PipelineSettings
from rtgod.window import Repeats

Incoming = Run | Volume | RunEnd | Event

#: A source that leaves out more volumes than this at once does not count them as we do.
MAX_GAP = 1000


class Session:
    """The state of one server: the current run and what was already taken.

    Parameters
    ----------
    bundle : DecoderBundle or None
        None for alignment only: each run is then aligned to its own first volume.
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
            check_reference(bundle.reference, self._settings)
        self._engine: tuple[Decoder, CategoryIndex] | None = None
        if bundle:
            self._engine = bundle.decoder(), bundle.category_index()
        self._repeats = Repeats()
        self._seen: dict[str, set[int]] = {}
        self._names: dict[str, str] = {}
        self._events: dict[str, set[int]] = {}
        self._ended: set[str] = set()
        self._expected = 0
        self._pipeline: Pipeline | None = None
        self.run: Run | None = None

    def hello(self) -> Hello:
        """Who this is and what it decodes with."""
        return Hello(
            server_version=__version__,
            bundle_id=self.bundle.bundle_id if self.bundle else None,
            n_candidates=self._engine[1].n_candidates if self._engine else 0,
            n_voxels=len(self.bundle.reference.voxels) if self.bundle else 0,
            settings=self._settings.model_dump(mode="json"),
        )

    @property
    def n_runs_ended(self) -> int:
        """How many runs have been received to their end."""
        return len(self._ended)

    @property
    def taken(self) -> Set[int]:
        """Volumes of the current run that were taken."""
        return self._seen[self.run.run_id] if self.run else set()

    def named(self, run: Run) -> Run:
        """The run under the name that it has in this session, or would get.

        The first acquisition of a name keeps it; another has a number after it, as when a run was stopped at the
        scanner and started again.
        """
        if not run.acquisition:
            return run
        name, number = self._names.get(run.acquisition, run.run_id), 1
        while run.acquisition not in self._names and name in self._seen:
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
                return self.run is not None and message.run_id not in self._ended and _same_run(self.run, message)
            case Volume():
                return message.index in self._seen.get(message.run_id, ())
            case RunEnd():
                return message.run_id in self._ended

    def check(self, message: Incoming) -> None:
        """Raise `RefusedError` if the message cannot be taken now; the session stays as it was."""
        if isinstance(message, Event):
            return
        if isinstance(message, Run):
            if message.run_id in self._seen:
                raise RefusedError(f"run {message.run_id} was already sent to this server; give the new one another id")
            if self.bundle:
                try:
                    check_run(message, self.bundle.reference, self._settings.motion)
                except InputError as error:
                    raise RefusedError(str(error)) from error
            return
        if self.run is None or message.run_id != self.run.run_id:
            current = f"run {self.run.run_id} is" if self.run else "no run is"
            raise RefusedError(f"run {message.run_id} is not being received ({current}); send its Run first")
        n_lost = (message.index if isinstance(message, Volume) else message.n_volumes) - self._expected
        if n_lost > MAX_GAP:
            raise RefusedError(
                f"run {message.run_id}: {n_lost} volumes would be missing after {self._expected}; "
                "volumes count from 0, one per repetition time"
            )
        if isinstance(message, Volume) and message.data.shape != self.run.shape:
            raise RefusedError(
                f"volume {message.index} has shape {message.data.shape}, its run announced {self.run.shape}"
            )

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
            case Run():
                self.run, self._expected = message, 0
                self._seen.setdefault(message.run_id, set())
                if message.acquisition:
                    self._names[message.acquisition] = message.run_id
                # Made now, so that the first volume does not wait for it.
                self._pipeline = None
                if self.bundle and self._engine:
                    self._pipeline = self.bundle.pipeline(message, *self._engine, self._repeats)
            case RunEnd():
                self._ended.add(message.run_id)
                for index in range(self._expected, message.n_volumes):
                    yield self._lost(message.run_id, index), None
                self._expected = max(self._expected, message.n_volumes)
            case Volume():
                self._seen[message.run_id].add(message.index)
                if message.index < self._expected:
                    yield (
                        NotReady(message.run_id, message.index, Reason.LOST_VOLUME, "it came after later volumes"),
                        None,
                    )
                    return
                for index in range(self._expected, message.index):
                    yield self._lost(message.run_id, index), None
                self._expected = message.index + 1
                yield self._step(message, rank)

    def _step(self, volume: Volume, rank: bool) -> tuple[Answer, Pattern | None]:
        if self._pipeline is None:
            try:
                self._pipeline = self._align_to(volume)
            except InputError as error:
                return NotReady(volume.run_id, volume.index, Reason.BAD_VOLUME, str(error)), None
        return self._pipeline.step(volume, rank=rank)

    def _align_to(self, volume: Volume) -> Pipeline:
        """The pipeline of a server without a bundle, with this volume as its template."""
        if self.run is None:
            raise AssertionError("a checked volume belongs to the current run")
        if not np.isfinite(volume.data).all():
            raise InputError("the first volume, to which the others would be aligned, is not finite")
        template = volume.data.astype(np.float32)
        reference = Reference(template, self.run.affine, np.empty((0, 3), np.int32))
        try:
            return Pipeline(reference, Noise(), None, None, (), self.run, self._settings, Repeats())
        except ValueError as error:  # too few slices, or no contrast along one direction: LinAlgError
            raise InputError(f"the others cannot be aligned to the first volume ({error})") from error

    @staticmethod
    def _lost(run_id: str, index: int) -> NotReady:
        return NotReady(run_id, index, Reason.LOST_VOLUME, "it never arrived")


def replay(messages: Iterator[Message], session: Session) -> Iterator[Answer]:
    """The answers that a journal's volumes give, in order; recorded answers only tell what was not ranked."""
    for message, recorded in _with_answers(messages):
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
    """

    last: Answer | None
    unrecorded: list[tuple[Answer, Pattern | None]]


def resume(messages: Iterator[Message], session: Session) -> Resumed:
    """Bring a new session to where a journal ends. What was answered is not ranked again.

    Parameters
    ----------
    messages : iterator of Message
        Of the journal.
    session : Session
        With the journal's bundle.
    """
    last: Answer | None = None
    unrecorded: list[tuple[Answer, Pattern | None]] = []
    for message, recorded in _with_answers(messages):
        if isinstance(message, Run):
            last = None
        known = {(answer.run_id, answer.index) for answer in recorded}
        answered = isinstance(message, Volume) and (message.run_id, message.index) in known
        found = session.take(message, rank=not answered)
        unrecorded += [(answer, pattern) for answer, pattern in found if (answer.run_id, answer.index) not in known]
        last = recorded[-1] if recorded else last
    return Resumed(last, unrecorded)


def without_timing(answer: Answer) -> Answer:
    """The answer less what time tells: what must be the same in every replay."""
    if isinstance(answer, Ranking):
        return dataclasses.replace(answer, stage_ms={}, age_s=None)
    return dataclasses.replace(answer, stage_ms={})


def _with_answers(messages: Iterator[Message]) -> Iterator[tuple[Incoming, list[Answer]]]:
    """What came in, each with the answers that were recorded before the next."""
    message: Incoming | None = None
    answers: list[Answer] = []
    for recorded in messages:
        if isinstance(recorded, Ranking | NotReady):
            answers.append(recorded)
        elif isinstance(recorded, Run | Volume | RunEnd | Event):
            if message is not None:
                yield message, answers
            message, answers = recorded, []
    if message is not None:
        yield message, answers


def _same_run(a: Run, b: Run) -> bool:
    return bool(
        (a.run_id, a.subject, a.tr_s, a.shape, a.n_volumes, a.blocks)
        == (b.run_id, b.subject, b.tr_s, b.shape, b.n_volumes, b.blocks)
        and np.array_equal(a.affine, b.affine)
    )
