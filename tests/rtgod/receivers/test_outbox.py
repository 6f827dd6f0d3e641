"""What waits for the server: sent by a thread, so that no wait keeps a receiver; refused, given up and told."""

import threading
import time

import numpy as np
import pytest

from rtgod.errors import RefusedError, ServerError
from rtgod.messages import Run, RunEnd, Volume
from rtgod.receivers.outbox import Outbox
from rtgod.receivers.run_options import RunOptions
from rtgod.receivers.server_rules import ServerRules

SHAPE = (4, 3, 5)
#: Longest wait for what a thread does, seconds.
_PATIENCE_S = 30.0


def run(run_id="run", n_volumes=None):
    return Run(run_id, "01", 2.0, SHAPE, np.eye(4), n_volumes)


def volumes(n, run_id="run"):
    return [Volume(run_id, index, 2.0 * index, np.full(SHAPE, index, np.int16)) for index in range(n)]


def waits_for(condition):
    end_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


class Away:
    """A server that is away: each try takes until the test lets it fail, or until the server is there."""

    def __init__(self):
        self.messages, self.n_tries, self.is_there = [], 0, False
        self.tried, self.goes_on = threading.Event(), threading.Semaphore(0)

    def send(self, message):
        self.n_tries += 1
        self.tried.set()
        if not self.is_there:
            assert self.goes_on.acquire(timeout=_PATIENCE_S)
        if not self.is_there:
            raise ServerError("no answer from tcp://127.0.0.1:5555")
        self.messages.append(message)


def test_no_wait_for_the_server_keeps_a_receiver_and_nothing_is_lost():
    server, lines = Away(), []
    with Outbox(server, lines.append) as outbox:
        outbox.put(run())
        outbox.send()
        assert server.tried.wait(_PATIENCE_S)
        for message in volumes(20):  # while the first try hangs
            outbox.put(message)
            outbox.send()
        assert server.n_tries == 1
        server.goes_on.release()
        waits_for(
            lambda: any(
                "waiting for the server: 21 messages, as long as this goes on; no answer" in line for line in lines
            )
        )
        server.is_there = True
        server.goes_on.release(3)
        outbox.put(RunEnd("run", 20))
        outbox.end()
    assert [getattr(message, "index", None) for message in server.messages] == [None, *range(20), None]
    assert (outbox.n_sent, outbox.summary) == (20, "20 volumes sent")
    assert sum("waiting for the server" in line for line in lines) == 1
    assert sum(line.startswith("the server is there again: ") for line in lines) == 1
    assert lines[-1] == "run: ended after 20 volumes"


def test_what_is_stopped_without_a_server_ends_with_the_try_under_way_and_counts_what_is_lost():
    server, lines = Away(), []
    with Outbox(server, lines.append) as outbox:
        for message in (run(), *volumes(5), RunEnd("run", 5)):
            outbox.put(message)
        outbox.send()
        assert server.tried.wait(_PATIENCE_S)
        threading.Timer(0.05, server.goes_on.release).start()
        outbox.end()
        assert server.n_tries == 1
    assert sum("5 volumes could not be sent: lost" in line for line in lines) == 1
    assert outbox.summary == "0 volumes sent; 5 volumes not, as the server was away"


def test_what_takes_long_at_the_end_is_said_and_given_up_when_somebody_hurries(monkeypatch):
    monkeypatch.setattr("rtgod.receivers.outbox._LONG_S", 0.01)
    hurried, lines, taken = [], [], []

    class Slow:
        def send(self, message):
            taken.append(message)
            if len(taken) == 3:
                waits_for(lambda: any("still go to the server" in line for line in lines))
                hurried.append(True)

    with Outbox(Slow(), lines.append, is_hurried=lambda: bool(hurried)) as outbox:
        for message in (run(), *volumes(5), RunEnd("run", 5)):
            outbox.put(message)
        outbox.end()
    assert len(taken) == 3
    assert sum("3 volumes could not be sent: lost" in line for line in lines) == 1


def test_a_failure_of_the_thread_is_raised_where_the_receiver_is():
    class Broken:
        def send(self, _):
            raise ZeroDivisionError

    with Outbox(Broken(), print) as outbox:
        outbox.put(run())
        with pytest.raises(ZeroDivisionError):
            outbox.end()


