"""The scripts in `examples/`, which people copy: they run, say what is true, and find nothing where nothing is."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

import rtgod
from rtgod.messages import Volume
from tests import recorded, small
from tests.serving import running

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


def functions_of(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def test_every_example_is_run_here_and_is_short():
    paths = sorted(EXAMPLES.iterdir())
    assert [path.name for path in paths] == ["own_decoder.py", "read_session.py", "volume_source.py"]
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 40 for path in paths)


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
