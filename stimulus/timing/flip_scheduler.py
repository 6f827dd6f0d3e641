"""Forecast of the time at which the next picture will be seen, from the flips before."""

from __future__ import annotations

import math

#: Least and greatest lead, in shares of a frame: how long before its refresh a picture is begun. Begun a whole frame
#: before, it might be in time for the refresh before that.
_LEAD, _MOST = 0.6, 0.97
#: Greatest lead in seconds: an answer that comes in during the lead waits for the next picture.
_LONGEST_S = 0.014
#: The lead is this factor times the longest recent drawing time, plus a margin in seconds for other delays.
_LONGER, _MARGIN_S = 1.25, 0.003
#: The longest recent drawing time shrinks by this share with each picture.
_FORGOTTEN = 0.01
#: Weight of the last picture in the running mean of drawing times.
_NEWS = 0.1
#: Share of a frame by which a picture may be late for a refresh and still be expected to be in time.
_HOPE = 0.1


class FlipScheduler:
    """Times of the monitor's refreshes; without a monitor, of the loop's pace.

    All times are seconds by one clock, whichever it is.

    Parameters
    ----------
    frame_s : float
        Time from one refresh to the next, seconds.
    steady : bool
        Whether every picture is begun with the greatest lead, however long drawing takes.

    Attributes
    ----------
    lead_s : float
        Time before its refresh at which a picture is to be begun, seconds.
    """

    def __init__(self, frame_s: float, *, steady: bool = False) -> None:
        self._frame_s, self._steady = frame_s, steady
        self._most_s = min(_MOST * frame_s, _LONGEST_S)
        self._last_s = -math.inf
        self._drawing_s = self._usual_s = 0.0
        self.lead_s = self._most_s if steady else _LEAD * frame_s

    def next_s(self, now_s: float) -> float:
        """Return when a picture begun now will be seen, if it is given the whole lead.

        Parameters
        ----------
        now_s : float
        """
        return self._refresh_s(now_s + self.lead_s)

    def still_s(self, due_s: float, now_s: float) -> float:
        """Return when a picture will be seen if it is begun only now.

        It counts on the usual drawing time, without the lead's margin: a picture begun late may still be in time.

        Parameters
        ----------
        due_s : float
            Time of the refresh that the picture is for.
        now_s : float
        """
        return max(due_s, self._refresh_s(now_s + self._usual_s))

    def flipped(self, at_s: float, drawing_s: float) -> None:
        """Take in that a picture was seen.

        Parameters
        ----------
        at_s : float
            Time at which it was seen.
        drawing_s : float
            Time that drawing it took, without the wait for the refresh, seconds.
        """
        self._last_s = at_s
        if self._steady:
            return
        self._drawing_s = max(drawing_s, (1 - _FORGOTTEN) * self._drawing_s)
        self.lead_s = min(max(_LEAD * self._frame_s, _LONGER * self._drawing_s + _MARGIN_S), self._most_s)
        self._usual_s += _NEWS * (min(drawing_s, self.lead_s) - self._usual_s)

    def skipped(self, due_s: float) -> None:
        """Take in that a refresh passed without a new picture, as nothing new was to be drawn.

        Parameters
        ----------
        due_s : float
            Time of the refresh.
        """
        self._last_s = due_s

    def _refresh_s(self, ready_s: float) -> float:
        """Return the time of the first refresh that a picture drawn by `ready_s` is expected to be in time for."""
        if self._last_s == -math.inf:
            return ready_s
        n_frames = math.ceil((ready_s - self._last_s) / self._frame_s - _HOPE)
        return self._last_s + max(n_frames, 1) * self._frame_s
