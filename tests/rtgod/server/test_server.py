"""The server with its clients over real sockets: nothing acknowledged that is not on disk, everything answered."""

import contextlib
import dataclasses
import math
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zmq

from rtgod.errors import JournalError, RefusedError, ServerError
from rtgod.journal.journal import JournalWriter, read_journal
from rtgod.messages import (
    VOLUME_DTYPES,
    Acknowledged,
    Block,
    Event,
    Hello,
    Message,
    Motion,
    NotReady,
    Pattern,
    Ping,
    Ranking,
    Reason,
    Refused,
    Run,
    RunEnd,
    SessionEnd,
    Status,
    Volume,
)
from rtgod.protocol.clients import Reporter, Sender, Subscriber
from rtgod.protocol.frames import _TYPES, MAX_ARRAY_BYTES, MAX_HEADER_BYTES, from_frames, to_frames
from rtgod.replay import send_run
from rtgod.server.server import Server
from rtgod.server.session import MAX_GAP, Session, without_timing
from tests import small
from tests.serving import FREE, PATIENCE_S, hear, is_a, resumed, running
from tests.strategies import equal


@contextlib.contextmanager
def raw_source(address):
    """A source that sends what it likes, and a function that sends frames and gives the reply."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(address)

        def ask(*frames):
            socket.send_multipart(frames)
            assert socket.poll(PATIENCE_S * 1e3), "no reply"
            return from_frames(socket.recv_multipart())

        yield ask


def test_every_volume_is_answered_and_what_is_published_is_what_is_journaled(decoding):
    with Subscriber(decoding.publish) as subscriber, Sender(decoding.ingest) as sender:
        hear(subscriber, is_a(Hello))
        replies = [sender.send(message) for message in small.messages(indices=[0, 1, 2, 3, 4, 5, 7, 8])]
        heard = hear(subscriber, is_a(RunEnd))
    assert equal(replies[0], Acknowledged("run-1", None, taken_as="run-1"))
    assert all(equal(reply, Acknowledged("run-1", reply.index)) for reply in replies[1:-1])
    assert replies[-1].answers == {"ranking": 3, "warming up": 3, "between trials": 2, "lost volume": 1}
    assert [reply.index for reply in replies] == [None, 0, 1, 2, 3, 4, 5, 7, 8, None]
    answers = [message for message in heard if isinstance(message, Ranking | NotReady)]
    assert [answer.index for answer in answers] == list(range(9))
    assert any(isinstance(answer, Ranking) for answer in answers)
    for answer in answers:
        expected = [] if answer.index == 6 else ["receive", "journal", "convert", "align"]
        assert list(answer.stage_ms)[:4] == expected
        assert all(0 <= ms < PATIENCE_S * 1e3 for ms in answer.stage_ms.values())
    assert sum(isinstance(message, Run) for message in heard) == 1
    journaled = decoding.recorded(Ranking, NotReady)
    assert len(journaled) == len(answers)
    assert all(map(equal, journaled, answers))
    assert len(decoding.recorded(Pattern)) == len([a for a in answers if {"window"} <= set(a.stage_ms)])
    incoming = decoding.recorded(Run, Volume, RunEnd)
    expected = small.messages(indices=[0, 1, 2, 3, 4, 5, 7, 8])
    assert all(map(equal, incoming, expected))
    assert len(incoming) == len(expected)


def test_the_answers_do_not_depend_on_the_sockets(decoding):
    with Sender(decoding.ingest) as sender:
        for message in small.messages():
            sender.send(message)
    session = Session(small.bundle())
    direct = [answer for message in small.messages() for answer, _ in session.handle(message)]
    hear_end = decoding.recorded(Ranking, NotReady)
    assert all(map(equal, map(without_timing, hear_end), map(without_timing, direct)))
    assert len(hear_end) == 12


# ---------------------------------------------------------------- acknowledged means on disk


def test_a_message_is_in_the_journal_and_flushed_before_it_is_acknowledged(tmp_path):
    flushed = []

    class Watched(JournalWriter):
        def flush(self):
            super().flush()
            flushed.append(len(list(read_journal(self.path))))

    with running(tmp_path, writer=Watched) as server, Sender(server.ingest) as sender:
        for message in small.messages(indices=range(3)):
            sender.send(message)
            on_disk = server.recorded()
            (position,) = [i for i, m in enumerate(on_disk) if isinstance(m, type(message)) and equal(m, message)]
            assert max(flushed) > position
    assert server.errors == []


def test_while_nothing_can_be_written_volumes_wait_and_everybody_is_told(tmp_path):
    class Full(JournalWriter):
        is_full = False

        def append_durable(self, message):
            if self.is_full:
                raise JournalError("is the disk full?")
            super().append_durable(message)

    told = []

    def tell(why):
        told.append(why)
        Full.is_full = len(told) < 2

    with (
        running(tmp_path, writer=Full) as server,
        Sender(server.ingest, waiting=tell) as sender,
        Subscriber(server.publish) as subscriber,
    ):
        sender.send(small.run())
        hear(subscriber, is_a(Hello))
        Full.is_full = True
        assert not sender.send(small.volume(0)).duplicate
        heard = hear(subscriber, is_a(NotReady))
        heard += hear(subscriber, lambda message: isinstance(message, Status) and not message.problem)
    assert told == ["is the disk full?"] * 2
    assert "is the disk full?" in {message.problem for message in heard if isinstance(message, Status)}
    assert [volume.index for volume in server.recorded(Volume)] == [0]
    assert server.errors == []


def test_an_answer_that_cannot_be_written_is_published_and_written_before_the_next_volume_is_taken(tmp_path):
    class Full(JournalWriter):
        n_failures = 0

        def append(self, message):
            if isinstance(message, NotReady) and Full.n_failures < 3:
                Full.n_failures += 1
                raise JournalError("is the disk full?")
            super().append(message)

    with running(tmp_path, writer=Full) as server, Sender(server.ingest) as sender:
        for message in small.messages(indices=range(3)):
            sender.send(message)
    assert server.errors == []
    kept = [(type(message), message.index) for message in server.recorded(Volume, NotReady)]
    assert kept == [(kind, index) for index in range(3) for kind in (Volume, NotReady)]


def test_a_duplicate_is_acknowledged_as_one_and_neither_journaled_nor_answered_again(aligning):
    messages = small.messages(indices=range(3))
    with Subscriber(aligning.publish) as subscriber, Sender(aligning.ingest) as sender:
        hear(subscriber, is_a(Hello))
        for message in messages[:-1]:
            assert [sender.send(message).duplicate for _ in range(3)] == [False, True, True]
        assert [sender.send(messages[-1]).duplicate for _ in range(2)] == [False, True]
        heard = hear(subscriber, is_a(RunEnd))
    assert [m.index for m in heard if isinstance(m, NotReady)] == [0, 1, 2]
    assert len(aligning.recorded(Run, Volume, RunEnd)) == len(messages)


def test_two_sources_cannot_count_a_volume_twice(aligning):
    with Sender(aligning.ingest) as one, Sender(aligning.ingest) as other:
        one.send(small.run())
        assert not one.send(small.volume(0)).duplicate
        assert other.send(small.volume(0)).duplicate
        assert not other.send(small.volume(1)).duplicate


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([b""], "header is not JSON"),
        ([b"\x80\x04N."], "header is not JSON"),
        ([b"[" * 100_000], "header is not JSON"),
        ([b'{"rtgod":2}'], "speaks version 1"),
        ([b'{"rtgod":1,"type":"volume"}'], "arrays must be exactly"),
        ([b"", *map(bytes, to_frames(small.run()))], "header is not JSON"),
        ([*map(bytes, to_frames(small.run())), b"more"], "1 came"),
    ],
    ids=str,
)
def test_frames_that_cannot_be_read_are_refused_by_name_and_it_goes_on(aligning, frames, says):
    check_refused(aligning, frames, ("", None), says)


@pytest.mark.parametrize(
    ("message", "named"),
    [(Hello("1", None, 0, 0), ("", None)), (small.RANKING, (small.RANKING.run_id, small.RANKING.index))],
)
def test_messages_that_a_server_does_not_take_are_refused_by_name_and_it_goes_on(aligning, message, named):
    says = f"takes run, volume, run-end, event, block and ping, not {type(message).__name__}"
    check_refused(aligning, map(bytes, to_frames(message)), named, says)


def check_refused(aligning, frames, named, says):
    with raw_source(aligning.ingest) as ask:
        reply = ask(*frames)
        assert isinstance(reply, Refused)
        assert (reply.run_id, reply.index) == named
        assert says in reply.why
        assert equal(ask(*map(bytes, to_frames(small.run()))), Acknowledged("run-1", None, taken_as="run-1"))
    assert len(aligning.recorded(Run)) == 1


def test_a_volume_that_is_refused_is_not_journaled_and_the_next_is_taken(aligning):
    with Sender(aligning.ingest) as sender:
        with pytest.raises(RefusedError, match=r"the server refused: .*send its Run first"):
            sender.send(small.volume(0))
        sender.send(small.run())
        with pytest.raises(RefusedError, match="run-2 is not being received"):
            sender.send(small.volume(0, "run-2"))
        assert sender.send(small.volume(0)).index == 0
    assert [volume.run_id for volume in aligning.recorded(Volume)] == ["run-1"]


@pytest.mark.parametrize("n_garbled", [1, 5])
def test_a_message_that_was_garbled_on_the_way_is_sent_again(n_garbled, monkeypatch):
    monkeypatch.setattr("rtgod.protocol.clients._DEFERRED_S", 0.01)
    told = []
    replies = [Refused("", None, "not JSON")] * n_garbled + [Acknowledged("run-1", 0)]
    with answering(replies) as address, Sender(address, patience_s=PATIENCE_S, waiting=told.append) as sender:
        assert sender.send(small.volume(0)).index == 0
    assert told.count("not JSON") == n_garbled


def test_a_message_that_a_server_never_can_read_is_given_up_with_what_the_server_said(monkeypatch):
    monkeypatch.setattr("rtgod.protocol.clients._DEFERRED_S", 0.01)
    replies = [Refused("", None, "this side speaks version 2")] * 1000
    with (
        answering(replies) as address,
        Sender(address, patience_s=1.0) as sender,
        pytest.raises(ServerError, match=r"within 1 s: .*version 2"),
    ):
        sender.send(small.volume(0))


@contextlib.contextmanager
def answering(replies):
    """A server that answers volumes so, each after a reply that nobody can read; yields its address."""
    gone = threading.Event()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")

        def serve():
            for reply in replies:
                message = None
                while not isinstance(message, Volume):
                    while not router.poll(20):
                        if gone.is_set():
                            return
                    identity, *frames = router.recv_multipart()
                    message = from_frames(frames)
                router.send_multipart([identity, b"{"])
                router.send_multipart([identity, *to_frames(reply)])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{port}"
        finally:
            gone.set()
            thread.join(PATIENCE_S)


def test_a_refusal_of_an_earlier_message_does_not_refuse_the_next():
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        port = router.bind_to_random_port("tcp://127.0.0.1")

        def serve():
            n_volumes = 0
            while n_volumes < 2:
                assert router.poll(PATIENCE_S * 1e3)
                identity, *frames = router.recv_multipart()
                message = from_frames(frames)
                n_volumes += isinstance(message, Volume)
                if isinstance(message, Ping):
                    continue
                if message.index == 0:
                    for _ in range(2):  # as to a message that was sent again because the first reply was slow
                        router.send_multipart([identity, *to_frames(Refused("run-1", 0, "no"))])
                else:
                    router.send_multipart([identity, *to_frames(Acknowledged("run-1", message.index))])

        thread = threading.Thread(target=serve)
        thread.start()
        with Sender(f"tcp://127.0.0.1:{port}", timeout_s=PATIENCE_S) as sender:
            with pytest.raises(RefusedError):
                sender.send(small.volume(0))
            assert sender.send(small.volume(1)).index == 1
        thread.join(PATIENCE_S)


@pytest.mark.parametrize("place", ["ingest", "publish"])
@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("tcp://*:*", "beyond loopback"),
        ("tcp://0.0.0.0:5555", "beyond loopback"),
        ("tcp://192.168.1.5:5555", "beyond loopback"),
        ("tcp://eth0:*", "beyond loopback"),
        ("tcp://[::]:*", "beyond loopback"),
        ("tcp://127.0.0.1.example.org:5555", "beyond loopback"),
        ("127.0.0.1:5555", "write tcp://127.0.0.1:PORT"),
        ("ipc:///tmp/server", "write tcp://127.0.0.1:PORT"),
        ("tcp://127.0.0.1", "write tcp://127.0.0.1:PORT"),
        ("tcp://127.0.0.1:http", "write tcp://127.0.0.1:PORT"),
        ("tcp://127.0.0.1:70000", "write tcp://127.0.0.1:PORT"),
        ("tcp://[::1", "beyond loopback"),
        ("", "write tcp://127.0.0.1:PORT"),
    ],
)
def test_an_address_that_cannot_be_served_is_a_server_error(tmp_path, place, address, says):
    addresses = {"ingest": FREE, "publish": FREE} | {place: address}
    with JournalWriter(tmp_path / "journal.rtgod") as journal, pytest.raises(ServerError) as caught:
        Server(Session(None), journal, **addresses)
    assert says in str(caught.value)
    assert address in str(caught.value)


def test_a_port_in_use_is_a_server_error_and_frees_the_other(aligning, tmp_path):
    with JournalWriter(tmp_path / "second.rtgod") as journal:
        for taken in (aligning.ingest, aligning.publish):
            with pytest.raises(ServerError, match=f"{re.escape(taken)} is in use: is another server running"):
                Server(Session(None), journal, FREE, taken)
        with Server(Session(None), journal, FREE, FREE) as server:
            assert server.endpoints.ingest.startswith("tcp://127.0.0.1:")


def test_ports_are_free_again_after_closing(tmp_path):
    with JournalWriter(tmp_path / "journal.rtgod") as journal:
        with Server(Session(None), journal, FREE, FREE) as server:
            endpoints = server.endpoints
        with Server(Session(None), journal, endpoints.ingest, endpoints.publish) as server:
            assert server.endpoints == endpoints


# ---------------------------------------------------------------- subscribers


def test_a_late_subscriber_is_told_where_things_stand(decoding):
    with Sender(decoding.ingest) as sender:
        for message in small.messages()[:7]:
            sender.send(message)
        with Subscriber(decoding.publish) as early:
            hear(early, lambda message: getattr(message, "index", None) == 5)
        with Subscriber(decoding.publish) as late:
            # It may have come in the middle of what another was told.
            hello, status, run, answer = (hear(late, is_a(Hello)) + hear(late, is_a(Ranking)))[-4:]
    assert (status.run_id, status.n_taken, status.last_index) == ("run-1", 6, 5)
    assert hello == Session(small.bundle()).hello()
    assert equal(run, small.run())
    assert (type(answer), answer.index) == (Ranking, 5)
    assert equal(answer, decoding.recorded(Ranking, NotReady)[-1])


def test_a_new_run_makes_the_last_answer_of_the_old_one_history(aligning):
    with Sender(aligning.ingest) as sender:
        for message in [*small.messages(indices=range(2)), small.run("run-2")]:
            sender.send(message)
        with Subscriber(aligning.publish) as late:
            heard = hear(late, is_a(Run))
            for _ in range(2):  # its welcome, if the run was heard as it came, and a heartbeat: it was told all by then
                heard += hear(late, is_a(Hello))
    assert {m.run_id for m in heard if isinstance(m, Run)} == {"run-2"}
    assert not [m for m in heard if isinstance(m, Ranking | NotReady)]


def test_an_idle_server_says_hello_about_each_second(aligning):
    with Subscriber(aligning.publish) as subscriber:
        hear(subscriber, is_a(Hello))
        hear(subscriber, is_a(Hello))
        start_s = time.monotonic()
        hear(subscriber, is_a(Hello))
        assert 0.7 < time.monotonic() - start_s < 5.0


def test_a_subscriber_waits_no_longer_than_it_is_told_to():
    with zmq.Context() as context, context.socket(zmq.PUB) as silent:
        port = silent.bind_to_random_port("tcp://127.0.0.1")
        with Subscriber(f"tcp://127.0.0.1:{port}") as subscriber:
            start_s = time.monotonic()
            assert subscriber.poll() is None
            assert subscriber.poll(0.05) is None
            assert 0.04 < time.monotonic() - start_s < 5.0


# ---------------------------------------------------------------- senders


@pytest.fixture
def nobody():
    """An address at which nobody listens."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
    return f"tcp://127.0.0.1:{port}"


