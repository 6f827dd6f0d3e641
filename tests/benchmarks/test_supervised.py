"""The soak's kills of a supervised server, in small."""

import json
import os

import pytest

from benchmarks import soak, supervised
from rtgod.journal.journal import journals, read_headers
from rtgod.journal.summary import account


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_what_a_supervised_session_survives_is_measured(tmp_path):
    figures = supervised.supervised(tmp_path, 2)
    assert figures["supervised_kills"] == 2
    assert soak.failed(figures) == []
    assert 0 < figures["supervised_restart_s_median"] <= figures["supervised_restart_s_max"] < soak.WAIT_S
    (journal,) = journals(tmp_path / "session-0" / "journal")
    assert account(read_headers(journal)).n_starts == 3
    assert json.dumps(figures)


def test_a_session_that_lost_a_volume_is_seen(tmp_path, monkeypatch):
    def session(place, *_):
        (place / "journal").mkdir(parents=True)
        _[-1].append(0.5)
        return 1

    monkeypatch.setattr(supervised, "_session", session)
    figures = supervised.supervised(tmp_path, 1)
    assert figures["supervised_lost"] == supervised.N_VOLUMES
    assert figures["supervised_crashes"] == 1
    assert set(soak.failed(figures)) == {"supervised_lost", "supervised_different", "supervised_crashes"}
