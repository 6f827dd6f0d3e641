"""The ranking's screen as plain values: names, lengths of their bars, and a quiet line of text.

Pure: no window, no clock, no socket. `DisplayState` takes in what the server publishes, `screen_for` turns it into a
`Screen`, and `Easing` moves the bars from one `Screen` to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from rtgod.messages import Answer, Hello, Message, NotReady, Ranking, Reason, Run, RunEnd
from stimulus.screens.certainty import NOT_SURE, USUAL, ClaritySettings, bar_lengths, strength
from stimulus.screens.texts import ENGLISH

#: Number of categories that are shown: more cannot be read at a glance at a size that a scanner's mirror allows.
N_ROWS = 10
#: The server says hello every second; five missed ones mean that it is gone.
SERVER_LOST_S = 5.0
#: Time that a bar takes to reach its new length, seconds.
EASE_S = 0.3

WAITING = "waiting for the scanner"
#: Message in place of `WAITING` until the server was first heard; whoever prepares the session reads it.
NO_SERVER = "waiting for the server at {address}"
GETTING_READY = "getting ready…"
ONE_MOMENT = "one moment"
RUN_OVER = "this run is over"

#: Message to the participant for each reason. It never tells the reason: "motion" would make a participant worry about
#: the last minute, and the experimenter reads the reason on the monitor. Between trials only the fixation is shown.
CALM_MESSAGES = {
    Reason.WARMING_UP: GETTING_READY,
    Reason.NO_DECODER: GETTING_READY,
    Reason.MOTION: ONE_MOMENT,
    Reason.LOST_VOLUME: ONE_MOMENT,
    Reason.BAD_VOLUME: ONE_MOMENT,
    Reason.BEHIND: ONE_MOMENT,
    Reason.BETWEEN_TRIALS: "",
}


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A category of the ranking, with its bar.

    Attributes
    ----------
    name : str
        The category's name in readable words.
    fraction : float
        Length of its bar, from 0 to 1; see `stimulus.screens.certainty`.
    """

    name: str
    fraction: float


@dataclass(frozen=True, slots=True)
class Screen:
    """Everything that a backend needs to draw; two equal screens are the same picture.

    Attributes
    ----------
    rows : tuple of RankedRow
        Categories, best first; empty while there is no ranking.
    caption : str
        Line with the place in the run and the number of volumes used; empty while there is no ranking.
    message : str
        The calm line beneath the fixation; empty while there is a ranking.
    show_fixation : bool
    strength : float
        Strength of the ranking's colours, from 0 to 1: an uncertain ranking is pale.
    bars_are_chances : bool
        Whether the bars are chances, on tracks whose whole length is 100 %; otherwise bars have no tracks.
    """

    rows: tuple[RankedRow, ...] = ()
    caption: str = ""
    message: str = ""
    show_fixation: bool = True
    strength: float = 1.0
    bars_are_chances: bool = True

    @property
    def moving(self) -> tuple[float, ...]:
        """Numbers that glide from one screen to the next: the bars' lengths."""
        return tuple(row.fraction for row in self.rows)

    def moved(self, numbers: Sequence[float]) -> Self:
        """Return the screen with the given numbers in the place of `moving`.

        Parameters
        ----------
        numbers : sequence of float
            As many as `moving` has, in its order; from 0 to 1.
        """
        rows = (replace(row, fraction=number) for row, number in zip(self.rows, numbers, strict=True))
        return replace(self, rows=tuple(rows))


@dataclass(slots=True)
class DisplayState:
    """State of the session, known from the messages heard so far.

    Attributes
    ----------
    server : Hello or None
        The server's last hello; None until it was heard.
    run_id : str or None
        The newest run that a message was about.
    run : Run or None
        Header of that run; None until it was heard.
    answer : Ranking, NotReady or None
        Newest answer of that run.
    ended_runs : set of str
        Runs whose end was heard.
    heard_nothing_s : float
        Seconds since the last message; the caller, which has a clock, sets it, and every message sets it back to 0.
    address : str
        Address at which the server publishes; empty if it is not to be shown.
    """

    server: Hello | None = None
    run_id: str | None = None
    run: Run | None = None
    answer: Answer | None = None
    ended_runs: set[str] = field(default_factory=set)
    heard_nothing_s: float = 0.0
    address: str = ""

    def update(self, message: Message) -> bool:
        """Take in one message.

        Parameters
        ----------
        message : Message

        Returns
        -------
        news : bool
            False for messages that change nothing: heartbeats, kinds of messages that are not shown, and repetitions
            (the server repeats the run's header and its last answer to everyone whenever somebody connects).
        """
        self.heard_nothing_s = 0.0
        match message:
            case Hello():
                if self.server is not None and self.server.bundle_id != message.bundle_id:
                    self.answer = None  # it was about other candidates
                self.server = message
                return False
            case Run():
                self._follow(message.run_id)
                known_run, self.run = self.run, message
                return known_run is None
            case Ranking() | NotReady():
                self._follow(message.run_id)
                known_answer, self.answer = self.answer, message
                return known_answer is None or known_answer.index != message.index
            case RunEnd():
                n_known = len(self.ended_runs)
                self.ended_runs.add(message.run_id)
                return len(self.ended_runs) > n_known
            case _:
                return False

    def _follow(self, run_id: str) -> None:
        if run_id != self.run_id:
            self.run_id, self.run, self.answer = run_id, None, None


