"""The soak in small: nothing is lost, counted twice or changed; and its own measures see what is wrong."""

import json

import pytest

from benchmarks import soak
from rtgod.journal.journal import JournalWriter
from rtgod.messages import NotReady, Ranking
from rtgod.server.session import Session
from tests import small


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Exit code and figures of `python -m benchmarks.soak --short`."""
    path = tmp_path_factory.mktemp("soak") / "figures.json"
    return soak.main(["--short", "--json", str(path)]), json.loads(path.read_text())


def test_killed_processes_bad_networks_and_hostile_messages_change_nothing(short):
    code, figures = short
    assert soak.failed(figures) == []
    assert code == 0


def test_the_short_soak_does_what_it_says(short):
    figures = short[1]
    assert figures["kills"] == figures["kills_server"] + figures["kills_source"] + figures["kills_display"] == 6
    assert figures["published"] > 0
    assert sum(value for name, value in figures.items() if name.startswith("messages_")) >= 5
    assert figures["connections_broken"] > 0
    assert figures["connections_published"] > 0
    assert figures["hostile_frames"] == 2000
    assert figures["volumes_at_full_speed"] == 600
    assert 0 < figures["server_p99_ms_lowest"] <= figures["server_p99_ms"] <= figures["server_p99_ms_highest"] < 1e3
    assert 0 < figures["server_p99_ms_with_stopped_display"] < 1e3
    assert figures["wrong_keys"] == 5
    assert figures["supervised_kills"] == 2
    assert 0 < figures["supervised_restart_s_median"] <= figures["supervised_restart_s_max"] < soak.WAIT_S
    assert figures["restart_volumes"] == 300
    assert 0 < figures["restart_s_after_300"] < soak.WAIT_S
    assert figures["killed_clients"] >= 24
    assert figures["poison_messages"] >= 40
    assert 0 < figures["stall_ms_max"] < 2000
    assert 0 < figures["memory_attack_growth_mb"] < soak.MOST["memory_attack_growth_mb"]


def test_a_pulled_cable_is_part_of_it_where_networks_can_be_made(short):
    if "network_cut_s" not in short[1]:
        pytest.skip("networks cannot be made here: not root, or no `ip`")
    assert short[1]["network_cut_s"] == 3
    assert 2 < short[1]["dead_peer_noticed_s"] < 8


@pytest.fixture
def session():
    """What a server journals of a run, and what it should have answered."""
    messages, session, expected = [], Session(small.bundle()), {}
    for message in small.messages():
        messages.append(message)
        for answer, _ in session.handle(message):
            messages.append(answer)
            expected[answer.run_id, answer.index] = soak.content(answer)
    return messages, expected


def counted(tmp_path, messages, expected):
    with JournalWriter(tmp_path / "session.rtgod") as journal:
        for message in messages:
            journal.append(message)
    return soak.differences(tmp_path, expected)


def test_a_whole_journal_has_no_differences(tmp_path, session):
    assert counted(tmp_path, *session) == {"lost": 0, "duplicated": 0, "different_rankings": 0}


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
    assert counted(tmp_path, messages, expected) == {"lost": 1, "duplicated": 1, "different_rankings": 1}


def test_what_is_published_is_compared_too(session):
    messages, expected = session
    answers = [m for m in messages if isinstance(m, Ranking | NotReady)]

    class Heard:
        def __init__(self, answers):
            self.answers = iter(answers)

        def poll(self, timeout_s):  # noqa: ARG002 # a subscriber's
            return next(self.answers, None)

    def counts(answers):
        found = soak.heard(Heard(answers), 0.05, expected)
        return found["published"], found["published_different"]

    assert counts(answers) == (12, 0)
    assert counts([*answers, small.RANKING]) == (13, 1)


def test_failures_are_named():
    assert soak.failed(
        {"lost": 0, "cut_lost": 1, "kills": 500, "rss_growth_mb": 9.0, "hostile_rss_growth_mb": 21.0}
    ) == [
        "cut_lost",
        "hostile_rss_growth_mb",
    ]


def test_conditions_that_can_be_told_apart_and_a_leak_that_is_not_found_are_failures():
    chance = {"blinding_auc": 0.5, "blinding_auc_null_p99": 0.6, "blinding_auc_of_a_leak": 0.95}
    assert soak.failed(chance) == []
    assert soak.failed(chance | {"blinding_auc": 0.7}) == ["blinding_auc"]
    assert soak.failed(chance | {"blinding_auc_of_a_leak": 0.6}) == ["blinding_auc_of_a_leak"]


@pytest.mark.parametrize(("lost", "code"), [(0, 0), (2, 1)])
def test_the_exit_code_says_whether_all_is_well(tmp_path, monkeypatch, lost, code):
    for scenario in ("garbled", "broken", "cut", "attacked", "full_speed", "keys"):
        monkeypatch.setattr(soak, scenario, lambda *_, name=scenario: {f"{name}_crashes": 0})
    for module, scenario in (
        (soak.supervised, "supervised"),
        (soak.restarts, "restarted"),
        (soak, "edges"),
        (soak.blinding, "blinding"),
    ):
        monkeypatch.setattr(module, scenario, lambda *_, **__: {})
    monkeypatch.setattr(soak, "killed", lambda _, n: {"kills": n, "lost": lost, "kill_crashes": 0})
    assert soak.main(["--short", "--kills", "7", "--json", str(tmp_path / "f.json")]) == code
    assert json.loads((tmp_path / "f.json").read_text()) == {"kills": 7, "lost": lost, "crashes": 0}


def test_a_part_that_does_not_end_well_is_told_of(capsys):
    with soak.Part("serve", "no-such-bundle") as part:
        assert part.ended() == 1
    assert "no-such-bundle" in capsys.readouterr().err
