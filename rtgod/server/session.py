"""The session: the server's handling of each message, without sockets, clocks or files.

A journal that is fed to a `Session` gives the answers that the server gave, bit for bit: the server only adds the
receiving, journalling and publishing.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from rtgod import __version__
from rtgod.bundle import DecoderBundle
from rtgod.decoding.category_index import CategoryIndex
from rtgod.decoding.decoder import Decoder
from rtgod.errors import CheckpointError, InputError, RefusedError, WireError
from rtgod.events.table import check_within
from rtgod.fit import check_fit
from rtgod.messages import (
    AGAIN,
    COMMITMENT,
    MOST_BLOCKS,
    Answer,
    Event,
    Float32Array,
    Hello,
    Message,
    NewBlock,
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
from rtgod.preprocessing.design_matrix import columns_of
from rtgod.preprocessing.preprocessor import Noise
from rtgod.preprocessing.windows import RepeatAverager
from rtgod.protocol.frames import from_journal, to_frames
from rtgod.server.tally import Tally
from rtgod.settings import PipelineSettings
from rtgod.state import State

log = logging.getLogger(__name__)

Incoming = Run | Volume | RunEnd | Event | NewBlock

#: Most volumes that may be missing in a row; a source that leaves out more numbers its volumes differently.
MAX_GAP = 1000
#: Time by which a block may begin before the end of another, seconds: sums of rounded times differ by less.
_SAME_S = 1e-5
#: Number of the newest unfinished runs, besides the current one, that can be continued.
MOST_SET_ASIDE = 2


@dataclass(slots=True, eq=False)
class Acquisition:
    """State of one acquisition of a run.

    Attributes
    ----------
    run : Run
        The run, under its name in the session.
    pipeline : Pipeline or None
        None until it is made, and if the run cannot be continued.
    seen : set of int
        Indices of the volumes that were taken.
    expected : int
        Index of the volume that comes next if none is lost.
    ended : bool
    template : ndarray of shape (x, y, z), float32, or None
        The run's own template, if the session has no bundle; None before a volume could be used.
    template_from_s : float
        Seconds into the run; without a bundle the first usable volume from this time on becomes the template.
    tally : Tally
        Counts of the answers that were passed to `Session.count`.
    n_told : int
        Number of the run's blocks that came after it, as `NewBlock`; all of them, or none.
    """

    run: Run
    pipeline: Pipeline | None = None
    seen: set[int] = field(default_factory=set)
    expected: int = 0
    ended: bool = False
    template: Float32Array | None = None
    template_from_s: float = 0.0
    tally: Tally = field(default_factory=Tally)
    n_told: int = 0


class Session:
    """State of one session: the current run, and the messages already taken.

    Parameters
    ----------
    bundle : DecoderBundle or None
        None for alignment only: each run is then aligned to its first usable volume after those that are discarded.
    settings : PipelineSettings or None
        Settings for alignment only; a bundle brings its own settings.

    Raises
    ------
    InputError
        If nothing can be aligned to the bundle's template, or most of its voxels lie outside the head.
    """

    def __init__(self, bundle: DecoderBundle | None, settings: PipelineSettings | None = None) -> None:
        # The index holds what it needs of the candidates' features; a second copy would double a server's memory.
        self.bundle = dataclasses.replace(bundle, candidate_features={}) if bundle else None
        self._settings = bundle.settings if bundle else settings or PipelineSettings()
        if bundle:
            check_reference(bundle.reference, self._settings.motion)
        self._template_from_s = 0.0 if bundle else self._settings.nuisance.discard_s
        self._engine: tuple[Decoder, CategoryIndex] | None = None
        if bundle:
            self._engine = bundle.decoder(), bundle.category_index()
        names = [candidate.name for candidate in bundle.candidates] if bundle else []
        if bundle and bundle.pictures is not None:
            _ = bundle.pictures.search  # made now, so that the first volume does not wait for it
            names += bundle.pictures.names
        self._letters = "".join(sorted({letter for letter in set().union(*names) if not letter.isascii()}))
        self._repeats = RepeatAverager()
        self._acquisitions: dict[str, Acquisition] = {}
        self._names: dict[str, str] = {}
        self._events: dict[str, set[int]] = {}
        self._current: Acquisition | None = None
        #: Unfinished runs that may be continued, without the current one, oldest first.
        self._set_aside: list[str] = []
        self._prepared: Acquisition | None = None
        #: Whether a display has committed itself to sealed conditions: then logs must not reveal rankings.
        self.is_blinded = False

    def hello(self) -> Hello:
        """Make the message that introduces the server, with its bundle and settings."""
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
        """Settings with which tables of events are read for the decoder, but for defaults; None without a bundle."""
        # Clients of versions that do not know a setting understand its default, which is left out.
        return self.bundle.settings.events.model_dump(mode="json", exclude_defaults=True) if self.bundle else None

    def heed(self, hello: Hello) -> None:
        """Choose templates of later runs as the server of this `Hello` did; older servers chose another volume.

        Parameters
        ----------
        hello : Hello
            Introduction of the server that takes, or took, the messages from here on.
        """
        if not self.bundle:
            self._template_from_s = hello.template_from_s

    @property
    def run(self) -> Run | None:
        """The current run; None before the first."""
        return self._current.run if self._current else None

    @property
    def is_receiving(self) -> bool:
        """Whether a run has begun and has not ended."""
        return self._current is not None and not self._current.ended

    @property
    def n_runs_ended(self) -> int:
        """Number of runs that were received to their end."""
        return sum(acquisition.ended for acquisition in self._acquisitions.values())

    def answers_of(self, run_id: str) -> dict[str, int]:
        """Return the counts of the answers to a run's volumes; see `Tally`.

        Parameters
        ----------
        run_id : str
            Name of the run in this session; see `rename`. The counts of an unknown run are empty.
        """
        acquisition = self._acquisitions.get(run_id)
        return dict(acquisition.tally.answers) if acquisition else {}

    @property
    def n_runs(self) -> int:
        """Number of runs that have begun."""
        return len(self._acquisitions)

    def totals(self) -> dict[str, int]:
        """Count the answers to the volumes of all runs; see `Tally`."""
        totals: dict[str, int] = {}
        for acquisition in self._acquisitions.values():
            for kind, n in acquisition.tally.answers.items():
                totals[kind] = totals.get(kind, 0) + n
        return totals

    @property
    def taken(self) -> Set[int]:
        """Indices of the volumes of the current run that were taken."""
        return self._current.seen if self._current else set()

    def rename(self, run: Run) -> Run:
        """Return the run under the name that it has in this session, or would get.

        The first acquisition of a name keeps it; a further one, as after a stop and a restart at the scanner, gets a
        number after the name.

        Parameters
        ----------
        run : Run
            Run as its source sent it.
        """
        if not run.acquisition:
            return run
        name, number = self._names.get(run.acquisition, run.run_id), 1
        while run.acquisition not in self._names and name in self._acquisitions:
            number += 1
            name = f"{run.run_id}{AGAIN}{number}"
        return dataclasses.replace(run, run_id=name)

    def is_duplicate(self, message: Incoming) -> bool:
        """Return whether a message was taken before; the server then acknowledges it again and otherwise ignores it.

        Parameters
        ----------
        message : Run, Volume, RunEnd, Event or NewBlock
            Message that carries its run's name in this session; see `rename`.
        """
        match message:
            case Event():
                return message.number in self._events.get(message.client, ())
            case NewBlock():
                acquisition = self._acquisitions.get(message.run_id)
                is_known = acquisition is not None and message.block in acquisition.run.blocks
                return is_known or message.number in self._events.get(message.client, ())
            case Run() if message.acquisition:
                return message.acquisition in self._names
            case Run():
                # After the run's end it is not a repetition but a second run of the same name, which `check` refuses.
                current = self._current
                return current is not None and not current.ended and _same_run(_as_it_came(current), message)
            case Volume():
                return message.index in self._seen(message.run_id)
            case RunEnd():
                acquisition = self._acquisitions.get(message.run_id)
                return acquisition is not None and acquisition.ended

    def check(self, message: Incoming) -> None:
        """Raise `RefusedError` if the message cannot be taken now; the messages taken so far are not affected.

        The pipeline of a run is made here, so that every message that passed the check can be taken.

        Parameters
        ----------
        message : Run, Volume, RunEnd, Event or NewBlock
            Message that carries its run's name in this session; see `rename`.
        """
        if isinstance(message, Event):
            return
        if isinstance(message, NewBlock):
            self._with_block(message)
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
        """List what is odd about a run that is to be decoded with this bundle, a clause for each.

        This is asked only when a new run is taken: older journals hold runs for which it was not asked.

        Parameters
        ----------
        run : Run
        any_subject : bool
            Whether a run of another subject is only listed, and not refused.

        Raises
        ------
        RefusedError
            If the run cannot be decoded with this bundle.
        """
        if self.bundle is None:
            return []
        try:
            bundle = self.bundle
            return check_fit(
                run, bundle.reference, bundle.training, labels=bundle.known_labels, any_subject=any_subject
            )
        except InputError as error:
            raise RefusedError(str(error)) from error

    def count(self, answer: Answer, volume: Volume | None = None) -> None:
        """Count an answer, for the operator; no later answer depends on it.

        Parameters
        ----------
        answer : Ranking or NotReady
        volume : Volume, optional
            The answered volume, from which to find out why it cannot be aligned.
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
        """Reason why no volume of the current run can be decoded now; empty if volumes can be."""
        if self._current is None:
            return ""
        template = "the bundle's head" if self.bundle else "the run's own template"
        return self._current.tally.notice(template)

    def receives(self, message: Volume | RunEnd | NewBlock) -> Acquisition | None:
        """Return the acquisition to which a message belongs: the current one, or an unfinished earlier one; else None.

        An earlier acquisition is continued only if it has an identity, which distinguishes it from others of its name.

        Parameters
        ----------
        message : Volume, RunEnd or NewBlock
        """
        current = self._current
        if current is not None and message.run_id == current.run.run_id:
            return current
        return self._acquisitions[message.run_id] if message.run_id in self._set_aside else None

    def _prepare(self, run: Run) -> None:
        """Make the pipeline of a run, unless it is made already; refuse the run if that fails for any reason."""
        if run.run_id in self._acquisitions:
            raise RefusedError(f"run {run.run_id} was already sent to this server; give the new one another id")
        # A source sends its run again if the run could not be written to the journal.
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

    def _with_block(self, message: NewBlock) -> tuple[Acquisition, Run]:
        """Return the acquisition that a block belongs to, and its run with the block.

        Raises
        ------
        RefusedError
            If the block is of no run under way, or cannot be added to it.
        """
        acquisition, block = self.receives(message), message.block
        if acquisition is None or acquisition.ended:
            receiving = f"run {self.run.run_id} is" if self.run and self.is_receiving else "no run is"
            raise RefusedError(f"a block of run {message.run_id}, which is not being received ({receiving})")
        blocks, where = acquisition.run.blocks, f"run {message.run_id}: the block at {block.onset_s:g} s"
        if blocks and not acquisition.n_told:
            raise RefusedError(f"{where} is not taken: its source lists {len(blocks)} blocks, which are kept")
        if blocks and block.onset_s < blocks[-1].onset_s + blocks[-1].duration_s - _SAME_S:
            raise RefusedError(
                f"{where} begins before the end of the one at {blocks[-1].onset_s:g} s for {blocks[-1].duration_s:g} "
                "s; blocks follow each other, and are told in the order of their onsets"
            )
        if len(blocks) >= MOST_BLOCKS:
            raise RefusedError(f"{where} is one too many: a run has at most {MOST_BLOCKS}")
        run = message.in_run(acquisition.run)
        try:
            check_within(run)
            if self._settings.window.mode != "sliding":
                columns_of(run, self._settings.response.delay_s)
        except InputError as error:
            raise RefusedError(str(error)) from error
        return acquisition, run

    def lateness(self, message: NewBlock) -> str:
        """Say that a block, or the response to it, began before it was known; empty if no volume of it was taken yet.

        Parameters
        ----------
        message : NewBlock
            Block that passed `check`, or was taken.
        """
        acquisition = self._acquisitions.get(message.run_id)
        delay_s = self._settings.response.delay_s
        if acquisition is None or message.onset_s + delay_s >= acquisition.expected * acquisition.run.tr_s:
            return ""
        n_taken = acquisition.expected
        early = f", and its response is expected {-delay_s:g} s before it (response.delay_s)" if delay_s < 0 else ""
        return (
            f"the block at {message.onset_s:g} s was told when {n_taken} volumes had come{early}: it counts from "
            f"volume {n_taken} on, and what was answered before it stays"
        )

    def _seen(self, run_id: str) -> Set[int]:
        acquisition = self._acquisitions.get(run_id)
        return acquisition.seen if acquisition else set()

    def handle(self, message: Incoming, *, rank: bool = True) -> Iterator[tuple[Answer, Pattern | None]]:
        """Take in a message that passed `check`.

        Parameters
        ----------
        message : Run, Volume, RunEnd, Event or NewBlock
        rank : bool
            Whether to rank; False only updates the state, see `Pipeline.step`.

        Yields
        ------
        answer : Ranking or NotReady
            An answer for each volume that is missing before this one, then the answer to this volume.
        pattern : Pattern or None
            The volume's pattern, for the record.
        """
        match message:
            case Event():
                self._events.setdefault(message.client, set()).add(message.number)
                self.is_blinded |= message.kind == COMMITMENT
            case NewBlock():
                to_extend, run = self._with_block(message)
                to_extend.run = run
                to_extend.n_told += 1
                if to_extend.pipeline is not None:
                    to_extend.pipeline.extend(run)
                self._events.setdefault(message.client, set()).add(message.number)
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
                    why = "it came after later volumes"
                    yield NotReady(message.run_id, message.index, Reason.LOST_VOLUME, why), None
                    return
                for index in range(current.expected, message.index):
                    yield self._lost(message.run_id, index), None
                current.expected = message.index + 1
                yield self._step(current, message, rank)

    def note(self, volume: Volume) -> None:
        """Take in a volume of a run whose answers are not needed any more, without its pipeline.

        Parameters
        ----------
        volume : Volume
            Volume that passed `check`.
        """
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
        """Make the acquisition of a message the current one."""
        acquisition = self.receives(message)
        if acquisition is None:
            raise AssertionError("a checked message belongs to an acquisition that is received")
        if acquisition is not self._current:
            self._set_aside.remove(message.run_id)
            self._leave_off()
            self._current = acquisition
        return acquisition

    def _leave_off(self) -> None:
        """Set the current acquisition aside if it may be continued; keep only the newest `MOST_SET_ASIDE` of these."""
        current = self._current
        if current is None:
            return
        if current.run.acquisition and not current.ended:
            self._set_aside.append(current.run.run_id)
        else:
            current.pipeline = None
            current.run = dataclasses.replace(current.run, blocks=())  # they are not needed any more
        while len(self._set_aside) > MOST_SET_ASIDE:
            self._acquisitions[self._set_aside.pop(0)].pipeline = None

    def _step(self, current: Acquisition, volume: Volume, rank: bool) -> tuple[Answer, Pattern | None]:
        """Answer a volume; any error becomes its answer, as the volume is on the disk and the next may be better."""
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
        """Make the pipeline of a run in a session without a bundle."""
        reference = Reference(template, run.affine, np.empty((0, 3), np.int32))
        try:
            return Pipeline(reference, Noise(), None, None, (), run, self._settings, RepeatAverager())
        except ValueError as error:  # too few slices, or no contrast along one direction: LinAlgError
            raise InputError(f"the others cannot be aligned to this volume ({error})") from error

    @property
    def keeps_evidence(self) -> bool:
        """Whether the evidence of one run counts in later runs."""
        return self._settings.window.mode == "repeats"

    def state(self) -> State:
        """Return all state that depends on the messages so far; its arrays are those in use, not copies."""
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
        # Of an acquisition that is over, only the name and the volumes are needed.
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
            "n_told": acquisition.n_told,
        }

    def restore(self, state: State) -> None:
        """Take over the state of another session with the same bundle and settings.

        Parameters
        ----------
        state : State
            Tree from `state`, or from a checkpoint.

        Raises
        ------
        CheckpointError
            If it is not the state of such a session; then this session is unchanged.
        """
        try:
            saved = msgspec.convert(state, _SessionState)
            saved_runs = [(fields, _run_of(fields.run)) for fields in saved.acquisitions]
        except (msgspec.ValidationError, WireError) as error:
            raise CheckpointError(f"this is no session's state ({error})") from error
        needed = self._settings.model_dump(mode="json"), self.bundle.bundle_id if self.bundle else None
        if (saved.settings, saved.bundle_id) != needed:
            raise CheckpointError("the session had another bundle, or other settings")
        repeats = RepeatAverager()
        repeats.restore(saved.repeats)
        acquisitions = {}
        for fields, run in saved_runs:
            pipeline = None if fields.pipeline is None else self._pipeline_of(run, fields.template, repeats)
            if pipeline is not None:
                pipeline.restore(fields.pipeline)
            seen = set(numbers_in(fields.seen))
            acquisitions[run.run_id] = Acquisition(
                run,
                pipeline,
                seen,
                fields.expected,
                fields.ended,
                fields.template,
                fields.template_from_s,
                fields.tally,
                fields.n_told,
            )
        if {saved.current, *saved.set_aside} - acquisitions.keys() - {None}:
            raise CheckpointError("a run that goes on is not among the session's")
        self._repeats, self._acquisitions = repeats, acquisitions
        self._names = {
            acquired.run.acquisition: name for name, acquired in acquisitions.items() if acquired.run.acquisition
        }
        self._events = {client: set(numbers_in(ranges)) for client, ranges in saved.events.items()}
        self._current = None if saved.current is None else acquisitions[saved.current]
        self._set_aside, self._prepared = list(saved.set_aside), None
        self.is_blinded, self._template_from_s = saved.is_blinded, saved.template_from_s

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
    n_told: int = 0


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
    """Write numbers as ranges, each [first, last + 1]; consecutive numbers need only one range.

    Parameters
    ----------
    numbers : set of int
    """
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number:
            ranges[-1][1] = number + 1
        else:
            ranges.append([number, number + 1])
    return cast("list[State]", ranges)


