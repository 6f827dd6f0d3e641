"""Blocks that are told while a run goes on: from then on the run is decoded as if it had listed them."""

import threading
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtgod.errors import RefusedError
from rtgod.journal.contents import Journal
from rtgod.journal.export import export_journal
from rtgod.messages import Block, NewBlock, NotReady, Ranking, Reason, Run, RunEnd
from rtgod.protocol.authentication import may_send
from rtgod.protocol.clients import Reporter, Sender, Subscriber
from rtgod.protocol.frames import from_frames, to_frames
from rtgod.protocol.keys import Role
from rtgod.server.session import Session, replay, resume, without_timing
from rtgod.settings import ResponseSettings, ScalingSettings, WindowSettings
from tests import small
from tests.serving import PATIENCE_S, running

N = 30
#: Six blocks, whose responses overlap: as many columns as that takes.
BLOCKS = tuple(Block(4.0 + 8.5 * k, 5.0, f"label-{k % 2}") for k in range(6))
RUN = small.run(blocks=BLOCKS, n_volumes=N)
SILENT = replace(RUN, blocks=())


def wait_until(is_so):
    for _ in range(int(1000 * PATIENCE_S)):
        if is_so():
            return
        threading.Event().wait(0.001)
    pytest.fail("it never happened")


def told(number, block=None, run_id="run-1", client="display-1"):
    block = block or BLOCKS[number]
    return NewBlock(client, number, run_id, block.onset_s, block.duration_s, block.label, block.imagined)


def first_volume(block, delay_s=0.0):
    return max(int((block.onset_s + delay_s) / small.TR_S), 0)


def steps(when=first_volume):
    """A run's messages, with each block before the volume that `when` gives."""
    for index in range(N):
        yield from (told(number) for number, block in enumerate(BLOCKS) if when(block) == index)
        yield small.volume(index)


def as_bytes(answers):
    def of(answer):
        return b"".join(bytes(frame) for frame in to_frames(without_timing(answer)))

    return {answer.index: of(answer) for answer in answers}


def answers_to(messages, bundle):
    session, answers = Session(bundle, small.AT_ONCE), []
    for message in messages:
        assert not session.is_duplicate(message)
        session.check(message)
        answers += [answer for answer, _ in session.handle(message)]
    return answers


def bundle_of(**changes):
    return small.bundle(small.SETTINGS.model_copy(update=changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"window": WindowSettings(hrf_shift_s=2.0, estimate="mean")},
        {"window": WindowSettings(hrf_shift_s=2.0, mode="repeats")},
        {"window": WindowSettings(hrf_shift_s=2.0, mode="block")},
        {"scaling": ScalingSettings(baseline="frozen", unit="zscore")},
        {"nuisance": small.SETTINGS.nuisance.model_copy(update={"motion_parameters": 24, "global_signal": True})},
        {"response": ResponseSettings(delay_s=-3.3)},
        {"response": ResponseSettings(delay_s=4.5)},
        {"response": ResponseSettings(delay_s=-3.3), "window": WindowSettings(hrf_shift_s=2.0, estimate="mean")},
    ],
    ids=["usual", "mean", "repeats", "block", "frozen", "more nuisance", "late", "early", "late mean"],
)
def test_from_the_first_block_on_every_answer_is_that_of_a_run_that_lists_its_blocks(changes):
    bundle = bundle_of(**changes)
    listed = as_bytes(answers_to([RUN, *map(small.volume, range(N))], bundle))
    delay_s = bundle.settings.response.delay_s
    live = answers_to([SILENT, *steps(lambda block: first_volume(block, delay_s))], bundle)
    known_from = first_volume(BLOCKS[0], delay_s)
    assert {i: b for i, b in as_bytes(live).items() if i >= known_from} == {
        i: b for i, b in listed.items() if i >= known_from
    }
    assert {answer.block for answer in live if isinstance(answer, Ranking)} - {None} == set(range(len(BLOCKS)))


def test_the_same_run_without_blocks_is_answered_otherwise():
    silent = as_bytes(answers_to([SILENT, *map(small.volume, range(N))], small.bundle()))
    listed = as_bytes(answers_to([RUN, *map(small.volume, range(N))], small.bundle()))
    assert sum(silent[index] == listed[index] for index in silent) < N / 4


