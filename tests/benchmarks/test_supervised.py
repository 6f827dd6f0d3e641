"""The measure of kills of a supervised server sees a lost volume; the soak in small kills a real one."""

from benchmarks import soak, supervised


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
