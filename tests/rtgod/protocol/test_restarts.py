"""That a server died and was started again is noticed by those who talk to it, however short it was away."""

import queue
import threading
from dataclasses import replace

import zmq

from rtgod.messages import Acknowledged, Hello, Ping, Pong, RunEnd, address_of
from rtgod.protocol.clients import Sender
from rtgod.protocol.frames import from_frames, to_frames
from rtgod.protocol.restarts import ProblemNotice, RestartNotice
from stimulus.runtime.server_link import Link
from tests import small
from tests.serving import PATIENCE_S, resumed, running


def test_a_server_that_begins_again_on_its_journal_has_died():
    notice = RestartNotice()
    assert [bool(notice.hear(n)) for n in (1, 1, 2, 2, 4)] == [False, False, True, False, True]
    assert "start 5" in notice.hear(5)


def test_one_that_had_died_before_it_was_heard_is_no_news_nor_is_another_session():
    notice = RestartNotice()
    assert [notice.hear(n) for n in (3, 3, 1, 1)] == ["", "", "", ""]
    assert notice.hear(2)


def test_a_server_tells_how_often_one_has_begun_on_its_journal(tmp_path):
    def n_starts_of(server):
        with Sender(server.ingest) as sender:
            heard = []
            sender._restarts.hear = lambda n: heard.append(n) or ""
            sender.send(small.run())
        return heard

    with running(tmp_path) as server:
        assert n_starts_of(server) == [1]
    for n in (2, 3):
        with resumed(tmp_path) as server:
            assert n_starts_of(server) == [n]
            assert server.server.n_starts == n
    assert [message.n_starts for message in server.recorded(Hello)] == [1, 2, 3]


def test_that_volumes_are_not_taken_is_said_once_and_that_they_are_again():
    problems = ProblemNotice()
    heard = [problems.hear(problem) for problem in ("", "disk full", "disk full, 0 bytes", "", "", "gone")]
    assert heard == [
        "",
        "the server takes no volumes, sources wait: disk full",
        "",
        "the server takes volumes again",
        "",
        "the server takes no volumes, sources wait: gone",
    ]


def test_a_source_sends_again_as_soon_as_it_is_connected_again():
    """Not only after its timeout; and it says that the server died."""
    told, got, ports, done = [], [], queue.SimpleQueue(), threading.Event()

    def serve(n_starts, address, n_acknowledged):
        """Until the first message that is not acknowledged, or the client is done; gives the port."""
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.linger = 1000
            socket.bind(address)
            chosen = socket.getsockopt_string(zmq.LAST_ENDPOINT)
            ports.put(chosen)
            while not done.is_set():
                if not socket.poll(10):
                    continue
                identity, *frames = socket.recv_multipart()
                message = from_frames(frames)
                got.append((n_starts, type(message)))
                if isinstance(message, Ping):
                    reply = Pong(message.client, message.sent_s, 0.0, n_starts)
                elif n_acknowledged:
                    reply, n_acknowledged = Acknowledged(*address_of(message)), n_acknowledged - 1
                else:
                    break
                socket.send_multipart([identity, *to_frames(reply)])
        return chosen

    def die_and_start_again():
        serve(2, serve(1, "tcp://127.0.0.1:*", 1), 1)

    thread = threading.Thread(target=die_and_start_again)
    thread.start()
    address = ports.get(timeout=PATIENCE_S)
    with Sender(address, timeout_s=2 * PATIENCE_S, patience_s=2 * PATIENCE_S, waiting=told.append) as sender:
        sender.send(RunEnd("run-1", 0))
        reply = sender.send(RunEnd("run-2", 0))
        done.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert reply == Acknowledged("run-2", None)
    assert got == [(1, Ping), (1, RunEnd), (1, RunEnd), (2, Ping), (2, RunEnd)]
    assert [line for line in told if "died and was started again (start 2)" in line]
    assert [line for line in told if "was lost and is there again" in line]


def test_the_operator_of_a_display_is_told():
    messages, told = [], []

    class Server:
        def poll(self):
            return messages.pop(0) if messages else None

    class Nobody:
        offset_s = offset_error_s = None

        def poll(self):
            pass

    link = Link(Server(), Nobody(), told.append, lambda: 0.0)
    hello = Hello("0.1.0", "a", 7, 40)
    for n in (1, 1, 2):
        messages.append(replace(hello, n_starts=n))
        link.poll()
    assert len(told) == 1
    assert "died and was started again (start 2)" in told[0]