def test_until_a_block_is_known_a_window_slides_and_then_it_follows_the_blocks():
    answers = answers_to(
        [SILENT, *steps(lambda block: 12 if block == BLOCKS[0] else 12 + BLOCKS.index(block))], small.bundle()
    )
    slid = [answer for answer in answers if isinstance(answer, Ranking) and answer.block is None]
    assert [answer.index for answer in slid] == list(range(3, 12))
    between = [a.index for a in answers if isinstance(a, NotReady) and a.reason is Reason.BETWEEN_TRIALS]
    assert between
    assert min(between) >= 12


@settings(max_examples=5, deadline=None)
@given(lead=st.lists(st.integers(0, 8), min_size=6, max_size=6))
def test_it_does_not_matter_how_long_before_a_block_is_told(lead):
    leads = dict(zip(BLOCKS, lead, strict=True))
    # In the order of onsets: a block is told no earlier than those before it.
    at = [max(0, first_volume(block) - leads[block]) for block in BLOCKS]
    at = dict(zip(BLOCKS, np.maximum.accumulate(at).tolist(), strict=True))
    listed = listed_answers()
    live = as_bytes(answers_to([SILENT, *steps(at.__getitem__)], BUNDLE))
    known_from = at[BLOCKS[0]]
    assert [live[i] for i in range(known_from, N)] == [listed[i] for i in range(known_from, N)]


BUNDLE = small.bundle()


@cache
def listed_answers():
    return as_bytes(answers_to([RUN, *map(small.volume, range(N))], BUNDLE))


def test_a_block_that_has_begun_counts_from_now_on_and_its_lateness_is_said():
    session = Session(small.bundle())
    for message in (SILENT, *map(small.volume, range(8))):
        session.check(message)
        list(session.handle(message))
    late = told(0)
    assert "was told when 8 volumes had come" in session.lateness(late)
    assert session.lateness(told(2)) == ""
    answers = []
    for message in (late, told(1), *map(small.volume, range(8, 12))):
        session.check(message)
        answers += [answer for answer, _ in session.handle(message)]
    assert [answer.index for answer in answers] == [8, 9, 10, 11]
    assert {answer.block for answer in answers if isinstance(answer, Ranking)} == {1}


@pytest.mark.parametrize(
    ("delay_s", "says"),
    [
        (-3.0, "had come, and its response is expected 3 s before it (response.delay_s): it counts from volume 5 on"),
        (0.0, ""),
        (3.0, ""),
    ],
)
def test_a_block_whose_response_has_begun_before_its_onset_is_late(delay_s, says):
    session = Session(bundle_of(response=ResponseSettings(delay_s=delay_s)))
    for message in (SILENT, *map(small.volume, range(5))):
        session.check(message)
        list(session.handle(message))
    said = session.lateness(told(1))  # it begins at 12.5 s, after volume 5
    assert says in said
    assert bool(said) == bool(says)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (told(3, Block(14.0, 5.0)), "begins before the end of the one at 12.5 s"),
        (told(3, Block(2.0, 1.0)), "told in the order of their onsets"),
        (told(3, run_id="another"), "which is not being received"),
        (told(3, Block(70.0, 5.0)), "ends after the run's 60 s"),
    ],
)
def test_a_block_that_does_not_fit_is_refused_in_words(message, why):
    session = Session(small.bundle())
    for taken in (SILENT, told(0), told(1)):
        session.check(taken)
        list(session.handle(taken))
    with pytest.raises(RefusedError, match=why):
        session.check(message)
    assert len(session.run.blocks) == 2


def test_a_run_with_blocks_of_its_own_keeps_them_and_one_that_ended_gets_none():
    session = Session(small.bundle())
    for taken in (RUN,):
        session.check(taken)
        list(session.handle(taken))
    with pytest.raises(RefusedError, match="its source lists 6 blocks, which are kept"):
        session.check(told(0, Block(56.0, 2.0)))
    list(session.handle(RunEnd("run-1", 0)))
    with pytest.raises(RefusedError, match="no run is"):
        session.check(told(0, Block(56.0, 2.0)))


