"""A display's schedule as the server learns of it: from its table, or block by block while the run goes on."""

from dataclasses import replace

import numpy as np
import pytest

from rtgod.events.table import events_table
from rtgod.messages import Block, NewBlock
from rtgod.receivers.run_options import RunOptions
from rtgod.server.session import Session
from rtgod.settings import EventsSettings
from stimulus.paradigm.bids_events import write_plan
from stimulus.paradigm.schedule import Image, feedback_run, imagery_run, perception_run
from stimulus.paradigm.timing_settings import ProtocolSettings
from stimulus.runtime.server_link import Link
from stimulus.runtime.told_blocks import ToldBlocks, block_of
from tests import small
from tests.stimulus.simulated import HELLO

SETTINGS = ProtocolSettings(tr_s=2.0, n_repeats=1)
IDS = ["n00000001", "n00000002", "", "n00000001"]  # the third is the participant's choice
SCHEDULES = [
    feedback_run("run-1", IDS, SETTINGS),
    imagery_run("run-1", IDS, SETTINGS),
    perception_run("run-1", [Image(f"{name}_1", name) for name in IDS if name], SETTINGS, rng=np.random.default_rng(0)),
]
SCHEDULE = SCHEDULES[0]


class Desk:
    """A link to a server that publishes its run, and takes what it is told; the display's run has begun."""

    def __init__(self, run, schedule=SCHEDULE, *, is_asked_for=True):
        self.session, self.lines, self.messages = Session(None, small.AT_ONCE), [], [HELLO, run]
        self.session.check(run)
        list(self.session.handle(run))
        link = Link(self, self, self.lines.append, lambda: 0.0)
        self.told = ToldBlocks(schedule, link, self.lines.append, is_asked_for=is_asked_for)
        self.link, self.n_told = link, 0

    def poll(self):
        """The server's next message."""
        return self.messages.pop(0) if self.messages else None

    def tell_block(self, run_id, block):
        message = NewBlock(
            "display-1", self.n_told, run_id, block.onset_s, block.duration_s, block.label, block.imagined
        )
        self.session.check(message)
        list(self.session.handle(message))
        self.n_told += 1

    def step(self):
        self.link.poll()
        self.told.poll()


def run_for(schedule, **changes):
    return small.run(blocks=(), n_volumes=schedule.n_volumes, **changes)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["feedback", "imagery", "perception"])
def test_a_plan_is_a_table_for_a_running_scan_and_says_what_the_display_would_tell(schedule, tmp_path):
    path = tmp_path / "plan_events.tsv"
    write_plan(path, schedule)
    options = RunOptions(events=events_table(path), n_volumes=schedule.n_volumes)
    made, _ = options.run("run-1", "x", schedule.tr_s, small.SHAPE, small.AFFINE, None)
    desk = Desk(run_for(schedule), schedule)
    desk.step()
    assert made.blocks == desk.session.run.blocks == tuple(map(block_of, schedule.trials))
    assert len(made.blocks) == len(schedule.trials) > 2
    text = "".join(block.label for block in made.blocks)
    assert not any(name in text for name in IDS if name)


def test_a_plan_that_counts_from_the_first_trigger_of_a_dummy_is_counted_from_there(tmp_path):
    path = tmp_path / "plan_events.tsv"
    write_plan(path, SCHEDULE)
    for rules, shift in (
        (EventsSettings(count_from=6), 5),
        (EventsSettings(count_from=6, discard_volumes=5), 0),
        (EventsSettings(count_from=-1), -2),  # two dummies that the scanner does not deliver
    ):
        options = RunOptions(events=events_table(path), rules=rules)
        made, lines = options.run("run-1", "x", 2.0, small.SHAPE, small.AFFINE, None)
        assert made.blocks[0].onset_s == SCHEDULE.trials[0].onset_s + 2.0 * shift
        assert "the first trial, at " in lines[0]


def test_blocks_are_told_once_for_each_run_of_the_server():
    desk = Desk(run_for(SCHEDULE))
    desk.step()
    desk.messages.append(desk.session.run)  # the server publishes it again, with the blocks
    desk.step()
    assert desk.n_told == len(SCHEDULE.trials)
    assert any("lists no blocks: it is told" in line for line in desk.lines)
    restarted = Desk(run_for(SCHEDULE, run_id="run-1~2"))
    restarted.step()
    assert restarted.n_told == len(SCHEDULE.trials)


def test_a_run_that_lists_blocks_keeps_them():
    own = replace(run_for(SCHEDULE), blocks=(Block(3.0, 4.0),))
    desk = Desk(own)
    desk.step()
    assert desk.n_told == 0
    assert desk.session.run.blocks == own.blocks


def test_unless_asked_for_nothing_is_told_but_the_operator():
    desk = Desk(run_for(SCHEDULE), is_asked_for=False)
    for _ in range(3):
        desk.step()
    assert desk.n_told == 0
    assert sum("a window slides over it; with tell_blocks = true" in line for line in desk.lines) == 1
