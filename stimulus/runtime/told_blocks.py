"""Blocks of the display's schedule for a server whose run lists none.

Onsets count from the start of volume 0, as the schedule's do: it has to be the same volume for display and source.
"""

from __future__ import annotations

from collections.abc import Callable

from rtgod.events.table import label_of
from rtgod.messages import Block
from rtgod.text import number_of
from stimulus.paradigm.schedule import Schedule, Step, StepKind
from stimulus.runtime.server_link import Link


class ToldBlocks:
    """Teller of a schedule's blocks; each run of the server is told once, and keeps blocks of its own.

    Parameters
    ----------
    schedule : Schedule
    link : Link
    tell : callable
        Shows the operator a line.
    is_asked_for : bool
        Whether blocks are told; else the operator is told that the server knows of none.
    """

    def __init__(self, schedule: Schedule, link: Link, tell: Callable[[str], object], *, is_asked_for: bool) -> None:
        self._schedule, self._link, self._tell, self._is_asked_for = schedule, link, tell, is_asked_for
        self._known: set[str] = set()

    def poll(self) -> None:
        """Tell the blocks as soon as the server's run is known; call it once the display's run has begun."""
        run, trials = self._link.run, self._schedule.trials
        if run is None or not trials or run.run_id in self._known:
            return
        self._known.add(run.run_id)
        if run.blocks:
            return
        if not self._is_asked_for:
            self._tell(
                f"the server's run {run.run_id} lists no blocks, so that a window slides over it; with tell_blocks = "
                "true in the settings it is told those of the schedule"
            )
            return
        for trial in trials:
            self._link.tell_block(run.run_id, block_of(trial))
        self._tell(f"the server's run {run.run_id} lists no blocks: it is told {number_of(len(trials), 'block')}")


def block_of(trial: Step) -> Block:
    """Make a block of a trial, with the label that a table of the schedule would give it.

    Parameters
    ----------
    trial : Step
    """
    return Block(trial.onset_s, trial.duration_s, label_of(trial.category), trial.kind is StepKind.IMAGERY)