def test_a_sender_without_a_server_gives_up_in_the_time_that_it_was_given(nobody):
    told = []
    with Sender(nobody, timeout_s=0.05, patience_s=0.15, waiting=told.append) as sender:
        start_s = time.monotonic()
        with pytest.raises(ServerError, match=r"within 0\.15 s: no answer from .*; is `rtgod serve` running"):
            sender.send(small.run())
        assert 0.14 < time.monotonic() - start_s < 5.0
    assert len(told) >= 2
    assert all(nobody in why for why in told)


@pytest.mark.parametrize("end", [Sender, Subscriber])
@pytest.mark.parametrize("address", ["", "127.0.0.1:5555", "tcp://127.0.0.1", "http://127.0.0.1:5555"])
def test_an_address_that_is_none_is_a_server_error(end, address):
    with pytest.raises(ServerError, match="write tcp://HOST:PORT"):
        end(address)


def test_what_was_not_acknowledged_is_sent_again_and_counts_once(aligning):
    """A proxy loses the first of every message, and the first acknowledgement of all but volumes 0 and 2."""
    stop = threading.Event()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as front, context.socket(zmq.DEALER) as back:
        front.linger = back.linger = 0
        port = front.bind_to_random_port("tcp://127.0.0.1")
        back.connect(aligning.ingest)

        def lossy():
            identity, seen = b"", set()
            poller = zmq.Poller()
            poller.register(front, zmq.POLLIN)
            poller.register(back, zmq.POLLIN)
            while not stop.is_set():
                ready = dict(poller.poll(20))
                if front in ready:
                    identity, *frames = front.recv_multipart()
                    if b'"ping"' in frames[0]:
                        continue
                    if frames[0] in seen:
                        back.send_multipart(frames)
                    seen.add(frames[0])
                if back in ready:
                    (reply,) = back.recv_multipart()
                    acknowledged = from_frames([reply])
                    if acknowledged.duplicate or acknowledged.index in (0, 2):
                        front.send_multipart([identity, reply])

        thread = threading.Thread(target=lossy)
        thread.start()
        with Sender(f"tcp://127.0.0.1:{port}", timeout_s=0.1, patience_s=5.0) as sender:
            replies = [sender.send(message) for message in small.messages(indices=range(3))]
        stop.set()
        thread.join(PATIENCE_S)
    assert [reply.duplicate for reply in replies] == [True, False, True, False, True]
    assert [v.index for v in aligning.recorded(Volume)] == [0, 1, 2]
    assert [a.index for a in aligning.recorded(NotReady)] == [0, 1, 2]


