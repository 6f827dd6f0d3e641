"""Dates of a shared journal: moved by whole days, with every interval and every answer as before."""

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtgod.errors import InputError
from rtgod.journal.dates import copy_with_other_dates
from rtgod.journal.export import export_journal
from rtgod.journal.journal import JournalWriter, read_journal
from rtgod.messages import Event, Hello, Ranking, SessionEnd
from rtgod.protocol.frames import to_frames
from rtgod.server.session import Session, resume
from tests import small
from tests.journals import event, record

BEGAN_S = 1_760_000_123.456789
DAY_S = 86_400


def absolute_times(messages):
    for message in messages:
        if isinstance(message, Hello):
            yield message.began_utc_s
        if isinstance(message, SessionEnd):
            yield message.utc_s
        if isinstance(message, Event):
            yield message.received_utc_s
            yield message.at_s if abs(message.at_s) > 1e8 else message.at_s + message.offset_s


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    """A session with events of a clock that began with its computer, and of one that shows the date."""
    tmp_path = tmp_path_factory.mktemp("recorded")
    written = record(tmp_path / "20251009T085523-17.rtgod", small.messages(), small.bundle(), ended=False)
    written[0] = dataclasses.replace(written[0], began_utc_s=BEGAN_S)
    written[9:9] = [
        event(0, offset_s=BEGAN_S + 0.1, received_utc_s=BEGAN_S + 31.7),
        Event("display-1", 1, "shown", BEGAN_S + 40.123456, 0.002, 0.001, received_utc_s=BEGAN_S + 40.2),
    ]
    written.append(SessionEnd(BEGAN_S + 3_600.000001))
    path = tmp_path / "own" / "20251009T085523-17.rtgod"
    with JournalWriter(path) as writer:
        for message in written:
            writer.append(message)
    return path


@pytest.mark.parametrize("by", ["-400", "1925-01-01", "random", "3"])
def test_every_date_moves_by_the_same_whole_days_and_no_interval_changes(journal, tmp_path, by):
    days = copy_with_other_dates(journal, tmp_path / "shared" / "session.rtgod", by)
    before = list(absolute_times(read_journal(journal)))
    after = list(absolute_times(read_journal(tmp_path / "shared" / "session.rtgod")))
    assert len(before) == 6
    assert {new - old for old, new in zip(before, after, strict=True)} == {days * DAY_S}
    assert [time_s - before[0] for time_s in before] == [time_s - after[0] for time_s in after]
    if by == "1925-01-01":
        assert datetime.fromtimestamp(min(after), UTC).date().isoformat() == by
    if by == "random":
        assert -4017 < days < -365


def test_everything_else_is_the_same_and_replays_to_the_same_rankings(journal, tmp_path):
    copy_with_other_dates(journal, tmp_path / "shared" / "session.rtgod", "-400")
    old, new = list(read_journal(journal)), list(read_journal(tmp_path / "shared" / "session.rtgod"))
    dated = (Hello, Event, SessionEnd)
    frames = [[bytes(frame) for frame in to_frames(one)] for one in old if not isinstance(one, dated)]
    assert frames == [[bytes(frame) for frame in to_frames(one)] for one in new if not isinstance(one, dated)]
    session = Session(small.bundle())
    resume(iter(new), session)
    again = Session(small.bundle())
    replayed = [
        answer for message in new if not isinstance(message, (*dated, Ranking)) and type(message).__name__ in
        ("Run", "Volume", "RunEnd") for answer, _ in again.handle(message)
    ]  # fmt: skip
    rankings = [(one.index, one.order.tobytes(), one.scores.tobytes()) for one in new if isinstance(one, Ranking)]
    assert rankings
    assert rankings == [
        (one.index, one.order.tobytes(), one.scores.tobytes()) for one in replayed if isinstance(one, Ranking)
    ]


def test_no_true_date_is_in_the_copy_or_in_its_export(journal, tmp_path):
    copy_with_other_dates(journal, tmp_path / "shared" / "session.rtgod", "1925-01-01")
    export_journal(tmp_path / "shared" / "session.rtgod", tmp_path / "out")
    export_journal(journal, tmp_path / "true")
    shared = [tmp_path / "shared" / "session.rtgod", *(tmp_path / "out").iterdir()]
    true = str(int(BEGAN_S))[:5].encode()  # begins all moments of those days
    assert true in b"".join(path.read_bytes() for path in (tmp_path / "true").glob("*.tsv"))
    assert not any(true in path.read_bytes() for path in shared if path.suffix != ".gz")


@given(st.floats(1e9, 2e9), st.integers(-20_000, 0))
def test_whole_days_are_added_without_a_rounding_error(time_s, days):
    assert (time_s + days * DAY_S) - days * DAY_S == time_s


@pytest.mark.parametrize(
    ("by", "says"),
    [("soon", "give a number of days, such as -400"), ("1925-13-01", "give a number"), ("-80000", "1902 to 2037"),
     ("9000", "1902 to 2037")],
)  # fmt: skip
def test_what_cannot_be_a_shift_is_refused(journal, tmp_path, by, says):
    with pytest.raises(InputError, match=says):
        copy_with_other_dates(journal, tmp_path / "shared" / "session.rtgod", by)
    assert not (tmp_path / "shared").exists()


def test_a_copy_beside_the_journal_is_refused(journal):
    with pytest.raises(InputError, match="choose another folder"):
        copy_with_other_dates(journal, journal.with_name("copy.rtgod"), "-400")
