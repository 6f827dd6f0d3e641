"""Functional runs while they are acquired: images of any source become runs and volumes for a server.

Neither names of files nor any field that identifies a person is told.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from rtgod.errors import InputError
from rtgod.messages import Array, Run, RunEnd, Volume
from rtgod.receivers.identity_table import IDENTIFYING, IdentityTable, identity_of
from rtgod.receivers.live_echoes import LiveEchoes
from rtgod.receivers.live_run import Again, Image, Key, LiveRun, Numbers, is_copy
from rtgod.receivers.live_series import LiveVolume
from rtgod.receivers.outbox import Destination, Outbox, outbox_of
from rtgod.receivers.privacy import OTHER, Patients, are_two, without_paths
from rtgod.receivers.run_options import ENDED_TR, SILENCE_TR, RunOptions, silence
from rtgod.receivers.selection import TAGS, why_left_out
from rtgod.sources.dicom.fields import integer_of, text_of
from rtgod.sources.dicom.file import check_readable, shielded
from rtgod.sources.dicom.lone_series import FEWEST_JOINED, LoneSeries
from rtgod.sources.dicom.pieces import Piece
from rtgod.sources.dicom.series import alike, format_of, tags_read
from rtgod.sources.echoes import Combine, Echo
from rtgod.text import number_of

#: A series that has this number of volumes beside the run under way is left out.
_MOST_BESIDE = 10
#: Fewest volumes that a file may promise and be believed.
_FEWEST_PROMISED = 5
#: Element that tells how many volumes a series will have: NumberOfTemporalPositions.
_N_VOLUMES = Tag(0x00200105)


def tags_taken() -> tuple[int, ...]:
    """Return the elements that `LiveRuns.take` reads, as 0xGGGGEEEE."""
    return (*tags_read(), *TAGS, _N_VOLUMES, *IDENTIFYING)


#: Hears of each image: its series' number and SeriesInstanceUID, its header, why it is left out, and its pieces.
Witness = Callable[[Key, FileDataset, str, Sequence[Piece]], object]


class LiveRuns:
    """Sender of functional runs, out of images in the order in which they come.

    One run is sent at a time. Another series takes its place once that has two volumes and the run has ended or fallen
    silent, so that a stray image ends no run.

    Parameters
    ----------
    sender : Destination or Outbox
        An outbox may be shared with other receivers.
    options : RunOptions
    tell : callable
        Shows the operator a line.
    clock : callable, optional
        Clock of monotonic seconds.
    identities : IdentityTable, optional
        Gets a row for each run.
    witness : Witness, optional
        Hears of each image, before it is added to its series.
    """

    def __init__(
        self,
        sender: Destination | Outbox,
        options: RunOptions,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
        identities: IdentityTable | None = None,
        witness: Witness = lambda *_: None,
    ) -> None:
        self._options, self._tell, self._clock, self._witness = options, tell, clock, witness
        self._patients, self._identities = Patients(are_several=options.several_patients), identities
        self._told: set[tuple[Key, str]] = set()
        self._series: dict[Key, LiveRun] = {}
        self._live: LiveRun | None = None
        self._over: dict[Key, str] = {}
        self._ended: dict[Key, LiveRun] = {}
        self._outbox = outbox_of(sender, tell)

    @property
    def n_sent(self) -> int:
        """Number of volumes that the server has on disk."""
        return self._outbox.n_sent

    @property
    def is_live(self) -> bool:
        """Whether a run is under way."""
        return self._live is not None

    def run_of(self, key: Key) -> LiveRun | None:
        """Return the run to which a series' image went last, if any; the one that goes on where it was restarted.

        Parameters
        ----------
        key : Key
        """
        return self._series.get(key) or self._ended.get(key)

    def take(self, header: FileDataset, read: Callable[[], Array], origin: Path) -> None:
        """Take in an image.

        Parameters
        ----------
        header : FileDataset
            With the elements of `tags_taken`.
        read : callable
            Returns the stored numbers of all of its frames, shape (n_frames, n_rows, n_columns).
        origin : Path
            Its file, which is not told.
        """
        key: Key = (0, "")
        try:
            with shielded(origin):
                key = integer_of(header.get("SeriesNumber")) or 0, str(header.get("SeriesInstanceUID", ""))
                fitting = format_of(header)
                why = OTHER if self._patients.is_other(self._patients.of(header)) else ""
                why = why or why_left_out(header, corrected=self._options.corrected, echo=self._options.echo)
                if fitting is None or why:
                    self._leave_image(key, header, why or "a format that is not read")
                    return
                check_readable(origin, header, 2**62)
                found = fitting.pieces(origin, header)
                if not found:
                    self._leave_image(key, header, "no magnitude images")
                    return
                pieces, left = self._of_echo(header, found)
                pixels = read() if pieces else None
        except InputError as error:
            why = without_paths(str(error), origin)
            self._tell_once(key, f"series {key[0]}: an image is left out: {why}")
            self._witness(key, header, why, ())
            return
        self._witness(key, header, "", pieces)
        for piece in pieces:
            try:
                if pixels is not None:
                    with shielded(origin):
                        self._add(Image(key, header, piece, fitting.slices(pixels, piece), left))
            except InputError as error:
                self._tell_once(key, f"series {key[0]}: an image is left out: {without_paths(str(error), origin)}")

    def _leave_image(self, key: Key, header: FileDataset, why: str) -> None:
        self._tell_once(key, f"series {key[0]}: {why}: left out")
        self._witness(key, header, why, ())

    def step(self) -> None:
        """Send the volumes that are complete by now, and mind a run that has fallen silent."""
        now_s = self._clock()
        live = self._live
        if live is not None:
            self._give(live)
            if self._live is live:
                self._mind_silence(live)
        if self._live is None or self._live.is_silent:
            self._look_for_next(now_s)
            self._mind_waiting()
        else:
            self._mind_others(self._live)
        self._outbox.send()

    def end(self) -> None:
        """End the run under way, and send what is complete."""
        for run in list(dict.fromkeys(self._series.values())):
            if run.numbers.held:
                self._restart(run)
        if self._live is None:
            self._look_for_next(float("inf"))
        while (live := self._live) is not None:
            self._end_run()
            for run in list(dict.fromkeys(self._series.values())):
                if run.is_settled and run.series.look() < 2 * run.series.n_after(live.heard_s):
                    self._look_for_next(float("inf"))
                    break
        for run in dict.fromkeys(self._series.values()):
            self._tell_unsent(run)
        for problem in self._identities.flush() if self._identities is not None else ():
            self._tell(problem)
        self._outbox.end()

    # ---------------------------------------------------------------- series

    def _of_echo(self, header: FileDataset, pieces: Sequence[Piece]) -> tuple[Sequence[Piece], Echo]:
        """Choose the pieces of the echo that is taken, as far as the file tells; return what is left to choose."""
        echo, echoes_ms = self._options.echo, sorted({piece.grid.echo_ms for piece in pieces})
        if isinstance(echo, Combine):
            return pieces, echo
        if len(echoes_ms) > 1:
            if not 1 <= echo <= len(echoes_ms):
                raise InputError(
                    f"it has {len(echoes_ms)} echoes; choose one with --echo N, or combine them with --echo combine"
                )
            return [piece for piece in pieces if piece.grid.echo_ms == echoes_ms[echo - 1]], 0
        is_numbered = bool(text_of(header, "EchoNumbers"))
        return pieces, 0 if is_numbered else echo

    def _add(self, image: Image) -> None:
        """Add an image to its run, or to another one where its series was restarted."""
        key, run = image.key, self._series.get(image.key) or self._ended.get(image.key)
        again = run.numbers.again(key, image.piece) if run is not None else Again.NO
        if run is None or again is Again.NO or (again is not Again.YES and key not in self._series):
            self._put(image)
        elif again is Again.PERHAPS:
            run.numbers.hold(image)
            self._note_heard(run)
        elif again is Again.YES:
            self._restart(run, image)
        else:
            self._each(self._put, (*run.numbers.take_held(), image))

    def _each(self, add: Callable[[Image], None], images: Sequence[Image]) -> None:
        """Add images, of which those before the last were held; one that cannot be added leaves out no other."""
        for image in images:
            path = image.piece.path
            try:
                with shielded(path):
                    add(image)
            except InputError as error:
                line = f"series {image.key[0]}: an image is left out: {without_paths(str(error), path)}"
                self._tell_once(image.key, line)

    def _note_heard(self, run: LiveRun) -> None:
        run.image_s = self._clock()
        if run is not self._live:
            run.heard_s = run.image_s

    def _put(self, image: Image) -> None:
        key, header, piece, slices = image.key, image.header, image.piece, image.slices
        if key in self._over:
            self._tell_once(key, f"series {key[0]}: {self._over[key]}: left out")
            return
        if self._is_after_end(key, header, piece):
            return
        run = self._series.get(key) or self._series_of(image)
        if are_two(run.patient, self._patients.of(header)):
            raise InputError("its PatientID differs from that of the series' first file")
        if run.is_before(piece):
            raise InputError("it was acquired before its series was restarted, and came after")
        run.numbers.note(key, piece)
        self._note_heard(run)
        if run.is_settled:
            run.add(key, piece, slices, self._clock())
            return
        if any(known == key and is_copy(piece, earlier) for known, earlier, _ in run.unsettled):
            return
        run.unsettled.append((key, piece, slices))
        own = [one for one in run.unsettled if one[0] == key]
        if len(own) > 1 or not piece.is_whole:
            self._settle(run, [one for one in run.unsettled if one[0] != key], own)
        elif len(run.keys) >= FEWEST_JOINED:
            self._settle(run, [], run.unsettled)

    def _restart(self, run: LiveRun, *images: Image) -> None:
        """End a run whose images are counted anew at a later time; those that were held and others are of another."""
        held = run.numbers.take_held()
        first = [*held, *images][0]
        key = first.key
        self._tell(
            f"series {run.number}: its images are counted from the beginning again, at a later time: it was restarted, "
            "and what follows is another run"
        )
        if self._live is None and key in self._series:
            self._look_for_next(float("inf"))
        if run is self._live:
            self._end_run()
        elif key in self._series:
            self._tell_unsent(run)
        self._over.pop(key, None)
        self._series.pop(key, None)
        self._series_of(first).restart(run.n_restarts + 1, first.piece)
        self._each(self._add, (*held, *images))

    def _is_after_end(self, key: Key, header: FileDataset, piece: Piece) -> bool:
        """Return whether an image goes on, without a pause, with series of one volume each whose run has ended."""
        if key in self._series or not piece.is_whole:
            return False
        kind = self._kind_of(header)
        for run in dict.fromkeys(self._ended.values()):
            if run.alike == kind and len(run.keys) > 1 and run.lone.takes((key[0], piece.clock_s), in_time=True):
                self._over[key] = "images came after its run had ended"
                self._tell_once((run.number, run.uid), f"series {run.number}: {self._over[key]}: left out")
                run.lone.add((key[0], piece.clock_s))
                return True
        return False

    def _kind_of(self, header: FileDataset) -> tuple[str, ...]:
        return (*alike(header), self._patients.of(header).hex())

    def _series_of(self, image: Image) -> LiveRun:
        """Return the run of a new series: one that consists of series of one volume each, or a new one."""
        key, header, piece = image.key, image.header, image.piece
        kind, turn, before = self._kind_of(header), (key[0], piece.clock_s), None
        for run in dict.fromkeys(self._series.values() if piece.is_whole else ()):
            is_joined = len(run.keys) > 1 or not run.is_settled
            has_ended = piece.clock_s is None and run.is_silent and run.is_settled
            if run.alike != kind or not is_joined or run.uid == key[1]:
                continue
            before = run if len(run.keys) > 1 else before
            if not has_ended and run.lone.takes(turn):
                run.keys.add(key)
                run.lone.add(turn)
                self._series[key] = run
                return run
        if before is not None:
            why = "by its number and time it does not go on with that run: it is of another"
            self._tell_once((before.number, before.uid), f"series {key[0]}, after series {before.number}: {why}")
        tr_s, note = self._options.chosen_tr_s(piece.grid.tr_s)
        if note:
            self._tell_once(key, f"series {key[0]}: {note}")
        if not tr_s:
            self._over[key] = "no repetition time in its images; give it with --tr"
            raise InputError(self._over[key])
        promised = integer_of(header.get("NumberOfTemporalPositions")) or 0
        run = LiveRun(
            key[0],
            key[1],
            kind,
            LiveEchoes(tr_s, self._options.patience_tr, image.echo),
            piece.grid.coil,
            promised if promised >= _FEWEST_PROMISED else None,
            {key},
            self._patients.of(header),
            identity_of(header) if self._identities is not None else None,
            heard_s=self._clock(),
            lone=LoneSeries(tr_s),
            numbers=Numbers(tr_s),
        )
        run.lone.add(turn)
        self._series[key] = run
        return run

    def _settle(
        self, run: LiveRun, others: Sequence[tuple[Key, Piece, Array]], images: Sequence[tuple[Key, Piece, Array]]
    ) -> None:
        """Take images for those of one run; others, of series that seemed to be of it, are series of one volume."""
        for key in {image[0] for image in others}:
            run.keys.discard(key)
            del self._series[key]
            self._over[key] = "one volume, and no more"
            self._tell_once(key, f"series {key[0]}: one volume, and no more: left out")
        first = min(run.keys)
        run.number, run.uid, run.is_settled, run.unsettled = first[0], first[1], True, []
        for key, piece, slices in images:
            run.add(key, piece, slices, self._clock())

    # ---------------------------------------------------------------- runs

    def _look_for_next(self, now_s: float) -> None:
        """Begin with the series that has volumes to give; the run under way, if any, has fallen silent."""
        for run in list(dict.fromkeys(self._series.values())):
            if run is self._live or not run.is_settled:
                continue
            try:
                if self._live is not None and run.series.look() < 2:
                    continue
                volumes = run.series.ready(now_s)
                self._tell_notes(run)
            except InputError as error:
                self._leave_out(run, without_paths(str(error), Path("an image")))
                continue
            if volumes:
                self._end_run()
                self._live = run
                self._queue(run, volumes)
                return

    def _mind_others(self, live: LiveRun) -> None:
        """Leave out series whose volumes come beside those of the run under way; what follows it is the next run."""
        for run in list(dict.fromkeys(self._series.values())):
            if run is live or not run.is_settled or run.is_after(live):
                continue
            if run.series.look() - run.series.n_after(live.heard_s) >= _MOST_BESIDE:
                self._leave_out(run, f"it comes beside series {live.number}, which is sent")

    def _mind_waiting(self) -> None:
        """Tell once of a series that has fallen silent before it was begun with."""
        for run in dict.fromkeys(self._series.values()):
            if run is not self._live and not run.is_silent and self._is_late(run):
                run.is_silent = True
                self._tell(f"series {run.number}: {silence(run.n_there, 'the export')}")

    def _leave_out(self, run: LiveRun, why: str) -> None:
        line = f"series {run.number}: {why}: left out"
        for key in run.keys:
            self._over[key] = why
            self._series.pop(key, None)
            self._told.add((key, _kind_of(line)))  # its later images do not say it again
        self._tell(line)

    def _give(self, live: LiveRun) -> None:
        try:
            volumes = live.series.ready(self._clock())
        except InputError as error:
            self._tell(f"series {live.number}: {without_paths(str(error), Path('an image'))}: the run ends")
            self._end_run()
            return
        self._queue(live, volumes)
        n_planned, n_given = self._options.n_volumes, live.series.n_volumes
        if n_planned and n_given >= n_planned:
            self._end_run()

    def _queue(self, live: LiveRun, volumes: Sequence[LiveVolume]) -> None:
        """Queue volumes to be sent, after the run if they are its first."""
        self._tell_notes(live)
        for volume in volumes:
            if live.run is None:
                try:
                    live.run, notes = self._make_run(live)
                except ValueError as error:
                    self._live = None
                    self._leave_out(live, str(error))
                    return
                for note in notes:
                    self._tell(note)
                self._begin(live, live.run)
            try:
                self._outbox.put(Volume(live.run.run_id, volume.index, volume.acquired_s, volume.data))
            except ValueError as error:
                self._tell_once((live.number, live.uid), f"series {live.number}: {error}: not sent")
            live.heard_s = live.image_s  # not when what was held is given
            if live.is_silent and not self._is_late(live):
                live.is_silent = False
                self._tell(f"series {live.number}: volumes come again")

    def _tell_unsent(self, run: LiveRun) -> None:
        n_volumes = run.n_there
        self._tell_notes(run)
        what = number_of(n_volumes, "volume") if n_volumes else "no whole volume that is taken"
        self._tell(f"series {run.number}: {what}: not sent")

    def _tell_notes(self, run: LiveRun) -> None:
        for note in run.series.notes:
            self._tell(f"series {run.number}: {note}")
        run.series.notes.clear()

    def _begin(self, live: LiveRun, run: Run) -> None:
        """Send a run, after its row is in the table that stays here; series of other patients are left out now."""
        self._patients.begin(live.patient)
        if self._identities is not None and live.person is not None:
            for problem in self._identities.add(run, live.number, live.uid, live.person):
                self._tell(problem)
        self._outbox.put(run, self._options)
        for other in list(dict.fromkeys(self._series.values())):
            if self._patients.is_other(other.patient):
                self._leave_out(other, OTHER)

    def _make_run(self, live: LiveRun) -> tuple[Run, list[str]]:
        self._options = self._options.renewed()
        return self._options.run(
            live.name,
            live.identity,
            live.series.tr_s,
            live.series.shape,
            live.series.affine,
            live.n_promised,
            live.coil[:64],
        )

    def _is_late(self, run: LiveRun, after_tr: float = SILENCE_TR) -> bool:
        return self._clock() - run.heard_s >= after_tr * run.series.tr_s

    def _mind_silence(self, live: LiveRun) -> None:
        if live.n_promised and live.series.n_volumes >= live.n_promised and self._is_late(live, ENDED_TR):
            self._end_run()
        elif self._is_late(live) and not live.is_silent:
            live.is_silent = True
            self._tell(f"series {live.number}: {silence(live.series.n_volumes, 'the export')}")

    def _end_run(self) -> None:
        live, self._live = self._live, None
        if live is None:
            return
        try:
            volumes = live.series.finish()
        except InputError as error:
            volumes = []
            self._tell(f"series {live.number}: {without_paths(str(error), Path('an image'))}: not sent")
        self._queue(live, volumes)
        for key in live.keys:
            self._over[key], self._ended[key] = "images came after its run had ended", live
            self._series.pop(key, None)
        if live.run is not None:
            self._outbox.put(RunEnd(live.run.run_id, live.series.n_volumes))

    def _tell_once(self, key: Key, line: str) -> None:
        kind = key, _kind_of(line)
        if kind not in self._told:
            self._told.add(kind)
            self._tell(line)


def _kind_of(line: str) -> str:
    """Return a line without its numbers."""
    return re.sub(r"\d+", "0", line)
