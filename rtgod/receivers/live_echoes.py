"""A series of several echoes while it is acquired: volumes of each echo by themselves, then of one, or all combined.

Files need not number their echoes: those of different echo times are different echoes, and are numbered by these. No
file says how many there will be, so that the first volumes are held until each echo that is taken has two, and either a
third volume is there or no file has come for half a repetition time: so an echo that either of the first two volumes
lacks still counts, as in a replay. One that both lack cannot be known of, and is named when it comes.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array, Float64Array
from rtgod.receivers.live_series import LiveSeries, LiveVolume
from rtgod.sources.dicom.pieces import Piece
from rtgod.sources.dicom.times import clock_s, index_beside
from rtgod.sources.echoes import Combine, Echo, combined, in_words, weights_of

#: Time without a file after which a volume has no more echoes to come, in repetition times.
_PAUSE_TR = 0.5
#: Volumes that each echo has before it is taken, and volumes of one echo after which the second has no more to come.
_FEWEST, _ENOUGH = 2, 3


class LiveEchoes:
    """Volumes of one series, out of pieces of any echo in any order.

    Parameters
    ----------
    tr_s : float
        Repetition time, seconds.
    patience_tr : float
        Time that a missing volume is waited for once a later one is complete, in repetition times.
    echo : int or Combine
        Echo that is taken of those that come, from 1 by echo time, where 0 takes the only one; or all, combined.

    Attributes
    ----------
    notes : list of str
        Lines for the operator, to be taken out: what is lost, late or odd.
    """

    def __init__(self, tr_s: float, patience_tr: float, echo: Echo) -> None:
        self.tr_s, self._patience_tr, self._echo = tr_s, patience_tr, echo
        self.notes: list[str] = []
        self._series: dict[float, LiveSeries] = {}
        #: Echo times of those that are taken, once that is known.
        self._taken_ms: list[float] = []
        self._weights: list[float] = []
        #: Echo times of all that had come by then: those that are not taken were named.
        self._known_ms: list[float] = []
        self._waiting: dict[int, dict[float, LiveVolume]] = {}
        self._n_volumes = 0
        self._latest_s = -math.inf
        self._first: list[Piece] = []
        self._told: set[str] = set()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a volume; known once one was given."""
        return self._series[self._taken_ms[0]].shape

    @property
    def affine(self) -> Float64Array:
        """Voxel indices to RAS+ millimetres; known once a volume was given."""
        return self._series[self._taken_ms[0]].affine

    @property
    def n_volumes(self) -> int:
        """Index after that of the last volume that was given."""
        return self._n_volumes

    def add(self, piece: Piece, slices: Array, now_s: float) -> None:
        """Take in a piece; it counts from the next call of `ready`.

        Parameters
        ----------
        piece : Piece
        slices : ndarray of shape (n_columns, n_rows, n_planes)
            Its stored numbers.
        now_s : float
            Time by any monotonic clock, seconds.

        Raises
        ------
        InputError
            If it does not fit the series.
        """
        echo_ms = piece.grid.echo_ms
        if self._taken_ms and echo_ms not in self._taken_ms:
            if echo_ms in self._known_ms:
                return  # named when the others were taken
            raise InputError(self._why_other(echo_ms))
        self._latest_s = now_s
        if not self._taken_ms:
            self._first.append(piece)
        if echo_ms not in self._series:
            self._series[echo_ms] = LiveSeries(piece, self.tr_s, self._patience_tr)
        self._series[echo_ms].add(piece, slices, now_s)

    def n_after(self, since_s: float) -> int:
        """Count the volumes, of those that are complete, that did not come before a time.

        Parameters
        ----------
        since_s : float
            Time by the clock of `add`, seconds.
        """
        return min((self._series[echo_ms].n_after(since_s) for echo_ms in self._wanted_ms()), default=0)

    def look(self) -> int:
        """Count the volumes that are complete, without giving any."""
        return min((self._series[echo_ms].look() for echo_ms in self._wanted_ms()), default=0)

    def ready(self, now_s: float) -> list[LiveVolume]:
        """Return the volumes that may be given now, in order.

        Parameters
        ----------
        now_s : float
            Time by the clock of `add`, seconds; infinity if no more images are expected.

        Raises
        ------
        InputError
            If the slices of a volume do not lie as those of a volume do.
        """
        if not self._taken_ms and not (self._series and self._is_settled(now_s)):
            self._take_notes()
            return []
        is_last = now_s == math.inf
        alone: dict[float, LiveVolume] = {}
        for echo_ms in self._taken_ms:
            is_first = not self._series[echo_ms].n_volumes
            volumes = self._series[echo_ms].ready(now_s)
            if is_last and is_first and len(volumes) == 1:
                alone[echo_ms] = volumes.pop()
            for volume in volumes:
                self._waiting.setdefault(volume.index, {})[echo_ms] = volume
        for echo_ms, volume in alone.items():
            beside = self._beside(volume)
            self._waiting.setdefault(beside.index, {})[echo_ms] = beside
        self._take_notes()
        return self._given()

    def finish(self) -> list[LiveVolume]:
        """Return the complete volumes that are left, when no more images are expected; name those that are not."""
        given = self.ready(math.inf)
        for echo_ms in self._taken_ms:
            for volume in self._series[echo_ms].finish():
                self._waiting.setdefault(volume.index, {})[echo_ms] = volume
        self._take_notes()
        given += self._given()
        for index, echoes in sorted(self._waiting.items()):
            missing = [str(n) for n, echo_ms in enumerate(self._taken_ms, 1) if echo_ms not in echoes]
            self.notes.append(f"volume {index + 1} lacks echo {', '.join(missing)}: lost")
        self._waiting.clear()
        return given

    # ---------------------------------------------------------------- which echoes are taken

    def _wanted_ms(self) -> list[float]:
        """List the echo times of those that are taken, or would be if no other came; empty if none can be."""
        echoes_ms = sorted(self._series)
        if self._taken_ms or isinstance(self._echo, Combine):
            return self._taken_ms or (echoes_ms if len(echoes_ms) > 1 else [])
        number = max(self._echo, 1)
        return echoes_ms[number - 1 : number]

    def _is_settled(self, now_s: float) -> bool:
        """Settle which echoes are taken, once two volumes of each are there and the second has no more echoes to come.

        A single echo without a choice is taken as soon as that.
        """
        wanted_ms, echoes_ms = self._wanted_ms(), sorted(self._series)
        n_there = {echo_ms: series.look() for echo_ms, series in self._series.items()}
        is_one = len(echoes_ms) == 1 and not self._echo
        has_all = is_one or max(n_there.values()) >= _ENOUGH or now_s - self._latest_s >= _PAUSE_TR * self.tr_s
        if now_s < math.inf and (not has_all or min(n_there[one] for one in wanted_ms or echoes_ms) < _FEWEST):
            self._tell_held(now_s, wanted_ms, n_there)
            return False
        if not wanted_ms:
            wanted = "echoes are combined" if isinstance(self._echo, Combine) else f"echo {self._echo} is taken"
            self._tell_once(f"{wanted}, and its images have no other than {in_words(echoes_ms)}: not sent so far")
            return False
        if isinstance(self._echo, Combine):
            self._weights = weights_of(wanted_ms, self._echo.t2star_ms)
            self.notes.append(
                f"{len(wanted_ms)} echoes ({in_words(wanted_ms)}) are combined, for T2* of {self._echo.t2star_ms:g} ms"
            )
        elif len(echoes_ms) > 1:
            number = max(self._echo, 1)
            self.notes.append(f"echo {number} is taken of {in_words(echoes_ms)} (--echo)")
        self._taken_ms, self._known_ms = wanted_ms, echoes_ms
        self._series = {echo_ms: self._series[echo_ms] for echo_ms in wanted_ms}
        first_s = clock_s([piece for piece in self._first if piece.grid.echo_ms in wanted_ms])
        for series in self._series.values():
            series.count_from(first_s)
        self._first.clear()
        return True

    def _tell_held(self, now_s: float, wanted_ms: list[float], n_there: dict[float, int]) -> None:
        """Tell that an echo's second volume is waited for, where that holds volumes of others for long."""
        since_s = now_s - self._patience_tr * self.tr_s
        few = [n for n, echo_ms in enumerate(sorted(n_there), 1) if echo_ms in wanted_ms and n_there[echo_ms] < _FEWEST]
        if few and any(n_there[one] - self._series[one].n_after(since_s) >= _FEWEST for one in n_there):
            self._tell_once(
                f"echo {', '.join(map(str, few))} came once, and is counted once its second volume is there: nothing "
                "is sent so far"
            )

    def _why_other(self, echo_ms: float) -> str:
        """Say why an echo is left out of which nothing told when others were taken; a replay may take it."""
        unknown = f"its echo of {echo_ms:g} ms came first after two volumes without it, and is not part of this run"
        if isinstance(self._echo, Combine):
            return f"{unknown}; a replay combines it, too"
        if self._echo and echo_ms < self._taken_ms[0]:
            return f"{unknown}; a replay numbers the echoes otherwise"
        return f"its echo time differs from that of what is taken ({in_words(self._taken_ms)})"

    def _tell_once(self, note: str) -> None:
        if note not in self._told:
            self._told.add(note)
            self.notes.append(note)

    # ---------------------------------------------------------------- which volumes are given

    def _beside(self, volume: LiveVolume) -> LiveVolume:
        """Count an echo's only volume, which its own numbers do not, by the clock beside volumes of other echoes."""
        others = [(index, one.clock_s) for index, echoes in self._waiting.items() for one in echoes.values()]
        index = index_beside(volume.clock_s, others, self.tr_s)
        return volume if index is None else replace(volume, index=index, acquired_s=index * self.tr_s)

    def _given(self) -> list[LiveVolume]:
        """Return the volumes whose echoes are all there, up to the first that may still become whole."""
        given = []
        for index in sorted(self._waiting):
            echoes = self._waiting[index]
            missing_ms = [echo_ms for echo_ms in self._taken_ms if echo_ms not in echoes]
            if any(self._series[echo_ms].n_volumes <= index for echo_ms in missing_ms):
                break
            del self._waiting[index]
            if missing_ms:
                continue  # the echo that lacks it has named it
            given.append(self._volume(index, [echoes[echo_ms] for echo_ms in self._taken_ms]))
            self._n_volumes = index + 1
        return given

    def _volume(self, index: int, echoes: list[LiveVolume]) -> LiveVolume:
        if not self._weights:
            return echoes[0]
        for echo_ms in self._taken_ms[1:]:
            other = self._series[echo_ms]
            if other.shape != self.shape or not np.allclose(other.affine, self.affine, rtol=0, atol=1e-3):
                raise InputError("its echoes lie otherwise than each other, so that they cannot be combined")
        return LiveVolume(index, echoes[0].acquired_s, combined([echo.data for echo in echoes], self._weights))

    def _take_notes(self) -> None:
        """Take the notes of each echo, with its number where there are several."""
        for number, echo_ms in enumerate(sorted(self._series), 1):
            notes = self._series[echo_ms].notes
            self.notes += [f"echo {number}: {note}" if len(self._series) > 1 else note for note in notes]
            notes.clear()
