"""What passes the checks of a server and might break it later: sources in each other's way, bursts, costly runs.

And what a blinded server keeps silent about.
"""

import logging
import math
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import zmq

from rtgod.bundle import DecoderBundle
from rtgod.errors import InputError
from rtgod.journal.journal import JournalWriter
from rtgod.messages import (
    COMMITMENT,
    Acknowledged,
    Block,
    Deferred,
    Event,
    NotReady,
    Ping,
    Pong,
    Ranking,
    Reason,
    Refused,
    Run,
    RunEnd,
    Status,
    Volume,
)
from rtgod.pipeline import Pipeline
from rtgod.protocol.clients import Sender, Subscriber
from rtgod.protocol.frames import from_frames, to_frames
from rtgod.replay import send_run
from rtgod.server import server as server_module
from rtgod.server.resumption import checkpoint_of, go_on, save_checkpoint
from rtgod.server.server import Server
from rtgod.server.session import MAX_GAP, Session
from tests import small
from tests.serving import FREE, PATIENCE_S, hear, is_a, running

#: Of a shape whose numbers can be written down, while their product cannot.
VAST = b'{"rtgod":1,"type":"volume","run_id":"r","index":0,"acquired_s":0.0,"arrays":[{"field":"data","dtype":"int16"'
VAST += b',"shape":[' + b",".join([b"1" + b"0" * 1500] * 3) + b"]}]}"


# ---------------------------------------------------------------- two sources, and what is much


def asked(client, message):
    """What a server replies to one message of a client."""
    client.send_multipart(to_frames(message))
    assert client.poll(PATIENCE_S * 1e3), "no reply"
    return from_frames(client.recv_multipart())


@contextmanager
def clients(address, n):
    """Sources of other makes: each a socket."""
    with zmq.Context() as context:
        sockets = [context.socket(zmq.DEALER) for _ in range(n)]
        for client in sockets:
            client.linger = 0
            client.connect(address)
        yield sockets
        context.destroy(linger=0)


def test_a_second_run_waits_while_another_source_s_is_received_and_says_for_what(aligning):
    live, other = small.run("live", acquisition="a"), small.run("other", acquisition="b")
    with clients(aligning.ingest, 2) as (first, second):
        asked(first, live)
        assert isinstance(asked(second, other), Deferred)  # before any volume, too
        for index in range(3):
            asked(first, small.volume(index, "live"))
        reply = asked(second, other)
        assert isinstance(reply, Deferred)
        assert "run live is being received from another source" in reply.why
        assert isinstance(asked(second, RunEnd("other", 1)), Refused)
        # The first one does not notice.
        assert asked(first, small.volume(3, "live")) == Acknowledged("live", 3)
        asked(first, RunEnd("live", 4))
        assert asked(second, other) == Acknowledged("other", None, taken_as="other")
        assert isinstance(asked(first, small.run("third")), Deferred)
    assert [run.run_id for run in aligning.recorded(Run)] == ["live", "other"]


def test_a_run_of_which_nothing_comes_any_more_keeps_nobody_waiting_and_can_be_gone_on_with(aligning, monkeypatch):
    monkeypatch.setattr(server_module, "_ALIVE_S", 0.0)
    monkeypatch.setattr(server_module, "_ALIVE_TR", 0.0)
    live, other = small.run("live", acquisition="a"), small.run("other", acquisition="b")
    with clients(aligning.ingest, 3) as (first, second, third):
        asked(first, live)
        for index in range(3):
            asked(first, small.volume(index, "live"))
        assert isinstance(asked(second, other), Acknowledged)
        asked(second, small.volume(0, "other"))
        monkeypatch.setattr(server_module, "_ALIVE_S", 60.0)
        # Now the other one is alive: whoever goes on with the first waits.
        assert asked(third, live).duplicate
        reply = asked(third, small.volume(3, "live"))
        assert isinstance(reply, Deferred)
        assert "run other is being received" in reply.why
        asked(second, RunEnd("other", 1))
        assert asked(third, small.volume(3, "live")) == Acknowledged("live", 3)
        asked(third, RunEnd("live", 4))
    assert [(v.run_id, v.index) for v in aligning.recorded(Volume)] == [
        *[("live", index) for index in range(3)],
        ("other", 0),
        ("live", 3),
    ]
    answers = [(a.run_id, a.index) for a in aligning.recorded(Ranking, NotReady)]
    assert answers == [("live", 0), ("live", 1), ("live", 2), ("other", 0), ("live", 3)]