# ---------------------------------------------------------------- runs that are started again, and servers that are


def test_a_run_that_was_stopped_and_started_again_gets_a_name_of_its_own(aligning):
    with Sender(aligning.ingest) as sender:
        first = sender.send(small.run(acquisition="a"))
        for index in range(3):
            sender.send(small.volume(index))
        second = sender.send(small.run(acquisition="b"))
        for message in small.messages(indices=range(2))[1:]:
            assert not sender.send(message).duplicate
        again = sender.send(small.run(acquisition="a"))
    assert (first.taken_as, second.taken_as, again.taken_as) == ("run-1", "run-1~2", "run-1")
    assert (first.duplicate, second.duplicate, again.duplicate) == (False, False, True)
    assert [run.run_id for run in aligning.recorded(Run)] == ["run-1", "run-1~2"]
    assert [(v.run_id, v.index) for v in aligning.recorded(Volume)] == [
        *[("run-1", index) for index in range(3)],
        *[("run-1~2", index) for index in range(2)],
    ]
    assert aligning.recorded(RunEnd) == [RunEnd("run-1~2", 2)]


def test_a_source_that_died_goes_on_where_it_was_when_it_is_started_again(aligning):
    source = small.Recorded(small.run(), tuple(map(small.volume, range(6))))
    with Sender(aligning.ingest) as sender:
        for _, _ in zip(send_run(source, sender, math.inf, acquisition="a"), range(4), strict=False):
            pass
    for _ in range(2):  # and once more when all was sent
        with Sender(aligning.ingest) as sender:
            list(send_run(source, sender, math.inf, acquisition="a"))
    assert [volume.index for volume in aligning.recorded(Volume)] == list(range(6))
    assert [answer.index for answer in aligning.recorded(NotReady)] == list(range(6))
    assert len(aligning.recorded(Run)) == len(aligning.recorded(RunEnd)) == 1


