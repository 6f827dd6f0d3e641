"""AFNI's feedback: an independent reader gets the motion, in AFNI's convention, and the numbers of a served run."""

import contextlib
import json
import logging
import math
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from afniRTI.realtime import RTInterface
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from rtgod.commands.main import make_app
from rtgod.errors import InputError
from rtgod.feedback import afni_net
from rtgod.feedback.afni import END, EXTRAS, afni_motion, hello, record
from rtgod.feedback.afni_net import PORT, AfniFeedback, target_of
from rtgod.messages import Event, Motion, NotReady, Ranking, Reason, RunEnd, SessionEnd
from rtgod.protocol.clients import Reporter, Sender, Subscriber
from tests import naive, small
from tests.serving import FREE, PATIENCE_S, hear, is_a, resumed, running

LPS = np.diag([-1.0, -1.0, 1.0])


class Reader:
    """AFNI's receiver, as PyPI's afniRTI has it, in a thread; `runs` holds what it read, run by run."""

    def __init__(self, n_runs):
        self.runs, self._n_runs = [], n_runs
        self._interface = RTInterface(port=0)
        assert self._interface.open_incoming_socket() == 0
        self._interface.server_sock.settimeout(6 * PATIENCE_S)  # a command may take long to start
        self.address = f"127.0.0.1:{self._interface.server_sock.getsockname()[1]}"
        self._thread = threading.Thread(target=self._read)

    def _read(self):
        for _ in range(self._n_runs):
            assert self._interface.wait_for_new_run() == 0
            records = []
            self.runs.append(records)
            while (values := self._interface.read_TR_data())[0] is not None:
                records.append(values)
            self.version = self._interface.version
            self._interface.close_data_ports()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(6 * PATIENCE_S)
        self._interface.server_sock.close()
        assert not self._thread.is_alive()


@contextlib.contextmanager
def serving(folder, address, bundle=None, n_top=3, start=running, **options):
    with AfniFeedback(target_of(address), n_top) as feedback:
        with start(folder, bundle, listener=feedback.take, **options) as server:
            yield server
        assert server.errors == []


def send(server, messages):
    with Sender(server.ingest) as sender:
        for message in messages:
            sender.send(message)


def answers_of(server):
    return {answer.index: answer for answer in server.recorded(Ranking, NotReady)}


def named(extras):
    return dict(zip(EXTRAS, extras, strict=False))


def same(values, expected):
    np.testing.assert_array_equal(values, np.array(expected, np.float32).astype(float))


def back_to_base(parameters, run, points_mm):
    """Where AFNI puts points of a volume: 3dvolreg's VOLREG_MATVEC, about the grid's centre, along scanner axes."""
    superior, left, posterior, roll, pitch, yaw = parameters
    centre = LPS @ (run.affine[:3] @ [*(np.array(run.shape) - 1) / 2, 1])
    turn = Rotation.from_euler("zxy", [roll, pitch, yaw], degrees=True)
    return (turn.apply(points_mm @ LPS - centre) + np.array([left, posterior, superior]) + centre) @ LPS


def wait_for(is_true, patience_s=PATIENCE_S):
    until_s = time.monotonic() + patience_s
    while not is_true():
        assert time.monotonic() < until_s
        time.sleep(0.01)


# ---------------------------------------------------------------- a served run


def test_an_independent_reader_gets_what_was_answered_to_each_volume(tmp_path):
    run = small.messages()
    with Reader(n_runs=1) as reader, serving(tmp_path, reader.address, small.bundle()) as server:
        send(server, [m for m in run if getattr(m, "index", None) != 7])  # a lost one
    answers = answers_of(server)
    assert reader.version == 1
    (records,) = reader.runs
    assert [extras[0] for _, extras in records] == list(range(12))
    assert sum(isinstance(answer, Ranking) for answer in answers.values()) > 3
    for motion, extras in records:
        answer, numbers = answers[int(extras[0])], named(extras)
        same(motion, afni_motion(answer.motion, run[0]))
        if answer.motion is not None:
            same(numbers["framewise_displacement_mm"], answer.motion.framewise_displacement_mm)
        if isinstance(answer, NotReady):
            assert np.isnan(extras[2:]).all()
            continue
        assert numbers["block"] == answer.block
        assert numbers["final"] == answer.final
        assert (numbers["n_volumes"], numbers["n_blocks"]) == (answer.n_volumes, answer.n_blocks)
        same(extras[6:9], answer.probability or [math.nan] * 3)
        same(extras[9::2], answer.order[:3])
        same(extras[10::2], answer.scores[:3])
    lost = records[7]
    assert answers[7].reason is Reason.LOST_VOLUME
    assert np.isnan(lost[0]).all()


