"""When the next picture will be seen, foretold from the flips before."""

from __future__ import annotations

import math

#: How long before it is due a picture is begun, in shares of a frame: at first, and at most. Begun a whole frame
#: before, it might be in time for the refresh before that.
_LEAD, _MOST = 0.6, 0.97
#: Nor is it begun earlier than this, seconds: what comes in meanwhile waits for the picture after it.
_LONGEST_S = 0.014
#: One that comes so late took long to draw, and the next is begun earlier, by no more than this at once.
_LATE, _EARLIER = 0.125, 0.25
#: Share of a frame by which a picture may be begun too late and still be hoped to be in time.
_HOPE = 0.1


class Flips:
    """The monitor's refreshes; where there is no monitor, the pace of the loop.

    Parameters
    ----------
    frame_s : float
        From one refresh to the next, seconds.

    Attributes
    ----------
    lead_s : float
        How long before it is due a picture is to be begun.
    """

    def __init__(self, frame_s: float) -> None:
        self._frame_s = frame_s
        self._last_s = -math.inf
        self.lead_s = _LEAD * frame_s

    def next_s(self, now_s: float) -> float:
        """When a picture will be seen that is begun now at the earliest."""
        ready_s = now_s + self.lead_s
        if self._last_s == -math.inf:
            return ready_s
        n_frames = math.ceil((ready_s - self._last_s) / self._frame_s - _HOPE)
        return self._last_s + max(n_frames, 1) * self._frame_s

    def flipped(self, at_s: float, due_s: float) -> None:
        """A picture was seen at `at_s`, and had been foretold for `due_s`."""
        late_s = at_s - due_s
        if self._last_s > -math.inf and late_s > _LATE * self._frame_s:
            earlier_s = min(late_s, _EARLIER * self._frame_s)
            self.lead_s = min(self.lead_s + earlier_s, _MOST * self._frame_s, _LONGEST_S)
        self._last_s = at_s

    def skipped(self, due_s: float) -> None:
        """The refresh at `due_s` was let pass, for there was nothing new to draw."""
        self._last_s = due_s