@pytest.mark.parametrize("lost_records", range(5))
def test_a_server_that_died_goes_on_where_it_was_and_answers_as_if_it_had_not(tmp_path, lost_records):
    messages = small.messages()
    with running(tmp_path / "undisturbed", small.bundle()) as server, Sender(server.ingest) as sender:
        for message in messages:
            sender.send(message)
    expected = server.recorded(Ranking, NotReady)
    with running(tmp_path / "died", small.bundle()) as server, Sender(server.ingest) as sender:
        for message in messages[:8]:
            sender.send(message)
    died_with = [message for message in server.recorded() if not isinstance(message, SessionEnd)]
    kept = died_with[: len(died_with) - lost_records]
    (tmp_path / "resumed").mkdir()
    with JournalWriter(tmp_path / "resumed" / "session.rtgod") as journal:
        for message in kept:
            journal.append(message)
    with resumed(tmp_path / "resumed", small.bundle()) as server, Sender(server.ingest) as sender:
        for message in messages:  # the source has not heard of all that was acknowledged
            sender.send(message)
    answers = server.recorded(Ranking, NotReady)
    assert all(map(equal, map(without_timing, answers), map(without_timing, expected)))
    assert len(answers) == len(expected)
    assert [volume.index for volume in server.recorded(Volume)] == list(range(12))
    assert isinstance(server.recorded()[-1], SessionEnd)