def numbers_in(ranges: Iterable[Sequence[int]]) -> Iterator[int]:
    """Give the numbers in the ranges of `ranges_of`.

    Parameters
    ----------
    ranges : iterable of sequence of int
        Each range as [first, last + 1].

    Raises
    ------
    CheckpointError
        If a range does not have two ends.
    """
    for ends in ranges:
        if len(ends) != 2:
            raise CheckpointError(f"{len(ends)} numbers, where a range has two")
        yield from range(*ends)


def _template_of(volume: Volume) -> Float32Array:
    if not np.isfinite(volume.data).all():
        raise InputError("the volume to which the others would be aligned is not finite")
    return volume.data.astype(np.float32)


def replay(messages: Iterator[Message], session: Session) -> Iterator[Answer]:
    """Compute the answers to a journal's volumes, in order; of recorded answers only `Reason.BEHIND` is used.

    Parameters
    ----------
    messages : iterator of Message
        Messages of the journal; a message that cannot be taken is passed over, with the reason in the log.
    session : Session
        New session with the journal's bundle; without a bundle, with the settings of its server.
    """
    for message, recorded in _takeable(messages, session):
        behind = any(isinstance(answer, NotReady) and answer.reason is Reason.BEHIND for answer in recorded)
        for answer, _ in session.handle(message, rank=not behind):
            yield answer