def test_who_repeats_a_source_s_volume_does_not_become_the_source(aligning):
    with clients(aligning.ingest, 2) as (first, second):
        asked(first, small.run("live"))
        asked(first, small.volume(0, "live"))
        assert asked(second, small.volume(0, "live")).duplicate
        assert isinstance(asked(second, small.run("other")), Deferred)
        assert asked(first, small.volume(1, "live")) == Acknowledged("live", 1)
        # But who goes on with the run does: its connection was made anew, say.
        assert asked(second, small.volume(2, "live")) == Acknowledged("live", 2)
        assert isinstance(asked(second, small.run("other")), Acknowledged)


def test_a_source_that_begins_another_run_itself_need_not_wait(aligning):
    with Sender(aligning.ingest, patience_s=5.0) as sender:
        sender.send(small.run("run-1"))
        sender.send(small.volume(0))
        assert sender.send(small.run("run-2")).taken_as == "run-2"


@pytest.mark.parametrize("n", [100, MAX_GAP])
def test_all_answers_of_a_burst_and_the_run_s_end_reach_each_subscriber(aligning, n):
    with ExitStack() as stack:
        listening = [stack.enter_context(Subscriber(aligning.publish)) for _ in range(3)]
        for subscriber in listening:
            hear(subscriber, is_a(Status))
        sender = stack.enter_context(Sender(aligning.ingest))
        sender.send(small.run("run-1", n_volumes=n, blocks=()))
        sender.send(RunEnd("run-1", n))
        for subscriber in listening:
            messages = hear(subscriber, is_a(RunEnd))
            assert [m.index for m in messages if isinstance(m, NotReady)] == list(range(n))


def test_a_run_whose_pipeline_cannot_be_made_is_refused_before_it_is_journaled(tmp_path, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError("of all things")

    with running(tmp_path, small.bundle()) as decoding, clients(decoding.ingest, 1) as (client,):
        with monkeypatch.context() as patch:
            patch.setattr(DecoderBundle, "pipeline", fails)
            reply = asked(client, small.run())
        assert isinstance(reply, Refused)
        assert "run run-1 cannot be prepared (ZeroDivisionError: of all things)" in reply.why
        assert decoding.recorded(Run) == []
        assert asked(client, small.run()) == Acknowledged("run-1", None, taken_as="run-1")


def test_a_volume_that_the_pipeline_stumbles_over_is_answered_and_the_next_is_taken(tmp_path, monkeypatch):
    def stumbles(self, volume, **_):  # noqa: ARG001 # a pipeline's
        raise np.linalg.LinAlgError("singular matrix")

    with running(tmp_path, small.bundle()) as decoding, clients(decoding.ingest, 1) as (client,):
        asked(client, small.run())
        with monkeypatch.context() as patch:
            patch.setattr(Pipeline, "step", stumbles)
            assert asked(client, small.volume(0)) == Acknowledged("run-1", 0)
            assert isinstance(asked(client, Ping("c", "k", 0.0)), Pong)
        asked(client, small.volume(1))
        asked(client, Ping("c", "k", 0.0))
        first, second = decoding.recorded(NotReady)
    assert (first.reason, first.detail) == (Reason.BAD_VOLUME, "LinAlgError: singular matrix")
    assert second.reason is Reason.WARMING_UP


def test_a_run_that_takes_long_to_begin_and_answers_that_take_long_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "_SLOW_RUN_S", -1.0)
    with (
        running(tmp_path, small.bundle()) as decoding,
        Subscriber(decoding.publish) as subscriber,
        clients(decoding.ingest, 1) as (client,),
    ):
        asked(client, small.run())
        (status,) = hear(subscriber, lambda m: isinstance(m, Status) and m.run_id == "run-1")[-1:]
        assert "run run-1 took" in status.notice
        assert "18 × 20 × 16 voxels and 2 blocks" in status.notice
        monkeypatch.setattr(server_module, "_SLOW_VOLUME_TR", 1e-9)
        asked(client, small.volume(0))
        (status,) = hear(subscriber, lambda m: isinstance(m, Status) and m.latency_ms is not None)[-1:]
        assert "more than half of the TR of 2 s" in status.notice