def test_a_late_subscriber_of_a_resumed_server_hears_the_last_answer(tmp_path):
    with running(tmp_path, small.bundle()) as server, Sender(server.ingest) as sender:
        for message in small.messages()[:8]:
            sender.send(message)
    with resumed(tmp_path, small.bundle()) as server, Subscriber(server.publish) as late:
        heard = hear(late, is_a(Ranking))
    assert [type(message) for message in heard if not isinstance(message, Status)] == [Hello, Run, Ranking]
    assert heard[-1].index == 6


def test_a_source_that_holds_more_than_can_be_worked_off_gets_the_newest_ranked(decoding):
    with Sender(decoding.ingest) as sender:
        sender.send(small.run())
        for index in range(12):
            n_waiting = 10**6 if 4 < index < 9 else 0
            sender.send(small.volume(index, held_s=3.0, n_waiting=n_waiting))
    answers = {answer.index: answer for answer in decoding.recorded(Ranking, NotReady)}
    behind = [index for index, answer in answers.items() if getattr(answer, "reason", None) is Reason.BEHIND]
    # Those that end a block are ranked, however late.
    assert behind == [5, 8]
    assert answers[6].final
    session = Session(small.bundle())
    undisturbed = {answer.index: answer for message in small.messages()[:-1] for answer, _ in session.handle(message)}
    for index in answers.keys() - {5, 8}:
        assert equal(without_timing(answers[index]), without_timing(undisturbed[index]))
    assert 3.0 < answers[6].age_s < 3.0 + PATIENCE_S


