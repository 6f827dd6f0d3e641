"""What the participant sees, as plain values: which names, how long their bars, which quiet line of text.

Pure: no window, no clock, no socket. `DisplayState` takes in what the server publishes, `screen_for` turns it into a
`Screen`, and `Easing` moves the bars from one `Screen` to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from rtgod.messages import Answer, Hello, Message, NotReady, Ranking, Reason, Run, RunEnd
from stimulus.screens.certainty import NOT_SURE, USUAL, ClaritySettings, bar_lengths, strength
from stimulus.screens.texts import ENGLISH

#: How many categories are shown: more cannot be read at a glance at a size that a scanner's mirror allows.
N_ROWS = 10
#: The server says hello every second; five missed ones mean that it is gone.
SERVER_LOST_S = 5.0
#: How long a bar takes to reach its new length.
EASE_S = 0.3

WAITING = "waiting for the scanner"
#: In its place while the server was never heard: who prepares the session reads it.
NO_SERVER = "waiting for the server at {address}"
GETTING_READY = "getting ready…"
ONE_MOMENT = "one moment"
RUN_OVER = "this run is over"

#: What the participant reads for each reason. Never why: "motion" would make a participant worry about the last minute,
#: and the experimenter reads the reason on the monitor. Between trials there is nothing to read, only the fixation.
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
    """One category of the ranking.

    Attributes
    ----------
    name : str
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
        Best first; empty while there is no ranking.
    caption : str
        Where in the run this is and how much it rests on; empty while there is no ranking.
    message : str
        The calm line beneath the fixation; empty while there is a ranking.
    show_fixation : bool
    strength : float
        How clearly the ranking is drawn, from 0 to 1: what is not sure is pale.
    bars_are_chances : bool
        Whether the whole of a bar's track means 100 %; without that, a bar has no track.
    """

    rows: tuple[RankedRow, ...] = ()
    caption: str = ""
    message: str = ""
    show_fixation: bool = True
    strength: float = 1.0
    bars_are_chances: bool = True

    @property
    def moving(self) -> tuple[float, ...]:
        """What glides from one screen to the next: the bars' lengths."""
        return tuple(row.fraction for row in self.rows)

    def moved(self, numbers: Sequence[float]) -> Self:
        """The same screen with these numbers in the place of `moving`."""
        rows = (replace(row, fraction=number) for row, number in zip(self.rows, numbers, strict=True))
        return replace(self, rows=tuple(rows))


@dataclass(slots=True)
class DisplayState:
    """What is known of the session, from the messages heard so far.

    Attributes
    ----------
    server : Hello or None
        None until the server was heard.
    run_id : str or None
        The newest run of which anything was heard.
    run : Run or None
        Its header, where that was heard.
    answer : Ranking, NotReady or None
        Its newest answer.
    ended_runs : set of str
        Runs whose end was heard.
    heard_nothing_s : float
        Seconds since the last message; whoever has a clock sets it, and every message sets it back to 0.
    address : str
        Where the server publishes; empty where nobody is to read it.
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

        Returns
        -------
        news : bool
            False for what changes nothing: heartbeats, kinds of messages that are not shown, and repetitions (the
            server repeats the run's header and its last answer to everyone whenever somebody connects).
        """
        self.heard_nothing_s = 0.0
        match message:
            case Hello():
                self.server = message
                return False
            case Run():
                self._follow(message.run_id)
                known, self.run = self.run, message
                return known is None
            case Ranking() | NotReady():
                self._follow(message.run_id)
                known_answer, self.answer = self.answer, message
                return known_answer is None or known_answer.index != message.index
            case RunEnd():
                known_ends = len(self.ended_runs)
                self.ended_runs.add(message.run_id)
                return len(self.ended_runs) > known_ends
            case _:
                return False

    def _follow(self, run_id: str) -> None:
        if run_id != self.run_id:
            self.run_id, self.run, self.answer = run_id, None, None


def screen_for(state: DisplayState, clarity: ClaritySettings = USUAL, n_rows: int = N_ROWS) -> Screen:
    """Choose the picture for a state.

    Parameters
    ----------
    state : DisplayState
    clarity : ClaritySettings, optional
        From when on a ranking is pale.
    n_rows : int, default=N_ROWS
        The largest number of categories to show.
    """
    if state.server is None and state.run_id is None and state.address:
        return Screen(message=NO_SERVER.format(address=state.address))
    if state.run_id is None or state.heard_nothing_s > SERVER_LOST_S:
        return Screen(message=WAITING)
    match state.answer:
        case Ranking() as ranking:
            shown = ranked_list(ranking, ranking.top[:n_rows], clarity, ENGLISH.not_sure)
            return replace(shown, caption=joined(shown.caption, _caption(ranking, state.run)))
        case _ if state.run_id in state.ended_runs:
            return Screen(message=RUN_OVER)
        case NotReady(reason=reason):
            return Screen(message=CALM_MESSAGES[reason])
        case _:
            return Screen(message=GETTING_READY)


def ranked_list(ranking: Ranking, names: Sequence[str], clarity: ClaritySettings, not_sure: str) -> Screen:
    """List a ranking's first categories with their bars, pale and with a word beneath where it is not sure.

    Parameters
    ----------
    ranking : Ranking
    names : sequence of str
        Of the first categories, best first: as many as are to be shown.
    clarity : ClaritySettings
    not_sure : str
        The word.
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
    """A caption of several parts; empty ones are left out."""
    return "  ·  ".join(filter(None, parts))


def readable(name: str) -> str:
    """Write a category's name as words on one line: candidate lists often join them with underscores."""
    return " ".join(name.replace("_", " ").split())


def _caption(ranking: Ranking, run: Run | None) -> str:
    """People count from 1; totals are told where the run's header told them."""
    parts = []
    if ranking.block is not None:
        parts.append(f"block {ranking.block + 1}" + (f" of {len(run.blocks)}" if run and run.blocks else ""))
    parts.append(f"volume {ranking.index + 1}" + (f" of {run.n_volumes}" if run and run.n_volumes else ""))
    volumes = "1 volume" if ranking.n_volumes == 1 else f"{ranking.n_volumes} volumes"
    parts.append(f"{'final' if ranking.final else 'refining'}, from {volumes}")
    return joined(*parts)


class Easing:
    """Moves bars, and what else glides, to their new lengths over `EASE_S`; names and text change at once.

    The same screen aimed at twice moves nothing, so what is on screen changes only when a new answer arrives.
    """

    def __init__(self) -> None:
        self.target = Screen(message=WAITING)
        self._from: tuple[float, ...] = ()
        self._since_s = float("-inf")

    def aim(self, screen: Screen, now_s: float) -> None:
        """Head for `screen`, from wherever the bars are at `now_s`."""
        if screen == self.target:
            return
        at_present = self.at(now_s).moving
        self._from = at_present + (0.0,) * (len(screen.moving) - len(at_present))
        self.target, self._since_s = screen, now_s

    def settled(self, now_s: float) -> bool:
        """Whether the bars have arrived."""
        return not self.target.moving or now_s - self._since_s >= EASE_S

    def at(self, now_s: float) -> Screen:
        """Give the screen to draw at `now_s`; exactly the target once settled."""
        if self.settled(now_s):
            return self.target
        share = 1 - (1 - max(now_s - self._since_s, 0.0) / EASE_S) ** 3  # fast at first, then gently to rest
        return self.target.moved(
            tuple(start + share * (end - start) for start, end in zip(self._from, self.target.moving, strict=False))
        )