class Resumed(NamedTuple):
    """Result of bringing a session to the end of a journal.

    Attributes
    ----------
    last : Ranking, NotReady or None
        The last recorded answer of the current run.
    unrecorded : list of tuple of Answer and Pattern or None
        Answers to recorded volumes that the journal lacks, with their patterns.
    n_starts : int
        Number of times that a server has begun on the journal.
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
    """Bring a session to the state at the end of a journal, without ranking again the volumes that were answered.

    Parameters
    ----------
    messages : iterator of Message
        Messages of the journal; a message that cannot be taken is passed over, with the reason in the log.
    session : Session
        Session with the journal's bundle, in the state in which `messages` begin.
    over : collection of str
        Runs whose answers are not needed any more: their volumes are only noted.
    last : Answer or None
        The last answer of the current run before `messages`.
    n_starts : int
        Number of times that a server had begun on the journal before `messages`.
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
        addresses = {(answer.run_id, answer.index) for answer in recorded}
        answered = isinstance(message, Volume) and (message.run_id, message.index) in addresses
        answers = session.handle(message, rank=not answered)
        unrecorded += [
            (answer, pattern) for answer, pattern in answers if (answer.run_id, answer.index) not in addresses
        ]
        last = recorded[-1] if recorded else last
    return Resumed(last, unrecorded, n_starts)


