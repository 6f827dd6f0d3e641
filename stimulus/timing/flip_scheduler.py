"""When the next picture will be seen, foretold from the flips before."""

from __future__ import annotations

import math

#: How long before it is due a picture is begun, in shares of a frame: at least, and at most. Begun a whole frame
#: before, it might be in time for the refresh before that.
_LEAD, _MOST = 0.6, 0.97
#: Nor is it begun earlier than this, seconds: what comes in meanwhile waits for the picture after it.
_LONGEST_S = 0.014
#: Drawing may take so much longer than it lately did at most; and seconds for whatever else holds a program up.
_LONGER, _MARGIN_S = 1.25, 0.003
#: What drawing lately took at most is forgotten by this share with each picture.
_FORGOTTEN = 0.01
#: What it usually takes follows what the last picture took by this share.
_NEWS = 0.1
#: Share of a frame by which a picture may be begun too late and still be hoped to be in time.
_HOPE = 0.1


class FlipScheduler:
    """The monitor's refreshes; where there is no monitor, the pace of the loop.

    Parameters
    ----------
    frame_s : float
        From one refresh to the next, seconds.
    steady : bool
        Each picture is begun as early as any may be, however long drawing takes.

    Attributes
    ----------
    lead_s : float
        How long before it is due a picture is to be begun.
    """

    def __init__(self, frame_s: float, *, steady: bool = False) -> None:
        self._frame_s, self._steady = frame_s, steady
        self._most_s = min(_MOST * frame_s, _LONGEST_S)
        self._last_s = -math.inf
        self._drawing_s = self._usual_s = 0.0
        self.lead_s = self._most_s if steady else _LEAD * frame_s

    def next_s(self, now_s: float) -> float:
        """When a picture will be seen that is begun now at the earliest."""
        return self._refresh_s(now_s + self.lead_s)

    def still_s(self, due_s: float, now_s: float) -> float:
        """When a picture for the refresh at `due_s` will be seen if it is begun only now.

        The lead's margin is for programs that are held up: drawn in its usual time, the picture is yet in time.
        """
        return max(due_s, self._refresh_s(now_s + self._usual_s))

    def flipped(self, at_s: float, drawing_s: float) -> None:
        """A picture was seen at `at_s`; drawing it, without waiting for the refresh, had taken `drawing_s`."""
        self._last_s = at_s
        if self._steady:
            return
        self._drawing_s = max(drawing_s, (1 - _FORGOTTEN) * self._drawing_s)
        self.lead_s = min(max(_LEAD * self._frame_s, _LONGER * self._drawing_s + _MARGIN_S), self._most_s)
        self._usual_s += _NEWS * (min(drawing_s, self.lead_s) - self._usual_s)

    def skipped(self, due_s: float) -> None:
        """The refresh at `due_s` was let pass, for there was nothing new to draw."""
        self._last_s = due_s

    def _refresh_s(self, ready_s: float) -> float:
        """The first refresh that a picture can be hoped to be in time for that is drawn at `ready_s`."""
        if self._last_s == -math.inf:
            return ready_s
        n_frames = math.ceil((ready_s - self._last_s) / self._frame_s - _HOPE)
        return self._last_s + max(n_frames, 1) * self._frame_s