def test_of_a_run_that_is_refused_nothing_is_sent_and_its_volumes_are_counted():
    lines, taken = [], []

    class Refusing:
        def send(self, message):
            if message.run_id == "run":
                raise RefusedError("the server refused: another TR")
            taken.append(message)

    outbox = Outbox(Refusing(), lines.append)
    for run_id in ("run", "next"):
        for message in (run(run_id), *volumes(4, run_id), RunEnd(run_id, 4)):
            outbox.put(message)
            outbox.send()
    outbox.end()
    assert [line for line in lines if line.startswith("run: ")][1:] == [
        "run: the server refuses it: another TR: nothing of it is sent",
        "run: ended; 4 volumes of it not sent, as was said when it was refused",
    ]
    assert {message.run_id for message in taken} == {"next"}
    assert outbox.summary == "4 volumes sent; 4 volumes not, as the server refused what they belong to"


def test_a_run_with_fewer_volumes_than_planned_says_so_and_so_does_one_with_lost_volumes():
    lines = []
    outbox = Outbox(Away(), lines.append)
    outbox._sender.is_there = True
    for run_id, planned, indices in (("short", 9, (0, 1, 2)), ("lost", 4, (0, 3)), ("whole", 2, (0, 1))):
        outbox.put(run(run_id, planned))
        for index in indices:
            outbox.put(volumes(4, run_id)[index])
        outbox.put(RunEnd(run_id, indices[-1] + 1))
    outbox.end()
    assert [line for line in lines if "ended" in line] == [
        "short: ended after 3 volumes of 9 planned ones",
        "lost: ended after 4 volumes, of which 2 were sent",
        "whole: ended after 2 volumes",
    ]


def test_when_only_the_end_of_a_run_cannot_be_sent_no_volume_is_called_lost():
    lines, server = [], Away()
    server.is_there = True
    outbox = Outbox(server, lines.append)
    for message in (run(), *volumes(2)):
        outbox.put(message)
    outbox.send()
    server.is_there = False
    server.goes_on.release()
    outbox.put(RunEnd("run", 2))
    outbox.end()
    assert lines[-1] == "no volume is lost, but the server could not be told that a run has begun or ended"
    assert outbox.summary == "2 volumes sent"


def test_a_run_whose_rules_come_late_is_decided_on_in_the_thread():
    server, lines, answers = Away(), [], [ServerError("away"), {"discard_volumes": 3}]
    server.is_there = True

    def ask():
        answer = answers.pop(0)
        if isinstance(answer, ServerError):
            raise answer
        return answer

    options = RunOptions(server_rules=ServerRules(ask, RunOptions(), {}, lines.append))
    with Outbox(server, lines.append) as outbox:
        made, _ = options.run("run", "identity", 2.0, SHAPE, np.eye(4), 8)
        assert made.n_volumes == 8
        outbox.put(made, options)
        outbox.send()
        waits_for(lambda: any("waiting for the server" in line for line in lines))
        for message in (*volumes(8), RunEnd("run", 8)):
            outbox.put(message)
        outbox.send()
        outbox.end()
    assert server.messages[0].n_volumes == 5
    assert [message.index for message in server.messages if isinstance(message, Volume)] == list(range(5))
    assert server.messages[-1] == RunEnd("run", 5)
    assert options.renewed().n_discarded == 3
    ended = lines.index("run: ended after 5 volumes beside the 3 first ones")
    assert lines.index("run: 3 volumes are discarded") < ended


def test_a_server_that_answers_before_a_run_begins_is_asked_and_what_it_says_is_told():
    lines, is_there = [], threading.Event()

    def ask():
        if not is_there.is_set():
            raise ServerError("away")
        return {"discard_volumes": 3}

    rules = ServerRules(ask, RunOptions(n_volumes=3), {}, lines.append)
    with Outbox(Away(), lines.append) as outbox:
        outbox.ask(rules)
        for _ in range(5):
            outbox.send()
        assert lines == []
        is_there.set()
        outbox.send()
        waits_for(lambda: "the server answers now" in lines)
        assert "all be discarded" in lines[-2]  # as with --volumes 3: said before the scan, and the command goes on
        outbox.send()
        outbox.end()
    assert lines.count("the server answers now") == 1
