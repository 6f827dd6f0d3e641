"""A session that goes on after its server died: the same bytes, from a checkpoint or without one, and soon."""

import dataclasses
import logging

import numpy as np
import pytest

from rtgod.journal.journal import JournalWriter, read_journal
from rtgod.messages import Event, NotReady, Ranking, Run, RunEnd, Volume
from rtgod.pipeline import Pipeline
from rtgod.protocol.frames import to_frames
from rtgod.server.checkpoint import read_checkpoint, write_checkpoint
from rtgod.server.resumption import checkpoint_of, go_on, save_checkpoint
from rtgod.server.session import Session, numbers_in, ranges_of
from tests import small
from tests.strategies import equal


def with_identity(run_id, acquisition, indices=range(12), ends=True):
    """A run whose source can go on with it."""
    messages = small.messages(run_id, indices)
    return [dataclasses.replace(messages[0], acquisition=acquisition), *messages[1 : None if ends else -1]]


def everything():
    """Two runs, a lost volume, events, a run that is left off, another that ends, and the first one goes on."""
    events = [Event("display", number, "shown", 1.0 * number) for number in (0, 1, 5)]
    first = with_identity("run-1", "a", [0, 1, 2, 3, 5, 6], ends=False)
    second = with_identity("run-2", "b")
    rest = [small.volume(index, "run-1") for index in (7, 8, 9, 10, 11)]
    sliding = [small.run("run-3", blocks=()), *(small.volume(index, "run-3") for index in range(6))]
    return [*small.messages("run-0"), *first, events[0], *second, *events[1:], *rest, RunEnd("run-1", 12), *sliding]


def settings(mode):
    window = small.SETTINGS.window.model_copy(update={"mode": mode})
    return small.SETTINGS.model_copy(update={"window": window})


BUNDLES = {
    "ranking": small.bundle(),
    "repeats": small.bundle(settings("repeats")),
    "aligning": None,
}


def answered(session, messages, journal=None):
    answers = []
    for message in messages:
        session.check(message)
        if journal:
            journal.append(message)
        for answer, pattern in session.handle(message):
            if journal and pattern is not None:
                journal.append(pattern)
            if journal:
                journal.append(answer)
            answers.append(answer)
    return answers


def without_timing(answers):
    return [dataclasses.replace(answer, stage_ms={}) for answer in answers]


def same(answers, others):
    return len(answers) == len(others) and all(map(equal, without_timing(answers), without_timing(others)))


@pytest.fixture(params=BUNDLES)
def bundle(request):
    return BUNDLES[request.param]


@pytest.mark.parametrize("cut", [1, 9, 14, 20, 24, 37, 40, 44, 51])
@pytest.mark.parametrize("saved", [0, 7])
def test_a_session_goes_on_from_a_checkpoint_as_if_it_had_not_died(tmp_path, bundle, cut, saved):
    messages, session = everything(), Session(bundle)
    path = tmp_path / "a.rtgod"
    with JournalWriter(path) as journal:
        journal.append(session.hello())
        before = answered(session, messages[: max(0, cut - saved)], journal)
        if before:
            save_checkpoint(journal, session, before[-1], 1)
        before += answered(session, messages[max(0, cut - saved) : cut], journal)
    again = Session(bundle)
    resumed, trusted_bytes = go_on(path, again)
    assert (trusted_bytes > 100) == bool(answered(Session(bundle), messages[: max(0, cut - saved)]))
    assert resumed.n_starts == 1
    assert resumed.unrecorded == []
    rest = answered(again, messages[cut:])
    assert same(rest, answered(Session(bundle), messages)[len(before) :])
    assert all(again.is_duplicate(message) for message in messages[:cut] if not isinstance(message, Run))
    # And what is asked of a session afterwards is the same, too.
    assert (again.run.run_id, again.n_runs_ended, again.taken) == ("run-3", 3, set(range(6)))


def test_without_evidence_over_runs_only_the_current_run_is_computed_again(tmp_path, monkeypatch):
    stepped, step = [], Pipeline.step

    def counted(pipeline, volume, **options):
        stepped.append(volume.run_id)
        return step(pipeline, volume, **options)

    monkeypatch.setattr(Pipeline, "step", counted)
    messages = [*small.messages("run-1"), *small.messages("run-2"), *small.messages("run-3")[:6]]
    for name, expected in (("ranking", {"run-3"}), ("repeats", {"run-1", "run-2", "run-3"})):
        path = tmp_path / f"{name}.rtgod"
        session = Session(BUNDLES[name])
        with JournalWriter(path) as journal:
            journal.append(session.hello())
            answered(session, messages, journal)
        stepped.clear()
        again = Session(BUNDLES[name])
        go_on(path, again)
        assert set(stepped) == expected
        rest = small.messages("run-3")[6:]
        assert same(answered(again, rest), answered(session, rest))


