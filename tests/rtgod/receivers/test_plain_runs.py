"""Runs whose messages are whole volumes: where they end when their number of volumes is planned."""

import numpy as np
import pytest

from rtgod.messages import Run, RunEnd, Volume
from rtgod.receivers.plain_runs import PlainRuns
from rtgod.receivers.run_options import RunOptions
from rtgod.settings import EventsSettings
from tests.rtgod.receivers.test_watcher import Server

TR_S, SHAPE = 2.0, (4, 3, 5)


class Here:
    """Runs beside a server that takes everything, with a clock that the test moves."""

    def __init__(self, n_promised=None, n_discarded=0, **options):
        self.server, self.lines, self.now_s = Server(), [], 0.0
        rules = EventsSettings(discard_volumes=n_discarded)
        self.runs = PlainRuns(self.server, RunOptions(rules=rules, **options), self.lines.append, lambda: self.now_s)
        self.begin(n_promised)

    def begin(self, n_promised=None):
        self.runs.begin(f"run-{len(self.server.runs) + 1}", TR_S, SHAPE, np.eye(4), n_promised)
        self.runs.step()

    def took(self, *indices, by="take"):
        for index in indices:
            data = np.full(SHAPE, index, np.int16)
            if by == "take_next":
                self.runs.take_next(data)
            else:
                getattr(self.runs, by)(index, data)
            self.runs.step()
            self.now_s += TR_S

    def told(self, words):
        return sum(words in line for line in self.lines)


@pytest.mark.parametrize("by", ["take", "take_next", "hold"])
@pytest.mark.parametrize("n_discarded", [0, 2])
def test_a_run_ends_with_its_planned_volume_and_later_ones_are_named_once_and_not_sent(by, n_discarded):
    here = Here(n_volumes=5, n_discarded=n_discarded)
    here.took(*range(4), by=by)
    assert not any(isinstance(message, RunEnd) for message in here.server.messages)
    here.took(4, by=by)
    assert here.server.messages[-1] == RunEnd("run-1", 5 - n_discarded)
    here.took(*range(5, 8), by=by)
    assert here.told("volume 6 came after its run had ended: not sent") == 1
    here.begin()
    assert here.told("3 volumes in all came after the end of their run") == 1
    here.took(*range(5), by=by)
    here.runs.close()
    kinds = [Run, *[Volume] * (5 - n_discarded), RunEnd]
    assert [type(message) for message in here.server.messages] == kinds * 2
    assert [volume.data.flat[0] for volume in here.server.volumes] == [*range(n_discarded, 5)] * 2
    assert here.told("came after") == 2


def test_a_lost_last_volume_is_counted_and_the_ones_beyond_are_not():
    here = Here(n_volumes=5)
    here.took(0, 1, 2, 6, 7, by="hold")
    here.took(8, by="hold")
    assert here.server.messages[-1] == RunEnd("run-1", 5)
    assert here.told("volumes 4 to 5 did not come: lost") == 1
    here.runs.close()
    assert [volume.index for volume in here.server.volumes] == [0, 1, 2]
    assert here.told("3 volumes in all came after") == 1
    assert len([message for message in here.server.messages if isinstance(message, RunEnd)]) == 1


def test_what_a_sender_promises_ends_no_run_while_volumes_come():
    here = Here(n_promised=5)
    here.took(*range(8))
    assert len(here.server.volumes) == 8
    here.now_s += 2 * TR_S
    here.runs.step()
    assert here.server.messages[-1] == RunEnd("run-1", 8)
    assert not here.told("came after") + here.told("no volume")


def test_volumes_that_waited_before_they_were_given_are_late_by_when_they_came():
    here = Here()
    data = np.zeros(SHAPE, np.int16)
    for came_s in (-20.0, -18.0, -12.0, -10.0):
        here.runs.take_next(data, came_s=came_s)
    assert here.told("volume 3 came 6.0 s after the one before it: 2 volumes may be lost") == 1
    assert here.told("may be lost") == 1
    here.runs.step()
    assert here.told("no volume for 2 TR, since volume 4") == 1


@pytest.mark.parametrize(("given_s", "n_told"), [(None, 0), (TR_S, 0), (1.001 * TR_S, 0), (2.5, 1)])
def test_a_repetition_time_that_contradicts_the_images_is_told_and_theirs_counts(given_s, n_told):
    here = Here(tr_s=given_s)
    assert here.server.runs[0].tr_s == TR_S
    assert here.told("run-1: its images say TR 2 s, which counts, not --tr") == n_told