# ---------------------------------------------------------------- events and health


def poll_until(reporter, done):
    deadline_s = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline_s, "it never happened"
        reporter.poll()
        threading.Event().wait(0.005)


def test_events_are_journaled_once_with_both_clocks_and_the_offset_between_them(aligning):
    def clock():
        return time.time() - 5000.0

    with Reporter(aligning.ingest, "display", clock) as reporter:
        poll_until(reporter, lambda: reporter.offset_s is not None)
        reporter.report("flip", clock(), "run-1", "3")
        reporter.report("button", clock(), value="left")
        poll_until(reporter, lambda: not reporter.n_unacknowledged)
        assert reporter.offset_s == pytest.approx(5000.0, abs=0.5)
        flip, button = aligning.recorded(Event)
        assert (flip.number, flip.kind, flip.run_id, flip.value) == (0, "flip", "run-1", "3")
        assert (button.number, button.kind, button.run_id, button.value) == (1, "button", "", "left")
        for event in (flip, button):
            assert event.at_s + event.offset_s == pytest.approx(event.received_utc_s, abs=1.0)
            assert abs(event.offset_s - 5000.0) <= event.offset_error_s + 1e-3
        with raw_source(aligning.ingest) as ask:
            assert ask(*to_frames(flip)) == Acknowledged(reporter.name, 0, duplicate=True)
        assert len(aligning.recorded(Event)) == 2


