"""The scripts in `examples/`, which people copy: they run, say what is true, and find nothing where nothing is."""

import runpy
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import zmq
from threadpoolctl import threadpool_limits

import rtgod
from rtgod.messages import Acknowledged, Deferred, Refused, Run, RunEnd, Volume, address_of
from rtgod.protocol.frames import from_frames, to_frames
from tests import recorded, small
from tests.serving import FREE, PATIENCE_S, running

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    recorded.write_session(folder)
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other over small matrices take several times as long on a busy machine."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def called(monkeypatch, capsys):
    """Runs an example as a program, and gives what it prints."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return call


SENDERS = ["py", "cpp", "m"]


@cache
def compiler_is_missing():
    """Why C++ cannot be compiled; empty if it can."""
    if not shutil.which("g++"):
        return "no g++ here"
    headers = "#include <zmq.h>\n#include <nlohmann/json.hpp>\n"
    preprocessed = subprocess.run(["g++", "-E", "-x", "c++", "-"], input=headers, capture_output=True, text=True)
    return "libzmq3-dev or nlohmann-json3-dev is not here" if preprocessed.returncode else ""


@cache
def octave_is_missing():
    """Why Octave cannot send; empty if it can."""
    if not shutil.which("octave-cli"):
        return "no GNU Octave here"
    there = "assert(numel(pkg('list', 'zeromq')) == 1); jsonencode(1);"
    tried = subprocess.run(["octave-cli", "--norc", "--eval", there], capture_output=True)
    return "GNU Octave 7 and its package zeromq are not here" if tried.returncode else ""


@pytest.fixture(scope="module")
def senders(tmp_path_factory):
    """How to call each example that sends by the wire format alone: a function that makes its command of an address."""
    built = tmp_path_factory.mktemp("built") / "wire_sender"

    def command_of(suffix):
        path = EXAMPLES / f"wire_sender.{suffix}"
        if suffix == "py":
            return lambda address: [sys.executable, path, address]
        if missing := compiler_is_missing() if suffix == "cpp" else octave_is_missing():
            pytest.skip(missing)
        if suffix == "m":
            return lambda address: ["octave-cli", "--norc", "--path", EXAMPLES, "--eval", f"wire_sender('{address}')"]
        if not built.exists():
            warnings = ["-Wall", "-Wextra", "-Werror"]
            subprocess.run(["g++", "-std=c++17", *warnings, path, "-lzmq", "-o", built], check=True)
        return lambda address: [built, address]

    return command_of


def functions_of(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def test_every_example_is_run_here_and_is_short():
    n_lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in EXAMPLES.iterdir()}
    senders = {f"wire_sender.{suffix}" for suffix in SENDERS}
    assert n_lines.keys() == {"own_decoder.py", "read_session.py", "volume_source.py", *senders}
    assert all(n <= (60 if name in senders else 40) for name, n in n_lines.items())


def test_an_own_decoder_decodes_runs_that_it_was_not_trained_on(session, called):
    said = called("own_decoder", session / "VC.nii.gz", *sorted(session.glob("*_bold.nii.gz")))
    assert said.startswith("accuracy 100.0%, with shuffled labels ")
    assert said.endswith("p = 0.01\n")


def test_an_own_decoder_finds_nothing_where_nothing_is(tmp_path):
    runs = recorded.write_session(tmp_path, effect=0)
    accuracy, chance, p_value = functions_of("own_decoder")["cross_validate"](
        tmp_path / "VC.nii.gz", runs, n_permutations=39
    )
    assert 0.2 < accuracy < 0.8
    assert 0.35 < chance < 0.65
    assert p_value > 0.05


def test_a_session_is_read(session, called):
    said = called("read_session", session / "session.rtgod", session / "bundle").splitlines()
    blocks = [line for line in said if "category" in line]
    assert len(blocks) == 6
    n_right = sum(line.rstrip().endswith("True") for line in blocks)
    assert said[-3].startswith(f"{n_right / 6:.1%} of 6 blocks are right, ")
    assert said[-2] == "0 blocks show no candidate of the bundle"
    assert said[-1].startswith("answered in ")
    assert said[-1].endswith("64 volumes")


def test_a_session_s_accuracy_and_chance_are_those_counted_by_hand(session):
    """First choices are changed to what was shown in the first four blocks of the six."""
    example = functions_of("read_session")
    journal, bundle = rtgod.read_journal(session / "session.rtgod"), rtgod.load_bundle(session / "bundle")
    shown = [f"category {i}" for i in (0, 1, 0, 1, 0, 1)]
    named = [*shown[:4], "category 1", "category 0"]
    answers = [
        replace(answer, top=(named[answer.block],)) if isinstance(answer, rtgod.Ranking) else answer
        for answer in journal.answers
    ]
    blocks = example["read_blocks"](replace(journal, answers=tuple(answers)), bundle)
    assert list(blocks["shown"]) == shown
    assert list(blocks["correct"]) == [True] * 4 + [False] * 2
    assert example["accuracy_of"](blocks) == (pytest.approx(4 / 6), pytest.approx(0.5))


def test_random_volumes_are_sent_and_acknowledged(tmp_path, called):
    with running(tmp_path) as server:
        said = called("volume_source", server.ingest).splitlines()
    assert [line.partition(" is on disk")[0] for line in said[:10]] == [f"volume {index}" for index in range(10)]
    assert len(server.recorded(Volume)) == 10
    assert said[-1].startswith("{")


def test_a_recorded_run_is_sent_and_decoded_as_offline(session, tmp_path, called):
    run = session / "sub-01_task-objects_run-01_bold.nii.gz"
    with running(tmp_path, small.bundle()) as server:
        said = called("volume_source", server.ingest, run).splitlines()
    assert len(server.recorded(Volume)) == 64
    n_rankings = sum(
        isinstance(answer, rtgod.Ranking) for answer in rtgod.decode_run(rtgod.open_run(run), small.bundle())
    )
    assert n_rankings == 18
    assert f"'ranking': {n_rankings}" in said[-1]


# ---------------------------------------------------------------- senders by the wire format alone


@pytest.mark.parametrize("suffix", SENDERS)
def test_a_sender_in_any_language_sends_just_its_volumes_and_may_do_so_again(tmp_path, senders, suffix):
    command = senders(suffix)
    with running(tmp_path) as server:
        for _ in range(2):
            subprocess.run(command(server.ingest), check=True, timeout=6 * PATIENCE_S)
    sent = server.recorded(Run, Volume, RunEnd)
    assert [type(message) for message in sent] == [Run, Volume, Volume, Volume, RunEnd] * 2
    for name, (run, *volumes, end) in {"my-run": sent[:5], "my-run~2": sent[5:]}.items():
        assert (run.run_id, run.subject, run.tr_s, run.shape, run.n_volumes) == (name, "S1", 2.0, (24, 26, 20), 3)
        np.testing.assert_array_equal(run.affine, [[3, 0, 0, -34], [0, 3, 0, -38], [0, 0, 3, -30], [0, 0, 0, 1]])
        for index, volume in enumerate(volumes):
            x, y, z = np.indices((24, 26, 20))
            assert (volume.run_id, volume.index, volume.acquired_s) == (name, index, 2.0 * index)
            assert volume.data.dtype == np.int16
            np.testing.assert_array_equal(volume.data, 1000 * index + x + 24 * y + 24 * 26 * z)
        assert end == RunEnd(name, 3)


@pytest.fixture
def difficult():
    """A server in a thread that defers, is silent, answers twice and refuses: its address, and what it heard."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(FREE)
        heard = []

        def reply_to(message, n_times):
            run_id, index = address_of(message)
            acknowledged = Acknowledged(run_id, index)
            match message, n_times:
                case Run(), 1:
                    return [Deferred(run_id, None, "the disk is full")]
                case Run(), _:
                    return [Acknowledged(run_id, None, taken_as="another")]
                case Volume(index=0), 1:
                    return []
                case Volume(index=0), _:
                    return [acknowledged, acknowledged]
                case Volume(index=1), 1:
                    return [Refused("", None, "the frames were garbled")]
                case RunEnd(), _:
                    return [Refused(run_id, None, "enough of that")]
            return [acknowledged]

        def serve():
            while socket.poll(PATIENCE_S * 1e3):
                identity, *frames = socket.recv_multipart()
                message = from_frames(frames)
                heard.append((type(message), *address_of(message)))
                for reply in reply_to(message, heard.count(heard[-1])):
                    socket.send_multipart([identity, *to_frames(reply)])
                if isinstance(message, RunEnd):
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield socket.getsockopt_string(zmq.LAST_ENDPOINT), heard
        thread.join(2 * PATIENCE_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("suffix", SENDERS)
def test_a_sender_in_any_language_waits_sends_again_and_stops_when_it_is_refused(difficult, senders, suffix):
    address, heard = difficult
    ended = subprocess.run(senders(suffix)(address), capture_output=True, text=True, timeout=6 * PATIENCE_S)
    assert ended.returncode == 1
    assert "enough of that" in ended.stderr
    volumes = [(Volume, "another", index) for index in (0, 0, 1, 1, 2)]
    assert heard == [(Run, "my-run", None)] * 2 + volumes + [(RunEnd, "another", None)]