def without_timing(answer: Answer) -> Answer:
    """Return the answer without measured times: the part that is equal in every replay.

    Parameters
    ----------
    answer : Ranking or NotReady
    """
    if isinstance(answer, Ranking):
        return dataclasses.replace(answer, stage_ms={}, age_s=None)
    return dataclasses.replace(answer, stage_ms={})


def _takeable(messages: Iterator[Message], session: Session) -> Iterator[tuple[Incoming, list[Answer]]]:
    """Give the messages that can be taken, with their recorded answers; pass over others, with a warning in the log."""
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
    """Give incoming messages, each with the answers recorded before the next one, and each `Hello` in its place."""
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
            hellos.append(recorded)  # answers that the server before it still owed follow after it
        elif isinstance(recorded, Run | Volume | RunEnd | Event | NewBlock):
            yield from complete()
            message, answers, hellos = recorded, [], []
    yield from complete()


def _as_it_came(acquisition: Acquisition) -> Run:
    """Return the run as its source sent it, without blocks that were told later."""
    return dataclasses.replace(acquisition.run, blocks=()) if acquisition.n_told else acquisition.run


def _same_run(a: Run, b: Run) -> bool:
    return bool(
        (a.run_id, a.subject, a.tr_s, a.shape, a.n_volumes, a.blocks)
        == (b.run_id, b.subject, b.tr_s, b.shape, b.n_volumes, b.blocks)
        and np.array_equal(a.affine, b.affine)
    )