def test_ordinary_runs_and_answers_are_not_told(decoding):
    with Sender(decoding.ingest) as sender, Subscriber(decoding.publish) as subscriber:
        for message in small.messages():
            sender.send(message)
        (status,) = hear(subscriber, lambda m: isinstance(m, Status) and m.n_taken == 12)[-1:]
    assert (status.notice, status.n_refused, status.n_cut) == ("", 0, 0)


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (b'{"rtgod":1,"type":"run-end","run_id":"run-1","n_volumes":-1}', ("run-1", None)),
        (b'{"rtgod":1,"type":"event","client":"c","number":7,"kind":"","at_s":0,"run_id":"r"}', ("c", 7)),
        (VAST, ("", None)),
        (b'{"rtgod":1,"type":"acknowledged","run_id":"r","index":false,"duplicate":1}', ("r", None)),
        (b'{"rtgod":1,"type":"ping","client":"c","kind":"' + b"k" * 101 + b'","sent_s":0}', ("c", None)),
        (b'{"rtgod":1,"type":"event","client":"c","number":1' + b"0" * 400 + b',"kind":"k","at_s":0}', ("c", None)),
    ],
)
def test_a_message_whose_values_are_impossible_is_refused_by_its_name_so_that_nobody_sends_it_again(
    aligning, header, named
):
    with clients(aligning.ingest, 1) as (client,):
        client.send(header)
        assert client.poll(PATIENCE_S * 1e3)
        reply = from_frames(client.recv_multipart())
    assert isinstance(reply, Refused)
    assert (reply.run_id, reply.index) == named


def test_what_is_refused_is_answered_shortly_and_counted(aligning):
    with clients(aligning.ingest, 1) as (client,), Subscriber(aligning.publish) as subscriber:
        for _ in range(5):
            client.send(b'{"rtgod": 1, "type": "' + b"<a " * 100_000 + b'"}')
            assert client.poll(PATIENCE_S * 1e3)
            assert len(from_frames(client.recv_multipart()).why) < 400
        (status,) = hear(subscriber, lambda m: isinstance(m, Status) and m.n_refused >= 5)[-1:]
    assert status.n_refused == 5


# ---------------------------------------------------------------- blinding


@pytest.mark.parametrize("how", ["asked", "by a display"])
def test_a_blinded_server_logs_no_ranking(tmp_path, caplog, how):
    event = Event("display", 0, COMMITMENT, 0.0, value="0123456789abcdef")
    names = {f"category {i}" for i in range(small.N_CANDIDATES)}

    def logged(folder, *, blinded, messages):
        caplog.clear()
        path = folder / "session.rtgod"
        with (
            caplog.at_level(logging.INFO),
            JournalWriter(path) as journal,
            Server(Session(small.bundle()), journal, FREE, FREE, blinded=blinded) as server,
        ):
            for message in messages:
                server._take(b"source", message, 0.0)
        return [(record.getMessage(), getattr(record, "fields", {})) for record in caplog.records]

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    messages = [*([event] if how == "by a display" else []), *small.messages()]
    blinded = logged(tmp_path / "a", blinded=how == "asked", messages=messages)
    open_ = logged(tmp_path / "b", blinded=False, messages=small.messages())
    assert any(name in text for text, _ in open_ for name in names)  # so the next can fail
    assert not any(name in text or name in str(fields) for text, fields in blinded for name in names)
    assert not any("not ready" in text or "ranking" in text for text, _ in blinded)
    assert sum("answered" in text for text, _ in blinded) == 12


# ---------------------------------------------------------------- recordings that are shorter than their events


def recorded(*spans):
    blocks = tuple(Block(*span) for span in spans)
    return small.Recorded(small.run(n_volumes=4, blocks=blocks), tuple(map(small.volume, range(4))))


def test_a_recording_whose_events_go_on_is_sent_with_those_that_it_holds_and_the_others_are_told(aligning, caplog):
    with Sender(aligning.ingest) as sender, caplog.at_level(logging.WARNING):
        list(send_run(recorded((2, 6), (60, 9)), sender, math.inf))
    assert aligning.recorded(Run)[0].blocks == (Block(2, 6),)
    assert "run run-1: 1 of 2 trials begin after its 8 s: left out" in caplog.text


def test_a_recording_whose_events_all_lie_elsewhere_is_not_sent(aligning):
    with (
        Sender(aligning.ingest) as sender,
        pytest.raises(InputError, match=r"all 2 trials .* the first at 2000 s; are"),
    ):
        list(send_run(recorded((2000, 600), (6000, 900)), sender, math.inf))
    assert aligning.recorded(Run) == []


def test_a_server_that_is_started_again_is_as_blind_as_before(tmp_path):
    event = Event("display", 0, COMMITMENT, 0.0, value="0123456789abcdef")
    path, session = tmp_path / "a.rtgod", Session(small.bundle())
    with JournalWriter(path) as journal:
        journal.append(session.hello())
        for message in (event, *small.messages()[:3]):
            list(session.handle(message))
            journal.append(message)
        save_checkpoint(journal, session, None, 1)
    for uses_checkpoint in (True, False):
        again = Session(small.bundle())
        assert not again.is_blinded
        assert (go_on(path, again).trusted_bytes > 100) == uses_checkpoint
        assert again.is_blinded
        checkpoint_of(path).unlink(missing_ok=True)