def test_a_planted_movement_is_what_afni_would_undo(tmp_path):
    """The head nods, turns, tilts and moves about a point that is neither the grid's centre nor its own."""
    run = small.run(n_volumes=3, blocks=())
    pose = naive.rigid((0.8, -1.1, 1.6), (2.0, -1.2, 1.5), (8.0, 20.0, -12.0))
    shifted = naive.rigid((0, 0, 1.5), (0, 0, 0), (0, 0, 0))
    heads = [small.head(), naive.moved(small.head(), run.affine, shifted), naive.moved(small.head(), run.affine, pose)]
    volumes = [small.volume(index, data=head.astype(np.float32)) for index, head in enumerate(heads)]
    with Reader(n_runs=1) as reader, serving(tmp_path, reader.address) as server:
        send(server, [run, *volumes, RunEnd(run.run_id, 3)])
    (still, up, turned) = [motion for motion, _ in reader.runs[0]]
    np.testing.assert_allclose(still, 0, atol=1e-3)
    np.testing.assert_allclose(up, [-1.5, 0, 0, 0, 0, 0], atol=0.05)  # towards inferior, back to where it was
    points_mm = np.random.default_rng(0).uniform(-20, 20, (50, 3))
    moved_mm = points_mm @ pose[:3, :3].T + pose[:3, 3]
    assert np.abs(moved_mm - points_mm).max() > 2
    assert np.abs(back_to_base(turned, run, moved_mm) - points_mm).max() < 0.15
    assert np.abs(back_to_base(np.negative(turned), run, moved_mm) - points_mm).max() > 2


def test_each_run_has_a_connection_and_who_subscribes_later_causes_none(tmp_path):
    with Reader(n_runs=2) as reader, serving(tmp_path, reader.address) as server:
        send(server, small.messages("run-1", range(3)))
        with Subscriber(server.publish) as subscriber:
            hear(subscriber, is_a(Ranking, NotReady))  # the last answer, published again
        send(server, small.messages("run-2", range(2)))
    assert [[extras[0] for _, extras in records] for records in reader.runs] == [[0, 1, 2], [0, 1]]


def test_a_server_that_was_started_again_connects_again(tmp_path):
    first, second = small.messages(indices=range(4))[:3], small.messages(indices=range(4))[3:]
    with Reader(n_runs=2) as reader:
        with serving(tmp_path, reader.address, start=running) as server:
            send(server, first)
        with serving(tmp_path, reader.address, start=resumed) as server:
            send(server, second)
    assert [[extras[0] for _, extras in records] for records in reader.runs] == [[0, 1], [2, 3]]


def test_the_command_sends_it_and_tells_where_to(tmp_path):
    where = ["--ingest", FREE, "--publish", FREE, "--journal", tmp_path / "journals"]
    ready = tmp_path / "ready.json"
    with Reader(n_runs=1) as reader:
        to = ["--afni-feedback", reader.address, "--afni-top", "2"]
        command = [sys.executable, "-m", "rtgod", "serve", *where, "--runs", "1", "--ready-file", ready, *to]
        with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as process:
            wait_for(lambda: ready.exists() or process.poll() is not None, 6 * PATIENCE_S)
            with Sender(json.loads(ready.read_text())["ingest"]) as sender:
                for message in small.messages(indices=range(3)):
                    sender.send(message)
            _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert [len(extras) for _, extras in reader.runs[0]] == [len(EXTRAS) + 4] * 3
    assert f"run run-1: AFNI feedback: goes to {reader.address}" in said


@pytest.mark.parametrize("by", ["the operator", "a display"])
def test_a_blinded_run_sends_motion_alone(tmp_path, by, caplog):
    caplog.set_level(logging.INFO, "rtgod.runs")
    run = small.messages()
    blinded = by == "the operator"
    with Reader(n_runs=1) as reader, serving(tmp_path, reader.address, small.bundle(), blinded=blinded) as server:
        if not blinded:
            with Reporter(server.ingest, "display") as reporter:
                reporter.report("commitment", 0.0, value="sealed")
                while reporter.n_unacknowledged:
                    reporter.poll()
        send(server, run)
    assert blinded or server.recorded(Event)
    answers = answers_of(server)
    assert any(isinstance(answer, Ranking) for answer in answers.values())
    for motion, extras in reader.runs[0]:
        same(motion, afni_motion(answers[int(extras[0])].motion, run[0]))
        assert np.isnan(extras[2:]).all()
    assert caplog.text.count("motion alone") == 1