def test_the_answer_that_was_not_written_before_the_death_is_given_again(tmp_path):
    bundle, messages = BUNDLES["ranking"], small.messages()[:8]
    path, session = tmp_path / "a.rtgod", Session(BUNDLES["ranking"])
    with JournalWriter(path) as journal:
        journal.append(session.hello())
        answers = answered(session, messages[:-1], journal)
        save_checkpoint(journal, session, answers[-1], 1)
        journal.append(messages[-1])
    resumed, _ = go_on(path, Session(bundle))
    assert equal(resumed.last, answers[-1])
    assert same([answer for answer, _ in resumed.unrecorded], answered(session, messages[-1:]))


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-9])


def altered(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another_journal(path):
    state = read_checkpoint(path)
    state["mark"]["first"] = "00" * 12
    write_checkpoint(path, state)


def of_other_settings(path):
    state = read_checkpoint(path)
    state["session"]["settings"]["window"]["hrf_shift_s"] = 5.0
    write_checkpoint(path, state)


def of_another_shape(path):
    state = read_checkpoint(path)
    state["session"] = {"runs": 3}
    write_checkpoint(path, state)


def beyond_the_journal(path):
    state = read_checkpoint(path)
    state["mark"]["n_bytes"] += 10**9
    write_checkpoint(path, state)


@pytest.mark.parametrize(
    "spoil", [cut_off, altered, of_another_journal, of_other_settings, of_another_shape, beyond_the_journal]
)
def test_a_checkpoint_that_the_journal_does_not_confirm_is_not_believed(tmp_path, caplog, spoil):
    bundle, messages = BUNDLES["ranking"], everything()
    path, session = tmp_path / "a.rtgod", Session(BUNDLES["ranking"])
    with JournalWriter(path) as journal:
        journal.append(session.hello())
        before = answered(session, messages[:30], journal)
        save_checkpoint(journal, session, before[-1], 1)
    spoil(checkpoint_of(path))
    again = Session(bundle)
    with caplog.at_level(logging.WARNING):
        assert go_on(path, again).trusted_bytes < 100
    assert "the whole journal is read" in caplog.text
    assert same(answered(again, messages[30:]), answered(session, messages[30:]))


def test_a_checkpoint_that_differs_in_one_number_gives_other_answers(tmp_path):
    """So the comparison above can fail."""
    bundle, messages = BUNDLES["ranking"], everything()
    path, session = tmp_path / "a.rtgod", Session(BUNDLES["ranking"])
    with JournalWriter(path) as journal:
        journal.append(session.hello())
        before = answered(session, messages[:49], journal)
        save_checkpoint(journal, session, before[-1], 1)
    state = read_checkpoint(checkpoint_of(path))

    def shift(tree):
        for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
            if isinstance(value, np.ndarray) and value.dtype == np.float64 and value.ndim == 2 and value.size > 50:
                value *= 1.01
            shift(value)

    shift(state["session"])
    write_checkpoint(checkpoint_of(path), state)
    again = Session(bundle)
    assert go_on(path, again).trusted_bytes > 100
    assert not same(answered(again, messages[49:]), answered(session, messages[49:]))


def test_what_cannot_be_taken_is_passed_over_with_its_reason(tmp_path, caplog, monkeypatch):
    """A journal of a version that took what this one refuses: the session goes on with the rest."""
    path = tmp_path / "a.rtgod"
    session = Session(BUNDLES["ranking"])
    too_small = small.run("run-0", shape=(18, 20, 3))
    with JournalWriter(path) as journal:
        journal.append(session.hello())
        journal.append(too_small)  # cannot be aligned
        journal.append(Volume("run-0", 0, 0.0, np.zeros((18, 20, 3), "int16")))
        with monkeypatch.context() as patch:
            real = to_frames
            header = bytes(real(small.run("run-9"))[0]).replace(b'"tr_s":2.0', b'"tr_s":2000.0')
            patch.setattr("rtgod.journal.journal.to_frames", lambda m: [header] if isinstance(m, Run) else real(m))
            journal.append(small.run("run-9"))  # is no message any more
        answers = answered(session, small.messages()[:8], journal)
    again = Session(BUNDLES["ranking"])
    with caplog.at_level(logging.WARNING):
        go_on(path, again)
    assert "18 × 20 × 3 voxels cannot be aligned" in caplog.text
    assert "run run-0 is not being received" in caplog.text
    assert "tr_s is 2000; a repetition time of 0.05 to 60 s is needed; is it in milliseconds?" in caplog.text
    assert len(answers) == 7
    rest = small.messages()[8:]
    assert same(answered(again, rest), answered(session, rest))
    with JournalWriter.resume(path) as journal:  # and it can be written to
        journal.append(rest[0])
    told = []
    assert equal(list(read_journal(path, passed_over=told.append))[-1], rest[0])
    assert len(told) == 1


@pytest.mark.parametrize("numbers", [set(), {3}, {0, 1, 2, 5, 6, 9}, set(range(1000))])
def test_numbers_come_back_from_their_ranges(numbers):
    assert set(numbers_in(ranges_of(numbers))) == numbers
    assert len(ranges_of(set(range(20_000)))) == 1


def test_answers_of_both_kinds_are_compared():
    answers = answered(Session(BUNDLES["ranking"]), everything())
    assert {type(answer) for answer in answers} == {Ranking, NotReady}