def screen_for(
    state: DisplayState,
    clarity: ClaritySettings = USUAL,
    n_rows: int = N_ROWS,
    show: Callable[[Ranking], Screen | None] | None = None,
) -> Screen:
    """Make the screen that shows a state.

    Parameters
    ----------
    state : DisplayState
    clarity : ClaritySettings, optional
        Limits of certainty at which a ranking is pale or in full colour.
    n_rows : int, default=N_ROWS
        The largest number of categories to show.
    show : callable, optional
        Makes the screen of a ranking; if it returns None, or is None, the categories are listed.
    """
    if state.server is None and state.run_id is None and state.address:
        return Screen(message=NO_SERVER.format(address=state.address))
    if state.run_id is None or state.heard_nothing_s > SERVER_LOST_S:
        return Screen(message=WAITING)
    match state.answer:
        case Ranking() as ranking:
            shown = show(ranking) if show else None
            if shown is None:
                shown = ranked_list(ranking, ranking.top[:n_rows], clarity, ENGLISH.not_sure)
            return replace(shown, caption=joined(shown.caption, _caption(ranking, state.run)))
        case _ if state.run_id in state.ended_runs:
            return Screen(message=RUN_OVER)
        case NotReady(reason=reason):
            return Screen(message=CALM_MESSAGES[reason])
        case _:
            return Screen(message=GETTING_READY)


def ranked_list(ranking: Ranking, names: Sequence[str], clarity: ClaritySettings, not_sure: str) -> Screen:
    """List a ranking's first categories with their bars; an uncertain ranking is pale, with `not_sure` beneath.

    Parameters
    ----------
    ranking : Ranking
    names : sequence of str
        Names of the categories to show, best first.
    clarity : ClaritySettings
    not_sure : str
        Words beneath an uncertain ranking.
    """
    sure = strength(ranking, clarity)
    lengths = bar_lengths(ranking, len(names))
    return Screen(
        rows=tuple(RankedRow(readable(name), length) for name, length in zip(names, lengths, strict=False)),
        caption=not_sure if sure == NOT_SURE else "",
        strength=sure,
        bars_are_chances=ranking.probability is not None,
    )


def joined(*parts: str) -> str:
    """Join the parts of a caption.

    Parameters
    ----------
    *parts : str
        Empty ones are left out.
    """
    return "  ·  ".join(filter(None, parts))


def readable(name: str) -> str:
    """Write a category's name as words on one line: candidate lists often join them with underscores.

    Parameters
    ----------
    name : str
    """
    return " ".join(name.replace("_", " ").split())


def _caption(ranking: Ranking, run: Run | None) -> str:
    """Describe a ranking's place in the run, counted from 1; totals are given if the run's header has them."""
    parts = []
    if ranking.block is not None:
        parts.append(f"block {ranking.block + 1}" + (f" of {len(run.blocks)}" if run and run.blocks else ""))
    parts.append(f"volume {ranking.index + 1}" + (f" of {run.n_volumes}" if run and run.n_volumes else ""))
    volumes = "1 volume" if ranking.n_volumes == 1 else f"{ranking.n_volumes} volumes"
    parts.append(f"{'final' if ranking.final else 'refining'}, from {volumes}")
    return joined(*parts)


class Easing:
    """Gliding of bars, and of other numbers, to their new values over `EASE_S`; names and text change at once.

    Aiming at the same screen twice moves nothing, so the picture changes only when a new answer arrives.
    """

    def __init__(self) -> None:
        self.target = Screen(message=WAITING)
        self._from: tuple[float, ...] = ()
        self._since_s = float("-inf")

    def aim(self, screen: Screen, now_s: float) -> None:
        """Set `screen` as the target, starting from the bars' lengths at `now_s`.

        Parameters
        ----------
        screen : Screen
        now_s : float
            Time by any clock, seconds; the same clock at each call.
        """
        if screen == self.target:
            return
        at_present = self.at(now_s).moving
        self._from = at_present + (0.0,) * (len(screen.moving) - len(at_present))
        self.target, self._since_s = screen, now_s

    def settled(self, now_s: float) -> bool:
        """Whether the bars have reached their new lengths.

        Parameters
        ----------
        now_s : float
            Time by the clock of `aim`, seconds.
        """
        return not self.target.moving or now_s - self._since_s >= EASE_S

    def at(self, now_s: float) -> Screen:
        """Return the screen to draw at `now_s`; exactly the target once settled.

        Parameters
        ----------
        now_s : float
            Time by the clock of `aim`, seconds.
        """
        if self.settled(now_s):
            return self.target
        share = 1 - (1 - max(now_s - self._since_s, 0.0) / EASE_S) ** 3  # fast at first, then gently to rest
        return self.target.moved(
            tuple(start + share * (end - start) for start, end in zip(self._from, self.target.moving, strict=False))
        )
