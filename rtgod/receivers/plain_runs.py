"""Runs from protocols whose messages are whole volumes: begun, sent, missed and ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from zlib import crc32

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import LONGEST_RUN_S, Array, Float64Array, Run, RunEnd, Volume
from rtgod.receivers.outbox import Destination, Outbox, outbox_of
from rtgod.receivers.run_options import ENDED_TR, SILENCE_TR, RunOptions, silence
from rtgod.text import number_of

#: A volume comes late after this time, in repetition times.
_LATE_TR = 1.5
#: Time within which what follows a connection that broke off may be the same scan, where no number of volumes is
#: planned, seconds.
_SAME_SCAN_S = 10.0
#: Most volumes, and bytes of them, that wait for one before them; beyond, that one is given up.
_MOST_HELD, _MOST_HELD_BYTES = 100, 24 * 2**20


class PlainRuns:
    """Sender of one run after another, each up to the planned number of its volumes, if the options have one.

    Parameters
    ----------
    sender : Destination or Outbox
        An outbox may be shared with other receivers.
    options : RunOptions
    tell : callable
        Shows the operator a line.
    clock : callable, optional
        Clock of monotonic seconds.

    Attributes
    ----------
    run : Run or None
        The run under way.
    n_volumes : int
        Index after that of its last volume.
    heard_s : float
        When a volume came last, late ones included.
    is_silent : bool
        Whether it was told that no volume comes.
    """

    def __init__(
        self,
        sender: Destination | Outbox,
        options: RunOptions,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options, self._tell, self._clock = options, tell, clock
        self._n_discarded = 0
        self._outbox = outbox_of(sender, tell)
        self.run: Run | None = None
        self.n_volumes, self.heard_s, self.is_silent = 0, 0.0, False
        #: Volumes that wait for one before them, and when they came.
        self._held: dict[int, tuple[Array, float]] = {}
        #: Checksums of the volumes of the last run, by their indices, and number of those that came after its end.
        self._came: dict[int, int] = {}
        self._n_after = 0
        #: The last run, and the last time at which it may still be going on, if its sender broke off.
        self._broken: tuple[Run, float] | None = None

    @property
    def n_sent(self) -> int:
        """Number of volumes that the server has on disk."""
        return self._outbox.n_sent

    def begin(
        self, run_id: str, tr_s: float, shape: tuple[int, int, int], affine: Float64Array, n_volumes: int | None
    ) -> None:
        """End the run under way, and begin another.

        Parameters
        ----------
        run_id : str
        tr_s : float
            Repetition time, seconds; 0 if the protocol does not say it.
        shape : tuple of int
        affine : ndarray of shape (4, 4), float64
            Voxel indices to RAS+ millimetres.
        n_volumes : int or None
            Planned number of volumes.

        Raises
        ------
        InputError
            If these are none of a run.
        """
        tr_s, difference = self._options.chosen_tr_s(tr_s)
        if not tr_s:
            raise InputError("it does not say its TR; give it with --tr")
        self._options = self._options.renewed()
        try:
            run, notes = self._options.run(run_id, run_id, tr_s, shape, affine, n_volumes)
        except ValueError as error:
            raise InputError(str(error)) from error
        self.end()
        self._tell_after()
        self._tell_same_scan(run)
        for note in [f"{run_id}: {difference}", *notes] if difference else notes:
            self._tell(note)
        self._n_discarded = self._options.n_discarded
        self._outbox.put(run, self._options)
        self.run, self.n_volumes, self.heard_s, self.is_silent = run, 0, self._clock(), False
        self._came = {}

    def is_again(self, index: int, volume: Array) -> bool:
        """Return whether a volume is of a scan that was begun again, not of the last run.

        It is if its number came before, with other voxels. While the run goes on, only the first number tells, so that
        no volume that is sent twice ends it; after a pause, that may have the same voxels.

        Parameters
        ----------
        index : int
            From 0.
        volume : ndarray of shape (x, y, z)
        """
        if index == 0 and (self.run is None or self.is_silent):
            return self.run is None or index in self._came
        is_other = index in self._came and self._came[index] != crc32(volume.tobytes())
        return is_other and (self.run is None or index == 0)

    def take(self, index: int, volume: Array) -> None:
        """Send a volume of the run under way; one that comes too late is named, and left out.

        Parameters
        ----------
        index : int
            From 0.
        volume : ndarray of shape (x, y, z)

        Raises
        ------
        InputError
            If it cannot be sent.
        """
        self._take(index, volume, self._clock())

    def _take(self, index: int, volume: Array, came_s: float | None) -> None:
        """Send a volume; one that waited for others, whose `came_s` is None, was noted when it came."""
        n_planned = self._options.n_volumes
        if self.run is not None and n_planned and index >= n_planned:
            self._miss(n_planned)
            self._end()
        if self.run is None:
            if not self._n_after:
                self._tell(f"volume {index + 1} came after its run had ended: not sent")
            self._n_after += 1
            return
        run_id = self.run.run_id
        if came_s is not None:
            self._hear(came_s)
        if index < self.n_volumes:
            self._tell(f"{run_id}: volume {index + 1} came after volume {self.n_volumes}, or twice: not sent")
            return
        try:
            message = Volume(run_id, index, index * self.run.tr_s, volume)
        except ValueError as error:
            raise InputError(str(error)) from error
        self._miss(index)
        self._outbox.put(message)
        self.n_volumes, self._came[index] = index + 1, crc32(volume.tobytes())
        if n_planned and self.n_volumes >= n_planned:
            self._end()

    def _miss(self, index: int) -> None:
        """Say which volumes before one did not come."""
        if self.run is not None and index > self.n_volumes:
            lost = f"volumes {self.n_volumes + 1} to {index}" if index > self.n_volumes + 1 else f"volume {index}"
            self._tell(f"{self.run.run_id}: {lost} did not come: lost")
            self.n_volumes = index

    def _hear(self, came_s: float) -> None:
        """Note when a volume came, which ends a silence."""
        if self.is_silent and self.run is not None:
            self._tell(f"{self.run.run_id}: volumes come again")
        self.heard_s, self.is_silent = came_s, False

    def take_next(self, volume: Array, n_left_out: int = 0, came_s: float | None = None) -> None:
        """Send a volume of a protocol that does not number them; one that comes late is told.

        Parameters
        ----------
        volume : ndarray of shape (x, y, z)
        n_left_out : int
            Number of volumes before it that came, and could not be read.
        came_s : float, optional
            When it came, by the clock; default now.

        Raises
        ------
        InputError
            If it cannot be sent.
        """
        came_s = self._clock() if came_s is None else came_s
        run, late_s = self.run, came_s - self.heard_s
        if run is not None and self.n_volumes and late_s > (n_left_out + _LATE_TR) * run.tr_s:
            n_lost = round(late_s / run.tr_s) - 1 - n_left_out
            self._tell(
                f"{run.run_id}: volume {self.n_volumes + n_left_out + 1} came {late_s:.1f} s after the one before it: "
                f"{number_of(n_lost, 'volume')} may be lost, which this protocol does not tell"
            )
        self._take(self.n_volumes + n_left_out, volume, came_s)

    def hold(self, index: int, volume: Array) -> None:
        """Send a volume of a protocol in which volumes may overtake each other, once those before it have come.

        One that is missing is waited for as long as the options say.

        Parameters
        ----------
        index : int
            From 0.
        volume : ndarray of shape (x, y, z)

        Raises
        ------
        InputError
            If it is none of a run.
        """
        run = self.run
        if run is None or index < self.n_volumes:
            self.take(index, volume)
        elif index * run.tr_s > LONGEST_RUN_S:
            raise InputError(f"its number {index + 1} is none of a run")
        elif index in self._held:
            self._hear(self._clock())
            self._tell(f"{run.run_id}: volume {index + 1} came twice: not sent")
        else:
            self._hear(self._clock())
            self._held[index] = volume, self.heard_s
            self._send_held()

    def _send_held(self, are_last: bool = False) -> None:
        while self._held:
            index = min(self._held)
            waited_s = self._clock() - min(came_s for _, came_s in self._held.values())
            is_over = self.run is None or waited_s >= self._options.patience_tr * self.run.tr_s or are_last
            n_bytes = sum(volume.nbytes for volume, _ in self._held.values())
            is_full = n_bytes > _MOST_HELD_BYTES or len(self._held) > _MOST_HELD
            if index > self.n_volumes and not is_over and not is_full:
                return
            self._take(index, self._held.pop(index)[0], None)

    def step(self) -> None:
        """Say so once when no volume comes, unless all have come, and send what waits for the server."""
        self._send_held()
        run = self.run
        if run is not None and not self.is_silent:
            idle_tr = (self._clock() - self.heard_s) / run.tr_s
            has_all = bool(run.n_volumes) and self.n_volumes >= (run.n_volumes or 0) + self._n_discarded
            if has_all and idle_tr >= ENDED_TR:
                self.end()
            elif idle_tr >= SILENCE_TR:
                self.is_silent = True
                self._tell(f"{run.run_id}: {silence(self.n_volumes, 'its sender')}")
        self._outbox.send()

    def end(self, *, is_broken: bool = False) -> None:
        """End the run under way, if there is one; volumes that wait for others are sent before.

        Parameters
        ----------
        is_broken : bool
            Whether its sender is gone, and did not say that it is over, in a protocol that does not number volumes: the
            scan may go on as what looks like another run.
        """
        self._send_held(are_last=True)
        run, n_planned = self.run, 0
        if run is not None:
            n_planned = self._options.n_volumes or (run.n_volumes or 0) + bool(run.n_volumes) * self._n_discarded
        if is_broken and run is not None and (not n_planned or self.n_volumes < n_planned):
            left_s = (n_planned - self.n_volumes + SILENCE_TR) * run.tr_s if n_planned else _SAME_SCAN_S
            self._broken = run, self.heard_s + max(left_s, _SAME_SCAN_S)
            if n_planned:
                self._tell(f"{run.run_id}: its sender broke off after {self.n_volumes} of {n_planned} planned volumes")
        self._end()

    def _tell_same_scan(self, run: Run) -> None:
        """Say that a run may be the rest of the one before it, whose sender broke off."""
        broken, self._broken = self._broken, None
        if broken is None or self._clock() > broken[1]:
            return
        last, _ = broken
        if (last.shape, last.tr_s) == (run.shape, run.tr_s) and np.allclose(last.affine, run.affine, rtol=0, atol=1e-3):
            self._tell(
                f"{run.run_id}: begins soon after {last.run_id} broke off, with the same matrix, place and TR. If it "
                "is the same scan, its volumes are counted from 1 again, and its trials and rankings are wrong: this "
                "protocol does not number volumes, so that nobody can tell. Then stop the scan and start it again"
            )

    def _end(self) -> None:
        run, self.run = self.run, None
        if run is not None:
            self._outbox.put(RunEnd(run.run_id, self.n_volumes))

    def close(self) -> None:
        """End the run under way, send what is left, and say what could not be sent."""
        self.end()
        self._tell_after()
        self._outbox.end()

    def _tell_after(self) -> None:
        """Say how many volumes came after the end of the last run, if it was more than the one that was told."""
        n_after, self._n_after = self._n_after, 0
        if n_after > 1:
            self._tell(f"{number_of(n_after, 'volume')} in all came after the end of their run")
