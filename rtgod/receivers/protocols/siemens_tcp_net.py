"""Receiver of Siemens's direct export over TCP: sockets around `.siemens_tcp`, one scanner at a time."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from rtgod.errors import InputError
from rtgod.messages import LONGEST_TR_S
from rtgod.receivers.listening import Listening
from rtgod.receivers.outbox import Destination, Outbox
from rtgod.receivers.protocols.plain_receiver import PIECE, FirstToSpeak, PlainReceiver
from rtgod.receivers.protocols.siemens_tcp import CLOSE, SiemensMessage, SiemensStream, SiemensVolume, siemens_volume
from rtgod.receivers.run_options import SILENCE_TR, RunOptions, silence
from rtgod.sources import TrClaim, agreed_tr
from rtgod.sources.geometry import read_geometry
from rtgod.text import number_of

#: Port of Tibor Auer's receiver; that of fladd's, 667, needs rights.
PORT = 5677
#: Most images, and bytes of them, that wait for a file of their series.
_MOST_WAITING, _MOST_WAITING_BYTES = 100, 24 * 2**20
#: Time between two looks for that file while no image comes, seconds.
_LOOK_S = 0.5
#: A connection that has sent less than a message makes room for another one after this time, seconds.
_PATIENCE_S = 10.0


class SiemensTcpReceiver(PlainReceiver):
    """Listener for one scanner at a time; see `PlainReceiver`.

    Parameters
    ----------
    listening : Listening
    sender : Destination or Outbox
    options : RunOptions
        With a geometry, which is read anew when a run begins.
    tell : callable
    clock : callable, optional

    Raises
    ------
    InputError
        If there is no geometry, or it cannot be read.
    """

    MOST_CONNECTIONS: ClassVar[int] = 8

    def __init__(
        self,
        listening: Listening,
        sender: Destination | Outbox,
        options: RunOptions,
        tell: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if options.geometry is None:
            raise InputError(
                "this protocol does not say where the slices lie: give --geometry, a DICOM file of the series or of an "
                "earlier one in the same place, a NIfTI file of it, or the folder into which the scanner exports them"
            )
        self._geometry = options.geometry
        if not self._geometry.is_dir():  # a folder may be empty before the first run
            read_geometry(self._geometry)
        super().__init__(listening, sender, options, tell, clock)
        self._scanners = FirstToSpeak(self.MOST_CONNECTIONS)
        #: When the scanner sent something last, and whether it was a message by now.
        self._heard_s, self._is_known = 0.0, False
        self._stream = SiemensStream()
        self._n_runs, self._session = 0, secrets.token_hex(4)
        #: Images that wait for the geometry and when they came, None for those that could not be read; number of such
        #: since the last; when the geometry was looked for last, and whether it was told that no image comes.
        self._waiting: list[tuple[SiemensVolume | None, float]] = []
        self._is_begun, self._n_left_out = False, 0
        self._looked_s, self._is_silent = 0.0, False
        self._position: tuple[str, ...] = ()

    def step(self, timeout_s: float) -> None:
        """Take what has come, and send the volumes that it completes; look after images that wait for the geometry.

        Parameters
        ----------
        timeout_s : float
            Longest wait for something to come, seconds.
        """
        super().step(timeout_s)
        if self._waiting and self._clock() - self._looked_s >= _LOOK_S:
            self._send_waiting()
            self._mind_silence()

    # ---------------------------------------------------------------- sockets

    def _begin_connection(self, accepted: socket.socket, address: str) -> None:
        self._log_host(address)
        scanner = self._scanners.speaker
        if scanner is not None and not self._is_known and self._clock() - self._heard_s > _PATIENCE_S:
            self._drop(scanner)
        self._take_in(accepted, self._scanners)

    def _read(self, sock: socket.socket) -> None:
        piece = sock.recv(PIECE)
        if not piece:
            self._drop(sock)
            return
        if self._scanners.hear(sock):
            self._is_known = False
        self._heard_s = self._clock()
        for message in self._stream.feed(piece):
            self._is_known = True
            if message.is_close:
                sock.send(CLOSE)
                self._end_run()
                self._drop(sock)
                return
            self._take(message)

    def _refuse(self, why: str) -> None:
        self._tell_once(f"a scanner was refused: {why}")

    def _drop(self, sock: socket.socket) -> None:
        if self._scanners.remove(sock):
            self._finish()
        self._close(sock)

    def _finish(self) -> None:
        if self._stream.is_within_message:
            self._tell("an image stopped in the middle: left out")
        self._stream = SiemensStream()
        self._end_run(is_broken=self._scanners.speaker is None)  # else it is this receiver that stops

    # ---------------------------------------------------------------- runs

    def _take(self, message: SiemensMessage) -> None:
        if message.image is None:
            self._end_run()
            return
        try:
            volume = siemens_volume(message)
        except InputError as error:
            self._tell_once(f"an image is left out: {error}")
            self._waiting.append((None, self._clock()))  # images have no numbers: this one counts, too
        else:
            if self._is_wanted(volume.is_corrected):
                self._waiting.append((volume, self._clock()))
                self._is_silent = False
        self._send_waiting()

    def _send_waiting(self) -> None:
        """Send the images that have come, unless the folder of the geometry has no file for them yet."""
        self._looked_s = self._clock()
        while self._waiting:
            (volume, came_s), is_lost = self._waiting[0], True
            if volume is not None:
                try:
                    if not self._is_begun or (self._runs.run is not None and self._runs.run.shape != volume.data.shape):
                        self._begin(volume)
                    self._runs.take_next(volume.data, self._n_left_out, came_s)
                    self._n_left_out, is_lost = 0, False
                except InputError as error:
                    n_bytes = sum(one.data.nbytes for one, _ in self._waiting if one is not None)
                    is_full = n_bytes > _MOST_WAITING_BYTES or len(self._waiting) > _MOST_WAITING
                    may_wait = self._geometry.is_dir() and not self._is_begun and not is_full
                    self._tell_once(f"an image {'waits' if may_wait else 'is left out'}: {error}")
                    if may_wait:
                        return
            self._n_left_out += is_lost
            self._waiting.pop(0)

    def _mind_silence(self) -> None:
        """Say so once when no image comes, of a run that waits for the geometry and has not begun."""
        if not self._waiting or self._is_silent:
            return
        volume, came_s = self._waiting[-1]
        tr_s = (volume.tr_s if volume is not None else 0.0) or self._options.tr_s or LONGEST_TR_S
        if self._clock() - came_s >= SILENCE_TR * tr_s:
            self._is_silent = True
            self._tell(silence(len(self._waiting), "its sender"))

    def _begin(self, volume: SiemensVolume) -> None:
        shape = volume.data.shape
        geometry = read_geometry(self._geometry, shape)
        affine = geometry.along(volume.directions)
        claims = [
            TrClaim(tr_s, origin)
            for tr_s, origin in ((volume.tr_s, "the images' header"), (geometry.tr_s, "the file of --geometry"))
            if tr_s
        ]
        tr = agreed_tr(Path("the images"), claims, self._options.tr_s, "no repetition time, nor in that of --geometry")
        if tr.contradiction:
            raise InputError(tr.contradiction)
        run_id = f"siemens-{self._n_runs + 1}-{self._session}"
        self._runs.begin(run_id, tr.tr_s, shape, affine, None)
        self._n_runs += 1
        self._is_begun = True
        for note in tr.notes:
            self._tell(f"{run_id}: {note}")
        if all(direction is None for direction in volume.directions):
            self._tell_once(
                "the images do not say how their slices lie: that they lie as --geometry says is not checked"
            )
        if self._n_runs > 1 and volume.position != self._position:
            self._tell(
                f"{run_id}: its slices lie elsewhere than those of the run before; is --geometry a file of this one?"
            )
        self._position = volume.position

    def _end_run(self, *, is_broken: bool = False) -> None:
        if self._waiting:
            self._tell(f"{number_of(len(self._waiting), 'image')} waited for a file of --geometry: lost")
        self._waiting.clear()
        self._runs.end(is_broken=is_broken)
        self._is_begun, self._n_left_out, self._is_silent = False, 0, False
