"""The soak in small: nothing is lost, counted twice or changed; and its own measures see what is wrong."""

from contextlib import suppress

import numpy as np
import pytest

from benchmarks import soak
from rtgod import wire
from rtgod.errors import WireError
from rtgod.journal import JournalWriter
from rtgod.messages import Ranking
from rtgod.session import Session
from tests import small


def test_killed_processes_change_nothing(tmp_path):
    figures = soak.killed(tmp_path, 4)
    assert figures["kills"] == 4
    assert (figures["lost"], figures["duplicated"], figures["different_rankings"]) == (0, 0, 0)


def test_hostile_frames_are_refused_by_name(tmp_path):
    figures = soak.hostile(tmp_path, 300)
    assert (figures["hostile_frames"], figures["hostile_not_refused"], figures["hostile_crashes"]) == (300, 0, 0)


def test_a_proxy_that_loses_delays_doubles_and_cuts_messages_changes_nothing(tmp_path):
    figures = soak.proxied(tmp_path, 1)
    assert (figures["proxy_lost"], figures["proxy_duplicated"], figures["proxy_different_rankings"]) == (0, 0, 0)
    assert figures["proxy_disturbed"] >= 5


def test_a_cut_cable_changes_nothing(tmp_path):
    figures = soak.cut(tmp_path, 2.0)
    if not figures:
        pytest.skip("networks cannot be made here: not root, or no `ip`")
    assert figures["volumes_during_the_cut"] == 0
    assert (figures["cut_lost"], figures["cut_duplicated"], figures["cut_different_rankings"]) == (0, 0, 0)


def test_full_speed_with_a_stopped_display(tmp_path):
    figures = soak.full_speed(tmp_path, 100)
    assert (figures["volumes_at_full_speed"], figures["speed_crashes"]) == (100, 0)
    assert 0 < figures["p99_ms"] < 1e3
    assert 0 < figures["p99_ms_with_a_stopped_display"] < 1e3


def test_wrong_keys_are_refused_and_right_ones_are_not(tmp_path):
    figures = soak.keys(tmp_path)
    assert figures["wrong_keys_refused"] == figures["wrong_keys"] == 5
    assert figures["right_keys_let_in"] == 2
    assert figures["keyed_server_crashes"] == 0


@pytest.fixture
def session():
    """What a server journals of a run, and what it should have answered."""
    messages, session, expected = [], Session(small.bundle()), {}
    for message in small.messages():
        messages.append(message)
        for answer, _ in session.take(message):
            messages.append(answer)
            expected[answer.run_id, answer.index] = soak.content(answer)
    return messages, expected


def counted(tmp_path, messages, expected):
    with JournalWriter(tmp_path / "session.rtgod") as journal:
        for message in messages:
            journal.append(message)
    return soak.differences(tmp_path, expected)


def test_a_whole_journal_has_no_differences(tmp_path, session):
    assert counted(tmp_path, *session) == {"lost": 0, "duplicated": 0, "different": 0}


def test_a_lost_volume_a_double_one_and_a_changed_ranking_are_counted(tmp_path, session):
    messages, expected = session
    (at,) = [i for i, m in enumerate(messages) if isinstance(m, Ranking) and m.index == 5]
    ranking = messages[at]
    messages[at] = Ranking(**{f: getattr(ranking, f) for f in ranking.__slots__} | {"scores": ranking.scores + 1})
    (lost,) = [i for i, m in enumerate(messages) if getattr(m, "index", None) == 2 and hasattr(m, "data")]
    volume = messages.pop(lost)
    (double,) = [i for i, m in enumerate(messages) if getattr(m, "index", None) == 3 and hasattr(m, "data")]
    messages.insert(double, messages[double])
    assert volume.index == 2
    assert counted(tmp_path, messages, expected) == {"lost": 1, "duplicated": 1, "different": 1}


def test_what_is_called_hostile_is_no_message_that_a_server_takes():
    rng = np.random.default_rng(1)
    for _ in range(300):
        frames = soak.damaged(rng)
        with suppress(WireError):
            assert isinstance(wire.from_frames(frames), Ranking)
