"""Runs that do not fit the bundle are refused, or told of at once: in the terminal, the status and the source."""

import logging
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from rtgod.errors import RefusedError
from rtgod.fit import Training
from rtgod.journal.journal import JournalWriter
from rtgod.logs import RUNS
from rtgod.messages import Run, RunEnd, Status, Volume
from rtgod.protocol.clients import Sender, Subscriber
from rtgod.server.server import Server
from rtgod.server.session import Session
from tests import small
from tests.serving import FREE, hear, resumed, running

BUNDLE = replace(small.bundle(), training=Training(("small",), small.TR_S, ("Head_32",)))


@pytest.fixture
def server(tmp_path):
    with running(tmp_path, BUNDLE) as server:
        yield server
        assert server.errors == []


def stranger(index, run_id="run-1"):
    """A volume of something that is no head."""
    return small.volume(index, run_id, data=np.random.default_rng(index).integers(0, 900, small.SHAPE, np.int16))


def status_with(notice):
    return lambda message: isinstance(message, Status) and notice in message.notice


@pytest.mark.parametrize("changes", [{"tr_s": 1.0, "n_volumes": 24}, {"subject": "somebody else"}])
def test_a_run_that_cannot_be_decoded_is_refused_and_leaves_no_trace(server, changes):
    with Sender(server.ingest) as sender:
        with pytest.raises(RefusedError, match="the decoder was trained"):
            sender.send(small.run(**changes))
        with pytest.raises(RefusedError, match="not being received"):
            sender.send(small.volume(0))
        sender.send(small.run())
        sender.send(small.volume(0))
    assert [run.subject for run in server.recorded(Run)] == ["small"]
    assert len(server.recorded(Volume)) == 1


def test_a_run_that_is_odd_is_taken_and_told_to_its_source_and_in_the_status(server, caplog):
    told = []
    with Subscriber(server.publish) as subscriber, Sender(server.ingest, waiting=told.append) as sender:
        sender.send(small.run(coil="Body_18"))
        sender.send(small.volume(0))
        hear(subscriber, status_with("its coil is Body_18, the bundle's Head_32"))
    assert told == ["the server says: run run-1 is odd: its coil is Body_18, the bundle's Head_32"]
    assert sum("Body_18" in line for line in caplog.messages) == 1


def test_that_nothing_can_be_aligned_is_told_at_the_third_volume_and_when_it_is_over(server, caplog):
    told = []
    with Subscriber(server.publish) as subscriber, Sender(server.ingest, waiting=told.append) as sender:
        sender.send(small.run())
        for index in range(2):
            sender.send(stranger(index))
        assert told == []
        for index in range(2, 4):
            sender.send(stranger(index))
        hear(subscriber, status_with("none of the first 3 volumes could be aligned to the bundle's head"))
        assert len(told) == 1
        assert "is it this subject's bundle" in told[0]
        for index in range(4, 6):
            sender.send(small.volume(index))
        hear(subscriber, lambda message: isinstance(message, Status) and not message.notice)
        assert told[1].startswith("no longer so: none of the first 3 volumes")
        sender.send(RunEnd("run-1", 6))
        assert sender.answers == {"not aligned": 4, "warming up": 2}
    assert sum("none of the first 3" in line for line in caplog.messages) == 1
    assert sum("can be aligned again" in line for line in caplog.messages) == 1


def test_a_mirrored_head_is_called_mirrored(tmp_path):
    settings = small.SETTINGS.model_copy(
        update={"motion": small.SETTINGS.motion.model_copy(update={"least_explained": 0.97})}
    )
    with running(tmp_path, replace(BUNDLE, settings=settings)) as server:
        told = []
        with Sender(server.ingest, waiting=told.append) as sender:
            sender.send(small.run())
            for index in range(4):
                sender.send(small.volume(index, data=small.volume(index).data[::-1]))
    assert "with left and right exchanged they could" in told[0]


def test_a_run_under_way_is_gone_on_with_though_it_does_not_fit_and_is_told_of(tmp_path):
    with running(tmp_path, small.bundle()) as server, Sender(server.ingest) as sender:
        sender.send(small.run(acquisition="a"))
        sender.send(small.volume(0))
    told = []
    with (
        resumed(tmp_path, replace(BUNDLE, training=Training(("small",), 2.5))) as again,
        Subscriber(again.publish) as subscriber,
        Sender(again.ingest, waiting=told.append) as sender,
    ):
        sender.send(small.run(acquisition="a"))
        sender.send(small.volume(1))
        hear(subscriber, status_with("trained at 2.5 s"))
    assert len(again.recorded(Volume)) == 2


def test_another_subject_may_be_served(tmp_path):
    with (
        JournalWriter(tmp_path / "j.rtgod") as journal,
        Server(Session(BUNDLE), journal, FREE, FREE, any_subject=True) as server,
    ):
        stop = threading.Event()
        thread = threading.Thread(target=server.serve, args=(stop.is_set, 0.01))
        thread.start()
        try:
            with Sender(server.endpoints.ingest) as sender:
                assert "somebody" in sender.send(small.run(subject="somebody")).notice
        finally:
            stop.set()
            thread.join()


def test_each_run_is_a_line_when_it_begins_and_one_when_it_ends(server, caplog):
    caplog.set_level(logging.INFO, RUNS)
    with Sender(server.ingest) as sender:
        for message in small.messages(indices=range(4)):
            sender.send(message)
        sender.send(small.run("run-2", blocks=(), n_volumes=None))
        sender.send(small.volume(0, "run-2"))
        sender.send(small.run("run-3"))
        sender.send(small.volume(0, "run-3"))
    lines = [record.getMessage() for record in caplog.records if record.name == RUNS]
    assert lines == [
        "run run-1: subject small, 12 volumes, TR 2 s, 2 trials",
        "run run-1: ended after 4 volumes: no rankings; not ranked: 3 warming up, 1 between trials",
        "run run-2: subject small, unknown number of volumes, TR 2 s, no trials",
        "run run-2: left off before its end: no rankings; not ranked: 1 warming up",
        "run run-3: subject small, 12 volumes, TR 2 s, 2 trials",
    ]


def test_a_run_whose_volumes_stop_is_told_within_two_repetition_times_and_no_longer_once_they_come(tmp_path):
    run = small.run(tr_s=0.25, blocks=())
    with (
        running(tmp_path, small.bundle()) as server,
        Subscriber(server.publish) as subscriber,
        Sender(server.ingest) as sender,
    ):
        sender.send(run)
        sender.send(small.volume(0))
        sent_s = time.monotonic()
        hear(subscriber, status_with("run run-1: no volume for 2 TR; did the scan stop, or its source?"))
        assert 0.45 <= time.monotonic() - sent_s < 5.0  # 2 TR; more is what a busy machine takes
        sender.send(small.volume(1))
        hear(subscriber, lambda message: isinstance(message, Status) and not message.notice)
        sender.send(RunEnd(run.run_id, 2))
        hear(subscriber, lambda message: isinstance(message, RunEnd))
        hear(subscriber, lambda message: isinstance(message, Status) and not message.notice)