def test_a_reporter_without_a_server_keeps_its_events_and_never_waits(nobody):
    with Reporter(nobody, "display") as reporter:
        start_s = time.monotonic()
        for number in range(100):
            reporter.report("flip", 0.0, value=str(number))
            reporter.poll()
        assert time.monotonic() - start_s < 1.0
        assert reporter.n_unacknowledged == 100


def test_the_status_tells_of_clients_runs_latency_and_room(aligning):
    with (
        Sender(aligning.ingest) as sender,
        Reporter(aligning.ingest, "display") as reporter,
        Subscriber(aligning.publish) as subscriber,
    ):
        poll_until(reporter, lambda: reporter.offset_s is not None)
        for message in small.messages(indices=range(3))[:-1]:
            sender.send(message)
        status = hear(subscriber, lambda m: isinstance(m, Status) and m.n_taken == 3)[-1]
    assert (status.run_id, status.last_index, status.problem) == ("run-1", 2, "")
    assert {client.kind for client in status.clients} == {"source", "display"}
    assert reporter.name in {client.client for client in status.clients}
    assert 0 < status.latency_ms[0] <= status.latency_ms[1] <= status.latency_ms[2] < PATIENCE_S * 1e3
    assert status.disk_free_bytes > 0
    assert status.journal == "session.rtgod"


def test_a_server_that_is_stopped_says_so_to_all_and_to_its_journal(tmp_path):
    with running(tmp_path) as server:
        subscriber = Subscriber(server.publish)
        hear(subscriber, is_a(Hello))
    with subscriber:
        hear(subscriber, is_a(SessionEnd))
    assert isinstance(server.recorded()[-1], SessionEnd)


# ---------------------------------------------------------------- a recorded run


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self):
        self.now_s = 1000.0
        self.waits_s = []

    def monotonic(self):
        return self.now_s

    def wait(self, seconds):
        self.waits_s.append(seconds)
        self.now_s += seconds


class Listed:
    """Takes messages like a `Sender`; taking one lasts `takes_s`."""

    def __init__(self, clock, takes_s, n_known=0):
        self.clock, self.takes_s, self.n_known, self.sent = clock, takes_s, n_known, []

    def send(self, message):
        self.sent.append((self.clock.now_s - 1000.0, message))
        self.clock.now_s += self.takes_s
        index = message.index if isinstance(message, Volume) else None
        return Acknowledged(message.run_id, index, duplicate=(index or 0) < self.n_known)


@pytest.mark.parametrize(
    ("speed", "takes_s", "leave_s"),
    [
        (1.0, 0.0, [2.0, 4.0, 8.0]),
        (4.0, 0.0, [0.5, 1.0, 2.0]),
        (0.5, 0.0, [4.0, 8.0, 16.0]),
        (1.0, 0.25, [2.25, 4.25, 8.25]),  # the run's clock starts when the server has the run
        (1.0, 3.0, [5.0, 8.0, 11.0]),  # too slow a server: as fast as it takes them
        (math.inf, 0.0, [0.0, 0.0, 0.0]),
    ],
)
def test_volumes_leave_when_their_acquisition_ends(monkeypatch, speed, takes_s, leave_s):
    clock = Clock()
    monkeypatch.setattr("rtgod.replay.time.monotonic", clock.monotonic)
    source = small.Recorded(small.run(), tuple(map(small.volume, (0, 1, 3))))
    sender = Listed(clock, takes_s)
    sent = list(send_run(source, sender, speed, clock.wait))
    assert [type(message) for _, message in sender.sent] == [Run, Volume, Volume, Volume, RunEnd]
    assert [t for t, _ in sender.sent[1:4]] == pytest.approx(leave_s)
    assert [s.index for s in sent] == [0, 1, 3]
    assert sender.sent[-1][1] == RunEnd("run-1", 4)
    assert all(seconds > 0 for seconds in clock.waits_s)
    assert math.isfinite(speed) or not clock.waits_s


