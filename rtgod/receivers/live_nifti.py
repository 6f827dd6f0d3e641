"""Functional runs out of NIfTI files while they are exported: one file a volume, or one that grows.

Names of files tell runs apart and put their volumes in order, as NIfTI has no other number; they are never told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rtgod.errors import InputError
from rtgod.messages import LONGEST_TR_S, Array
from rtgod.receivers.in_order import InOrder, Why
from rtgod.receivers.live_nifti_series import LiveNiftiSeries, n_there
from rtgod.receivers.outbox import Destination, Outbox
from rtgod.receivers.plain_runs import PlainRuns
from rtgod.receivers.run_options import SILENCE_TR, RunOptions, silence
from rtgod.sources.filling import Filling, n_blank_in
from rtgod.sources.growing_nifti import GrowingNifti
from rtgod.sources.nifti_file import (
    NiftiLayout,
    header_beside,
    is_gzipped,
    layout_of,
    read_header,
    read_one,
    stem_and_number,
)
from rtgod.sources.nifti_series import ORDER, run_name
from rtgod.text import number_of

#: A series that has this number of volumes beside the run under way is left out.
_MOST_BESIDE = 10
#: Fewest volumes of a run.
_FEWEST = 2
#: Why no more is taken of a series that was sent.
_ENDED = "came after their run had ended"


class LiveNifti:
    """Sender of functional runs out of NIfTI files, in the order in which the files are found.

    One run is sent at a time. Files of another name, folder, matrix or place are the next run once there are two
    volumes of them and the run has ended or fallen silent.

    Parameters
    ----------
    sender : Destination or Outbox
        An outbox may be shared with other receivers.
    options : RunOptions
    tell : callable
        Shows the operator a line.
    clock : callable, optional
        Clock of monotonic seconds.
    has_identities : bool
        Whether an identity table is kept, in which no run of these gets a row.
    """

    def __init__(
        self,
        sender: Destination | Outbox,
        options: RunOptions,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
        *,
        has_identities: bool = False,
    ) -> None:
        self._options, self._tell, self._clock, self._has_identities = options, tell, clock, has_identities
        self._runs = PlainRuns(sender, options, tell, clock)
        self._series: list[LiveNiftiSeries] = []
        self._live: LiveNiftiSeries | None = None
        self._told: set[str] = set()
        self._filling = Filling()
        #: Files that grew, and are to be followed from their start.
        self._anew: set[Path] = set()

    @property
    def n_sent(self) -> int:
        """Number of volumes that the server has on disk."""
        return self._runs.n_sent

    @property
    def is_live(self) -> bool:
        """Whether a run is under way."""
        return self._live is not None

    def take(self, path: Path, *, unchanged_s: float) -> str:
        """Take in a file; return what it lacks, or nothing if no more is expected of it.

        Parameters
        ----------
        path : Path
            A file that is called as NIfTI files are.
        unchanged_s : float
            For how long it has not changed, seconds.
        """
        if path.suffix.lower() == ".hdr":
            return ""  # it is read with its image
        if self._is_followed(path):
            return ""  # it is followed, whichever file has its name
        try:
            header = read_header(path)
        except InputError:
            return "a header that can be read"
        try:
            layout = layout_of(path, header)
        except InputError as error:
            self._tell_once(f"NIfTI files are left out: {str(error).removeprefix(f'{path}: ').rstrip('.')}")
            return ""
        stem, number = stem_and_number(path)
        is_alone = is_gzipped(path) or header_beside(path) != path  # a file that cannot be followed while it grows
        if not is_alone and (number is None or layout.n_volumes > 1 or n_there(path, layout) > 1):
            self._follow(path, layout)
            return ""
        if layout.n_volumes > 1:
            self._tell_once(
                "compressed 4-D NIfTI files, and pairs, cannot be followed while they grow: left out; export "
                "uncompressed .nii, or a file a volume"
            )
            return ""
        if number is None:
            self._tell_once("NIfTI files whose names do not end in a number have no place in a run: left out")
            return ""
        raw = read_one(path, layout)
        if raw is None:
            return "the rest of its voxels"
        n_blank, kind = 0 if is_gzipped(path) else n_blank_in(raw), (stem, layout.shape)
        if unchanged_s < self._filling.wait_s(kind, n_blank, len(raw)):
            return "all of its voxels but zeros at its end"
        self._filling.note(kind, n_blank, len(raw))
        volume = layout.volume(raw)
        series = self._or_again(self._series_of(path, stem, layout, number, volume), number, volume, path)
        if series.over:
            self._tell_once(f"NIfTI files {series.over}: left out")
        else:
            self._add(series, number, volume, path)
        return ""

    def step(self) -> None:
        """Send the volumes that may be given by now, and mind a run that has fallen silent."""
        self._look_at_all()
        self._begin_again()
        if self._live is not None:
            self._give(self._live, self._clock())
            self._mind_end()
        run = self._runs.run
        if run is None or self._runs.is_silent:
            self._look_for_next(float("-inf"))
            self._mind_silence()
        else:
            self._mind_others(run.run_id)
        self._runs.step()
        self._mind_end()

    def end(self) -> None:
        """End the run under way, and send what is complete."""
        self._look_at_all()  # a file that was begun anew at the last step
        heard_s = float("-inf")
        while True:
            if self._live is not None:
                self._give_all(self._live)
                heard_s = self._runs.heard_s
                self._end_run()
            self._look_for_next(heard_s)
            if self._live is None:
                break
        for series in self._series:
            if series.order.n_waiting and not series.over:
                n_volumes = number_of(series.order.n_waiting, "volume")
                self._tell(f"NIfTI files: {n_volumes}, too few for a run or beside another: not sent")
        self._runs.close()

    # ---------------------------------------------------------------- series

    def _series_of(self, path: Path, stem: str, layout: NiftiLayout, number: int, volume: Array) -> LiveNiftiSeries:
        """Return the last series that a file may be of, or a new one."""
        for series in self._series:
            if series.stem == stem and series.is_renamed_to(path) and not series.order.is_other(number, volume):
                series.folder = path.parent
        named = [series for series in self._series if (series.folder, series.stem) == (path.parent, stem)]
        for series in reversed(named):
            if series.layout.is_alike(layout):
                return series
        if named:
            self._tell_once("NIfTI files of one name differ in matrix or place: they are taken for several runs")
        return self._new(path, stem, layout)

    def _new(self, path: Path, stem: str, layout: NiftiLayout, growing: GrowingNifti | None = None) -> LiveNiftiSeries:
        self._series.append(LiveNiftiSeries(path.parent, stem, layout, path, growing))
        return self._series[-1]

    def _or_again(self, series: LiveNiftiSeries, number: int, volume: Array, path: Path) -> LiveNiftiSeries:
        """Return the series that a volume is of: another one if it takes the place of one that was given."""
        before = series.before
        if before is not None and before is self._live and before.order.fits(number, volume):
            # The run goes on, and was not restarted.
            if before.order.is_ahead(number):
                self._series.remove(series)
                for copied in series.order.numbers:
                    self._tell_copy(before, copied, "early" if before.order.index_of(copied) < 0 else "other voxels")
            return before
        order, is_live = series.order, series is self._live
        has_ended = series.over == _ENDED or (is_live and self._runs.is_silent)
        takes_place = (has_ended or is_live) and order.takes_place(number, volume, path)
        if not takes_place and not (has_ended and order.is_other(number, volume)):
            return series
        if has_ended:
            self._tell_once("numbers of NIfTI files come again after a run, with other voxels: taken for another run")
        again = self._new(path, series.stem, series.layout)
        again.before = series
        return again

    def _begin_again(self) -> None:
        """Begin with files that took the place of those of the run under way from its first on: it was restarted."""
        for series in self._series:
            live, numbers = self._live, series.order.numbers
            start = live.order.start if live is not None and series.before is live and not series.over else None
            if start is not None and len(numbers) >= _FEWEST and numbers[0] <= start and self._begin(series):
                self._tell_once("numbers of NIfTI files begin again, with other voxels: taken for another run")
                return

    def _look_at_all(self) -> None:
        """Take volumes that have come to files that grow, of which some were not known to do so."""
        self._anew = {path for path in self._anew if self.take(path, unchanged_s=0.0)}
        for series in list(self._series):
            is_alone = series.growing is None and series.order.n_waiting == 1 and series is not self._live
            if is_alone and series.grows:
                self._series.remove(series)
                if not self._is_followed(series.first):
                    self._follow(series.first, series.layout)
        for series in list(self._series):
            if series.growing is not None:
                self._look(series, series.growing)

    def _is_followed(self, path: Path) -> bool:
        return any(series.growing is not None and series.first == path for series in self._series)

    def _follow(self, path: Path, layout: NiftiLayout) -> None:
        """Begin to follow a file that grows, or go on where its folder was renamed."""
        for series in self._series:
            if series.growing is not None and series.stem == path.name and series.is_renamed_to(path):
                series.folder, series.first = path.parent, path
                series.growing.rename(path)
                return
        try:
            growing = GrowingNifti(path, layout, self._clock)
        except OSError:
            return  # gone again
        self._new(path, path.name, layout, growing)

    def _look(self, series: LiveNiftiSeries, growing: GrowingNifti) -> bool:
        """Take volumes that have come to a file that grows; return whether there were any."""
        try:
            if series.over:
                if growing.n_new():
                    self._tell_once(f"NIfTI files {series.over}: left out")
                return False
            if series is not self._live and series.order.n_waiting >= _MOST_BESIDE:
                return False  # enough to decide on it; the others stay in the file
            volumes = growing.look()
        except OSError as error:
            self._tell_once(f"a NIfTI file that grows cannot be read ({error.strerror}); it is tried again")
            return False
        except InputError as error:
            self._begin_anew(series, str(error))
            return False
        for index, volume in volumes:
            self._add(series, index, volume, series.first)
        return bool(volumes)

    def _begin_anew(self, series: LiveNiftiSeries, why: str) -> None:
        """Follow a file from its start, as another run."""
        if series is self._live:
            self._tell(f"{why}: its run ends, and it is followed from its start")
            self._give(series, float("inf"))
            self._end_run()
        elif not series.over:
            self._tell(f"{why}: it is followed from its start")
        series.growing, series.over = None, _ENDED
        self._anew.add(series.first)

    def _add(self, series: LiveNiftiSeries, number: int, volume: Array, origin: Path) -> None:
        why = series.order.add(number, volume, origin, self._clock())
        if why == "late":
            self._runs.take(series.order.index_of(number), volume)  # which says so
        elif why:
            self._tell_copy(series, number, why)

    def _tell_copy(self, series: LiveNiftiSeries, number: int, why: Why) -> None:
        which = f"volume {series.order.index_of(number) + 1}"
        if why in ("copy", "other voxels"):
            voxels = "with different voxels" if why == "other voxels" else "with the same voxels"
            self._tell(f"{which} came twice, {voxels}: the first is kept")
        elif why == "anew":
            self._tell(f"{which}: its file was written to before it was sent: what it has now is kept")
        elif why == "early":
            self._tell("a volume with a lower number came after the first: not sent")
        elif why == "far":
            self._tell_once("a NIfTI file's number lies far from those before: left out")

    def _mind_others(self, run_id: str) -> None:
        """Leave out series whose volumes come beside those of the run under way."""
        for series in self._series:
            n_beside = series.order.n_waiting - series.order.n_after(self._runs.heard_s)
            if series is not self._live and not series.over and n_beside >= _MOST_BESIDE:
                series.over = f"of another name, matrix or place come beside {run_id}, which is sent"
                self._tell_once(f"NIfTI files {series.over}: left out")
                series.order = InOrder()

    def _mind_silence(self) -> None:
        """Say so once of each series when its first volume came, and no second that would begin a run."""
        for series in self._series:
            if series is self._live or series.over or series.is_silent or not 0 < series.order.n_waiting < _FEWEST:
                continue
            tr_s = series.tr_s or self._options.tr_s or LONGEST_TR_S
            if not series.order.n_after(self._clock() - SILENCE_TR * tr_s):
                series.is_silent = True
                held = "the first volume waits for a second, without which there is no run"
                self._tell(f"NIfTI files: {silence(series.order.n_waiting, 'the export')} ({held})")

    # ---------------------------------------------------------------- runs

    def _look_for_next(self, since_s: float) -> None:
        """Begin with the first series that has volumes, of which the last came after a time."""
        for series in self._series:
            is_next = series is not self._live and not series.over and series.order.n_waiting >= _FEWEST
            if is_next and series.order.n_after(since_s) and self._begin(series):
                self._give(series, self._clock())
                return

    def _begin(self, series: LiveNiftiSeries) -> bool:
        layout = series.layout
        n_promised = series.growing.n_promised if series.growing else None
        previous = self._live
        if previous is not None:
            self._give(previous, float("inf"))
        try:
            self._runs.begin(
                run_name(series.stem, series.order.first), series.tr_s, layout.shape, layout.affine, n_promised
            )
        except InputError as error:
            series.over = f"are none of a run: {error}"
            self._tell_once(f"NIfTI files {series.over}: left out")
            return False
        if previous is not None:
            previous.over = _ENDED
        self._live = series
        series.order.begin(series.before.order.start if series.before is not None else None)
        if series.growing is None:
            self._tell_once(ORDER)
        if self._has_identities:
            self._tell_once("NIfTI files do not say who was scanned: their runs get no row in the identity table")
        if self._options.corrected or self._options.echo:
            self._tell_once("NIfTI files do not say whether they are corrected for motion, nor of which echo they are")
        return True

    def _give(self, series: LiveNiftiSeries, now_s: float) -> None:
        if self._runs.run is None:
            return
        patience_s = self._options.patience_tr * self._runs.run.tr_s
        while (due := series.order.due(now_s, patience_s)) is not None:
            try:
                self._runs.take(*due)
            except InputError as error:
                self._tell_once(f"a volume is left out: {error}")

    def _give_all(self, series: LiveNiftiSeries) -> None:
        """Send all volumes that have come, when no more are expected."""
        while series.growing is not None and self._look(series, series.growing):
            self._give(series, self._clock())
        self._give(series, float("inf"))

    def _mind_end(self) -> None:
        """End with the series whose run has ended, as all of its volumes have come."""
        if self._live is not None and self._runs.run is None:
            self._end_run()

    def _end_run(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.over = _ENDED
        self._runs.end()

    def _tell_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._tell(line)