def test_the_same_block_twice_counts_once_whoever_tells_it():
    session = Session(small.bundle())
    for taken in (SILENT, told(0)):
        session.check(taken)
        list(session.handle(taken))
    assert session.is_duplicate(told(0))
    assert session.is_duplicate(told(7, BLOCKS[0], client="display-2"))
    assert not session.is_duplicate(told(1))
    assert session.is_duplicate(SILENT)  # sent again by its source, it is the same run


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    onsets=st.lists(st.tuples(st.floats(0, 80), st.floats(0.01, 40)), max_size=12),
)
def test_whatever_is_told_is_taken_or_refused_and_never_breaks_the_run(onsets):
    session = Session(BUNDLE)
    session.check(SILENT)
    list(session.handle(SILENT))
    for number, (onset_s, duration_s) in enumerate(onsets):
        message = from_frames(to_frames(told(number, Block(onset_s, duration_s))))
        assert message == told(number, Block(onset_s, duration_s))
        try:
            session.check(message)
        except RefusedError:
            continue
        list(session.handle(message))
    blocks = session.run.blocks
    assert all(a.onset_s + a.duration_s <= b.onset_s + 1e-5 for a, b in pairwise(blocks))
    for index in range(3):
        session.check(small.volume(index))
        assert len(list(session.handle(small.volume(index)))) == 1


def test_a_checkpoint_in_the_middle_goes_on_to_the_same_bytes():
    messages = [SILENT, *steps()]
    whole = as_bytes(answers_to(messages, small.bundle()))
    session = Session(small.bundle())
    half = len(messages) // 2
    for message in messages[:half]:
        session.check(message)
        list(session.handle(message))
    restored = Session(small.bundle())
    restored.restore(session.state())
    answers = []
    for message in messages[half:]:
        restored.check(message)
        answers += [answer for answer, _ in restored.handle(message)]
    assert as_bytes(answers).items() <= whole.items()
    assert restored.run.blocks == BLOCKS
    assert restored.is_duplicate(SILENT)


@pytest.fixture
def recorded(tmp_path):
    """A server that was told blocks by a display, over sockets; its journal, and what it published of the run."""
    bundle, runs = small.bundle(), []
    with (
        running(tmp_path, bundle) as server,
        Sender(server.ingest) as sender,
        Reporter(server.ingest, "display") as reporter,
        Subscriber(server.publish) as subscriber,
    ):
        sender.send(replace(SILENT, acquisition="a"))
        for message in steps():
            if isinstance(message, NewBlock):
                reporter.tell_block("run-1", message.block)

                def acknowledged():
                    reporter.poll()
                    return not reporter.n_unacknowledged

                wait_until(acknowledged)
            else:
                sender.send(message)
        sender.send(RunEnd("run-1", N))

        def has_all():
            while (message := subscriber.poll()) is not None:
                runs.extend([message] if isinstance(message, Run) else [])
            return bool(runs) and runs[-1].blocks == BLOCKS

        wait_until(has_all)
        assert server.errors == []
    return server.journal, runs


def test_a_journal_with_blocks_that_were_told_is_replayed_to_the_same_bytes(recorded):
    path, _ = recorded
    journal = Journal.read(path)
    again = list(replay(iter(journal), Session(small.bundle())))
    assert [*as_bytes(again).items()] == [*as_bytes(journal.answers).items()]
    assert journal.runs[0].blocks == BLOCKS
    rankings = journal.to_frame().dropna(subset="block")
    assert set(rankings["label"]) == {"label-0", "label-1"}
    session = Session(small.bundle())
    assert resume(iter(journal), session).unrecorded == []
    assert session.run.blocks == BLOCKS


def test_an_export_lists_the_blocks_that_were_told(recorded, tmp_path):
    export_journal(recorded[0], tmp_path / "out")
    lines = (tmp_path / "out" / "run-1_events.tsv").read_text().splitlines()
    assert len(lines) == 1 + len(BLOCKS)
    assert lines[1].split("\t")[:2] == ["4.0", "5.0"] or lines[1].startswith("4\t5")


def test_displays_and_sources_may_tell_blocks_and_watchers_may_not():
    assert [may_send(role, told(0)) for role in (Role.SOURCE, Role.DISPLAY, Role.WATCH)] == [True, True, False]