def test_nobody_there_is_told_once_and_who_comes_later_gets_the_rest(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(afni_net, "_AGAIN_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    messages = small.messages(indices=range(6))
    with serving(tmp_path, f"127.0.0.1:{port}") as server:
        send(server, messages[:4])
        with socket.create_server(("127.0.0.1", port)) as receiver:
            receiver.settimeout(PATIENCE_S)
            send(server, messages[4:])
            connection, _ = receiver.accept()
            with connection, connection.makefile("rb") as stream:
                read = stream.read()
    assert read.startswith(hello(3))
    assert read.endswith(END)
    values = np.frombuffer(read[8:-4], np.float32).reshape(-1, 6 + len(EXTRAS) + 6)
    assert list(values[:, 6])[-2:] == [4, 5]
    assert caplog.text.count("nobody takes it at") == 1
    assert f"of 6 volumes, that of {6 - len(values)} was not sent" in caplog.text


# ---------------------------------------------------------------- a receiver that goes, or does not read

STILL = replace(small.STILL, centre_mm=(0.0, 0.0, 0.0))


def test_a_receiver_that_does_not_read_is_left_and_the_server_never_waits(caplog, monkeypatch):
    monkeypatch.setattr(afni_net, "_SEND_S", 0.05)
    answer = NotReady("run-1", 0, Reason.WARMING_UP, motion=STILL)
    with (
        socket.create_server(("127.0.0.1", 0)) as receiver,
        AfniFeedback(target_of(f"127.0.0.1:{receiver.getsockname()[1]}"), 1000) as feedback,
    ):
        feedback.take(small.run(), False)
        for index in range(2000):  # 16 MB, more than the system keeps for who does not read
            feedback.take(replace(answer, index=index), False)
        wait_for(lambda: "was lost" in caplog.text)
        feedback.take(SessionEnd(0.0), False)
    assert caplog.text.count("was lost") == 1


def test_a_receiver_that_has_gone_is_noticed_before_the_next_volume_is_lost(caplog):
    caplog.set_level(logging.INFO, "rtgod.runs")
    answer = NotReady("run-1", 0, Reason.WARMING_UP, motion=STILL)
    with (
        socket.create_server(("127.0.0.1", 0)) as receiver,
        AfniFeedback(target_of(f"127.0.0.1:{receiver.getsockname()[1]}"), 0) as feedback,
    ):
        receiver.settimeout(PATIENCE_S)
        feedback.take(small.run(), False)
        receiver.accept()[0].close()
        feedback.take(answer, False)
        connection, _ = receiver.accept()
        feedback.take(RunEnd("run-1", 1), False)
        with connection, connection.makefile("rb") as stream:
            read = stream.read()
    values = np.frombuffer(read[8:-4], np.float32).reshape(-1, 6 + len(EXTRAS))
    assert list(values[:, 6]) == [0]
    assert caplog.text.count("was lost") == 1
    assert "not sent" not in caplog.text


# ---------------------------------------------------------------- bytes and conventions


def test_the_bytes_of_a_ranking_are_these():
    ranking = replace(small.RANKING, motion=STILL, block=None, final=True, probability=(0.25, 0.5, 1.0))
    ranking = replace(ranking, order=np.array([6, 2]), scores=np.array([0.5, -0.25]))
    expected = [0] * 6 + [3, 0, -1, 1, 1, 1, 0.25, 0.5, 1.0, 6, 0.5, 2, -0.25, math.nan, math.nan]
    assert hello(3) == bytes.fromhex("abcdefac") + np.int32(15).tobytes()
    assert record(ranking, small.run(), 3, blinded=False) == np.array(expected, np.float32).tobytes()
    assert END.hex() == "deaddead"


def test_the_example_that_afni_prints_is_a_roll_of_ten_degrees():
    """`rotcom '-rotate 10I 0R 0A'`: 0.984808 -0.173648 0 / 0.173648 0.984808 0 / 0 0 1 (from the help of rotcom)."""
    back = np.array([[0.984808, -0.173648, 0], [0.173648, 0.984808, 0], [0, 0, 1]])
    degrees = Rotation.from_matrix(LPS @ back.T @ LPS).as_euler("ZYX", degrees=True)[::-1]
    motion = Motion((0, 0, 0), tuple(degrees), 0.0, 0.01, 3, converged=True, centre_mm=(0.0, 0.0, 0.0))
    run = small.run(affine=small.AFFINE)
    *_, roll, pitch, yaw = afni_motion(motion, run)
    assert (roll, pitch, yaw) == pytest.approx((10, 0, 0), abs=1e-3)


NUMBERS = st.floats(-20, 20)
TRIPLES = st.tuples(NUMBERS, NUMBERS, NUMBERS)


@given(TRIPLES, TRIPLES, TRIPLES, st.permutations(range(3)), st.tuples(*[st.sampled_from([-1, 1])] * 3), TRIPLES)
def test_any_movement_on_any_grid_is_undone_along_the_grid_s_axes(shift, turn, centre, order, signs, oblique):
    """An oblique grid is to AFNI what it is once it is turned upright, and the head and its movement with it."""
    upright = np.eye(4)
    upright[:3, :3] = np.eye(3)[:, order] * signs * [2.0, 3.0, 4.0]
    upright[:3, 3] = 5.0, -7.0, 11.0
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler("xyz", oblique, degrees=True).as_matrix()
    run = small.run(affine=tilt @ upright)
    parameters = afni_motion(Motion(shift, turn, 0.0, 0.01, 3, True, centre), run)
    pose = np.linalg.inv(tilt) @ naive.rigid(shift, turn, centre) @ tilt  # in the upright world
    points = np.random.default_rng(0).uniform(-50, 50, (20, 3))
    moved = points @ pose[:3, :3].T + pose[:3, 3]
    np.testing.assert_allclose(back_to_base(parameters, small.run(affine=upright), moved), points, atol=1e-6)


def test_what_was_not_estimated_is_not_a_number():
    unestimated = replace(small.STILL, centre_mm=None)
    unusable = replace(STILL, converged=False)
    for motion in (None, unestimated, unusable):
        answer = NotReady("run-1", 4, Reason.MOTION, motion=motion)
        values = np.frombuffer(record(answer, small.run(), 2, blinded=False), np.float32)
        assert values[6] == 4
        assert np.isnan(np.delete(values, 6)).all()


def test_no_movement_is_taken_for_the_end_of_the_run():
    unlucky = float(np.frombuffer(END[:3] + b"\x3f", "<f4")[0])
    motion = replace(STILL, translation_mm=(0.0, 0.0, -unlucky))
    run = small.run(affine=np.diag([4.0, 4.0, 4.0, 1.0]))
    assert np.float32(afni_motion(motion, run)[0]).tobytes()[:3] == END[:3]
    sent = record(NotReady("run-1", 0, Reason.WARMING_UP, motion=motion), run, 0, blinded=False)
    assert sent[:3] != END[:3]
    assert np.frombuffer(sent, np.float32)[0] == pytest.approx(unlucky, abs=1e-6)


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("text", "name"),
    [("127.0.0.1", f"127.0.0.1:{PORT}"), ("localhost:7", "localhost:7"), ("[::1]:9", "[::1]:9")],
)
def test_an_address_may_leave_the_port_out(text, name):
    assert target_of(text).name == name


@pytest.mark.parametrize(
    ("text", "word"),
    [
        *(
            (text, "write HOST or HOST:PORT")
            for text in ("", ":5", "a:", "a:0", "a:65536", "a:b", "::1", "a b", "[::1")
        ),
        ("tcp://127.0.0.1:5", "write HOST or HOST:PORT"),
        ("no-such-host.invalid", "no such host"),
        ("[127.0.0.1]:5", "no such host"),
    ],
)
def test_a_bad_address_is_refused_at_the_start(text, word, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=word):
        target_of(text)
    monkeypatch.chdir(tmp_path)
    if text:
        ended = CliRunner().invoke(make_app(), ["serve", "--afni-feedback", text])
        assert isinstance(ended.exception, InputError)
        assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=30))
def test_whatever_is_given_as_an_address_is_read_or_refused(text):
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(InputError):
        patch.setattr(socket, "getaddrinfo", lambda host, port, **_: [(socket.AF_INET, 1, 6, "", (host, port))])
        assert 1 <= target_of(text).addresses[0][1][1] <= 65535