def test_what_the_server_has_already_takes_no_time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("rtgod.replay.time.monotonic", clock.monotonic)
    sender = Listed(clock, 0.0, n_known=3)
    list(send_run(small.Recorded(small.run(), tuple(map(small.volume, range(6)))), sender, 1.0, clock.wait))
    leave_s = [t for t, message in sender.sent if isinstance(message, Volume)]
    assert leave_s == pytest.approx([0.0, 0.0, 0.0, 0.0, 2.0, 4.0])


def test_a_late_source_says_how_late_it_is_and_what_it_holds(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("rtgod.replay.time.monotonic", clock.monotonic)
    sender = Listed(clock, 5.0)
    list(send_run(small.Recorded(small.run(), tuple(map(small.volume, range(4)))), sender, 1.0, clock.wait))
    volumes = [message for _, message in sender.sent if isinstance(message, Volume)]
    assert [volume.held_s for volume in volumes] == pytest.approx([0.0, 3.0, 6.0, 9.0])
    assert [volume.n_waiting for volume in volumes] == [0, 1, 3, 4]


def test_a_recorded_run_reaches_the_server_whole(aligning):
    source = small.Recorded(small.run(), tuple(map(small.volume, range(5))))
    before_s = time.time()
    with Sender(aligning.ingest) as sender:
        sent = list(send_run(source, sender, 1000.0))
    assert [volume.index for volume in aligning.recorded(Volume)] == list(range(5))
    assert equal(aligning.recorded(RunEnd)[0], RunEnd("run-1", 5))
    times_s = [t for s in sent for t in (s.sent_utc_s, s.acknowledged_utc_s)]
    assert times_s == sorted(times_s)
    assert before_s <= times_s[0] <= times_s[-1] <= time.time()


# ---------------------------------------------------------------- docs/wire.md

DOCUMENT = (Path(__file__).parents[3] / "docs" / "wire.md").read_text(encoding="utf-8")
HEADER, VOXELS = re.findall(r"^```\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


def test_the_document_knows_every_message_field_reason_type_and_limit():
    for cls in Message.__args__:
        for field in dataclasses.fields(cls):
            assert f"`{field.name}`" in DOCUMENT, (cls, field.name)
    for cls in (Block, Motion):
        for field in dataclasses.fields(cls):
            assert field.name in DOCUMENT, (cls, field.name)
    for name in (*_TYPES, *Reason, *VOLUME_DTYPES):
        assert f"`{name}`" in DOCUMENT, name
    limits = dict(
        re.findall(r"^\| (header|each array|volumes missing at once|numbers in an affine) \| (.*) \|$", DOCUMENT, re.M)
    )
    assert limits == {
        "header": f"{MAX_HEADER_BYTES >> 20} MiB",
        "each array": f"{MAX_ARRAY_BYTES >> 20} MiB",
        "volumes missing at once": f"{MAX_GAP}",
        "numbers in an affine": "below 1,000,000",
    }


def test_the_documented_bytes_are_the_message():
    (n_header, n_voxels) = map(int, re.search(r"of (\d+) and (\d+) bytes", DOCUMENT).groups())
    frames = [HEADER.strip().encode(), bytes.fromhex(VOXELS)]
    assert [len(frame) for frame in frames] == [n_header, n_voxels]
    volume = Volume("r", 7, 14.0, np.array([[[1, 2]], [[-1, 256]]], "int16"))
    assert [bytes(frame) for frame in to_frames(volume)] == frames
